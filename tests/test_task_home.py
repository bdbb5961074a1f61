"""Task in each of its homes: a block, a nursery, a supervisor; and what a subclass may not do."""

from types import SimpleNamespace

import pytest
import trio
from outcome import Value
from trio.testing import wait_all_tasks_blocked

from helpers_task import attempt, fate, killed, later, raises, returns, told
from trio_otp import (
    Agent,
    AlreadyRunning,
    ExitProcess,
    StartFailed,
    Supervisor,
    Task,
    TaskSupervisor,
)

# --- block and nursery -----------------------------------------------------------------


async def test_block_stops_what_still_runs(autojump_clock):
    """Leaving the block of a task stops it, and its cleanup runs before the block is left."""
    steps = []

    async def body():
        try:
            await trio.sleep_forever()
        finally:
            steps.append("cleaned up")

    async with Task(body) as task:
        await wait_all_tasks_blocked()
        assert task.status == "running"
    assert (steps, task.last_exit.reason) == (["cleaned up"], "shutdown")


async def test_block_goes_on_after_a_normal_end(autojump_clock):
    """A task that returns leaves the body of its block running, with the result at hand."""
    async with Task(later, 1, "value") as task:
        await trio.sleep(2)
        assert await task == "value"
    assert trio.current_time() == 2


@pytest.mark.parametrize(("body", "told_by"), [(raises, ValueError), (killed, ("killed", None))])
async def test_failing_task_cancels_its_block(autojump_clock, body, told_by):
    """A task that fails or is killed cancels the body and leaves the block as one bare error."""
    with pytest.raises(Exception) as caught:
        async with Task(body):
            await trio.sleep(100)
    assert told(caught.value) == told_by
    assert trio.current_time() == 0


@pytest.mark.parametrize("body", [raises, killed])
async def test_failure_in_a_nursery(autojump_clock, body):
    """`nursery.start(task.run)` gives the handle; a failure fails the nursery."""

    async def owner(nursery):
        task = Task(body)
        assert await nursery.start(task.run) is task
        await trio.sleep(100)

    assert told(await fate(owner)) == (ValueError if body is raises else ("killed", None))


@pytest.mark.parametrize("how", ["start", "start_soon"])
async def test_result_in_a_nursery(autojump_clock, nursery, how):
    """A task in a nursery is awaited as any other, and may run again when it has ended."""
    task = Task(later, 1)
    for _ in range(2):
        await nursery.start(task.run) if how == "start" else nursery.start_soon(task.run)
        await wait_all_tasks_blocked()
        assert (await task, task.status) == ("late", "stopped")
    assert trio.current_time() == 2


async def test_one_home_at_a_time(autojump_clock, nursery):
    """A task that has a home is refused by another one, and not hurt by it."""
    async with Task(later, 1) as task:
        with pytest.raises(AlreadyRunning, match="has a home already"):
            await nursery.start(task.run)
        with pytest.raises(AlreadyRunning, match="has a home already"):
            async with task:
                pytest.fail("not reached")
        assert await task == "late"


async def test_function_that_says_when_it_is_ready(autojump_clock, nursery):
    """A function with `task_status` is ready when it says so, or its start has failed."""

    async def slow_start(word, *, task_status):
        await trio.sleep(1)
        task_status.started()
        await trio.sleep(1)
        return word

    async def never_ready(*, task_status):
        await trio.sleep(1)

    task = Task(slow_start, "done")
    await nursery.start(task.run)
    assert (trio.current_time(), await task) == (1, "done")
    with pytest.raises(StartFailed, match="before it was ready"):
        async with Task(never_ready):
            pytest.fail("not reached")


# --- supervised --------------------------------------------------------------------------


async def test_restarted_task_is_awaited_to_the_end(autojump_clock, caplog):
    """Who awaits a task that is restarted gets its last result; each crash before is logged."""
    runs = []

    async def body():
        runs.append(trio.current_time())
        await trio.sleep(1)
        if len(runs) < 3:
            raise ValueError(f"run {len(runs)}")
        return "third"

    task = Task(body, name="worker", restart="transient")
    async with Supervisor([task], name="top"):
        assert await task.yield_(timeout=1.5) is None
        assert await task == "third"
    assert runs == [0, 1, 2]
    assert caplog.messages == [f"top/worker crashed: ValueError: run {number}" for number in (1, 2)]


