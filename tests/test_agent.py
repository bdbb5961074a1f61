"""Agent: what its calls and casts promise."""

import contextvars
import math
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_agent import (
    ALL_CALLS,
    BOTH_PATHS,
    Oops,
    add,
    also,
    count_pair,
    fail,
    same,
    slow,
    supervised,
    take,
)
from trio_otp import (
    Agent,
    Backoff,
    BadReturn,
    CalledItself,
    CallFailed,
    ChildSpec,
    Exited,
    ExitProcess,
    MailboxFull,
    NotRunning,
    Task,
    TimedOut,
    current_process,
    observe,
    trap_exit,
)

# --- answers ------------------------------------------------------------------------------


async def swapped(state, amount):
    await trio.lowlevel.checkpoint()
    return state * 2, state - amount


@BOTH_PATHS
@pytest.mark.parametrize(
    ("call", "fn", "args", "answer", "after"),
    [
        (Agent.get, lambda state: state + 1, (), 11, 10),
        (Agent.get, pow, (2,), 100, 10),
        (Agent.get, slow, (1, pow, 3), 1000, 10),
        (Agent.update, lambda state: state + 1, (), None, 11),
        (Agent.update, add, (5,), None, 15),
        (Agent.update, slow, (1, add, 6), None, 16),
        (Agent.get_and_update, count_pair, (), 10, 11),
        (Agent.get_and_update, divmod, (3,), 3, 1),
        (Agent.get_and_update, swapped, (4,), 20, 6),
        (Agent.apply, pow, (2,), 100, 10),
        (Agent.apply, slow, (1, pow, 2), 100, 10),
    ],
)
@pytest.mark.conforms("AGENT-020", "AGENT-021", "AGENT-022", "AGENT-023", "AGENT-024", "AGENT-025")
async def test_calls(autojump_clock, path, call, fn, args, answer, after):
    """A function gets the state before its arguments; what its result means is the call's."""
    async with Agent(lambda: 10) as agent:
        take(agent, path)
        assert await call(agent, fn, *args) == answer
        assert await agent.get() == after


@pytest.mark.conforms("AGENT-027", "AGENT-028")
async def test_casts(autojump_clock):
    """A cast comes back at once; its function's result is the state some time later."""
    async with Agent(lambda: 10) as agent:
        assert agent.cast(slow, 1, add, 5) is None
        assert agent.cast(pow, 2) is None
        assert trio.current_time() == 0
        assert await agent.get() == 225


@BOTH_PATHS
async def test_state_changed_in_place(autojump_clock, path):
    """apply gives what the function returns and keeps the object; get gives the object itself."""
    async with Agent(dict[str, int]) as agent:
        state = await agent.get()
        take(agent, path)
        assert await agent.apply(dict.setdefault, "x", 2) == 2
        assert await agent.get() is state == {"x": 2}


@BOTH_PATHS
@pytest.mark.parametrize("state", [{}, [], set(), bytearray()], ids=repr)
@pytest.mark.parametrize("call", [Agent.update, Agent.cast])
async def test_update_that_returns_none_for_a_container(autojump_clock, path, call, state):
    """A function that changed a container in place, where the next state is wanted, is told."""
    agent = Agent(lambda: state, restart="temporary")
    async with supervised(agent):
        take(agent, path)
        if call is Agent.cast:
            agent.cast(lambda state: None)
        else:
            with pytest.raises(Exited):
                await agent.update(lambda state: None)
        exit = await agent.wait()
    assert type(exit.error) is BadReturn
    assert "apply()" in str(exit.error)


@BOTH_PATHS
@pytest.mark.parametrize("bad", ["x", (1,), (1, 2, 3), [1, 2], None], ids=repr)
@pytest.mark.conforms("AGENT-026")
async def test_bad_pairs(autojump_clock, path, bad):
    """get_and_update takes a tuple of two and nothing else; anything else ends the agent."""
    agent = Agent(int)
    async with supervised(agent):
        take(agent, path)
        with pytest.raises(Exited) as caught:
            await agent.get_and_update(lambda state: bad)
        assert type(caught.value.__cause__) is BadReturn
        assert repr(bad) in str(caught.value.__cause__)
        assert caught.value.exit.reason == "crashed"
        assert await agent.get() == 0


