"""Agent: how its lives begin and end, who owns them, and what stays behind."""

import gc
import logging
import sys
import tracemalloc
import weakref
from contextlib import suppress
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_agent import BOTH_PATHS, Oops, add, also, fail, same, slow, supervised, take
from trio_otp import (
    Agent,
    AlreadyRunning,
    Backoff,
    BadReturn,
    CallFailed,
    ChildSpec,
    Ended,
    Exited,
    ExitProcess,
    MailboxFull,
    NotRunning,
    Ready,
    RestartsExhausted,
    Started,
    StartFailed,
    Supervisor,
    TimedOut,
    observe,
    subscribe,
)


async def lasting(seconds, value="state"):
    await trio.sleep(seconds)
    return value


# --- starting -------------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["block", "nursery", "supervisor"])
@pytest.mark.conforms("AGENT-001", "AGENT-002", "AGENT-014", "OBS-03")
async def test_start_waits_for_the_first_state(autojump_clock, home):
    """In each home the start is over, and said to be, when init has returned, with its arguments."""
    agent, told = Agent(lasting, 0.2, 7), []
    with subscribe(lambda event: told.append((event.process, type(event), event.at))):
        async with trio.open_nursery() as nursery:
            if home == "block":
                await nursery.start(_in_block, agent)
            elif home == "nursery":
                assert await nursery.start(agent.run) is agent
            else:
                await nursery.start(Supervisor([agent]).run)
            assert (agent.status, trio.current_time()) == ("running", 0.2)
            assert await agent.get() == 7
            nursery.cancel_scope.cancel()
    own = [(kind, at) for process, kind, at in told if process is agent]
    assert own == [(Started, 0), (Ready, 0.2), (Ended, 0.2)]


async def _in_block(agent, task_status):
    async with agent:
        task_status.started()
        await trio.sleep_forever()


@pytest.mark.parametrize("error", [Oops("oops"), KeyError("x"), BadReturn("y")], ids=repr)
@pytest.mark.conforms("AGENT-007", "PEER-5")
async def test_init_that_raises(autojump_clock, error):
    """A block and a nursery raise init's own error, bare; a supervisor StartFailed from it."""

    def init():
        raise error

    agent = Agent(init, name="agent")
    with pytest.raises(type(error)) as caught:
        async with agent:
            pytest.fail("the body must not run")
    assert caught.value is error
    with pytest.raises(ExceptionGroup) as group:
        async with trio.open_nursery() as nursery:
            await nursery.start(agent.run)
    assert group.value.exceptions == (error,)
    with pytest.raises(StartFailed, match="agent failed to start") as caught:
        async with Supervisor([agent]):
            pytest.fail("the body must not run")
    assert caught.value.__cause__ is error
    assert agent.last_exit.reason == "crashed"


@pytest.mark.conforms("AGENT-007")
async def test_failed_start_of_another_child_hurts_nobody(autojump_clock):
    """Who asked a supervisor to start an agent gets the error; nothing else is ended."""
    agent = Agent(int)
    async with supervised(agent) as supervisor:
        with pytest.raises(StartFailed):
            await supervisor.start_child(Agent(fail, None, name="failing"))
        assert await agent.get() == 0


@pytest.mark.parametrize("reason", ["normal", "shutdown"])
@pytest.mark.conforms("AGENT-007")
async def test_init_that_exits(autojump_clock, reason):
    """An init that ends its process in peace leaves nobody to ask: the block raises NotRunning."""

    def init():
        raise ExitProcess(reason)

    agent = Agent(init)
    with pytest.raises(NotRunning, match=f"declined to start: {reason}"):
        async with agent:
            pytest.fail("the body must not run")
    assert agent.last_exit.reason == reason


@pytest.mark.conforms("AGENT-006")
async def test_start_limits(autojump_clock):
    """init has no limit of its own; a scope around the block or the spec's start_timeout ends it."""
    agent = Agent(lasting, 500, name="agent")
    async with agent:
        assert trio.current_time() == 500
    with trio.move_on_after(50) as scope:
        async with agent:
            pytest.fail("the body must not run")
    assert scope.cancelled_caught
    async with Supervisor() as supervisor:
        with pytest.raises(StartFailed, match="agent was not ready within 50 s"):
            await supervisor.start_child(ChildSpec(agent, start_timeout=50))
        assert trio.current_time() == 600
        assert supervisor.children == ()
        # The handle is free.
        assert await supervisor.start_child(agent) is agent


