"""Events: what subscribers hear, in which order, and that nothing they do is felt."""

import gc
import threading
import weakref

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from helpers_task import later, raises, reaction
from trio_otp import (
    Agent,
    Backoff,
    CastDropped,
    ChildSpec,
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
    observe,
    subscribe,
)
from trio_otp._core import events

idle = trio.sleep_forever


class Heard(list):
    """Events as they were told, each as `path Kind`."""

    def __call__(self, event):
        self.append(event)

    @property
    def lines(self):
        return [f"{'/'.join(event.path)} {type(event).__name__}" for event in self]


@pytest.fixture
def heard():
    heard = Heard()
    with subscribe(heard):
        yield heard


@pytest.fixture(autouse=True)
def _nothing_left():
    """Hold every test to leaving no subscriber behind."""
    yield
    assert events.ANY == []


# --- what is told ----------------------------------------------------------------------------------


async def test_life_of_a_tree(autojump_clock, heard):
    """A tree tells of each start, readiness and end, in the order in which they happen."""
    async with Supervisor([Agent(int, name="a"), TaskSupervisor(name="b")], name="root"):
        pass
    assert heard.lines == [
        "root Started",
        "root/a Started",
        "root/a Ready",
        "root/b Started",
        "root/b Ready",
        "root Ready",
        "root/b Ended",
        "root/a Ended",
        "root Ended",
    ]


async def test_restart(autojump_clock, heard):
    """A restart tells of the end, of the restart with its number, and of the new life, in this order."""
    async with TaskSupervisor(name="sup") as sup:
        lives = iter([ValueError("oops"), None])

        async def child():
            await trio.sleep(1)
            if (error := next(lives)) is not None:
                raise error

        process = sup.start_child(child, restart="transient", name="c")
    assert heard.lines == [
        "sup Started",
        "sup Ready",
        *("sup/c Started", "sup/c Ready", "sup/c Ended", "sup/c Restarting"),
        *("sup/c Started", "sup/c Ready", "sup/c Ended"),
        "sup Ended",
    ]
    first_end, restart = heard[4], heard[5]
    assert (first_end.exit.reason, str(first_end.exit.error)) == ("crashed", "oops")
    assert (restart.process, restart.count, restart.delay, restart.at) == (process, 1, 0, 1)
    assert restart.exit is first_end.exit


async def test_restart_with_a_delay(autojump_clock, heard):
    """A delayed restart is told of when it is decided, with its delay."""
    spec = ChildSpec(later, 1, id="c", restart="permanent", backoff=Backoff(2))
    async with Supervisor([spec]):
        await trio.sleep(3.5)
    about = [(e.at, type(e)) for e in heard if e.path[-1] == "c"]
    start = [Started, Ready]
    kinds = [*start, Ended, Restarting, *start, Ended]
    assert about == list(zip([0, 0, 1, 1, 3, 3, 3.5], kinds, strict=True))
    (delay,) = [e.delay for e in heard if isinstance(e, Restarting)]
    assert delay == 2


async def test_giving_up(autojump_clock, heard):
    """A supervisor that gives up says so before it stops the rest, with the error that it fails with."""
    with pytest.raises(RestartsExhausted) as caught:
        async with TaskSupervisor(name="sup", max_restarts=0) as sup:
            sup.start_child(idle, name="other")
            sup.start_child(raises, restart="permanent", name="c")
    assert heard.lines[-4:] == ["sup/c Ended", "sup GaveUp", "sup/other Ended", "sup Ended"]
    given_up = next(event for event in heard if isinstance(event, GaveUp))
    assert given_up.error is caught.value


async def test_late_stop(autojump_clock, heard):
    """Who is late is told of once, with its limit."""

    async def stubborn():
        with trio.CancelScope(shield=True):
            await trio.sleep(3)

    async with TaskSupervisor(name="sup") as sup:
        process = sup.start_child(stubborn, shutdown=1)
        await wait_all_tasks_blocked()
        await sup.stop()
    (late,) = [event for event in heard if isinstance(event, StopLate)]
    assert (late.process, late.limit, late.at) == (process, 1, 1)


