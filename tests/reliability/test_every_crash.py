"""The kit turned on the library: functions that crash at each of their calls and checkpoints.

Each run of the tests takes another order of scheduling; `--trio-otp-repeat=20` takes twenty.
"""

from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from attrs import evolve
from outcome import Error, Value

from helpers_reliability import never_called, offered, whole_runs
from trio_otp import (
    Agent,
    Backoff,
    BagTable,
    ChildSpec,
    Cron,
    DynamicSupervisor,
    Every,
    Exited,
    GenServer,
    Job,
    NoReply,
    PartitionSupervisor,
    Registry,
    Reply,
    RestartsExhausted,
    Scheduler,
    SQLiteStorage,
    StartFailed,
    StoredJob,
    Supervisor,
    Table,
    Task,
    TaskSupervisor,
    TimedOut,
    UnknownChild,
    trap_exit,
)
from trio_otp.testing import InjectedCrash, SettableClock, crash_everywhere, leaks


async def stay(*, task_status):
    """Be a child that starts slowly, is told, and cleans up slowly."""
    await trio.sleep(0.1)
    with trap_exit() as exiting:
        task_status.started()
        await exiting.wait()
        await trio.sleep(0.1)


async def work(seconds=0.2, value=None):
    try:
        await trio.sleep(seconds)
    finally:
        with trio.move_on_after(0.5, shield=True):
            await trio.sleep(0.1)
    return value


async def make():
    await trio.sleep(0.1)
    return []


async def add(numbers, one):
    await trio.sleep(0.1)
    return [*numbers, one]


# --- scenarios: each hands the functions that are to crash to `crashing` --------------------


async def children(crashing, *, strategy):
    specs = [
        ChildSpec(crashing(stay), id="a", backoff=Backoff(0.1)),
        Agent(crashing(make), name="b"),
        ChildSpec(crashing(work), id="c", restart="transient"),
    ]
    with suppress(StartFailed):
        async with Supervisor(specs, strategy=strategy) as sup:
            await trio.sleep(2)
            states = {child.id: child.status for child in sup.children}
            assert states == {"a": "running", "b": "running", "c": "stopped"}


async def giving_up(crashing):
    stopped = False

    async def rest():
        nonlocal stopped
        try:
            await trio.sleep_forever()
        finally:
            stopped = True

    specs = [rest, ChildSpec(crashing(work), id="once", restart="transient")]
    with suppress(RestartsExhausted):
        async with Supervisor(specs, max_restarts=0):
            await trio.sleep(1)
    assert stopped


async def children_asked_for(crashing):
    asked = [Task(crashing(stay), restart="transient") for _ in range(2)]
    async with Supervisor() as sup, DynamicSupervisor() as pool:
        for home, child in zip((sup, pool), asked, strict=True):
            with suppress(StartFailed):
                await home.start_child(child)
                await trio.sleep(1)
                assert child.status == "running"
                await home.terminate_child(child)
                if home is sup:
                    await sup.restart_child(child)
                    await child.stop()
    assert {child.status for child in asked} == {"stopped"}


async def agents(crashing):
    answers = 0
    agent = Agent(crashing(make))

    async def call(method, fn, *args):
        nonlocal answers
        with suppress(Exited):
            await method(crashing(fn), *args, timeout=None)
        answers += 1

    with suppress(StartFailed):
        async with Supervisor([agent]):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, agent.update, add, 1)
                nursery.start_soon(call, agent.get, len)
                nursery.start_soon(call, agent.apply, list.append, 2)
                nursery.start_soon(call, agent.get_and_update, lambda numbers: (None, numbers))
                agent.cast(crashing(add), 3)
            assert answers == 4
            await agent.get()


class Book(GenServer):
    """A server whose handlers do what they are handed."""

    def __init__(self, crashing):
        super().__init__()
        self.make, self.add = crashing(make), crashing(add)
        self.last = crashing(work)

    async def init(self):
        return await self.make()

    async def handle_call(self, request, caller, state, /):
        state = await self.add(state, request)
        return Reply(state[-1], state)

    async def handle_cast(self, request, state, /):
        return NoReply(await self.add(state, request))

    async def terminate(self, exit, state, /):
        await self.last()


async def servers(crashing):
    book = Book(crashing)
    with suppress(StartFailed):
        async with Supervisor([book]):
            book.cast(1)
            with suppress(Exited):
                assert await book.call(2, timeout=None) == 2
            assert await book.call(3, timeout=None) == 3


async def partitions(crashing):
    shards = PartitionSupervisor(lambda: Agent(crashing(make)), partitions=2)
    with suppress(StartFailed):
        async with shards, trio.open_nursery() as nursery:
            for key in range(2):
                with suppress(Exited):
                    await shards.via(key).update(crashing(add), key)
            other = await shards.via(1).get()
            with suppress(Exited):
                await shards.via(0).get(crashing(len))
            assert await shards.via(1).get() is other  # which knew nothing of that crash
            nursery.start_soon(shards.via(0).wait)
            await shards.via(0).stop()


