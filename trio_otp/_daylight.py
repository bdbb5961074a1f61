"""Local clocks on the nights they are changed. Pure: no Trio, and no clock of this machine.

A *reading* is what a local clock shows: a datetime without a zone. A *moment* is an instant
in UTC. Most readings are one moment each; those that a change leaves out are none, those
that it repeats are two. All arithmetic is done on readings alone or on moments alone.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final, Protocol
from zoneinfo import ZoneInfo, available_timezones

import attrs

from ._core.text import short

SECOND: Final = timedelta(seconds=1)
# The Gregorian calendar has no longer pause: 29 February on a given weekday, over 2100, takes 40.
LONGEST_PAUSE_YEARS: Final = 50


def find_zone(value: str | ZoneInfo | timezone | None) -> ZoneInfo | timezone | None:
    """Pass on a time zone, found by its name if need be, or `None`."""
    if value is None or isinstance(value, ZoneInfo | timezone):
        return value
    if not isinstance(value, str):
        raise TypeError(
            "timezone must be a name like 'Europe/Berlin', a ZoneInfo or a datetime.timezone, "
            f"got {short(value)}"
        )
    return UTC if value == "UTC" else _zone_called(value)


def _zone_called(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown, not a name, a folder of names
        hint = (
            "names are like 'Europe/Berlin'"
            if available_timezones()
            else "this system has no time zones: install tzdata"
        )
        raise ValueError(f"timezone must be a known zone, got {short(name)}: {hint}") from None


def to_moment(option: str, value: datetime) -> datetime:
    """Give the UTC instant of an aware datetime; a naive one could mean any."""
    if not isinstance(value, datetime):
        raise TypeError(f"{option} must be an aware datetime, got {short(value)}")
    if value.utcoffset() is None:
        raise ValueError(f"{option} must be an aware datetime, got {short(value)} without a zone")
    return value.astimezone(UTC)


@attrs.frozen
class Change:
    """A moment at which the clocks of a zone are changed."""

    at: datetime
    shown: datetime
    """What they would have shown at that moment, and show no more."""
    set_to: datetime
    """What they show instead."""

    @property
    def is_gap(self) -> bool:
        """Whether readings are left out, from `shown` to `set_to`; else they are repeated."""
        return self.shown < self.set_to


@attrs.frozen
class LocalClock:
    """The clocks of one time zone."""

    zone: tzinfo

    def shows(self, moment: datetime) -> tuple[datetime, bool]:
        """Give the reading at a moment, and whether it is there for the second time."""
        local = moment.astimezone(self.zone)
        return local.replace(tzinfo=None, fold=0), bool(local.fold)

    def moment(self, reading: datetime, *, again: bool = False) -> datetime:
        """Give the moment of a reading, by request the second one."""
        return reading.replace(tzinfo=self.zone, fold=again).astimezone(UTC)

    def is_plain(self, reading: datetime) -> bool:
        """Say whether a reading is one moment: neither left out nor repeated."""
        local = reading.replace(tzinfo=self.zone)
        return local.utcoffset() == local.replace(fold=1).utcoffset()

    def change(self, reading: datetime) -> Change:
        """Give the change that leaves a reading out or repeats it."""
        whole = reading.replace(microsecond=0)  # clocks are changed at whole seconds
        early, late = sorted(self.moment(whole, again=again) for again in (False, True))
        after = late.astimezone(self.zone).utcoffset()
        seconds = bisect_left(
            range((late - early) // SECOND),
            True,
            key=lambda n: (early + n * SECOND).astimezone(self.zone).utcoffset() == after,
        )
        at = early + seconds * SECOND
        return Change(at, self.shows(at - SECOND)[0] + SECOND, self.shows(at)[0])


class Readings(Protocol):
    """Readings at which something is to happen, in order."""

    def after(self, reading: datetime) -> datetime | None:
        """Give the first one after another."""
        ...

    def before(self, reading: datetime) -> datetime | None:
        """Give the last one before another."""
        ...


@attrs.frozen
class RealTime:
    """Every moment at which a local clock shows one of some readings.

    What is left out does not happen; what is repeated happens twice.
    """

    clock: LocalClock
    readings: Readings

    def next_after(self, moment: datetime) -> datetime | None:
        """Give the first one after a moment."""
        shown, again = self.clock.shows(moment)
        reading = self.readings.after(shown)
        if not again and not self.clock.is_plain(shown):
            change = self.clock.change(shown)
            if reading is None or reading >= change.shown:
                # Before it gets there the clock is set back, and shows once more what it showed.
                reading = self.readings.after(change.set_to - SECOND)
        while reading and reading.year - shown.year <= LONGEST_PAUSE_YEARS:
            for found in self._moments(reading):
                if found > moment:
                    return found
            reading = self.readings.after(self.clock.change(reading).set_to - SECOND)
        return None

    def last_before(self, moment: datetime) -> datetime | None:
        """Give the last one before a moment."""
        shown, again = self.clock.shows(moment)
        reading = self.readings.before(shown)
        if again:
            change = self.clock.change(shown)
            if reading is None or reading < change.set_to:
                reading = self.readings.before(change.shown)
        while reading and shown.year - reading.year <= LONGEST_PAUSE_YEARS:
            for found in reversed(self._moments(reading)):
                if found < moment:
                    return found
            reading = self.readings.before(self.clock.change(reading).shown)
        return None

    def _moments(self, reading: datetime) -> list[datetime]:
        first = self.clock.moment(reading)
        if self.clock.is_plain(reading):
            return [first]
        second = self.clock.moment(reading, again=True)
        return [first, second] if first < second else []


@attrs.frozen
class OnceEach:
    """One moment for each of some readings, whatever is done to the clock.

    What is left out happens at the change, all of it at once; what is repeated happens the
    first time.
    """

    clock: LocalClock
    readings: Readings

    def next_after(self, moment: datetime) -> datetime | None:
        """Give the first one after a moment."""
        shown, again = self.clock.shows(moment)
        # While a clock repeats itself, all that it shows has happened.
        reading = self.readings.after(self.clock.change(shown).shown - SECOND if again else shown)
        return self._moment(reading) if reading else None

    def last_before(self, moment: datetime) -> datetime | None:
        """Give the last one before a moment."""
        shown, again = self.clock.shows(moment)
        reading = self.readings.before(self.clock.change(shown).shown if again else shown)
        if reading and self._moment(reading) == moment:
            # At the moment of a change: this one was left out, and has become that moment.
            reading = self.readings.before(self.clock.change(reading).shown)
        return self._moment(reading) if reading else None

    def _moment(self, reading: datetime) -> datetime:
        if not self.clock.is_plain(reading):
            change = self.clock.change(reading)
            if change.is_gap:
                return change.at
        return self.clock.moment(reading)
