"""Results of tasks: of many at once, and of those that are shut down."""

import math

import pytest
import trio
import trio.testing
from outcome import Error, Value
from trio.testing import wait_all_tasks_blocked

from trio_otp import Exited, ExitProcess, Supervisor, Task, TaskSupervisor, TimedOut, trap_exit


async def after(seconds, value=None):
    await trio.sleep(seconds)
    if isinstance(value, BaseException):
        raise value
    return value


@pytest.fixture
async def tasks():
    async with TaskSupervisor() as supervisor:
        yield supervisor
        await supervisor.stop()


def start(tasks, *jobs):
    return [tasks.async_nolink(after, *job) for job in jobs]


def told(result):
    """Write a result as a short word."""
    match result:
        case Value(value):
            return value
        case Error(Exited() as gone):
            return gone.exit.reason
        case Error(error):
            return type(error).__name__
        case None:
            return None


# --- await_many ------------------------------------------------------------------------------


@pytest.mark.conforms("TASK-055", "TASK-056")
async def test_values_in_the_given_order(autojump_clock, tasks):
    """The values come in the order of the tasks, whoever was first."""
    assert await Task.await_many(start(tasks, (3, "a"), (1, "b"), (2, "c"))) == ["a", "b", "c"]
    assert trio.current_time() == 3


@pytest.mark.parametrize("many", [Task.await_many, Task.yield_many])
async def test_each_is_looked_at_when_it_ends(autojump_clock, tasks, many, monkeypatch):
    """Waiting for a thousand that end one by one costs a few looks at each, not a thousand."""
    looks, is_over = [], Task._is_over

    def look(task):
        looks.append(task)
        return is_over(task)

    waited = start(tasks, *((i, i) for i in range(1000)))
    monkeypatch.setattr(Task, "_is_over", look)
    results = await many(waited, timeout=None)
    assert len(results) == 1000
    assert len(looks) < 10 * 1000


async def test_one_that_only_becomes_ready_is_waited_for(autojump_clock, nursery):
    """A task that says during the wait that it has started is waited for all the same."""

    async def slow_start(*, task_status):
        await trio.sleep(1)
        task_status.started()
        await trio.sleep(1)
        return "done"

    task = Task(slow_start)
    nursery.start_soon(task.run)
    await wait_all_tasks_blocked()
    assert await Task.await_many([task]) == ["done"]
    assert trio.current_time() == 2


async def test_one_that_runs_again_is_waited_for_again(autojump_clock, tasks):
    """A task that had ended, and runs again since its group was restarted, has no result any more."""
    runs = []

    async def answer():
        runs.append(1)
        await trio.sleep(10)
        return len(runs)

    naps = iter([12, math.inf])

    async def crash_once():
        await trio.sleep(next(naps))
        raise ValueError

    again = Task(answer, restart="transient")
    async with Supervisor([again, crash_once], strategy="one_for_all"):
        other = tasks.async_nolink(after, 15, "other")
        assert await Task.await_many([again, other], timeout=None) == [2, "other"]
        assert trio.current_time() == 22


@pytest.mark.conforms("TASK-057")
async def test_none_to_wait_for():
    """An empty list is answered at once, with a checkpoint."""
    with trio.testing.assert_checkpoints():
        assert await Task.await_many([], timeout=None) == []
    with trio.testing.assert_checkpoints():
        assert await Task.yield_many([], timeout=None) == []


@pytest.mark.conforms("TASK-060")
async def test_one_limit_for_all(autojump_clock, tasks):
    """The limit is for the whole list; who is missing is named, and goes on."""
    many = start(tasks, (0.3, 1), (0.6, 2), (0.9, 3))
    with pytest.raises(TimedOut, match=r"within 0\.5 s"):
        await Task.await_many(many, timeout=0.5)
    assert trio.current_time() == 0.5
    assert await Task.await_many(many) == [1, 2, 3]


@pytest.mark.conforms("TASK-063", "TASK-064", "TASK-066")
async def test_first_failure_ends_the_wait(autojump_clock, tasks, caplog):
    """A failure is raised at once, bare; the others are not touched."""
    slow, failing = start(tasks, (3, "slow"), (1, ValueError("oops")))
    with pytest.raises(ValueError, match="oops"):
        await Task.await_many([slow, failing])
    assert (trio.current_time(), slow.status) == (1, "running")
    assert await slow == "slow"
    assert not caplog.records


