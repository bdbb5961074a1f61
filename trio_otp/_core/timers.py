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
        self._at: dict[K, tuple[float, int]] = {}
        # Entries whose number is not the key's newest are stale, and dropped when met.
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0

    def size(self) -> int:
        """Give how many places the heap takes: at most twice the deadlines ever set at once, and 16."""
        return len(self._heap)

    def set(self, key: K, at: float) -> None:
        """Set the deadline of a key; infinity means none."""
        self._at.pop(key, None)
        if at < math.inf:
            self._count += 1
            self._at[key] = (at, self._count)
            heapq.heappush(self._heap, (at, self._count, key))
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
        return self._at.get(key, (math.inf, 0))[0]

    def next_at(self) -> float:
        """Give the time of the earliest deadline, or infinity."""
        while self._heap:
            at, number, key = self._heap[0]
            if self._at.get(key) == (at, number):
                return at
            heapq.heappop(self._heap)
        return math.inf

    def take_due(self, now: float) -> list[K]:
        """Take out the keys whose deadline has come, earliest first."""
        due: list[K] = []
        while self.next_at() <= now and self._heap:
            _, _, key = heapq.heappop(self._heap)
            del self._at[key]
            due.append(key)
        self._tidy()
        return due
