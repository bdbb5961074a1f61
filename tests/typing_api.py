"""Read by the type checkers, never run: what users get, and what must be refused.

A wrong use carries the ignore comment of each checker; both complain when one is not
needed any more.
"""

# ruff: noqa: F841, ARG001, RUF006

import time
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import trio
from outcome import Error, Value
from typing_extensions import assert_type

import trio_otp as otp
from trio_otp import testing as kit


async def fetch(url: str, retries: int = 3) -> bytes:
    raise NotImplementedError


async def poll() -> None: ...


def grow(counts: dict[str, int], key: str) -> dict[str, int]:
    raise NotImplementedError


async def grow_slowly(counts: dict[str, int], key: str) -> dict[str, int]:
    raise NotImplementedError


class Ledger:
    def add(self, name: str, amount: int) -> int:
        raise NotImplementedError

    async def settle(self) -> str:
        raise NotImplementedError


class Reporter(otp.Task, restart="permanent", shutdown=10.0):
    def __init__(self, every: float) -> None:
        super().__init__(name="reporter")
        self.every = every

    async def main(self) -> None: ...


class Double(otp.Task[int]):
    async def main(self) -> int:
        return 1


# --- what users get ----------------------------------------------------------------------


async def tasks(nursery: trio.Nursery, supervisor: otp.TaskSupervisor) -> None:
    task = otp.Task.async_(nursery, fetch, "url")
    assert_type(task, otp.Task[bytes])
    assert_type(await task, bytes)
    assert_type(await task.await_(timeout=None), bytes)
    assert_type(await task.yield_(), Value[bytes] | Error | None)
    assert_type(await task.shutdown(timeout="brutal_kill"), Value[bytes] | Error | None)
    assert_type(task.ignore(), Value[bytes] | Error | None)
    assert_type(await otp.Task.await_many([task, task], timeout=1), list[bytes])
    many = await otp.Task.yield_many([task], limit=1, on_timeout="kill_task")
    assert_type(many, list[tuple[otp.Task[bytes], Value[bytes] | Error | None]])
    assert_type(otp.Task.completed(3), otp.Task[int])
    assert_type(otp.Task(fetch, "url", 2), otp.Task[bytes])
    assert_type(otp.Task.start_link(nursery, fetch, "url"), otp.Process)
    assert_type(supervisor.start_child(fetch, "url", restart="transient"), otp.Process)
    assert_type(supervisor.async_nolink(fetch, "url"), otp.Task[bytes])
    assert_type(supervisor.async_(nursery, fetch, "url"), otp.Task[bytes])
    assert_type(await Double(), int)
    assert_type(await Reporter(60.0), None)
    results: list[object] = await otp.Task.await_many([task])
    print(results)
    result = await task.yield_()
    match result:
        case Value(value):
            assert_type(value, bytes)
        case Error():
            pass
        case None:
            pass


async def streams(supervisor: otp.TaskSupervisor, urls: AsyncIterator[str]) -> None:
    async with otp.Task.async_stream(["a"], fetch, max_concurrency=2) as outcomes:
        async for outcome in outcomes:
            assert_type(outcome, Value[bytes] | Error)
    async with otp.Task.async_stream(["a"], fetch, 2, zip_input_on_exit=True) as pairs:
        async for url, outcome in pairs:
            assert_type(url, str)
            assert_type(outcome, Value[bytes] | Error)
    async with supervisor.async_stream_nolink(urls, fetch, on_timeout="kill_task") as outcomes:
        async for outcome in outcomes:
            assert_type(outcome, Value[bytes] | Error)


async def agents() -> None:
    counts = otp.Agent(dict[str, int])
    assert_type(counts, otp.Agent[dict[str, int]])
    assert_type(await counts.get(), dict[str, int])
    assert_type(await counts.get(len), int)
    assert_type(await counts.get(dict[str, int].get, "x"), int | None)
    assert_type(await counts.update(grow, "x"), None)
    assert_type(await counts.update(grow_slowly, "x", timeout=1), None)
    assert_type(await counts.get_and_update(lambda d: (len(d), d)), int)
    assert_type(counts.cast(grow, "x"), None)
    book = otp.Agent(Ledger)
    assert_type(await book.apply(Ledger.add, "x", 2), int)
    assert_type(await book.apply(Ledger.settle), str)
    loaded = otp.Agent(fetch, "url", 1, name="page", mailbox=10, overflow="drop_oldest")
    assert_type(loaded, otp.Agent[bytes])
    jobs: otp.Agent[dict[str, otp.Task[int]]] = otp.Agent(dict[str, otp.Task[int]])
    assert_type(await jobs.get(lambda d: d["k"]), otp.Task[int])
    async with counts as entered:
        assert_type(entered, otp.Agent[dict[str, int]])


