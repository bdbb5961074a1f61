"""Cron expressions: checked field by field, and put into the words of the engine. Pure.

The engine reads five or six fields of numbers, lists, ascending ranges, steps, `L`, `LW`, `1#2` and
`5L`. What else we accept is rewritten into that: names, macros, `?`, ranges that wrap, and
ranges of one number with a step, which the engine would read otherwise.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from ._core.text import short

MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@minutely": "* * * * *",
    "@secondly": "* * * * * *",
}
REBOOT: Final = "@reboot"
# No honest expression comes near, and reading a hostile one must not take long.
LONGEST: Final = 256

_TERM: Final = re.compile(
    r"(?:\*|(?P<low>[0-9A-Z]+)(?:-(?P<high>[0-9A-Z]+))?)(?:/(?P<step>[0-9]+))?"
)


@attrs.frozen
class Field:
    """One field of an expression."""

    name: str
    low: int
    high: int
    size: int
    """How many different values there are: a range that wraps begins anew after so many."""
    names: dict[str, int] = attrs.field(factory=dict)
    wraps: bool = True
    extra: str = ""
    """What the field takes besides numbers, for its message."""

    def translate(self, text: str) -> str:
        """Put the field into the engine's words, or refuse it."""
        return ",".join(self._term(term, text) for term in text.split(","))

    def _term(self, term: str, text: str) -> str:
        special = self._special(term, text)
        if special is not None:
            return special
        match = _TERM.fullmatch(term)
        if match is None:
            raise self._refused(text)
        if match["step"] is not None and not 1 <= int(match["step"]) <= self.size:
            raise self._refused(text, f"a step from 1 to {self.size}")
        if match["low"] is None:
            return term
        low = self._number(match["low"], text)
        if match["high"] is None:
            return f"{low}/{match['step']}" if match["step"] else str(low)
        return self._range(low, self._number(match["high"], text), int(match["step"] or 1), text)

    def _range(self, low: int, high: int, step: int, text: str) -> str:
        if low < high:
            return f"{low}-{high}/{step}" if step > 1 else f"{low}-{high}"
        if low > high and not self.wraps:
            raise self._refused(text, "ranges that ascend")
        span = range(low, high + self.size * (low > high) + 1, step)
        return ",".join(str((value - self.low) % self.size + self.low) for value in span)

    def _special(self, term: str, text: str) -> str | None:
        """Translate what only the fields of days take."""
        if self is DAY_OF_MONTH and term in ("L", "LW"):
            return term
        if self is DAY_OF_WEEK and (match := re.fullmatch(r"([0-9A-Z]+)(#[1-5]|L)", term)):
            return f"{self._number(match[1], text)}{match[2]}"
        if self in (DAY_OF_MONTH, DAY_OF_WEEK) and term == "?":
            return "*"
        return None

    def _number(self, word: str, text: str) -> int:
        number = self.names.get(word, word)
        if not str(number).isdecimal() or not self.low <= int(number) <= self.high:
            raise self._refused(text)
        return int(number)

    def _refused(self, text: str, takes: str | None = None) -> ValueError:
        takes = takes or (
            f"numbers from {self.low} to {self.high}{self.extra}, *, ranges like 4-9, "
            "steps like */2, and lists of them"
        )
        return ValueError(f"{self.name} takes {takes}; got {short(text)}")


def _numbered(names: str, first: int) -> dict[str, int]:
    return {name: number for number, name in enumerate(names.split(), first)}


DAY_OF_MONTH: Final = Field("day-of-month", 1, 31, 31, wraps=False, extra=", L, LW")
DAY_OF_WEEK: Final = Field(
    "day-of-week",
    0,
    7,
    7,
    names=_numbered("SUN MON TUE WED THU FRI SAT", 0),
    extra=" or SUN to SAT, 1#2 (the second Monday), 5L (the last Friday)",
)
FIELDS: Final = (
    Field("second", 0, 59, 60),
    Field("minute", 0, 59, 60),
    Field("hour", 0, 23, 24),
    DAY_OF_MONTH,
    Field(
        "month",
        1,
        12,
        12,
        names=_numbered("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", 1),
        extra=" or JAN to DEC",
    ),
    DAY_OF_WEEK,
)


def check(value: str) -> str:
    """Pass on a text that might be an expression."""
    if not isinstance(value, str):
        raise TypeError(f"a cron expression must be a string, got {short(value)}")
    if len(value) > LONGEST:
        raise ValueError(f"a cron expression has at most {LONGEST} characters, got {len(value)}")
    if not value.isascii():
        raise ValueError(f"a cron expression is written in ASCII, got {short(value)}")
    return value


def translate(text: str) -> str:
    """Put an expression into six fields in the engine's words.

    Raises:
        ValueError: It is no cron expression; the message names the field, what it takes
            and what it got.
    """
    fields = _without_macro(text).upper().split()
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) != 6:
        raise ValueError(
            "a cron expression has five fields (minute hour day-of-month month day-of-week), "
            f"or six with the second in front; {short(text)} has {len(fields)}"
        )
    return " ".join(field.translate(part) for field, part in zip(FIELDS, fields, strict=True))


def _without_macro(text: str) -> str:
    macro = text.strip().lower()
    if not macro.startswith("@"):
        return text
    if macro not in MACROS:
        known = ", ".join([*MACROS, REBOOT])
        raise ValueError(f"a cron macro is one of {known}, got {short(text)}")
    return MACROS[macro]
