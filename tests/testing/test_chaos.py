"""chaos."""

import gc
import logging
import weakref
from collections import Counter

import pytest
import trio

from trio_otp import (
    Agent,
    Backoff,
    ChildSpec,
    Ended,
    GenServer,
    NotRunning,
    Reply,
    Supervisor,
    Task,
    TaskSupervisor,
    TimedOut,
    observe,
)
from trio_otp.testing import InjectedCrash, chaos, leaks

KINDS = ("crash", "kill", "delay", "restart")


def tree(**options):
    """A tree of two levels that survives a lot."""
    budget = {"max_restarts": 100, "max_seconds": 5}
    inner = Supervisor([Agent(dict, name="deep"), trio.sleep_forever], name="inner", **budget)
    return Supervisor(
        [
            Agent(dict, name="state"),
            ChildSpec(Agent(dict, name="slow"), backoff=Backoff(1.0, maximum=3.0)),
            inner,
            TaskSupervisor(name="tasks"),
        ],
        name="tree",
        **budget | options,
    )


async def test_tree_is_whole_afterwards(supervised, autojump_clock):
    """A tree that is hit in all ways for a minute has all its children again at the end."""
    app = await supervised(tree())
    began = trio.current_time()
    blows = await chaos(app, seconds=60, rate=2.0, seed=1)
    assert 60 <= trio.current_time() - began < 70
    assert len(blows) > 100
    assert {blow.kind for blow in blows} == set(KINDS)
    assert {blow.path[-1] for blow in blows} >= {"state", "slow", "inner", "deep", "tasks"}
    assert [child.status for child in app.children] == ["running"] * 4
    leaks()


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_other_strategies(supervised, autojump_clock, strategy):
    """The strategy of the tree makes no difference to that."""
    app = await supervised(tree(strategy=strategy))
    blows = await chaos(app, seconds=30, rate=3.0)
    assert len(blows) > 50
    leaks()


@pytest.mark.conforms("CASE-109")
async def test_seed_decides_what_is_hit(supervised, autojump_clock):
    """The same seed hits the same children in the same way at the same times, another does not."""

    async def blows_of(seed):
        app = await supervised(tree())
        began = trio.current_time()
        blows = await chaos(app, seconds=20, seed=seed)
        await app.stop()
        return [(round(blow.at - began, 6), blow.kind, blow.path) for blow in blows]

    first = await blows_of(3)
    assert first == await blows_of(3)
    assert first != await blows_of(4)


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind(supervised, events, autojump_clock, kind):
    """Only the kinds that were asked for are done, and each does what it says."""
    agent = Agent(dict, name="state")
    app = await supervised(Supervisor([agent], max_restarts=100))
    blows = await chaos(app, seconds=3, rate=1.0, kinds=[kind])
    assert [str(blow).split(" at ")[0] for blow in blows] == [
        f"{kind} supervised/Supervisor/state"
    ] * 3
    ends = Counter((event.exit.reason, type(event.exit.error)) for event in events.of(Ended, agent))
    assert (
        ends
        == {
            "crash": {("crashed", InjectedCrash): 3},
            "kill": {("killed", type(None)): 3},
            "delay": {},
            "restart": {("shutdown", type(None)): 3},
        }[kind]
    )


class Echo(GenServer[None]):
    """A server that answers at once, if it is let."""

    def init(self):
        return None

    def handle_call(self, request, caller, state, /):
        return Reply(request, state)


DELAYED = {"agent": lambda: Agent(dict), "server": lambda: Echo(mailbox=1)}


@pytest.mark.parametrize("what", DELAYED)
async def test_delay_lets_callers_wait(supervised, nursery, autojump_clock, what):
    """A delayed server answers late: who has a short limit feels it, and nothing else is changed."""
    server = DELAYED[what]()
    app = await supervised(Supervisor([server]))
    late = 0
    nursery.start_soon(lambda: chaos(app, seconds=20, rate=1.0, kinds=["delay"]))
    for _ in range(100):
        await trio.sleep(0.2)
        try:
            await (server.get(timeout=0.1) if what == "agent" else server.call(1, timeout=0.1))
        except TimedOut:
            late += 1
    assert late > 10
    assert server.last_exit is None
    assert observe(server).dropped_casts == 0


async def test_program_under_chaos_loses_nothing(supervised, nursery, autojump_clock):
    """A worked case: each update is answered or failed, whatever happens meanwhile."""
    agent = Agent(list[int], name="state")
    app = await supervised(Supervisor([agent], max_restarts=1000))
    answered = failed = 0

    async def work():
        nonlocal answered, failed
        while True:
            try:
                await agent.update(lambda numbers: [*numbers, 1], timeout=None)
                answered += 1
            except Exception:
                failed += 1
            await trio.sleep(0.01)

    nursery.start_soon(work)
    await chaos(app, seconds=30, rate=10.0)
    assert answered > 1000
    nursery.cancel_scope.cancel()