class Pop(otp.Request[str]):
    pass


class Stack(otp.GenServer[tuple[str, ...]]):
    def init(self) -> tuple[str, ...]:
        return ()

    def handle_call(
        self, request: Pop, caller: otp.Caller, state: tuple[str, ...], /
    ) -> otp.CallResult[tuple[str, ...]]:
        if not state:
            return otp.NoReply(state)
        return otp.Reply(state[-1], state[:-1], timeout=1.0)

    async def handle_cast(
        self, request: str, state: tuple[str, ...], /
    ) -> otp.CastResult[tuple[str, ...]]:
        return otp.Stop("normal", state) if not request else otp.NoReply((*state, request))

    async def terminate(self, exit: otp.Exit, state: tuple[str, ...], /) -> None:
        assert_type(exit.reason, otp.Reason)


class SlowStack(otp.GenServer[tuple[str, ...]]):
    async def init(self) -> otp.Start[tuple[str, ...]]:
        return otp.Start(("first",), continue_="go")


async def servers() -> None:
    stack = Stack(name="stack", timeout=None, mailbox=10)
    assert_type(await stack.call(Pop()), str)
    assert_type(await stack.call("else", timeout=1), Any)
    assert_type(stack.cast("x"), None)
    assert_type(stack.send("x"), None)
    assert_type(stack.send_after(1, "x"), otp.Timer)
    assert_type(stack.send_after(1, "x").remaining, float | None)
    assert_type(stack.monitor(SlowStack()), otp.Monitor)
    async with stack as entered:
        assert_type(entered, Stack)


async def many_children() -> None:
    rooms = otp.DynamicSupervisor(max_children=10, extra_arguments=("db",))
    assert_type(await rooms.start_child(otp.Agent(dict[str, int])), otp.Agent[dict[str, int]])
    assert_type(await rooms.start_child(poll), otp.Task[None])
    assert_type(await rooms.start_child(otp.ChildSpec(poll)), otp.Process)
    assert_type(rooms.children[0].process, otp.Process)
    parts = otp.PartitionSupervisor(lambda _: otp.Agent(dict[str, int]), partitions=4)
    assert_type(parts, otp.PartitionSupervisor[otp.Agent[dict[str, int]]])
    assert_type(parts.via("key"), otp.Agent[dict[str, int]])
    assert_type(parts.partitions, tuple[otp.Agent[dict[str, int]], ...])
    homes = otp.PartitionSupervisor(otp.TaskSupervisor)
    assert_type(homes.via(1).async_nolink(fetch, "url"), otp.Task[bytes])
    assert_type(otp.PartitionSupervisor(lambda: otp.Agent(int)).via(1), otp.Agent[int])
    assert_type(otp.PartitionSupervisor(lambda _: poll).via(1), otp.Task[None])
    specs = otp.PartitionSupervisor(lambda number: otp.ChildSpec(fetch, str(number)))
    assert_type(specs.via("a"), otp.Process)


async def supervisors(nursery: trio.Nursery) -> None:
    counts = otp.Agent(dict[str, int])
    tree = otp.Supervisor(
        [counts, poll, otp.ChildSpec(fetch, "url", id="fetch"), Reporter(1.0)],
        strategy="rest_for_one",
        auto_shutdown="any_significant",
    )
    assert_type(await tree.start_child(counts), otp.Agent[dict[str, int]])
    assert_type(await tree.start_child(poll), otp.Task[None])
    assert_type(await tree.start_child(otp.ChildSpec(poll)), otp.Process)
    assert_type(await tree.restart_child("fetch"), otp.Process)
    assert_type(tree.children[0].process, otp.Process)
    assert_type(await tree.stop(timeout=5), otp.Exit)
    assert_type(counts.last_exit, otp.Exit | None)
    await nursery.start(counts.run)
    nursery.start_soon(counts.run)
    spec = counts.child_spec(restart="transient", backoff=otp.Backoff(1.0, maximum=30))
    assert_type(spec, otp.ChildSpec)


