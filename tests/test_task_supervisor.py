"""TaskSupervisor: starting, limiting, restarting and stopping its tasks; streams apart."""

import contextlib
import gc
import logging
import random
import weakref
from contextvars import ContextVar
from functools import partial

import pytest
import trio
from outcome import Value
from trio.testing import wait_all_tasks_blocked

from helpers_task import (
    attempt,
    exit_normal,
    exit_shutdown,
    fate,
    killed,
    later,
    raises,
    reaction,
    returns,
    told,
)
from trio_otp import (
    ChildSpec,
    DuplicateChild,
    Exited,
    MaxChildren,
    NotRunning,
    Process,
    RestartsExhausted,
    StopLate,
    Supervisor,
    Task,
    TaskSupervisor,
    TimedOut,
    UnknownChild,
    current_process,
    observe,
    subscribe,
    trap_exit,
)

idle = trio.sleep_forever


@pytest.fixture
def no_log(monkeypatch):
    """Keep pytest from keeping records, and so the errors and processes in them."""
    monkeypatch.setattr(logging.getLogger("trio_otp"), "disabled", True)


@pytest.fixture
async def sup():
    """Give a supervisor whose tasks, if any are left, are stopped at the end."""
    async with TaskSupervisor(name="sup") as supervisor:
        yield supervisor
        await supervisor.stop()


# Every way to start a task, all as start(sup, nursery, fn, *args, **options).
def _start_child(sup, nursery, fn, *args, **options):
    return sup.start_child(fn, *args, **options)


def _restartable(sup, nursery, fn, *args, **options):
    return sup.start_child(fn, *args, restart="transient", **options)


def _async(sup, nursery, fn, *args, **options):
    return sup.async_(nursery, fn, *args, **options)


def _async_nolink(sup, nursery, fn, *args, **options):
    return sup.async_nolink(fn, *args, **options)


CHILDREN = {"start_child": _start_child, "restartable": _restartable}
AWAITABLE = {"async_": _async, "async_nolink": _async_nolink}
NO_LINK = {**CHILDREN, "async_nolink": _async_nolink}
FORMS = {**CHILDREN, **AWAITABLE}


def each(forms):
    return pytest.mark.parametrize("start", forms.values(), ids=forms)


def stubborn(seconds):
    """Make a task that cannot be cancelled before it has cleaned up for so long."""

    async def cleaning():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)

    return cleaning


def processes(sup):
    return {info.process for info in sup.children}


def late(caplog):
    return [record.message for record in caplog.records if "is late" in record.message]


# --- itself ------------------------------------------------------------------------------------


@pytest.mark.conforms("TSUP-001", "TSUP-012")
async def test_begins_empty_and_lists_what_runs(autojump_clock, sup):
    """A new supervisor holds nothing, and lists each task as a worker while it runs."""
    assert sup.children == ()
    process = sup.start_child(idle, name="one")
    (info,) = sup.children
    assert (info.process, info.kind, info.status) == (process, "worker", "running")
    assert (info.restart, info.restarts, info.significant, info.last_exit) == (
        "temporary",
        0,
        False,
        None,
    )
    process.kill()
    await process.wait()
    assert sup.children == ()


@pytest.mark.conforms("TSUP-002")
async def test_under_a_supervisor(autojump_clock):
    """It can be a child, is known by its name, and serves again after each restart."""
    tasks = TaskSupervisor(name="tasks")
    async with Supervisor([tasks]) as root:
        (info,) = root.children
        assert (info.id, info.kind, info.restart) == ("tasks", "supervisor", "permanent")
        first = tasks.start_child(idle)
        assert await tasks.async_nolink(returns, 1) == 1
        tasks.kill()
        await first.wait()
        await wait_all_tasks_blocked()
        assert tasks.status == "running"
        assert tasks.children == ()
        assert await tasks.async_nolink(returns, 2) == 2


@pytest.mark.conforms("TSUP-004")
def test_ids_as_children():
    """The id is the name that was given, else the handle, so that unnamed ones fit together."""
    unnamed = TaskSupervisor()
    assert TaskSupervisor(name="a").child_spec().id == "a"
    assert unnamed.child_spec().id is unnamed
    Supervisor([TaskSupervisor(name="a"), TaskSupervisor(name="b"), TaskSupervisor(), unnamed])
    with pytest.raises(DuplicateChild):
        Supervisor([TaskSupervisor(name="a"), TaskSupervisor(name="a")])


@pytest.mark.conforms("TSUP-005", "TSUP-006")
async def test_name_is_a_label(autojump_clock):
    """Two may bear one name at once: the handle is the address."""
    async with TaskSupervisor(name="same") as one, TaskSupervisor(name="same") as two:
        process = one.start_child(idle)
        assert processes(one) == {process}
        assert processes(two) == set()
        await one.stop()
    with pytest.raises(TypeError, match="name must be a string"):
        TaskSupervisor(name=7)


@pytest.mark.conforms("TSUP-009", "TSUP-010")
@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("max_children", -1, ValueError),
        ("max_children", "many", TypeError),
        ("max_children", 1.5, TypeError),
        ("max_restarts", -1, ValueError),
        ("max_restarts", None, TypeError),
        ("max_seconds", 0, ValueError),
        ("max_seconds", "5", TypeError),
    ],
)
def test_bad_options(option, value, error):
    """A wrong option is refused at construction, by name, with what was given."""
    with pytest.raises(error, match=f"{option} must be .*{value!r}"):
        TaskSupervisor(**{option: value})


