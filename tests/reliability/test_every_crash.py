"""The kit turned on the library: functions that crash at each of their calls and checkpoints.

Each run of the tests takes another order of scheduling; `--trio-otp-repeat=20` takes twenty.
"""

from contextlib import suppress

import pytest
import trio
from outcome import Error, Value

from trio_otp import (
    Agent,
    Backoff,
    ChildSpec,
    Exited,
    RestartsExhausted,
    StartFailed,
    Supervisor,
    Task,
    TaskSupervisor,
    trap_exit,
)
from trio_otp.testing import InjectedCrash, crash_everywhere, leaks


async def stay(*, task_status):
    """Be a child that starts slowly, is told, and cleans up slowly."""
    await trio.sleep(0.1)
    with trap_exit() as exiting:
        task_status.started()
        await exiting.wait()
        await trio.sleep(0.1)


async def work(seconds=0.2, value=None):
    try:
        await trio.sleep(seconds)
    finally:
        with trio.move_on_after(0.5, shield=True):
            await trio.sleep(0.1)
    return value


async def make():
    await trio.sleep(0.1)
    return []


async def add(numbers, one):
    await trio.sleep(0.1)
    return [*numbers, one]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_children(autojump_clock, trio_otp_seed, strategy):
    """A child that crashes once anywhere is there again, or its start fails the whole."""

    async def scenario(crashing):
        children = [
            ChildSpec(crashing(stay), id="a", backoff=Backoff(0.1)),
            Agent(crashing(make), name="b"),
            ChildSpec(crashing(work), id="c", restart="transient"),
        ]
        with suppress(StartFailed):
            async with Supervisor(children, strategy=strategy) as sup:
                await trio.sleep(2)
                states = {child.id: child.status for child in sup.children}
                assert states == {"a": "running", "b": "running", "c": "stopped"}

    assert await crash_everywhere(scenario, leaks, seed=trio_otp_seed) >= 7


async def test_giving_up(autojump_clock, trio_otp_seed):
    """A supervisor without a budget gives up at any crash, and stops the rest first."""

    async def scenario(crashing):
        stopped = False

        async def rest():
            nonlocal stopped
            try:
                await trio.sleep_forever()
            finally:
                stopped = True

        children = [rest, ChildSpec(crashing(work), id="once", restart="transient")]
        with suppress(RestartsExhausted):
            async with Supervisor(children, max_restarts=0):
                await trio.sleep(1)
        assert stopped

    assert await crash_everywhere(scenario, leaks, seed=trio_otp_seed) == 3


async def test_agents(autojump_clock, trio_otp_seed):
    """Each call is answered, or fails with the crash as its cause; nobody waits in vain."""

    async def scenario(crashing):
        answers = 0
        agent = Agent(crashing(make))

        async def call(method, fn, *args):
            nonlocal answers
            with suppress(Exited):
                await method(crashing(fn), *args, timeout=None)
            answers += 1

        with suppress(StartFailed):
            async with Supervisor([agent]):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call, agent.update, add, 1)
                    nursery.start_soon(call, agent.get, len)
                    nursery.start_soon(call, agent.apply, list.append, 2)
                    agent.cast(crashing(add), 3)
                assert answers == 3
                await agent.get()

    assert await crash_everywhere(scenario, leaks, seed=trio_otp_seed) >= 8


async def test_isolated_tasks(autojump_clock, trio_otp_seed):
    """A crash is the result of its task, and of no other."""

    async def scenario(crashing):
        async with TaskSupervisor() as tasks:
            made = [tasks.async_nolink(crashing(work), 0.2, number) for number in range(3)]
            tasks.start_child(crashing(work), restart="transient")
            pairs = await Task.yield_many(made, timeout=None)
            await tasks.join()
        failed = 0
        for number, (_, result) in enumerate(pairs):
            match result:
                case Value(value):
                    assert value == number
                case Error(InjectedCrash()):
                    failed += 1
                case _:
                    raise AssertionError(result)
        assert failed <= 1

    assert await crash_everywhere(scenario, leaks, seed=trio_otp_seed) == 12


async def test_linked_tasks(autojump_clock, trio_otp_seed):
    """A crash fails the nursery of its task, in which the others end first."""

    async def scenario(crashing):
        async with trio.open_nursery() as nursery:
            first = Task.async_(nursery, crashing(work), 0.2, 1)
            second = Task.async_(nursery, crashing(work), 0.3, 2)
            assert await Task.await_many([first, second]) == [1, 2]

    assert await crash_everywhere(scenario, leaks, seed=trio_otp_seed) == 6


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("isolated", [True, False])
async def test_streams(autojump_clock, trio_otp_seed, ordered, isolated):
    """A crash of an item or of the input is one outcome, or fails the block; the input is closed."""

    async def scenario(crashing):
        open_inputs = 0

        async def numbers():
            nonlocal open_inputs
            open_inputs += 1
            try:
                for number in range(3):
                    await crashing(trio.sleep)(0.05)
                    yield number
            finally:
                open_inputs -= 1

        seen = []
        async with TaskSupervisor() as tasks:
            stream = tasks.async_stream_nolink if isolated else Task.async_stream
            try:
                async with stream(
                    numbers(), crashing(work), max_concurrency=2, ordered=ordered
                ) as results:
                    seen.extend([result async for result in results])
            finally:
                assert open_inputs == 0
        assert len(seen) == 3
        assert sum(isinstance(result, Error) for result in seen) <= isolated

    assert await crash_everywhere(scenario, leaks, seed=trio_otp_seed) == 15
