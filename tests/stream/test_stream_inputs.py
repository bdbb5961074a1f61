"""Streams: async inputs, inputs that fail, and the order in which a block is left."""

import gc
import itertools
import signal

import pytest
import trio
from outcome import Value
from trio.testing import wait_all_tasks_blocked

from helpers_stream import collect, identity, pour, sleep, take, tasks, values
from helpers_task import told
from trio_otp import ExitProcess, Task

# --- async inputs ------------------------------------------------------------------------


@pytest.mark.conforms("REVIEW-6", "STREAM-015")
@pytest.mark.parametrize("ordered", [True, False])
async def test_outcomes_do_not_wait_for_the_input(autojump_clock, stream, watch, ordered):
    """An outcome that is ready is given while the next item is being waited for.

    A decision: the original looks at no outcome before all slots are full.
    """
    async with stream(watch.ainput(range(3), 10), identity, ordered=ordered) as outcomes:
        times = [trio.current_time() async for _ in outcomes]
    assert times == [10, 20, 30]


async def first_at_once(pause):
    for item in range(3):
        yield item
        await trio.sleep(pause)


@pytest.mark.conforms("REVIEW-6")
async def test_outcomes_come_with_their_items(autojump_clock, stream):
    """Items that arrive at 0, 10 and 20 have their outcomes at 0, 10 and 20."""
    async with stream(first_at_once(10), identity) as outcomes:
        times = [trio.current_time() async for _ in outcomes]
    assert times == [0, 10, 20]


@pytest.mark.conforms("REVIEW-6")
async def test_producer_that_waits_for_the_outcome(autojump_clock, stream):
    """A producer that gives the next item only after the last outcome is no deadlock."""
    seen = trio.Event()

    async def producer():
        yield 1
        await seen.wait()
        yield 2

    async with stream(producer(), identity) as outcomes:
        assert await anext(outcomes) == Value(1)
        seen.set()
        assert [outcome async for outcome in outcomes] == [Value(2)]


@pytest.mark.conforms("REVIEW-6", "OBS-15")
async def test_limit_around_each_wait(autojump_clock, stream, watch):
    """A time limit around each wait loses no item, and the end comes only at the end.

    The generator holds a cancel scope open between its items: all its steps are in one task.
    """

    async def scoped():
        with trio.CancelScope():
            async for item in watch.ainput(range(4), 1.0):
                yield item

    got, waits = [], 0
    async with stream(scoped(), identity) as outcomes:
        while True:
            with trio.move_on_after(0.3):
                outcome = await anext(outcomes, None)
                if outcome is None:
                    break
                got.append(outcome.unwrap())
            waits += 1
    assert got == [0, 1, 2, 3]
    assert waits > 12


@pytest.mark.conforms("STREAM-014")
async def test_async_input_is_pulled_into_free_slots(autojump_clock, stream, watch):
    """An async input too is pulled from the first wait on, and only into a free slot."""
    async with stream(watch.ainput(range(9)), sleep, max_concurrency=2, timeout=99) as outcomes:
        await wait_all_tasks_blocked()
        assert watch.log == []
        assert await anext(outcomes) == Value(0)
        await wait_all_tasks_blocked()
        assert watch.noted("pull") == [0, 1, 2]


@pytest.mark.conforms("STREAM-021")
async def test_busy_consumer_of_an_async_input(autojump_clock, stream, watch):
    """While the consumer is busy an async input is read on, up to max_buffered.

    A decision: the task that reads it need not stand still for the consumer.
    """
    async with stream(watch.ainput(range(9)), identity, max_buffered=4) as outcomes:
        await anext(outcomes)
        await trio.sleep(1)
        assert watch.noted("pull") == [0, 1, 2, 3, 4]
        assert [outcome.unwrap() async for outcome in outcomes] == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_memory_channel_as_input(autojump_clock, stream):
    """The receiving end of a channel is an input; leaving closes it."""
    send, receive = trio.open_memory_channel(0)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def produce():
            with pytest.raises(trio.BrokenResourceError):
                for number in itertools.count():
                    await send.send(number)

        assert await take(stream(receive, identity, max_concurrency=1), 3) == [
            Value(0),
            Value(1),
            Value(2),
        ]