@pytest.mark.conforms("AGENT-009")
async def test_running_the_same_handle_twice(autojump_clock):
    """A handle that has a home is refused by others; init is not called, the first not hurt."""
    calls = []
    agent = Agent(calls.append, "init")
    async with agent:
        with pytest.raises(AlreadyRunning):
            async with agent:
                pytest.fail("the body must not run")
        with pytest.raises(AlreadyRunning):
            await agent.run()
        assert await agent.get() is None
    assert calls == ["init"]


@pytest.mark.conforms("AGENT-010")
async def test_equal_names_are_no_conflict(autojump_clock):
    """A name is a label, in a repr and for people: two agents may bear the same."""
    async with Agent(int, name="counter") as first, Agent(lambda: 1, name="counter") as second:
        assert (await first.get(), await second.get()) == (0, 1)
        assert repr(first) == repr(second) == "<Agent 'counter' running>"


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: Agent(7), TypeError, "init must be a function, got 7"),
        (lambda: Agent(lasting(1)), TypeError, "init must be a function, got the coroutine"),
        (lambda: Agent(int, name=b"x"), TypeError, "name must be a string or None, got b'x'"),
        (lambda: Agent(int, timeout=-1), ValueError, "timeout must not be negative, got -1"),
        (lambda: Agent(int, mailbox=0), ValueError, "mailbox must be at least 1, got 0"),
        (lambda: Agent(int, mailbox=1.5), TypeError, "mailbox must be a whole number, got 1.5"),
        (lambda: Agent(int, overflow="x"), ValueError, "'raise', 'drop_newest', 'drop_oldest'"),
        (lambda: Agent(int, idle_timeout=0), ValueError, "idle_timeout must be more than 0"),
        (lambda: Agent(int, restart="x"), ValueError, "'permanent', 'transient', 'temporary'"),
        (lambda: Agent(int, shutdown="x"), ValueError, "seconds, None or 'brutal_kill', got 'x'"),
        (
            lambda: Agent(int, restart="permanent", idle_timeout=1),
            ValueError,
            "restart='permanent' does not go with idle_timeout=1",
        ),
    ],
)
@pytest.mark.conforms("AGENT-011", "AGENT-010")
def test_wrong_options(build, error, text):
    """What cannot be right is refused where the agent is made, by an error that says what is."""
    with pytest.raises(error) as caught:
        build()
    assert text in str(caught.value)


@pytest.mark.conforms("AGENT-011")
async def test_init_with_the_wrong_number_of_arguments(autojump_clock):
    """Python says so when the life begins, and the start fails with it."""
    with pytest.raises(TypeError, match="argument"):
        async with Agent(same):
            pytest.fail("the body must not run")


@pytest.mark.conforms("AGENT-012")
async def test_tools_see_the_function(autojump_clock):
    """Without a name an agent, and its Trio task, is called after its init."""
    async with Agent(partial(lasting, 0)) as agent:
        assert agent.name == "Agent(lasting)"
        names = await agent.get(slow, 0, lambda _: trio.lowlevel.current_task().name)
        assert names == agent.name


# --- as a child -------------------------------------------------------------------------------


class Sheet(Agent, restart="transient", shutdown=10.0):
    pass


class Note(Sheet, restart="temporary"):
    pass


@pytest.mark.parametrize(
    ("child", "restart", "shutdown"),
    [
        (Agent(int), "permanent", 5.0),
        (Sheet(int), "transient", 10.0),
        (Note(int), "temporary", 10.0),
        (Note(int, restart="permanent", shutdown=None), "permanent", float("inf")),
        (Sheet(int).child_spec(restart="temporary", shutdown=1), "temporary", 1),
        (Agent(int, idle_timeout=1), "transient", 5.0),
        (Note(int, idle_timeout=1), "temporary", 10.0),
        (Agent(int, idle_timeout=1, restart="temporary"), "temporary", 5.0),
    ],
)
@pytest.mark.conforms("AGENT-013", "AGENT-014", "AGENT-015", "AGENT-016")
async def test_options_as_a_child(autojump_clock, child, restart, shutdown):
    """Spec before instance before class; permanent by default, transient with an idle_timeout."""
    async with Supervisor([child]) as supervisor:
        (info,) = supervisor.children
        assert info.restart == restart
        assert supervisor._loop.children()[0].grace == shutdown


