"""DynamicSupervisor: children on demand, known by their handles."""

import random
from collections import Counter
from contextlib import suppress

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_otp import (
    Agent,
    AlreadyRunning,
    Backoff,
    ChildSpec,
    DuplicateChild,
    DynamicSupervisor,
    Ignore,
    MaxChildren,
    NotRunning,
    RestartsExhausted,
    StartFailed,
    Supervisor,
    Task,
    UnknownChild,
    observe,
    trap_exit,
)


async def forever():
    await trio.sleep_forever()


async def crash_after(seconds):
    await trio.sleep(seconds)
    raise ValueError


def crash(_):
    raise ValueError


@pytest.mark.conforms("DSUP-021", "DSUP-022", "DSUP-028")
async def test_any_child(autojump_clock):
    """A process, a spec or a function may be a child; like ones, and equal ids, may coexist."""
    async with DynamicSupervisor() as sup:
        agent = Agent(int)
        assert await sup.start_child(agent) is agent
        for _ in range(2):
            task = await sup.start_child(forever)
            assert (type(task), task.status) == (Task, "running")
            await sup.start_child(ChildSpec(forever, id="same"))
        assert len(sup.children) == 5
        assert len({child.id for child in sup.children}) == 5
        assert await agent.get() == 0


@pytest.mark.conforms(
    "DSUP-005", "DSUP-008", "DSUP-009", "DSUP-010", "DSUP-011", "DSUP-007", "DSUP-012"
)
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_restarts": -1}, ValueError),
        ({"max_seconds": 0}, ValueError),
        ({"max_children": -1}, ValueError),
        ({"max_children": 1.5}, TypeError),
        ({"extra_arguments": 7}, TypeError),
        ({"name": 7}, TypeError),
        ({"strategy": "one_for_all"}, TypeError),
        ({"auto_shutdown": "any_significant"}, TypeError),
    ],
)
def test_bad_options(options, error):
    """A wrong option is refused by its name when the supervisor is built."""
    with pytest.raises(error, match=next(iter(options))):
        DynamicSupervisor(**options)


@pytest.mark.conforms("DSUP-001", "DSUP-002", "DSUP-003", "DSUP-018")
async def test_as_a_child(autojump_clock):
    """It may be a child itself, begins empty, and is named by its name or itself."""
    named, first, second = DynamicSupervisor(name="kids"), DynamicSupervisor(), DynamicSupervisor()
    async with Supervisor([named, first, second]) as sup:
        assert [child.id for child in sup.children] == ["kids", first, second]
        assert {child.kind for child in sup.children} == {"supervisor"}
        assert named.children == ()


@pytest.mark.conforms("DSUP-016", "DSUP-072")
async def test_ends_with_its_home(autojump_clock):
    """It stops its children when its block is left, and when it is stopped."""
    async with DynamicSupervisor() as sup:
        task = await sup.start_child(forever)
    assert (task.last_exit.reason, sup.children) == ("shutdown", ())
    async with DynamicSupervisor() as sup:
        task = await sup.start_child(forever)
        assert (await sup.stop()).reason == "shutdown"
        with pytest.raises(NotRunning):
            await sup.start_child(forever)


@pytest.mark.conforms("DSUP-024", "DSUP-041")
async def test_extra_arguments(autojump_clock):
    """Functions get the extra arguments before their own, in each life."""
    seen = []

    async def job(*args):
        seen.append(args)
        await trio.sleep(1)
        if len(seen) < 3:
            raise ValueError
        await trio.sleep_forever()

    async with DynamicSupervisor(extra_arguments=("db",)) as sup:
        await sup.start_child(ChildSpec(job, 1, id="job"))
        await trio.sleep(10)
        assert seen == [("db", 1)] * 3
        await sup.start_child(job)
        await wait_all_tasks_blocked()
        assert seen[-1] == ("db",)


@pytest.mark.conforms("DSUP-025", "DSUP-026")
async def test_what_cannot_be_a_child():
    """What cannot be a child is refused in the asker."""
    async with DynamicSupervisor() as sup:
        with pytest.raises(TypeError, match="a child must be"):
            await sup.start_child(7)
        with pytest.raises(ValueError, match="significant"):
            await sup.start_child(ChildSpec(forever, significant=True, restart="transient"))
        with pytest.raises(TypeError, match="cannot be called so"):
            await sup.start_child(crash_after)
        agent = await sup.start_child(Agent(int))
        with pytest.raises(DuplicateChild):
            await sup.start_child(agent)
        async with Agent(int) as elsewhere:
            with pytest.raises(AlreadyRunning):
                await sup.start_child(elsewhere)
        assert len(sup.children) == 1


