"""Streams by chance: random runs against a simple model, and cancelling at every step."""

import gc
import random
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from outcome import Value

from helpers_stream import Watch, pour, tasks
from helpers_task import told
from trio_otp import ExitProcess, Task, TaskSupervisor, TimedOut

LIMIT = 3.05  # no item ends at just this moment


# --- random runs -------------------------------------------------------------------------


@attrs.frozen
class Item:
    """What an item does, and so what its outcome must be."""

    place: int
    seconds: float
    ending: str
    cleanup: float

    @property
    def expected(self) -> Any:
        if self.seconds > LIMIT:
            return TimedOut
        return {"returns": self.place, "raises": ValueError, "exits": ("normal", None)}[self.ending]


@attrs.define
class Run:
    """One random run: its items, its options, what the consumer does, and what was seen."""

    rng: random.Random
    isolated: bool
    items: list[Item] = attrs.field(init=False)
    options: dict[str, Any] = attrs.field(init=False)
    streaming: bool = attrs.field(init=False)
    leaving: str = attrs.field(init=False)
    watch: Watch = attrs.field(factory=Watch)
    given: list[Any] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        rng = self.rng
        endings = ["returns"] * 4 + ["exits"] + ["raises"] * self.isolated
        self.items = [
            Item(place, rng.randrange(8) / 2, rng.choice(endings), rng.choice([0, 0, 0, 0.3]))
            for place in range(rng.randrange(12))
        ]
        self.options = {
            "ordered": rng.random() < 0.5,
            "max_concurrency": rng.randint(1, 4),
            "max_buffered": rng.randint(1, 6),
            "timeout": LIMIT,
            "on_timeout": "kill_task",
            "zip_input_on_exit": True,
        }
        self.streaming = rng.random() < 0.5
        self.leaving = rng.choice(["at the end", "at the end", "break", "raise", "cancel"])

    # --- what is watched on the way

    def asked(self) -> None:
        """Hear that the next item is asked for: there must be a slot, and room."""
        pulled, ended = len(self.watch.noted("pull")), len(self.watch.noted("end"))
        assert pulled - ended < self.options["max_concurrency"]
        assert pulled - len(self.given) < self.options["max_buffered"]

    def input(self) -> Any:
        return self._ainput() if self.streaming else self._input()

    def _input(self) -> Any:
        try:
            for item in self.items:
                self.asked()
                self.watch.note("pull", item.place)
                yield item
        finally:
            self.watch.note("closed", self.watch.running)

    async def _ainput(self) -> Any:
        try:
            for item in self.items:
                self.asked()
                await trio.sleep(self.rng.choice([0, 0, 0.7]))
                self.watch.note("pull", item.place)
                yield item
        finally:
            self.watch.note("closed", self.watch.running)

    async def work(self, item: Item) -> int:
        await self.watch.sleep(item.seconds, item.cleanup)
        if item.ending == "raises":
            raise ValueError(item.place)
        if item.ending == "exits":
            raise ExitProcess("normal")
        return item.place

    # --- the consumer

    async def consume(self, stream: Callable[..., Any]) -> str:
        """Iterate, by waits that are cut short now and then; give how the block was left."""
        patience = self.rng.randrange(8)
        with trio.CancelScope() as scope:
            if self.leaving == "cancel":
                scope.deadline = trio.current_time() + self.rng.random() * 8
            try:
                async with stream(self.input(), self.work, **self.options) as outcomes:
                    while await self._wait(outcomes):
                        if len(self.given) > patience and self.leaving == "break":
                            return "break"
                        if len(self.given) > patience and self.leaving == "raise":
                            raise KeyError(patience)
                        await trio.sleep(self.rng.choice([0, 0, 0.4, 2]))
            except KeyError:
                return "raise"
        return "cancel" if scope.cancelled_caught else "at the end"

    async def _wait(self, outcomes: Any) -> bool:
        with trio.move_on_after(self.rng.choice([0, 0.2, 1, 99])):
            try:
                item, outcome = await anext(outcomes)
            except StopAsyncIteration:
                return False
            self.given.append((item.place, told(outcome)))
        return True

    # --- what must hold afterwards

    def check(self, left: str) -> None:
        places = [place for place, _ in self.given]
        assert self.given == [(place, self.items[place].expected) for place in places]
        assert len(set(places)) == len(places)
        if self.options["ordered"]:
            assert places == list(range(len(places)))
        if left == "at the end":
            assert sorted(places) == list(range(len(self.items)))
        assert self.watch.peak <= self.options["max_concurrency"]
        assert len(self.watch.noted("start")) == len(self.watch.noted("end"))
        assert self.watch.running == 0
        if self.watch.log:
            assert len(self.watch.noted("closed")) == 1
        if left != "at the end" and self.watch.log:
            self.closed_behind_items()

    def closed_behind_items(self) -> None:
        exhausted = len(self.watch.noted("pull")) == len(self.items)
        if not exhausted:  # else the generator may have ended by itself
            assert self.watch.log[-1] == ("closed", 0)