@pytest.mark.conforms("AGENT-013", "AGENT-016")
def test_id_as_a_child():
    """The id is the one given, else the name, else the handle itself."""
    agent, named = Agent(int), Agent(int, name="book")
    assert agent.child_spec().id is agent
    assert named.child_spec().id == "book"
    assert named.child_spec(id="other").id == "other"


@BOTH_PATHS
@pytest.mark.conforms("AGENT-017", "CASE-49")
async def test_restart_begins_anew(autojump_clock, path):
    """A restarted agent begins with init; the state is gone, the handle leads to the new life."""
    lives = []
    agent = Agent(lambda: lives.append("life") or {"lives": len(lives)})
    async with supervised(agent):
        await agent.apply(dict.update, {"more": 1})
        take(agent, path)
        with pytest.raises(Exited):
            await agent.get(fail)
        assert await agent.get() == {"lives": 2}


@pytest.mark.conforms("CASE-47")
async def test_new_life_begins_after_the_old_one(autojump_clock):
    """init runs again when the cleanup of the function that crashed has ended."""
    events = []

    async def crash(_):
        try:
            raise Oops
        finally:
            await trio.sleep(0.2)
            events.append("cleaned up")

    agent = Agent(events.append, "init")
    async with supervised(agent):
        with pytest.raises(Exited):
            await agent.get(crash)
        await agent.get()
    assert events == ["init", "cleaned up", "init"]


@pytest.mark.conforms("AGENT-018", "REVIEW-2")
async def test_block_stops_its_agent_after_the_body(autojump_clock):
    """Left in peace, by an error or by cancellation: the agent is there until the body is done."""
    saved = []
    for leave in (trio.lowlevel.checkpoint, partial(fail, None), trio.sleep_forever):
        agent = Agent(lambda: "state")
        with trio.move_on_after(1):
            try:
                async with agent:
                    try:
                        await leave()
                    finally:
                        with trio.CancelScope(shield=True):
                            saved.append(await agent.get())
            except Oops:
                pass
        assert agent.last_exit.reason == "shutdown"
    assert saved == ["state"] * 3


@pytest.mark.conforms("REVIEW-2")
async def test_nested_blocks_end_in_reverse(autojump_clock):
    """Cancelled from outside, what was opened last ends first."""
    ended, agents = [], [Agent(int, name=name) for name in ("db", "cache", "web")]
    db, cache, web = agents
    for _ in range(20):
        ended.clear()
        with subscribe(lambda event: type(event) is Ended and ended.append(event.process.name)):
            with trio.move_on_after(1):
                async with db, cache, web:
                    await trio.sleep_forever()
        assert ended == ["web", "cache", "db"]


# --- between two lives ----------------------------------------------------------------------


@pytest.mark.conforms("AGENT-042")
async def test_calls_wait_for_a_promised_life(autojump_clock):
    """A call between two lives waits for the next, within its limit; casts and zero do not."""
    agent = Agent(tuple)
    async with supervised(ChildSpec(agent, backoff=Backoff(2))):
        agent.cast(fail)
        await wait_all_tasks_blocked()
        assert agent.status == "restarting"
        agent.cast(also, "cast")
        with pytest.raises(NotRunning):
            await agent.get(timeout=0)
        with pytest.raises(TimedOut):
            await agent.get(timeout=1.5)
        assert trio.current_time() == 1.5
        await agent.update(also, "waited")
        assert (await agent.get(), trio.current_time()) == (("waited",), 2)
        assert observe(agent).dropped_casts == 1


async def test_no_promise_no_waiting(autojump_clock):
    """A call to an agent that is ending for good fails at once, whatever it is still doing."""
    async with trio.open_nursery() as nursery, Agent(int) as agent:
        agent.cast(slow, 100)
        await wait_all_tasks_blocked()
        nursery.start_soon(agent.stop)
        await wait_all_tasks_blocked()
        assert agent.status == "stopping"
        with pytest.raises(NotRunning):
            await agent.get(timeout=None)
        assert trio.current_time() == 0