async def test_many_at_once(autojump_clock, sup):
    """One supervisor is no bottleneck: a thousand tasks start without waiting, and all end."""
    started = [sup.async_nolink(later, 1, number) for number in range(1000)]
    assert len(sup.children) == 1000
    assert await Task.await_many(started) == list(range(1000))
    assert sup.children == ()


# --- starting ----------------------------------------------------------------------------------


@pytest.mark.conforms("TSUP-015", "TSUP-017", "TSUP-027", "TSUP-028")
@each(AWAITABLE)
async def test_result(autojump_clock, sup, start):
    """A task under a supervisor is listed, runs its function with its arguments, and can be awaited."""
    async with trio.open_nursery() as nursery:
        task = start(sup, nursery, later, 1, "value")
        assert isinstance(task, Task)
        assert (processes(sup), task.name) == ({task}, "later")
        assert await task == "value"
        assert processes(sup) == set()


@pytest.mark.conforms("TSUP-034", "TSUP-035")
@each(CHILDREN)
async def test_child(autojump_clock, sup, start):
    """A started child is listed, runs with its arguments, and is nothing to await."""
    seen = []

    async def fn(*args):
        seen.append(args)
        await trio.sleep(1)

    process = start(sup, None, fn, 1, "two", name="label")
    assert (processes(sup), process.name, process.status) == ({process}, "label", "running")
    with pytest.raises(TypeError, match="await"):
        await process
    assert (await process.wait()).reason == "normal"
    assert seen == [(1, "two")]


@pytest.mark.conforms("TSUP-016", "TSUP-046")
@each(FORMS)
@pytest.mark.parametrize(
    "wrong",
    [
        (TypeError, {}, later),
        (TypeError, {}, later, 1, 2, 3),
        (TypeError, {}, int),
        (TypeError, {}, None),
        (ValueError, {"shutdown": -1}, idle),
        (ValueError, {"shutdown": "never"}, idle),
        (TypeError, {"name": 3}, idle),
    ],
)
async def test_wrong_arguments(autojump_clock, sup, start, wrong):
    """Wrong arguments raise in the caller, at once, and nothing is started or left over."""
    error, options, *args = wrong
    if args == [int] and start is _restartable:
        return  # whether it is async shows only when it is called
    async with trio.open_nursery() as nursery:
        with pytest.raises(error):
            start(sup, nursery, *args, **options)
        gc.collect()  # a coroutine that was never awaited would warn now
        assert sup.children == ()
        assert not nursery.child_tasks


@pytest.mark.conforms("TSUP-046")
@pytest.mark.parametrize("restart", ["zzz", None, 1])
async def test_wrong_restart(autojump_clock, sup, restart):
    """A restart type that does not exist is refused, with those that do."""
    with pytest.raises(ValueError, match="'permanent', 'transient', 'temporary'"):
        sup.start_child(idle, restart=restart)


@pytest.mark.conforms("TSUP-016")
async def test_coroutine_instead_of_function(autojump_clock, sup):
    """A coroutine object where a function is wanted is closed, and refused with the remedy."""
    with pytest.raises(TypeError, match="pass the function itself"):
        sup.start_child(idle())
    with pytest.raises(TypeError, match="pass the function itself"):
        sup.start_child(idle(), restart="permanent")


async def test_closed_nursery(autojump_clock, sup):
    """A nursery that takes no more tasks refuses a linked one, and the supervisor forgets it."""
    async with trio.open_nursery() as nursery:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        sup.async_(nursery, idle)
    assert sup.children == ()
    await sup.join()


@pytest.mark.conforms("TSUP-021", "TSUP-044", "REVIEW-10")
@each(FORMS)
async def test_context_and_askers(autojump_clock, sup, start):
    """A task runs in its asker's context, and knows who asked for it, nested askers included."""
    request = ContextVar("request", default="none")
    seen = []

    async def inner():
        seen.append((request.get(), observe(current_process()).asked_by))

    async def outer(nursery):
        request.set("42")
        start(sup, nursery, inner, name="inner")
        await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        start(sup, nursery, inner, name="first")
        start(sup, nursery, outer, nursery, name="outer")
        await sup.join()
    assert seen == [("none", ()), ("42", ("outer",))]
    assert request.get() == "none"


@pytest.mark.conforms("TSUP-044")
async def test_context_after_a_restart(autojump_clock, sup):
    """A restarted child runs in the context of its first start, not in that of its last life."""
    request = ContextVar("request", default="none")
    seen = []

    async def child():
        seen.append((request.get(), observe(current_process()).asked_by))
        request.set("changed")
        await trio.sleep(1)
        if len(seen) < 3:
            raise ValueError

    async def asker():
        request.set("42")
        sup.start_child(child, restart="transient")

    sup.start_child(asker, name="asker")
    await sup.join()
    assert seen == [("42", ("asker",))] * 3


@pytest.mark.conforms("TSUP-021")
async def test_path_is_the_supervisors(autojump_clock, sup):
    """A task stands under its supervisor, whoever asked for it and wherever it runs."""
    paths = []
    async with trio.open_nursery() as nursery:
        with subscribe(lambda event: paths.append(event.path)):
            sup.async_(nursery, returns)
            sup.async_nolink(returns)
            sup.start_child(returns)
            await sup.join()
    assert set(paths) == {("sup", "returns")}


# --- failures ----------------------------------------------------------------------------------


@pytest.mark.conforms("TSUP-018", "TSUP-015")
async def test_linked_failure(autojump_clock, sup):
    """A linked task's failure cancels its caller's scope; supervisor and siblings live on."""
    sibling = sup.start_child(idle)

    async def owner(nursery):
        task = sup.async_(nursery, raises)
        with contextlib.suppress(Exception):  # not to be swallowed here
            await task

    assert isinstance(await fate(owner), ValueError)
    assert (sup.status, processes(sup)) == ("running", {sibling})


