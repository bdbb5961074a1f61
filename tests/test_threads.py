"""Calls from worker threads: what works, what is refused, and what becomes of the thread."""

import logging
import threading
from functools import partial

import pytest
import trio
import trio.testing

from trio_otp import (
    Agent,
    CalledItself,
    DynamicSupervisor,
    Exited,
    GenServer,
    NotRunning,
    Reply,
    StopLate,
    Supervisor,
    Task,
    TaskSupervisor,
    TimedOut,
    current_process,
    subscribe,
)

pytestmark = pytest.mark.real


class Echo(GenServer):
    """A server that gives back what it gets."""

    def init(self):
        return None

    def handle_call(self, request, caller, state):
        return Reply(request, state)


class Bench:
    """One process of each kind, under one supervisor."""

    def __init__(self):
        self.agent = Agent(tuple, name="agent")
        self.server = Echo(name="server")
        self.tasks = TaskSupervisor(name="tasks")
        self.pool = DynamicSupervisor(name="pool")
        self.inner = Supervisor(name="inner")
        self.sup = Supervisor([self.agent, self.server, self.tasks, self.pool, self.inner])


@pytest.fixture
async def bench():
    bench = Bench()
    async with bench.sup:
        bench.task = bench.tasks.async_nolink(trio.sleep_forever)
        yield bench
        bench.task.kill()


def in_thread(fn):
    """Call a function in a thread that Trio does not know; give what it returns or raises."""
    answer = []

    def catch():
        try:
            answer.append(fn())
        except BaseException as error:
            answer.append(error)

    thread = threading.Thread(target=catch)
    thread.start()
    thread.join(10)
    return answer[0]


async def seven():
    return 7


def note(notes, word):
    return (*notes, word)


class Gate:
    """An async function that an agent is held in, until the gate is opened."""

    def __init__(self):
        self.inside = trio.Event()
        self.open = trio.Event()

    async def __call__(self, state):
        self.inside.set()
        await self.open.wait()
        return (*state, "done")


# --- what works ------------------------------------------------------------------------------

ASKED = {
    "get": (lambda b: trio.from_thread.run(b.agent.get, len), 0),
    "update": (lambda b: trio.from_thread.run(b.agent.update, note, "a"), None),
    "apply": (lambda b: trio.from_thread.run(partial(b.agent.apply, len, timeout=1)), 0),
    "call": (lambda b: trio.from_thread.run(b.server.call, "hello"), "hello"),
    "cast": (lambda b: trio.from_thread.run_sync(b.agent.cast, note, "a"), None),
    "count": (lambda b: len(trio.from_thread.run_sync(lambda: b.tasks.children)), 1),
    "task": (
        lambda b: trio.from_thread.run(
            partial(trio.from_thread.run_sync(b.tasks.async_nolink, seven).await_, timeout=None)
        ),
        7,
    ),
    "start_child": (
        lambda b: (
            trio.from_thread.run(trio.from_thread.run_sync(b.tasks.start_child, seven).wait).reason
        ),
        "normal",
    ),
    "stop": (lambda b: trio.from_thread.run(b.inner.stop).reason, "shutdown"),
    "terminate_child": (lambda b: trio.from_thread.run(b.sup.terminate_child, "agent"), None),
    "new child": (
        lambda b: trio.from_thread.run(b.pool.start_child, Agent(int, name="late")).status,
        "running",
    ),
}


@pytest.mark.parametrize("how", ASKED)
async def test_through_trio(bench, how):
    """What is awaited goes by trio.from_thread.run, what is plain by run_sync, with its answer."""
    ask, answer = ASKED[how]
    assert await trio.to_thread.run_sync(ask, bench) == answer


async def test_error_comes_back(bench):
    """An error of the call is raised in the thread: the crash of an agent as Exited from it."""

    def ask():
        with pytest.raises(Exited) as caught:
            trio.from_thread.run(bench.agent.get, lambda notes: notes[9])
        return caught.value.__cause__

    assert isinstance(await trio.to_thread.run_sync(ask), IndexError)
    assert await bench.agent.get() == ()


async def test_linked_task_of_a_thread():
    """A thread may start a task that is linked to the nursery of its caller: a failure fails that."""

    async def fails():
        raise ZeroDivisionError

    def ask(nursery):
        task = trio.from_thread.run_sync(Task.async_, nursery, fails)
        trio.from_thread.run(partial(task.await_, timeout=None))

    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await trio.to_thread.run_sync(ask, nursery)
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


