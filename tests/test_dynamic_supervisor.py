"""DynamicSupervisor: children that come and go, each for itself.

How events are written: tests/helpers_supervisor.py.
"""

import gc
import inspect
import logging
import random
import sys
import weakref
from collections import Counter
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial
from types import CoroutineType, FrameType, TracebackType

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_supervisor import Bench, Boom, Probe, Refused, held, idle, recording
from helpers_task import attempt
from trio_otp import (
    Agent,
    AlreadyRunning,
    Backoff,
    ChildSpec,
    DuplicateChild,
    DynamicSupervisor,
    Exited,
    ExitProcess,
    Ignore,
    MaxChildren,
    NotRunning,
    RestartsExhausted,
    StartFailed,
    Supervisor,
    Task,
    TaskSupervisor,
    UnknownChild,
    current_process,
    format_tree,
    observe,
)


class Den(Bench):
    """The same bench, with a dynamic supervisor; its children go by their names."""

    def __init__(self, log, starts=None, child=None, **options):
        super().__init__(log, starts=starts, child=child)
        self.sup = DynamicSupervisor(**({"name": "SUP"} | options))

    def __getitem__(self, name):
        return next(info.process for info in self.sup.children if info.process.name == name)

    async def start(self, *kids, **options):
        for kid in kids:
            await self.sup.start_child(self.spec(kid, **options))

    def which(self):
        names = ((info.process.name, info.status) for info in self.sup.children)
        return " ".join(
            name if status in ("running", "stopping") else f"({name})" for name, status in names
        )


@asynccontextmanager
async def running(log, starts=None, child=None, **options):
    den = Den(log, starts, child, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(held, den.sup))
        yield den
        nursery.cancel_scope.cancel()


@pytest.fixture
def log():
    with recording() as log:
        yield log


@pytest.fixture
async def sup():
    async with DynamicSupervisor(name="sup") as supervisor:
        yield supervisor


@pytest.fixture
def no_collector(monkeypatch):
    monkeypatch.setattr(logging.getLogger("trio_otp"), "disabled", True)  # pytest keeps records
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def hanging(*, task_status):
    """A start that does not end by itself."""
    return trio.sleep_forever()


async def ready_at(at, *, task_status):
    await trio.sleep_until(at)
    task_status.started()
    await trio.sleep_forever()


def stubborn(seconds):
    """Make a child that takes so long to clean up."""

    async def cleaning():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)

    return cleaning


# --- itself ------------------------------------------------------------------------------------


@pytest.mark.conforms("DSUP-001", "DSUP-016", "DSUP-018")
async def test_under_a_supervisor(autojump_clock, log):
    """As a child it is a supervisor that begins empty, also in each later life."""
    dynamic = DynamicSupervisor(name="SUP")
    async with Supervisor([dynamic], name="root") as root:
        (info,) = root.children
        assert (info.id, info.kind, info.restart) == ("SUP", "supervisor", "permanent")
        assert dynamic.children == ()
        await dynamic.start_child(ChildSpec(idle, id="a"))
        assert format_tree(dynamic).split("\n") == [
            "SUP (dynamic_supervisor, running)",
            "    a (task, running)",
        ]
        dynamic.kill()
        await wait_all_tasks_blocked()
        assert (dynamic.status, dynamic.children) == ("running", ())
        await dynamic.start_child(ChildSpec(idle, id="b"))
    assert log.take() == (
        "+root +a -a:killed -SUP:killed +b -b:shutdown -SUP:shutdown -root:shutdown"
    )


@pytest.mark.conforms("DSUP-002", "DSUP-003", "DSUP-004", "DSUP-014", "DSUP-015")
def test_ids_as_children():
    """The id is the name that was given, else the handle; a spec may change that and more."""
    unnamed = DynamicSupervisor()
    assert DynamicSupervisor(name="a").child_spec().id == "a"
    assert unnamed.child_spec().id is unnamed
    Supervisor([DynamicSupervisor(name="a"), DynamicSupervisor(), DynamicSupervisor(), unnamed])
    with pytest.raises(DuplicateChild):
        Supervisor([DynamicSupervisor(name="a"), DynamicSupervisor(name="a")])
    spec = unnamed.child_spec(id=7, restart="temporary", shutdown=1)
    assert (spec.id, spec.restart, spec.shutdown) == (7, "temporary", 1)


@pytest.mark.conforms("DSUP-014", "DSUP-015", "DSUP-072")
async def test_stop(autojump_clock):
    """Two may bear one name; stop() ends one of them and says how, as often as it is asked."""
    async with DynamicSupervisor(name="same") as one, DynamicSupervisor(name="same") as two:
        await one.start_child(idle)
        assert (await one.stop()).reason == "shutdown"
        assert (await one.stop()).reason == "shutdown"
        assert (one.status, two.status, one.children) == ("stopped", "running", ())
    with pytest.raises(NotRunning, match="has never run"):
        await DynamicSupervisor().stop()


