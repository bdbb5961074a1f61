"""Values in the words of JSON, and back: exact built-in types only.

Types that JSON lacks are written as an object with one key, their name. Pickle would take
more types, but runs what a file tells it to. Pure.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, Final

from ._core.text import short

if TYPE_CHECKING:
    from collections.abc import Callable

_DEEPEST: Final = 100  # far below what the interpreter's own limit allows, on both ways

_AS_IT_IS: Final[frozenset[type]] = frozenset({type(None), bool, int, float, str})
_OF_PARTS: Final[frozenset[type]] = frozenset({list, tuple, set, frozenset, dict})


def pack(value: Any, depth: int = 0) -> Any:
    """Write a value in the words of JSON; exact types only, since others would not come back.

    Raises:
        TypeError: Something in it is of another type.
        ValueError: It is nested too deeply.
    """
    kind = _kind(value)
    if kind in _AS_IT_IS:
        return value
    if kind is bytes:
        return {"bytes": b64encode(value).decode("ascii")}
    if depth == _DEEPEST:
        raise ValueError(f"it is nested deeper than {_DEEPEST} levels")
    if kind in _OF_PARTS:
        parts = value.items() if kind is dict else value
        inner = [pack(part, depth + 1) for part in parts]
        return inner if kind is list else {kind.__name__: inner}
    raise TypeError(f"{short(value)} is of type {kind.__qualname__}")


def unpack(value: Any) -> Any:
    """Give the value that was written so.

    Raises:
        KeyError: No value is written so, nor for the other errors.
        TypeError: See above.
        ValueError: See above.
    """
    kind = _kind(value)
    if kind is list:
        return [*map(unpack, value)]
    if kind is dict:
        ((name, inner),) = value.items()
        return _MAKERS[name](inner)
    return value


def _kind(value: object) -> type[object]:
    return type(value)


def _made(maker: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    return lambda inner: maker(unpack(inner))


_MAKERS: Final[dict[str, Callable[[Any], Any]]] = {
    "bytes": lambda inner: b64decode(inner, validate=True),
    "tuple": _made(tuple),
    "set": _made(set),
    "frozenset": _made(frozenset),
    "dict": _made(dict),
}
