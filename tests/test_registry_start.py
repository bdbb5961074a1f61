"""Registry.get_or_start: one process for a key, however many ask, whatever goes wrong."""

import gc
import random
import re
import weakref
from contextlib import suppress

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from trio_otp import (
    Agent,
    AlreadyRegistered,
    AlreadyRunning,
    Backoff,
    CalledItself,
    DynamicSupervisor,
    Ended,
    Exited,
    GaveUp,
    Ignore,
    MaxChildren,
    NotRunning,
    Registry,
    RestartsExhausted,
    StartFailed,
    Supervisor,
    Task,
    UnknownChild,
    current_process,
    observe,
    subscribe,
    trap_exit,
)


class Oops(Exception):
    """What starts fail with."""


class Maker:
    """Makes agents whose start takes a second, and counts them."""

    def __init__(self, *outcomes, **options):
        self.outcomes = list(outcomes)  # of the starts, in turn; then all succeed
        self.made = []
        self.options = {"restart": "temporary"} | options

    def __call__(self):
        self.made.append(Agent(self.init, **self.options))
        return self.made[-1]

    async def init(self):
        outcome = self.outcomes.pop(0) if self.outcomes else None
        await trio.sleep(1)
        if outcome is not None:
            raise outcome
        return len(self.made)


@pytest.fixture(params=[Supervisor, DynamicSupervisor])
async def home(request):
    async with request.param() as supervisor:
        yield supervisor


async def ask(many, registry, make, home, key="k"):
    """Have many tasks ask at once; give what each got, in no order."""
    results = []

    async def one():
        try:
            results.append(await registry.get_or_start(key, make, home))
        except Exception as error:
            results.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(many):
            nursery.start_soon(one)
    return results


def nothing_under_way(registry):
    return not registry._starts and registry._lasting.keys() <= registry._holders.keys()


# --- one start -------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [1, 2, 100])
async def test_all_get_one(autojump_clock, home, many):
    """However many ask at once, one process is made, and all get it when it is ready."""
    registry, make = Registry(), Maker()
    results = await ask(many, registry, make, home)
    (agent,) = make.made
    assert results == [agent] * many
    assert agent.status == "running"
    assert trio.current_time() == 1
    assert registry.items() == (("k", (agent, None)),)
    assert await registry.get_or_start("k", make, home) is agent
    assert [child.process for child in home.children] == make.made == [agent]
    assert nothing_under_way(registry)


async def test_each_key_has_its_own(autojump_clock, home):
    """Starts under different keys have nothing to do with each other."""
    registry, make = Registry(), Maker()
    a = await registry.get_or_start("a", make, home)
    b = await registry.get_or_start("b", make, home)
    assert a is not b
    assert registry.keys_of(b) == ("b",)


async def test_who_is_there_is_given(home):
    """A process that others have registered is given as it is, also while it starts."""
    registry, make = Registry(), Maker()

    async def init():
        registry.register("k", current_process())
        await trio.sleep_forever()

    agent = Agent(init)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent.run)
        await wait_all_tasks_blocked()
        assert await registry.get_or_start("k", make, home) is agent
        nursery.cancel_scope.cancel()
    assert make.made == []


async def test_is_a_checkpoint(home):
    """It is a checkpoint, also when the process is there already."""
    registry = Registry()
    make = lambda: Agent(int)  # noqa: E731
    with assert_checkpoints():
        await registry.get_or_start("k", make, home)
    with assert_checkpoints():
        await registry.get_or_start("k", make, home)
    with trio.CancelScope() as scope:
        scope.cancel()
        await registry.get_or_start("k", make, home)
    assert scope.cancelled_caught


async def test_key_is_reserved_while_it_starts(autojump_clock, home, nursery):
    """Nobody else can take a key whose process is being started; it is found when it is ready."""
    registry, make = Registry(), Maker()
    nursery.start_soon(registry.get_or_start, "k", make, home)
    await trio.sleep(0.5)
    (agent,) = make.made
    assert registry.whereis("k") is None
    async with Agent(int) as other:
        with pytest.raises(AlreadyRegistered) as refused:
            registry.register("k", other)
    assert refused.value.process is agent
    await trio.sleep(1)
    assert registry.whereis("k") is agent