@pytest.mark.conforms("TASK-062")
async def test_normal_exit_is_no_answer(autojump_clock, tasks):
    """A task that ended itself normally has no value to give: Exited."""
    many = start(tasks, (3, "slow"), (1, ExitProcess("normal")))
    with pytest.raises(Exited) as caught:
        await Task.await_many(many)
    assert caught.value.exit.reason == "normal"
    assert trio.current_time() == 1


@pytest.mark.conforms("TASK-071")
async def test_task_given_twice(autojump_clock, tasks):
    """The same task twice gives its value twice."""
    (task,) = start(tasks, (1, "x"))
    assert await Task.await_many([task, task]) == ["x", "x"]
    assert await Task.yield_many([task, task]) == [(task, Value("x"))] * 2


# --- yield_many ------------------------------------------------------------------------------


@pytest.mark.conforms("TASK-083", "TASK-085", "TASK-088", "TASK-091")
async def test_mixed_results(autojump_clock, tasks):
    """Values, failures and what is not there yet stand side by side, in the given order."""
    many = start(tasks, (1, "a"), (1, ValueError()), (1, ExitProcess("normal")), (9, "late"))
    results = await Task.yield_many(many)
    assert [task for task, _ in results] == many
    assert [told(result) for _, result in results] == ["a", "ValueError", "normal", None]
    assert trio.current_time() == 5
    assert await many[3] == "late"


@pytest.mark.conforms("TASK-086")
async def test_late_ones_are_killed(autojump_clock, tasks):
    """With kill_task those that are late have ended when the call comes back."""
    many = start(tasks, (1, "a"), (9, "late"))
    results = await Task.yield_many(many, timeout=2, on_timeout="kill_task")
    assert [told(result) for _, result in results] == ["a", None]
    assert (many[1].status, many[1].last_exit.reason) == ("stopped", "killed")


@pytest.mark.conforms("TASK-087")
async def test_late_ones_are_let_go(autojump_clock, nursery):
    """With ignore those that are late are unlinked, and go on."""
    task = Task.async_(nursery, after, 9, ValueError("nobody cares"))
    assert await Task.yield_many([task], timeout=2, on_timeout="ignore") == [(task, None)]
    assert (await task.wait()).reason == "crashed"  # and the nursery lives


@pytest.mark.conforms("TASK-092", "TASK-093", "TASK-094")
@pytest.mark.parametrize("on_timeout", ["nothing", "ignore", "kill_task"])
@pytest.mark.parametrize(("limit", "at", "got"), [(1, 1, 1), (2, 2, 2), (3, 3, 3), (99, 3, 3)])
async def test_enough_of_them(autojump_clock, tasks, limit, at, got, on_timeout):
    """It comes back when so many have ended; the others are not touched, for that is no time-out."""
    many = start(tasks, (3, "c"), (1, "a"), (2, ValueError()))
    results = await Task.yield_many(many, limit=limit, on_timeout=on_timeout)
    assert trio.current_time() == at
    assert sum(result is not None for _, result in results) == got
    await trio.sleep(3)
    assert [told(await task.yield_()) for task in many] == ["c", "a", "ValueError"]


@pytest.mark.conforms("TASK-095")
@pytest.mark.parametrize("timeout", [None, math.inf])
async def test_no_limit(autojump_clock, tasks, timeout):
    """Without a limit all are waited for."""
    results = await Task.yield_many(start(tasks, (100, 1), (200, 2)), timeout=timeout)
    assert [told(result) for _, result in results] == [1, 2]


@pytest.mark.conforms("TASK-096")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"limit": 0}, ValueError, "limit must be at least 1, got 0"),
        ({"limit": 1.5}, TypeError, "limit must be a whole number, got 1.5"),
        ({"on_timeout": "stop"}, ValueError, "on_timeout must be one of"),
        ({"timeout": -1}, ValueError, "timeout must not be negative"),
    ],
)
async def test_bad_options(tasks, options, error, message):
    """Wrong options are refused before anything is waited for."""
    with pytest.raises(error, match=message):
        await Task.yield_many(start(tasks, (1, 1)), **options)


# --- shutdown --------------------------------------------------------------------------------


