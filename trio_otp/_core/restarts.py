"""Who is restarted, when, and when to give up. Pure: no Trio, `now` is an argument."""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

import attrs

from . import options
from .text import short

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from .exits import Exit
    from .options import AutoShutdown, Restart, Strategy


def wants_restart(restart: Restart, exit: Exit) -> bool:
    """Say whether a child of this kind is started again after such an end."""
    return restart == "permanent" or (restart == "transient" and exit.failed)


def bounced(strategy: Strategy, size: int, fallen: int) -> range:
    """Give the places, in start order, of those who are restarted with a fallen child."""
    if strategy == "one_for_all":
        return range(size)
    return range(fallen, size if strategy == "rest_for_one" else fallen + 1)


def shuts_down(rule: AutoShutdown, ended: bool, others_up: Sequence[bool]) -> bool:
    """Say whether the end of a child ends its supervisor.

    Args:
        rule: The supervisor's `auto_shutdown`.
        ended: Whether the child that ended is significant.
        others_up: For every other significant child, whether it runs.
    """
    if not ended or rule == "never":
        return False
    return rule == "any_significant" or not any(others_up)


_RANGES: Final = {"initial": (0, math.inf), "factor": (1, math.inf), "jitter": (0, 1)}


def _in_range(_: object, field: attrs.Attribute[float], value: float) -> None:
    options.duration(field.name, value)
    low, high = _RANGES[field.name]
    if not low <= value <= high:
        raise ValueError(f"{field.name} must be from {low} to {high}, got {short(value)}")


def _maximum(value: float | None) -> float:
    return options.limit("maximum", value)


@attrs.frozen
class Backoff:
    """How long to wait before a child is restarted; OTP has no such delay.

    The wait before restart number n is `initial * factor ** (n - 1)`, at most `maximum`
    seconds. The count begins anew once a life has lasted as long as the supervisor's
    `max_seconds`. A stop ends a delay at once.

    Args:
        initial: Seconds before the first restart.
        factor: What each further delay is multiplied by, 1 or more.
        maximum: The longest delay in seconds; `None` and `math.inf` for none.
        jitter: From 0 to 1: the share of a delay by which it may vary at random, up or
            down, so that many children do not come back in the same moment.

    Raises:
        TypeError: A value is not a number.
        ValueError: A value is out of its range; the message names it.
    """

    initial: float = attrs.field(validator=_in_range)
    factor: float = attrs.field(default=2.0, kw_only=True, validator=_in_range)
    maximum: float = attrs.field(default=math.inf, kw_only=True, converter=_maximum)
    jitter: float = attrs.field(default=0.0, kw_only=True, validator=_in_range)

    def delay(self, restart: int) -> float:
        """Give the seconds before restart number `restart`, counted from 1."""
        try:
            grown = self.initial * self.factor ** (restart - 1)
        except OverflowError:
            grown = math.inf if self.initial else 0.0
        delay = min(grown, self.maximum)
        return delay * (1 + self.jitter * random.uniform(-1, 1)) if self.jitter else delay


class Budget:
    """The restarts that one supervisor may make: `max_restarts` within `max_seconds`."""

    __slots__ = ("_max_restarts", "_max_seconds", "_spent")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self._max_restarts = max_restarts
        self._max_seconds = max_seconds
        # When each restart was made and for whom; those too old are dropped when looked at.
        self._spent: deque[tuple[float, Hashable]] = deque()

    def spend(self, now: float, child: Hashable) -> bool:
        """Take one restart; False if there was none left."""
        self._spent.append((now, child))
        while now - self._spent[0][0] > self._max_seconds:
            self._spent.popleft()
        return len(self._spent) <= self._max_restarts

    def account(self) -> str:
        """Say who used it up."""
        users = Counter(child for _, child in self._spent).most_common(5)
        spent = ", ".join(f"{short(child)} {times}x" for child, times in users)
        return f"more than {self._max_restarts} restarts within {self._max_seconds:g} s: {spent}"