async def test_current_process(bench):
    """In a thread that a process has started, that process is the current one."""

    async def work():
        return await trio.to_thread.run_sync(current_process)

    task = bench.tasks.async_nolink(work)
    assert await task is task


async def test_between_two_lives(bench):
    """A call of a thread waits for the next life, as any call."""

    def ask():
        return trio.from_thread.run_sync(bench.agent.kill), trio.from_thread.run(bench.agent.get)

    assert await trio.to_thread.run_sync(ask) == (None, ())


async def test_thread_that_trio_does_not_know(bench):
    """Any thread may ask that has the token of the run, until the run is over."""
    token = trio.lowlevel.current_trio_token()
    ask = partial(trio.from_thread.run, bench.agent.get, trio_token=token)
    assert await trio.to_thread.run_sync(in_thread, ask) == ()


def test_after_the_run():
    """Afterwards such a thread is told that the run is over."""
    agent = Agent(int)

    async def main():
        async with agent:
            return trio.lowlevel.current_trio_token()

    with pytest.raises(trio.RunFinishedError):
        trio.from_thread.run(agent.get, trio_token=trio.run(main))


# --- what is refused -------------------------------------------------------------------------

PLAIN = {
    "cast": lambda b: b.agent.cast(note, "a"),
    "send": lambda b: b.server.send("a"),
    "send_after": lambda b: b.server.send_after(1, "a"),
    "monitor": lambda b: b.server.monitor(b.agent),
    "start_child": lambda b: b.tasks.start_child(seven),
    "start_child, restarted": lambda b: b.tasks.start_child(seven, restart="transient"),
    "async_nolink": lambda b: b.tasks.async_nolink(seven),
    "async_": lambda b: b.tasks.async_(b.nursery, seven),
    "Task.async_": lambda b: Task.async_(b.nursery, seven),
    "Task.start_link": lambda b: Task.start_link(b.nursery, seven),
    "kill an agent": lambda b: b.agent.kill(),
    "kill a server": lambda b: b.server.kill(),
    "kill a task": lambda b: b.task.kill(),
    "kill a linked task": lambda b: b.linked.kill(),
    "kill a supervisor": lambda b: b.inner.kill(),
}

AWAITED = {
    "get": lambda b: b.agent.get(),
    "call": lambda b: b.server.call(1),
    "wait for an agent": lambda b: b.agent.wait(),
    "wait for a task": lambda b: b.task.wait(),
    "wait for a supervisor": lambda b: b.inner.wait(),
    "stop an agent": lambda b: b.agent.stop(),
    "stop a task": lambda b: b.task.stop(),
    "stop a supervisor": lambda b: b.inner.stop(),
    "start_child": lambda b: b.sup.start_child(Agent(int)),
    "start_child on demand": lambda b: b.pool.start_child(Agent(int)),
    "terminate_child": lambda b: b.sup.terminate_child("agent"),
    "restart_child": lambda b: b.sup.restart_child("agent"),
}


def refused(error):
    return isinstance(error, RuntimeError) and "go through trio.from_thread" in str(error)


async def unharmed(bench):
    assert {child.status for child in bench.sup.children} == {"running"}
    assert [child.process for child in bench.tasks.children] == [bench.task]
    assert bench.task.status == "running"
    assert await bench.agent.get(timeout=1) == ()
    assert await bench.server.call(1, timeout=1) == 1


@pytest.mark.parametrize("how", PLAIN)
async def test_plain_functions(bench, how):
    """What is plain is refused in another thread, with the remedy, and nothing of it is done."""
    async with trio.open_nursery() as bench.nursery:
        bench.linked = Task.async_(bench.nursery, trio.sleep_forever)
        assert refused(in_thread(partial(PLAIN[how], bench)))
        await unharmed(bench)
        assert len(bench.nursery.child_tasks) == 1
        bench.linked.ignore()
        bench.nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", AWAITED)
async def test_another_run(bench, how):
    """What is awaited is refused in a Trio run of another thread, with the remedy, and at once."""

    async def main():
        await AWAITED[how](bench)

    assert refused(in_thread(partial(trio.run, main)))
    await unharmed(bench)