async def test_two_streams_in_a_row(autojump_clock, stream):
    """The outcomes of one stream are an input of the next."""

    async def increment(outcome):
        return outcome.unwrap() + 1

    async with stream([1, 2, 3], identity) as first:
        assert await values(stream(first, increment)) == [2, 3, 4]


# --- inputs that fail --------------------------------------------------------------------


def failing(watch, streaming, error):
    """Make an input of two items that fails when a third is asked for."""

    def plain():
        yield from watch.input([1, 9])
        raise error

    async def asynchronous():
        async for item in watch.ainput([1, 9]):
            yield item
        await trio.sleep(5)
        raise error

    return asynchronous() if streaming else plain()


both_inputs = pytest.mark.parametrize("streaming", [True, False], ids=["async", "sync"])


@pytest.mark.conforms("STREAM-041", "CASE-26")
@both_inputs
async def test_input_fails(autojump_clock, stream, watch, streaming):
    """An input's error leaves the iteration bare, once the items are gone; then comes the end.

    A decision: outcomes that were not given yet are lost, as in the original. A reader can
    tell a broken input from a clean end, since the error always comes first.
    """
    error = OSError("disk")
    items = failing(watch, streaming, error)
    async with stream(items, watch.sleep, 3, timeout=99, max_concurrency=9) as outcomes:
        if streaming:
            assert await anext(outcomes) == Value(1)
        with pytest.raises(OSError, match="disk") as caught:
            await anext(outcomes)
        assert caught.value is error
        assert watch.running == 0
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)
    assert trio.current_time() == (5 + 3 if streaming else 3)


@pytest.mark.conforms("STREAM-041")
@both_inputs
async def test_input_fails_uncaught(autojump_clock, stream, watch, streaming):
    """The error of an input that nobody catches leaves the block, bare."""
    with pytest.raises(OSError, match="disk"):
        await collect(stream(failing(watch, streaming, OSError("disk")), watch.sleep, timeout=99))
    assert watch.running == 0


@both_inputs
async def test_input_fails_for_two_consumers(autojump_clock, nolink, watch, streaming):
    """If two tasks iterate, one of them gets the input's error, and the other the end."""
    ends = []

    async def consume(outcomes):
        try:
            await pour(outcomes, [])
            ends.append("end")
        except OSError as error:
            ends.append(error.args)

    items = failing(watch, streaming, OSError("disk"))
    async with (
        nolink(items, watch.sleep, 3, timeout=99) as outcomes,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(consume, outcomes)
        nursery.start_soon(consume, outcomes)
    assert sorted(ends, key=str) == [("disk",), "end"]


@both_inputs
async def test_wait_for_the_error_is_cancelled(autojump_clock, stream, watch, streaming):
    """A wait that is cancelled while the items end does not lose the input's error."""
    items = failing(watch, streaming, OSError("disk"))
    async with stream(items, watch.sleep, 30, timeout=99, ordered=False) as outcomes:
        for _ in range(5):
            with trio.move_on_after(3):
                await anext(outcomes)
        with pytest.raises(OSError, match="disk"):
            await anext(outcomes)


@both_inputs
async def test_failures_behind_a_failing_input(autojump_clock, nolink, watch, streaming, caplog):
    """Isolated failures that an input's error keeps from being given are logged."""

    async def cleanup_fails(item):
        try:
            await watch.sleep(item)
        finally:
            if item == 9:
                raise ValueError("cleanup")

    with pytest.raises(OSError, match="disk"):
        await collect(nolink(failing(watch, streaming, OSError("disk")), cleanup_fails, timeout=99))
    (record,) = caplog.records
    assert "ValueError: cleanup was not raised" in record.message


async def test_input_error_that_nobody_asked_for(autojump_clock, stream, watch, caplog):
    """If the block is left before the input's error is asked for, the error is logged."""
    async with stream(failing(watch, True, OSError("disk")), sleep, timeout=99) as outcomes:
        await anext(outcomes)
        await trio.sleep(5)
    (record,) = caplog.records
    assert "OSError: disk was not raised" in record.message


@both_inputs
@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
async def test_input_that_raises_the_wrong_end(autojump_clock, stream, watch, streaming, error):
    """A stray StopIteration or its async twin in an input is an error, never a clean end."""

    class Input:
        def __iter__(self):
            return self

        def __next__(self):
            raise StopAsyncIteration

    items = (
        Input()
        if error is StopAsyncIteration and not streaming
        else failing(watch, streaming, error)
    )
    with pytest.raises(RuntimeError, match=error.__name__):
        await collect(stream(items, identity))


@both_inputs
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit(3), ExitProcess("normal")])
async def test_input_is_interrupted(autojump_clock, stream, watch, streaming, error):
    """An interrupt or exit in an input leaves the block bare, and is no clean end meanwhile."""
    given = []
    with pytest.raises(type(error) if isinstance(error, BaseException) else error):
        async with stream(failing(watch, streaming, error), watch.sleep, timeout=99) as outcomes:
            await pour(outcomes, given)
            pytest.fail("took it for the end")
    assert given == ([Value(1)] if streaming else [])
    assert (watch.running, trio.current_time()) == (0, 5 if streaming else 0)