async def names(supervisor: otp.Supervisor, agent: otp.Agent[int]) -> None:
    agents = otp.Registry[str, otp.Agent[int]]()
    assert_type(agents, otp.Registry[str, otp.Agent[int], None])
    agents.register("a", agent)
    assert_type(agents.whereis("a"), otp.Agent[int] | None)
    assert_type(agents.lookup("a"), tuple[otp.Entry[otp.Agent[int], None], ...])
    assert_type(agents.keys_of(agent), tuple[str, ...])
    assert_type(await agents.get_or_start("a", lambda: otp.Agent(int), supervisor), otp.Agent[int])
    agents.unregister("a", agent)
    async with agents.lock(("any", "key")):
        agents.meta["limit"] = 3
    topics: otp.Registry[str, otp.Process, float] = otp.Registry("duplicate", name="topics")
    topics.register("t", agent, 1.0)
    for process, value in topics.lookup("t"):
        assert_type(process, otp.Process)
        assert_type(value, float)
    assert_type([entry.value for _, entry in topics.items()], list[float])
    assert_type(topics.update_value("t", lambda value: value + 1), tuple[float, float])
    topics.unregister("t", agent, where=lambda value: value > 1)


async def tables(agent: otp.Agent[int]) -> None:
    hits = otp.Table[str, int](owner=agent, heir=agent, name="hits", ordered=True)
    assert_type(hits["a"], int)
    assert_type(hits.get("a"), int | None)
    assert_type(hits.get("a", 0), int)
    assert_type(hits.pop("a"), int)
    assert_type(hits.take("a"), int | None)
    assert_type(hits.take("a", "none"), int | str)
    assert_type(hits.update_counter("a", 2, default=0, limit=9, reset=1), int)
    assert_type(hits.update_value("a", lambda n: n + 1, default=0), tuple[int, int])
    assert_type(hits.insert_new("a", 1), bool)
    assert_type(hits.compare_and_set("a", 1, 2), bool)
    assert_type([*hits], list[str])
    assert_type([*hits.items()], list[tuple[str, int]])
    assert_type(hits.select(lambda key, n: key > "a" and n > 1), list[tuple[str, int]])
    assert_type(hits.delete_where(lambda key, n: n == 0), int)
    assert_type(hits.next("a"), str | None)
    assert_type(hits.range("a", reverse=True), list[tuple[str, int]])
    assert_type(hits.owner, otp.Process | None)
    assert_type(await hits.save("file"), None)
    assert_type(await otp.Table[str, int].load("file"), otp.Table[str, int])
    tags = otp.BagTable[str, bytes](unique=False)
    tags.insert("a", b"")
    tags.insert_all([("a", b""), ("b", b"")])
    assert_type(tags.lookup("a"), tuple[bytes, ...])
    assert_type(tags.take("a"), tuple[bytes, ...])
    assert_type(tags.items(), tuple[tuple[str, bytes], ...])
    assert_type(tags.count(lambda key, tag: len(tag) > 1), int)
    assert_type(await otp.BagTable[str, bytes].load("file", owner=agent), otp.BagTable[str, bytes])


async def watching(receive: trio.MemoryReceiveChannel[int]) -> None:
    assert_type(otp.current_process(), otp.Process | None)
    assert_type(otp.observe(), tuple[otp.ProcessInfo, ...])
    assert_type(otp.observe(otp.Task(poll)), otp.ProcessInfo)
    assert_type(otp.format_tree(), str)
    with otp.subscribe(print) as subscription:
        assert_type(subscription, otp.Subscription)
    with otp.trap_exit() as exiting:
        assert_type(exiting.is_set(), bool)
        async for message in exiting.until(receive):
            assert_type(message, int)


def programs() -> None:
    assert_type(otp.run(fetch, "url", children=[poll]), bytes)
    otp.run(children=[poll])


async def crashes(crashing: kit.Crashing) -> None:
    assert_type(await crashing(fetch)("url"), bytes)
    assert_type(crashing(grow)({}, "x"), dict[str, int])


