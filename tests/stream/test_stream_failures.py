"""Streams: items that fail, are late, or are ended from outside."""

import contextlib
import gc
import math
import weakref
from typing import ClassVar

import pytest
import trio
from outcome import Error, Value

from helpers_stream import collect, identity, pour, sleep, take, tasks
from helpers_task import ENDINGS, LINKED_FAILURES, QUIET, told
from trio_otp import (
    Exited,
    MaxChildren,
    NotRunning,
    Task,
    TaskSupervisor,
    TimedOut,
    trap_exit,
)


def second_of_three(ending, watch):
    """Make an item function: the first is quick, the second ends as told, the third is slow."""

    async def work(item):
        if item == 2:
            await trio.sleep(0.6)
            return await ending()
        return await watch.sleep({1: 0.1, 3: 4}[item])

    return work


# --- failures ----------------------------------------------------------------------------


@pytest.mark.conforms("STREAM-036", "STREAM-078")
@pytest.mark.parametrize("ending", LINKED_FAILURES)
@pytest.mark.parametrize("ordered", [True, False])
async def test_linked_failure(autojump_clock, linked, watch, ending, ordered):
    """A failing item fails the block: bare, past any except inside, and the rest is ended.

    A decision: what had ended and was not yet given is dropped with the block; who wants to
    keep it uses the isolated form.
    """
    given = []
    with pytest.raises((Exited, ValueError)) as caught:
        async with linked([1, 2, 3], second_of_three(ending, watch), ordered=ordered) as outcomes:
            try:
                await pour(outcomes, given)
            except Exception:
                pytest.fail("swallowed inside the scope that fails")
    assert told(caught.value) == LINKED_FAILURES[ending]
    assert (given, trio.current_time(), watch.running) == ([Value(0.1)], 0.6, 0)


@pytest.mark.conforms("STREAM-078")
async def test_linked_failure_and_the_supervisor(autojump_clock, sup, watch):
    """The supervisor of a stream that failed, and its other tasks, are unharmed."""
    other = sup.async_nolink(sleep, 1)
    with pytest.raises(ValueError, match="oops"):
        await collect(sup.async_stream([1, 2, 3], second_of_three(_raises, watch)))
    assert [child.process for child in sup.children] == [other]
    assert await other == 1


async def _raises():
    raise ValueError("oops")


@pytest.mark.conforms("STREAM-037")
@pytest.mark.parametrize("ending", QUIET)
async def test_normal_end(autojump_clock, linked, watch, ending):
    """An item that ends normally without a result gives an Error, and the stream goes on."""
    outcomes = await collect(linked([1, 2, 3], second_of_three(ending, watch)))
    assert [told(outcome) for outcome in outcomes] == [0.1, QUIET[ending], 4]


@pytest.mark.conforms("STREAM-038", "STREAM-077", "STREAM-091")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("ordered", [True, False])
async def test_isolated_failure(autojump_clock, nolink, watch, ending, ordered):
    """In the isolated form any end of an item is its outcome, and the stream goes on."""
    work = second_of_three(ending, watch)
    outcomes = await collect(nolink([1, 2, 3], work, ordered=ordered))
    assert [told(outcome) for outcome in outcomes] == [0.1, ENDINGS[ending], 4]


@pytest.mark.conforms("STREAM-026", "STREAM-029")
@pytest.mark.parametrize("max_concurrency", [1, 4, 9])
async def test_all_fail_in_step(autojump_clock, nolink, max_concurrency):
    """Two isolated streams of nothing but failures, in step, give each its own failures."""

    async def fail(item):
        await trio.sleep(item)
        raise ValueError(item)

    one, two = (nolink([3, 1, 2], fail, max_concurrency=max_concurrency) for _ in range(2))
    async with one as first, two as second:
        pairs = [(one.error.args, (await anext(second)).error.args) async for one in first]
    assert pairs == [((3,), (3,)), ((1,), (1,)), ((2,), (2,))]


