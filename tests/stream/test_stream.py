"""Streams: what comes out, in which order, and when the input is pulled."""

import contextvars
import itertools
import math

import pytest
import trio
from outcome import Error, Value
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from helpers_stream import collect, identity, sleep, take, tasks, values
from trio_otp import NotRunning, Task, TaskSupervisor, current_process, observe

# --- what comes out ----------------------------------------------------------------------


async def pad(item, width, fill):
    return str(item).rjust(width, fill)


@pytest.mark.conforms("STREAM-002", "STREAM-004", "STREAM-045", "STREAM-073", "STREAM-075")
@pytest.mark.conforms("STREAM-087", "STREAM-089")
@pytest.mark.parametrize("max_concurrency", [1, 4, 10])
async def test_outcomes(autojump_clock, stream, max_concurrency):
    """Each item gives one Value, in the order of the input, and no task is left behind."""
    before = tasks()
    outcomes = await collect(stream(range(4), identity, max_concurrency=max_concurrency))
    assert outcomes == [Value(0), Value(1), Value(2), Value(3)]
    assert tasks() == before


@pytest.mark.conforms("STREAM-003", "STREAM-074", "STREAM-088")
async def test_further_arguments(stream):
    """The function gets the item first, then the arguments of the stream."""
    assert await values(stream(["a", 7], pad, 3, ".")) == ["..a", "..7"]


@pytest.mark.conforms("STREAM-024")
@pytest.mark.parametrize("ordered", [True, False])
async def test_empty_input(stream, ordered):
    """An empty input gives nothing, and again nothing."""
    async with stream([], identity, ordered=ordered) as outcomes:
        assert [outcome async for outcome in outcomes] == []
        assert [outcome async for outcome in outcomes] == []


@pytest.mark.conforms("STREAM-035")
async def test_sum_of_lengths():
    """A stream replaces a loop: the lengths of three strings, summed."""
    words = ["eleven long", "thirteen long", "this is twenty-three ch"]

    async def length(word):
        return len(word)

    async with Task.async_stream(words, length) as outcomes:
        assert sum([outcome.unwrap() async for outcome in outcomes]) == 47


@pytest.mark.conforms("STREAM-028", "STREAM-031")
@pytest.mark.parametrize(
    "items",
    [
        itertools.islice(itertools.count(), 4),
        itertools.chain(itertools.takewhile(lambda n: n < 2, itertools.count()), [2, 3]),
        dict.fromkeys(range(4)),
        map(int, "0123"),
        iter(itertools.count().__next__, 4),
    ],
    ids=["islice", "chain", "dict", "map", "callable"],
)
async def test_any_iterable(items):
    """The end of the input is the end of the stream, and no item is lost at it."""
    assert await values(Task.async_stream(items, identity, max_concurrency=2)) == [0, 1, 2, 3]


@pytest.mark.conforms("STREAM-010")
async def test_zip_input(nolink):
    """With zip_input_on_exit each outcome comes with its item, the good ones too."""

    async def invert(item):
        return 1 / item

    (good, bad) = await collect(nolink([4, 0], invert, zip_input_on_exit=True))
    assert good == (4, Value(0.25))
    assert bad[0] == 0
    assert isinstance(bad[1], Error)
    assert isinstance(bad[1].error, ZeroDivisionError)


@pytest.mark.conforms("STREAM-032")
async def test_outcomes_feed_further_stages(stream):
    """A generator that wraps the outcomes ends when they do, its cleanup included."""
    ends = []

    async def doubled(outcomes):
        try:
            async for outcome in outcomes:
                yield 2 * outcome.unwrap()
        finally:
            ends.append("closed")

    async with stream([1, 2], identity) as outcomes:
        assert [number async for number in doubled(outcomes)] == [2, 4]
    assert ends == ["closed"]


# --- when it runs, and in whose name -----------------------------------------------------


@pytest.mark.conforms("STREAM-001", "STREAM-066")
async def test_lazy(autojump_clock, stream, watch):
    """Nothing is pulled or started until somebody iterates, and each entering runs anew."""
    lazy = stream(range(3), watch.sleep)
    async with lazy:
        await wait_all_tasks_blocked()
    assert watch.log == []
    assert await values(lazy) == await values(lazy) == [0, 1, 2]
    assert sorted(watch.noted("start")) == [0, 0, 1, 1, 2, 2]


