"""A time of day for tests: it runs with Trio's clock, and can be set."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

import trio

from .._core.text import short
from .._daylight import to_moment

START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class SettableClock:
    """A wall clock for the `clock` of a `Scheduler`: it goes on as Trio's clock does, and can be set.

    With pytest-trio's `autojump_clock` a year passes in a moment, and the scheduler sees it.
    (With the clock of the machine it would not: Trio's time flies, the time of day stands.)

    Args:
        start: What it shows when it is first looked at; an aware datetime.

    Raises:
        TypeError: `start` is no datetime.
        ValueError: It has no time zone.
    """

    def __init__(self, start: datetime = START) -> None:
        self._shown = self._seen = to_moment("start", start)
        self._since = 0.0
        self._run: trio.lowlevel.TrioToken | None = None

    def now(self) -> datetime:
        """Give the time of day, in UTC. Between two runs of Trio it stands still."""
        if self._run is not (run := trio.lowlevel.current_trio_token()):
            self._run = run
            self._show(self._seen)
        self._seen = self._shown + timedelta(seconds=trio.current_time() - self._since)
        return self._seen

    def jump(self, seconds: float | timedelta) -> None:
        """Set it forward, or back by a negative number, as a person or NTP does.

        Raises:
            TypeError: That is no number of seconds.
            ValueError: It is not finite.
        """
        self._show(self.now() + _length("seconds", seconds))

    def set_to(self, moment: datetime) -> None:
        """Set it to a time of day; an aware datetime.

        Raises:
            TypeError: `moment` is no datetime.
            ValueError: It has no time zone.
        """
        self._run = trio.lowlevel.current_trio_token()
        self._show(to_moment("moment", moment))

    def suspend(self, seconds: float | timedelta) -> None:
        """Have the machine sleep: time passes by this clock, and none by Trio's.

        Raises:
            TypeError: That is no number of seconds.
            ValueError: It is not finite, or negative.
        """
        length = _length("seconds", seconds)
        if length < timedelta(0):
            raise ValueError(f"seconds must not be negative, got {short(seconds)}: use jump")
        self.jump(length)

    def _show(self, moment: datetime) -> None:
        self._shown = self._seen = moment
        self._since = trio.current_time()


def _length(option: str, value: float | timedelta) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{option} must be a number of seconds or a timedelta, got {short(value)}")
    if not math.isfinite(value):
        raise ValueError(f"{option} must be finite, got {short(value)}")
    return timedelta(seconds=value)
