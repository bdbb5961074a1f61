"""Task: waiting for a result, by `await`, `await_`, `yield_` and `ignore`."""

import logging
import math
import random

import pytest
import trio
from outcome import Value
from trio.testing import wait_all_tasks_blocked

from helpers_task import (
    BAD_LIMITS,
    ENDINGS,
    FAILURES,
    LINKED_FAILURES,
    QUIET,
    attempt,
    ended,
    exit_normal,
    fate,
    killed,
    later,
    raises,
    returns,
    told,
)
from trio_otp import CalledItself, Exited, Task, TaskSupervisor, TimedOut, current_process


@pytest.fixture
async def sup():
    async with TaskSupervisor(name="sup") as sup:
        yield sup
        await sup.stop()


async def seconds(asking):
    before = trio.current_time()
    answer = await attempt(asking)
    return answer, trio.current_time() - before


# --- await -----------------------------------------------------------------------------


@pytest.mark.conforms("TASK-013", "TASK-014", "TASK-034", "TASK-043", "TASK-045", "TASK-048")
@pytest.mark.parametrize("body", ENDINGS, ids=lambda body: body.__name__)
async def test_isolated_task(autojump_clock, sup, body):
    """An isolated task gives its value, its own bare error, or `Exited` with the reason."""
    task = sup.async_nolink(body)
    for _ in range(3):
        assert told(await attempt(task)) == ENDINGS[body]
    assert sup.status == "running"


@pytest.mark.conforms("TASK-046", "TASK-047")
async def test_what_does_not_exist(autojump_clock, sup):
    """A missing module or function in the body is an error like any other."""

    async def of_a_missing_module():
        import no_such_module  # noqa: F401

    async def of_a_missing_function():
        trio.no_such_function()

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        await sup.async_nolink(of_a_missing_module)
    with pytest.raises(AttributeError, match="no_such_function"):
        await sup.async_nolink(of_a_missing_function)


@pytest.mark.conforms("TASK-034")
@pytest.mark.parametrize("limit", [None, math.inf, 100])
async def test_long_limits(autojump_clock, nursery, limit):
    """A limit of none, infinity or enough lets a slow task answer."""
    assert await Task.async_(nursery, later, 50).await_(timeout=limit) == "late"


@pytest.mark.conforms("TASK-034", "TASK-035", "TASK-073", "REVIEW-9")
async def test_five_seconds(autojump_clock, nursery):
    """`await_` and `yield_` wait five seconds by default, a bare `await` without a limit."""
    task = Task.async_(nursery, later, 60)
    error, took = await seconds(task.await_())
    assert (type(error), took) == (TimedOut, 5)
    assert await seconds(task.yield_()) == (None, 5)
    assert await seconds(task) == ("late", 50)


@pytest.mark.conforms("TASK-035")
async def test_time_is_up(autojump_clock, nursery):
    """Passing the limit raises `TimedOut`, which names task and limit, and is Trio's error too."""
    task = Task.async_(nursery, later, 60, name="slow")
    with pytest.raises(TimedOut, match=r"'slow' has no result within 2\.5 s") as caught:
        await task.await_(timeout=2.5)
    assert caught.value.process is task
    assert isinstance(caught.value, trio.TooSlowError)
    assert trio.current_time() == 2.5
    task.ignore()
    task.kill()


@pytest.mark.conforms("TASK-036")
@pytest.mark.parametrize("supervised", [False, True])
async def test_time_is_up_and_nobody_catches_it(autojump_clock, sup, supervised):
    """An owner that dies of the limit takes its linked task along."""
    tasks = []

    async def owner(nursery):
        start = sup.async_ if supervised else Task.async_
        tasks.append(start(nursery, trio.sleep_forever))
        await tasks[0].await_(timeout=1)

    assert type(await fate(owner)) is TimedOut
    assert (tasks[0].status, tasks[0].last_exit.reason) == ("stopped", "shutdown")


@pytest.mark.conforms("TASK-037")
async def test_time_is_up_for_an_isolated_task(autojump_clock, sup):
    """An isolated task goes on when its asker dies of the limit."""
    tasks = []

    async def owner(_nursery):
        tasks.append(sup.async_nolink(later, 3))
        await tasks[0].await_(timeout=1)

    assert type(await fate(owner)) is TimedOut
    assert await seconds(tasks[0]) == ("late", 2)


