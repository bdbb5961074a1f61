"""leaks."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_otp import Agent, Registry, RestartsExhausted, Supervisor, Task, subscribe
from trio_otp._core.life import Life
from trio_otp._core.loop import Loop, Rules
from trio_otp._core.waiting import Sleeper, _stand_at
from trio_otp.testing import leaks


def left() -> list[str]:
    """What leaks() complains of, line by line."""
    with pytest.raises(AssertionError) as caught:
        leaks()
    head, *lines = str(caught.value).split("\n  ")
    assert head == "left behind:"
    return lines


async def test_nothing_left():
    """After all blocks are left there is nothing to complain of."""
    async with Supervisor([Agent(dict), trio.sleep_forever]) as sup:
        await sup.start_child(Agent(dict))
    leaks()


def test_outside_a_run():
    """It can be asked after a run is over as well."""
    leaks()


async def test_processes(nursery):
    """Each process that runs is named, and its Trio task with it."""
    await nursery.start(Agent(dict, name="forgotten").run)
    assert left() == ["process <Agent 'forgotten' running>"]
    nursery.cancel_scope.cancel()


async def test_expected_processes():
    """What is expected may be there with all that is under it, and nothing else."""
    async with Supervisor([Agent(dict)], name="ours") as ours:
        leaks(ours)
        async with Agent(dict, name="other"):
            with pytest.raises(AssertionError, match=r"^left behind:\n  process <Agent 'other'"):
                leaks(ours)


async def test_processes_of_the_fixture(supervised):
    """What the test keeps under the fixture is no leak while the test runs."""
    await supervised(Supervisor([Agent(dict)]))
    leaks()


async def test_tasks(nursery):
    """A Trio task that runs code of the library is named though it is no process."""
    async with Agent(dict) as agent:
        nursery.start_soon(agent.update, never, name="waiter")
        await wait_all_tasks_blocked()
        with pytest.raises(AssertionError, match=r"^left behind:\n  Trio task waiter$"):
            leaks(agent)
        nursery.cancel_scope.cancel()


async def never(state):
    await trio.sleep_forever()


async def test_subscriptions(events):
    """A subscription that is open is named, the fixture's does not count."""
    with subscribe(print) as subscription:
        assert left() == ["subscription of print"]
        leaks(subscription)
    leaks()


async def test_objects():
    """What belongs to a life, and to none that runs, is named."""
    life = Life(shield=False)
    assert left() == [f"a life that nobody ended, begun at {life.started_at:g}"]
    del life
    owner = Supervisor(name="owner")
    loop = Loop(owner, Rules())
    assert "the loop of <Supervisor 'owner' new>" in left()
    del loop
    sleeper = Sleeper()
    sleeper._parked = False
    task = Task(never, None, name="late")
    _stand_at(task, sleeper)
    assert left() == ["somebody who has left, and whom <Task 'late' new> would still wake"]


async def test_kept_traceback(autojump_clock):
    """A supervisor that has ended is no leak, though the error it gave up with is kept."""

    async def crash():
        raise KeyError

    with pytest.raises(RestartsExhausted) as kept:
        async with Supervisor([crash], max_restarts=0):
            await trio.sleep_forever()
    assert any(isinstance(entry.frame.f_locals.get("self"), Loop) for entry in kept.traceback)
    leaks()


async def test_entries():
    """An entry that its owner has left behind is named; one of a process that runs is not."""
    registry = Registry[str, Agent]()
    async with Agent(dict, name="owner") as agent:
        registry.register("key", agent)
        leaks(agent)
    leaks()
    registry._by_owner[agent] = {}
    assert left() == [f"entry of <Agent 'owner' stopped> in {registry!r}"]


def test_bad_input():
    """Only what can be left may be expected."""
    with pytest.raises(TypeError, match=r"leaks\(\) takes processes and subscriptions, got 1"):
        leaks(1)