@pytest.mark.conforms("STREAM-010", "STREAM-040", "STREAM-063", "STREAM-085")
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("max_concurrency", [4, 8, 10])
async def test_take_of_zipped_failures(autojump_clock, nolink, max_concurrency, ordered):
    """The first four of eight failures come with their items; the rest is ended in silence."""

    async def fail(item):
        await trio.sleep(item)
        raise ValueError(item)

    options = {"zip_input_on_exit": True, "ordered": ordered, "timeout": 99}
    taken = await take(nolink(range(1, 9), fail, max_concurrency=max_concurrency, **options), 4)
    assert [(item, outcome.error.args) for item, outcome in taken] == [
        (n, (n,)) for n in (1, 2, 3, 4)
    ]


@pytest.mark.conforms("CASE-31")
async def test_isolation_is_not_stopping(autojump_clock, nolink, watch):
    """Isolated: ten outcomes, one a failure. To stop at the first, unwrap: the block cleans up."""

    async def third_fails(item):
        await watch.sleep(item)
        return 1 / (item - 3)

    outcomes = await collect(nolink(range(10), third_fails, timeout=99))
    assert [isinstance(outcome, Error) for outcome in outcomes].index(True) == 3
    assert len(outcomes) == 10
    with pytest.raises(ZeroDivisionError):
        async with nolink(range(10), third_fails, timeout=99) as outcomes:
            async for outcome in outcomes:
                outcome.unwrap()
    assert (watch.running, trio.current_time()) == (0, 9 + 3)


async def test_failure_that_nobody_was_given(autojump_clock, nolink, caplog):
    """An isolated failure that came too late to be given is logged, once, with its item."""

    async def fail(item):
        await trio.sleep(item)
        raise ValueError(item)

    async with nolink([1, 2, 3], fail) as outcomes:
        await anext(outcomes)
        await trio.sleep(1.5)  # the second fails meanwhile
    (record,) = caplog.records
    assert "ValueError: 2 was not raised: the stream was left before it gave 2" in record.message


async def test_failure_that_was_given_is_not_logged(autojump_clock, nolink, caplog):
    """A failure that the consumer gets as an outcome is the consumer's, and is not logged."""
    await collect(nolink([1, 0], lambda item: _invert(item)))
    assert caplog.records == []


async def _invert(item):
    return 1 / item


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("ordered", [True, False])
async def test_interrupt_in_an_item(autojump_clock, stream, watch, error, ordered):
    """An interrupt or exit in an item is no outcome: it leaves the block bare, after cleanup."""

    async def interrupt():
        raise error(3)

    given = []
    with pytest.raises(error) as caught:
        async with stream(
            [1, 2, 3], second_of_three(interrupt, watch), ordered=ordered
        ) as outcomes:
            given.extend([outcome async for outcome in outcomes])
    assert caught.value.args == (3,)
    assert (given, watch.running) == ([], 0)


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
async def test_item_that_raises_the_end(nolink, error):
    """An item that raises StopIteration or its async twin has failed; that is not the end."""

    async def stop(item):
        raise error

    outcomes = await collect(nolink([1, 2], stop))
    assert [type(outcome) for outcome in outcomes] == [Error, Error]


# --- time limits -------------------------------------------------------------------------


@pytest.mark.conforms("STREAM-046", "STREAM-047")
async def test_each_item_has_its_own_clock(autojump_clock, stream):
    """The limit is for each item from its own start, however long the whole takes."""
    outcomes = await collect(stream([4, 4, 4, 4], sleep, max_concurrency=1))
    assert outcomes == [Value(4)] * 4
    assert trio.current_time() == 16


@pytest.mark.conforms("STREAM-007")
async def test_default_limit(autojump_clock, stream):
    """Without a word about it an item has five seconds."""
    outcomes = await collect(stream([4.9, 5.1], sleep, on_timeout="kill_task"))
    assert [isinstance(outcome, Value) for outcome in outcomes] == [True, False]
    assert trio.current_time() == 5


@pytest.mark.conforms("STREAM-007", "STREAM-008")
@pytest.mark.parametrize("unlimited", [math.inf, None])
async def test_no_limit(autojump_clock, stream, unlimited):
    """None and infinity mean no limit."""
    assert await collect(stream([10_000], sleep, timeout=unlimited)) == [Value(10_000)]


