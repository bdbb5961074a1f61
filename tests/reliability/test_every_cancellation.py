"""The kit turned on the library: each public async function, cancelled at each of its points.

Each run of the tests takes another order of scheduling; `--trio-otp-repeat=20` takes twenty.
"""

import os
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
import trio.lowlevel

from helpers_reliability import never_called, whole_runs
from trio_otp import (
    Agent,
    Backoff,
    BagTable,
    ChildSpec,
    Cron,
    DuplicateChild,
    DynamicSupervisor,
    Every,
    Exited,
    GenServer,
    Ignore,
    Job,
    NotRunning,
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
from trio_otp.testing import SettableClock, cancel_everywhere, leaks


async def slow(seconds=1.0, value=None):
    """Be a function that takes its time and cleans up."""
    try:
        await trio.sleep(seconds)
    finally:
        with trio.move_on_after(0.5, shield=True):
            await trio.sleep(0.1)
    return value


async def slow_init():
    await trio.sleep(0.1)
    return []


async def trapping(*, task_status):
    """Be a child that is told, finishes what it does, and goes."""
    with trap_exit() as exiting:
        task_status.started()
        await exiting.wait()
        await trio.sleep(0.2)


async def crashing(seconds=0.5):
    await trio.sleep(seconds)
    raise KeyError("crash")


async def stubborn(*, task_status):
    """Be a child that is late to stop."""
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(3)


def tree(**options):
    return Supervisor(
        [
            Agent(slow_init, name="agent"),
            ChildSpec(trapping, id="trapping"),
            Supervisor([ChildSpec(slow, 0.3, id="again", backoff=Backoff(0.1))], name="inner",
                       max_restarts=100),
            TaskSupervisor(name="tasks"),
        ],
        **options,
    )  # fmt: skip


# --- scenarios that make all they need ------------------------------------------------------


async def block_of_a_tree():
    async with tree():
        await trio.sleep(1)


async def nursery_with_a_tree():
    async with trio.open_nursery() as nursery:
        sup = await nursery.start(tree().run)
        await trio.sleep(0.2)
        await sup.stop()


async def stop_of_a_tree():
    async with tree(strategy="one_for_all") as sup:
        await sup.stop()
        await sup.wait()


async def stop_together():
    async with tree(stop_together=True) as sup:
        await sup.stop(timeout=10)


async def stop_that_is_late():
    async with Supervisor([ChildSpec(stubborn, shutdown=1)]) as sup:
        await sup.stop()


async def kill_of_a_tree():
    with suppress(Exited):
        async with tree() as sup:
            await trio.sleep(0.1)
            sup.kill()
            await sup.wait()


async def tree_that_gives_up():
    with suppress(RestartsExhausted):
        async with Supervisor([ChildSpec(crashing, id="a"), trapping], max_restarts=1):
            await trio.sleep_forever()


async def restarts():
    children = [ChildSpec(crashing, id="a", backoff=Backoff(0.2)), Agent(slow_init), trapping]
    for strategy in ("one_for_one", "one_for_all", "rest_for_one"):
        async with Supervisor(children, strategy=strategy, max_restarts=5):
            await trio.sleep(0.8)


async def start_that_fails():
    with suppress(StartFailed):
        async with Supervisor([trapping, Agent(slow_init), Agent(partial(crashing, 0.1))]):
            await trio.sleep_forever()


async def start_that_takes_too_long():
    with suppress(StartFailed):
        slow_start = ChildSpec(Agent(partial(slow, 5)), start_timeout=0.5)
        async with Supervisor([trapping, slow_start]):
            await trio.sleep_forever()


async def children_of_a_supervisor():
    async with Supervisor([trapping]) as sup:
        agent = await sup.start_child(Agent(slow_init, name="late"))
        with suppress(DuplicateChild):
            await sup.start_child(Agent(slow_init, name="late"))
        with suppress(StartFailed):
            await sup.start_child(Agent(partial(crashing, 0.1), name="broken"))
        await agent.update(lambda numbers: [*numbers, 1])
        await sup.terminate_child("late")
        await sup.restart_child("late")
        assert await agent.get() == []
        await sup.terminate_child(agent)
        sup.delete_child("late")


async def children_asked_for_at_once():
    async with Supervisor(max_restarts=5) as sup, trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(sup.start_child, Agent(slow_init, name=str(number)))
        for number in range(3):
            await trio.sleep(0.07)
            with suppress(UnknownChild, NotRunning):
                await sup.terminate_child(str(number))


async def declined():
    def no():
        raise Ignore

    async with Supervisor([Agent(no)]) as sup:
        await sup.start_child(Agent(no, name="also"))


async def linked_tasks():
    async with trio.open_nursery() as nursery:
        first = Task.async_(nursery, slow, 0.2, 1)
        second = Task.async_(nursery, slow, 0.4, 2)
        assert await Task.await_many([first, second]) == [1, 2]
        assert await first == 1
        third = Task.async_(nursery, slow, 9)
        with suppress(TimedOut):
            await third.await_(timeout=0.1)
        assert await third.yield_(timeout=0.1) is None
        assert await third.shutdown() is None


async def linked_failure():
    try:
        async with trio.open_nursery() as nursery:
            task = Task.async_(nursery, crashing)
            Task.start_link(nursery, slow, 5)
            await task
    except* KeyError:
        pass


async def isolated_tasks():
    async with TaskSupervisor(max_children=9, max_restarts=99) as tasks:
        good, bad = tasks.async_nolink(slow, 0.2, 1), tasks.async_nolink(crashing, 0.3)
        tasks.start_child(crashing, 0.1, restart="transient")
        pairs = await Task.yield_many([good, bad], timeout=0.25, on_timeout="kill_task")
        assert [result is None for _, result in pairs] == [False, True]
        hanging = tasks.start_child(trapping_forever)
        await trio.lowlevel.checkpoint()
        await tasks.terminate_child(hanging)
        await tasks.stop()


async def trapping_forever():
    with trap_exit() as exiting:
        await exiting.wait()
        await trio.sleep_forever()


async def tasks_that_are_joined():
    async with TaskSupervisor() as tasks, trio.open_nursery() as nursery:
        tasks.start_child(slow, 0.2)
        tasks.async_(nursery, slow, 0.3)
        await tasks.join()


async def stream(*, ordered, on_timeout="exit", isolated=False):
    async with TaskSupervisor() as tasks:
        make = tasks.async_stream_nolink if isolated else Task.async_stream
        options = {"ordered": ordered, "max_concurrency": 2, "timeout": 0.5}
        seen = 0
        with suppress(TimedOut):
            async with make([0.2, 0.1, 0.3, 9], slow, on_timeout=on_timeout, **options) as results:
                async for _ in results:
                    seen += 1
        assert seen == (4 if on_timeout == "kill_task" else 3)
        await tasks.stop()


async def stream_of_a_generator():
    async def numbers():
        try:
            for number in range(4):
                await trio.sleep(0.1)
                yield number / 10
        finally:
            closed.append(True)

    closed = []
    try:
        async with Task.async_stream(numbers(), slow, max_concurrency=2) as results:
            async for _ in results:
                if len(closed) > 9:
                    break
    finally:
        assert closed in ([], [True])


async def agents():
    async with Agent(slow_init, mailbox=4) as agent, trio.open_nursery() as nursery:
        nursery.start_soon(agent.update, add_slowly, 1)
        nursery.start_soon(agent.get_and_update, lambda numbers: (None, numbers))
        await trio.lowlevel.checkpoint()
        agent.cast(lambda numbers: [*numbers, 2])
        await agent.apply(list.append, 3)
        with suppress(TimedOut):
            await agent.update(add_slowly, 4, timeout=0.1)
        await trio.sleep(1)
        nursery.start_soon(failing_call, agent, look_slowly)
        nursery.start_soon(failing_call, agent, look_slowly)
        await trio.sleep(0.1)
        await agent.stop()


async def look_slowly(numbers):
    await slow()


async def add_slowly(numbers, one):
    await trio.sleep(0.3)
    return [*numbers, one]


async def agent_that_crashes_under_its_callers():
    agent = Agent(slow_init)
    async with Supervisor([agent]), trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(failing_call, agent, lambda numbers: numbers[9])
        await trio.sleep(0.5)
        assert await agent.get() == []


async def failing_call(agent, fn):
    with suppress(Exited):
        await agent.get(fn)


async def agent_in_a_nursery():
    async with trio.open_nursery() as nursery:
        agent = await nursery.start(Agent(slow_init, idle_timeout=0.2).run)
        await agent.get()
        await agent.wait()


class Counter(GenServer):
    """A server that answers at once, later, or never."""

    async def init(self):
        await trio.sleep(0.1)
        return 0

    async def handle_call(self, request, caller, state, /):
        if request == "slow":
            await trio.sleep(0.1)
        return Reply(state, state + 1)

    async def terminate(self, exit, state, /):
        await trio.lowlevel.checkpoint()


async def servers():
    server = Counter()
    async with Supervisor([server]), trio.open_nursery() as nursery:
        nursery.start_soon(server.call, "slow")
        nursery.start_soon(server.call, "quick")
        await trio.sleep(0.2)
        await server.call("slow")


async def children_on_demand():
    async with DynamicSupervisor() as sup:
        first = await sup.start_child(Agent(slow_init))
        await sup.start_child(ChildSpec(trapping, id="trapping"))
        await sup.terminate_child(first)


async def registry():
    names = Registry[str, Agent]()
    async with DynamicSupervisor() as sup:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(names.get_or_start, "a", lambda: Agent(slow_init), sup)
        agent = names.whereis("a")
        assert names.count() == 1
        await sup.terminate_child(agent)
        assert names.count() == 0


async def locks():
    names = Registry[str, Agent]()
    held = []

    async def hold():
        async with names.lock("a"):
            held.append(True)
            await trio.sleep(0.1)
            held.pop()
            assert not held

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        nursery.start_soon(hold)


async def messages_until_told():
    send, receive = trio.open_memory_channel(9)

    async def consume():
        with trap_exit() as exiting:
            async for message in exiting.until(receive):
                await trio.sleep(message)

    async with Task(consume) as consumer:
        for seconds in (0.1, 0.2):
            await send.send(seconds)
        await trio.sleep(0.1)
        await consumer.stop()


async def partitions():
    for strategy in ("one_for_one", "one_for_all"):
        shards = PartitionSupervisor(
            lambda: Agent(slow_init), partitions=3, strategy=strategy, max_restarts=9
        )
        async with shards, trio.open_nursery() as nursery:
            for key in range(3):
                nursery.start_soon(failing_call, shards.via(key), look_slowly)
            nursery.start_soon(failing_call, shards.via(1), lambda numbers: numbers[9])
            await trio.sleep(0.3)
            await shards.via(2).stop()
            await shards.via(2).update(add_slowly, 1)
        assert {agent.status for agent in shards.partitions} == {"stopped"}


async def tables():
    async def write(table, bag):
        for number in range(3):
            table.insert_new(number, number)
            bag.insert("all", number)
            await trio.sleep(0.1)

    async with Supervisor() as heir, trio.open_nursery() as nursery:
        writer = await heir.start_child(Agent(slow_init, name="writer"))
        table = Table[int, int](owner=writer, heir=heir, ordered=True)
        bag = BagTable[str, int](owner=writer)
        try:
            nursery.start_soon(failing_call, writer, lambda _: write(table, bag))
            for number in table:
                await trio.sleep(number)
            await trio.sleep(0.15)
            await heir.terminate_child("writer")
            assert table.owner is heir
            assert list(table) == [0, 1]
        finally:
            await writer.wait()
            assert bag.closed
    assert table.closed


async def guard(*_):
    await trio.sleep(0.1)
    return True


BEAT = Cron("* * * * * *")


async def jobs():
    listed = [
        Job("skip", BEAT, slow, 1.5, when=guard),
        Job("allow", BEAT, slow, 1.5, overlap="allow", ack="after"),
        Job("replace", BEAT, slow, 1.5, overlap="replace"),
        Job("limited", Every(0.7, mode="delay"), slow, 9, timeout=0.3),
        Job("late", Cron("*/2 * * * * *"), slow, 0.1, catch_up="all", catch_up_limit=3),
    ]
    clock = SettableClock()
    with whole_runs():
        async with Scheduler(listed, clock=clock, max_concurrency=4, max_sleep=1, grace=0.5):
            await trio.sleep(1.2)
            clock.jump(-5)
            await trio.sleep(0.9)
            clock.suspend(100)
            await trio.sleep(1.3)


async def jobs_that_are_changed():
    with whole_runs():
        async with Scheduler(clock=SettableClock(), grace=0.2) as scheduler:
            await scheduler.add(Job("a", BEAT, slow, 0.3))
            await scheduler.add(Job("b", Cron("@reboot"), slow, 0.2))
            await scheduler.deactivate("a")
            await scheduler.update("a", timeout=0.2)
            await scheduler.activate("a")
            with suppress(TimedOut):  # it takes 0.3 s
                await (await scheduler.run_job("a"))
            await trio.sleep(1)
            await scheduler.delete("a")
            await scheduler.delete_all()
            await scheduler.join()
            await scheduler.stop()


async def jobs_by_hand():
    clock = SettableClock()
    with whole_runs():
        async with (
            TaskSupervisor() as home,
            Scheduler(manual=True, clock=clock, supervisor=home) as scheduler,
        ):
            await scheduler.add(Job("a", BEAT, slow, 0.3))
            await trio.sleep(1.5)
            for run in await scheduler.run_due():
                await run.wait()


async def jobs_in_a_file():
    now = datetime.now(UTC)
    with TemporaryDirectory() as folder:
        storage = SQLiteStorage(Path(folder) / "jobs.db")
        await storage.put(StoredJob(name="a", job=None, active=None, last_slot=now))
        await storage.set_state("a", False, now)
        await storage.set_last_slot("a", now)
        assert [*await storage.load()] == [
            StoredJob(name="a", job=None, active=False, last_slot=now)
        ]
        await storage.delete("a")
        await storage.purge()
        assert [*await storage.load()] == []


async def files():
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        table = Table[str, int]()
        table["a"] = 1
        try:
            await table.save(path)
            table["a"] = 2
            await table.save(path)
        finally:
            with trio.CancelScope(shield=True):
                if path.exists():
                    assert (await Table.load(path))["a"] in (1, table["a"])
                assert set(os.listdir(folder)) <= {"rows"}
        assert dict(await Table.load(path)) == {"a": 2}


SCENARIOS = [
    locks,
    messages_until_told,
    partitions,
    tables,
    jobs,
    jobs_that_are_changed,
    jobs_by_hand,
    servers,
    children_on_demand,
    registry,
    block_of_a_tree,
    nursery_with_a_tree,
    stop_of_a_tree,
    stop_together,
    stop_that_is_late,
    kill_of_a_tree,
    tree_that_gives_up,
    restarts,
    start_that_fails,
    start_that_takes_too_long,
    children_of_a_supervisor,
    children_asked_for_at_once,
    declined,
    linked_tasks,
    linked_failure,
    isolated_tasks,
    tasks_that_are_joined,
    *(
        partial(stream, ordered=ordered, on_timeout=on_timeout, isolated=isolated)
        for ordered in (True, False)
        for on_timeout in ("exit", "kill_task")
        for isolated in (True, False)
    ),
    stream_of_a_generator,
    agents,
    agent_that_crashes_under_its_callers,
    agent_in_a_nursery,
]


def name(scenario):
    options = getattr(scenario, "keywords", {})
    return getattr(scenario, "func", scenario).__name__ + "".join(
        f"-{one}" for one in options.values()
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name)
async def test_nothing_is_left(autojump_clock, trio_otp_seed, scenario):
    """Whenever it is cancelled, everything ends, and nothing of it is left."""
    with trio.fail_after(100_000):  # of virtual time: whoever hangs, hangs here
        assert await cancel_everywhere(scenario, leaks, seed=trio_otp_seed) > 1


@pytest.mark.real
async def test_files_are_whole(trio_otp_seed):
    """Whenever a save is cancelled, the file is the old one or the new one, and nothing lies beside it."""
    assert await cancel_everywhere(files, leaks, seed=trio_otp_seed) > 3


@pytest.mark.real
async def test_jobs_in_a_file_are_whole(trio_otp_seed):
    """Whenever a scheduler with a file is cancelled, each operation was done or not."""
    assert await cancel_everywhere(jobs_in_a_file, leaks, seed=trio_otp_seed) > 3


@pytest.mark.real
def test_none_is_forgotten():
    """Each async function that the library offers is among what is cancelled at every point."""
    assert never_called(SCENARIOS, [files, jobs_in_a_file]) == set()


# --- calls against processes that go on ------------------------------------------------------


async def test_start_is_whole(autojump_clock, supervised, trio_otp_seed):
    """A child whose start was cancelled is there in full or not at all, and its id is free."""
    sup = await supervised(Supervisor([trapping]))

    async def scenario():
        await sup.start_child(Agent(slow_init, name="late"))

    async def check():
        await trio.sleep(1)
        for child in sup.children[1:]:
            assert child.status == "running"
            await sup.terminate_child("late")
            sup.delete_child("late")
        agent = await sup.start_child(Agent(slow_init, name="late"))
        assert await agent.get() == []
        await sup.terminate_child(agent)
        sup.delete_child(agent)

    await cancel_everywhere(scenario, check, seed=trio_otp_seed)


@pytest.mark.filterwarnings("ignore::trio_otp.testing.UnfinishedWork")  # the stubborn one
@pytest.mark.parametrize(
    "child", [trapping, stubborn, partial(slow, 999)], ids=["trapping", "stubborn", "slow"]
)
async def test_terminate_goes_on(autojump_clock, supervised, trio_otp_seed, child):
    """A termination whose wait was cancelled goes on: the child is down, and may be restarted."""
    sup = await supervised(Supervisor([ChildSpec(child, id="it", shutdown=1)]))
    begun = 0

    async def scenario():
        nonlocal begun
        begun = 0
        if sup.children[0].status != "running":
            await sup.restart_child("it")
        begun = 1
        await sup.terminate_child("it")

    async def check():
        await trio.sleep(5)
        if sup.children[0].status != "running":
            await sup.restart_child("it")
        assert sup.children[0].status == "running"

    await cancel_everywhere(scenario, check, seed=trio_otp_seed)


@pytest.mark.parametrize("busy", [False, True])
async def test_calls_are_whole(autojump_clock, supervised, nursery, trio_otp_seed, busy):
    """A call that was cancelled was done once or not at all, whether the agent was idle or not."""
    agent = await supervised(Agent(list[int]))

    async def scenario():
        if busy:
            agent.cast(add_slowly, 0)
        await agent.update(lambda numbers: [*numbers, 1])
        await agent.update(add_slowly, 2)

    async def check():
        done = await agent.get_and_update(lambda numbers: (numbers, []))
        assert [one for one in done if one] in ([], [1], [1, 2])
        assert agent.status == "running"

    assert await cancel_everywhere(scenario, check, seed=trio_otp_seed) > 4


async def test_answers_are_not_mixed_up(autojump_clock, supervised, trio_otp_seed):
    """A caller that was cancelled does not get, nor leave to others, an answer that is not theirs."""
    agent = await supervised(Agent(list[int]))

    async def ask(number):
        answer = await agent.get(lambda _: number)
        assert answer == number

    async def scenario():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.update, add_slowly, 0)
            for number in range(3):
                nursery.start_soon(ask, number)

    await cancel_everywhere(scenario, partial(ask, 9), seed=trio_otp_seed)


