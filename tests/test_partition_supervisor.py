"""PartitionSupervisor: like processes, one of which serves a key."""

from collections import Counter
from contextvars import ContextVar
from decimal import Decimal
from fractions import Fraction

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_supervisor import Boom, Probe, idle, recording
from trio_otp import (
    Agent,
    AlreadyRunning,
    ChildSpec,
    DynamicSupervisor,
    NotRunning,
    PartitionSupervisor,
    RestartsExhausted,
    StartFailed,
    Supervisor,
    Task,
    TaskSupervisor,
    current_process,
    format_tree,
)


def numbers(number):
    return Agent(lambda: number)


def crash(_):
    raise ValueError


@pytest.mark.conforms("PSUP-014", "PSUP-025", "PSUP-036", "PSUP-037")
async def test_partitions(autojump_clock):
    """There is one child per partition, by number, started in that order."""
    started = []

    def make(number):
        return Agent(lambda: started.append(number))

    async with PartitionSupervisor(make, partitions=3) as sup:
        assert [child.id for child in sup.children] == [0, 1, 2]
        assert [child.process for child in sup.children] == list(sup.partitions)
        assert {child.kind for child in sup.children} == {"worker"}
        assert started == [0, 1, 2]


async def test_names_in_the_tree():
    """A partition without a name is told from the others by its number."""
    sup = PartitionSupervisor(
        lambda number: [Agent(int), Agent(int, name="own"), idle][number], partitions=3
    )
    async with sup:
        assert format_tree(sup).splitlines()[1:] == [
            "    Agent(int)[0] (agent, running)",
            "    own (agent, running)",
            "    idle[2] (task, running)",
        ]


@pytest.mark.conforms("PSUP-017", "PSUP-018", "PSUP-023", "PSUP-024")
async def test_routing():
    """Integers go round by their absolute value; equal keys have one partition."""
    async with PartitionSupervisor(numbers, partitions=3) as sup:
        assert [await sup.via(key).get() for key in (0, 1, 2, 3, -1, -5)] == [0, 1, 2, 0, 1, 2]
        for key in ("a", b"a", ("a", 1), None, 1.5, float("nan"), 1j, "\ud800"):
            assert sup.via(key) is sup.via(key)
        for key in (-1, 7, 2**70):
            equal = {
                sup.via(key),
                sup.via(float(key)),
                sup.via(Decimal(key)),
                sup.via(Fraction(key)),
            }
            assert len(equal) == 1
        assert sup.via(True) is sup.via(1)
        assert {sup.via(f"key {number}") for number in range(50)} == set(sup.partitions)


def test_strings_go_the_same_way_in_every_run():
    """A string, or bytes, is served by the same number in every run."""
    sup = PartitionSupervisor(numbers, partitions=1000)
    places = [sup.partitions.index(sup.via(key)) for key in ("trio", b"trio", "otp")]
    assert places == [294, 294, 793]


def test_bad_keys():
    """A key that cannot be hashed is refused."""
    with pytest.raises(TypeError, match="key must be hashable"):
        PartitionSupervisor(numbers, partitions=2).via([])


@pytest.mark.conforms("PSUP-019")
async def test_callers_as_keys():
    """A process may be the key: each caller has a fixed partition."""
    async with PartitionSupervisor(numbers, partitions=4) as sup, Agent(int) as agent:
        found = [await agent.get(lambda _: sup.via(current_process())) for _ in range(3)]
        assert found == [sup.via(agent)] * 3


@pytest.mark.conforms("PSUP-020", "PSUP-021", "PSUP-010")
async def test_routing_over_restarts(autojump_clock):
    """After a restart the same key reaches the new life, made with the same arguments."""
    async with PartitionSupervisor(numbers, partitions=2) as sup:
        one = sup.via(1)
        await one.update(lambda _: 100)
        one.cast(crash)
        await wait_all_tasks_blocked()
        assert sup.via(1) is one
        assert await sup.via(1).get() == 1


