"""The fixture events."""

import threading

import pytest
import trio

from trio_otp import Agent, Ended, Exited, Ready, Restarting, Started, Supervisor, subscribe
from trio_otp.testing import Events


async def crash(agent):
    with pytest.raises(Exited):
        await agent.get(lambda state: state["x"])


async def test_events_are_a_list(supervised, events):
    """All that happens to the processes of a test stands in one list, in order."""
    agent = await supervised(Agent(dict, name="counts"))
    await agent.stop()
    assert [type(event) for event in events] == [Started, Ready, Ended]
    assert [event.path for event in events] == [("supervised", "counts")] * 3
    assert events[-1].exit.reason == "shutdown"


async def test_looking_by_kind_and_process(supervised, events):
    """The list can be asked for one kind, one process, or both."""
    first, second = await supervised(Agent(dict)), await supervised(Agent(dict))
    await first.stop()
    assert events.kinds(first) == [Started, Ready, Ended]
    assert events.kinds(second) == [Started, Ready]
    assert events.kinds() == [Started, Ready, Started, Ready, Ended]
    assert [event.process for event in events.of(Ready)] == [first, second]
    (end,) = events.of(Ended, first)
    assert end.exit is first.last_exit


async def test_waiting_for_what_has_happened(supervised, events):
    """What has happened before the wait counts: nothing can be missed, and nothing is used up."""
    agent = await supervised(Agent(dict))
    event = await events.wait_for(Ready, agent)
    assert event is events[1]
    assert await events.wait_for(Ready) is event


async def test_waiting_for_what_comes(supervised, events, autojump_clock):
    """A wait ends in the moment in which it happens."""
    agent = await supervised(Agent(dict, idle_timeout=3))
    began = trio.current_time()
    event = await events.wait_for(Ended, agent)
    assert event.at - began == pytest.approx(3)


async def test_waiting_for_the_second(supervised, events):
    """A count waits for so many events, and gives the last of them."""
    agent = Agent(dict)
    await supervised(Supervisor([agent]))
    await crash(agent)
    await agent.get()
    await crash(agent)
    event = await events.wait_for(Restarting, agent, count=2)
    assert event.count == 2
    assert event is events.of(Restarting)[1]


async def test_waiting_by_a_function(supervised, events):
    """What is waited for may be anything that a function can tell."""
    agent = await supervised(Agent(dict, name="a"))
    event = await events.wait_for(lambda event: event.path[-1] == "a")
    assert event.process is agent
    assert isinstance(event, Started)


async def test_waiting_in_vain(supervised, events, autojump_clock):
    """A wait that takes too long fails with a list of what did happen."""
    agent = await supervised(Agent(dict, name="counts"))
    with pytest.raises(trio.TooSlowError) as caught:
        await events.wait_for(Ended, agent, count=2, timeout=3)
    assert str(caught.value) == (
        "no Ended number 2 within 3 s; what happened:"
        "\n  Started supervised/counts\n  Ready supervised/counts"
    )
    with pytest.raises(trio.TooSlowError, match="no Ended within 0 s; what happened: nothing"):
        await Events().wait_for(Ended, timeout=0)


async def test_wait_that_is_cancelled_leaves_nothing(events, autojump_clock):
    """Whoever gives up a wait is not woken later."""
    with trio.move_on_after(1):
        await events.wait_for(Ended, timeout=None)
    assert events._waiting.statistics().tasks_waiting == 0


BAD = {
    "no kind": ((1,), {}, TypeError, "wanted must be a function, got 1"),
    "no count": ((Ended,), {"count": 0}, ValueError, "count must be at least 1, got 0"),
    "no time": ((Ended,), {"timeout": -1}, ValueError, "timeout must not be negative, got -1"),
}


@pytest.mark.parametrize("what", BAD)
async def test_bad_input(events, what):
    """Wrong arguments are refused at once, by name."""
    args, options, error, text = BAD[what]
    with pytest.raises(error, match=text):
        await events.wait_for(*args, **options)


def test_run_in_another_thread_is_not_the_test_s(events):
    """Only the thread of the test is listened to: its lists and waits are not thread-safe."""

    async def main():
        async with Agent(dict):
            pass

    heard = []
    with subscribe(heard.append):
        thread = threading.Thread(target=trio.run, args=(main,))
        thread.start()
        thread.join()
    assert len(heard) == 3
    assert events == []
