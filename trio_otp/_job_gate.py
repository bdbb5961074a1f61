"""How many runs a scheduler lets go on at once, and who is next."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, TypeAlias

import trio

from ._core.waiting import Sleeper

if TYPE_CHECKING:
    from datetime import datetime

Ticket: TypeAlias = "tuple[datetime, int]"
"""Since when a run is due, and its number: the lowest is next."""


class Gate:
    """So many may be inside; the others wait in the order in which they were due."""

    __slots__ = ("_line", "_room")

    def __init__(self, room: float) -> None:
        self._room = room
        self._line: list[tuple[Ticket, Sleeper]] = []

    @trio.lowlevel.enable_ki_protection
    async def enter(self, ticket: Ticket) -> None:
        """Take a place, as soon as there is one. Cancellation leaves the line in order."""
        if self._room > 0:
            self._room -= 1
            return
        waiting = (ticket, Sleeper())
        heappush(self._line, waiting)
        try:
            await waiting[1].park()
        except BaseException:
            self._give_up(waiting)
            raise

    def leave(self) -> None:
        """Give one's place to the next."""
        if self._line:
            heappop(self._line)[1].wake()
        else:
            self._room += 1

    def _give_up(self, waiting: tuple[Ticket, Sleeper]) -> None:
        if waiting in self._line:
            self._line.remove(waiting)
            heapify(self._line)
        else:  # the place came in the moment of the cancellation
            self.leave()