@pytest.mark.conforms("DSUP-008", "DSUP-009", "DSUP-010", "DSUP-011")
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
        ("extra_arguments", 7, TypeError),
        ("name", 7, TypeError),
    ],
)
def test_bad_options(option, value, error):
    """A wrong option is refused at construction, by name, with what was given."""
    with pytest.raises(error, match=f"{option} must be .*{value!r}"):
        DynamicSupervisor(**{option: value})


@pytest.mark.conforms("DSUP-005", "DSUP-007", "DSUP-012")
@pytest.mark.parametrize("option", ["strategy", "auto_shutdown"])
def test_options_that_make_no_sense(option):
    """Children for themselves know no strategy and no significance."""
    with pytest.raises(TypeError, match=option):
        DynamicSupervisor(**{option: ()})
    options = inspect.signature(DynamicSupervisor).parameters.values()
    assert {option.name: option.default for option in options} == {
        "name": None,
        "max_children": None,
        "max_restarts": 3,
        "max_seconds": 5.0,
        "extra_arguments": (),
    }


@pytest.mark.parametrize("use", ["start_child", "terminate_child"])
async def test_not_running(autojump_clock, use):
    """Before its start and after its end every request is refused at once."""
    sup, child = DynamicSupervisor(name="sup"), Agent(int)
    for _ in range(2):
        with pytest.raises(NotRunning, match=r"sup.* is not running"):
            await getattr(sup, use)(child)
        async with sup:
            pass
    assert child.status == "new"


# --- starting ----------------------------------------------------------------------------------


@pytest.mark.conforms("DSUP-021", "DSUP-027", "DSUP-070", "DSUP-071")
async def test_what_may_be_started(autojump_clock, sup):
    """A process comes back itself, a function or its spec as the task that runs it."""
    agent = Agent(int, name="agent")
    inner = TaskSupervisor(name="inner")
    assert await sup.start_child(agent) is agent
    assert await sup.start_child(inner) is inner
    function = await sup.start_child(idle)
    spec = await sup.start_child(ChildSpec(trio.sleep, 99, id="spec", restart="transient"))
    once = await sup.start_child(Task(idle, name="once"))
    assert [(i.id, i.process, i.kind, i.status, i.restart) for i in sup.children] == [
        (agent, agent, "worker", "running", "permanent"),
        (inner, inner, "supervisor", "running", "permanent"),
        (function, function, "worker", "running", "permanent"),
        (spec, spec, "worker", "running", "transient"),
        (once, once, "worker", "running", "temporary"),
    ]
    assert [type(task) for task in (function, spec)] == [Task, Task]
    assert await agent.get() == 0


@pytest.mark.conforms("DSUP-022")
async def test_ids_are_not_looked_at(autojump_clock, sup):
    """One spec may be started many times: each start is a child of its own."""
    spec = ChildSpec(idle, id="same")
    one, two = await sup.start_child(spec), await sup.start_child(spec)
    assert one is not two
    assert (one.name, two.name) == ("same", "same")
    await sup.terminate_child(one)
    assert [info.process for info in sup.children] == [two]


@pytest.mark.conforms("DSUP-023")
async def test_process_with_a_home(autojump_clock, sup):
    """A process that runs already is refused, whether here or elsewhere, and goes on."""
    agent = await sup.start_child(Agent(int))
    with pytest.raises(DuplicateChild, match="is running"):
        await sup.start_child(agent)
    async with Agent(int) as elsewhere:
        with pytest.raises(AlreadyRunning):
            await sup.start_child(elsewhere)
        assert [info.process for info in sup.children] == [agent]
        assert await elsewhere.get() == await agent.get() == 0


@pytest.mark.conforms("DSUP-025", "DSUP-026")
@pytest.mark.parametrize(
    ("child", "error", "says"),
    [
        (1, TypeError, "a child must be a process, a ChildSpec or an async function, got 1"),
        (Agent, TypeError, "got the class"),
        (lambda: idle(), ValueError, "give it an id="),
        (trio.sleep, TypeError, "cannot be called so"),
        (Task(idle).child_spec(significant=True), ValueError, "significant"),
        (Agent(int, idle_timeout=1).child_spec(restart="permanent"), ValueError, "idle_timeout"),
    ],
)
async def test_what_cannot_be_a_child(autojump_clock, child, error, says):
    """A thing that cannot be a child is refused before anybody is asked, even with nobody there."""
    with pytest.raises(error, match=says):
        await DynamicSupervisor().start_child(child)


@pytest.mark.conforms("DSUP-025", "DSUP-026")
async def test_coroutine_instead_of_function(sup):
    """A coroutine object where a function is wanted is closed, and refused with the remedy."""
    with pytest.raises(TypeError, match="pass the function itself"):
        await sup.start_child(idle())


@pytest.mark.conforms("DSUP-028", "DSUP-041")
async def test_value_of_started(autojump_clock, sup):
    """What a child says with started() goes nowhere, at the start and at a restart."""

    async def child(*, task_status):
        task_status.started("info")
        await trio.sleep_forever()

    task = await sup.start_child(child)
    assert isinstance(task, Task)
    task.kill()
    await wait_all_tasks_blocked()
    assert task.status == "running"


DOWN_AC = ["-a:shutdown", "-c:shutdown", "?a", "?c"]