class Interrupted:
    """An async input that is interrupted, and then fails, or waits, in its closing."""

    def __init__(self, closing):
        self.closing = closing

    def __aiter__(self):
        return self

    async def __anext__(self):
        raise SystemExit(3)

    async def aclose(self):
        await self.closing()


async def closing_fails():
    raise OSError("closing")


@pytest.mark.parametrize("closing", [trio.sleep_forever, closing_fails])
async def test_closing_does_not_replace_an_interrupt(stream, closing, caplog):
    """An interrupt in an input leaves the block whatever the closing of the input does."""
    with pytest.raises(SystemExit):
        await collect(stream(Interrupted(closing), identity))
    assert len(caplog.records) == (closing is closing_fails)


async def test_stray_cancelled_in_an_input(stream):
    """A Cancelled of somebody else's that an input raises is an error, never a clean end."""
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            kept = error

    async def asynchronous():
        yield 1
        raise kept

    async with stream(asynchronous(), identity) as outcomes:
        with pytest.raises(RuntimeError, match="a Cancelled left the input"):
            [outcome async for outcome in outcomes]


@pytest.mark.real
@both_inputs
async def test_real_interrupt_in_an_input(stream, streaming):
    """Ctrl-C reaches an input, also one that a task of ours reads, and leaves the block."""

    def plain():
        signal.raise_signal(signal.SIGINT)
        yield 1

    async def asynchronous():
        signal.raise_signal(signal.SIGINT)
        yield 1

    before = tasks()
    with pytest.raises(KeyboardInterrupt):
        await collect(stream(asynchronous() if streaming else plain(), identity))
    assert tasks() == before


# --- leaving the block -------------------------------------------------------------------

leaving_log = [("end", 5), ("end", 6), ("closed", 0), ("left",)]


def inputs(watch, streaming):
    endless = itertools.chain([0, 5, 6], itertools.repeat(7))
    return watch.ainput(endless) if streaming else watch.input(endless)


async def cleanup(watch, item):
    """Sleep as `Watch.sleep` does, with a cleanup of a tenth of that."""
    return await watch.sleep(item, cleanup=item / 10)


async def leave(stream, watch, streaming, how):
    """Take one outcome of three items, then leave as told."""

    async def work(item):
        return await cleanup(watch, item)

    with trio.CancelScope() as scope:
        async with stream(inputs(watch, streaming), work, max_concurrency=2) as outcomes:
            assert await anext(outcomes) == Value(0)
            await wait_all_tasks_blocked()
            watch.log.clear()
            if how == "raise":
                raise KeyError("third")
            if how == "cancel":
                scope.cancel()
                await trio.lowlevel.checkpoint()
    watch.note("left")


@pytest.mark.conforms("STREAM-058", "STREAM-059", "STREAM-096", "REVIEW-6", "OBS-09")
@pytest.mark.conforms("STREAM-068")
@both_inputs
@pytest.mark.parametrize("how", ["break", "cancel"])
async def test_order_of_leaving(autojump_clock, stream, watch, streaming, how):
    """Leaving ends the items and waits for them, then closes the input, then goes on."""
    before = tasks()
    await leave(stream, watch, streaming, how)
    assert watch.log == leaving_log
    assert trio.current_time() == 0.6
    assert tasks() == before