async def the_kit(supervised: kit.Supervised, events: kit.Events, tree: otp.Supervisor) -> None:
    assert_type(await supervised(otp.Agent(dict[str, int])), otp.Agent[dict[str, int]])
    assert_type(await supervised(poll), otp.Task[None])
    assert_type(await supervised(otp.ChildSpec(fetch, "url")), otp.Process)
    assert_type((await events.wait_for(otp.Ended)).exit, otp.Exit)
    assert_type(await events.wait_for(lambda event: event.at > 1, tree), otp.Event)
    assert_type(events.of(otp.Restarting, tree), list[otp.Restarting])
    assert_type(events[0], otp.Event)
    assert_type(await kit.cancel_everywhere(poll, kit.leaks), int)
    assert_type(await kit.crash_everywhere(crashes, poll, error=KeyError), int)
    assert_type(await kit.chaos(tree, seconds=1, kinds=["kill"]), tuple[kit.Blow, ...])
    with kit.seeded(1):
        kit.leaks(tree, otp.subscribe(print))


def schedules(moment: datetime) -> None:
    cron = otp.Cron("*/5 * * * *", timezone="Europe/Berlin", dst="wall", day_rule="and")
    otp.Cron("@daily", timezone=ZoneInfo("Europe/Berlin"), jitter=timedelta(minutes=5))
    assert_type(cron.timezone, tzinfo | None)
    assert_type(cron.next_after(moment), datetime | None)
    assert_type(cron.between(moment, moment, limit=5), tuple[datetime, ...])
    assert_type(cron.jitter, otp.Jitter)
    every = otp.Every(timedelta(minutes=1), mode="delay", initial_delay=0, jitter=otp.Jitter(5))
    assert_type(every.seconds, float)
    assert_type(every.next_after(1.5, start=0), float)
    assert_type(every.between(0, 9, start=0), tuple[float, ...])
    assert_type(otp.At(moment).moment, datetime)
    calendars: list[otp.Schedule] = [cron, otp.At(moment)]
    print(calendars)


async def count(text: str, number: int) -> int:
    return len(text) + number


async def jobs(tree: otp.TaskSupervisor, clock: kit.SettableClock) -> None:
    job = otp.Job("a", otp.Every(5), count, "text", 5, overlap="replace", timeout=3)
    otp.Job(None, otp.Cron("@daily"), time.sleep, 1.5, thread=True, ack="after")
    otp.Job("b", otp.Every(5), count, "text", 5, when=lambda text, number: len(text) > number)
    assert_type(job.changed(where=otp.OnAllOf(tree)), otp.Job)
    scheduler = otp.Scheduler([job], clock=clock, supervisor=tree, storage=otp.MemoryStorage())
    async with scheduler as same:
        assert_type(same, otp.Scheduler)
        assert_type(await scheduler.add(job), str)
        assert_type(scheduler.find("a"), otp.JobInfo | None)
        assert_type(scheduler.jobs[0].next_slot, datetime | None)
        assert_type(await scheduler.delete("a"), bool)
        assert_type(await scheduler.run_due(), tuple[otp.Process, ...])
        print(await (await scheduler.run_job("a")))
    assert_type(otp.current_run(), otp.JobRun | None)


class Fortnightly(otp.Schedule):
    def next_after(self, moment: datetime) -> datetime | None: ...
    def last_before(self, moment: datetime) -> datetime | None: ...


# --- what must be refused ------------------------------------------------------------------