# --- cancellation and ends ---------------------------------------------------------------------


async def test_call_that_is_cancelled(bench):
    """The thread gets Cancelled out of its call; the agent finishes what it has taken up."""
    gate, got = Gate(), []

    def ask():
        try:
            trio.from_thread.run(bench.agent.update, gate)
        except BaseException as error:
            got.append(type(error))
            raise

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, ask)
            await gate.inside.wait()
            scope.cancel()
    assert got == [trio.Cancelled]
    gate.open.set()
    assert await bench.agent.get() == ("done",)


async def test_call_that_times_out(bench):
    """The limit of a call holds for threads as well, and hurts nobody."""
    gate = Gate()

    def ask():
        with pytest.raises(TimedOut):
            trio.from_thread.run(partial(bench.agent.update, gate, timeout=0.01))

    await trio.to_thread.run_sync(ask)
    gate.open.set()
    assert await bench.agent.get() == ("done",)


async def test_agent_that_is_stopped(bench):
    """A thread that waits for an agent gets Exited when that is stopped, and NotRunning later."""
    gate, got = Gate(), []

    def ask():
        for _ in range(2):
            try:
                trio.from_thread.run(bench.agent.update, gate)
            except (Exited, NotRunning) as error:
                got.append(type(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, ask)
        await gate.inside.wait()
        await bench.sup.terminate_child("agent")
    assert got == [Exited, NotRunning]


@pytest.mark.parametrize("how", ["in a call", "between calls"])
async def test_process_of_the_thread_is_stopped(bench, how):
    """A thread learns of it at trio.from_thread, and its process ends in order once it is back."""
    inside, go_on, got = trio.Event(), threading.Event(), []

    def block():
        trio.from_thread.run_sync(inside.set)
        try:
            if how == "in a call":
                trio.from_thread.run(trio.sleep_forever)
            go_on.wait()
            trio.from_thread.check_cancelled()
        except BaseException as error:
            got.append(type(error))
            raise

    task = bench.tasks.async_nolink(trio.to_thread.run_sync, block)
    await inside.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.tasks.terminate_child, task)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert got == [trio.Cancelled]
    assert task.last_exit.reason == "shutdown"


async def test_thread_that_does_not_look(bench, caplog):
    """One that does not come back is waited for; its process is named as late and counts as killed."""
    inside, late, go_on = trio.Event(), trio.Event(), threading.Event()

    def block():
        trio.from_thread.run_sync(inside.set)
        go_on.wait()

    def hear(event):
        if isinstance(event, StopLate):
            late.set()

    task = bench.tasks.async_nolink(trio.to_thread.run_sync, block, shutdown=0.01, name="reader")
    await inside.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.tasks.terminate_child, task)
        with subscribe(hear):
            await late.wait()
        assert task.status == "stopping"
        go_on.set()
    (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert "tasks/reader is late" in record.message
    assert task.last_exit.reason == "killed"


async def test_thread_that_is_abandoned(bench):
    """It goes on alone: its calls are answered until the process is gone, and say so then."""
    inside, go_on, over, got = trio.Event(), threading.Event(), trio.Event(), []

    def ask():
        trio.from_thread.run_sync(inside.set)
        go_on.wait()
        got.append(trio.from_thread.run(bench.agent.get))
        trio.from_thread.run(bench.sup.terminate_child, "agent")
        try:
            trio.from_thread.run(bench.agent.get)
        except NotRunning as error:
            got.append(type(error))
        trio.from_thread.run_sync(over.set)

    task = bench.tasks.async_nolink(partial(trio.to_thread.run_sync, ask, abandon_on_cancel=True))
    await inside.wait()
    await bench.tasks.terminate_child(task)
    assert task.last_exit.reason == "shutdown"
    go_on.set()
    await over.wait()
    assert got == [(), NotRunning]


async def test_thread_of_the_agent_itself(bench):
    """A thread that the agent's own function waits for cannot call the agent: it would hang."""

    def ask():
        with pytest.raises(CalledItself):
            trio.from_thread.run(partial(bench.agent.get, timeout=None))
        return ()

    async def in_a_thread(_):
        return await trio.to_thread.run_sync(ask)

    await bench.agent.update(in_a_thread)
    assert await bench.agent.get() == ()
