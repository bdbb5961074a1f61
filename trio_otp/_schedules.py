"""When something is to happen, as values: schedules by the calendar and by a stop watch. Pure."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

import attrs

from ._core import options
from ._core.text import short
from ._daylight import to_moment

if TYPE_CHECKING:
    from random import Random

EveryMode: TypeAlias = Literal["rate", "delay"]
"""What an interval is measured from: the start of the run before, or its end."""

EVERY_MODES: Final = ("rate", "delay")

Seconds: TypeAlias = float | timedelta


def _seconds(option: str, value: Any) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if options.duration(option, seconds) == math.inf:
        raise ValueError(f"{option} must be finite, got {short(value)}")
    return float(seconds)


def _longest(value: Seconds) -> float:
    return _seconds("jitter", value)


@attrs.frozen
class Jitter:
    """A delay that differs from job to job, so that not all start in the same moment.

    It delays starts, never the schedule: the slots stay where they are.

    Args:
        seconds: The longest delay, in seconds or as a `timedelta`.
        stable: Take the delay from the name of the job: the same for each run, also after
            a restart of the program. Else it is drawn anew for each run.

    Raises:
        TypeError: A value is of a wrong type.
        ValueError: `seconds` is negative or not finite.
    """

    seconds: float = attrs.field(converter=_longest)
    stable: bool = attrs.field(
        default=False, kw_only=True, validator=attrs.validators.instance_of(bool)
    )

    def delay(self, *, name: str, room: float, random: Random) -> float:
        """Give the seconds from a slot to its start.

        Args:
            name: The name of the job.
            room: The seconds to the next slot; the start stays before it.
            random: Where a delay that is not stable is drawn from.
        """
        share = _share(name) if self.stable else random.random()
        return min(self.seconds, room) * share


def _share(name: str) -> float:
    """Give a number from 0 up to 1 that is the same for a name in every program."""
    return (int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) >> 11) / 2**53


def to_jitter(value: Jitter | Seconds) -> Jitter:
    """Pass on a jitter, made of its seconds if need be."""
    return value if isinstance(value, Jitter) else Jitter(value)


NO_JITTER: Final = Jitter(0)


class Schedule(ABC):
    """The base of what happens at times of the calendar: its *slots*, moments in UTC.

    A class of your own defines `next_after` and `last_before`. They must agree with each
    other and depend on nothing but their argument: the scheduler asks about any moment, in
    any order, also when the wall clock was set.
    """

    __slots__ = ()

    jitter: Jitter = NO_JITTER

    @property
    def at_start(self) -> bool:
        """Whether it happens once when its scheduler starts, besides its slots."""
        return False

    @property
    def keeps_real_time(self) -> bool:
        """Whether it is a beat, like "every five minutes", rather than times of day.

        A scheduler whose wall clock is set back goes on with a beat at once; a time of day
        that has been is over.
        """
        return False

    @abstractmethod
    def next_after(self, moment: datetime) -> datetime | None:
        """Give the first slot after a moment, or `None` if there is none.

        Args:
            moment: An aware datetime. A slot at this very moment is not after it.

        Raises:
            ValueError: `moment` has no time zone.
        """

    @abstractmethod
    def last_before(self, moment: datetime) -> datetime | None:
        """Give the last slot before a moment, or `None` if there is none.

        Arguments and errors as in `next_after`.
        """

    @final
    def between(
        self, after: datetime, until: datetime, *, limit: int = 100
    ) -> tuple[datetime, ...]:
        """Give the slots after one moment and not after another, in order.

        They are found from the end, so the work does not grow with the stretch.

        Args:
            after: An aware datetime; a slot at this very moment is left out.
            until: An aware datetime; a slot at this very moment is taken in.
            limit: Take the newest ones only, at most so many.

        Raises:
            TypeError: A value is of a wrong type.
            ValueError: A moment has no time zone, or `limit` is negative.
        """
        start, end = to_moment("after", after), to_moment("until", until)
        most = options.count("limit", limit)
        slots: list[datetime] = []
        slot = self._before(end + datetime.resolution)
        while slot is not None and slot > start and len(slots) < most:
            slots.append(slot)
            slot = self._before(slot)
        return tuple(reversed(slots))

    def _before(self, moment: datetime) -> datetime | None:
        slot = self.last_before(moment)
        return None if slot is None else to_moment("last_before()", slot)


def _one_moment(value: datetime) -> datetime:
    moment = to_moment("moment", value)
    if moment.astimezone(value.tzinfo).replace(tzinfo=None) != value.replace(tzinfo=None):
        raise ValueError(f"moment must be a time that clocks show, got {value}: they skip it")
    return moment


@attrs.frozen
class At(Schedule):
    """Once, at a moment.

    Args:
        moment: An aware datetime; kept in UTC.

    Raises:
        TypeError: `moment` is no datetime.
        ValueError: It has no time zone, or is one that no clock of its zone shows.
    """

    moment: datetime = attrs.field(converter=_one_moment)

    def next_after(self, moment: datetime) -> datetime | None:
        """Give the moment, if it is after another; see `Schedule.next_after`."""
        return self.moment if self.moment > to_moment("moment", moment) else None

    def last_before(self, moment: datetime) -> datetime | None:
        """Give the moment, if it is before another; see `Schedule.last_before`."""
        return self.moment if self.moment < to_moment("moment", moment) else None


def _period(value: Seconds) -> float:
    seconds = _seconds("seconds", value)
    # Finer steps than those of datetime get lost in what a float of a clock can hold.
    if seconds < 1e-6:
        raise ValueError(f"seconds must be at least a microsecond, got {short(value)}")
    return seconds


def _delay_or_none(value: Seconds | None) -> float | None:
    return None if value is None else _seconds("initial_delay", value)


@attrs.frozen
class Every:
    """Again and again after so many seconds, by a clock that nobody sets.

    Its *ticks* are times of Trio's clock, which runs evenly: neither daylight saving nor
    a wall clock put right moves them, and a suspended computer may stop them. For times of
    day take `Cron`.

    Args:
        seconds: The period, in seconds or as a `timedelta`.
        mode: `"rate"`: from start to start, on a grid that stays where it is, however long
            a run takes. `"delay"`: from the end of a run to the start of the next.
        initial_delay: The time to the first tick, in seconds or as a `timedelta`; by
            default one period, 0 for at once.
        jitter: Up to how many seconds a start may be late by chance, or a `Jitter`; less
            than the period.

    Raises:
        TypeError: A value is of a wrong type.
        ValueError: A value is out of its range; the message names it.
    """

    seconds: float = attrs.field(converter=_period)
    mode: EveryMode = attrs.field(default="rate", kw_only=True)
    initial_delay: float | None = attrs.field(default=None, kw_only=True, converter=_delay_or_none)
    jitter: Jitter = attrs.field(default=NO_JITTER, kw_only=True, converter=to_jitter)

    def __attrs_post_init__(self) -> None:
        options.one_of("mode", self.mode, EVERY_MODES)
        if self.jitter.seconds >= self.seconds:
            raise ValueError(
                f"jitter must be less than the period of {self.seconds:g} s, "
                f"got {self.jitter.seconds:g}"
            )

    def first(self, start: float) -> float:
        """Give the first tick of a job that was started at `start`."""
        return start + (self.seconds if self.initial_delay is None else self.initial_delay)

    def next_after(self, moment: float, *, start: float) -> float:
        """Give the first tick after a moment.

        Args:
            moment: A time of Trio's clock; with `mode="delay"` the end of the last run.
            start: When the job was started.
        """
        if moment < self.first(start):
            return self.first(start)
        if self.mode == "delay":
            return moment + self.seconds
        return self._tick(self._ticks_until(moment, start), start)

    def between(
        self, after: float, until: float, *, start: float, limit: int = 100
    ) -> tuple[float, ...]:
        """Give the ticks after one moment and not after another, in order.

        With `mode="delay"` only the first tick is known beforehand.

        Args:
            after: A time of Trio's clock; a tick at this very moment is left out.
            until: A time of Trio's clock; a tick at this very moment is taken in.
            start: When the job was started.
            limit: Take the newest ones only, at most so many.

        Raises:
            TypeError: `limit` is no whole number.
            ValueError: `limit` is negative.
        """
        end = self._ticks_until(until, start)
        if self.mode == "delay":
            end = min(end, 1)
        begin = max(self._ticks_until(after, start), end - options.count("limit", limit))
        return tuple(self._tick(number, start) for number in range(begin, end))

    def _tick(self, number: int, start: float) -> float:
        # By multiplication: adding the period again and again would add up its rounding.
        return self.first(start) + number * self.seconds

    def _ticks_until(self, moment: float, start: float) -> int:
        """Count the ticks up to a moment, which is the number of the first one after it."""
        # The division rounds, by far less than one: begin one too low, and let the ticks decide.
        count = max(0, math.floor((moment - self.first(start)) / self.seconds))
        while self._tick(count, start) <= moment:
            count += 1
        return count
