"""PartitionSupervisor: like processes, one of which serves a key."""

from decimal import Decimal
from fractions import Fraction

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_otp import (
    Agent,
    DynamicSupervisor,
    PartitionSupervisor,
    RestartsExhausted,
    Supervisor,
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
        lambda number: Agent(int, name="own" if number else None), partitions=2
    )
    async with sup:
        assert format_tree(sup).splitlines()[1:] == [
            "    Agent(int)[0] (agent, running)",
            "    own (agent, running)",
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
        (numbers, {}, TypeError, "partitions"),
        (7, {"partitions": 2}, TypeError, "make must be a function"),
        (lambda _: 7, {"partitions": 2}, TypeError, "must give a process, got 7"),
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