# --- order --------------------------------------------------------------------------------


@pytest.mark.conforms("AGENT-030")
async def test_one_client_is_served_in_order(autojump_clock):
    """Casts and calls of one client run in the order in which they were made, one at a time."""
    async with Agent(tuple) as agent:
        agent.cast(slow, 0.05, also, 1)
        agent.cast(also, 2)
        await agent.update(also, 3)
        agent.cast(also, 4)
        assert await agent.get() == (1, 2, 3, 4)


@pytest.mark.parametrize("fn", [add, partial(slow, seconds=0.001, fn=add)], ids=["sync", "async"])
@pytest.mark.conforms("AGENT-031")
async def test_updates_are_atomic(autojump_clock, fn):
    """A thousand increments at the same time make a thousand, also if each of them waits."""
    async with Agent(int, timeout=None) as agent:
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(agent.update, fn)
        assert await agent.get() == 1000


@BOTH_PATHS
@pytest.mark.conforms("AGENT-032", "AGENT-046", "REVIEW-5")
async def test_functions_run_in_the_context_of_the_agent(autojump_clock, path):
    """Functions see the agent's context variables, and change those, never the caller's."""
    who = contextvars.ContextVar("who", default="nobody")
    who.set("home")
    async with Agent(int) as agent:
        who.set("caller")
        for expected in ("home", "changed"):
            take(agent, path)
            seen = await agent.get(lambda _: (who.get(), current_process()))
            assert seen == (expected, agent)
            take(agent, path)
            await agent.get(lambda _: who.set("changed"))
        assert (who.get(), current_process()) == ("caller", None)


@pytest.mark.conforms("AGENT-046")
async def test_agents_record_no_callers(autojump_clock):
    """Who asked for a function is not passed on to what runs in the agent."""
    async with Agent(int) as agent, trio.open_nursery() as nursery:
        task = Task.async_(nursery, agent.get, slow)
        await wait_all_tasks_blocked()
        assert observe(task).waiting_for is agent
        assert observe(agent).asked_by == ()


# --- time limits ----------------------------------------------------------------------------


@ALL_CALLS
@pytest.mark.conforms("AGENT-020", "AGENT-022", "AGENT-024", "AGENT-033", "CASE-21")
async def test_calls_wait_for_five_seconds(autojump_clock, call):
    """By default a call gives up after five seconds, and says on whom and on what it waited."""
    async with Agent(int, name="counter") as agent:
        with pytest.raises(TimedOut, match=r"counter.*5 s; it is in slow") as caught:
            await call(agent, slow, 1000)
    assert trio.current_time() == 5
    assert isinstance(caught.value, trio.TooSlowError | CallFailed)
    assert caught.value.process is agent


@pytest.mark.parametrize("limit", [None, math.inf, 1001, 1000.5])
@pytest.mark.conforms("AGENT-037", "CASE-21")
async def test_limits_that_are_long_enough(autojump_clock, limit):
    """None and infinity mean no limit, for a call and for all calls of an agent."""
    async with Agent(int, timeout=limit) as patient, Agent(int) as agent:
        await patient.update(slow, 1000, add)
        await agent.update(slow, 1000, add, timeout=limit)
        assert await patient.get() == await agent.get() == 1


@pytest.mark.parametrize(
    ("limit", "error"),
    [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), (True, TypeError)],
)
@ALL_CALLS
@pytest.mark.conforms("AGENT-037")
async def test_wrong_limits(call, limit, error):
    """A limit that is no number of seconds is refused in the caller, without any effect."""
    ran = []
    async with Agent(int) as agent:
        with pytest.raises(error, match="timeout must"):
            await call(agent, ran.append, timeout=limit)
        assert await agent.get() == 0
    assert not ran