@pytest.mark.conforms("STREAM-042", "CASE-25")
@both_inputs
async def test_consumer_raises(autojump_clock, stream, watch, streaming):
    """The consumer's error leaves the block bare, after the items and then the input ended.

    A decision: the original closes the input first in this case; here the order is one.
    """
    with pytest.raises(KeyError, match="third"):
        await leave(stream, watch, streaming, "raise")
    assert watch.log == leaving_log[:-1]


@pytest.mark.conforms("CASE-24")
@both_inputs
async def test_consumer_stops_early(autojump_clock, stream, watch, streaming):
    """After the first of a hundred items: workers gone, source closed and hardly asked."""
    source = (watch.ainput if streaming else watch.input)([0, *[100] * 99])
    taken = await take(
        stream(source, watch.sleep, ordered=False, max_concurrency=5, timeout=None), 1
    )
    assert taken == [Value(0)]
    assert (watch.running, trio.current_time()) == (0, 0)
    assert len(watch.noted("pull")) <= 6
    assert len(watch.noted("end")) == len(watch.noted("start"))
    assert watch.log[-1] == ("closed", 0)


@pytest.mark.conforms("STREAM-062", "STREAM-064")
@pytest.mark.parametrize("max_concurrency", [4, 8, 10])
async def test_take(autojump_clock, stream, watch, max_concurrency):
    """Breaking after four of eight gives the first four, the slowest first; none runs on."""
    items = [4, 1, 2, 3, 5, 6, 7, 8]
    options = {"max_concurrency": max_concurrency, "timeout": 99}
    assert await take(stream(items, watch.sleep, **options), 4) == [Value(n) for n in items[:4]]
    assert watch.running == 0


@pytest.mark.conforms("STREAM-033")
@both_inputs
async def test_input_is_closed_at_the_end(autojump_clock, stream, watch, streaming):
    """An input that has ended is closed; one that only a close ends is closed on leaving."""
    source = (watch.ainput if streaming else watch.input)([1, 2])
    await collect(stream(source, sleep))
    assert watch.log[-1][0] == "closed"


class Handmade:
    """An input of one item that is no generator, and notes how it was closed."""

    def __init__(self, watch):
        self.watch = watch
        self.items = iter([1])

    def __aiter__(self):
        return self

    async def __anext__(self):
        for item in self.items:
            return item
        raise StopAsyncIteration

    async def aclose(self):
        await trio.sleep(1)
        self.watch.note("closed", self.watch.running)


@pytest.mark.conforms("STREAM-033")
async def test_closing_waits_for_the_block(autojump_clock, stream, watch):
    """An exhausted input is closed once, when the block is left and the items are gone."""
    async with stream(Handmade(watch), watch.sleep, 5) as outcomes:
        with trio.move_on_after(0.5):
            await anext(outcomes)
    assert watch.log == [("start", 1), ("end", 1), ("closed", 0)]
    assert trio.current_time() == 0.5 + 5 + 1


async def test_never_read(autojump_clock, stream, watch):
    """An async input that nobody read is closed all the same, without a warning."""
    async with stream(Handmade(watch), identity):
        pass
    async with stream(watch.ainput([1]), identity):
        pass
    gc.collect()
    assert watch.log == [("closed", 0)]


async def test_read_under_way(autojump_clock, stream, watch):
    """An input in the middle of a read is cancelled once; what it then gives is dropped."""

    async def stubborn():
        yield 0
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            watch.note("cancelled", watch.running)
            yield 1
        finally:
            await trio.sleep(1)  # not part of the read any more
            watch.note("closed", watch.running)

    async with stream(stubborn(), watch.sleep) as outcomes:
        await anext(outcomes)
        await trio.sleep(1)
    assert watch.log == [("start", 0), ("end", 0), ("cancelled", 0), ("closed", 0)]


