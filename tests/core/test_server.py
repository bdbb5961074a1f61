"""The server loop: two paths that must not be told apart, and no request that gets lost."""

import random
import weakref
from functools import partial

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_agent import ALL_CALLS, BOTH_PATHS, Oops, add, also, fail, same, slow, supervised, take
from trio_otp import (
    Agent,
    BadReturn,
    CallFailed,
    CastDropped,
    Ended,
    Exited,
    ExitProcess,
    observe,
    subscribe,
)

# --- the fast path --------------------------------------------------------------------------


@pytest.mark.conforms("AGENT-030", "REVIEW-5")
async def test_call_is_never_overtaken(autojump_clock):
    """Two hundred times: a cast that is made after a call to an idle agent runs after it."""
    async with Agent(tuple) as agent:
        for _ in range(200):
            async with trio.open_nursery() as nursery:
                started = trio.Event()

                async def call(started=started):
                    started.set()
                    await agent.update(also, "call")

                async def cast(started=started):
                    await started.wait()
                    agent.cast(also, "cast")

                nursery.start_soon(call)
                nursery.start_soon(cast)
            assert await agent.get_and_update(lambda state: (state, ())) == ("call", "cast")


@BOTH_PATHS
@ALL_CALLS
@pytest.mark.conforms("REVIEW-5")
async def test_cancelled_caller_is_not_served(autojump_clock, path, call):
    """A function never runs for a caller that was cancelled before it was called."""
    ran = []
    async with Agent(int) as agent:
        take(agent, path)
        with trio.CancelScope() as scope:
            scope.cancel()
            await call(agent, lambda _: ran.append("ran"))
        assert scope.cancelled_caught
        assert await agent.get() == 0
    assert not ran


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_cancelled_in_the_moment_when_its_turn_comes(autojump_clock, cancelled_first):
    """Two hundred times: what was cancelled in the queue does not run, however close its turn is."""
    ran = []
    async with Agent(int) as agent:
        for _ in range(200):
            turn, scope = trio.Event(), trio.CancelScope()

            async def hold(_, turn=turn):
                await turn.wait()

            async def call(scope=scope):
                with scope:
                    await agent.apply(ran.append, "ran", timeout=None)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(agent.apply, hold))
                await wait_all_tasks_blocked()
                nursery.start_soon(call)
                await wait_all_tasks_blocked()
                first, then = scope.cancel, turn.set
                for do in (first, then) if cancelled_first else (then, first):
                    do()
            assert scope.cancelled_caught
    assert not ran


@BOTH_PATHS
@ALL_CALLS
@pytest.mark.conforms("REVIEW-5", "CASE-83")
async def test_interrupt_in_a_function(caplog, path, call):
    """It leaves the block once and alone, nothing is logged, and the agent can live again."""

    def interrupt(_):
        raise KeyboardInterrupt

    agent = Agent(int)
    with pytest.raises(KeyboardInterrupt):
        async with agent:
            take(agent, path)
            await call(agent, interrupt)
    assert agent.last_exit.reason == "shutdown"
    assert not caplog.records
    async with agent:
        assert await agent.get(timeout=0) == 0


@BOTH_PATHS
@pytest.mark.conforms("REVIEW-5")
async def test_crash_knows_nothing_of_its_caller(autojump_clock, path):
    """What the caller is handling, and where it stands, are not part of the agent's crash."""

    def fail_in_two_steps(_):
        try:
            raise KeyError("first")
        except KeyError:
            raise Oops("then")  # noqa: B904  # the implicit context is what is looked at

    agent, crashes = Agent(int, restart="temporary"), []
    async with supervised(agent):
        take(agent, path)
        try:
            raise LookupError("the caller's")
        except LookupError:
            with pytest.raises(Exited) as caught:
                await agent.get(fail_in_two_steps)
        crashes.append(caught.value.__cause__)
    (crash,) = crashes
    assert type(crash.__context__) is KeyError
    assert crash.__context__.__context__ is None
    frames = [
        entry.frame.code.name for entry in pytest.ExceptionInfo.from_exception(crash).traceback
    ]
    assert frames == ["fail_in_two_steps"]


def fail_from(_, error):
    raise Oops from error


def raise_it(_, error):
    raise error


@BOTH_PATHS
@pytest.mark.parametrize("fn", [fail_from, raise_it])
async def test_crash_that_came_through_its_caller(autojump_clock, path, fn):
    """Clearing the frames of a reported crash spares a caller whose frame is among them."""
    agent = Agent(int)

    async def call():
        try:
            raise LookupError
        except LookupError as error:
            with pytest.raises(Exited):
                await agent.get(fn, error)
        return "went on"

    async with supervised(agent):
        take(agent, path)
        assert await call() == "went on"


@BOTH_PATHS
@pytest.mark.parametrize(
    ("call", "args", "error"),
    [
        (Agent.apply, (dict.pop, "missing"), KeyError),
        (Agent.get_and_update, (len,), BadReturn),
        (Agent.update, (dict.clear,), BadReturn),
    ],
)
async def test_crash_without_a_frame_of_the_user(autojump_clock, path, call, args, error):
    """A function made in C, or a wrong result, is a crash like any other on both paths."""
    agent = Agent(dict[str, int])
    async with supervised(agent):
        for _ in range(3):
            take(agent, path)
            with pytest.raises(Exited) as caught:
                await call(agent, *args)
            assert type(caught.value.__cause__) is error
        assert await agent.get() == {}