@pytest.mark.conforms("AGENT-033", "OBS-01", "CASE-35", "PEER-1", "AGENT-035")
async def test_late_answer(autojump_clock):
    """A function that was called runs to its end when its caller gives up; its answer is dropped."""
    async with Agent(int) as agent:
        with pytest.raises(TimedOut):
            await agent.get_and_update(slow, 0.3, lambda _: ("late", 7), timeout=0.1)
        assert trio.current_time() == pytest.approx(0.1)
        assert await agent.get(lambda state: ("quick", state)) == ("quick", 7)
        assert trio.current_time() == pytest.approx(0.3)
        await trio.sleep(1)
        assert agent.status == "running"


@pytest.mark.conforms("AGENT-034", "CASE-36", "PEER-3")
async def test_queued_call_that_times_out_never_runs(autojump_clock):
    """The limit covers the queue: a caller leaves in time, and nothing is done for it later."""
    ran = []
    async with Agent(int) as agent:
        agent.cast(slow, 2)
        with pytest.raises(TimedOut):
            await agent.apply(ran.append, timeout=0.1)
        assert trio.current_time() == pytest.approx(0.1)
        await agent.get()
    assert not ran


@pytest.mark.conforms("CASE-36")
async def test_no_work_for_callers_that_left(autojump_clock):
    """Of ten callers that leave after half a second, one gets as far as being served."""
    served = 0

    async def serve(_):
        nonlocal served
        served += 1
        await trio.sleep(1)

    async def call(agent):
        with pytest.raises(TimedOut):
            await agent.apply(serve, timeout=0.5)

    async with Agent(int) as agent:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(call, agent)
        assert trio.current_time() == 0.5
        await agent.get()
    assert (served, trio.current_time()) == (1, 1)


@pytest.mark.conforms("AGENT-036")
async def test_limit_that_nobody_catches(autojump_clock):
    """A TimedOut that leaves the agent's block stops that agent, and no other."""
    async with Agent(int) as other:
        with pytest.raises(TimedOut):
            async with Agent(int) as own:
                other.cast(slow, 1, add)
                await other.update(add, timeout=0.05)
        assert own.last_exit.reason == "shutdown"
        assert await other.get() == 1


@pytest.mark.conforms("CASE-21", "CASE-40")
async def test_limit_of_zero(autojump_clock):
    """Zero means only if the agent is idle: then it is served, else nothing is left behind."""
    async with Agent(int) as agent:
        await agent.update(add, timeout=0)
        agent.cast(slow, 1, add)
        with pytest.raises(TimedOut):
            await agent.update(add, timeout=0)
        assert trio.current_time() == 0
        await trio.sleep(2)
        assert await agent.get(timeout=0) == 2


# --- failing functions ------------------------------------------------------------------------


@BOTH_PATHS
@ALL_CALLS
@pytest.mark.conforms("AGENT-038", "CASE-49")
async def test_function_that_raises(autojump_clock, path, call):
    """It ends the agent and its state, half-done changes included; the caller learns why."""

    def change_and_fail(state):
        state["half"] = True
        fail(state)

    agent = Agent(dict, name="book")
    async with supervised(agent):
        await agent.apply(dict.update, {"full": True})
        take(agent, path)
        with pytest.raises(Exited, match=r"book.*crashed with Oops") as caught:
            await call(agent, change_and_fail)
        assert type(caught.value.__cause__) is Oops
        assert caught.value.process is agent
        assert await agent.get() == {}
    assert caught.value.exit.reason == "crashed"


@BOTH_PATHS
@ALL_CALLS
@pytest.mark.parametrize("reason", ["normal", "shutdown"])
@pytest.mark.conforms("AGENT-039")
async def test_function_that_exits(autojump_clock, caplog, path, call, reason):
    """It ends the agent in peace, without a report, and fails the call; the block goes on."""

    def leave(state):
        raise ExitProcess(reason, "why")

    async with Agent(int) as agent:
        take(agent, path)
        with pytest.raises(Exited) as caught:
            await call(agent, leave)
        await trio.sleep(1)
    assert (caught.value.exit.reason, caught.value.exit.detail) == (reason, "why")
    assert caught.value.__cause__ is None
    assert not caplog.records