@pytest.mark.conforms("DSUP-029", "DSUP-042")
async def test_ignore(autojump_clock):
    """A child that declines to start comes back stopped and is not kept; so too at a restart."""
    lives = []

    def init(always):
        lives.append(1)
        if always or len(lives) > 2:
            raise Ignore
        return 0

    async with DynamicSupervisor() as sup:
        agent = await sup.start_child(Agent(init, True))
        assert (agent.status, sup.children) == ("stopped", ())
        agent = await sup.start_child(Agent(init, False))
        agent.cast(crash)
        await wait_all_tasks_blocked()
        assert (agent.status, sup.children) == ("stopped", ())


@pytest.mark.conforms("DSUP-030", "DSUP-031", "DSUP-023")
async def test_failed_start(autojump_clock):
    """A start that fails raises StartFailed from its error, and leaves nothing behind."""

    def fail():
        raise KeyError("init")

    async with DynamicSupervisor() as sup:
        with pytest.raises(StartFailed) as info:
            await sup.start_child(Agent(fail))
        assert isinstance(info.value.__cause__, KeyError)
        with pytest.raises(StartFailed, match="not ready within 2 s"):
            await sup.start_child(ChildSpec(Agent(trio.sleep_forever), start_timeout=2))
        with trio.move_on_after(1):
            await sup.start_child(Agent(trio.sleep_forever))
        await wait_all_tasks_blocked()
        assert sup.children == ()


@pytest.mark.conforms("DSUP-032", "DSUP-033", "DSUP-034")
async def test_max_children(autojump_clock):
    """A full supervisor refuses children; one between two lives has its place, and just one."""
    async with DynamicSupervisor(max_children=2) as sup:
        agent = Agent(int)
        await sup.start_child(agent.child_spec(backoff=Backoff(5)))
        other = await sup.start_child(forever)
        agent.cast(crash)
        await wait_all_tasks_blocked()
        assert agent.status == "restarting"
        for _ in range(2):
            with pytest.raises(MaxChildren, match="max_children=2"):
                await sup.start_child(forever)
            await agent.get(timeout=10)
        await sup.terminate_child(other)
        await sup.start_child(forever)
    async with DynamicSupervisor(max_children=0) as sup:
        with pytest.raises(MaxChildren):
            await sup.start_child(forever)


@pytest.mark.conforms("DSUP-035")
async def test_starts_are_serial(autojump_clock):
    """One start at a time: the next waits until the one before is ready."""

    async def slow():
        await trio.sleep(3)

    done = []

    async def start():
        await sup.start_child(Agent(slow))
        done.append(trio.current_time())

    async with DynamicSupervisor() as sup, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(start)
    assert done == [3, 6, 9]


@pytest.mark.conforms("DSUP-037", "DSUP-038", "DSUP-039", "DSUP-040", "DSUP-027")
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("fails", [False, True])
async def test_restart_types(autojump_clock, restart, fails):
    """A child that is not restarted is forgotten; one that is keeps its handle."""

    async def once():
        lives.append(1)
        if len(lives) == 1:
            await trio.sleep(1)
            if fails:
                raise ValueError
        else:
            await trio.sleep_forever()

    lives = []
    async with DynamicSupervisor() as sup:
        task = await sup.start_child(ChildSpec(once, restart=restart))
        await trio.sleep(2)
        comes_back = restart == "permanent" or (restart == "transient" and fails)
        assert [child.process for child in sup.children] == [task] * comes_back
        assert len(lives) == 1 + comes_back


@pytest.mark.conforms("DSUP-043", "DSUP-044", "DSUP-046", "DSUP-071", "DSUP-070")
async def test_restart_that_fails(autojump_clock):
    """A restart that fails to start is tried again, and each try counts."""
    tries = []

    def init():
        tries.append(1)
        if len(tries) in (2, 3):
            raise KeyError
        return len(tries)

    async with DynamicSupervisor() as sup:
        agent = await sup.start_child(Agent(init))
        agent.cast(crash)
        await wait_all_tasks_blocked()
        assert await agent.get() == 4
        assert [(child.restarts, child.status) for child in sup.children] == [(3, "running")]


@pytest.mark.conforms("DSUP-045", "DSUP-047")
async def test_one_budget_for_all(autojump_clock):
    """All children share one budget; spending it stops all and fails."""
    with pytest.raises(RestartsExhausted):
        async with DynamicSupervisor() as sup:
            bystander = await sup.start_child(forever)
            for _ in range(4):
                await sup.start_child(ChildSpec(crash_after, 1, id="x", restart="transient"))
            await trio.sleep(2)
    assert bystander.last_exit.reason == "shutdown"