@pytest.mark.conforms("STREAM-001")
async def test_entered_twice_at_once(stream):
    """One stream object is one run at a time; a second entering is refused and hurts nobody."""
    lazy = stream([1, 2], identity)
    async with lazy as outcomes:
        with pytest.raises(RuntimeError, match="entered already"):
            await collect(lazy)
        assert [outcome async for outcome in outcomes] == [Value(1), Value(2)]


async def test_each_wait_is_a_checkpoint(autojump_clock, stream):
    """Asking for an outcome is a checkpoint, also if it is there already, and at the end."""
    async with stream([1, 2], identity) as outcomes:
        await anext(outcomes)
        await wait_all_tasks_blocked()
        with assert_checkpoints():
            assert await anext(outcomes) == Value(2)
        with assert_checkpoints():
            assert await anext(outcomes, None) is None


async def test_iterating_after_the_block():
    """Once the block has been left, the iterator says so instead of starting anything."""
    async with Task.async_stream(range(9), identity, max_concurrency=1) as outcomes:
        await anext(outcomes)
    with pytest.raises(RuntimeError, match="has been left"):
        await anext(outcomes)


request_id = contextvars.ContextVar("request_id", default="none")


async def name_of_context(item):
    return request_id.get()


@pytest.mark.conforms("STREAM-070", "STREAM-083")
async def test_built_here_consumed_there(stream):
    """Items belong to, and run in the context of, the task that iterates, not the builder."""
    request_id.set("builder")
    built = stream([1, 2], name_of_context)

    async def consume():
        request_id.set("consumer")
        return await values(built)

    async with trio.open_nursery() as nursery:
        assert await Task.async_(nursery, consume) == ["consumer", "consumer"]
    assert request_id.get() == "builder"


async def chain_of_askers(item):
    process = current_process()
    assert process is not None
    return observe(process).asked_by


async def nested(item):
    return (await values(Task.async_stream([item], chain_of_askers)))[0]


@pytest.mark.conforms("STREAM-071", "STREAM-082")
async def test_who_asked(stream):
    """An item is asked for by its consumer, that one's asker behind it; ours do not appear."""

    async def consumer():
        return await values(stream([1], nested))

    async with trio.open_nursery() as nursery:
        chain = await Task.async_(nursery, consumer, name="consumer")
    assert chain == [("nested", "consumer")]


@pytest.mark.parametrize("streaming", [True, False], ids=["async", "sync"])
async def test_input_belongs_to_the_consumer(streaming, watch):
    """Pulling happens in the consumer's context, also when a task of ours does it."""
    request_id.set("consumer")

    def plain():
        yield request_id.get()

    async def asynchronous():
        yield request_id.get()

    assert await values(Task.async_stream(asynchronous() if streaming else plain(), identity)) == [
        "consumer"
    ]


# --- order -------------------------------------------------------------------------------


@pytest.mark.conforms("STREAM-006", "STREAM-022", "STREAM-030", "STREAM-076", "STREAM-090")
@pytest.mark.parametrize("max_concurrency", [1, 4, 10])
async def test_ordered(autojump_clock, stream, max_concurrency):
    """Outcomes come in the order of the input, however slow the first item is."""
    slowest_first = [9, 1, 2, 3]
    assert (
        await values(stream(slowest_first, sleep, timeout=99, max_concurrency=max_concurrency))
        == slowest_first
    )


@pytest.mark.conforms("STREAM-006", "STREAM-019")
@pytest.mark.parametrize(
    ("max_concurrency", "expected"), [(4, [0.5, 2, 3, 4]), (2, [3, 0.5, 4, 2]), (1, [4, 3, 0.5, 2])]
)
async def test_unordered(autojump_clock, stream, max_concurrency, expected):
    """With ordered=False outcomes come as the items end."""
    outcomes = values(stream([4, 3, 0.5, 2], sleep, ordered=False, max_concurrency=max_concurrency))
    assert await outcomes == expected