@pytest.mark.conforms("STREAM-049", "STREAM-051", "STREAM-084", "CASE-30")
async def test_kill_task(autojump_clock, stream, watch):
    """A late item gives, in its place, a TimedOut that names it, after its cleanup."""
    options = {"timeout": 0.1, "on_timeout": "kill_task", "zip_input_on_exit": True}
    first, late, third = await collect(stream([0.01, 1, 0.03], watch.sleep, **options))
    assert (first, third) == ((0.01, Value(0.01)), (0.03, Value(0.03)))
    assert (late[0], late[1].error.item) == (1, 1)
    assert isinstance(late[1].error, TimedOut)
    assert "sleep was not done within 0.1 s for the item 1" in str(late[1].error)
    assert watch.running == 0


@pytest.mark.conforms("STREAM-050")
async def test_kill_task_unordered(autojump_clock, stream):
    """Unordered, a late item comes when its time is over, after those that were quicker."""
    options = {"ordered": False, "on_timeout": "kill_task", "timeout": 0.6}
    outcomes = await collect(stream([2, 0.1, 3, 0.2], sleep, **options))
    assert outcomes[:2] == [Value(0.1), Value(0.2)]
    assert {outcome.error.item for outcome in outcomes[2:]} == {2, 3}


@pytest.mark.conforms("STREAM-049")
async def test_slot_of_a_late_item(autojump_clock, stream):
    """The slot of a late item is free at once."""
    options = {"on_timeout": "kill_task", "timeout": 0.5, "max_concurrency": 2}
    outcomes = await collect(stream([9, 9, 0.1, 0.1], sleep, **options))
    assert outcomes[2:] == [Value(0.1)] * 2
    assert trio.current_time() == 0.6


@pytest.mark.conforms("STREAM-048")
@pytest.mark.parametrize(("seconds", "in_time"), [(0.9, True), (1.5, False)])
async def test_clock_runs_while_consumer_is_busy(autojump_clock, stream, seconds, in_time):
    """A busy consumer stops no clock, and makes no item late that was in time."""
    options = {"on_timeout": "kill_task", "timeout": 1.0}
    async with stream([0, seconds], sleep, **options) as outcomes:
        await anext(outcomes)
        await trio.sleep(30)
        assert isinstance(await anext(outcomes), Value) == in_time


@pytest.mark.conforms("STREAM-052")
async def test_late_item_is_not_asked(autojump_clock, stream):
    """A late item is cancelled, not asked: trapping exits does not help it."""

    async def trapping(item):
        with trap_exit() as exiting:
            await exiting.wait()
            pytest.fail("was asked")

    (outcome,) = await collect(stream([1], trapping, on_timeout="kill_task"))
    assert isinstance(outcome.error, TimedOut)
    assert trio.current_time() == 5


@pytest.mark.conforms("STREAM-053")
async def test_answer_in_spite_of_the_limit(autojump_clock, stream):
    """An item that has its answer when its time is over, if only just, gives the answer."""

    async def stubborn(item):
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return item

    assert await collect(stream([1], stubborn, on_timeout="kill_task")) == [Value(1)]


@pytest.mark.conforms("STREAM-057")
async def test_limit_of_zero(autojump_clock, stream):
    """With a limit of 0 an item that never waits is in time, any other late."""
    options = {"timeout": 0, "on_timeout": "kill_task"}
    assert await collect(stream([1], identity, **options)) == [Value(1)]
    (outcome,) = await collect(stream([0.1], sleep, **options))
    assert isinstance(outcome.error, TimedOut)
    assert trio.current_time() == 0


@pytest.mark.conforms("STREAM-054", "STREAM-055", "STREAM-095")
async def test_late_item_ends_the_iteration(autojump_clock, stream, watch):
    """By default a late item raises TimedOut, in the isolated form too; the rest is ended."""
    with pytest.raises(TimedOut, match="for the item 9") as caught:
        await collect(stream([1, 9, 5.5], watch.sleep, max_concurrency=2))
    assert caught.value.item == 9
    assert isinstance(caught.value, trio.TooSlowError)
    assert (trio.current_time(), watch.running) == (5, 0)
    assert sorted(watch.noted("start")) == [1, 5.5, 9]