@pytest.mark.conforms("TASK-038", "TASK-041")
async def test_time_is_up_and_caught(autojump_clock, nursery):
    """A caught time-out leaves the task running; it may be asked again, also twice."""
    task = Task.async_(nursery, later, 3)
    assert type(await attempt(task.await_(timeout=1))) is TimedOut
    assert task.status == "running"
    assert await seconds(task) == ("late", 2)
    assert await seconds(task) == ("late", 0)


@pytest.mark.conforms("TASK-040")
async def test_limit_of_zero(autojump_clock, nursery):
    """A limit of 0 gives what is there, and at once says that nothing is."""
    task = Task.async_(nursery, later, 1)
    error, took = await seconds(task.await_(timeout=0))
    assert (type(error), took) == (TimedOut, 0)
    await trio.sleep(2)
    assert await task.await_(timeout=0) == "late"


@pytest.mark.conforms("TASK-040", "TASK-072", "CASE-01")
async def test_result_and_limit_in_the_same_tick(autojump_clock, sup):
    """At the moment the time is up, a result that is there is given, and none gets lost."""
    for seed in range(300):
        dice, done = random.Random(seed), []

        async def body():
            await trio.sleep(1)
            for _ in range(dice.randrange(4)):
                await trio.lowlevel.checkpoint()
            done.append("done")
            return 42

        task = sup.async_nolink(body)
        match dice.randrange(3):
            case 0:
                answer = await attempt(task.await_(timeout=1))
                assert told(answer) == 42 or task.status != "stopped", seed
            case 1:
                answer = await task.yield_(timeout=1)
                assert answer == Value(42) or task.status != "stopped", seed
            case 2:
                [(_, answer)] = await Task.yield_many([task], timeout=1)
                assert answer == Value(42) or task.status != "stopped", seed
        if told(answer) != 42:
            answer = await task.shutdown()
        assert (answer == Value(42) or answer == 42) is (done == ["done"]), seed


@pytest.mark.conforms("TASK-042")
@pytest.mark.parametrize(("limit", "error"), BAD_LIMITS)
async def test_bad_limits(autojump_clock, nursery, limit, error):
    """A limit that is none is refused by name, and the task is untouched."""
    task = Task.async_(nursery, returns)
    for ask in (task.await_, task.yield_, task.shutdown):
        # shutdown takes a word as well, so that another one is a wrong value.
        expected = ValueError if ask == task.shutdown and isinstance(limit, str) else error
        with pytest.raises(expected, match="timeout must"):
            await ask(timeout=limit)
    for many in (Task.await_many, Task.yield_many):
        with pytest.raises(error, match="timeout must"):
            await many([task], timeout=limit)
    assert await task == "value"


async def test_waiting_for_oneself(autojump_clock, sup):
    """A task that waits for its own result is told so at once, instead of waiting for ever."""

    async def ask(how):
        return await how(current_process())

    hows = [
        lambda task: task.await_(timeout=None),
        lambda task: task.yield_(),
        lambda task: Task.await_many([Task.completed(1), task]),
        lambda task: Task.yield_many([task]),
    ]
    for how in hows:
        with pytest.raises(CalledItself, match="waits for its own result"):
            await sup.async_nolink(ask, how)
    assert trio.current_time() == 0


async def test_cancelled_wait_leaves_the_task_alone(autojump_clock, nursery):
    """Cancelling a wait, however it waits, ends the wait and not the task."""
    task = Task.async_(nursery, later, 9)
    for how in (task.await_, task.yield_, task.wait, lambda: Task.await_many([task])):
        with trio.move_on_after(1) as scope:
            await how()
        assert scope.cancelled_caught
    assert await task == "late"
    assert trio.current_time() == 9


async def test_every_wait_is_a_checkpoint(autojump_clock):
    """Also when the result is there, asking for it lets others run and can be cancelled."""
    task = Task.completed(1)
    asks = [
        task.await_, task.yield_, task.shutdown, task.wait, task.stop,
        lambda: Task.await_many([task]), lambda: Task.yield_many([task]),
        lambda: Task.await_many([]), lambda: Task.yield_many([]),
    ]  # fmt: skip
    for ask in asks:
        with trio.testing.assert_checkpoints():
            await ask()
        with trio.CancelScope() as scope:
            scope.cancel()
            await ask()
        assert scope.cancelled_caught