async def test_dropped_casts(autojump_clock, heard):
    """A cast that will never be done is told of: to a full mailbox, to one that ends, to nobody."""
    agent = Agent(int, name="agent", mailbox=1, overflow="drop_newest")
    agent.cast(abs)
    async with Supervisor([ChildSpec(agent, restart="temporary")]):
        agent.cast(_busy)
        await wait_all_tasks_blocked()
        agent.cast(abs)
        agent.cast(abs)
        agent.kill()
        await agent.wait()
    assert [e.process for e in heard if isinstance(e, CastDropped)] == [agent] * 3
    assert observe(agent).dropped_casts == 3


async def _busy(state):
    await trio.sleep_forever()


async def test_tasks_tell_as_well(autojump_clock, heard):
    """So do tasks: linked ones, isolated ones, and the items of streams."""
    async with TaskSupervisor(name="sup") as sup, trio.open_nursery() as nursery:
        Task.async_(nursery, later, 1, name="linked")
        Task.start_link(nursery, later, 1, name="job")
        sup.start_child(later, 1, name="child")
        sup.start_child(later, 1, name="restartable", restart="transient")
        sup.async_nolink(later, 1, name="isolated")
        sup.async_(nursery, later, 1, name="both")
        async with sup.async_stream([1], later) as outcomes, Task.async_stream([1], later) as more:
            _ = [outcome async for outcome in outcomes], [outcome async for outcome in more]
    for name in ("linked", "job", "child", "restartable", "isolated", "both"):
        kinds = [type(event) for event in heard if event.path[-1] == name]
        assert kinds == [Started, Ready, Ended]
    kinds = [type(event) for event in heard if event.path[-1] == "later"]
    assert kinds == [Started, Ready, Ended] * 2


async def test_frozen(autojump_clock, heard):
    """An event is a frozen value."""
    async with Task(later, 1):
        pass
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        heard[0].path = ()


async def test_tables_are_right_when_told(autojump_clock):
    """When an event is told, the tables say already what it says."""
    seen = []

    def look(event):
        if event.path == ("sup", "c"):
            seen.append((type(event), event.process.status, len(sup.children)))

    sup = TaskSupervisor(name="sup")
    with subscribe(look):
        async with sup:
            sup.start_child(later, 1, name="c")
    assert seen == [(Started, "running", 1), (Ready, "running", 1), (Ended, "stopped", 0)]


# --- who is told -----------------------------------------------------------------------------------


async def test_order_of_subscribers(autojump_clock):
    """Subscribers are told in the order in which they subscribed, each of every event."""
    told = []
    with subscribe(lambda event: told.append(1)), subscribe(lambda event: told.append(2)):
        async with Task(later, 1) as task:
            await task.wait()
    assert told == [1, 2] * 3


async def test_closed(autojump_clock):
    """A closed subscription hears nothing more; closing again does nothing."""
    heard = Heard()
    subscription = subscribe(heard)
    async with Task(later, 1):
        subscription.close()
        subscription.close()
    assert len(heard) == 2


async def test_closed_by_another(autojump_clock):
    """A subscriber that an earlier one closes does not even hear the event under way."""
    heard = Heard()
    with subscribe(lambda event: second.close()), subscribe(heard) as second:
        async with Task(later, 1):
            pass
    assert heard == []


async def test_subscribed_within(autojump_clock):
    """One that subscribes while an event is told hears those that happen afterwards only."""
    heard = Heard()
    subscriptions = []

    def handler(event):
        if not subscriptions:
            subscriptions.append(subscribe(heard))

    with subscribe(handler):
        async with Task(later, 1) as task:
            await task.wait()
    subscriptions[0].close()
    assert [type(event) for event in heard] == [Ready, Ended]


async def test_subscriber_that_raises(autojump_clock, caplog):
    """One that raises is logged and dropped; the others, and the process, feel nothing."""

    def broken(event):
        raise ValueError("oops")

    heard = Heard()
    with subscribe(heard), subscribe(broken), subscribe(heard):
        async with Task(later, 1) as task:
            assert (await task.wait()).reason == "normal"
    assert [type(event) for event in heard] == [Started, Started, Ready, Ready, Ended, Ended]
    (record,) = caplog.records
    assert "ValueError: oops was not raised: subscriber " in record.message
    assert "broken raised it and is dropped" in record.message