async def refused(nursery: trio.Nursery, supervisor: otp.TaskSupervisor) -> None:
    otp.Task.async_(nursery, fetch)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Task.async_(nursery, fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Task.async_(nursery, fetch("url"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Task.async_(nursery, len, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Task(fetch, "url", restart="always")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await supervisor.start_child(poll)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    supervisor.start_child(poll, restart="sometimes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.TaskSupervisor(max_children="4")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Supervisor([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    otp.Supervisor([poll], "one_for_all")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    otp.Supervisor([poll], strategy="two_for_one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Supervisor([fetch])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    otp.ChildSpec(otp.Task(poll), 1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    otp.ChildSpec(fetch)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue, reportArgumentType]
    otp.Task(poll).child_spec(restart="maybe")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Backoff("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    counts = otp.Agent(dict[str, int])
    await counts.update(len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await counts.update(grow)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    counts.cast(lambda d: d.clear())  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    await counts.get(grow, 1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    otp.Agent(dict[str, int], mailbox="big")  # type: ignore[call-arg, call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    otp.Agent(dict[str, int], overflow="spill")  # type: ignore[call-arg, call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    stack = Stack()
    number: int = await stack.call(Pop())  # pyright: ignore[reportAssignmentType]
    print(number)
    await stack.cast("x")  # type: ignore[func-returns-value, misc]  # pyright: ignore[reportGeneralTypeIssues]
    otp.Stop("boring", ())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stack.monitor("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.PartitionSupervisor(lambda _: 7, partitions=2)  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]
    otp.PartitionSupervisor(poll)  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]
    otp.PartitionSupervisor(otp.TaskSupervisor).via([])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.DynamicSupervisor(max_children="4")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Task.async_stream([1], fetch)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType]
    otp.Task.async_stream(["a"], fetch, on_timeout="stop")  # type: ignore[call-arg, call-overload]  # pyright: ignore[reportArgumentType]
    otp.run()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    otp.run(fetch)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType]
    narrower: otp.Task[bytes] = otp.Task.completed(1)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    print(narrower)
    text: str = await otp.Task.async_(nursery, fetch, "url")  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    print(text)


async def refused_names(supervisor: otp.TaskSupervisor, tree: otp.Supervisor) -> None:
    agents = otp.Registry[str, otp.Agent[int]]()
    topics = otp.Registry[str, otp.Process, float]("duplicate")
    agent = otp.Agent(int)
    otp.Registry("ordered")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    agents.register(1, agent)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    agents.register("a", otp.Task(poll))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    topics.register("t", agent)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    topics.register("t", otp.current_process(), 1.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    topics.update_value("t", str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await agents.get_or_start("a", lambda: otp.Task(poll), tree)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    await agents.get_or_start("a", lambda: agent, supervisor)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await agents.whereis("a").get()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    otp.Registry[str, int]()  # type: ignore[type-var]  # pyright: ignore[reportInvalidTypeArguments]


async def refused_by_the_kit(supervised: kit.Supervised, events: kit.Events) -> None:
    await supervised(fetch)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await supervised(poll())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await events.wait_for(otp.Agent)  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await kit.cancel_everywhere(fetch, kit.leaks)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await kit.cancel_everywhere(poll(), kit.leaks)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await kit.crash_everywhere(poll, kit.leaks)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await kit.crash_everywhere(crashes, kit.leaks, error=KeyError())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await kit.chaos(otp.Task(poll), seconds=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await kit.chaos(otp.Supervisor(), seconds=1, kinds=["burn"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    kit.leaks(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def refused_tables() -> None:
    hits, names = otp.Table[str, int](), otp.Table[str, str]()
    tags = otp.BagTable[str, bytes]()
    hits[1] = 1  # type: ignore[index]  # pyright: ignore[reportArgumentType]
    hits["a"] = "one"  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    hits.insert_new("a", "one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hits.update(a="one")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    hits.update_value("a", str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hits.update_counter("a", 1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    names.update_counter("a")  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    names.compare_and_set("a", "x", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    names.select(lambda key: key)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
    tags.insert("a", "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tags["a"]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    otp.Table[str, int](hits)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    otp.Table[str, int](owner="me")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.BagTable[str, int](ordered=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await hits.range("a")  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]


class HalfASchedule(otp.Schedule):
    def next_after(self, moment: datetime) -> datetime | None: ...


class Between(Fortnightly):
    def between(self, *_: Any) -> None: ...  # type: ignore[misc, override]  # pyright: ignore[reportIncompatibleMethodOverride]


def wrong_schedules(moment: datetime) -> None:
    HalfASchedule()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]
    otp.Cron(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Cron("@daily", "Europe/Berlin")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    otp.Cron("@daily", dst="skip")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Cron("@daily").next_after(0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Cron("@daily").text = "@hourly"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    otp.Every("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Every(5, "delay")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    otp.Every(5, mode="fixed")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Every(5).next_after(moment, start=0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.At("2026-01-01")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    every: otp.Schedule = otp.Every(5)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(every)


async def wrong_jobs(scheduler: otp.Scheduler) -> None:
    every = otp.Every(5)
    otp.Job("a", 5, count, "text", 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    otp.Job("a", every, count, 5, "text")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType]
    otp.Job("a", every, time.sleep, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    otp.Job("a", every, trio.sleep, 5, overlap=True)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    otp.Job("a", every, trio.sleep, 5).overlap = "skip"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    otp.Scheduler(clock=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await scheduler.add(trio.sleep)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Hiding(otp.Task):
    shutdown = 10.0  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


class Final(otp.Agent[int]):
    async def stop(self) -> None: ...  # type: ignore[misc, override]  # pyright: ignore


def functions_are_wanted(fn: Awaitable[None]) -> None:
    otp.ChildSpec(fn)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