async def test_awaited_child_is_not_logged(autojump_clock, caplog):
    """The error of a temporary child goes to its waiter, and to nobody else."""

    async def failing():
        await trio.sleep(1)
        raise ValueError

    task = Task(failing)
    async with Supervisor() as supervisor:
        await supervisor.start_child(task)
        assert type(await attempt(task)) is ValueError
    assert caplog.messages == []


async def test_spent_task_is_no_child(autojump_clock):
    """A task that has had its only life is refused as a child."""
    with pytest.raises(RuntimeError, match="has had its only life"):
        async with Supervisor([Task.completed(1)]):
            pytest.fail("not reached")


# --- handles that were used ----------------------------------------------------------------


@pytest.mark.conforms("TASK-119", "TASK-132", "CASE-02")
@pytest.mark.parametrize("timeout", [5, "brutal_kill"])
async def test_shutdown_after_the_result(autojump_clock, nursery, timeout):
    """Shutting down a task whose result was taken gives that result again, at once."""
    task = Task.async_(nursery, returns)
    assert await task == "value"
    for _ in range(2):
        assert await task.shutdown(timeout=timeout) == Value("value")
        assert (await task.stop()).reason == "normal"


@pytest.mark.conforms("TASK-061")
async def test_handles_after_a_time_out_of_many(autojump_clock, nursery):
    """After `await_many` ran out of time, what had come in and what comes later is there."""
    quick, slow = Task.async_(nursery, later, 1, "q"), Task.async_(nursery, later, 3, "s")
    assert type(await attempt(Task.await_many([quick, slow], timeout=2))) is not list
    assert await quick.await_(timeout=0) == "q"
    assert await slow == "s"


async def test_kill_task_kills_all_before_it_waits(autojump_clock):
    """Late tasks clean up side by side, and all of them end even if the caller is cancelled."""

    async def slow_to_leave():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    async with TaskSupervisor() as sup:
        tasks = [sup.async_nolink(slow_to_leave) for _ in range(3)]
        late = [tasks[0], *tasks]
        results = await Task.yield_many(late, timeout=2, on_timeout="kill_task")
        assert [result for _, result in results] == [None] * 4
        assert trio.current_time() == 3
        tasks = [sup.async_nolink(slow_to_leave) for _ in range(3)]
        with trio.move_on_after(0.5):
            await Task.yield_many(tasks, timeout=0.1, on_timeout="kill_task")
    assert [task.last_exit.reason for task in tasks] == ["killed"] * 3


async def test_failure_while_being_shut_down_is_not_logged(autojump_clock, caplog):
    """An error in the cleanup of a task that is shut down is the result, not a log entry."""

    async def failing_cleanup():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("cleanup")

    async def owner(nursery):
        task = Task.async_(nursery, failing_cleanup)
        await wait_all_tasks_blocked()
        return await task.shutdown()

    assert told(await fate(owner)) is ValueError
    assert caplog.messages == []


# --- subclasses and bad input --------------------------------------------------------------


@pytest.mark.parametrize("name", ["run", "stop", "status", "await_", "ring", "_settle"])
def test_hidden_names_are_refused(name):
    """A subclass that hides a name of ours, itself or by a mixin, is refused with that name."""
    with pytest.raises(TypeError, match=rf"Own\.{name} hides \w+\.{name}"):
        type("Own", (Task,), {name: None})
    mixin = type("Mixin", (), {name: None})
    with pytest.raises(TypeError, match=rf"Mixin\.{name} hides \w+\.{name}"):
        type("Own", (mixin, Task), {})
    type("Harmless", (Task, mixin), {})


@pytest.mark.parametrize("name", ["name", "_home", "_args"])
def test_hidden_fields_are_refused(name):
    """A subclass whose methods assign to a field of ours is refused with the method and the field."""
    source = f"def __init__(self, x):\n other = x\n self.mine = other.{name} = 1\n self.{name} = x"
    exec(source, space := {})
    with pytest.raises(TypeError, match=rf"__init__ sets self\.{name}, which hides \w+\.{name}"):
        type("Own", (Task,), space)