@pytest.mark.conforms("STREAM-056")
async def test_late_item_caught(autojump_clock, stream, watch):
    """Who catches the TimedOut inside may go on; the block cleans up all the same."""
    before = tasks()
    items = watch.input([9, 1, 8, 7, 6])
    async with stream(items, watch.sleep, timeout=2, max_concurrency=2) as outcomes:
        with pytest.raises(TimedOut):
            await anext(outcomes)
        assert await anext(outcomes) == Value(1)
    assert watch.log[-1] == ("closed", 0)
    assert tasks() == before


# --- supervisors -------------------------------------------------------------------------


def the_form(sup, isolated):
    return sup.async_stream_nolink if isolated else sup.async_stream


@pytest.mark.conforms("STREAM-081", "STREAM-094")
@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize("streaming", [True, False], ids=["async", "sync"])
async def test_full_supervisor(autojump_clock, watch, isolated, streaming):
    """A full supervisor raises MaxChildren from the iteration, once the items are gone."""
    async with TaskSupervisor(max_children=2) as small:
        other = small.async_nolink(sleep, 1)
        items = (watch.ainput if streaming else watch.input)([7, 8, 9])
        async with the_form(small, isolated)(items, watch.sleep, 2, timeout=99) as outcomes:
            with pytest.raises(MaxChildren):
                await anext(outcomes)
            assert (watch.running, trio.current_time()) == (0, 2)
        assert watch.noted("start") == [7]
        assert watch.log[-1] == ("closed", 0)
        assert await other == 1
        assert small.children == ()


@pytest.mark.conforms("STREAM-079", "STREAM-092")
async def test_items_are_counted(autojump_clock, sup):
    """The supervisor counts the items while they run, and none once the block is left."""
    for isolated in (True, False):
        async with the_form(sup, isolated)([1, 4, 4], sleep, max_concurrency=3) as outcomes:
            await anext(outcomes)
            assert [child.process.name for child in sup.children] == ["sleep", "sleep"]
        assert sup.children == ()


async def test_terminated_item_isolated(autojump_clock, sup, nolink):
    """Terminating an item of an isolated stream gives its outcome: an Error with Exited."""
    async with nolink([1, 4], sleep) as outcomes:
        await anext(outcomes)
        await sup.terminate_child(sup.children[0].process)
        outcome = await anext(outcomes)
    assert told(outcome) == ("shutdown", None)


async def test_terminated_item_linked(autojump_clock, sup):
    """Terminating an item of a linked stream fails the block with Exited."""
    with pytest.raises(Exited) as caught:
        async with sup.async_stream([1, 4], sleep) as outcomes:
            await anext(outcomes)
            await sup.terminate_child(sup.children[0].process)
            await trio.sleep_forever()
    assert caught.value.exit.reason == "shutdown"


async def ending(sup, seconds):
    await trio.sleep(seconds)
    await sup.stop()


@pytest.mark.conforms("STREAM-097")
async def test_supervisor_stops_nothing_left_to_start(autojump_clock, nursery):
    """If the supervisor stops, items that run become Errors of the isolated stream."""
    async with TaskSupervisor() as sup:
        nursery.start_soon(ending, sup, 1)
        async with sup.async_stream_nolink([0, 3, 4], sleep) as outcomes:
            given = [told(outcome) async for outcome in outcomes]
    assert given == [0, ("shutdown", None), ("shutdown", None)]


@pytest.mark.conforms("STREAM-097")
async def test_supervisor_stops_more_to_start(autojump_clock, nursery):
    """If the supervisor stops, and more items would have to start, the iteration says so."""
    async with TaskSupervisor() as sup:
        nursery.start_soon(ending, sup, 1)
        with pytest.raises(NotRunning):
            await collect(sup.async_stream_nolink([3, 3, 4, 5], sleep, max_concurrency=2))


@pytest.mark.conforms("STREAM-097")
async def test_supervisor_stops_linked(autojump_clock, nursery):
    """If the supervisor stops, the block of a linked stream fails with Exited (shutdown)."""
    async with TaskSupervisor() as sup:
        nursery.start_soon(ending, sup, 1)
        with pytest.raises(Exception, match="shutdown") as caught:
            await collect(sup.async_stream([3], sleep))
    assert told(caught.value) == ("shutdown", None)


