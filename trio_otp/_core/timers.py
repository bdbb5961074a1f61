"""One deadline per key, in order of time. Pure: `now` is an argument."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """Deadlines; setting one again moves it."""

    __slots__ = ("_at", "_count", "_heap")

    def __init__(self) -> None:
        self._at: dict[K, tuple[float, int, int]] = {}
        # Entries whose number is not the key's newest are stale, and dropped when met.
        self._heap: list[tuple[float, int, int, K]] = []
        self._count = 0

    def size(self) -> int:
        """Give how many places the heap takes: at most twice the deadlines ever set at once, and 16."""
        return len(self._heap)

    def set(self, key: K, at: float, rank: int = 0) -> None:
        """Set the deadline of a key; infinity means none.

        Of those with the same deadline the lower rank comes first, then what was set first.
        """
        self._at.pop(key, None)
        if at < math.inf:
            self._count += 1
            self._at[key] = entry = (at, rank, self._count)
            heapq.heappush(self._heap, (*entry, key))
        self._tidy()

    def drop(self, key: K) -> None:
        """Forget the deadline of a key, if it has one."""
        self._at.pop(key, None)
        self._tidy()

    def _tidy(self) -> None:
        """Keep no more than a few stale keys for each that counts: far ones never surface."""
        if len(self._heap) > 2 * len(self._at) + 16:
            self._heap = [(*entry, key) for key, entry in self._at.items()]
            heapq.heapify(self._heap)

    def at(self, key: K) -> float:
        """Give the deadline of a key, or infinity."""
        return self._at.get(key, (math.inf,))[0]

    def next_at(self) -> float:
        """Give the time of the earliest deadline, or infinity."""
        return self.next()[0]

    def next(self) -> tuple[float, int]:
        """Give the time of the earliest deadline and its rank, or infinity."""
        while self._heap:
            at, rank, number, key = self._heap[0]
            if self._at.get(key) == (at, rank, number):
                return at, rank
            heapq.heappop(self._heap)
        return math.inf, 0

    def take_due(self, now: float, *, most: float = math.inf) -> list[K]:
        """Take out the keys whose deadline has come, earliest first, at most so many."""
        due: list[K] = []
        while len(due) < most and self.next_at() <= now and self._heap:
            *_, key = heapq.heappop(self._heap)
            del self._at[key]
            due.append(key)
        self._tidy()
        return due
