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
_NTH_WEEKDAY: Final = re.compile(r"([0-9A-Z]+)(#[1-5]|L)")


@attrs.frozen
class Field:
    """One field of an expression."""

    name: str
    low: int
    high: int
    size: int
    """How many different values there are: a range that wraps begins anew after so many."""
    names: dict[str, int] = attrs.field(factory=dict, kw_only=True)
    words: dict[str, str] = attrs.field(factory=dict, kw_only=True)
    """Terms of this field alone, each with the engine's word for it."""
    nth: bool = attrs.field(default=False, kw_only=True)
    wraps: bool = attrs.field(default=True, kw_only=True)
    takes: str = attrs.field(default="", kw_only=True)
    """What it takes besides numbers, for the message."""

    def translate(self, text: str) -> str:
        """Put the field into the engine's words.

        Raises:
            ValueError: It names the field, what that takes, and what it got.
        """
        try:
            return ",".join(map(self._term, text.split(",")))
        except _Refused as refused:
            raise ValueError(f"{self.name} takes {refused}; got {short(text)}") from None

    def _term(self, term: str) -> str:
        if term in self.words:
            return self.words[term]
        if self.nth and (match := _NTH_WEEKDAY.fullmatch(term)):
            return f"{self._number(match[1])}{match[2]}"
        match = _TERM.fullmatch(term)
        if match is None:
            raise self._refused()
        return self._plain(**match.groupdict())

    def _plain(self, low: str | None, high: str | None, step: str | None) -> str:
        if step and not 1 <= int(step) <= self.size:
            raise _Refused(f"a step from 1 to {self.size}")
        if low and high:
            return self._range(self._number(low), self._number(high), int(step or 1))
        start = str(self._number(low)) if low else "*"
        return f"{start}/{step}" if step else start

    def _range(self, low: int, high: int, step: int) -> str:
        if low < high:
            return f"{low}-{high}/{step}"
        if low > high and not self.wraps:
            raise _Refused("ranges that ascend")
        span = range(low, high + self.size * (low > high) + 1, step)
        return ",".join(str((value - self.low) % self.size + self.low) for value in span)

    def _number(self, word: str) -> int:
        number = self.names.get(word, word)
        if not str(number).isdecimal() or not self.low <= int(number) <= self.high:
            raise self._refused()
        return int(number)

    def _refused(self) -> _Refused:
        return _Refused(
            f"numbers from {self.low} to {self.high}{self.takes}, *, ranges like 4-9, "
            "steps like */2, and lists of them"
        )


class _Refused(Exception):
    """What a field takes, as it did not get that."""


def _numbered(names: str, first: int) -> dict[str, int]:
    return {name: number for number, name in enumerate(names.split(), first)}


FIELDS: Final = (
    Field("second", 0, 59, 60),
    Field("minute", 0, 59, 60),
    Field("hour", 0, 23, 24),
    Field(
        "day-of-month", 1, 31, 31,
        words={"L": "L", "LW": "LW", "?": "*"},
        wraps=False,
        takes=", L, LW",
    ),
    Field(
        "month", 1, 12, 12,
        names=_numbered("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", 1),
        takes=" or JAN to DEC",
    ),
    Field(
        "day-of-week", 0, 7, 7,
        names=_numbered("SUN MON TUE WED THU FRI SAT", 0),
        words={"?": "*"},
        nth=True,
        takes=" or SUN to SAT, 1#2 (the second Monday), 5L (the last Friday)",
    ),
)  # fmt: skip


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