async def test_run_in_context_of_the_home(home):
    """What is started lives in its supervisor, not in whoever asked first."""
    registry, make = Registry(), lambda: Agent(int)
    with trio.CancelScope() as scope:
        agent = await registry.get_or_start("k", make, home)
        scope.cancel()
    assert registry.whereis("k") is agent
    assert await agent.get() == 0


# --- starts that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize("many", [1, 2, 100])
@pytest.mark.conforms("REG-073", "OBS-07")
async def test_all_get_the_error(autojump_clock, home, many):
    """If the start fails, all who wait get an error of their own from one cause; the next may try."""
    crash = Oops("no")
    registry, make = Registry(), Maker(crash)
    results = await ask(many, registry, make, home)
    assert {type(error) for error in results} == {StartFailed}
    assert len({id(error) for error in results}) == many
    assert {error.__cause__ for error in results} == {crash}
    assert len({str(error) for error in results}) == 1
    assert trio.current_time() == 1
    assert (registry.count(), home.children) == (0, ())
    assert nothing_under_way(registry)
    assert await registry.get_or_start("k", make, home) is make.made[1]


async def test_declining(autojump_clock, home):
    """A process that declines to start is not handed out, and each who waits asks for one anew."""
    registry, make = Registry(), Maker(Ignore(), Ignore())
    results = await ask(3, registry, make, home)
    assert [type(result) for result in results[:2]] == [NotRunning, NotRunning]
    assert "declined to start" in str(results[0])
    assert results[2] is make.made[2]
    assert registry.whereis("k") is make.made[2]


class Full:
    """A supervisor that, after a second, takes nobody."""

    async def start_child(self, child):
        await trio.sleep(1)
        raise MaxChildren


async def test_error_of_the_asker(autojump_clock, home, nursery):
    """An error that is about the asker is the asker's alone: who waits tries for themselves."""
    registry, make = Registry(), Maker()

    async def refused():
        with pytest.raises(MaxChildren):
            await registry.get_or_start("k", make, Full())

    nursery.start_soon(refused)
    await trio.sleep(0.5)
    assert await registry.get_or_start("k", make, home) is make.made[1]
    assert trio.current_time() == 2


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (3, TypeError, "make must be a function, got 3"),
        (lambda: 3, TypeError, "make must return a process, got 3"),
        (lambda: Agent, TypeError, "make must return a process, got <class"),
        (dict[str, int]().popitem, KeyError, "empty"),
    ],
)
async def test_wrong_make(home, make, kind, message):
    """What cannot make a process is refused, and the key is free for the next."""
    registry = Registry()
    with pytest.raises(kind, match=message):
        await registry.get_or_start("k", make, home)
    assert nothing_under_way(registry)
    assert await registry.get_or_start("k", lambda: Agent(int), home)


async def test_make_gives_one_that_runs(home):
    """A process that has a home already cannot be started, and the key does not wait for its end."""
    registry = Registry()
    async with Agent(int) as busy:
        with pytest.raises(AlreadyRunning, match="make must return a process that does not run"):
            await registry.get_or_start("k", lambda: busy, home)
        assert nothing_under_way(registry)
        assert registry.whereis("k") is None


async def test_needs_unique_keys(home):
    """Where a key may have many processes, there is no one to get."""
    with pytest.raises(ValueError, match="needs a registry with unique keys"):
        await Registry("duplicate").get_or_start("k", lambda: Agent(int), home)


class Failing:
    """A supervisor that, after a second, says that a start has failed."""

    async def start_child(self, child):
        await trio.sleep(1)
        raise StartFailed("no")


async def test_a_failed_start_leaves_nothing(autojump_clock):
    """With the collector off, the process of a failed start is freed with the errors about it."""
    registry, made = Registry(), []

    def make():
        agent = Agent(int)
        made.append(weakref.ref(agent))
        return agent

    async def one():
        with suppress(StartFailed):
            await registry.get_or_start("k", make, Failing())

    gc.collect()
    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one)
        await wait_all_tasks_blocked()
        assert [agent() for agent in made] == [None]
    finally:
        gc.enable()


