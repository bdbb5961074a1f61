"""Cron: the times that an expression names, by the clocks of a zone. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from . import _cron_text
from ._core import options
from ._daylight import LocalClock, OnceEach, RealTime, find_zone, to_moment
from ._schedules import NO_JITTER, Jitter, Schedule, to_jitter

if TYPE_CHECKING:
    from types import ModuleType

Dst: TypeAlias = Literal["cron", "wall"]
"""What becomes of times that a change of the clocks leaves out or repeats; see `Cron`."""

DayRule: TypeAlias = Literal["or", "and"]
"""Whether a day must be named by one or by both of the fields day-of-month and day-of-week."""

DSTS: Final = ("cron", "wall")
DAY_RULES: Final = ("or", "and")

# Any year will do to find out whether an expression ever matches: the search looks far enough.
_SOME_MOMENT: Final = datetime(2001, 1, 1, tzinfo=UTC)


@cache
def _engine() -> ModuleType:
    """Import the engine, which only those need who use cron expressions."""
    try:
        return import_module("cronsim")
    except ImportError as error:
        raise ImportError("Cron needs cronsim: pip install 'trio-otp[cron]'") from error


@attrs.frozen
class _Calendar:
    """The readings that an expression matches, without a thought of zones."""

    text: str
    """In the engine's words."""
    day_rule: DayRule

    def after(self, reading: datetime) -> datetime | None:
        return self._next(reading, reverse=False)

    def before(self, reading: datetime) -> datetime | None:
        return self._next(reading, reverse=True)

    def _next(self, reading: datetime, *, reverse: bool) -> datetime | None:
        cronsim = _engine()
        try:
            engine = cronsim.CronSim(self.text, reading, reverse)
            engine.day_and |= self.day_rule == "and"
            return next(engine, None)
        except (cronsim.CronSimError, OverflowError):  # no such day; beyond the years of datetime
            return None


@attrs.frozen
class Cron(Schedule):
    """The times that a cron expression names.

    Five fields: minute, hour, day-of-month, month, day-of-week; six fields have the second
    in front. A field is `*`, a number or a range, each also with a step (`*/15`, `9-17/2`, and
    `5/15`, from 5 on), or a list of those. Months and weekdays have names; 0 and 7 are
    Sunday. Ranges wrap (`22-6`, `SAT-MON`), but not those of days of the month. Days also
    take `L` (the last), `LW` (the last Monday to Friday), `MON#2` (the second Monday), `5L` (the
    last Friday), and `?` for `*`. In place of an expression there are `@yearly`, `@annually`,
    `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`, `@minutely`, `@secondly`, and
    `@reboot`, which has no slots but `at_start`.

    Args:
        text: The expression; `str(cron)` gives it back.
        timezone: By whose clocks: a name like `"Europe/Berlin"`, a `ZoneInfo` or a
            `datetime.timezone`; by default UTC, or what the scheduler says. Never the zone
            of this machine.
        dst: When clocks are changed, `"cron"` does what Debian's cron does: if minute and
            hour are named, a time that is left out happens at the change, and one that is
            repeated happens the first time only; if one of them begins with `*`, real time
            counts. With `"wall"` real time always counts: what is left out does not
            happen, what is repeated happens twice.
        day_rule: If both day fields are named, a day must be in one of them, as in cron, or
            with `"and"` in both, as in Quantum. A field that begins with `*` counts as not
            named, and both must match.
        jitter: Up to how many seconds a start may be late by chance, or a `Jitter`.

    Raises:
        TypeError: A value is of a wrong type.
        ValueError: The expression is wrong (the message names the field), or never comes;
            the zone is unknown; an option has a wrong value.
        ImportError: The extra `[cron]` is not installed.
    """

    text: str = attrs.field(converter=_cron_text.check)
    timezone: tzinfo | None = attrs.field(default=None, kw_only=True, converter=find_zone, eq=str)
    dst: Dst = attrs.field(default="cron", kw_only=True)
    day_rule: DayRule = attrs.field(default="or", kw_only=True)
    jitter: Jitter = attrs.field(default=NO_JITTER, kw_only=True, converter=to_jitter)
    _slots: RealTime | OnceEach | None = attrs.field(
        init=False,
        eq=False,
        repr=False,
        default=attrs.Factory(lambda self: self._find_slots(), True),
    )

    def __str__(self) -> str:
        return self.text

    @property
    def at_start(self) -> bool:
        """Whether it is `@reboot`: once when its scheduler starts, and no slots."""
        return self.text.strip().lower() == _cron_text.REBOOT

    @property
    def keeps_real_time(self) -> bool:
        """Whether its minute or hour begins with `*`, or `dst="wall"`."""
        return isinstance(self._slots, RealTime)

    def next_after(self, moment: datetime) -> datetime | None:
        """Give the first slot after a moment; see `Schedule.next_after`.

        `None` for `@reboot`, and if there is none for fifty years.
        """
        asked = to_moment("moment", moment)
        return self._slots.next_after(asked) if self._slots else None

    def last_before(self, moment: datetime) -> datetime | None:
        """Give the last slot before a moment; see `Schedule.last_before`.

        `None` for `@reboot`, and if there was none for fifty years.
        """
        asked = to_moment("moment", moment)
        return self._slots.last_before(asked) if self._slots else None

    def _find_slots(self) -> RealTime | OnceEach | None:
        options.one_of("dst", self.dst, DSTS)
        options.one_of("day_rule", self.day_rule, DAY_RULES)
        _engine()
        if self.at_start:
            return None
        text = _cron_text.translate(self.text)
        _, minute, hour, day, month, _ = text.split()
        named = not minute.startswith("*") and not hour.startswith("*")
        kind = OnceEach if named and self.dst == "cron" else RealTime
        slots = kind(LocalClock(self.timezone or UTC), _Calendar(text, self.day_rule))
        any_day = day == month == "*"  # and any weekday comes, which spares a look
        if not any_day and slots.next_after(_SOME_MOMENT) is None:
            raise ValueError(
                f"the day-of-month, month and day-of-week of {self.text!r} never meet"
                + (f" by the clocks of {self.timezone}" if self.timezone else "")
            )
        return slots