async def test_item_that_arrives_while_leaving(autojump_clock, stream, watch):
    """An item that arrives while the others clean up is not started."""
    source = watch.ainput([0, 7, 8], 1)
    async with stream(source, watch.sleep, 5, timeout=99) as outcomes:
        with trio.move_on_after(2.5):
            await anext(outcomes)
    assert watch.noted("pull", "closed") == [("pull", 0), ("pull", 7), ("pull", 8), ("closed", 0)]
    assert watch.noted("start") == [0, 7]


@both_inputs
async def test_closing_at_rest_is_undisturbed(autojump_clock, stream, streaming):
    """An input at rest is closed without being cancelled: its cleanup may wait."""
    cleaned = []

    async def asynchronous():
        try:
            yield 0
            yield 1
        finally:
            await trio.sleep(2)
            cleaned.append(trio.current_time())

    def plain():
        try:
            yield 0
            yield 1
        finally:
            cleaned.append(trio.current_time())

    await take(stream(asynchronous() if streaming else plain(), identity, max_concurrency=1), 1)
    assert cleaned == [2 if streaming else 0]


@both_inputs
@pytest.mark.parametrize("failing", [True, False])
async def test_closing_fails(autojump_clock, stream, streaming, failing, caplog):
    """An error in closing the input leaves the block; behind another error it is logged."""

    def plain():
        try:
            yield from (0, 1, 2)
        finally:
            raise OSError("closing")

    async def asynchronous():
        try:
            for item in (0, 1, 2):
                yield item
        finally:
            raise OSError("closing")

    with pytest.raises(KeyError if failing else OSError):
        async with stream(asynchronous() if streaming else plain(), sleep, max_concurrency=1) as it:
            await anext(it)
            if failing:
                raise KeyError
    logged = [record.message for record in caplog.records]
    assert ["OSError: closing was not raised" in text for text in logged] == [True] * failing


@both_inputs
async def test_cleanup_fails_while_leaving(autojump_clock, nolink, watch, streaming, caplog):
    """An isolated item whose cleanup fails while the block is left is logged, never lost."""

    async def cleanup_fails(item):
        try:
            await sleep(item)
        finally:
            if item == 5:
                raise ValueError("cleanup")

    await take(nolink(inputs(watch, streaming), cleanup_fails, max_concurrency=2), 1)
    (record,) = caplog.records
    assert "ValueError: cleanup" in record.message
    assert watch.log[-1] == ("closed", 0)


@both_inputs
async def test_cleanup_fails_while_leaving_linked(autojump_clock, linked, watch, streaming):
    """A linked item whose cleanup fails while the block is left fails the block, bare."""

    async def cleanup_fails(item):
        try:
            await sleep(item)
        finally:
            if item == 5:
                raise ValueError("cleanup")

    with pytest.raises(ValueError, match="cleanup"):
        await take(linked(inputs(watch, streaming), cleanup_fails, max_concurrency=2), 1)
    assert watch.log[-1] == ("closed", 0)


@both_inputs
async def test_consumer_that_shields_itself(autojump_clock, nolink, watch, streaming):
    """A consumer that iterates on under a shield, though cancelled, sees its items cancelled."""
    with trio.move_on_after(1):
        async with nolink(inputs(watch, streaming), sleep, max_concurrency=2) as outcomes:
            with trio.CancelScope(shield=True):
                assert await anext(outcomes) == Value(0)
                await trio.sleep(2)
                assert told(await anext(outcomes)) == ("shutdown", None)


async def test_shielded_consumer_of_an_interrupted_input(autojump_clock, stream, watch, caplog):
    """Under a shield an interrupted input is no clean end either, and the interrupt leaves."""
    with pytest.raises(KeyboardInterrupt):
        async with stream(failing(watch, True, KeyboardInterrupt()), sleep, timeout=99) as outcomes:
            with trio.CancelScope(shield=True), pytest.raises(RuntimeError, match="interrupted"):
                await trio.sleep(10)
                async for _ in outcomes:
                    pass
    assert caplog.records == []


async def test_stream_within_an_item(autojump_clock, stream):
    """Items may run streams of their own; all of them end with the outer block."""
    before = tasks()

    async def inner(item):
        return sum(await values(Task.async_stream([item, 4], sleep)))

    assert await take(stream([1, 2, 3], inner), 2) == [Value(5), Value(6)]
    assert tasks() == before