async def test_coroutine_of_an_agent_that_dies_first(autojump_clock):
    """A coroutine that a function gave its agent, and that nobody will run, is closed."""

    async def never(_):
        pytest.fail("it must not run")

    def give_and_kill(state):
        agent.kill()
        return never(state)

    agent = Agent(int)
    async with supervised(agent):
        with pytest.raises(Exited) as caught:
            await agent.get(give_and_kill)
        assert caught.value.exit.reason == "killed"


@pytest.mark.conforms("AGENT-032", "REVIEW-5")
async def test_coroutines_run_in_the_agents_task(autojump_clock):
    """An async function is finished in the Trio task of the agent, before what it has cast."""
    tasks = []

    async def finish(state):
        await trio.lowlevel.checkpoint()
        tasks.append(trio.lowlevel.current_task())
        return also(state, "finished")

    def begin(state):
        agent.cast(also, "cast")
        return finish(state)

    async with Agent(tuple) as agent:
        await agent.update(begin)
        await agent.update(slow, 0, also, "next")
        assert await agent.get() == ("finished", "cast", "next")
        assert tasks[0].name == agent.name
        assert tasks[0] is not trio.lowlevel.current_task()


@ALL_CALLS
async def test_every_call_is_a_checkpoint(autojump_clock, call):
    """Each call that succeeds is a checkpoint, also when the agent is idle."""
    async with Agent(int) as agent:
        with trio.testing.assert_checkpoints():
            await call(agent, lambda _: (1, 2))


async def test_busy_agent_lets_others_run(autojump_clock):
    """However much there is to do, Trio's other tasks get their turn every few requests."""
    done, progress = 0, []

    def again(_):
        nonlocal done
        done += 1
        if done < 2000:
            agent.cast(again)

    async with Agent(int) as agent:
        agent.cast(again)
        while done < 2000:
            await trio.lowlevel.checkpoint()
            progress.append(done)
    assert len(progress) > 30


# --- the ends of a life --------------------------------------------------------------------


def exit_normal(_):
    raise ExitProcess("normal")


def interrupt(_):
    raise KeyboardInterrupt


ENDS = {
    "stop": Agent.stop,
    "kill": lambda agent: agent.kill(),
    "crash": lambda agent: agent.get(fail),
    "exit": lambda agent: agent.get(exit_normal),
    "crash of a cast": lambda agent: agent.cast(fail),
    "async crash": lambda agent: agent.get(slow, 1, fail),
    "interrupt": lambda agent: agent.get(interrupt),
    "block": lambda agent: trio.lowlevel.checkpoint(),
}


@BOTH_PATHS
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.conforms("REVIEW-5")
async def test_nothing_is_busy_after_the_end(autojump_clock, path, end):
    """However a life ends, nothing is idle, queued or under way, and the next one is as new."""
    agent = Agent(int)
    for _ in range(3):
        try:
            async with agent:
                take(agent, path)
                await (end(agent) or trio.sleep_forever())
        except (Oops, CallFailed, KeyboardInterrupt):
            pass
        life, info = agent._life, observe(agent)
        assert not any((life.idle, life.queue, life.taken, life.sleeper, life.crash))
        assert (info.mailbox_length, info.current, info.status) == (0, None, "stopped")
    async with agent:
        assert await agent.get(timeout=0) == 0


async def test_claim_and_life_of_another_run():
    """A handle may live again in another run of Trio, with queues and waiters of its own."""
    agent = Agent(int)

    async def main():
        async with agent:
            take(agent, "in turn")
            return await agent.get_and_update(lambda state: ("answer", state))

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(_run_elsewhere, main)
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert agent.last_exit.reason == "shutdown"


async def _run_elsewhere(main):
    assert await trio.to_thread.run_sync(trio.run, main) == "answer"


async def test_waiter_of_a_call_holds_no_server(autojump_clock):
    """A request that was answered keeps neither its agent nor the agent's state."""
    agent = Agent(int)
    seen = weakref.ref(agent)
    async with agent:
        take(agent, "in turn")
        await agent.get()
    del agent
    await trio.lowlevel.checkpoint()
    assert seen() is None


async def test_subscriber_that_casts_when_a_cast_is_dropped(autojump_clock):
    """The news comes when the tables are right: who hears it may cast, within the bound."""

    def again(event):
        if type(event) is CastDropped and observe(agent).mailbox_length < 2:
            agent.cast(same)

    async with Agent(int, mailbox=2, overflow="drop_oldest") as agent:
        with subscribe(again):
            for _ in range(4):
                agent.cast(add)
            assert observe(agent).mailbox_length == 2
            assert observe(agent).dropped_casts == 2


