"""Parking a Trio task until something about a process changes.

A handle has no Event of its own: most are never waited for, and an Event takes more
memory than the rest of the handle.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


class Sleeper:
    """One parked Trio task; woken once, by whichever of its causes comes first."""

    __slots__ = ("_parked", "_task")

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()
        self._parked = True

    def wake(self) -> None:
        """Let the task go on; later calls do nothing."""
        if self._parked:
            self._parked = False
            trio.lowlevel.reschedule(self._task)

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._parked = False
        return trio.lowlevel.Abort.SUCCEEDED

    async def park(self) -> None:
        """Sleep until woken or cancelled."""
        await trio.lowlevel.wait_task_rescheduled(self._give_up)


class Bell:
    """What many may wait at and one may ring; mixed into the handle."""

    __slots__ = ("_sleepers",)

    _sleepers: dict[Sleeper, None] | None

    def ring(self) -> None:
        """Wake all who wait now."""
        if self._sleepers is not None:
            sleepers, self._sleepers = self._sleepers, None
            for sleeper in sleepers:
                sleeper.wake()


@trio.lowlevel.enable_ki_protection
async def any_ring(*bells: Bell) -> None:
    """Sleep until one of the bells rings."""
    # Protected: a sleeper that an interrupt left at a bell would wake whatever its task does next.
    sleeper = Sleeper()
    for bell in bells:
        if bell._sleepers is None:
            bell._sleepers = {}
        bell._sleepers[sleeper] = None
    try:
        await sleeper.park()
    finally:
        for bell in bells:
            if bell._sleepers is not None:
                bell._sleepers.pop(sleeper, None)


@trio.lowlevel.enable_ki_protection
async def until(true: Callable[[], bool], *bells: Bell, at: float = math.inf) -> bool:
    """Sleep until a condition holds, looking whenever a bell rings; False if it is too late.

    Not a checkpoint if the condition holds already.
    """
    if at == math.inf:
        while not true():
            await any_ring(*bells)
        return True
    with trio.CancelScope(deadline=at):
        while not true():
            await any_ring(*bells)
    return true()