@pytest.mark.conforms("TSUP-027", "TSUP-031", "TSUP-045", "COMMON-002")
@each(NO_LINK)
async def test_isolated_failure(autojump_clock, sup, start):
    """An isolated failure stays in the handle: neither caller nor supervisor nor siblings are hurt."""
    sibling = sup.start_child(idle)
    process = start(sup, None, raises) if start is not _restartable else sup.start_child(raises)
    exit = await process.wait()
    assert (exit.reason, type(exit.error)) == ("crashed", ValueError)
    assert (sup.status, processes(sup)) == ("running", {sibling})
    if isinstance(process, Task):
        for _ in range(2):  # as often as it is asked
            with pytest.raises(ValueError, match="oops"):
                await process
        assert told(await process.yield_()) is ValueError


async def test_group_of_the_users(autojump_clock, sup):
    """A group that a task raised stays what it was, of the user's own type and the same object."""

    class Several(ExceptionGroup):
        pass

    group = Several("several", [ValueError(), KeyError()])

    async def failing():
        raise group

    task = sup.async_nolink(failing)
    with pytest.raises(Several) as caught:
        await task
    assert caught.value is group


@pytest.mark.conforms("TSUP-025", "TSUP-026")
@each(AWAITABLE)
@pytest.mark.parametrize(
    ("body", "seen"), [(raises, ValueError), (exit_shutdown, ("shutdown", None))]
)
async def test_waiter_outside_the_scope(autojump_clock, sup, start, body, seen):
    """A waiter outside the linked scope gets the failure as an exception that it may catch."""
    handles = []

    async def owner(nursery):
        handles.append(start(sup, nursery, body))
        await trio.sleep(1)

    await fate(owner)
    assert told(await attempt(handles[0].await_())) == seen


@pytest.mark.conforms("TSUP-031", "COMMON-005")
async def test_one_outcome_for_each_handle(autojump_clock, sup):
    """A handle has one outcome, whichever way and how often it is asked for."""
    task = sup.async_nolink(later, 1, "value")
    assert (await task.wait()).reason == "normal"
    assert [await task, await task.await_(timeout=0)] == ["value", "value"]
    assert await task.yield_() == Value("value")


@pytest.mark.conforms("TSUP-032")
@pytest.mark.parametrize("ending", ["in peace", "by an error", "cancelled"])
async def test_survives_its_caller(autojump_clock, sup, ending):
    """An isolated task survives the end of its caller, whatever that end was."""
    tasks = []

    async def caller():
        tasks.append(sup.async_nolink(later, 5))
        if ending == "by an error":
            raise ValueError
        if ending == "cancelled":
            await trio.sleep_forever()

    with contextlib.suppress(ValueError), trio.move_on_after(1):
        await caller()
    assert processes(sup) == set(tasks)
    assert await tasks[0] == "late"


@pytest.mark.conforms("TSUP-015", "COMMON-001", "REVIEW-10")
async def test_callers_end_takes_the_linked_task(autojump_clock, sup):
    """A linked task ends with its caller's scope, and leaves the supervisor's table."""
    async with trio.open_nursery() as nursery:
        task = sup.async_(nursery, idle)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert told(await attempt(task.await_())) == ("shutdown", None)
    assert sup.children == ()
    await sup.join()


@pytest.mark.conforms("TSUP-023", "COMMON-006")
@each(AWAITABLE)
async def test_await_that_times_out(autojump_clock, sup, start):
    """A time limit ends the wait only: the task goes on, and its late answer disturbs nobody."""
    async with trio.open_nursery() as nursery:
        task = start(sup, nursery, later, 2)
        with pytest.raises(TimedOut):
            await task.await_(timeout=1)
        assert processes(sup) == {task}
        assert await sup.async_nolink(later, 5, "other") == "other"
        assert await task == "late"


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
async def test_interrupt_in_a_task(autojump_clock, exception):
    """An interrupt or exit in any task passes through, bare, once the others were stopped."""
    ends = []

    async def other():
        try:
            await trio.sleep_forever()
        finally:
            ends.append("other")

    async def interrupted():
        await trio.sleep(1)
        raise exception(3)

    with pytest.raises(exception) as caught:
        async with TaskSupervisor() as sup:
            sup.start_child(other)
            sup.start_child(interrupted, restart="permanent")
    assert caught.value.args == (3,)
    assert ends == ["other"]


# --- max_children ------------------------------------------------------------------------------


@pytest.mark.conforms("TSUP-009", "TSUP-020", "TSUP-030", "TSUP-042")
@each(FORMS)
@pytest.mark.parametrize("limit", [0, 2])
async def test_full(autojump_clock, start, limit):
    """A full supervisor refuses any further task at once, and does not even call its function."""
    called = []

    def never():
        called.append(1)

    async with TaskSupervisor(max_children=limit) as sup, trio.open_nursery() as nursery:
        for _ in range(limit):
            start(sup, nursery, later, 1)
        with pytest.raises(MaxChildren, match=f"max_children={limit}") as caught:
            start(sup, nursery, never)
        assert isinstance(caught.value, RuntimeError)
        assert len(sup.children) == limit
    assert called == []


@pytest.mark.conforms("TSUP-043")
@each(FORMS)
async def test_place_is_free_again(autojump_clock, start):
    """A place is taken until the task has ended, its cleanup included, and then free at once."""
    async with TaskSupervisor(max_children=1) as sup, trio.open_nursery() as nursery:
        first = sup.start_child(stubborn(2))
        await wait_all_tasks_blocked()
        first.kill()
        await trio.sleep(1)
        with pytest.raises(MaxChildren):
            start(sup, nursery, returns)
        await first.wait()
        start(sup, nursery, returns)