@pytest.mark.conforms("TASK-051", "TASK-070", "TASK-078", "TASK-090", "TASK-104", "TASK-117")
async def test_anybody_may_ask(autojump_clock, nursery):
    """A task that did not start another may ask it for its result, in every form."""
    task = Task.async_(nursery, later, 1)

    async def stranger():
        first = await task.yield_()
        [(_, second)] = await Task.yield_many([task])
        shutdown = await task.shutdown()
        return first, second, task.ignore(), shutdown, await Task.await_many([task]), await task

    value = Value("late")
    answers = await Task.async_(nursery, stranger)
    assert answers == (value, value, value, value, ["late"], "late")


# --- yield -----------------------------------------------------------------------------------


@pytest.mark.conforms("TASK-073", "TASK-076", "TASK-079", "TASK-080")
@pytest.mark.parametrize("body", ENDINGS, ids=lambda body: body.__name__)
async def test_yield_to_an_isolated_task(autojump_clock, sup, body):
    """`yield_` gives every end of an isolated task as a value, again and again."""
    task = sup.async_nolink(body)
    for _ in range(2):
        assert told(await task.yield_()) == ENDINGS[body]
    assert trio.current_time() == 0


@pytest.mark.conforms("TASK-076", "TASK-079")
@pytest.mark.parametrize("body", ENDINGS, ids=lambda body: body.__name__)
async def test_yield_to_a_linked_task(autojump_clock, body):
    """Its owner sees a linked task end well or quietly; of a failure it learns by its own end."""
    seen = []

    async def owner(nursery):
        seen.append(told(await Task.async_(nursery, body).yield_()))

    expected = LINKED_FAILURES.get(body)
    assert told(await fate(owner)) == expected
    assert seen == ([QUIET[body]] if body in QUIET else [])


@pytest.mark.conforms("TASK-075", "TASK-080")
async def test_yield_again(autojump_clock, nursery):
    """`yield_` gives None as long as there is nothing, then the result for good."""
    task = Task.async_(nursery, later, 2.5)
    answers = [await task.yield_(timeout=seconds) for seconds in (1, 0, 1, 10, 2)]
    assert answers == [None, None, None, Value("late"), Value("late")]
    assert trio.current_time() == 2.5


@pytest.mark.conforms("TASK-075")
async def test_await_after_a_yield_in_vain(autojump_clock, nursery):
    """After a `yield_` that gave None, `await` gets the result."""
    task = Task.async_(nursery, later, 2)
    assert (await task.yield_(timeout=1), await task) == (None, "late")


@pytest.mark.conforms("TASK-074", "TASK-084", "TASK-107", "TASK-124")
async def test_answer_of_a_killed_task(autojump_clock, sup):
    """A task that was killed, and returned all the same, gives its value in every form."""

    async def stubborn():
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        return "done"

    task = sup.async_nolink(stubborn)
    await wait_all_tasks_blocked()
    task.kill()
    assert await task.yield_() == Value("done")
    assert task.last_exit.reason == "killed"
    assert await Task.yield_many([task]) == [(task, Value("done"))]
    assert await task.shutdown() == await task.shutdown(timeout="brutal_kill") == Value("done")
    assert await task == "done"


@pytest.mark.conforms("TASK-081", "TASK-082")
@pytest.mark.parametrize("body", ENDINGS, ids=lambda body: body.__name__)
async def test_or_chains(autojump_clock, sup, body):
    """Results are true and None is false, so a second way of asking can follow an `or`."""
    task = sup.async_nolink(body)
    await ended(task)
    assert told(await task.yield_(timeout=0) or "nothing") == ENDINGS[body]
    assert bool(await Task.completed(None).yield_())


@pytest.mark.conforms("TASK-081")
async def test_yield_or_shutdown(autojump_clock, nursery):
    """`yield_` or else `shutdown`: the usual way to have an answer or be rid of the task."""
    slow, quick = Task.async_(nursery, later, 9), Task.async_(nursery, later, 1)
    assert (await slow.yield_(timeout=2)) or (await slow.shutdown()) is None
    assert (await quick.yield_(timeout=2)) or (await quick.shutdown()) == Value("late")
    assert trio.current_time() == 2


@pytest.mark.conforms("TASK-082")
async def test_yield_or_ignore(autojump_clock, nursery):
    """`yield_` or else `ignore`: the task goes on, and what it ends with is kept."""
    task = Task.async_(nursery, later, 3)
    assert (await task.yield_(timeout=1) or task.ignore()) is None
    assert await task == "late"