@pytest.mark.conforms("DSUP-029", "CASE-80")
async def test_declining(autojump_clock, log):
    """A child that declines to start is no failure, leaves nothing, and is in nobody's way."""
    async with running(log, {"b": "ignore"}) as den:
        await den.start("a", "b", "c")
        assert den.which() == "a c"
        log.take()
        await den.sup.stop()
        assert sorted(log.take().split()) == ["-SUP:shutdown", *DOWN_AC]


async def returns_early(*, task_status):
    pass


async def refuses(*, task_status):
    raise Refused("db")


async def exits(*, task_status):
    raise ExitProcess("shutdown", "x")


@pytest.mark.conforms("DSUP-030", "DSUP-031")
@pytest.mark.parametrize(
    ("child", "says", "cause"),
    [
        (returns_early, "ended before it was ready", type(None)),
        (exits, r"ended before it was ready: shutdown", type(None)),
        (refuses, "failed to start", Refused),
        (Agent(lambda: 1 / 0, name="agent"), "failed to start", ZeroDivisionError),
        (ChildSpec(hanging, start_timeout=2), "not ready within 2 s", type(None)),
    ],
)
async def test_failed_start(autojump_clock, sup, child, says, cause):
    """A start that fails says why, from the real error; nothing is kept, and others live on."""
    other = await sup.start_child(idle)
    with pytest.raises(StartFailed, match=says) as caught:
        await sup.start_child(child)
    assert type(caught.value.__cause__) is cause
    assert [info.process for info in sup.children] == [other]
    assert sup.status == "running"
    with suppress(StartFailed):
        await sup.start_child(child)  # the handle is free again


@pytest.mark.conforms("DSUP-035")
async def test_starts_go_on_beside_each_other(autojump_clock, sup):
    """A slow start holds up nobody: each asker comes back when its own child is ready."""
    back = []

    async def asking(at):
        task = await sup.start_child(ChildSpec(ready_at, at, id=str(at)))
        back.append((task.name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for at in (3, 1, 2, 0):
            nursery.start_soon(asking, at)
        await wait_all_tasks_blocked()
        assert sorted(info.status for info in sup.children) == ["running"] + ["starting"] * 3
    assert back == [("0", 0), ("1", 1), ("2", 2), ("3", 3)]


@pytest.mark.conforms("DSUP-035")
async def test_start_from_a_start(autojump_clock, sup):
    """A child may have another started, and wait for it, while it is starting itself."""

    async def outer(*, task_status):
        await sup.start_child(ChildSpec(ready_at, 2, id="inner"))
        task_status.started()
        await trio.sleep_forever()

    await sup.start_child(outer)
    assert trio.current_time() == 2
    assert [info.process.name for info in sup.children][1:] == ["inner"]


async def test_calling_a_child_that_starts(autojump_clock, sup):
    """A child can be called while it is still starting: the call waits for it."""

    async def init():
        await trio.sleep(2)
        return 7

    agent = Agent(init)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sup.start_child, agent)
        await wait_all_tasks_blocked()
        with pytest.raises(DuplicateChild, match="is starting"):
            await sup.start_child(agent)
        assert await agent.get() == 7


@pytest.mark.conforms("DSUP-024")
async def test_extra_arguments(autojump_clock):
    """Functions get the extra arguments before their own, in each life; processes have theirs."""
    seen = []

    async def worker(*args):
        seen.append(args)
        await trio.sleep(1)
        if len(seen) < 3:
            raise Boom

    async with DynamicSupervisor(extra_arguments=("db", "t")) as sup:
        await sup.start_child(ChildSpec(worker, 3, restart="transient"))
        await trio.sleep(5)
        assert seen == [("db", "t", 3)] * 3
        await (await sup.start_child(Task(worker, 4))).wait()
        await sup.start_child(worker)
        await wait_all_tasks_blocked()
        assert seen[3:] == [(4,), ("db", "t")]


@pytest.mark.conforms("CASE-86")
async def test_context(autojump_clock):
    """Each life runs in the context of the supervisor's start, whoever asked for the child."""
    request, seen = ContextVar("request", default="none"), []

    async def worker():
        seen.append((request.get(), current_process().name))
        request.set("changed")
        await trio.sleep(1)
        raise Boom

    request.set("home")
    async with DynamicSupervisor() as sup:
        request.set("asker")
        await sup.start_child(ChildSpec(worker, id="w"))
        agent = await sup.start_child(Agent(request.get))
        await trio.sleep(2.5)
        assert await agent.get() == "home"
    assert seen == [("home", "w")] * 3


@pytest.mark.parametrize("restart", ["permanent", "temporary"])
async def test_asker_leaves(autojump_clock, sup, log, restart):
    """Leaving a start ends it: the child has cleaned up and is forgotten, whatever its kind."""
    agent = Agent(trio.sleep, 9, name="a")
    with trio.move_on_after(1):
        await sup.start_child(agent.child_spec(restart=restart))
    await wait_all_tasks_blocked()
    assert (agent.status, sup.children, log.take()) == ("stopped", (), "+sup !a")
    with trio.move_on_after(1):
        async with agent:  # it is free
            pass


async def test_asker_leaves_with_a_place(autojump_clock):
    """An abandoned start gives back its place, though only when it has cleaned up."""
    async with DynamicSupervisor(max_children=1) as sup:

        async def slow(*, task_status):
            await stubborn(2)()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sup.start_child, slow)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        with pytest.raises(MaxChildren):
            await sup.start_child(idle)
        await trio.sleep(2.1)
        await sup.start_child(idle)


