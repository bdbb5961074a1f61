"""Parking a Trio task until something about a process changes.

A handle has no Event of its own: most are never waited for, and an Event takes more
memory than the rest of the handle.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

B = TypeVar("B", bound="Bell")


class Sleeper:
    """One parked Trio task; woken once, by whichever of its causes comes first."""

    __slots__ = ("_parked", "_task")

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()
        self._parked = False

    def wake(self) -> None:
        """Let the task go on; later calls do nothing."""
        if self._parked:
            self._parked = False
            trio.lowlevel.reschedule(self._task)

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._parked = False
        return trio.lowlevel.Abort.SUCCEEDED

    async def park(self) -> None:
        """Sleep until woken or cancelled; a wake before that does not count."""
        self._parked = True
        await trio.lowlevel.wait_task_rescheduled(self._give_up)


class Bell:
    """What many may wait at and one may ring; mixed into the handle."""

    __slots__ = ("_sleepers",)

    _sleepers: dict[Sleeper | Ear, None] | None

    def ring(self) -> None:
        """Wake all who wait now."""
        if self._sleepers is not None:
            sleepers, self._sleepers = self._sleepers, None
            for sleeper in sleepers:
                sleeper.wake()


class Ear:
    """Stands at one bell for somebody who waits at many."""

    __slots__ = ("_bell", "_heard")

    def __init__(self, bell: B, heard: Callable[[B], bool]) -> None:
        self._bell = bell
        self._heard: Callable[[Any], bool] = heard
        self._listen()

    def wake(self) -> None:
        """Pass it on, and stay for the next ring if that was not it."""
        if not self._heard(self._bell):
            self._listen()

    def leave(self) -> None:
        """Stand there no longer."""
        _leave(self._bell, self)

    def _listen(self) -> None:
        _stand_at(self._bell, self)


def _stand_at(bell: Bell, who: Sleeper | Ear) -> None:
    if bell._sleepers is None:
        bell._sleepers = {}
    bell._sleepers[who] = None


def _leave(bell: Bell, who: Sleeper | Ear) -> None:
    if bell._sleepers is not None:
        bell._sleepers.pop(who, None)


@trio.lowlevel.enable_ki_protection
async def next_ring(bell: Bell) -> None:
    """Sleep until a bell rings."""
    # Protected: a sleeper that an interrupt left at a bell would wake whatever its task does next.
    sleeper = Sleeper()
    _stand_at(bell, sleeper)
    try:
        await sleeper.park()
    finally:
        _leave(bell, sleeper)


@trio.lowlevel.enable_ki_protection
async def until(true: Callable[[], bool], bell: Bell, at: float = math.inf) -> bool:
    """Sleep until a condition holds, looking whenever a bell rings; False if it is too late.

    Not a checkpoint if the condition holds already.
    """
    if at == math.inf:
        while not true():
            await next_ring(bell)
        return True
    with trio.CancelScope(deadline=at):
        while not true():
            await next_ring(bell)
    return true()