@pytest.mark.conforms("TSUP-043")
async def test_restarting_child_keeps_its_place(autojump_clock):
    """A child keeps its place from one life to the next, and gives it back at its end."""
    async with TaskSupervisor(max_children=1) as sup:
        lives = iter([ValueError, None])

        async def child():
            await trio.sleep(1)
            if (error := next(lives)) is not None:
                raise error

        sup.start_child(child, restart="transient")
        for at in (0.5, 1.5):
            await trio.sleep(at - trio.current_time())
            with pytest.raises(MaxChildren):
                sup.start_child(idle)
        await sup.join()
        assert trio.current_time() == 2
        sup.start_child(returns)


# --- restarting --------------------------------------------------------------------------------

FALLS = {exit_normal: "normal", exit_shutdown: "shutdown", raises: "crashed", killed: "killed"}
RUNS = {  # with the default budget of three restarts in five seconds
    "temporary": dict.fromkeys((returns, *FALLS), 1),
    "transient": {returns: 1, exit_normal: 1, exit_shutdown: 1, raises: 4, killed: 4},
    "permanent": dict.fromkeys((returns, *FALLS), 4),
}


@pytest.mark.conforms("TSUP-038", "TSUP-039", "TSUP-040", "TSUP-045")
@pytest.mark.parametrize("restart", RUNS)
@pytest.mark.parametrize("body", RUNS["temporary"], ids=lambda body: body.__name__)
async def test_restart_types(autojump_clock, restart, body):
    """How often a body runs: by its end, its restart type, and the budget, without any delay."""
    runs = []

    async def child():
        runs.append(trio.current_time())
        await body()

    wanted = RUNS[restart][body]
    given_up = pytest.raises(
        RestartsExhausted, match="'sup' gave up: more than 3 restarts within 5 s"
    )
    with given_up if wanted == 4 else contextlib.nullcontext() as caught:
        async with TaskSupervisor(name="sup") as sup:
            sup.start_child(child, restart=restart)
            await trio.sleep(60)
    assert runs == [0] * wanted
    if wanted == 4:
        assert type(caught.value.__cause__) is (ValueError if body is raises else type(None))


@pytest.mark.conforms("TSUP-037", "COMMON-007")
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_permanent_child_comes_back(autojump_clock, sup, how):
    """A permanent child that is stopped through its handle lives again, reached by the same handle."""
    args = []

    async def child(*given):
        args.append(given)
        await trio.sleep_forever()

    process = sup.start_child(child, 1, 2, restart="permanent")
    await trio.sleep(1)
    if how == "stop":
        assert (await process.stop()).reason == "shutdown"
    else:
        process.kill()
        await wait_all_tasks_blocked()
        assert process.last_exit.reason == "killed"
    await wait_all_tasks_blocked()
    assert args == [(1, 2), (1, 2)]
    (info,) = sup.children
    assert (info.process, info.status, info.restarts) == (process, "running", 1)
    assert observe(process).started_at == 1


@pytest.mark.conforms("TSUP-040")
async def test_one_budget_for_all(autojump_clock):
    """The budget is shared by all children, and its end says who used it up and why."""
    sup = TaskSupervisor(max_restarts=3)

    async def failing(text):
        await trio.sleep(1)
        raise ValueError(text)

    with pytest.raises(RestartsExhausted) as caught:
        async with sup:
            sup.start_child(failing, "first", restart="transient", name="a")
            await trio.sleep(0.5)
            sup.start_child(failing, "second", restart="permanent", name="b")
    assert "'a' 2x, 'b' 2x" in str(caught.value)
    assert str(caught.value.__cause__) == "second"
    assert trio.current_time() == 2.5
    assert sup.last_exit.reason == "crashed"


@pytest.mark.conforms("TSUP-010", "TSUP-040")
@pytest.mark.parametrize(("every", "runs"), [(1.6, 4), (1.7, 10)])
async def test_window_of_the_budget(autojump_clock, every, runs):
    """Three restarts in five seconds are allowed, as long as it takes; a fourth is not."""
    lives = []

    async def child():
        lives.append(1)
        await trio.sleep(every)
        if len(lives) < 10:
            raise ValueError

    with contextlib.suppress(RestartsExhausted):
        async with TaskSupervisor() as sup:
            sup.start_child(child, restart="transient")
    assert len(lives) == runs


@pytest.mark.conforms("TSUP-040")
async def test_giving_up_stops_the_rest(autojump_clock):
    """A supervisor that gives up stops its other tasks, and fails the block that it lives in."""
    others = []
    with pytest.raises(RestartsExhausted):
        async with TaskSupervisor(max_restarts=0) as sup:
            others.append(sup.async_nolink(idle))
            others.append(sup.start_child(idle))
            others.append(sup.start_child(idle, restart="permanent"))
            sup.start_child(raises, restart="transient")
            await trio.sleep_forever()
    assert [process.last_exit.reason for process in others] == ["shutdown"] * 3


@pytest.mark.conforms("TSUP-022", "TSUP-033", "TSUP-041")
async def test_what_does_not_count(autojump_clock):
    """Failures of tasks that are never restarted do not touch the budget, not even one of zero."""
    runs = []

    async def failing():
        runs.append(1)
        raise ValueError

    async with TaskSupervisor(max_restarts=0) as sup:
        for _ in range(5):
            await attempt(sup.async_nolink(failing).await_())
            assert isinstance(await fate(lambda n: sup.async_(n, failing).await_()), ValueError)
            await sup.start_child(failing).wait()
        assert sup.status == "running"
    assert len(runs) == 15
    with pytest.raises(TypeError):
        sup.async_nolink(failing, restart="permanent")