@pytest.mark.conforms("STREAM-020", "STREAM-023", "STREAM-058", "REVIEW-6")
@pytest.mark.parametrize("isolated", [True, False])
async def test_random_runs(autojump_clock, isolated):
    """Whatever happens: outcomes right and in order, slots and room kept, all cleaned up."""
    before, ways = tasks(), set()
    async with TaskSupervisor() as sup:
        for seed in range(200):
            stream = sup.async_stream_nolink if isolated else Task.async_stream
            run = Run(random.Random(seed), isolated)
            left = await run.consume(stream)
            ways.add(left)
            try:
                run.check(left)
            except AssertionError as error:
                raise AssertionError(f"{seed=} {left}: {run}") from error
            assert sup.children == ()
    assert ways == {"at the end", "break", "raise", "cancel"}
    gc.collect()  # a generator that was not closed would warn
    assert tasks() == before


@pytest.mark.conforms("STREAM-036")
async def test_random_failures(autojump_clock):
    """Linked: the first failure in time leaves bare, and nothing behind it was given."""
    for seed in range(100):
        rng, watch, given = random.Random(seed), Watch(), []
        delays = rng.sample(range(1, 40), k=6)
        failing = set(rng.sample(delays, k=2))

        async def work(seconds, watch=watch, failing=failing):
            await watch.sleep(seconds, cleanup=0.5)
            if seconds in failing:
                raise ValueError(seconds)
            return seconds

        with pytest.raises(ValueError, match=str(min(failing))) as caught:
            async with Task.async_stream(
                watch.input(delays),
                work,
                max_concurrency=6,
                timeout=None,
                ordered=rng.random() < 0.5,
            ) as outcomes:
                await pour(outcomes, given)
        assert caught.value.args == (min(failing),)
        assert all(isinstance(outcome, Value) and outcome.value < min(failing) for outcome in given)
        assert watch.running == 0


# --- cancelling at every step ------------------------------------------------------------


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope just before a given step of any Trio task."""

    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self.left = step
        self.scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self.scope.cancel()


async def cancelled_at(step: int, fn: Callable[[], Any]) -> bool:
    """Run a function and cancel it at a step; say whether it was still running."""
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(step, scope)
        trio.lowlevel.add_instrument(instrument)
        try:
            await fn()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return instrument.left <= 0


def source(watch: Watch, streaming: bool) -> Any:
    items = [1, 0, 2, 1]
    return watch.ainput(items, 0.5) if streaming else watch.input(items)


both_inputs = pytest.mark.parametrize("streaming", [True, False], ids=["async", "sync"])


@pytest.mark.conforms("STREAM-058", "STREAM-068")
@both_inputs
async def test_consumer_cancelled_at_every_step(autojump_clock, stream, streaming):
    """Cancelled wherever it may be, a consumer leaves items ended, then the input closed."""
    before, step, cancelled = tasks(), 0, True
    while cancelled:
        step += 1
        watch, given = Watch(), []

        async def consume(watch=watch, given=given):
            async with stream(
                source(watch, streaming), watch.sleep, 0.1, max_concurrency=2
            ) as outcomes:
                async for outcome in outcomes:
                    given.append(outcome.unwrap())
                    await trio.sleep(0.3)

        cancelled = await cancelled_at(step, consume)
        assert given == [1, 0, 2, 1][: len(given)]
        assert watch.running == 0
        assert len(watch.noted("start")) == len(watch.noted("end"))
        if 0 < len(watch.noted("pull")) < 4:  # else it never began, or ended by itself
            assert watch.noted("closed") == [0]
        assert tasks() == before
    gc.collect()
    assert step > 20
    assert given == [1, 0, 2, 1]


@pytest.mark.conforms("REVIEW-6")
@both_inputs
async def test_each_wait_cancelled_at_every_step(autojump_clock, stream, streaming):
    """A wait that is cancelled wherever it may be loses no outcome: the next one gets it."""
    for seed in range(30):
        rng, watch, given = random.Random(seed), Watch(), []
        async with stream(source(watch, streaming), watch.sleep, max_concurrency=2) as outcomes:

            async def wait(outcomes=outcomes, given=given):
                given.append((await anext(outcomes)).unwrap())

            while len(given) < 4:
                await cancelled_at(rng.randint(1, 12), wait)
        assert given == [1, 0, 2, 1]