@pytest.mark.conforms("PSUP-006")
async def test_strategies(autojump_clock):
    """All strategies hold for partitions."""
    async with PartitionSupervisor(numbers, partitions=2, strategy="one_for_all") as sup:
        await sup.via(0).update(lambda _: 100)
        sup.via(1).cast(crash)
        await wait_all_tasks_blocked()
        assert await sup.via(0).get() == 0


@pytest.mark.conforms("PSUP-007")
async def test_one_budget(autojump_clock):
    """The restart budget is shared by all partitions."""
    with pytest.raises(RestartsExhausted):
        async with PartitionSupervisor(numbers, partitions=4, max_restarts=3) as sup:
            for agent in sup.partitions:
                agent.cast(crash)
            await trio.sleep(1)


@pytest.mark.conforms("PSUP-004", "PSUP-005", "PSUP-009", "PSUP-011")
@pytest.mark.parametrize(
    ("make", "options", "error", "text"),
    [
        (numbers, {"partitions": 0}, ValueError, "partitions must be at least 1, got 0"),
        (numbers, {"partitions": 2.0}, TypeError, "partitions"),
        (numbers, {"partitions": None}, TypeError, "partitions must be a whole number, got None"),
        (7, {"partitions": 2}, TypeError, "make must be a function"),
        (idle, {}, TypeError, "make must give a child, but idle is one"),
        (lambda _: lambda: idle(), {}, ValueError, "give it an id="),
        (lambda: ChildSpec(idle, significant=True), {}, ValueError, "significant"),
        (lambda _, more: 7, {}, TypeError, "missing 2 required positional arguments"),
        (lambda _: 7, {"partitions": 2}, TypeError, "a child must be a process, .* got 7"),
        (numbers, {"partitions": 2, "strategy": "x"}, ValueError, "strategy"),
        (numbers, {"partitions": 2, "max_restarts": -1}, ValueError, "max_restarts"),
        (
            numbers,
            {"partitions": 2, "auto_shutdown": "any_significant"},
            TypeError,
            "auto_shutdown",
        ),
    ],
)
def test_bad_options(make, options, error, text):
    """A wrong option is refused by its name when the supervisor is built."""
    with pytest.raises(error, match=text):
        PartitionSupervisor(make, **options)


def test_same_process_twice():
    """Each partition is a process of its own."""
    agent = Agent(int)
    with pytest.raises(ValueError, match="new process for each partition"):
        PartitionSupervisor(lambda _: agent, partitions=2)


@pytest.mark.conforms("PSUP-028", "PSUP-032", "PSUP-033", "PSUP-022")
@pytest.mark.parametrize("count", [0, 1, 4, 9, -1])
async def test_resize_is_refused(count):
    """The number of partitions is fixed, and nothing else can be started or deleted there."""
    sup = PartitionSupervisor(numbers, partitions=4)
    with pytest.raises(TypeError, match=f"has 4 partitions for good: to have {count}"):
        sup.resize(count)
    for verb in ("start_child", "delete_child", "terminate_child", "restart_child"):
        assert not hasattr(sup, verb)


@pytest.mark.conforms("PSUP-001", "PSUP-012", "PSUP-013", "PSUP-041", "PSUP-043")
async def test_as_a_child(autojump_clock):
    """It is a supervisor like others: a child by its name, stopped with all under it."""
    sup = PartitionSupervisor(numbers, partitions=2, name="numbers")
    async with Supervisor([sup]) as above:
        assert [(child.id, child.kind) for child in above.children] == [("numbers", "supervisor")]
        await above.terminate_child("numbers")
        assert {agent.status for agent in sup.partitions} == {"stopped"}
    async with sup:
        assert (await sup.stop()).reason == "shutdown"