async def test_handles_live_again(autojump_clock, trio_otp_seed):
    """However a life was cancelled, its handle can be started again."""
    agent = Agent(slow_init)
    sup = Supervisor([agent, trapping])

    async def scenario():
        async with sup:
            await agent.update(lambda numbers: [*numbers, 1])

    async def check():
        async with sup:
            assert await agent.get() == []

    await cancel_everywhere(scenario, check, seed=trio_otp_seed)


async def test_tasks_keep_their_results(autojump_clock, supervised, trio_otp_seed):
    """A wait that was cancelled loses nothing: the task's result is there for the next who asks."""
    tasks = await supervised(TaskSupervisor())
    made = []

    async def scenario():
        made[:] = [tasks.async_nolink(slow, 0.2, 1), tasks.async_nolink(crashing, 0.1)]
        await made[0]
        await Task.yield_many(made)
        await tasks.join()

    async def check():
        if made:
            assert await made[0] == 1
            with pytest.raises(KeyError):
                await made[1]
        assert tasks.children == ()

    assert await cancel_everywhere(scenario, check, seed=trio_otp_seed) > 4


async def test_stop_cannot_be_taken_back(autojump_clock, nursery, trio_otp_seed):
    """A stop whose wait was cancelled goes on to its end."""
    agent = Agent(slow_init)

    async def scenario():
        if agent.status in ("new", "stopped"):
            await nursery.start(agent.run)
        asked = agent
        await asked.stop()

    async def check():
        await trio.sleep(1)
        if agent.status == "running":
            await agent.stop()
        with pytest.raises(NotRunning):
            await agent.get()

    await cancel_everywhere(scenario, check, seed=trio_otp_seed)


async def test_registry_has_it_or_not(autojump_clock, supervised, trio_otp_seed):
    """A user who leaves while its process starts takes it from nobody, and leaves no dead entry."""
    sup = await supervised(DynamicSupervisor())
    names = Registry[str, Agent]()
    others = []

    async def other():
        others.append(await names.get_or_start("a", lambda: Agent(slow_init), sup))

    async def scenario():
        await names.get_or_start("a", lambda: Agent(slow_init), sup)

    async def check():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            nursery.start_soon(other)
        assert others[-1] is others[-2] is names.whereis("a")
        assert await others[-1].get() == []
        await sup.terminate_child(others[-1])
        leaks()

    assert await cancel_everywhere(scenario, check, seed=trio_otp_seed) > 3
