"""What the tests of streams share: items and inputs that note what happens to them."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio


class Watch:
    """Notes what was pulled, started, ended, delivered and closed, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.running = self.peak = 0

    def noted(self, *kinds: str) -> list[Any]:
        """Give what was noted of some kinds: with its kind, unless there is only one."""
        found = [entry for entry in self.log if entry[0] in kinds]
        return [entry[1] for entry in found] if len(kinds) == 1 else found

    def note(self, kind: str, *about: Any) -> None:
        self.log.append((kind, *about))

    async def sleep(self, seconds: float, cleanup: float = 0) -> float:
        """Work as an item that sleeps as long as its value says, and cleans up slowly."""
        self.running += 1
        self.peak = max(self.peak, self.running)
        self.note("start", seconds)
        try:
            await trio.sleep(seconds)
            return seconds
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(cleanup)
            self.running -= 1
            self.note("end", seconds)

    def input(self, items: Iterable[Any]) -> Iterator[Any]:
        try:
            for item in items:
                self.note("pull", item)
                yield item
        finally:
            self.note("closed", self.running)

    async def ainput(self, items: Iterable[Any], pause: float = 0) -> AsyncIterator[Any]:
        try:
            for item in items:
                await trio.sleep(pause)
                self.note("pull", item)
                yield item
        finally:
            self.note("closed", self.running)


async def collect(stream: AbstractAsyncContextManager[AsyncIterator[Any]]) -> list[Any]:
    async with stream as outcomes:
        return [outcome async for outcome in outcomes]


async def values(stream: AbstractAsyncContextManager[AsyncIterator[Any]]) -> list[Any]:
    return [outcome.unwrap() for outcome in await collect(stream)]


async def pour(outcomes: AsyncIterator[Any], given: list[Any]) -> None:
    """Add all outcomes to a list, which keeps those that came before an error."""
    async for outcome in outcomes:
        given.append(outcome)  # noqa: PERF401  # an error would lose a comprehension


async def take(stream: AbstractAsyncContextManager[AsyncIterator[Any]], count: int) -> list[Any]:
    taken: list[Any] = []
    async with stream as outcomes:
        while len(taken) < count:
            taken.append(await anext(outcomes))
    return taken


def tasks() -> int:
    """Count the Trio tasks that live; the same before and after what leaves none behind."""
    return trio.lowlevel.current_statistics().tasks_living


async def identity(item: Any) -> Any:
    return item


async def sleep(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds
