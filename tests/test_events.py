"""Events: what happens, told to whoever subscribed, felt by nobody."""

import pytest
import trio
import trio.testing

from trio_otp import (
    Agent,
    CastDropped,
    Ended,
    GaveUp,
    Ready,
    Restarting,
    RestartsExhausted,
    Started,
    StopLate,
    Supervisor,
    Task,
    TaskSupervisor,
    subscribe,
    trap_exit,
)
from trio_otp._core import events


async def fail():
    raise ValueError("oops")


def names(seen):
    return [f"{type(event).__name__} {'/'.join(event.path)}" for event in seen]


async def test_life_of_a_tree(autojump_clock):
    """Start, readiness and end of each process are told in the order in which they happen."""
    seen = []
    with subscribe(seen.append):
        async with Supervisor([Agent(dict, name="a"), Agent(dict, name="b")], name="sup"):
            await trio.sleep(1)
    assert names(seen) == [
        "Started sup", "Started sup/a", "Ready sup/a", "Started sup/b", "Ready sup/b", "Ready sup",
        "Ended sup/b", "Ended sup/a", "Ended sup",
    ]  # fmt: skip
    assert [event.at for event in seen] == [0] * 6 + [1] * 3
    assert {event.exit.reason for event in seen if isinstance(event, Ended)} == {"shutdown"}


async def test_tasks_tell_as_well(autojump_clock):
    """So do tasks: linked ones, isolated ones, and the items of streams."""
    seen = []
    with subscribe(seen.append):
        async with TaskSupervisor(name="jobs") as tasks, trio.open_nursery() as nursery:
            Task.async_(nursery, trio.sleep, 1, name="linked")
            Task.start_link(nursery, trio.sleep, 1, name="job")
            tasks.start_child(trio.sleep, 1, name="child")
            tasks.async_nolink(trio.sleep, 1, name="isolated")
            tasks.async_(nursery, trio.sleep, 1, name="both")
            async with Task.async_stream([1], trio.sleep) as results:
                async for _ in results:
                    pass
    for kind in (Started, Ready, Ended):
        found = {event.path[-1] for event in seen if type(event) is kind}
        assert found == {"jobs", "linked", "job", "child", "isolated", "both", "sleep"}


async def test_restarts_and_giving_up(autojump_clock):
    """A restart is told with its cause, delay and count; giving up with the error."""
    seen = []
    with subscribe(seen.append), pytest.raises(RestartsExhausted) as caught:
        async with Supervisor([fail], max_restarts=1, name="sup"):
            await trio.sleep_forever()
    (again,) = [event for event in seen if isinstance(event, Restarting)]
    assert (again.path, again.delay, again.count) == (("sup", "fail"), 0, 1)
    assert isinstance(again.exit.error, ValueError)
    (gave_up,) = [event for event in seen if isinstance(event, GaveUp)]
    assert gave_up.process.name == "sup"
    assert gave_up.error is caught.value


async def test_late_stop(autojump_clock):
    """Who is not done in time is told of, with the limit."""

    async def slow():
        with trap_exit() as exiting:
            await exiting.wait()
            with trio.CancelScope(shield=True):
                await trio.sleep(9)

    seen = []
    with subscribe(seen.append):
        async with Supervisor([slow], name="sup"):
            await trio.sleep(1)
    (late,) = [event for event in seen if isinstance(event, StopLate)]
    assert (late.path[-1], late.limit, late.at) == (slow.__qualname__, 5, 6)


async def test_dropped_casts(autojump_clock):
    """A cast that will never be done is told of: to a full mailbox, and to nobody."""
    agent = Agent(int, mailbox=1, overflow="drop_newest", name="agent")
    seen = []
    with subscribe(seen.append):
        agent.cast(lambda n: n)
        async with agent:
            for _ in range(3):
                agent.cast(lambda n: n + 1)
            await trio.testing.wait_all_tasks_blocked()
    assert names(event for event in seen if isinstance(event, CastDropped)) == [
        "CastDropped agent", "CastDropped agent", "CastDropped agent",
    ]  # fmt: skip


async def test_subscriber_that_raises(caplog):
    """It is logged and told nothing more; nobody else feels it."""
    others = []

    def broken(event):
        raise KeyError("in the subscriber")

    with subscribe(broken), subscribe(others.append):
        async with Agent(dict):
            pass
    assert len(others) == 3
    (record,) = caplog.records
    assert "broken raised it and is dropped" in record.getMessage()


async def test_subscriber_may_call_back(autojump_clock):
    """The tables are right when an event is told: a subscriber may start the next task from it."""
    started = []

    def chain(event):
        if isinstance(event, Ended) and event.process in started and len(started) < 5:
            started.append(tasks.start_child(trio.sleep, 1))

    async with TaskSupervisor() as tasks:
        with subscribe(chain):
            started.append(tasks.start_child(trio.sleep, 1))
            await tasks.join()
    assert len(started) == 5
    assert trio.current_time() == 5


async def test_close():
    """A closed subscription hears nothing; closing twice does nothing."""
    seen = []
    subscription = subscribe(seen.append)
    subscription.close()
    subscription.close()
    async with Agent(dict):
        pass
    assert not seen


def test_runs_do_not_hear_each_other():
    """A subscription made in a run hears that run; one made outside hears all."""
    everywhere, inside, kept = [], [], []

    async def listening():
        kept.append(subscribe(inside.append))
        async with Agent(dict):
            pass

    async def other():
        async with Agent(dict):
            pass

    with subscribe(everywhere.append):
        trio.run(listening)
        trio.run(other)
    kept[0].close()
    assert (len(inside), len(everywhere)) == (3, 6)


async def test_no_subscriber_no_event(monkeypatch):
    """Nothing is built while nobody listens."""
    monkeypatch.setattr(events, "emit", lambda *_, **__: pytest.fail("an event was built"))
    async with TaskSupervisor() as tasks, Agent(int) as agent:
        tasks.start_child(fail)
        agent.cast(lambda n: n)
        await tasks.join()


def test_handlers_are_checked():
    """What cannot be called is refused at once."""
    with pytest.raises(TypeError, match="handler must be a function of one event, got 1"):
        subscribe(1)