async def test_restartable_child_with_a_handshake(autojump_clock, sup):
    """A restartable child that says when it is ready is starting until then."""

    async def child(*, task_status):
        await trio.sleep(1)
        task_status.started()
        await trio.sleep(1)

    process = sup.start_child(child, restart="transient")
    assert process.status == "starting"
    await trio.sleep(1.5)
    assert process.status == "running"
    assert (await process.wait()).reason == "normal"


# --- children, join ----------------------------------------------------------------------------


@pytest.mark.conforms("TSUP-048")
async def test_children(autojump_clock, sup):
    """The list holds each task of every form while it runs, and a copy that was taken stays as it is."""
    async with trio.open_nursery() as nursery:
        started = {
            start(sup, nursery, later, 1 + place) for place, start in enumerate(FORMS.values())
        }
        before = sup.children
        assert {info.process for info in before} == started
        for left in (3, 2, 1, 0):
            await trio.sleep(1.01)
            assert len(sup.children) == left
        assert len(before) == 4


@each(FORMS)
async def test_join(autojump_clock, sup, start):
    """Joining waits until nothing is left, tasks that were started meanwhile included."""

    async def more(nursery):
        await trio.sleep(1)
        start(sup, nursery, later, 2)

    async with trio.open_nursery() as nursery:
        start(sup, nursery, more, nursery)
        await sup.join()
        assert (trio.current_time(), sup.children) == (3, ())
        with trio.testing.assert_checkpoints():
            await sup.join()


async def test_join_is_only_a_wait(autojump_clock, sup):
    """A cancelled join leaves everything as it was, and many may join at once."""
    task = sup.async_nolink(later, 3)
    with trio.move_on_after(1) as scope:
        await sup.join()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(sup.join)
    assert task.status == "stopped"
    assert trio.current_time() == 3


async def test_join_until_the_supervisor_ends(autojump_clock):
    """Whoever joins is woken when the supervisor ends, with or without tasks."""
    async with TaskSupervisor() as sup, trio.open_nursery() as nursery:
        nursery.start_soon(sup.join)
        sup.start_child(idle)
        sup.start_child(idle, restart="permanent")
        await wait_all_tasks_blocked()
        await sup.stop()
    with pytest.raises(NotRunning):
        await sup.join()


@pytest.mark.conforms("CASE-18")
@each(FORMS)
async def test_join_in_the_moment_a_task_ends(autojump_clock, sup, start):
    """Joining in the tick in which the last task ends is over within a tick or two."""
    go, done, ticks = trio.Event(), trio.Event(), []

    async def task():
        await go.wait()
        done.set()

    async def count():
        while True:
            ticks.append(1)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        start(sup, nursery, task)
        await wait_all_tasks_blocked()
        nursery.start_soon(count)
        go.set()
        await done.wait()
        ticks.clear()
        await sup.join()
        assert len(ticks) < 5
        assert sup.children == ()
        nursery.cancel_scope.cancel()


# --- terminate_child ---------------------------------------------------------------------------


@pytest.mark.conforms("TSUP-049", "TSUP-051")
@each(NO_LINK)
async def test_terminate(autojump_clock, sup, start):
    """A terminated child is gone when the call returns, stays so, and is unknown from then on."""
    process = start(sup, None, idle)
    other = sup.start_child(idle)
    with trio.testing.assert_checkpoints():
        await sup.terminate_child(process)
    assert (process.last_exit.reason, processes(sup)) == ("shutdown", {other})
    await trio.sleep(10)
    assert processes(sup) == {other}
    for stranger in (process, Task(idle), sup):
        with pytest.raises(UnknownChild):
            await sup.terminate_child(stranger)


@pytest.mark.conforms("TSUP-051")
async def test_terminated_permanent_child_stays_down(autojump_clock, sup):
    """Terminating overrules the restart type."""
    process = sup.start_child(idle, restart="permanent")
    await sup.terminate_child(process)
    await trio.sleep(10)
    assert (sup.children, process.status) == ((), "stopped")


STOPS = [  # what is stopped, its limit, how long it takes, how it ended
    (idle, 5, 0, "shutdown"),
    (idle, None, 0, "shutdown"),
    (idle, 0, 0, "shutdown"),
    (idle, "brutal_kill", 0, "killed"),
    (reaction(), 2, 2, "killed"),
    (reaction(), "brutal_kill", 0, "killed"),
    (reaction(partial(later, 1)), 2, 1, "shutdown"),
    (reaction(partial(later, 9)), None, 9, "shutdown"),
]


@pytest.mark.conforms("TSUP-036", "TSUP-050", "TSUP-054")
@each(NO_LINK)
@pytest.mark.parametrize("stop", STOPS)
async def test_how_it_is_terminated(autojump_clock, caplog, sup, start, stop):
    """Who traps exits is asked and has its time, any other is cancelled; who obeys is not called late."""
    body, shutdown, took, reason = stop
    process = start(sup, None, body, shutdown=shutdown)
    await wait_all_tasks_blocked()
    await sup.terminate_child(process)
    assert (trio.current_time(), process.last_exit.reason) == (took, reason)
    assert late(caplog) == []