async def test_permanent_child_that_stops_is_waited_for(autojump_clock):
    """A permanent child that is asked to stop comes back, so calls wait for that."""
    agent = Agent(int)
    async with supervised(agent) as supervisor, trio.open_nursery() as nursery:
        agent.cast(slow, 1)
        await wait_all_tasks_blocked()
        nursery.start_soon(agent.stop)
        await wait_all_tasks_blocked()
        assert await agent.get() == 0
        assert trio.current_time() == 1
        # terminate_child keeps it down: no promise
        await supervisor.terminate_child(agent)
        with pytest.raises(NotRunning):
            await agent.get()


async def test_promise_that_is_broken(autojump_clock):
    """Who waits for a next life is told at once if there will be none."""
    agent = Agent(int)
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor([ChildSpec(agent, backoff=Backoff(60))])
        await nursery.start(supervisor.run)
        agent.cast(fail)
        await wait_all_tasks_blocked()
        nursery.start_soon(supervisor.stop)
        with pytest.raises(NotRunning):
            await agent.get(timeout=None)
        assert trio.current_time() == 0


@pytest.mark.conforms("CASE-44")
async def test_requests_while_starting(autojump_clock):
    """They wait for init, as far as the mailbox holds; what is too much is refused, not stuck."""
    agent = Agent(lambda: lasting(0.1, ()), mailbox=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent.run)
        await wait_all_tasks_blocked()
        assert agent.status == "starting"
        agent.cast(also, 1)
        agent.cast(also, 2)
        with pytest.raises(MailboxFull):
            agent.cast(also, 3)
        with pytest.raises(MailboxFull):
            await agent.get()
        await trio.sleep(0.2)
        assert await agent.get() == (1, 2)
        await agent.stop()


async def test_calls_to_a_start_that_fails(autojump_clock):
    """Who called while it was starting gets the error of its init as the cause."""

    async def init():
        await trio.sleep(1)
        raise Oops

    agent = Agent(init)
    async with trio.open_nursery() as outside:
        outside.start_soon(_expect_exited, partial(agent.get, timeout=None))
        with pytest.raises(Oops):
            async with agent:
                pytest.fail("the body must not run")


async def _expect_exited(call):
    with trio.CancelScope(shield=True), pytest.raises((Exited, NotRunning)):
        await call()


@pytest.mark.parametrize("budget", [1_000_000, 0], ids=["restarted", "budget spent"])
@pytest.mark.conforms("CASE-46")
async def test_casts_queued_over_a_crash(autojump_clock, caplog, budget):
    """What is queued when a life ends is not done in the next one, and is counted."""
    agent = Agent(tuple)
    try:
        async with supervised(agent, max_restarts=budget):
            for fn in (also, fail, also, also, also):
                agent.cast(fn, "cast")
            await wait_all_tasks_blocked()
            assert await agent.get() == ()
    except RestartsExhausted:
        assert budget == 0
    assert observe(agent).dropped_casts == 3
    assert observe(agent).mailbox_length == 0
    assert "crashed: Oops: oops; 3 requests in its mailbox were left" in caplog.text


# --- stopping ---------------------------------------------------------------------------------


@pytest.mark.conforms("AGENT-048", "AGENT-050", "AGENT-054", "AGENT-056")
async def test_stop(autojump_clock, caplog):
    """stop returns how it ended, at once if it has; its home goes on, and nothing is logged."""
    agent = Agent(int)
    with pytest.raises(NotRunning, match="has never run"):
        await agent.stop()
    async with agent:
        exit = await agent.stop()
        assert (exit.reason, agent.status) == ("shutdown", "stopped")
        assert await agent.stop() is exit
        with pytest.raises(NotRunning):
            await agent.get()
        await trio.sleep(1)
    assert not caplog.records


@pytest.mark.conforms("AGENT-051", "CASE-41")
async def test_stop_overtakes_the_backlog(autojump_clock, caplog):
    """stop waits for the function under way; what is only queued fails or is counted."""
    agent = Agent(int)
    async with agent, trio.open_nursery() as nursery:
        first = partial(agent.get_and_update, slow, 3, lambda _: ("answer", 1))
        nursery.start_soon(_expect, "answer", first)
        await wait_all_tasks_blocked()
        nursery.start_soon(_expect_exit, "shutdown", agent)
        await wait_all_tasks_blocked()
        for _ in range(3):
            agent.cast(slow, 3)
        await agent.stop()
        assert trio.current_time() == 3
    assert observe(agent).dropped_casts == 3
    assert "ended (shutdown) with 3 casts undone" in caplog.text