@pytest.mark.conforms("PSUP-015", "PSUP-038", "DSUP-036")
async def test_partitioned_dynamic_supervisors(autojump_clock):
    """Partitions may be supervisors, asked for a child through their key."""
    async with PartitionSupervisor(lambda _: DynamicSupervisor(), partitions=2) as sup:
        agents = [await sup.via(key).start_child(Agent(int)) for key in range(4)]
        assert {child.kind for child in sup.children} == {"supervisor"}
        assert [len(part.children) for part in sup.partitions] == [2, 2]
    assert {agent.status for agent in agents} == {"stopped"}


@pytest.mark.conforms("TSUP-013")
async def test_partitioned_task_supervisors(autojump_clock):
    """Tasks may be spread over several supervisors by a key."""

    async def double(number):
        await trio.sleep(1)
        return 2 * number

    async with PartitionSupervisor(lambda _: TaskSupervisor(), partitions=3) as sup:
        tasks = [sup.via(key).async_nolink(double, key) for key in range(6)]
        assert [len(part.children) for part in sup.partitions] == [2, 2, 2]
        assert [await task for task in tasks] == [0, 2, 4, 6, 8, 10]


@pytest.mark.conforms("PSUP-044")
async def test_partitions_do_not_wait_for_each_other(autojump_clock):
    """While one partition is busy, the others answer."""

    async def slow(state):
        await trio.sleep(10)
        return state

    async with PartitionSupervisor(numbers, partitions=2) as sup:
        sup.via(0).cast(slow)
        assert await sup.via(1).get(timeout=0) == 1


# --- what makes them, and their lives ---


@pytest.fixture
def log():
    with recording() as log:
        yield log


@pytest.mark.conforms("PSUP-026", "PSUP-039", "PSUP-020")
async def test_not_running(autojump_clock):
    """One that does not run still routes, to partitions that do not run, and has no children."""
    parts = PartitionSupervisor(numbers, partitions=2)
    for _ in range(2):
        assert parts.children == ()
        assert parts.via(3) is parts.partitions[1]
        with pytest.raises(NotRunning):
            await parts.via(3).get()
        async with parts:
            assert await parts.via(3).get() == 1


@pytest.mark.conforms("PSUP-008", "PSUP-010", "PSUP-014", "PSUP-021")
async def test_make_is_called_once(autojump_clock):
    """It is called once for each partition, in order, in the asker; restarts keep what it gave."""
    asked, seen, request = [], [], ContextVar("request", default="none")

    async def child(index):
        seen.append(index)
        await trio.sleep(1)
        if index == 1 and len(seen) < 5:
            raise Boom

    def make(index):
        asked.append((index, request.get()))
        return ChildSpec(child, index, restart="transient")

    request.set("asker")
    async with PartitionSupervisor(make, partitions=3):
        await trio.sleep(9)
    assert asked == [(0, "asker"), (1, "asker"), (2, "asker")]
    assert (sorted(seen[:3]), seen[3:]) == ([0, 1, 2], [1, 1])


@pytest.mark.conforms("PSUP-014", "PSUP-036", "PSUP-037", "PSUP-041", "PSUP-042")
async def test_order(autojump_clock, log):
    """The children have the ids 0 to n - 1, start in that order and stop in reverse."""
    parts = PartitionSupervisor(
        lambda i: Task(Probe(log, str(i)).live, name=str(i)), partitions=3, name="SUP"
    )
    async with parts:
        assert log.take() == "+0 +1 +2"
        assert [(i.id, i.kind, i.status) for i in parts.children] == [
            (index, "worker", "running") for index in range(3)
        ]
        assert tuple(info.process for info in parts.children) == parts.partitions
        assert (await parts.stop()).reason == "shutdown"
        assert {partition.status for partition in parts.partitions} == {"stopped"}
    assert log.take() == "?2 -2:shutdown ?1 -1:shutdown ?0 -0:shutdown -SUP:shutdown"


@pytest.mark.conforms("PSUP-015", "PSUP-038")
@pytest.mark.parametrize("kind", [DynamicSupervisor, TaskSupervisor])
async def test_supervisors(autojump_clock, kind):
    """A class that needs no argument makes partitions as it is; supervisors are the usual ones."""
    async with PartitionSupervisor(kind, partitions=3) as parts:
        assert [(type(info.process), info.kind) for info in parts.children] == [
            (kind, "supervisor")
        ] * 3


