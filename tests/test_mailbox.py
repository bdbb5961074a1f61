"""Bounded mailboxes of agents, and who may use a handle."""

import threading

import pytest
import trio
import trio.testing

from trio_otp import Agent, CalledItself, CallFailed, MailboxFull, Supervisor, TimedOut, observe


async def slow(state, *_):
    await trio.sleep(1)
    return state


def note(state, word):
    return (*state, word)


async def busy(nursery, agent, casts):
    """Let an agent be busy for a second, with casts of these words waiting."""
    nursery.start_soon(agent.get, slow)
    await trio.testing.wait_all_tasks_blocked()
    for word in casts:
        agent.cast(note, word)


@pytest.mark.parametrize(
    ("overflow", "left", "dropped"),
    [("drop_newest", ("a", "b"), 2), ("drop_oldest", ("c", "d"), 2)],
)
async def test_dropping(autojump_clock, nursery, overflow, left, dropped):
    """A full mailbox drops the new cast, or the oldest that waits; both are counted."""
    async with Agent(tuple, mailbox=2, overflow=overflow) as agent:
        await busy(nursery, agent, "abcd")
        assert observe(agent).mailbox_length == 2
        await trio.sleep(2)
        assert await agent.get() == left
    assert observe(agent).dropped_casts == dropped


async def test_raising(autojump_clock, nursery):
    """A full mailbox refuses a cast, if that is what it was told; nothing is dropped."""
    async with Agent(tuple, mailbox=2) as agent:
        await busy(nursery, agent, "ab")
        with pytest.raises(MailboxFull, match="has 2 requests in its mailbox already") as caught:
            agent.cast(note, "c")
        assert isinstance(caught.value, trio.WouldBlock)
        await trio.sleep(2)
        assert await agent.get() == ("a", "b")
    assert observe(agent).dropped_casts == 0


@pytest.mark.parametrize("overflow", ["raise", "drop_newest", "drop_oldest"])
async def test_calls_are_never_dropped(autojump_clock, nursery, overflow):
    """A call to a full mailbox fails, whatever the policy for casts."""
    async with Agent(tuple, mailbox=1, overflow=overflow) as agent:
        await busy(nursery, agent, "a")
        with pytest.raises(MailboxFull):
            await agent.get()
        await trio.sleep(2)


async def test_oldest_cast_not_oldest_call(autojump_clock, nursery):
    """drop_oldest finds the oldest cast behind a call, and drops the new one if only calls wait."""
    async with Agent(tuple, mailbox=2, overflow="drop_oldest") as agent:
        await busy(nursery, agent, "")
        nursery.start_soon(agent.get, slow)
        await trio.testing.wait_all_tasks_blocked()
        agent.cast(note, "a")
        agent.cast(note, "b")  # takes the place of a
        await trio.sleep(3)
        assert await agent.get() == ("b",)
        await busy(nursery, agent, "")
        for _ in range(2):
            nursery.start_soon(agent.get, slow)
        await trio.testing.wait_all_tasks_blocked()
        agent.cast(note, "c")  # only calls wait
        await trio.sleep(4)
        assert await agent.get() == ("b",)
    assert observe(agent).dropped_casts == 2


async def test_who_has_left_does_not_count(autojump_clock, nursery):
    """A withdrawn call leaves its place in a bounded mailbox at once."""
    async with Agent(tuple, mailbox=1) as agent:
        await busy(nursery, agent, "")
        with trio.move_on_after(0.5):
            await agent.get()
        agent.cast(note, "a")
        await trio.sleep(1)
        assert await agent.get() == ("a",)


@pytest.mark.conforms("REVIEW-14")
@pytest.mark.parametrize("how", ["cast", "get", "stop", "wait", "kill"])
async def test_other_threads(autojump_clock, how):
    """Another thread is refused with the remedy, and the agent is as good as before."""
    async with Supervisor([agent := Agent(tuple)]):
        await agent.get()
        errors = []

        def use():
            try:
                if how == "cast":
                    agent.cast(note, "a")
                elif how == "kill":
                    agent.kill()
                else:
                    trio.run(getattr(agent, how))
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        (text,) = errors
        assert "trio.from_thread" in text
        assert await agent.get() == ()


async def test_worker_threads_go_through_trio():
    """From a worker thread, the recipe is trio.from_thread."""
    async with Agent(tuple) as agent:
        await trio.to_thread.run_sync(trio.from_thread.run, agent.update, note, "from a thread")
        assert await agent.get() == ("from a thread",)


@pytest.mark.parametrize("how", ["get", "update", "get_and_update", "apply", "cast"])
async def test_what_is_no_function(how):
    """It is refused in the caller; the agent does not feel it."""
    async with Agent(tuple) as agent:
        with pytest.raises(TypeError, match="fn must be a function, got 3"):
            result = getattr(agent, how)(3)
            await result
        with pytest.raises(TypeError, match="got the coroutine object"):
            result = getattr(agent, how)(slow(()))
            await result
        assert await agent.get() == ()


async def test_coroutine_that_is_withdrawn(autojump_clock):
    """An async function whose caller has no time is not begun, and its coroutine is closed."""
    began = []

    async def begin(state):
        began.append(state)
        return state

    async with Agent(int) as agent:
        for _ in range(50):
            try:
                await agent.get(begin, timeout=0)
            except TimedOut:
                began.append("no")
        assert await agent.get(begin) == 0
    assert len(began) == 51


async def test_circle_of_three(autojump_clock):
    """Three agents that would wait for each other without limits are told so, by all their names."""
    agents = [Agent(int, name=name) for name in "abc"]

    async def ask(state, seconds, place):
        await trio.sleep(seconds)
        return await agents[place % 3].get(ask, 0, place + 1, timeout=None)

    async def start(place):
        with pytest.raises(CallFailed):
            await agents[place].get(ask, place, place + 1, timeout=None)

    specs = [agent.child_spec(restart="temporary") for agent in agents]
    async with Supervisor(specs), trio.open_nursery() as nursery:
        for place in range(3):
            nursery.start_soon(start, place)
    errors = [agent.last_exit.error for agent in agents]
    (circle,) = [error for error in errors if isinstance(error, CalledItself)]
    assert "'c' -> 'a' -> 'b' -> 'c'" in str(circle)