async def test_subscriber_that_looks_when_casts_are_lost(autojump_clock):
    """The news of casts that a life left undone comes once all of them are counted."""
    seen = []

    def look(event):
        if type(event) in (CastDropped, Ended):
            info = observe(agent)
            seen.append((type(event), info.status, info.dropped_casts, info.mailbox_length))

    agent = Agent(int)
    async with supervised(agent):
        with subscribe(look):
            for fn in (fail, add, add):
                agent.cast(fn)
            await agent.wait()
    assert seen == [(kind, "restarting", 2, 0) for kind in (CastDropped, CastDropped, Ended)]


# --- everything at once --------------------------------------------------------------------


@attrs.define
class Ledger:
    """What clients have asked of one agent, and what became of it."""

    random: random.Random
    agent: Agent = attrs.field(init=False)
    lives: int = 0
    askers: list[int] = attrs.Factory(list)  # of each request, by its number
    busy: int | None = None
    casts: int = 0
    casts_run: int = 0
    left: set[int] = attrs.Factory(set)  # calls whose callers are gone
    taken: set[int] = attrs.Factory(set)
    latest: dict[int, int] = attrs.Factory(dict)  # taken up last, of each client
    answered: int = 0
    failed: int = 0

    def init(self):
        self.lives += 1
        self.busy = None
        return (self.lives, ())

    def new(self, client):
        self.askers.append(client)
        return len(self.askers) - 1

    def take_up(self, state, request):
        """Check what must hold whenever a function is called."""
        assert self.busy is None, "two functions at once"
        assert state[0] == self.lives, "a state of another life"
        assert request not in self.left, "ran for a caller that is gone"
        client = self.askers[request]
        assert request > self.latest.get(client, -1), "ran twice, or out of order"
        self.latest[client] = request
        self.taken.add(request)

    def quick(self, state, request):
        self.take_up(state, request)
        return (state[0], (*state[1], request))

    async def steady(self, state, request):
        self.take_up(state, request)
        self.busy = request
        try:
            await trio.sleep(self.random.choice([0, 0.1, 0.3]))
        finally:
            self.busy = None
        return (state[0], (*state[1], request))

    def crash(self, state, request):
        self.take_up(state, request)
        raise Oops

    def leave(self, state, request):
        self.take_up(state, request)
        raise ExitProcess("normal")

    def some_function(self):
        kinds = [self.quick, self.steady, self.crash, self.leave]
        return self.random.choices(kinds, weights=[5, 5, 1, 1])[0]


async def call(ledger, client):
    """Call with a random limit, and perhaps cancel that."""
    request, fn = ledger.new(client), ledger.some_function()
    limit = ledger.random.choice([None, 0, 0.1, 0.2, 5])
    after = ledger.random.choice([float("inf"), float("inf"), 0, 0.1, 0.2])
    kind = ledger.random.choice([Agent.update, Agent.get, Agent.apply])
    with trio.move_on_after(after):
        try:
            await kind(ledger.agent, fn, request, timeout=limit)
        except CallFailed:
            ledger.failed += 1
        else:
            assert request in ledger.taken, "an answer to nothing"
            ledger.answered += 1
    if request not in ledger.taken:
        ledger.left.add(request)


def cast(ledger, client):
    """Cast; that is done, or counted as dropped, unless a full mailbox refuses it."""
    request, fn = ledger.new(client), ledger.some_function()

    def counted(state):
        ledger.casts_run += 1
        return fn(state, request)

    try:
        ledger.agent.cast(counted)
    except CallFailed:
        return
    ledger.casts += 1


async def act(ledger, client):
    for _ in range(ledger.random.randrange(7)):
        await trio.sleep(ledger.random.choice([0, 0, 0.1, 0.25]))
        action = ledger.random.choices(["call", "cast", "stop", "kill"], weights=[10, 10, 1, 1])[0]
        if action == "call":
            await call(ledger, client)
        elif action == "cast":
            cast(ledger, client)
        elif action == "stop":
            await ledger.agent.stop()
        else:
            ledger.agent.kill()


@pytest.mark.conforms("AGENT-030", "AGENT-034", "AGENT-041", "CASE-36", "CASE-38", "PEER-2")
async def test_random_schedules(autojump_clock, caplog):
    """In 300 schedules, each call is answered or fails, each cast is done or counted, all once."""
    caplog.set_level("CRITICAL", "trio_otp")
    answered = failed = run = dropped = 0
    for seed in range(300):
        chance = random.Random(seed)
        ledger = Ledger(chance)
        ledger.agent = Agent(
            ledger.init,
            mailbox=chance.choice([None, None, 1, 3]),
            overflow=chance.choice(["raise", "drop_newest", "drop_oldest"]),
            idle_timeout=chance.choice([None, None, 0.2]),
        )
        async with supervised(ledger.agent), trio.open_nursery() as nursery:
            for client in range(4):
                nursery.start_soon(act, ledger, client)
        info = observe(ledger.agent)
        assert (info.mailbox_length, info.status) == (0, "stopped"), seed
        assert ledger.casts == ledger.casts_run + info.dropped_casts, seed
        answered, failed = answered + ledger.answered, failed + ledger.failed
        run, dropped = run + ledger.casts_run, dropped + info.dropped_casts
    assert min(answered, failed, run, dropped) > 100