def test_fields_of_others_may_be_set():
    """What a method assigns to something else, or to fields of its own, is its own affair."""

    class Own(Task):
        def __init__(self, other):
            super().__init__()
            self.mine = self._mine = 1
            other._home = 2

        async def main(self):
            return self.mine

    assert Own(SimpleNamespace()).mine == 1


async def test_forgotten_super_init():
    """A subclass that forgets our __init__ is told so wherever it is used first."""

    class Forgetful(Agent):
        def __init__(self):
            self.mine = 1

    for use in (repr, Forgetful.child_spec, Forgetful.kill, lambda it: it.name):
        with pytest.raises(RuntimeError, match=r"Forgetful\.__init__ must call super\(\).__init__"):
            use(Forgetful())
    with pytest.raises(RuntimeError, match="must call super"):
        async with Forgetful():
            pass
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = Forgetful().missing


async def test_main_of_a_mixin(autojump_clock, nursery):
    """The work itself may come from a mixin, and a subclass is named after its class."""

    class Work:
        async def main(self):
            return type(self).__name__

    class Worker(Work, Task):
        pass

    worker = Worker()
    await nursery.start(worker.run)
    assert (worker.name.endswith("Worker"), await worker) == (True, "Worker")


async def test_main_that_is_not_async(autojump_clock):
    """A `main` that is a plain function is told apart from a failing one."""

    class Plain(Task):
        def main(self):
            return 3

    with pytest.raises(TypeError, match=r"must be an async function, but .*main returned 3"):
        async with Plain():
            await trio.sleep_forever()


def test_bad_construction():
    """Wrong arguments of a Task raise at construction, and say what is wrong."""

    class Worker(Task):
        async def main(self): ...

    wrong = [
        (lambda: Task(), "needs a function, or a subclass with an async def main"),
        (lambda: Task(3), "fn must be a function, got 3"),
        (lambda: Task(returns()), "got the coroutine object"),
        (lambda: Task(later), "later cannot be called so: missing.*seconds"),
        (lambda: Task(later, 1, 2, 3), "later cannot be called so: too many"),
        (lambda: Task(returns, name=3), "name must be a string or None, got 3"),
        (lambda: Task(returns, shutdown=True), "shutdown must be a number of seconds"),
        (lambda: Worker(returns), r"has a main\(\): it takes no function"),
        (lambda: Worker(None, 1), "main takes no arguments"),
    ]
    for make, message in wrong:
        with pytest.raises(TypeError, match=message):
            make()
    for options in ({"restart": "always"}, {"shutdown": -1}, {"shutdown": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Task(returns, **options)


@pytest.mark.conforms("TASK-005")
@pytest.mark.parametrize("start", [Task.async_, Task.start_link])
async def test_bad_start(autojump_clock, nursery, start):
    """A start with a wrong nursery, function or name is refused, and leaves no coroutine behind."""
    wrong = [
        ((None, returns), {}, "nursery must be a trio.Nursery, got None"),
        ((nursery, None), {}, "fn must be a function, got None"),
        ((nursery, returns()), {}, "got the coroutine object"),
        ((nursery, returns), {"name": 3}, "name must be a string or None, got 3"),
    ]
    for args, options, message in wrong:
        with pytest.raises(TypeError, match=message):
            start(*args, **options)
    async with trio.open_nursery() as closed:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        start(closed, returns)
    assert not nursery.child_tasks


@pytest.mark.parametrize("many", [Task.await_many, Task.yield_many])
async def test_bad_lists(many):
    """What is no task among many is named before anything is waited for."""
    with pytest.raises(TypeError, match="iterable of Tasks, it holds 3"):
        await many([Task.completed(1), 3])
    with pytest.raises(TypeError, match="not iterable"):
        await many(Task.completed(1))


def test_bad_exit_reasons():
    """`ExitProcess` takes the two reasons that a process may end itself with."""
    with pytest.raises(ValueError, match="reason must be 'normal' or 'shutdown', got 'killed'"):
        ExitProcess("killed")