@pytest.mark.conforms("STREAM-025", "STREAM-027")
async def test_two_in_step(autojump_clock, stream):
    """Two streams that are consumed in step do not disturb each other."""
    async with stream([3, 1, 2], sleep) as first, stream([3, 1, 2], sleep) as second:
        pairs = [(one.unwrap(), (await anext(second)).unwrap()) async for one in first]
        with pytest.raises(StopAsyncIteration):
            await anext(second)
    assert pairs == [(3, 3), (1, 1), (2, 2)]


@pytest.mark.conforms("STREAM-034")
async def test_first_to_succeed(autojump_clock, nolink, watch):
    """The first two of many to succeed: unordered, and the block left after two values."""

    async def odd_ones_fail(seconds):
        if await watch.sleep(seconds) % 2:
            raise ValueError(seconds)
        return seconds

    winners = []
    async with nolink([8, 7, 6, 3, 4, 2], odd_ones_fail, ordered=False, timeout=99) as outcomes:
        async for outcome in outcomes:
            winners += [outcome.value] if isinstance(outcome, Value) else []
            if len(winners) == 2:
                break
    assert winners == [2, 4]
    assert (trio.current_time(), watch.running) == (4, 0)


# --- slots and pulling -------------------------------------------------------------------


@pytest.mark.conforms("STREAM-020")
@pytest.mark.parametrize("ordered", [True, False])
async def test_never_more_at_once(autojump_clock, stream, watch, ordered):
    """Never more than max_concurrency items run, and as many as that do."""
    items = [1 + n % 3 for n in range(12)]
    outcomes = await values(stream(items, watch.sleep, max_concurrency=3, ordered=ordered))
    assert sorted(outcomes) == sorted(items)
    assert watch.peak == 3


@pytest.mark.conforms("STREAM-005")
async def test_default_concurrency(autojump_clock, stream, watch):
    """Without a word about it forty items run at once: a stream never fans out without a limit.

    A decision: an unlimited fan-out is something to ask for, by a number of one's own.
    """
    await collect(stream([1] * 100, watch.sleep))
    assert watch.peak == 40


@pytest.mark.conforms("STREAM-020", "STREAM-023")
async def test_slot_is_taken_until_cleanup_is_over(autojump_clock, stream, watch):
    """An item holds its slot, and its outcome back, until its cleanup is over."""
    async with stream([1, 2], watch.sleep, 10, max_concurrency=1, timeout=99) as outcomes:
        await anext(outcomes)
        assert trio.current_time() == 11
    assert watch.peak == 1


@pytest.mark.conforms("STREAM-016", "STREAM-017")
async def test_slow_head_does_not_stall_the_rest(autojump_clock, stream, watch):
    """A slot is free when its item has ended, so all others run behind a slow first one."""
    async with stream([9, *[1] * 6], watch.sleep, max_concurrency=2, timeout=99) as outcomes:
        assert await anext(outcomes) == Value(9)
        assert watch.noted("end") == [1] * 6 + [9]


@pytest.mark.conforms("STREAM-017", "CASE-28")
@pytest.mark.parametrize(("option", "bound"), [({}, 1024), ({"max_buffered": 64}, 64)])
async def test_slow_head_and_the_bound(autojump_clock, stream, watch, option, bound):
    """Running and finished items together are bounded; then the input is held back."""

    async def work(item):
        await trio.sleep(0.001 if item else 100)
        return item

    items = watch.input(range(10_000))
    async with stream(items, work, max_concurrency=4, timeout=None, **option) as outcomes:
        assert await anext(outcomes) == Value(0)
        assert trio.current_time() == 100
        assert len(watch.noted("pull")) == bound