async def test_asker_leaves_in_the_moment_of_ready(autojump_clock, sup):
    """Nobody holds a child whose asker was cancelled, even if it became ready just then."""
    for steps in range(12):
        with trio.CancelScope() as scope:

            async def leaving():
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(leaving)
                await sup.start_child(Agent(int))
        await wait_all_tasks_blocked()
        assert len(sup.children) == (0 if scope.cancelled_caught else 1)
        for info in sup.children:
            await sup.terminate_child(info.process)


async def test_many_at_once(autojump_clock, sup):
    """A thousand that ask at once all get their child, and each child is stopped at the end."""
    lives = set()

    async def child(number):
        lives.add(number)
        try:
            await trio.sleep_forever()
        finally:
            lives.remove(number)

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(sup.start_child, ChildSpec(child, number))
    await wait_all_tasks_blocked()
    assert len(lives) == len(sup.children) == 1000
    await sup.stop()
    assert lives == set()


# --- how many ------------------------------------------------------------------------------------


@pytest.mark.conforms("DSUP-010", "DSUP-032")
@pytest.mark.parametrize("most", [0, 1, 3])
async def test_max_children(autojump_clock, most):
    """A full one refuses at once, whoever asked first at the same time."""
    async with DynamicSupervisor(max_children=most, name="few") as sup:
        answers = []

        async def asking():
            answers.append(await attempt(sup.start_child(idle)))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(asking)
        assert [type(a) for a in answers].count(MaxChildren) == 5 - most
        assert len(sup.children) == most
        with pytest.raises(MaxChildren, match=f"few.* holds max_children={most} "):
            await sup.start_child(idle)


@pytest.mark.conforms("DSUP-033", "DSUP-043", "DSUP-065", "DSUP-066", "DSUP-071")
async def test_place_of_a_restarting_child(autojump_clock, log):
    """A child between two lives keeps its place, under its old handle, until terminated."""
    backoff = {"backoff": Backoff(10)}
    async with running(log, {"a": "ok no no"}, backoff, max_children=1, max_restarts=99) as den:
        await den.start("a")
        a = den["a"]
        await den.fall("a")
        assert den.which() == "(a)"
        with pytest.raises(MaxChildren):
            await den.start("b")
        await trio.sleep(15)
        assert (den.which(), den.probes["a"].attempts) == ("(a)", 2)
        await den.sup.terminate_child(a)
        assert den.which() == ""
        with pytest.raises(UnknownChild):
            await den.sup.terminate_child(a)
        await den.start("b")
        await trio.sleep(99)
        assert (den.which(), den.probes["a"].attempts, a.status) == ("b", 2, "stopped")


@pytest.mark.conforms("DSUP-034", "DSUP-039")
async def test_place_of_a_restarted_child(autojump_clock, log):
    """A restarted child takes one place, as before."""
    async with running(log, max_children=2, max_restarts=9) as den:
        await den.start("a", "b")
        for _ in range(3):
            await den.fall("a")
            assert sorted(den.which()) == sorted("a b")
        with pytest.raises(MaxChildren):
            await den.start("c")


async def test_place_in_the_moment_of_an_end(autojump_clock):
    """Who has seen a child end can start the next in the same step, and does not see the old one."""
    async with DynamicSupervisor(max_children=1) as sup:
        for _ in range(5):
            child = await sup.start_child(Task(trio.sleep, 1))
            await child.wait()
            assert sup.children == ()


# --- ends and restarts -----------------------------------------------------------------------------


# restart, how it ends, what happens, who is there afterwards
ENDS = [
    *[("temporary", how, f"-a:{how}", "") for how in ("normal", "shutdown", "crashed", "killed")],
    *[("transient", how, f"-a:{how}", "") for how in ("normal", "shutdown")],
    *[("transient", how, f"-a:{how} +a", "a") for how in ("crashed", "killed")],
    *[("permanent", how, f"-a:{how} +a", "a") for how in ("normal", "shutdown", "crashed", "killed")],
]  # fmt: skip


@pytest.mark.conforms("DSUP-037", "DSUP-038", "DSUP-039", "DSUP-040")
@pytest.mark.parametrize(("restart", "how", "events", "after"), ENDS)
async def test_ends(autojump_clock, log, restart, how, events, after):
    """A child comes back after the ends that its restart type names, or leaves nothing at all."""
    async with running(log) as den:
        await den.start(f"a/{restart}")
        a = den["a"]
        log.take()
        await den.fall("a", how)
        assert (log.take(), den.which()) == (events, after)
        if after:
            assert den["a"] is a
            assert den.sup.children[0].restarts == 1
        else:
            async with a:  # it is free
                pass