@pytest.mark.conforms("TSUP-050", "COMMON-008")
@each(FORMS)
async def test_late_child_is_named_once(autojump_clock, caplog, start):
    """Who is late is waited for, and named once, however many wait for its end."""
    events = []
    async with TaskSupervisor(name="sup") as sup:
        with contextlib.suppress(ExceptionGroup), subscribe(events.append):
            async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
                process = start(sup, nursery, stubborn(3), shutdown=1, name="late")
                await wait_all_tasks_blocked()
                outer.start_soon(sup.terminate_child, process)
                await trio.sleep(0.5)
                sup.start_child(returns, restart="transient")  # the loop looks at its clock
        assert trio.current_time() == 3
        assert process.last_exit.reason == "killed"
    assert late(caplog) == [
        "sup/late is late: asked to stop, and not done after 1 s; its end is waited for"
    ]
    assert [event.process for event in events if isinstance(event, StopLate)] == [process]


@pytest.mark.conforms("TSUP-050")
@each(NO_LINK)
async def test_serves_others_meanwhile(autojump_clock, sup, start):
    """A supervisor that waits for a slow end goes on starting and stopping others."""
    slow = start(sup, None, stubborn(3))
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sup.terminate_child, slow)
        await trio.sleep(1)
        assert await sup.async_nolink(later, 1) == "late"
        await sup.terminate_child(sup.start_child(idle))
        assert (trio.current_time(), slow.status) == (2, "stopping")


@pytest.mark.conforms("TSUP-052")
@pytest.mark.parametrize(
    ("body", "shutdown", "seen"),
    [
        (idle, 5, ("shutdown", None)),
        (idle, "brutal_kill", ("killed", None)),
        (reaction(), 1, ("killed", None)),
        (reaction(partial(later, 1, "bye")), 2, "bye"),
    ],
)
async def test_owner_of_a_terminated_task(autojump_clock, sup, body, shutdown, seen):
    """The owner of an isolated task that was terminated learns how it ended, and may catch it."""
    task = sup.async_nolink(body, shutdown=shutdown)
    await wait_all_tasks_blocked()
    await sup.terminate_child(task)
    assert told(await attempt(task.await_())) == seen
    assert told(await task.yield_()) == seen


@pytest.mark.conforms("TSUP-052", "TSUP-019", "TSUP-029")
@pytest.mark.parametrize(("shutdown", "reason"), [(5, "shutdown"), ("brutal_kill", "killed")])
async def test_owner_of_a_terminated_linked_task(autojump_clock, sup, shutdown, reason):
    """Terminating a linked task fails its owner's scope with `Exited`."""

    async def owner(nursery):
        task = sup.async_(nursery, idle, shutdown=shutdown)
        await sup.terminate_child(task)
        await trio.sleep_forever()

    error = await fate(owner)
    assert told(error) == (reason, None)
    assert sup.children == ()


async def test_leaving_a_terminate(autojump_clock, sup):
    """A terminate whose wait is cancelled goes on all the same."""
    for start in NO_LINK.values():
        process = start(sup, None, stubborn(3))
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await sup.terminate_child(process)
        assert process.status == "stopping"
        assert (await process.wait()).reason == "shutdown"
    assert sup.children == ()


@each(NO_LINK)
async def test_child_that_terminates_itself(autojump_clock, sup, start):
    """A task may have itself terminated: the call does not come back, and nothing hangs."""
    came_back = []

    async def suicidal():
        await sup.terminate_child(current_process())
        came_back.append(1)

    process = start(sup, None, suicidal)
    assert (await process.wait()).reason == "shutdown"
    await sup.join()
    assert (came_back, sup.children) == ([], ())


# --- the end of a supervisor ---------------------------------------------------------------------


@pytest.mark.conforms("TSUP-014")
@each(FORMS)
async def test_block_left_in_peace(autojump_clock, start):
    """Leaving the block in peace waits for all that still runs, linked tasks included."""
    async with trio.open_nursery() as nursery:
        async with TaskSupervisor() as sup:
            process = start(sup, nursery, later, 3)
        assert trio.current_time() == 3
    assert (process.last_exit.reason, sup.last_exit.reason) == ("normal", "shutdown")


ENDS = ["error", "cancelled", "cancelled in peace", "stop", "kill", "crash"]


async def bring_to_an_end(how, started):
    """Run a supervisor with one task of each isolated form, and end it in some way."""
    with (
        contextlib.suppress(ZeroDivisionError, RestartsExhausted, Exited),
        trio.CancelScope(deadline=1 if "cancelled" in how else float("inf")),
    ):
        async with TaskSupervisor(max_restarts=0) as sup:
            started.extend(start(sup, None, stubborn(2)) for start in NO_LINK.values())
            started.append(sup.start_child(stubborn(2), restart="permanent"))
            await trio.sleep(0 if how == "cancelled in peace" else 1)
            match how:
                case "error":
                    1 / 0  # noqa: B018
                case "stop":
                    await sup.stop()
                case "kill":
                    sup.kill()
                    await trio.sleep_forever()
                case "crash":
                    sup.start_child(raises, restart="permanent")
                    await trio.sleep_forever()
                case "cancelled":
                    await trio.sleep_forever()
    return sup


@pytest.mark.conforms("TSUP-014", "TSUP-053", "TSUP-054", "TSUP-056")
@pytest.mark.parametrize("how", ENDS)
async def test_every_end_takes_the_tasks(autojump_clock, how):
    """However else a supervisor ends, all its tasks end with it, together, cleaned up, for good."""
    started = []
    sup = await bring_to_an_end(how, started)
    assert trio.current_time() == 3  # each cleans up for two seconds, all at once
    reason = "killed" if how == "kill" else "shutdown"
    assert [process.last_exit.reason for process in started] == [reason] * 4
    own = {"kill": "killed", "crash": "crashed"}.get(how, "shutdown")
    assert (sup.last_exit.reason, sup.children) == (own, ())