@pytest.mark.conforms("AGENT-029")
async def test_cast_that_fails(autojump_clock):
    """Its caller sees nothing; the agent ends, and with it the scope that it is linked to."""
    with pytest.raises(Oops):
        async with Agent(int) as agent:
            agent.cast(fail)
            await trio.sleep_forever()
    assert agent.last_exit.reason == "crashed"


@BOTH_PATHS
@pytest.mark.conforms("AGENT-019")
async def test_crash_cannot_be_swallowed_in_its_own_scope(autojump_clock, path):
    """Who calls inside the agent's block is cancelled by its crash, which leaves the block bare."""
    went_on = False
    with pytest.raises(Oops) as caught:
        async with Agent(int) as agent:
            take(agent, path)
            try:
                await agent.get(fail)
            except Exception:
                went_on = True
    assert not went_on
    assert caught.value.__context__ is None


@BOTH_PATHS
@pytest.mark.conforms("AGENT-041", "CASE-37", "PEER-2")
async def test_all_who_wait_fail_at_once(autojump_clock, path):
    """Current and queued callers get an error each, in the moment of the crash, of one cause."""
    errors = []

    async def call(agent, fn):
        with pytest.raises(Exited) as caught:
            await agent.get(fn, timeout=None)
        errors.append((trio.current_time(), caught.value))

    agent = Agent(int, restart="temporary")
    async with supervised(agent), trio.open_nursery() as nursery:
        take(agent, path)
        nursery.start_soon(call, agent, partial(slow, seconds=3, fn=fail))
        await wait_all_tasks_blocked()
        for _ in range(4):
            nursery.start_soon(call, agent, same)
    assert [at for at, _ in errors] == [3] * 5
    assert len({id(error) for _, error in errors}) == 5
    assert len({id(error.__cause__) for _, error in errors}) == 1
    assert type(errors[0][1].__cause__) is Oops
    assert {error.process for _, error in errors} == {agent}


@BOTH_PATHS
@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
@pytest.mark.conforms("CASE-14")
async def test_functions_that_raise_stop_iteration(autojump_clock, path, error):
    """An exception that Python uses for itself is a crash like any other, not a result."""

    def stop(_):
        raise error("over")

    agent = Agent(int)
    async with supervised(agent):
        take(agent, path)
        with pytest.raises(Exited) as caught:
            await agent.get(stop)
        cause = caught.value.__cause__
        assert error in (type(cause), type(cause.__cause__))
        assert await agent.get() == 0


@BOTH_PATHS
@pytest.mark.conforms("AGENT-044")
async def test_wrong_number_of_arguments(autojump_clock, path):
    """Python says so in the agent, where the function is called; it is an error like any other."""
    agent = Agent(int)
    async with supervised(agent):
        take(agent, path)
        with pytest.raises(Exited) as caught:
            await agent.get(lambda: 1)
        assert type(caught.value.__cause__) is TypeError


@ALL_CALLS
@pytest.mark.conforms("AGENT-044")
async def test_what_is_no_function_is_refused(call):
    """A call or cast without a function raises where it is made, and the agent is unharmed."""
    async with Agent(int) as agent:
        with pytest.raises(TypeError, match="fn must be a function, got 7"):
            await call(agent, 7)
        with pytest.raises(TypeError, match=r"fn must be a function, got the coroutine .*slow"):
            await call(agent, slow(0))
        with pytest.raises(TypeError, match="fn must be a function, got 'x'"):
            agent.cast("x")
        assert await agent.get() == 0


