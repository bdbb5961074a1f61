"""Checks of what users pass in: each names the option, what it takes, and what it got.

Pure: imports nothing of Trio, raises at once, returns the value in the one form the
rest of the library works with (`None` as a limit becomes infinity).
"""

import math
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, TypeAlias

from .text import short

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
"""When a supervisor starts a child again: always, after a failure, never."""

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
"""Who is restarted with a fallen child: nobody else, everybody, those started after it."""

AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
"""Whether the end of significant children ends their supervisor."""

Overflow: TypeAlias = Literal["raise", "drop_newest", "drop_oldest"]
"""What a cast to a full mailbox does."""

Keys: TypeAlias = Literal["unique", "duplicate"]
"""Whether a key of a registry has one process or any number of entries."""

OnTimeout: TypeAlias = Literal["nothing", "ignore", "kill_task"]
"""What `Task.yield_many` does with tasks that are not done in time."""

StreamOnTimeout: TypeAlias = Literal["exit", "kill_task"]
"""What a stream does with an item that is not done in time."""

Shutdown: TypeAlias = float | Literal["brutal_kill"] | None
"""Seconds that a child has to clean up; `None` and `math.inf` mean no limit."""

Limit: TypeAlias = float | None
"""Seconds to wait; `None` and `math.inf` mean no limit, 0 means only what is there now."""

RESTARTS: Final = ("permanent", "transient", "temporary")
STRATEGIES: Final = ("one_for_one", "one_for_all", "rest_for_one")
AUTO_SHUTDOWNS: Final = ("never", "any_significant", "all_significant")
KEYS: Final = ("unique", "duplicate")
OVERFLOWS: Final = ("raise", "drop_newest", "drop_oldest")

OR_NONE: Final = "a number of seconds or None"


def one_of(option: str, value: Any, accepted: tuple[str, ...]) -> Any:
    """Pass on a value that is one of the accepted words."""
    if not isinstance(value, str) or value not in accepted:
        words = ", ".join(map(repr, accepted))
        raise ValueError(f"{option} must be one of {words}, got {short(value)}")
    return value


def limit(option: str, value: Limit) -> float:
    """Pass on a limit in seconds, infinity for `None`."""
    return math.inf if value is None else duration(option, value, OR_NONE)


def duration(option: str, value: Any, accepted: str = "a number of seconds") -> float:
    """Pass on seconds of zero or more."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{option} must be {accepted}, got {short(value)}")
    if not value >= 0:  # also catches nan
        raise ValueError(f"{option} must not be negative, got {short(value)}")
    return value


def positive(option: str, value: Any, accepted: str = "a number of seconds") -> float:
    """Pass on seconds of more than zero."""
    if duration(option, value, accepted) == 0:
        raise ValueError(f"{option} must be more than 0 seconds, got {short(value)}")
    return float(value)


def shutdown(value: Shutdown, option: str = "shutdown") -> float | Literal["brutal_kill"]:
    """Pass on a shutdown limit, infinity for `None`."""
    if isinstance(value, str):
        if value != "brutal_kill":
            raise ValueError(f"{option} must be seconds, None or 'brutal_kill', got {short(value)}")
        return "brutal_kill"
    return limit(option, value)


def count(option: str, value: Any, *, least: int = 0) -> int:
    """Pass on a whole number of at least `least`."""
    number = whole(option, value)
    if number < least:
        raise ValueError(f"{option} must be at least {least}, got {number}")
    return number


def whole(option: str, value: Any) -> int:
    """Pass on a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{option} must be a whole number, got {short(value)}")
    return value


def count_or_none(option: str, value: int | None, *, least: int = 0) -> float:
    """Pass on a whole number, or infinity for `None`."""
    if value is None or value == math.inf:
        return math.inf
    return count(option, value, least=least)


def flag(option: str, value: Any) -> bool:
    """Pass on a yes or no."""
    if not isinstance(value, bool):
        raise TypeError(f"{option} must be True or False, got {short(value)}")
    return value


def label(value: Any) -> str | None:
    """Pass on a name, or `None`."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"name must be a string or None, got {short(value)}")
    return value


def function(option: str, value: Any) -> Callable[..., Any]:
    """Pass on something that can be called; a coroutine object is the common mistake."""
    given: object = value
    if isinstance(value, Coroutine):
        value.close()
        raise TypeError(
            f"{option} must be a function, got the coroutine object {short(given)}: "
            "pass the function itself and its arguments behind it"
        )
    if not callable(value):
        raise TypeError(f"{option} must be a function, got {short(value)}")
    fn: Callable[..., Any] = value
    return fn