async def test_subscriber_that_calls_back(autojump_clock):
    """A handler may look, kill and start; all hear of what that causes after what caused it."""
    first, second = Heard(), Heard()

    def meddle(event):
        first(event)
        if isinstance(event, Started) and event.path == ("sup", "one"):
            assert len(sup.children) == 1
            sup.start_child(later, 1, name="two")
        if isinstance(event, Ready) and event.path == ("sup", "two"):
            event.process.kill()

    async with TaskSupervisor(name="sup") as sup:
        with subscribe(meddle), subscribe(second):
            sup.start_child(later, 3, name="one")
            await sup.join()
    assert first.lines == second.lines
    assert first.lines == [
        *("sup/one Started", "sup/two Started", "sup/two Ready", "sup/one Ready"),
        *("sup/two Ended", "sup/one Ended"),
    ]


async def test_chain_by_events(autojump_clock):
    """A handler may start the next task when it hears of the end of the last."""
    started = []

    def chain(event):
        if isinstance(event, Ended) and event.process in started and len(started) < 5:
            started.append(sup.start_child(later, 1))

    async with TaskSupervisor(max_children=1) as sup:
        with subscribe(chain):
            started.append(sup.start_child(later, 1))
            await sup.join()
    assert (len(started), trio.current_time()) == (5, 5)


async def test_interrupt_in_a_handler(autojump_clock):
    """An interrupt that a handler raises is not swallowed, and the events go on afterwards."""
    heard = Heard()

    def interrupted(event):
        if isinstance(event, Ready):
            raise KeyboardInterrupt

    with subscribe(interrupted), subscribe(heard):
        with pytest.raises(KeyboardInterrupt):
            async with TaskSupervisor(name="sup") as sup:
                sup.start_child(idle)
        heard.clear()
    with subscribe(heard):
        async with Task(later, 1):
            pass
    assert heard.lines == ["later Started", "later Ready", "later Ended"]


@pytest.mark.real
def test_runs_do_not_hear_each_other():
    """Who subscribes inside a run hears that run only; who does outside hears all of them."""
    inside = {"one": Heard(), "two": Heard()}
    both = threading.Barrier(2)

    async def main(name):
        with subscribe(inside[name]):
            await trio.to_thread.run_sync(both.wait)
            async with Task(later, 0, name=name):
                await trio.lowlevel.checkpoint()
            await trio.to_thread.run_sync(both.wait)

    outside = Heard()
    with subscribe(outside):
        threads = [threading.Thread(target=trio.run, args=(main, name)) for name in inside]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name, heard in inside.items():
        assert {event.path for event in heard} == {(name,)}
        assert [type(event) for event in heard] == [Started, Ready, Ended]
    assert {event.path for event in outside} == {("one",), ("two",)}
    assert len(outside) == 6


def test_subscription_left_by_a_finished_run():
    """A subscription that a finished run left open hears nothing of the next."""
    heard, left = Heard(), []

    async def first():
        left.append(subscribe(heard))

    async def second():
        async with Task(later, 1):
            pass

    for main in (first, second):
        trio.run(main, clock=MockClock(autojump_threshold=0))
    left[0].close()
    assert heard == []


def test_subscription_left_by_a_finished_run_costs_nothing():
    """A later run closes what a finished one left open, and then makes no events for nobody."""
    left, made = [], []

    async def first():
        left.append(subscribe(made.append))

    async def second():
        async with Task(later, 0):
            made.append(len(events.ANY))

    trio.run(first)
    assert left == events.ANY
    trio.run(second)
    assert made == [0]


@pytest.mark.parametrize("handler", [None, 1, "x"])
def test_wrong_handler(handler):
    """What cannot be called is refused at once."""
    with pytest.raises(TypeError, match="handler must be a function of one event"):
        subscribe(handler)


async def test_no_event_without_subscriber(autojump_clock, monkeypatch):
    """Without a subscriber no event is even made."""
    monkeypatch.setattr(events, "emit", None)
    async with TaskSupervisor() as sup:
        agent = Agent(int, mailbox=1, overflow="drop_newest")
        agent.cast(abs)
        sup.start_child(reaction(), shutdown=1)
        process = sup.start_child(idle, restart="permanent")
        await wait_all_tasks_blocked()
        process.kill()
        await wait_all_tasks_blocked()
        assert process.last_exit.reason == "killed"
        await sup.stop()


async def test_nothing_is_kept(autojump_clock):
    """Events keep no process once they were told."""
    gc.collect()
    gc.disable()
    try:
        with subscribe(lambda event: None):
            async with TaskSupervisor() as sup:
                gone = weakref.ref(sup.start_child(later, 1))
                await sup.join()
                await wait_all_tasks_blocked()
                assert gone() is None
    finally:
        gc.enable()