@pytest.mark.conforms("STREAM-086")
@pytest.mark.parametrize(
    ("shutdown", "until"), [(5.0, 1 + 5), (2, 1 + 2), (0, 1), ("brutal_kill", 1)]
)
async def test_shutdown_option(autojump_clock, nursery, shutdown, until):
    """An item that traps exits has its shutdown limit when the supervisor stops."""

    async def trapping(item):
        with trap_exit():
            await trio.sleep_forever()

    async with TaskSupervisor() as sup:
        nursery.start_soon(ending, sup, 1)
        stream = sup.async_stream_nolink([1], trapping, shutdown=shutdown, timeout=None)
        (outcome,) = await collect(stream)
    assert trio.current_time() == until
    assert told(outcome) == ("killed", None)


@pytest.mark.conforms("STREAM-061")
async def test_shutdown_option_is_not_for_leaving(autojump_clock, stream):
    """Leaving the block asks no item: one that traps exits is cancelled at once."""

    async def trapping(item):
        if item:
            with trap_exit() as exiting:
                await exiting.wait()
                pytest.fail("was asked")

    await take(stream([0, 1], trapping), 1)
    assert trio.current_time() == 0


# --- memory ------------------------------------------------------------------------------


@contextlib.contextmanager
def collector_off():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Load:
    """Something whose end can be noticed."""

    def __init__(self, seconds, alive):
        self.seconds = seconds
        self.alive = alive
        alive.append(self.seconds)

    def __del__(self):
        self.alive.remove(self.seconds)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 9])
async def test_memory(autojump_clock, nolink, caplog, count):
    """Once its block is left a stream holds nothing, and no collector is needed for that."""

    async def consume():
        async def carry(load):
            await trio.sleep(load.seconds)
            if load.seconds == 2:
                raise ValueError(load.seconds)
            return load

        functions.append(weakref.ref(carry))
        items = (Load(seconds, alive) for seconds in (1, 2, 9, 4, 30))
        options = {"on_timeout": "kill_task", "zip_input_on_exit": True}
        async with nolink(items, carry, **options) as outcomes:
            for _ in range(count):
                await anext(outcomes, None)

    alive, functions = [], []
    with collector_off():
        await consume()
        caplog.clear()
        await trio.lowlevel.checkpoint()
        assert alive == []
        assert functions[0]() is None


class Failure(Exception):
    """Noted, when it is made, by a weak reference in its class."""

    made: ClassVar = []

    def __init__(self):
        self.made[:] = [weakref.ref(self)]


async def fail_if(item):
    await trio.sleep(1)
    if item:
        raise Failure


def two_items(who):
    yield 0
    yield who == "item"
    if who == "input":
        raise Failure


async def two_items_async(who):
    for item in two_items(who):
        yield item


async def fail_because_of(who, stream):
    async with stream as outcomes:
        async for _ in outcomes:
            if who == "consumer":
                raise Failure


@pytest.mark.parametrize("items", [two_items, two_items_async])
@pytest.mark.parametrize("who", ["consumer", "item", "input"])
async def test_memory_of_what_leaves(autojump_clock, linked, who, items):
    """An error that left a block is free once it is handled, without the collector."""
    with collector_off():
        with contextlib.suppress(Failure):
            await fail_because_of(who, linked(items(who), fail_if))
        await trio.lowlevel.checkpoint()
        assert Failure.made[0]() is None


async def test_memory_of_a_long_run(nolink):
    """While a stream runs it holds only what runs or waits to be given."""
    alive = []
    items = (Load(0.0, alive) for _ in range(500))
    async with nolink(items, identity, max_concurrency=3, max_buffered=8) as outcomes:
        async for outcome in outcomes:
            del outcome
            assert len(alive) <= 8 + 1  # the input itself holds the one it gave last


async def test_stream_of_tasks(nursery):
    """Items may be anything, tasks and None included; an awaitable item is not awaited."""
    done = Task.completed(1)
    assert await collect(Task.async_stream([done, None], identity)) == [Value(done), Value(None)]