async def _expect(answer, call):
    assert await call() == answer


async def _expect_exit(reason, agent):
    with pytest.raises(Exited) as caught:
        await agent.get(timeout=None)
    assert caught.value.exit.reason == reason


@pytest.mark.conforms("CASE-41")
async def test_flood(autojump_clock):
    """A bounded mailbox bounds the memory, counts what it drops, and does not hide a stop."""
    agent = Agent(int, mailbox=1000, overflow="drop_newest")
    async with agent:
        for _ in range(100_000):
            agent.cast(slow, 0.001, add)
        assert observe(agent).mailbox_length == 1000
        assert observe(agent).dropped_casts == 99_000
        await trio.sleep(0.5)
        before = trio.current_time()
        await agent.stop()
        assert trio.current_time() - before <= 0.001
        assert 99_499 <= observe(agent).dropped_casts <= 99_501


@pytest.mark.conforms("AGENT-052")
async def test_stop_with_a_limit(autojump_clock):
    """The limit ends the wait; the stop goes on and cannot be taken back."""
    async with Agent(int) as agent:
        agent.cast(slow, 3)
        await wait_all_tasks_blocked()
        with pytest.raises(TimedOut, match="goes on ending"):
            await agent.stop(timeout=0.5)
        assert agent.status == "stopping"
        assert (await agent.wait()).reason == "shutdown"
        assert trio.current_time() == 3


@pytest.mark.conforms("AGENT-053", "AGENT-056")
async def test_crash_while_stopping(autojump_clock, caplog):
    """If the function under way fails, that is how it ended: stop tells, and it is reported."""
    agent = Agent(int)
    async with supervised(ChildSpec(agent, restart="temporary")):
        agent.cast(slow, 1, fail)
        await wait_all_tasks_blocked()
        exit = await agent.stop()
    assert (exit.reason, type(exit.error)) == ("crashed", Oops)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.conforms("AGENT-055")
async def test_stopping_oneself(autojump_clock):
    """A function that stops its own agent is cancelled there and then; so its caller learns."""

    async def stop(_):
        await agent.stop()

    async with Agent(int) as agent:
        with pytest.raises(Exited) as caught:
            await agent.get(stop)
        assert caught.value.exit.reason == "shutdown"
    assert trio.current_time() == 0


@BOTH_PATHS
async def test_killed_by_its_own_function(autojump_clock, path):
    """A function that kills its agent runs to its end; nothing is taken up after it."""

    def kill(state):
        agent.kill()
        return state

    agent = Agent(int)
    async with supervised(ChildSpec(agent, restart="temporary")):
        take(agent, path)
        await agent.update(kill)
        with pytest.raises(CallFailed):
            await agent.get()
    assert agent.last_exit.reason == "killed"


async def test_home_that_stops_cancels_the_function(autojump_clock):
    """Leaving the block does not wait for the function under way; its caller gets Exited."""
    agent = Agent(int)
    async with trio.open_nursery() as nursery:
        async with agent:
            nursery.start_soon(_expect_exit_of, partial(agent.get, slow, 100, timeout=None))
            await wait_all_tasks_blocked()
        assert trio.current_time() == 0


async def _expect_exit_of(call):
    with pytest.raises(Exited) as caught:
        await call()
    assert caught.value.exit.reason == "shutdown"


# --- idle agents --------------------------------------------------------------------------------


async def test_idle_timeout(autojump_clock, caplog):
    """Unused for so long it ends with reason normal, and is not restarted; any use counts."""
    agent = Agent(int, idle_timeout=2)
    async with supervised(agent):
        for use in (agent.get, partial(agent.get, slow, 1), partial(agent.update, add)):
            await use()
            await trio.sleep(1.9)
            assert agent.status == "running"
        agent.cast(same)
        last = trio.current_time()
        exit = await agent.wait()
        assert (exit.reason, trio.current_time()) == ("normal", last + 2)
        await trio.sleep(1)
        assert agent.status == "stopped"
    assert not caplog.records