@BOTH_PATHS
async def test_trapping_exits_in_a_plain_function(autojump_clock, path):
    """A plain function cannot wait, so it has no exits to trap when it runs in its caller."""

    def trap(_):
        with trap_exit():
            pass

    agent = Agent(int)
    async with supervised(agent):
        take(agent, path)
        if path == "in turn":
            await agent.get(trap)
        else:
            with pytest.raises(Exited) as caught:
                await agent.get(trap)
            assert "trap_exit() works only" in str(caught.value.__cause__)


# --- nobody there -----------------------------------------------------------------------------


@ALL_CALLS
@pytest.mark.conforms("AGENT-042", "AGENT-027", "PEER-4")
async def test_nobody_there(call):
    """Calls to an agent that does not run fail at once; casts do nothing and are counted."""
    agent = Agent(int, name="gone")
    with pytest.raises(NotRunning, match=r"gone.*new.*is not running"):
        await call(agent, same, timeout=None)
    agent.cast(same)
    async with agent:
        pass
    with pytest.raises(NotRunning, match=r"gone.*stopped.*is not running") as caught:
        await call(agent, same, timeout=None)
    agent.cast(same)
    assert caught.value.process is agent
    assert observe(agent).dropped_casts == 2


@pytest.mark.conforms("PEER-4")
async def test_cast_to_a_busy_agent(autojump_clock):
    """A cast never waits, however much there is to do before it."""
    async with Agent(int) as agent:
        agent.cast(slow, 10)
        for _ in range(1000):
            agent.cast(add)
        assert trio.current_time() == 0
        assert observe(agent).mailbox_length == 1001
        assert await agent.get(timeout=11) == 1000


# --- calling oneself ----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [5.0, None])
@BOTH_PATHS
@pytest.mark.conforms("AGENT-043", "CASE-33")
async def test_calling_oneself(autojump_clock, path, limit):
    """A call that could only be answered by its own caller fails at once, with a clear text."""

    async def ask(state):
        with pytest.raises(CalledItself, match="itself: use the state it was given"):
            await agent.get(timeout=limit)
        return state + 1

    async with Agent(int) as agent:
        take(agent, path)
        await agent.update(ask)
        assert await agent.get() == 1
    assert trio.current_time() == 0


@pytest.mark.conforms("AGENT-043", "AGENT-041")
async def test_calling_oneself_uncaught(autojump_clock):
    """Uncaught, it is a crash like any other, and fails the outer call."""

    async def ask(_):
        await agent.get()

    agent = Agent(int)
    async with supervised(agent):
        with pytest.raises(Exited) as caught:
            await agent.update(ask)
        assert type(caught.value.__cause__) is CalledItself


@BOTH_PATHS
@pytest.mark.conforms("AGENT-043", "OBS-11")
async def test_cast_to_oneself(autojump_clock, path):
    """A function may cast to its own agent; that runs after it."""

    def casting(state):
        agent.cast(also, "cast")
        return also(state, "update")

    async with Agent(tuple, mailbox=1) as agent:
        if path == "in turn":
            await agent.update(slow, 0, lambda state: state)
            agent.cast(same)
            await wait_all_tasks_blocked()
        await agent.update(casting)
        await wait_all_tasks_blocked()  # while the cast waits, the mailbox is full
        assert await agent.get() == ("update", "cast")


@pytest.mark.conforms("OBS-11")
async def test_cast_to_oneself_into_a_full_mailbox(autojump_clock):
    """It fails as any cast to a full mailbox does; it does not wait for itself."""

    def twice(_):
        agent.cast(add)
        agent.cast(add)

    agent = Agent(int, mailbox=1)
    async with supervised(agent):
        with pytest.raises(Exited) as caught:
            await agent.get(twice)
        assert type(caught.value.__cause__) is MailboxFull


async def test_a_task_that_a_function_spawned_may_call(autojump_clock):
    """A call by another Trio task is served, if the function does not wait for that task."""

    async def spawning(state):
        nursery.start_soon(agent.update, also, "spawned")
        return also(state, "spawning")

    async with Agent(tuple) as agent:
        async with trio.open_nursery() as nursery:
            await agent.update(spawning)
        assert await agent.get() == ("spawning", "spawned")