async def test_crash_makes_no_cycle(supervised, autojump_clock, caplog):
    """Who was crashed is freed with its last handle: its error does not know who threw it."""
    caplog.set_level(logging.CRITICAL, "trio_otp")  # a report keeps the process
    app = await supervised(Supervisor(max_restarts=100))
    child = weakref.ref(await app.start_child(ChildSpec(trio.sleep_forever, restart="temporary")))
    gc.collect()
    gc.disable()
    try:
        assert len(await chaos(app, seconds=2, rate=1, kinds=["crash"])) == 1
        assert child() is None
    finally:
        gc.enable()


# --- trees that are not whole --------------------------------------------------------------


async def test_tree_that_falls(nursery, autojump_clock):
    """A tree that gives up fails it, with its error, the blows and what to do."""
    app = Supervisor([Agent(dict, name="state")], name="weak", max_restarts=3, max_seconds=10)

    async def run():
        with pytest.raises(Exception, match="more than 3 restarts"):
            await app.run()

    nursery.start_soon(run)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(AssertionError) as caught:
        await chaos(app, seconds=60, rate=0.5, kinds=["kill", "restart", "delay"], seed=2)
    text = str(caught.value)
    assert "has fallen, crashed with RestartsExhausted: lower the rate, or allow more" in text
    assert "(seed=2), the last:" in text
    assert "kill weak/state at" in text


async def test_child_that_stays_away(supervised, autojump_clock):
    """A child that does not come back in time is named."""

    async def once(*, task_status):
        if begun:
            await trio.sleep_forever()
        begun.append(1)
        task_status.started()
        await trio.sleep_forever()

    begun = []
    app = await supervised(Supervisor([once], name="app"))
    with pytest.raises(AssertionError, match=r"not whole\n  supervised/app/.*once is starting\n"):
        await chaos(app, seconds=5, rate=0.25, kinds=["crash"], settle=10)


async def test_what_may_stay_away(supervised, autojump_clock):
    """A temporary child need not come back, nor a transient one that ended well."""
    children = [
        ChildSpec(Agent(dict, name="once"), restart="temporary"),
        ChildSpec(trio.lowlevel.checkpoint, id="done", restart="transient"),
        Agent(dict, name="stays"),
    ]
    app = await supervised(Supervisor(children, max_restarts=100))
    await chaos(app, seconds=60, kinds=["kill"], rate=1)
    assert [child.id for child in app.children] == ["done", "stays"]


async def test_nobody_to_hit(supervised, autojump_clock):
    """A tree without children is whole, and time passes all the same."""
    app = await supervised(Supervisor())
    began = trio.current_time()
    assert await chaos(app, seconds=5, kinds=["delay"]) == ()
    assert trio.current_time() - began == pytest.approx(5.05)  # with one look at the end


async def test_crash_that_cannot_be_thrown(supervised, autojump_clock):
    """A child that waits where nothing can be broken off is let be."""

    async def shut(*, task_status):
        task_status.started()
        while not done:
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    done = []
    app = await supervised(Supervisor([ChildSpec(shut, restart="temporary")]))
    assert await chaos(app, seconds=3, rate=1, kinds=["crash"]) == ()
    done.append(1)
    trio.lowlevel.reschedule(app.children[0].process._life.task)


# --- bad input -----------------------------------------------------------------------------

BAD = {
    "no time": ({"seconds": 0}, ValueError, "seconds must be more than 0 seconds"),
    "no rate": ({"rate": 0}, ValueError, "rate must be more than 0"),
    "no kinds": ({"kinds": []}, ValueError, "kinds must name at least one of crash, kill"),
    "another kind": ({"kinds": ["burn"]}, ValueError, "kinds must be one of 'crash', 'kill'"),
    "a word": ({"kinds": "kill"}, TypeError, "kinds must be a collection of words"),
    "a wrong seed": ({"seed": "x"}, TypeError, "seed must be a whole number"),
    "a wrong limit": ({"settle": -1}, ValueError, "settle must not be negative"),
    "too much for all budgets": (
        {"rate": 5.0},
        ValueError,
        "rate=5 means 2.5 crashes and kills a second, and the supervisors of this tree survive "
        "0.6 restarts a second together: lower the rate, or give them a larger max_restarts",
    ),
}


@pytest.mark.parametrize("what", BAD)
async def test_bad_input(supervised, what):
    """What can never work is refused before anything is hit."""
    options, error, text = BAD[what]
    app = await supervised(Supervisor([Agent(dict)]))
    with pytest.raises(error, match=text):
        await chaos(app, **{"seconds": 60} | options)


async def test_wrong_supervisor():
    """It needs a supervisor, and one that runs."""
    with pytest.raises(TypeError, match="supervisor must be a supervisor, got <Task"):
        await chaos(Task(trio.sleep_forever), seconds=1)
    with pytest.raises(NotRunning):
        await chaos(Supervisor(), seconds=1)