async def registry(crashing):
    names = Registry[str, Agent]()
    got = []

    async def get():
        with suppress(StartFailed):  # who waits for a start that fails is told so
            got.append(await names.get_or_start("a", lambda: Agent(crashing(make)), pool))

    async with DynamicSupervisor() as pool:
        with suppress(InjectedCrash):
            async with names.lock("a"):
                await crashing(trio.sleep)(0.1)
        async with names.lock("a"), trio.open_nursery() as nursery:
            nursery.start_soon(get)
            nursery.start_soon(get)
        if not got:
            assert names.count() == 0
            await get()
        assert {*got} == {names.whereis("a")}
        with suppress(Exited):
            await got[0].get(crashing(len))
        assert names.whereis("a") in (None, got[0])
        assert await got[0].get() == []
    assert names.count() == 0


async def tables(crashing):
    lent, own = [], []

    async def owner(*, task_status):
        lent.append(Table[int, int](owner=writer, heir=sup, ordered=True))
        own.append(BagTable[int, int](owner=writer))
        task_status.started()
        for number in range(2):
            lent[-1].update_value(number, crashing(lambda _: 7), default=0)
            own[-1].insert(0, number)
            await crashing(trio.sleep)(0.1)

    writer = Task(owner, restart="transient")
    async with Supervisor() as sup:
        await sup.start_child(writer)
        await trio.sleep(1)
        assert [table.owner for table in lent] == [sup] * len(lent)
        assert dict(lent[-1]) == {0: 7, 1: 7}  # the last life came to its end
        assert all(set(table.values()) <= {7} for table in lent)
        assert all(bag.closed for bag in own)
    assert all(table.closed for table in lent)


async def agree(*_):
    await trio.sleep(0.1)
    return True


async def jobs(crashing):
    """Wherever a job or its guard crashes, all jobs have their next runs."""
    beat, function = Cron("* * * * * *"), crashing(work)
    listed = [
        Job("skip", beat, function, 0.2, when=crashing(agree)),
        Job("allow", beat, function, 1.3, overlap="allow", ack="after"),
        Job("replace", beat, function, 1.3, overlap="replace"),
        Job("limited", Every(1, mode="delay"), function, 9, timeout=0.3),
    ]
    with whole_runs() as begun:
        async with Scheduler(listed, clock=SettableClock(), max_concurrency=4) as scheduler:
            await trio.sleep(4.2)
            assert {job.state for job in scheduler.jobs} == {"active"}
            await scheduler.add(Job("asked", Cron("@yearly"), function))
            await scheduler.update("asked", timeout=3)
            with suppress(InjectedCrash):
                await (await scheduler.run_job("asked"))
            await scheduler.deactivate("asked")
            await scheduler.activate("asked")
            await scheduler.delete("asked")
            await scheduler.delete_all()
            await scheduler.join()
        counts = [sum(run.job == job.name for run in begun) for job in listed]
        assert all(count >= 2 for count in counts), counts


async def jobs_by_hand(crashing):
    clock = SettableClock()
    with whole_runs() as begun:
        async with Scheduler(manual=True, clock=clock) as scheduler:
            await scheduler.add(Job("a", Cron("* * * * * *"), crashing(work)))
            for _ in range(2):
                await trio.sleep(1)
                for run in await scheduler.run_due():
                    await run.wait()
        assert len(begun) == 2


async def jobs_in_a_file(crashing):
    """A crash of the process that keeps them leaves the file whole."""
    stored = StoredJob(name="a", job=None, active=None, last_slot=datetime.now(UTC))
    with TemporaryDirectory() as folder:
        storage = SQLiteStorage(Path(folder) / "jobs.db")

        async def keep():
            await storage.put(stored)
            await storage.set_state("a", True, stored.last_slot)
            await storage.set_last_slot("a", stored.last_slot)
            assert [one.name for one in await storage.load()] == ["a"]
            await storage.delete("a")
            await storage.purge()

        async with TaskSupervisor() as home:
            await home.start_child(crashing(keep), restart="transient").wait()
        assert [*await storage.load()] in ([], [evolve(stored, active=True)])


async def files(crashing):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows"

        async def saves():
            table = await Table.load(path) if path.exists() else Table[str, int]()
            table.update_value("lives", crashing(lambda lives: lives + 1), default=0)
            await crashing(table.save)(path)

        async with Supervisor([ChildSpec(saves, id="saves", restart="transient")]) as sup:
            saver = sup.children[0].process
            while saver.status != "stopped":
                await saver.wait()
        assert (await Table.load(path))["lives"] in (1, 2)


async def isolated_tasks(crashing):
    async with TaskSupervisor() as tasks:
        made = [tasks.async_nolink(crashing(work), 0.2, number) for number in range(3)]
        tasks.start_child(crashing(work), restart="transient")
        pairs = await Task.yield_many(made, timeout=None)
        await tasks.join()
    failed = 0
    for number, (_, result) in enumerate(pairs):
        match result:
            case Value(value):
                assert value == number
            case Error(InjectedCrash()):
                failed += 1
            case _:
                raise AssertionError(result)
    assert failed <= 1


