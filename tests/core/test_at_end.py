"""What asks a life to be called at its end."""

import trio
from trio.testing import wait_all_tasks_blocked

from trio_otp import Agent, Ended, Supervisor, TaskSupervisor, subscribe


async def test_called_once_in_the_step_of_the_end():
    """All are called, once each, when the records are right, before events and waiters."""
    log = []

    def first(process):
        log.append(("first", process.status, process.last_exit.reason))

    def second(process):
        log.append("second")

    async with TaskSupervisor() as tasks:
        task = tasks.start_child(trio.sleep_forever)
        for fn in (first, second, first):
            task._life.call_at_end(fn)
        with subscribe(lambda event: log.append(type(event))):
            await task.stop()
        log.append("waiter")
    assert log == [("first", "stopped", "shutdown"), "second", Ended, "waiter"]


async def test_taken_back():
    """What is taken back is not called."""
    log = []
    async with Agent(int) as agent:
        agent._life.call_at_end(log.append)
        agent._life.call_not_at_end(log.append)
    assert log == []


async def test_asking_again(autojump_clock, caplog):
    """Who asks again while it is called hears of each life, and of a promise that is taken back."""
    log = []

    def stay(process):
        log.append(process.status)
        process._life.call_at_end(stay)

    async with Supervisor([agent := Agent(int)]) as home:
        agent._life.call_at_end(stay)
        for _ in range(2):
            agent.kill()
            await wait_all_tasks_blocked()
        assert log == ["restarting", "restarting"]
        agent.kill()
        await agent.wait()
        await home.terminate_child(agent)
    assert log[:3] == ["restarting"] * 3
    assert log[3:] == ["stopped"]


async def test_next_use_of_a_handle():
    """A handle that is used again later knows nothing of what heard of its end before."""
    log = []
    agent = Agent(int)
    async with agent:
        agent._life.call_at_end(log.append)
    async with agent:
        pass
    assert log == [agent]