async def ask(_, other, limit=None):
    await other.get(timeout=limit)


@pytest.mark.conforms("CASE-33")
async def test_circle_of_two(autojump_clock):
    """Two agents that call each other without limits: the call that closes the circle fails."""
    first, second = Agent(int, name="first"), Agent(int, name="second")

    async def ask_back(_):
        await second.get(ask, first, timeout=None)

    async with supervised(first, second):
        with pytest.raises(Exited) as caught:
            await first.get(ask_back)
    error = caught.value.__cause__.__cause__
    assert type(error) is CalledItself
    assert "second' -> 'first' -> 'second" in str(error)
    assert trio.current_time() == 0


@pytest.mark.conforms("CASE-33")
async def test_circle_of_three_with_a_limit(autojump_clock):
    """With a limit anywhere in the circle, that limit ends the wait."""
    agents = [Agent(int, name=f"agent {i}") for i in range(3)]

    async def ask_on(_, i):
        await agents[i + 1].get(ask_on if i == 0 else ask_first, i + 1, timeout=None)

    async def ask_first(_, __):
        await agents[0].get(timeout=2)

    async with supervised(*agents):
        with pytest.raises(Exited):
            await agents[0].get(ask_on, 0)
    assert trio.current_time() == 2


@pytest.mark.conforms("CASE-33")
async def test_circle_through_a_restart(autojump_clock):
    """An init that calls, without limit, who waits for that very life, closes a circle too."""
    other = Agent(int, name="other")
    errors = []

    async def init():
        if agent.last_exit is not None and not errors:
            with pytest.raises(CalledItself) as caught:
                await other.get(timeout=None)
            errors.append(str(caught.value))
        return "state"

    agent = Agent(init, name="agent")
    async with supervised(ChildSpec(agent, backoff=Backoff(1)), other):
        agent.cast(fail)
        await wait_all_tasks_blocked()
        assert agent.status == "restarting"
        assert await other.get(lambda _: agent.get(timeout=None)) == "state"
    assert errors == ["all would wait for each other: 'agent' -> 'other' -> 'agent'"]


@pytest.mark.conforms("CASE-111")
async def test_looking_at_two_that_wait_for_each_other(autojump_clock):
    """A snapshot says of each what it runs, since when, and whom it waits for."""
    first, second = Agent(int, name="first"), Agent(int, name="second")

    async def ask_second(_):
        await second.get(ask, first, 10, timeout=10)

    async with supervised(first, second) as supervisor, trio.open_nursery() as nursery:
        await trio.sleep(1)
        nursery.start_soon(partial(first.apply, ask_second, timeout=None))
        await trio.sleep(4)
        infos = observe(supervisor).children
        assert [(info.name, info.waiting_for.name) for info in infos] == [
            ("first", "second"),
            ("second", "first"),
        ]
        assert infos[0].current == (ask_second.__qualname__, 1)
        assert infos[1].current == ("ask", 1)
        nursery.cancel_scope.cancel()


@pytest.mark.conforms("CASE-52", "AGENT-012")
async def test_looking_at_a_busy_agent(autojump_clock):
    """Looking neither waits for an agent nor disturbs it or its siblings that come and go."""
    busy = Agent(int, name="busy")
    workers = [Agent(int, name=f"worker {i}") for i in range(100)]
    async with supervised(busy, *workers) as supervisor:
        busy.cast(slow, 5, add)
        for i, worker in enumerate(workers):
            worker.cast(slow, i / 20, fail)
        for _ in range(50):
            await trio.sleep(0.1)
            tree = observe(supervisor)
            assert len(tree.children) == 101
            assert tree.children[0].current in (("slow", 0), None)
        assert await busy.get() == 1
        assert [info.restarts for info in tree.children] == [0] + [1] * 100
        assert {info.last_exit and info.last_exit.reason for info in tree.children[1:]} == {
            "crashed"
        }