@pytest.mark.conforms("DSUP-042")
async def test_declining_a_restart(autojump_clock, log):
    """A child that declines its restart is gone, without a failure."""
    async with running(log, {"a": "ok ignore"}) as den:
        await den.start("a")
        await den.fall("a")
        assert (log.take(), den.which()) == ("+a -a:crashed !a", "")
        assert den.sup.status == "running"


@pytest.mark.conforms("DSUP-043", "DSUP-044", "DSUP-045", "DSUP-046")
@pytest.mark.parametrize(
    ("budget", "starts", "events"),
    [
        (1, "no no no no", "-a:crashed !a -SUP:crashed"),
        (3, "no no no no", "-a:crashed !a !a !a -SUP:crashed"),
        (3, "no no ok", "-a:crashed !a !a +a"),
        (10, "no " * 99, "-a:crashed " + "!a " * 10 + "-SUP:crashed"),
    ],
)
async def test_failing_restarts(autojump_clock, log, budget, starts, events):
    """A restart that fails is tried again at once, every try from the budget."""
    async with running(log, {"a": f"ok {starts}"}, max_restarts=budget) as den:
        await den.start("a")
        log.take()
        await den.fall("a")
        assert log.take() == events


@pytest.mark.conforms("DSUP-045", "DSUP-047", "DSUP-048")
async def test_shared_budget(autojump_clock):
    """The budget is one for all children; who spent it is named, and all are stopped."""

    async def faulty(after):
        await trio.sleep(after)
        raise Boom(after)

    with pytest.raises(RestartsExhausted, match="more than 2 restarts within 5 s") as caught:
        async with DynamicSupervisor(max_restarts=2) as sup:
            calm = await sup.start_child(ChildSpec(idle, id="calm"))
            for place, id in enumerate("abc"):
                await sup.start_child(ChildSpec(faulty, 3 + place, id=id))
            await trio.sleep_forever()
    assert str(caught.value).endswith("'a' 1x, 'b' 1x, 'c' 1x")
    assert caught.value.__cause__.args == (5,)
    assert calm.last_exit.reason == "shutdown"


@pytest.mark.conforms("DSUP-048")
async def test_budget_window(autojump_clock, log):
    """Restarts that lie further apart than the window never spend the budget."""
    async with running(log, max_restarts=1, max_seconds=5) as den:
        await den.start("a")
        for _ in range(5):
            await den.fall("a")
            await trio.sleep(5.1)
        assert den.which() == "a"
        await den.fall("a")
        await den.fall("a")
        assert den.sup.status == "stopped"


@pytest.mark.conforms("DSUP-049")
async def test_end_in_the_moment_of_a_terminate(autojump_clock, log):
    """A child that falls while it is terminated does not come back, and the end is told once."""
    async with running(log) as den:
        for how in ("crashed", "normal", "killed"):
            await den.start("a")
            a = den["a"]
            den.end("a", how)
            await den.sup.terminate_child(a)
            await wait_all_tasks_blocked()
            assert den.which() == ""
            assert log.take().count("-a:") == 1


async def test_restarts_go_on_beside_each_other(autojump_clock, sup):
    """A restart that takes long holds up neither another restart nor a start."""

    async def child(*, task_status):
        await trio.sleep(restart_takes)
        task_status.started()
        await trio.sleep_forever()

    restart_takes = 0
    slow, quick = [await sup.start_child(ChildSpec(child, id=name)) for name in "ab"]
    restart_takes = 100
    slow.kill()
    await wait_all_tasks_blocked()
    restart_takes = 1
    quick.kill()
    await sup.start_child(ChildSpec(child, id="c"))
    assert [info.status for info in sup.children] == ["starting", "running", "running"]
    assert trio.current_time() == 1
    await sup.terminate_child(slow)


# --- terminating -----------------------------------------------------------------------------------


@pytest.mark.conforms("DSUP-064", "DSUP-065", "DSUP-069")
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_terminate(autojump_clock, log, restart):
    """A terminated child has ended, is forgotten and stays down; asking again finds nobody."""
    async with running(log) as den:
        await den.start("other", f"a/{restart}", grace=2)
        a = den["a"]
        log.take()
        await den.sup.terminate_child(a)
        assert (trio.current_time(), log.take()) == (2, "?a -a:shutdown")
        assert (den.which(), a.status) == ("other", "stopped")
        with pytest.raises(UnknownChild, match="has no child <Task 'a' stopped>"):
            await den.sup.terminate_child(a)
        for verb in ("restart_child", "delete_child"):
            assert not hasattr(den.sup, verb)


@pytest.mark.conforms("DSUP-065", "DSUP-067")
@pytest.mark.parametrize("what", ["id", Agent(int), None])
async def test_terminate_a_stranger(autojump_clock, sup, what):
    """Only a process that is a child can be terminated; an id says nothing."""
    await sup.start_child(ChildSpec(idle, id="id"))
    with pytest.raises(UnknownChild):
        await sup.terminate_child(what)