# --- askers that leave ------------------------------------------------------------------------------


async def test_starter_leaves(autojump_clock, home):
    """If the one whose call started it is cancelled, another who waits starts anew."""
    registry, make = Registry(), Maker()
    results = []

    async def wait():
        results.append(await registry.get_or_start("k", make, home))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            nursery.start_soon(registry_user := wait)
            await registry.get_or_start("k", make, home)
            pytest.fail("not reached")
        nursery.start_soon(registry_user)
    assert len(make.made) <= 2
    assert results == [make.made[-1]] * 2
    assert registry.whereis("k") is make.made[-1]
    assert len(home.children) == 1


@pytest.mark.parametrize("waiters", [0, 1, 20])
async def test_all_starters_leave_in_turn(autojump_clock, home, waiters):
    """However many starters leave one after the other, the key never stays stuck."""
    registry, make = Registry(), Maker()
    results = []

    async def impatient():
        with trio.move_on_after(0.5):
            await registry.get_or_start("k", make, home)
            results.append("too early")

    async def patient():
        results.append(await registry.get_or_start("k", make, home))

    for _ in range(3):
        await impatient()
    assert len(make.made) == 3
    async with trio.open_nursery() as nursery:
        for _ in range(waiters):
            nursery.start_soon(impatient)
        nursery.start_soon(patient)
    assert results == [make.made[-1]]
    assert len(home.children) == 1
    assert nothing_under_way(registry)


async def test_waiter_leaves(autojump_clock, home):
    """One who waits may leave; the start goes on."""
    registry, make = Registry(), Maker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.get_or_start, "k", make, home)
        await wait_all_tasks_blocked()
        with trio.move_on_after(0.5) as scope:
            await registry.get_or_start("k", make, home)
        assert scope.cancelled_caught
    assert registry.whereis("k") is make.made[0]


async def test_abandoned_start_is_waited_for(autojump_clock, home):
    """After an abandoned start the next begins when the cleanup of the first is over."""
    registry, log = Registry(), []

    async def slow_to_start():
        log.append(("start", trio.current_time()))
        try:
            await trio.sleep(10 if len(log) == 1 else 0)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3 if len(log) == 1 else 0)
            log.append(("done", trio.current_time()))

    make = lambda: Agent(slow_to_start, restart="temporary")  # noqa: E731
    with trio.move_on_after(1):
        await registry.get_or_start("k", make, home)
    other = Supervisor()  # which does not know what the first one is doing
    async with other:
        await registry.get_or_start("k", make, other)
        assert log == [("start", 0), ("done", 4), ("start", 4), ("done", 4)]


async def test_supervisor_stops_meanwhile(autojump_clock, home):
    """If the supervisor stops, its asker learns of it; who waits goes on, after the cleanup."""
    registry, log = Registry(), []
    stopping = Supervisor()

    async def slow_to_end():
        log.append(trio.current_time())
        try:
            await trio.sleep(3 if len(log) == 1 else 0)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    async def ask_first():
        with pytest.raises(NotRunning):
            await registry.get_or_start("k", lambda: Agent(slow_to_end), stopping)

    async def ask_next():
        await trio.sleep(1)
        await registry.get_or_start("k", lambda: Agent(slow_to_end), home)

    async with stopping, trio.open_nursery() as nursery:
        nursery.start_soon(ask_first)
        nursery.start_soon(ask_next)
        await trio.sleep(2)
        await stopping.stop()
    assert log == [0, 3]


class Interrupted:
    """A supervisor that is interrupted as it starts something."""

    async def start_child(self, child):
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt


async def test_interrupt_leaves_the_key_free(home):
    """An interrupt passes through, in `make` and during the start, and the key is free."""
    registry = Registry()

    def make():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await registry.get_or_start("k", make, home)
    with pytest.raises(KeyboardInterrupt):
        await registry.get_or_start("k", Maker(), Interrupted())
    assert nothing_under_way(registry)
    assert await registry.get_or_start("k", lambda: Agent(int), home)