async def optional(*, task_status):
    task_status.started()
    await trio.sleep_forever()


@pytest.mark.conforms("PSUP-008")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: Agent(int), Agent),
        (lambda index: Agent(int), Agent),
        (lambda index=7: Agent(int, name=str(index)), Agent),
        (lambda *indices: Agent(int, name=str(*indices)), Agent),
        (lambda *, more=1: ChildSpec(idle), Task),
        (lambda: optional, Task),
        ({0: idle, 1: optional}.pop, Task),
    ],
)
async def test_what_make_may_take_and_give(autojump_clock, make, kind):
    """With or without the index; a process, a spec or a function, which becomes its task."""
    async with PartitionSupervisor(make, partitions=2) as parts:
        assert [type(partition) for partition in parts.partitions] == [kind, kind]
        assert [info.status for info in parts.children] == ["running", "running"]


async def test_failing_first_start(autojump_clock):
    """If a partition cannot start, the others are stopped, and the start says which it was."""

    def make(index):
        return Agent(lambda: 6 // (2 - index))

    parts = PartitionSupervisor(make, partitions=4, name="parts")
    with pytest.raises(StartFailed, match=r"failed to start") as caught:
        async with parts:
            pytest.fail("it has started")
    assert caught.value.id == 2
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert [p.status for p in parts.partitions] == ["stopped", "stopped", "stopped", "new"]


async def test_partition_with_a_home(autojump_clock):
    """A partition that runs elsewhere fails the start, and nothing else is left claimed."""
    parts = PartitionSupervisor(numbers, partitions=2)
    async with parts.partitions[1]:
        with pytest.raises(AlreadyRunning):
            async with parts:
                pytest.fail("it has started")
    async with parts:
        pass


async def test_partition_that_is_done(autojump_clock):
    """A partition that ends for good is no child any more; its key still leads to its handle."""
    async with PartitionSupervisor(lambda i: Task(trio.sleep, i), partitions=2) as parts:
        await trio.sleep(0.5)
        assert [info.id for info in parts.children] == [1]
        assert (parts.via(2), parts.via(2).status) == (parts.partitions[0], "stopped")


@pytest.mark.parametrize("partitions", [2, 3, 5, 8, 16, 48])
def test_objects_are_spread(partitions):
    """Objects that are equal to nothing else are spread too, though their addresses are regular."""
    parts = PartitionSupervisor(numbers, partitions=partitions)
    keys = [Agent(int) for _ in range(100 * partitions)]
    counts = Counter(parts.via(key) for key in keys)
    assert len(counts) == partitions
    assert min(counts.values()) > 40


@pytest.mark.conforms("PSUP-018", "PSUP-023")
@pytest.mark.parametrize(
    "make_key",
    [str, lambda n: b"%d" % n, lambda n: ("cart", n), lambda n: n / 7, Decimal,
     lambda n: frozenset([n])],
)  # fmt: skip
def test_other_keys(make_key):
    """Equal keys go to one partition, and many keys to all of them, about alike."""
    parts = PartitionSupervisor(numbers, partitions=5)
    found = [parts.partitions.index(parts.via(make_key(n))) for n in range(2000)]
    assert found == [parts.partitions.index(parts.via(make_key(n))) for n in range(2000)]
    assert len(counts := Counter(found)) == 5
    assert min(counts.values()) > 250


@pytest.mark.conforms("PSUP-022")
async def test_one_life_under_a_key(autojump_clock):
    """What a key leads to cannot be run a second time beside its partition."""
    async with PartitionSupervisor(numbers, partitions=3) as parts:
        for home in (Supervisor([parts.via(0)]), parts.via(0)):
            with pytest.raises(AlreadyRunning):
                async with home:
                    pytest.fail("it has started")
        assert await parts.via(0).get() == 0