async def trapping(reaction):
    with trap_exit() as exiting:
        await exiting.wait()
        return await reaction()


async def leave(*reason):
    raise ExitProcess(*reason)


async def answer():
    return "answer"


async def fail():
    raise ValueError("oops")


async def linger():
    await trio.sleep(100)


@pytest.mark.conforms("TASK-106", "TASK-110", "TASK-118")
@pytest.mark.parametrize("timeout", [5.0, 0, None, "brutal_kill"])
async def test_running_task_is_stopped(autojump_clock, nursery, timeout):
    """A running task is gone when shutdown comes back, with None; its scope does not feel it."""
    task = Task.async_(nursery, trio.sleep_forever)
    await wait_all_tasks_blocked()
    assert await task.shutdown(timeout=timeout) is None
    assert task.last_exit.reason == ("killed" if timeout == "brutal_kill" else "shutdown")
    assert trio.current_time() == 0


@pytest.mark.conforms("TASK-109", "TASK-120", "TASK-121")
@pytest.mark.parametrize(
    ("reaction", "result"),
    [
        (answer, "answer"),
        (lambda: leave("normal"), "normal"),
        (lambda: leave("shutdown"), None),
        (lambda: leave("shutdown", "why"), "shutdown"),
        (fail, "ValueError"),
        (linger, "killed"),
    ],
)
async def test_trapping_task_chooses(autojump_clock, tasks, reaction, result):
    """A task that traps exits ends in its own way, or is killed when its time is over."""
    task = tasks.async_nolink(trapping, reaction)
    await wait_all_tasks_blocked()
    assert told(await task.shutdown(timeout=3)) == result
    assert trio.current_time() == (3 if reaction is linger else 0)


@pytest.mark.conforms("TASK-118")
async def test_brutal_kill_asks_nobody(autojump_clock, tasks):
    """brutal_kill does not ask a task that traps exits either."""
    task = tasks.async_nolink(trapping, answer)
    await wait_all_tasks_blocked()
    assert await task.shutdown(timeout="brutal_kill") is None


@pytest.mark.conforms(
    "TASK-108", "TASK-111", "TASK-112", "TASK-113", "TASK-114", "TASK-125", "TASK-126",
    "TASK-127", "TASK-128", "TASK-129", "TASK-130",
)  # fmt: skip
@pytest.mark.parametrize(
    ("body", "end", "asked", "brutal"),
    [
        (answer, None, "answer", "answer"),
        (fail, None, "ValueError", "ValueError"),
        (lambda: leave("normal"), None, "normal", "normal"),
        (lambda: leave("shutdown"), None, None, "shutdown"),
        (trio.sleep_forever, "stop", None, "shutdown"),
        (trio.sleep_forever, "kill", "killed", None),
        (lambda: trapping(answer), "stop", "answer", "answer"),
    ],
)
async def test_task_that_had_ended(autojump_clock, tasks, caplog, body, end, asked, brutal):
    """What an ended task gives: its value above all; an end of the kind that was asked for is None."""
    caplog.set_level("CRITICAL", "trio_otp")
    task = tasks.async_nolink(body)
    await wait_all_tasks_blocked()
    if end == "stop":
        await task.stop()
    elif end == "kill":
        task.kill()
    await task.wait()
    for _ in range(2):
        assert told(await task.shutdown()) == asked
        assert told(await task.shutdown(timeout="brutal_kill")) == brutal


@pytest.mark.conforms("TASK-123")
@pytest.mark.parametrize("body", [trio.sleep_forever, lambda: trapping(linger)])
async def test_caller_that_is_cancelled(autojump_clock, tasks, body):
    """Who is cancelled in shutdown has asked already: the task ends all the same."""
    task = tasks.async_nolink(body)
    await wait_all_tasks_blocked()
    with trio.move_on_after(1):
        await task.shutdown(timeout=3)
    await task.wait()
    assert trio.current_time() == (0 if body is trio.sleep_forever else 3)


@pytest.mark.conforms("TASK-105")
async def test_shutdown_after_ignore(autojump_clock, nursery):
    """An ignored task can still be stopped."""
    task = Task.async_(nursery, trio.sleep_forever)
    assert task.ignore() is None
    assert await task.shutdown() is None
    assert task.status == "stopped"
