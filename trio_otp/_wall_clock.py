"""The time of day, as a parameter: what tells it, and when it was set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, runtime_checkable

import attrs

from ._core.text import short
from ._daylight import to_moment

# Clocks that are put right bit by bit run up to 0.5 ms a second wrong: far below, at any sleep.
JUMP: Final = 1.0
_LONG: Final = 30.0  # seconds in which a clock that goes has gone on, however often it is looked at
_STANDS_STILL: Final = 10  # so many looks, and longest sleeps, without a second of progress


@runtime_checkable
class WallClock(Protocol):
    """What tells a scheduler the time of day; anything with a method `now`."""

    def now(self) -> datetime:
        """Give the time of day, as an aware datetime."""
        ...


class SystemClock:
    """The clock of this machine: what a scheduler goes by unless it is given another."""

    def now(self) -> datetime:
        """Give the time of day, in UTC."""
        return datetime.now(UTC)


def checked_clock(value: WallClock) -> WallClock:
    """Pass on a wall clock."""
    if not isinstance(value, WallClock) or isinstance(value, type):
        raise TypeError(f"clock must have a method now(), got {short(value)}")
    return value


@attrs.frozen
class Now:
    """One look at both clocks."""

    wall: datetime
    """The time of day, in UTC."""
    tick: float
    """The time of Trio's clock."""

    @classmethod
    def told_by(cls, clock: WallClock, tick: float) -> Now:
        """Ask a wall clock."""
        return cls(to_moment("clock.now()", clock.now()), tick)

    def wall_at(self, tick: float) -> datetime:
        """Give the time of day at a time of Trio's clock, as if no clock were ever set."""
        return self.wall + timedelta(seconds=tick - self.tick)

    def moved_to(self, wall: datetime) -> Now:
        """Give the same look at another time of day."""
        return Now(wall, self.tick + (wall - self.wall).total_seconds())


class ClockWatch:
    """Compares what both clocks made of the time between two looks. Pure."""

    __slots__ = ("_last", "_longest", "_looks", "_still")

    def __init__(self, now: Now, longest_sleep: float) -> None:
        self._last = self._still = now
        self._looks = 0  # since it moved last
        self._longest = min(longest_sleep, 30)

    def jump(self, now: Now) -> float:
        """Give by how many seconds the wall clock was set since the last look, 0 if not.

        Raises:
            RuntimeError: The wall clock stands still.
        """
        self._refuse_standing_still(now)
        size = (now.wall - self._last.wall).total_seconds() - (now.tick - self._last.tick)
        size = round(size, 6)  # as exact as a datetime is
        self._last = now
        return size if abs(size) > JUMP else 0

    def _refuse_standing_still(self, now: Now) -> None:
        self._looks += 1
        ran = now.tick - self._still.tick
        if abs((now.wall - self._still.wall).total_seconds()) >= 1:
            self._still, self._looks = now, 0
        elif ran > max(_STANDS_STILL * self._longest, _LONG) and self._looks > _STANDS_STILL:
            raise RuntimeError(
                f"Trio's clock ran {ran:g} s while the wall clock stood "
                "still: with a MockClock, pass clock=SettableClock() of trio_otp.testing to the Scheduler"
            )
