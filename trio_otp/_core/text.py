"""Values in messages: cut to a few dozen characters, and never raising."""

import reprlib
from typing import Any, Final

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong = 40


def short(value: object) -> str:
    """Give a short repr of anything, also of what cannot say what it is."""
    try:
        return _SHORT.repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def callable_name(fn: Any) -> str:
    """Name a function as its author wrote it; a partial by what it wraps."""
    try:
        name: str = fn.__qualname__
        return name
    except AttributeError:
        inner = getattr(fn, "func", None)
        return type(fn).__qualname__ if inner is None else callable_name(inner)