async def test_granted_as_its_asker_leaves(autojump_clock, home):
    """A start that succeeds in the moment in which its asker leaves is undone, or kept, never half."""
    for asked in range(20):
        registry, make = Registry(), Maker()
        with trio.move_on_after(1):
            await registry.get_or_start("k", make, home)
        agent = await registry.get_or_start("k", make, home)
        assert agent is make.made[-1]
        assert await agent.get() == len(make.made)
        assert len(home.children) == asked + 1


# --- later lives ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_restarted_under_its_key(autojump_clock, home, restart, caplog):
    """What is restarted keeps its key from life to life, also between two of them."""
    registry, make = Registry(), Maker(restart=restart)
    agent = await registry.get_or_start("k", make, home)
    for _ in range(3):
        with pytest.raises(Exited):
            await agent.get(lambda _: 1 // 0)
        assert agent.status == "restarting" or agent.status == "starting"
        assert registry.whereis("k") is agent
        assert await registry.get_or_start("k", make, home) is agent
        assert await agent.get() == 1
    assert registry.items() == (("k", (agent, None)),)
    await home.terminate_child(agent)
    assert registry.items() == ()
    assert await registry.get_or_start("k", make, home) is make.made[1]


async def test_restarted_with_a_delay(autojump_clock, home, caplog):
    """While a restart waits for its delay, the key is taken, and calls wait for the next life."""
    registry = Registry()

    class Patient:
        async def start_child(self, child):
            return await home.start_child(child.child_spec(backoff=Backoff(2.0)))

    make, patient = Maker(restart="permanent"), Patient()
    agent = await registry.get_or_start("k", make, patient)
    for delay in (2, 4):
        start = trio.current_time()
        agent.kill()
        await agent.wait()
        assert agent.status == "restarting"
        assert registry.whereis("k") is agent
        assert await registry.get_or_start("k", make, patient) is agent
        assert await agent.get(timeout=None) == 1
        assert trio.current_time() == start + delay + 1
    agent.kill()
    await agent.wait()
    await home.terminate_child(agent)
    assert registry.items() == ()


async def test_promise_that_is_not_kept(autojump_clock, caplog):
    """The key is free when the supervisor gives up, in the step in which it takes its promise back."""
    registry = Registry()
    seen = []

    def look(event):
        if isinstance(event, Ended | GaveUp):
            seen.append((type(event), agent.status, registry.count()))

    with subscribe(look), pytest.raises(RestartsExhausted):
        async with Supervisor(max_restarts=1) as supervisor:
            agent = await registry.get_or_start("k", lambda: Agent(int), supervisor)
            for _ in range(2):
                await agent.get()
                agent.kill()
                await agent.wait()
            await trio.sleep_forever()
    assert seen[:2] == [(Ended, "restarting", 1)] * 2
    assert seen[2][0] is GaveUp
    assert (agent.status, registry.count()) == ("stopped", 0)
    assert agent._life.at_end is None


async def test_restarted_with_its_group(autojump_clock, caplog):
    """A process that is restarted with its group keeps its key as well, at each moment."""
    registry, seen = Registry(), []
    async with Supervisor(strategy="one_for_all") as home:
        await registry.get_or_start("kept", lambda: Agent(int, name="kept"), home)
        other = await registry.get_or_start("other", lambda: Agent(int, name="other"), home)
        with subscribe(lambda event: seen.append(registry.count())):
            other.kill()
            await wait_all_tasks_blocked()
        assert set(seen) == {2}
        assert [child.restarts for child in home.children] == [0, 1]
    assert registry.items() == ()


async def test_many_short_lives_leave_nothing(home):
    """With the collector off, thousands of processes and their entries leave no object behind."""
    registry = Registry()

    async def one(number):
        agent = await registry.get_or_start(number, lambda: Agent(int, restart="temporary"), home)
        registry.register(("also", number), agent)
        await agent.stop()

    await one(0)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for number in range(1_000):
            await one(number)
        assert len(gc.get_objects()) - before < 100
    finally:
        gc.enable()
    assert registry.items() == ()


@pytest.mark.parametrize("restart", ["temporary", "transient"])
async def test_ended_for_good(autojump_clock, home, restart, caplog):
    """What is not restarted loses its key with its life, and the next who asks starts another."""
    registry, make = Registry(), Maker(restart=restart)
    agent = await registry.get_or_start("k", make, home)
    await agent.stop()
    assert registry.whereis("k") is None
    assert await registry.get_or_start("k", make, home) is make.made[1]


async def test_registers_itself_in_each_life(autojump_clock, home, caplog):
    """A process that registers itself may also be started so: each life renews its entry."""
    registry, lives = Registry(), []

    def init():
        lives.append(len(lives))
        registry.register("k", current_process(), len(lives))
        with pytest.raises(AlreadyRegistered):
            registry.register("k", current_process())

    agent = await registry.get_or_start("k", lambda: Agent(init), home)
    assert registry.items() == (("k", (agent, 1)),)
    agent.kill()
    await agent.wait()
    assert registry.items() == (("k", (agent, 1)),)
    await agent.get()
    assert registry.items() == (("k", (agent, 2)),)
    await home.terminate_child(agent)
    assert registry.items() == ()


async def test_registers_itself_once_it_runs(home):
    """A function that is ready at once and then registers itself does so whoever is first."""
    registry = Registry()

    async def body():
        registry.register("k", current_process(), "mine")
        await trio.sleep_forever()

    for _ in range(20):
        task = await registry.get_or_start("k", lambda: Task(body), home)
        await wait_all_tasks_blocked()
        assert registry.items() == (("k", (task, "mine")),)
        await home.terminate_child(task)


async def test_ends_as_soon_as_it_is_ready(home):
    """A process that ends at once is given to its starter, and its key is free."""
    registry = Registry()

    async def body():
        pass

    for _ in range(30):  # who of the two goes on first is a matter of luck
        task = await registry.get_or_start("k", lambda: Task(body, restart="temporary"), home)
        await task.wait()
        assert task.last_exit.reason == "normal"
        assert registry.items() == ()


async def test_falls_as_soon_as_it_is_ready(autojump_clock, home, caplog):
    """A process that falls before its starter goes on keeps its key if it is restarted."""
    registry, lives = Registry(), []

    async def body():
        lives.append(1)
        if len(lives) == 1:
            raise Oops
        await trio.sleep_forever()

    for _ in range(20):  # as above
        lives.clear()
        await trio.sleep(6)  # past the budget's window
        task = await registry.get_or_start("k", lambda: Task(body, restart="permanent"), home)
        await wait_all_tasks_blocked()
        assert (len(lives), task.status) == (2, "running")
        assert registry.items() == (("k", (task, None)),)
        await home.terminate_child(task)
        assert registry.items() == ()


# --- processes that are stopping -----------------------------------------------------------------------


async def slow_to_end():
    with trap_exit() as exiting:
        await exiting.wait()
        await trio.sleep(2)


@pytest.mark.parametrize("many", [1, 10])
async def test_stopping_one_is_waited_for(autojump_clock, home, nursery, many):
    """A process that is being stopped is not handed out: all wait for its end, and start one."""
    registry = Registry()
    first = await registry.get_or_start("k", lambda: Task(slow_to_end), home)
    await wait_all_tasks_blocked()
    nursery.start_soon(first.stop)
    await wait_all_tasks_blocked()
    assert registry.whereis("k").status == "stopping"
    make = Maker()
    results = await ask(many, registry, make, home)
    assert results == make.made * many
    assert trio.current_time() == 3
    await home.stop()


async def test_stopped_one_that_comes_back(autojump_clock, home, nursery):
    """A permanent child that was stopped through its handle comes back under its key."""
    registry = Registry()
    make = lambda: Task(slow_to_end, restart="permanent")  # noqa: E731
    first = await registry.get_or_start("k", make, home)
    await wait_all_tasks_blocked()
    nursery.start_soon(first.stop)
    await wait_all_tasks_blocked()
    assert await registry.get_or_start("k", make, home) is first
    assert trio.current_time() == 2
    await home.stop()


# --- waiting for oneself ----------------------------------------------------------------------------------


async def test_asking_in_its_own_init(autojump_clock, home):
    """A process that asks for itself while it starts is told so instead of waiting for ever."""
    registry = Registry()

    async def init():
        return await registry.get_or_start("k", Maker(), home)

    with pytest.raises(StartFailed) as failed:
        await registry.get_or_start("k", lambda: Agent(init, name="a"), home)
    assert isinstance(failed.value.__cause__, CalledItself)
    assert re.search(
        "'a' starting> would wait for its own start or end", str(failed.value.__cause__)
    )


async def test_asking_in_a_circle(autojump_clock, home):
    """Processes that start each other, and would wait for each other, are told so."""
    registry = Registry()
    told = []

    async def ask_for(key):
        try:
            await registry.get_or_start(key, lambda: Agent(first, name="x"), other)
        except CalledItself as error:
            told.append(str(error))

    async def first():
        await registry.get_or_start("b", lambda: Agent(ask_for, "a", name="b"), other)

    async with Supervisor() as other:
        await registry.get_or_start("a", lambda: Agent(first, name="a"), home)
    assert told == ["<Agent 'b' starting> would wait for its own start or end"]


async def test_who_waits_can_be_seen(autojump_clock, home, nursery):
    """Of a process that waits for the start of another one can see for whom."""
    registry, make = Registry(), Maker()

    async def ask_and_stay():
        await registry.get_or_start("k", make, home)
        await trio.sleep(1)

    asking = [Task(ask_and_stay) for _ in range(2)]
    for task in asking:
        nursery.start_soon(task.run)
    await trio.sleep(0.5)
    assert [observe(task).waiting_for for task in asking] == make.made * 2
    await trio.sleep(1)
    assert [observe(task).waiting_for for task in asking] == [None, None]
    assert [task.status for task in asking] == ["running", "running"]


async def test_asking_in_its_own_end(autojump_clock, home):
    """A process that asks for itself while it is stopped is told so."""
    registry = Registry()
    told = []

    async def body():
        with trap_exit() as exiting:
            await exiting.wait()
            with pytest.raises(CalledItself):
                await registry.get_or_start("k", Maker(), home)
            told.append(True)

    task = await registry.get_or_start("k", lambda: Task(body), home)
    await wait_all_tasks_blocked()
    await task.stop()
    assert told == [True]


# --- many at random ---------------------------------------------------------------------------


class Storm:
    """Users who ask at random, leave, kill and terminate; keeps account of who was alive."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.registry = Registry()
        self.alive = []
        self.overlaps = []
        self.given = 0

    def hear(self, event):
        if isinstance(event, Ended) and event.process in self.alive:
            self.alive.remove(event.process)

    async def init(self):
        self.overlaps += self.alive
        self.alive.append(current_process())
        await trio.sleep(self.dice.random())
        if self.dice.random() < 0.2:
            raise Oops

    def make(self):
        return Agent(self.init, restart=self.dice.choice(["temporary", "permanent"]))

    async def user(self, home):
        for _ in range(10):
            await trio.sleep(self.dice.random() * 2)
            with trio.move_on_after(self.dice.random() * 2), suppress(StartFailed, UnknownChild):
                await self.use(home)

    async def use(self, home):
        agent = await self.registry.get_or_start("k", self.make, home)
        assert agent.status in ("running", "restarting", "starting")
        self.given += 1
        match self.dice.randrange(3):
            case 0:
                agent.kill()
            case 1:
                await home.terminate_child(agent)


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize("seed", range(10))
async def test_storm(autojump_clock, seed, kind, caplog):
    """Whoever asks, leaves, ends or kills: one process for a key at a time, and none given dead."""
    storm = Storm(seed)
    with subscribe(storm.hear):
        async with Supervisor(max_restarts=10_000) as home, trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(storm.user, home)
    assert storm.given > 10
    assert (storm.overlaps, storm.alive, storm.registry.items()) == ([], [], ())
    assert nothing_under_way(storm.registry)