@pytest.mark.parametrize(("max_buffered", "ordered"), [(1, True), (2, True), (3, False)])
@pytest.mark.parametrize("streaming", [True, False], ids=["async", "sync"])
async def test_small_bound_loses_nothing(autojump_clock, watch, max_buffered, ordered, streaming):
    """However small the bound, a consumer that dawdles gets every outcome."""
    items = (watch.ainput if streaming else watch.input)(range(7))
    got = []
    stream = Task.async_stream(items, identity, max_buffered=max_buffered, ordered=ordered)
    async with stream as outcomes:
        async for outcome in outcomes:
            got.append(outcome.unwrap())
            assert len(watch.noted("pull")) - len(got) <= max_buffered
            await trio.sleep(1)
    assert sorted(got) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.conforms("STREAM-014", "STREAM-015")
async def test_input_is_pulled_into_free_slots(autojump_clock, stream, watch):
    """Slots are filled before an outcome is waited for, and nothing is pulled ahead of one."""
    async with stream(watch.input([5, 1, 1]), watch.sleep, max_concurrency=2) as outcomes:
        with trio.move_on_after(0.5):
            await anext(outcomes)
        assert watch.noted("pull") == [5, 1]
        with trio.move_on_after(1):
            await anext(outcomes)
        assert watch.noted("pull") == [5, 1, 1]  # a slot is free though nothing is to deliver


@pytest.mark.conforms("STREAM-018")
async def test_slots_are_filled_before_delivery(autojump_clock, stream, watch):
    """Free slots are filled before what is ready is given, so none is idle meanwhile.

    A decision: the original gives all that is ready first, with idle slots while the consumer
    is busy with it.
    """
    items = watch.input([3, 1, 1, 4, 2])  # when the first ends, two are ready behind it
    async with stream(items, sleep, max_concurrency=2) as outcomes:
        async for outcome in outcomes:
            watch.note("got", outcome.unwrap())
    pulled, got = [("pull", n) for n in (3, 1, 1, 4, 2)], [("got", n) for n in (3, 1, 1, 4, 2)]
    assert watch.noted("pull", "got") == pulled + got


@pytest.mark.conforms("STREAM-065", "STREAM-067")
@pytest.mark.parametrize(("limit", "count"), [(1, 1), (1, 3), (2, 3), (4, 3)])
async def test_surplus_of_an_endless_input(autojump_clock, stream, watch, limit, count):
    """An endless input is pulled as often as outcomes are taken, and once for each slot."""
    endless = watch.input(itertools.count(1))
    outcomes = await take(stream(endless, watch.sleep, max_concurrency=limit, timeout=99), count)
    assert outcomes == [Value(n) for n in range(1, count + 1)]
    assert len(watch.noted("pull")) == len(watch.noted("start")) == count + limit


@pytest.mark.conforms("STREAM-021")
async def test_busy_consumer(autojump_clock, stream, watch):
    """While the consumer is busy nothing new starts, and what runs goes on and ends."""
    async with stream(watch.input([1, 2, 3, 4]), watch.sleep, max_concurrency=2) as outcomes:
        await anext(outcomes)
        await trio.sleep(50)
        assert watch.noted("pull") == [1, 2, 3]
        assert watch.noted("end") == [1, 2, 3]
        assert [outcome.unwrap() async for outcome in outcomes] == [2, 3, 4]


async def test_two_consumers_share(autojump_clock, nolink):
    """Two tasks may iterate over one stream: each outcome goes to one, the end to both."""
    got = []

    async def consume(outcomes):
        async for outcome in outcomes:
            got.append(outcome.unwrap())
            await trio.sleep(0.1)

    stream = nolink(range(1, 9), sleep, max_concurrency=3, timeout=99)
    async with stream as outcomes, trio.open_nursery() as nursery:
        nursery.start_soon(consume, outcomes)
        nursery.start_soon(consume, outcomes)
    assert sorted(got) == [1, 2, 3, 4, 5, 6, 7, 8]


# --- bad input ---------------------------------------------------------------------------