@pytest.mark.conforms("TSUP-053", "TSUP-054", "COMMON-003")
async def test_stopped_together_each_with_its_time(autojump_clock, caplog):
    """All are asked at once and each has its own time; who overruns it is killed, then waited for."""
    async with TaskSupervisor(name="sup") as sup:
        times = [(1, 5), (2, 5), (9, 3), (9, "brutal_kill")]
        started = [
            sup.start_child(reaction(partial(later, seconds)), shutdown=limit, name=f"{limit}")
            for seconds, limit in times
        ]
        hard = sup.start_child(stubborn(4), shutdown=2, name="hard")
        await wait_all_tasks_blocked()
        assert (await sup.stop()).reason == "shutdown"
    assert trio.current_time() == 4
    reasons = [process.last_exit.reason for process in (*started, hard)]
    assert reasons == ["shutdown", "shutdown", "killed", "killed", "killed"]
    assert late(caplog) == [
        "sup/hard is late: asked to stop, and not done after 2 s; its end is waited for"
    ]


@pytest.mark.conforms("TSUP-055")
async def test_those_who_wait_when_it_stops(autojump_clock):
    """When the supervisor stops, waiters do not hang: linked scopes fail, others get `Exited`."""
    seen = {}

    async def plain():
        seen["linked"] = told(await fate(lambda nursery: sup.async_(nursery, idle).await_()))

    async def isolated():
        seen["isolated"] = told(await attempt(sup.async_nolink(idle).await_()))

    async def outside(task):
        seen["outside"] = told(await attempt(task.await_()))

    async with trio.open_nursery() as nursery, TaskSupervisor() as sup:
        nursery.start_soon(plain)
        nursery.start_soon(isolated)
        await wait_all_tasks_blocked()
        nursery.start_soon(outside, next(i.process for i in sup.children))
        await wait_all_tasks_blocked()
        await sup.stop()
    assert seen == dict.fromkeys(["linked", "isolated", "outside"], ("shutdown", None))


@pytest.mark.conforms("TSUP-055", "TSUP-019", "REVIEW-10")
@pytest.mark.parametrize("how", ENDS)
async def test_linked_scope_when_the_supervisor_ends_first(autojump_clock, how):
    """A scope that is linked to a task fails with `Exited` if the supervisor ends before it."""
    fates = []

    async def linked(sup):
        fates.append(told(await fate(lambda nursery: sup.async_(nursery, idle).await_())))

    async with trio.open_nursery() as nursery:
        with (
            contextlib.suppress(ZeroDivisionError, RestartsExhausted, Exited),
            trio.CancelScope() as scope,
        ):
            async with TaskSupervisor(max_restarts=0) as sup:
                nursery.start_soon(linked, sup)
                await wait_all_tasks_blocked()
                if how == "cancelled in peace":
                    scope.deadline = 1
                elif how == "cancelled":
                    scope.cancel()
                    await trio.sleep_forever()
                elif how == "error":
                    1 / 0  # noqa: B018
                elif how == "kill":
                    sup.kill()
                elif how == "crash":
                    sup.start_child(raises, restart="transient")
                    await trio.sleep_forever()
                else:
                    await sup.stop()
    assert fates == [("killed" if how == "kill" else "shutdown", None)]


async def test_linked_owner_cleans_up_before_the_supervisor_is_gone(autojump_clock):
    """A stopping supervisor waits for the cleanup of tasks that run in somebody else's nursery."""
    sup = TaskSupervisor()

    async def owner():
        await fate(lambda nursery: sup.async_(nursery, stubborn(2)).await_())

    async with trio.open_nursery() as nursery, sup:
        nursery.start_soon(owner)
        await wait_all_tasks_blocked()
        await sup.stop()
        assert trio.current_time() == 2


@pytest.mark.conforms("TSUP-053")
async def test_stopped_as_a_child(autojump_clock):
    """As a child it stops its tasks in its turn, before those that were started earlier."""
    ends = []

    async def noting(name):
        try:
            await trio.sleep_forever()
        finally:
            ends.append(name)

    tasks = TaskSupervisor()
    below = ChildSpec(noting, "below", id="below")
    above = ChildSpec(noting, "above", id="above")
    async with Supervisor([below, tasks, above]):
        tasks.start_child(noting, "task")
        await wait_all_tasks_blocked()
    assert ends == ["above", "task", "below"]


@pytest.mark.conforms("TSUP-058")
@pytest.mark.parametrize("when", ["new", "stopped", "stopping"])
async def test_gone(autojump_clock, when):
    """A supervisor that does not run, or is stopping, refuses every request at once, by name."""
    sup = TaskSupervisor(name="sup")
    process = Task(idle)
    async with trio.open_nursery() as nursery:
        if when != "new":
            async with sup:
                process = sup.start_child(stubborn(2))
                await wait_all_tasks_blocked()
                nursery.start_soon(sup.stop)
                await trio.sleep(1)
                if when == "stopping":
                    await refuses_all(sup, nursery, process)
        if when != "stopping":
            await refuses_all(sup, nursery, process)
            assert sup.children == ()
            with pytest.raises(NotRunning):
                await sup.join()


async def refuses_all(sup, nursery, process):
    for start in FORMS.values():
        with pytest.raises(NotRunning, match="sup") as caught:
            start(sup, nursery, idle)
        assert caught.value.process is sup
    if sup.status != "stopping":  # else it is known still, and being stopped
        with pytest.raises(NotRunning, match="sup"):
            await sup.terminate_child(process)