@pytest.mark.conforms(
    "DSUP-052",
    "DSUP-053",
    "DSUP-061",
    "DSUP-055",
    "DSUP-058",
    "DSUP-059",
    "DSUP-054",
    "DSUP-057",
    "DSUP-062",
)
async def test_stops_together(autojump_clock):
    """All are told at once, and each has its own limit: the time is that of the slowest."""

    async def tidy(seconds):
        with trap_exit() as exiting:
            await exiting.wait()
            await trio.sleep(seconds)

    async with DynamicSupervisor() as sup:
        tasks = {
            name: await sup.start_child(ChildSpec(tidy, seconds, id=name, shutdown=limit))
            for name, seconds, limit in [
                ("quick", 1, 5.0),
                ("late", 9, 4.0),
                ("patient", 6, None),
                ("brutal", 9, "brutal_kill"),
                ("none", 9, 0),
                ("one", 9, 1),
            ]
        }
        plain = await sup.start_child(forever)
    assert trio.current_time() == 6
    reasons = {name: task.last_exit.reason for name, task in tasks.items()}
    assert reasons == {
        "quick": "shutdown",
        "late": "killed",
        "patient": "shutdown",
        "brutal": "killed",
        "none": "killed",
        "one": "killed",
    }
    assert plain.last_exit.reason == "shutdown"


@pytest.mark.conforms("DSUP-064", "DSUP-065", "DSUP-066", "DSUP-060", "DSUP-067", "DSUP-069")
async def test_terminate_child(autojump_clock):
    """A terminated child is gone for good, also between two lives; unknown ones are refused."""
    async with DynamicSupervisor() as sup:
        agent, resting = Agent(int), Agent(int)
        await sup.start_child(agent)
        await sup.start_child(resting.child_spec(backoff=Backoff(60)))
        resting.cast(crash)
        await wait_all_tasks_blocked()
        for child in (agent, resting):
            await sup.terminate_child(child)
            assert child.status == "stopped"
            with pytest.raises(UnknownChild):
                await sup.terminate_child(child)
        with pytest.raises(UnknownChild):
            await sup.terminate_child("agent")
        assert sup.children == ()
        assert trio.current_time() == 0
        assert not hasattr(sup, "restart_child")
        assert not hasattr(sup, "delete_child")
        await sup.start_child(agent)


@pytest.mark.conforms("DSUP-068", "DSUP-049")
async def test_child_that_ends_while_it_is_terminated(autojump_clock):
    """A child that falls while somebody terminates it is simply gone."""

    async def slow_cleanup():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            raise ValueError("cleanup")

    async with DynamicSupervisor() as sup:
        task = await sup.start_child(slow_cleanup)
        await wait_all_tasks_blocked()
        await sup.terminate_child(task)
        assert (trio.current_time(), sup.children) == (1, ())


@pytest.mark.conforms("DSUP-071")
@pytest.mark.parametrize("seed", range(8))
async def test_counts_never_drift(autojump_clock, seed):
    """Whatever starts, falls, ends and is stopped: who is listed is who lives."""
    rng = random.Random(seed)

    async def job(seconds, how):
        await trio.sleep(seconds)
        if how == "crash":
            raise ValueError

    async def act():
        await trio.sleep(rng.random() * 10)
        how = rng.choice(["crash", "return"])
        restart = rng.choice(["temporary", "transient"])
        spec = ChildSpec(job, rng.random() * 5, how, id="job", restart=restart)
        with trio.move_on_after(rng.choice([0, 1, 9])), suppress(MaxChildren, UnknownChild):
            task = await sup.start_child(spec)
            await trio.sleep(rng.random() * 4)
            if rng.random() < 0.5:
                await sup.terminate_child(task)

    async with (
        DynamicSupervisor(max_children=30, max_restarts=10**6) as sup,
        trio.open_nursery() as nursery,
    ):
        for _ in range(100):
            nursery.start_soon(act)
        for _ in range(20):
            await trio.sleep(1.01)
            await wait_all_tasks_blocked()
            listed = Counter(child.process for child in sup.children)
            assert set(listed.values()) <= {1}
            assert {info.process for info in observe(sup).children} == set(listed)
            assert all(child.status != "stopped" for child in sup.children)


async def test_thousands_of_children(autojump_clock):
    """Many children cost no more each than few do: none of the tables is searched."""
    async with DynamicSupervisor() as sup:
        for _ in range(3000):
            await sup.start_child(forever)
        assert len(sup.children) == 3000
    assert sup.children == ()