BAD_OPTIONS = [
    ("max_concurrency", 0, ValueError, "max_concurrency must be at least 1, got 0"),
    ("max_concurrency", -1, ValueError, "at least 1"),
    ("max_concurrency", 2.0, TypeError, "max_concurrency must be a whole number"),
    ("max_concurrency", True, TypeError, "whole number"),
    ("max_concurrency", None, TypeError, "whole number"),
    ("max_buffered", 0, ValueError, "max_buffered must be at least 1"),
    ("max_buffered", math.inf, TypeError, "max_buffered must be a whole number"),
    ("timeout", -1, ValueError, "timeout must not be negative, got -1"),
    ("timeout", math.nan, ValueError, "timeout must not be negative"),
    ("timeout", "5", TypeError, "timeout must be a number of seconds"),
    ("on_timeout", "kill", ValueError, "on_timeout must be one of 'exit', 'kill_task'"),
    ("on_timeout", None, ValueError, "on_timeout must be one of"),
    ("concurrency", 3, TypeError, "concurrency"),
]


@pytest.mark.conforms("STREAM-005", "STREAM-007", "STREAM-009", "STREAM-011", "STREAM-012")
@pytest.mark.parametrize(("option", "value", "error", "text"), BAD_OPTIONS)
async def test_bad_options(stream, option, value, error, text):
    """A bad option is refused by the plain call, by name; an unknown one by Python."""
    with pytest.raises(error, match=text):
        stream([1], identity, **{option: value})


@pytest.mark.conforms("STREAM-086")
@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), ("brutal", ValueError), ([], TypeError)]
)
async def test_bad_shutdown(sup, value, error):
    """The supervised forms check shutdown; the plain one has no such option."""
    for stream in (sup.async_stream, sup.async_stream_nolink):
        with pytest.raises(error, match="shutdown must"):
            stream([1], identity, shutdown=value)
    with pytest.raises(TypeError, match="shutdown"):
        Task.async_stream([1], identity, shutdown=5.0)


@pytest.mark.conforms("STREAM-013")
@pytest.mark.parametrize(
    ("fn", "args", "text"),
    [
        (None, (), "fn must be a function, got None"),
        (7, (), "fn must be a function, got 7"),
        (pad, (), "pad cannot be called so: missing a required argument: 'width'"),
        (identity, (1,), "identity cannot be called so: too many positional arguments"),
    ],
)
async def test_bad_function(stream, fn, args, text):
    """What cannot be called with an item and the arguments is refused by the plain call."""
    with pytest.raises(TypeError, match=text):
        stream([1], fn, *args)


async def test_coroutine_for_a_function(stream):
    """A coroutine object in place of the function is refused, and never warned about."""
    with pytest.raises(TypeError, match="pass the function itself"):
        stream([1], identity(1))


@pytest.mark.parametrize("items", [None, 7, object(), range])
async def test_bad_input(stream, items):
    """What is no iterable is refused by the plain call, with what was given."""
    with pytest.raises(TypeError, match="items must be an iterable or async iterable, got"):
        stream(items, identity)


async def test_function_that_is_not_async(stream, watch):
    """A plain function is found out by its first item; no task runs, the input is closed."""
    async with stream(watch.input([1, 2]), str) as outcomes:
        with pytest.raises(TypeError, match=r"fn must be an async function, but str returned '1'"):
            await anext(outcomes)
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)
    assert watch.noted("pull", "closed") == [("pull", 1), ("closed", 0)]


class Broken:
    """Says it is iterable, and is not."""

    def __iter__(self):
        raise OSError("no such list")


class BrokenAsync:
    def __aiter__(self):
        raise OSError("no such list")


@pytest.mark.parametrize("items", [Broken(), BrokenAsync()])
async def test_input_that_cannot_begin(stream, items):
    """An input that fails to give its iterator fails the entering, bare, and leaves no task."""
    nurseries = len(trio.lowlevel.current_task().child_nurseries)
    with pytest.raises(OSError, match="no such list"):
        await collect(stream(items, identity))
    assert len(trio.lowlevel.current_task().child_nurseries) == nurseries


@pytest.mark.conforms("STREAM-097")
@pytest.mark.parametrize("form", ["async_stream", "async_stream_nolink"])
async def test_supervisor_that_does_not_run(form):
    """A stream of a supervisor that does not run fails at its first item with NotRunning."""
    stream = getattr(TaskSupervisor(name="gone"), form)
    async with stream([1], identity) as outcomes:
        with pytest.raises(NotRunning, match="gone"):
            await anext(outcomes)