async def tasks_that_are_ended(crashing):
    async with TaskSupervisor() as tasks:
        hanging, stopped = (tasks.async_nolink(crashing(work), 9) for _ in range(2))
        ended = tasks.start_child(crashing(work), 9)
        with suppress(TimedOut, InjectedCrash):
            await hanging.await_(timeout=0.1)
        with suppress(UnknownChild):  # it has crashed
            await tasks.terminate_child(ended)
        first, second = await hanging.yield_(timeout=0), await stopped.shutdown()
        assert [type(one) for one in (first, second) if one] in ([], [Error])


async def linked_tasks(crashing):
    async with trio.open_nursery() as nursery:
        first = Task.async_(nursery, crashing(work), 0.2, 1)
        second = Task.async_(nursery, crashing(work), 0.3, 2)
        assert await Task.await_many([first, second]) == [1, 2]


async def agent_in_a_nursery(crashing):
    async with trio.open_nursery() as nursery:
        agent = await nursery.start(Agent(crashing(make)).run)
        await agent.update(crashing(add), 1)
        await agent.stop()


async def streams(crashing, *, ordered, isolated):
    open_inputs = 0

    async def numbers():
        nonlocal open_inputs
        open_inputs += 1
        try:
            for number in range(3):
                await crashing(trio.sleep)(0.05)
                yield number
        finally:
            open_inputs -= 1

    seen = []
    async with TaskSupervisor() as tasks:
        stream = tasks.async_stream_nolink if isolated else Task.async_stream
        try:
            async with stream(
                numbers(), crashing(work), max_concurrency=2, ordered=ordered
            ) as results:
                seen.extend([result async for result in results])
        finally:
            assert open_inputs == 0
    assert len(seen) == 3
    assert sum(isinstance(result, Error) for result in seen) <= isolated


async def messages(crashing):
    send, receive = trio.open_memory_channel(9)
    handled = []

    async def consume():
        with trap_exit() as exiting:
            async for message in exiting.until(receive):
                await crashing(trio.sleep)(0.1)
                handled.append(message)

    async with Supervisor([consume]):
        for message in range(3):
            send.send_nowait(message)
        await trio.sleep(1)
    assert len(handled) >= 2  # the one that was crashed over is lost, as it was taken
    assert handled == sorted(handled)


# --- what holds ------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_children(autojump_clock, trio_otp_seed, strategy):
    """A child that crashes once anywhere is there again, or its start fails the whole."""
    scenario = partial(children, strategy=strategy)
    assert await crash_everywhere(scenario, leaks, seed=trio_otp_seed) >= 7


@pytest.mark.parametrize(
    ("scenario", "points"),
    [
        (giving_up, 3),
        (children_asked_for, 5),
        (agents, 9),
        (servers, 9),
        (partitions, 8),
        (registry, 5),
        (tables, 4),
        (jobs, 10),
        (jobs_by_hand, 3),
        (isolated_tasks, 12),
        (tasks_that_are_ended, 5),
        (linked_tasks, 6),
        (agent_in_a_nursery, 4),
        (messages, 3),
    ],
)
async def test_each(autojump_clock, trio_otp_seed, scenario, points):
    """What its scenario asserts holds, and nothing is left, wherever one of its functions crashes.

    Who gives up stops the rest first; each call is answered or fails with the crash as its
    cause; a partition, an entry and a table know only crashes of their own; a crash is the
    result of its task, or fails its nursery, in which the others end first.
    """
    assert await crash_everywhere(scenario, leaks, seed=trio_otp_seed) >= points


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("isolated", [True, False])
async def test_streams(autojump_clock, trio_otp_seed, ordered, isolated):
    """A crash of an item or of the input is one outcome, or fails the block; the input is closed."""
    scenario = partial(streams, ordered=ordered, isolated=isolated)
    assert await crash_everywhere(scenario, leaks, seed=trio_otp_seed) == 15


@pytest.mark.real
async def test_files(trio_otp_seed):
    """A process that crashes at its file finds it whole in its next life, and goes on from there."""
    assert await crash_everywhere(files, leaks, seed=trio_otp_seed) >= 2


@pytest.mark.real
async def test_jobs_in_a_file(trio_otp_seed):
    """Wherever who keeps jobs in a file crashes, the file is whole, and its next life goes on with it."""
    assert await crash_everywhere(jobs_in_a_file, leaks, seed=trio_otp_seed) >= 2


SCENARIOS = [
    partial(children, strategy="one_for_one"),
    giving_up,
    children_asked_for,
    agents,
    servers,
    partitions,
    registry,
    tables,
    jobs,
    jobs_by_hand,
    isolated_tasks,
    tasks_that_are_ended,
    linked_tasks,
    agent_in_a_nursery,
    partial(streams, ordered=True, isolated=False),
    messages,
]


@pytest.mark.real
def test_none_is_forgotten():
    """Each async function that the library offers is met while functions around it crash."""
    assert never_called([]) == {*offered().values()}
    whole, with_threads = (
        [partial(scenario, lambda fn: fn) for scenario in scenarios]
        for scenarios in (SCENARIOS, [files, jobs_in_a_file])
    )
    assert never_called(whole, with_threads) == set()