@pytest.mark.conforms("TSUP-058")
async def test_asked_while_the_block_is_left(autojump_clock):
    """A task may start others while the block waits for it, until the last has ended."""
    seen = []

    async def chain(left):
        await trio.sleep(1)
        seen.append(left)
        if left:
            sup.start_child(chain, left - 1)

    async with TaskSupervisor() as sup:
        sup.start_child(chain, 3)
    assert seen == [3, 2, 1, 0]


async def test_handle_lives_again(autojump_clock):
    """A supervisor whose life is over may live again, and begins empty."""
    sup = TaskSupervisor(max_children=1)
    for _ in range(2):
        async with sup:
            sup.start_child(idle)
            await sup.stop()
        assert (sup.status, sup.children) == ("stopped", ())


async def test_in_a_plain_nursery(autojump_clock):
    """Run by a nursery, it ends with the nursery, after its tasks."""
    async with trio.open_nursery() as nursery:
        sup = await nursery.start(TaskSupervisor().run)
        tasks = [sup.start_child(stubborn(2)), sup.start_child(idle, restart="permanent")]
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 2
    assert [task.last_exit.reason for task in tasks] == ["shutdown", "shutdown"]


# --- trapping exits ------------------------------------------------------------------------------


@pytest.mark.conforms("COMMON-003", "TSUP-036")
@each(FORMS)
async def test_trapping_task_finishes_its_work(autojump_clock, start):
    """A task that traps exits may finish what it is at before it ends, within its time."""
    done = []

    async def worker():
        with trap_exit() as exiting:
            while not exiting.is_set():
                await trio.sleep(1)
                done.append(trio.current_time())

    with contextlib.suppress(ExceptionGroup):
        async with trio.open_nursery() as nursery, TaskSupervisor() as sup:
            start(sup, nursery, worker)
            await trio.sleep(2.5)
            await sup.stop()
    assert done == [1, 2, 3]


# --- races, memory -------------------------------------------------------------------------------


@pytest.mark.conforms("TSUP-043")
async def test_storm(autojump_clock, no_log):
    """Whatever ends when: places are counted right, nobody hangs, and the tables are empty afterwards."""
    for seed in range(30):
        dice = random.Random(seed)
        async with TaskSupervisor(max_children=8, max_restarts=10_000) as sup:
            await _storm(sup, dice)
            assert len(sup.children) <= 8
            await sup.join()
            assert (sup.children, sup._loop.size(), len(sup._loop._by_process)) == ((), 0, 0)


async def _storm(sup, dice):
    async def flaky():
        if dice.random() < 0.5:
            raise ValueError

    with contextlib.suppress(ExceptionGroup):
        async with trio.open_nursery() as nursery:
            for _ in range(60):
                body = dice.choice([returns, flaky, exit_normal, partial(later, 0.2), idle])
                start = dice.choice([*FORMS.values()])
                with contextlib.suppress(MaxChildren):
                    start(sup, nursery, body)
                if (running := sup.children) and dice.random() < 0.5:
                    victim = dice.choice(running).process
                    how = dice.choice([Process.kill, partial(nursery.start_soon, _terminate, sup)])
                    how(victim)
                if dice.random() < 0.5:
                    await trio.sleep(dice.choice([0, 0, 0.1]))
            nursery.cancel_scope.cancel()  # linked tasks that nobody has ended would hold it open
    for info in sup.children:
        await _terminate(sup, info.process)


async def _terminate(sup, process):
    with contextlib.suppress(UnknownChild):
        await sup.terminate_child(process)


@pytest.mark.conforms("TSUP-053")
async def test_task_ends_in_the_moment_of_the_stop(autojump_clock):
    """A task that ends in the tick of its supervisor's stop has its own end or the stop's, never none."""
    seen = set()
    for number in range(200):
        go = trio.Event()
        async with TaskSupervisor() as sup, trio.open_nursery() as nursery:
            task = sup.async_nolink(_after, go, number % 8)
            await wait_all_tasks_blocked()
            go.set()
            nursery.start_soon(sup.stop)
        seen.add((task.last_exit.reason, told(await task.yield_())))
        assert sup.children == ()
    assert {("normal", "done"), ("shutdown", ("shutdown", None))} <= seen
    assert seen <= {("normal", "done"), ("shutdown", "done"), ("shutdown", ("shutdown", None))}


async def _after(event, ticks):
    await event.wait()
    for _ in range(ticks):
        await trio.lowlevel.checkpoint()
    return "done"


async def test_nothing_is_kept(autojump_clock, no_log, sup):
    """With the collector off, a finished task that nobody holds is gone, with its error and arguments."""

    class Big:
        pass

    async def failing(big):
        await trio.sleep(1)
        raise ValueError(big)

    gc.collect()
    gc.disable()
    try:
        big = Big()
        gone = weakref.ref(big)
        started = [
            weakref.ref(sup.start_child(failing, big)),
            weakref.ref(sup.async_nolink(failing, big)),
        ]
        del big
        await sup.join()
        await wait_all_tasks_blocked()
        assert [task() for task in started] == [None, None]
        assert gone() is None
    finally:
        gc.enable()


async def test_forgotten_child_is_free(autojump_clock, no_log):
    """A restarted child that has ended is not kept by the budget, nor are its arguments."""

    class Big:
        pass

    async with TaskSupervisor() as sup:
        lives = iter([ValueError("oops"), None])

        async def child(big):
            if (error := next(lives)) is not None:
                raise error

        big = Big()
        gone = weakref.ref(big)
        sup.start_child(child, big, restart="transient")
        del big
        await sup.join()
        gc.collect()
        assert gone() is None