# --- ignore ----------------------------------------------------------------------------------


@pytest.mark.conforms("TASK-097", "TASK-099")
@pytest.mark.parametrize("body", ENDINGS, ids=lambda body: body.__name__)
async def test_ignore_what_has_ended(autojump_clock, sup, body):
    """Ignoring a task that has ended gives its result as a value."""
    task = sup.async_nolink(body)
    await ended(task)
    assert told(task.ignore()) == ENDINGS[body]


@pytest.mark.conforms("TASK-098")
async def test_ignore_what_runs(autojump_clock, nursery):
    """Ignoring a running task gives None, and the task goes on."""
    task = Task.async_(nursery, later, 1)
    assert task.ignore() is None
    await ended(task)
    assert (task.last_exit.reason, trio.current_time()) == ("normal", 1)


@pytest.mark.conforms("TASK-100")
@pytest.mark.parametrize("body", FAILURES, ids=lambda body: body.__name__)
async def test_ignored_failure(autojump_clock, caplog, body):
    """A later failure of an ignored task does not reach its owner; a crash is logged."""

    async def failing_later():
        await trio.sleep(1)
        await body()

    async def owner(nursery):
        task = Task.async_(nursery, failing_later, name="ignored")
        assert task.ignore() is None
        await trio.sleep(2)
        return "unharmed"

    with caplog.at_level(logging.ERROR, "trio_otp"):
        assert await fate(owner) == "unharmed"
    crashes = ["ignored crashed: ValueError: oops"] if body is raises else []
    assert caplog.messages == crashes


@pytest.mark.conforms("TASK-101")
async def test_ignored_task_and_its_nursery(autojump_clock):
    """An ignored task still lives in its nursery: it is waited for, and ends with it."""
    async with trio.open_nursery() as nursery:
        Task.async_(nursery, trio.sleep, 3).ignore()
    assert trio.current_time() == 3
    async with trio.open_nursery() as nursery:
        task = Task.async_(nursery, trio.sleep_forever)
        task.ignore()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert task.last_exit.reason == "shutdown"


async def test_ignoring_a_supervised_task_changes_nothing(autojump_clock, sup):
    """There is no link to cut in an isolated task, which stays where it is."""
    task = sup.async_nolink(later, 1)
    assert task.ignore() is None
    assert [info.process for info in sup.children] == [task]
    assert await task == "late"


# --- what is logged --------------------------------------------------------------------------


@pytest.mark.conforms("CASE-16", "LOG-003")
async def test_awaited_failure_is_not_logged(autojump_clock, sup, caplog):
    """A failure that somebody waits for is theirs alone; one that nobody waits for is logged."""

    async def failing():
        await trio.sleep(1)
        raise ValueError("oops")

    for how in (Task.await_, Task.yield_):
        await attempt(how(sup.async_nolink(failing)))
    await attempt(Task.await_many([sup.async_nolink(failing)]))
    await Task.yield_many([sup.async_nolink(failing)])
    assert caplog.messages == []
    task = sup.async_nolink(failing)
    await task.wait()
    assert caplog.messages == ["sup/" + task.name + " crashed: ValueError: oops"]
    await attempt(task)
    assert len(caplog.messages) == 1


@pytest.mark.conforms("LOG-003")
async def test_failure_whose_waiter_is_cancelled_in_that_moment(autojump_clock, caplog):
    """A failure is never lost: if its waiter is cancelled as it happens, it is logged."""
    for seed in range(100):
        caplog.clear()
        dice = random.Random(seed)

        async def failing():
            await trio.sleep(1)
            for _ in range(dice.randrange(3)):
                await trio.lowlevel.checkpoint()
            raise ValueError("oops")

        async with TaskSupervisor() as sup:
            task = sup.async_nolink(failing, name="failing")
            received = []
            with trio.move_on_after(1):
                received.append(await attempt(task))
        assert len(received) + len(caplog.messages) == 1, seed


@pytest.mark.parametrize("body", [exit_normal, killed])
async def test_exited_of_a_quiet_end(autojump_clock, sup, caplog, body):
    """An end that is no crash is never logged, and `Exited` has no cause."""
    error = await attempt(sup.async_nolink(body))
    assert type(error) is Exited
    assert error.__cause__ is None
    assert caplog.messages == []