@pytest.mark.conforms("DSUP-068")
async def test_terminates_go_on_beside_each_other(autojump_clock, sup):
    """A child that is slow to stop holds up neither other stops nor starts."""
    slow, quick = [await sup.start_child(ChildSpec(stubborn(s), id=s)) for s in (3, 1)]
    await wait_all_tasks_blocked()
    ends = []

    async def stopping(child):
        await sup.terminate_child(child)
        ends.append((child is slow, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for child in (slow, quick, slow):
            nursery.start_soon(stopping, child)
        await wait_all_tasks_blocked()
        await sup.start_child(idle)
        assert trio.current_time() == 0
    assert ends == [(False, 1), (True, 3), (True, 3)]
    assert len(sup.children) == 1


@pytest.mark.parametrize("how", ["terminate", "kill", "stop"])
async def test_ending_a_start(autojump_clock, sup, how):
    """A start that somebody else ends is a StartFailed for who asked for it, and nothing stays."""
    agent, answers = Agent(trio.sleep_forever), []

    async def asking():
        answers.append(await attempt(sup.start_child(agent)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking)
        await wait_all_tasks_blocked()
        if how == "terminate":
            await sup.terminate_child(agent)
        elif how == "kill":
            agent.kill()
        else:
            await agent.stop()
    assert type(answers[0]) is StartFailed
    assert (agent.status, sup.children) == ("stopped", ())


async def test_terminating_a_start_that_times_out(autojump_clock, sup):
    """A start that is being ended for its time limit can be terminated; each asker is answered."""

    async def slow(*, task_status):
        await stubborn(5)()

    answers = []

    async def asking():
        answers.append(await attempt(sup.start_child(ChildSpec(slow, start_timeout=1))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking)
        await trio.sleep(2)
        await sup.terminate_child(sup.children[0].process)
    assert "not ready within 1 s" in str(answers[0])
    assert (trio.current_time(), sup.children) == (6, ())


async def test_child_that_terminates_itself(autojump_clock, sup):
    """A child may have itself terminated, in its start or later; it ends there and then."""
    seen = []

    async def child(late, *, task_status):
        if late:
            task_status.started()
        try:
            await sup.terminate_child(current_process())
        finally:
            seen.append(late)

    await sup.start_child(ChildSpec(child, True, id=1))
    with pytest.raises(StartFailed, match="terminated in its start"):
        await sup.start_child(ChildSpec(child, False, id=2))
    await wait_all_tasks_blocked()
    assert (seen, sup.children) == ([True, False], ())


async def test_leaving_a_terminate(autojump_clock, sup):
    """Whoever leaves takes nothing back: the child ends, and others who wait are told."""
    child = await sup.start_child(stubborn(3))
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sup.terminate_child, child)
        with trio.move_on_after(1) as scope:
            await sup.terminate_child(child)
        assert scope.cancelled_caught
        assert child.status == "stopping"
    assert (trio.current_time(), sup.children) == (3, ())


# --- stopping --------------------------------------------------------------------------------------


@pytest.mark.conforms("DSUP-052")
async def test_all_are_told_first(autojump_clock, log):
    """At the end everybody is told before anybody is waited for."""
    async with running(log) as den:
        await den.start("a", "b", "c", grace=1)
        log.take()
        await den.sup.stop()
        assert sorted(log.take().split()[:3]) == ["?a", "?b", "?c"]
        assert trio.current_time() == 1


# shutdown, the child's words, seconds it takes when told, how it ends, when
STOPS = [
    ("brutal_kill", "plain", 0, "killed", 0),
    ("brutal_kill", "", 9, "killed", 0),
    (None, "plain", 0, "shutdown", 0),
    (None, "", 99, "shutdown", 99),
    (5, "plain", 0, "shutdown", 0),
    (5, "", 3, "shutdown", 3),
    (5, "", 9, "killed", 5),
    (0, "plain", 0, "shutdown", 0),
    (1, "", 9, "killed", 1),
]


@pytest.mark.conforms(
    "DSUP-053", "DSUP-054", "DSUP-055", "DSUP-056", "DSUP-057", "DSUP-058", "DSUP-059", "DSUP-062"
)
@pytest.mark.parametrize(("shutdown", "words", "grace", "reason", "at"), STOPS)
async def test_how_children_stop(autojump_clock, log, shutdown, words, grace, reason, at):
    """Each kind of shutdown limit does to a hundred children what it says, all in one time."""
    async with running(log) as den:
        for number in range(100):
            await den.start(f"{number}/{words}", grace=grace, shutdown=shutdown)
        children = [info.process for info in den.sup.children]
        await den.sup.stop()
        assert {child.last_exit.reason for child in children} == {reason}
        assert trio.current_time() == at


@pytest.mark.conforms("DSUP-053", "DSUP-059", "DSUP-061")
async def test_each_by_its_own_limit(autojump_clock, log):
    """Different limits run from the same moment: the whole takes as long as the longest."""
    async with running(log) as den:
        await den.start("a", grace=99, shutdown=6)
        await den.start("b", grace=99, shutdown=16)
        await den.start("c", grace=99, shutdown="brutal_kill")
        await den.start("d/plain")
        log.take()
        await den.sup.stop()
        assert trio.current_time() == 16
        ends = [event for event in log.take().split() if event[0] == "-"]
        assert sorted(ends[:2]) == ["-c:killed", "-d:shutdown"]
        assert ends[2:] == ["-a:killed", "-b:killed", "-SUP:shutdown"]


@pytest.mark.conforms("DSUP-056", "DSUP-060", "DSUP-063")
@pytest.mark.parametrize(("leaves", "logged"), [("normal", 0), ("shutdown", 0), ("crashed", 1)])
async def test_leaving_in_their_own_way(autojump_clock, log, caplog, leaves, logged):
    """A child that is told may end as it likes, is not restarted, and only a crash is reported."""
    async with running(log) as den:
        await den.start("a", leaves=leaves)
        a = den["a"]
        log.take()
        await den.sup.stop()
        assert log.take() == f"?a -a:{leaves} -SUP:shutdown"
        assert a.last_exit.reason == leaves
    assert len(caplog.records) == logged


async def test_cancelled_outside(autojump_clock, log):
    """A cancellation from outside stops all children together, cleanup included."""
    async with running(log) as den:
        await den.start("a", grace=3)
        await den.start("b", grace=2)
        log.take()
    assert sorted((events := log.take().split())[:2]) == ["?a", "?b"]
    assert events[2:] == ["-b:shutdown", "-a:shutdown", "-SUP:shutdown"]
    assert trio.current_time() == 3


async def test_kill(autojump_clock, log):
    """A kill cancels all children at once, whatever they trap, and fails who is linked to it."""
    with pytest.raises(Exited, match=r"SUP.*killed"):
        async with DynamicSupervisor(name="SUP") as sup:
            for name in "ab":
                await sup.start_child(ChildSpec(Probe(log, name, grace=99).live, id=name))
            log.take()
            sup.kill()
            await trio.sleep_forever()
    assert sorted(log.take().split()) == ["-SUP:killed", "-a:killed", "-b:killed"]
    assert trio.current_time() == 0


async def test_requests_under_way_when_it_stops(autojump_clock, log):
    """Whoever is waiting for a start or a stop when it ends is answered, and nothing is left."""
    async with running(log) as den:
        await den.start("a", grace=2)
        starting, answers = Agent(trio.sleep_forever, name="s"), {}

        async def asking(name, request):
            answers[name] = type(await attempt(request)).__name__

        async with trio.open_nursery() as nursery:
            nursery.start_soon(asking, "start", den.sup.start_child(starting))
            nursery.start_soon(asking, "stop", den.sup.terminate_child(den["a"]))
            nursery.start_soon(asking, "stop too", den.sup.terminate_child(den["a"]))
            await trio.sleep(1)
            await den.sup.stop()
        assert answers == {"start": "NotRunning", "stop": "NoneType", "stop too": "NoneType"}
        assert starting.status == "stopped"


@pytest.mark.conforms("DSUP-045")
async def test_giving_up_with_requests_under_way(autojump_clock, log):
    """A spent budget ends the starts that are under way, and no further one gets in."""
    async with running(log, max_restarts=0) as den:
        await den.start("a")
        answers = []

        async def asking():
            answers.append(await attempt(den.sup.start_child(Agent(trio.sleep_forever))))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(asking)
            await wait_all_tasks_blocked()
            den.end("a")
            await den.sup.wait()
        assert [type(answer) for answer in answers] == [NotRunning]


async def test_restart_under_a_parent(autojump_clock):
    """One that gave up is restarted by its parent, empty; the old handles are free."""
    dynamic = DynamicSupervisor(max_restarts=0)
    async with Supervisor([dynamic]):
        agent = await dynamic.start_child(Agent(int))
        (await dynamic.start_child(ChildSpec(idle, id="x"))).kill()
        await wait_all_tasks_blocked()
        assert (dynamic.children, agent.status) == ((), "stopped")
        await dynamic.start_child(agent)
        assert await agent.get() == 0


# --- at random, and much ---------------------------------------------------------------------------


class Storm:
    """Children that start, fall and stop at random, and the set of those that really run."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.alive = set()
        self.known = [Task(idle)]
        self.sup = DynamicSupervisor(max_restarts=100_000, max_children=20)

    async def child(self, init, stop, *, task_status):
        await trio.sleep(self.dice.choice([0, 0, 1]) if init == "slow" else 0)
        if init == "fails" or (init == "unsteady" and self.dice.random() < 0.5):
            raise Refused
        if init == "declines":
            raise Ignore
        await self.live(current_process(), stop, task_status)

    async def live(self, me, stop, task_status):
        self.alive.add(me)
        try:
            task_status.started()
            await trio.sleep(self.dice.choice([1, 2, 30]))
            if self.dice.random() < 0.5:
                raise Boom
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(stop)
            self.alive.remove(me)

    def spec(self):
        choice = self.dice.choice
        init = choice(["plain", "plain", "slow", "fails", "unsteady", "declines"])
        return ChildSpec(
            self.child,
            init,
            choice([0, 0, 1]),
            restart=choice(["permanent", "transient", "temporary"]),
            backoff=choice([None, Backoff(1)]),
            start_timeout=choice([None, 0.5]),
        )

    async def starting(self):
        with suppress(StartFailed, MaxChildren):
            self.known.append(await self.sup.start_child(self.spec()))

    async def ending(self):
        process = self.dice.choice(self.known)
        with suppress(UnknownChild, NotRunning):
            match self.dice.choice(["terminate", "terminate", "kill", "stop"]):
                case "terminate":
                    await self.sup.terminate_child(process)
                case "kill":
                    process.kill()
                case "stop":
                    await process.stop()

    async def some(self):
        """Ask for something, and perhaps leave before it is done."""
        with trio.move_on_after(self.dice.choice([0, 0.5, 9])):
            await self.dice.choice([self.starting, self.starting, self.ending])()

    def check(self):
        there = {info.process: info.status for info in self.sup.children}
        up = {p for p, status in there.items() if status in ("running", "stopping")}
        down = {p for p, status in there.items() if status == "restarting"}
        assert not self.alive & down
        assert self.alive <= there.keys()
        assert len(self.sup.children) == len(there) <= 20
        assert {info.process for info in observe(self.sup).children} == there.keys()
        return len(up)


@pytest.mark.conforms("DSUP-071")
@pytest.mark.parametrize("seed", range(12))
async def test_counts_never_drift(autojump_clock, seed):
    """Whatever starts, falls and stops, the children are those that run, at each quiet moment."""
    storm, most = Storm(seed), 0
    async with storm.sup:
        for _ in range(60):
            async with trio.open_nursery() as nursery:
                for _ in range(storm.dice.randrange(12)):
                    nursery.start_soon(storm.some)
            await trio.sleep(storm.dice.choice([0, 0.25, 1]))
            await wait_all_tasks_blocked()
            most = max(most, storm.check())
    assert (storm.alive, storm.sup.children) == (set(), ())
    assert most > 10


def leaves_a_moment(sup, seen):
    async def child(big):
        await trio.lowlevel.checkpoint()

    return sup.start_child(ChildSpec(child, seen(), id="x", restart="temporary"))


def crashes(sup, seen):
    async def child(big):
        raise Boom

    return sup.start_child(ChildSpec(child, seen(), id="x", restart="temporary"))


def declines(sup, seen):
    async def child(big, *, task_status):
        raise Ignore

    return sup.start_child(ChildSpec(child, seen(), id="x"))


def fails(sup, seen):
    async def child(big, *, task_status):
        raise Boom

    return sup.start_child(ChildSpec(child, seen(), id="x", start_timeout=99))


async def is_terminated(sup, seen):
    agent = await sup.start_child(Agent(lambda: 1, name="x"))
    await agent.update(lambda _, big: big, seen())
    await sup.terminate_child(agent)


async def is_abandoned(sup, seen):
    with trio.move_on_after(0):
        await sup.start_child(ChildSpec(lambda big: trio.sleep_forever(), seen(), id="x"))


async def is_restarted_and_terminated(sup, seen):
    child = await sup.start_child(ChildSpec(lambda big: trio.sleep_forever(), seen(), id="x"))
    child.kill()
    await trio.sleep(1)  # the budget forgets it
    assert child.status == "running"
    await sup.terminate_child(child)


def pinning(kind):
    """Say whether a thing of this type may hold on to a child, or be what is left of one."""
    ours = kind.__module__.startswith(("trio_otp", __name__))
    return ours or kind in (trio.lowlevel.Task, FrameType, CoroutineType, TracebackType)


class Big:
    """What a child was started with."""


KINDS = [
    leaves_a_moment, crashes, declines, fails, is_terminated, is_abandoned,
    is_restarted_and_terminated,
]  # fmt: skip


@pytest.mark.conforms("DSUP-051", "CASE-88")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_leaves_nothing_behind(autojump_clock, no_collector, kind):
    """Of children that are gone nothing is left, arguments included, without the collector."""
    refs, counts = [], []

    def seen():
        refs.append(weakref.ref(big := Big()))
        return big

    async with DynamicSupervisor(max_restarts=9, max_seconds=0.1) as sup:
        for times in (50, 200):
            for _ in range(times):
                with suppress(StartFailed):
                    await kind(sup, seen)
            await trio.sleep(0.1)
            assert sup.children == ()
            counts.append(Counter(filter(pinning, map(type, gc.get_objects()))))
        assert [ref for ref in refs if ref() is not None] == []
        assert counts[0] == counts[1]


def calls_for(count):
    """Count the calls of functions that so many children take to start, to end, and to be stopped."""

    async def main():
        async with DynamicSupervisor() as sup:
            async with trio.open_nursery() as nursery:
                for number in range(count):
                    spec = ChildSpec(trio.sleep, number % 2 and 999, id=0, restart="temporary")
                    nursery.start_soon(sup.start_child, spec)
            await trio.sleep(0.01)
            assert len(sup.children) == count // 2

    calls = Counter()
    before = sys.getprofile()
    sys.setprofile(lambda _frame, event, _arg: calls.update([event == "call"]))
    try:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        sys.setprofile(before)
    return calls[True]


def test_not_quadratic():
    """Five times as many children take about five times as many calls, not twenty-five times."""
    assert calls_for(500) < 7 * calls_for(100)