@pytest.mark.conforms("CASE-38")
async def test_request_in_the_moment_when_the_time_is_up(autojump_clock):
    """Two hundred times: what still finds it running is done, what comes later counts as dropped."""
    outcomes = set()
    for turn in range(200):
        ran = []
        async with Agent(list, idle_timeout=0.2) as agent:
            await trio.sleep(0.2)
            agent.cast(_note, ran)
            in_time = agent.status == "running"
            if turn % 2 and in_time:
                await agent.get(_note, ran)
            await agent.wait()
        assert len(ran) == (1 + turn % 2 if in_time else 0)
        assert observe(agent).dropped_casts == (not in_time)
        outcomes.add(in_time)
    assert outcomes == {True, False}


def _note(state, ran):
    ran.append("ran")
    return state


# --- what stays behind --------------------------------------------------------------------------


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Thing:
    """Something that can be watched."""


@pytest.mark.parametrize("leave", ["timed out", "cancelled", "coroutine"])
@pytest.mark.conforms("REVIEW-7")
async def test_withdrawn_call_is_freed(autojump_clock, no_collector, leave):
    """What a caller leaves in the queue keeps neither its function nor its arguments alive."""
    thing = Thing()
    seen = weakref.ref(thing)
    async with Agent(int) as agent:
        agent.cast(slow, 100)
        if leave == "timed out":
            with pytest.raises(TimedOut):
                await agent.get(same, thing, timeout=1)
        else:
            with trio.move_on_after(1):
                await agent.get(partial(same, thing), timeout=None)
        del thing
        assert observe(agent).mailbox_length == 0
        await trio.lowlevel.checkpoint()  # Trio itself knows the last cancellation until then
        assert seen() is None


@BOTH_PATHS
@pytest.mark.parametrize("end", ["stop", "crash", "linked crash", "kill"])
@pytest.mark.conforms("CASE-89", "REVIEW-7")
async def test_dropping_the_handle_frees_all(autojump_clock, no_collector, caplog, path, end):
    """Without the collector: an agent that ended leaves no state, error or frame behind."""
    caplog.set_level(logging.CRITICAL, "trio_otp")  # a record that pytest keeps would hold it
    seen = await _run_and_drop(path, end)
    if sys.version_info >= (3, 12) and (path, end) == ("at once", "crash"):
        gc.collect()  # the error knows the frame of its caller, which ran the function, and had the handle
    assert seen
    assert [one() for one in seen] == [None] * len(seen)


async def _run_and_drop(path, end):
    state = Thing()
    agent = Agent(lambda state: state, state, restart="temporary")
    home = agent if end == "linked crash" else Supervisor([agent])
    seen = [weakref.ref(agent)]
    try:
        async with home:
            take(agent, path)
            await (agent.stop() if end == "stop" else _end_by(agent, end))
    except Oops as error:
        seen.append(weakref.ref(error))
    if end == "crash":
        seen.append(weakref.ref(agent.last_exit.error))
    return seen


async def _end_by(agent, end):
    if end == "kill":
        agent.kill()
        await agent.wait()
        return
    with suppress(Exited):
        await agent.get(fail)


@pytest.mark.real
@pytest.mark.conforms("CASE-42")
async def test_crash_of_a_big_agent(caplog):
    """With 100 MB of state and as much in its mailbox: a small report, no copies, back again."""
    agent = Agent(bytearray)
    async with supervised(agent):
        await agent.apply(bytearray.extend, bytes(100_000_000))
        agent.cast(slow, 0, fail)
        for _ in range(10_000):
            agent.cast(lambda state, _: state, bytes(10_000))
        tracemalloc.start()
        await _until_restarted(agent)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert await agent.get() == b""
    assert observe(agent).dropped_casts == 10_000
    assert peak < 1_000_000
    assert len(caplog.text) < 4_000
    assert not [record for record in caplog.records if record.levelno > logging.ERROR]


async def _until_restarted(agent):
    while agent.last_exit is None or agent.status != "running":
        await trio.lowlevel.checkpoint()


async def test_crash_of_an_earlier_life_is_freed(autojump_clock, caplog):
    """An agent keeps its last crash; the one before is freed at once, without the collector."""
    caplog.set_level(logging.CRITICAL, "trio_otp")  # a report keeps the error
    crashes = []

    def fail(_):
        crashes.append(weakref.ref(error := Oops()))
        raise error

    gc.collect()
    gc.disable()
    try:
        async with Supervisor([agent := Agent(dict)]):
            for _ in range(3):
                with suppress(Exited):
                    await agent.get(fail)
                await trio.sleep(1)
            assert [crash() is None for crash in crashes] == [True, True, False]
    finally:
        gc.enable()
