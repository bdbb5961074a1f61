"""Notions behind all nouns: links, traps, monitors, times."""

import math

import pytest
import trio
import trio.testing

from trio_otp import Agent, Exited, Supervisor, Task, TaskSupervisor, TimedOut, trap_exit


async def fail():
    raise ValueError("oops")


@pytest.mark.conforms("COMMON-001")
async def test_links_go_both_ways(autojump_clock):
    """A linked task that fails ends its scope; a scope that fails ends its linked tasks."""
    with pytest.raises(ExceptionGroup):
        async with trio.open_nursery() as nursery:
            Task.async_(nursery, fail)
            await trio.sleep_forever()
    with pytest.raises(ExceptionGroup):
        async with trio.open_nursery() as nursery:
            task = Task.async_(nursery, trio.sleep_forever)
            raise KeyError
    assert task.last_exit.reason == "shutdown"
    assert trio.current_time() == 0


@pytest.mark.conforms("COMMON-002")
async def test_isolated_failures_are_values(autojump_clock):
    """What trapping exits is for in an owner: the isolated form gives the failure as a value."""
    async with TaskSupervisor() as tasks:
        result = await tasks.async_nolink(fail).yield_()
    assert isinstance(result.error, ValueError)


@pytest.mark.conforms("COMMON-003")
async def test_trap_gives_time_to_end_well(autojump_clock):
    """A task that traps exits is told to stop, and has its time to do so in its own way."""
    done = []

    async def careful():
        with trap_exit() as exiting:
            await exiting.wait()
            await trio.sleep(1)
            done.append(trio.current_time())

    async with Supervisor([careful]):
        await trio.sleep(1)
    assert done == [2]


@pytest.mark.conforms("COMMON-004")
async def test_anybody_may_wait_for_an_end(autojump_clock):
    """Any number of tasks see the end of a process, at the time or later, and the same one."""
    exits = []

    async def watch(process):
        exits.append(await process.wait())

    async with TaskSupervisor() as tasks, trio.open_nursery() as nursery:
        process = tasks.start_child(trio.sleep, 1)
        for _ in range(3):
            nursery.start_soon(watch, process)
        await trio.sleep(2)
        await watch(process)
    assert exits == [process.last_exit] * 4


@pytest.mark.conforms("COMMON-006")
async def test_late_answers_vanish(autojump_clock):
    """An answer that comes after its caller has left reaches nobody, and hurts nobody."""

    async def slow(state, answer):
        await trio.sleep(1)
        return answer

    async with Agent(int) as agent:
        with pytest.raises(TimedOut):
            await agent.get(slow, "late", timeout=0.5)
        assert await agent.get(slow, "in time") == "in time"


@pytest.mark.conforms("COMMON-010")
@pytest.mark.parametrize("limit", [None, math.inf, 3, 2.5])
async def test_times_are_seconds(autojump_clock, limit):
    """Times are seconds, whole or not; None and infinity mean no limit."""
    async with TaskSupervisor() as tasks:
        task = tasks.async_nolink(trio.sleep, 2)
        assert await task.await_(timeout=limit) is None
    assert trio.current_time() == 2


@pytest.mark.conforms("COMMON-011")
async def test_inner_failure_arrives_bare(autojump_clock):
    """A failure in the innermost of nested blocks leaves each of them as it is."""

    async def inner():
        async with Task(fail):
            await trio.sleep_forever()

    async def middle():
        async with Task(inner):
            await trio.sleep_forever()

    with pytest.raises(ValueError, match="oops") as caught:
        async with Task(middle):
            await trio.sleep_forever()
    assert type(caught.value) is ValueError


@pytest.mark.conforms("COMMON-011")
async def test_outer_failure_ends_the_innermost(autojump_clock):
    """A failure at the top ends everything below it."""
    innermost = Task(trio.sleep_forever)

    async def middle():
        async with innermost:
            await trio.sleep_forever()

    with pytest.raises(KeyError):
        async with Task(middle):
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError
    assert innermost.last_exit.reason == "shutdown"


async def test_exited_tells_what_happened(autojump_clock):
    """Whoever asked a process that ended finds who, how and why in the error."""
    agent = Agent(int, name="n")
    async with Supervisor([agent]):
        with pytest.raises(Exited, match="'n' ended before it answered: crashed") as caught:
            await agent.get(lambda n: 1 // n)
    assert caught.value.process is agent
    assert caught.value.exit.error is caught.value.__cause__
