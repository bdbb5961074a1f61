"""Where in the user's code something stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import outcome
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType, FrameType

_PACKAGE: Final = Path(__file__).parents[1]
# Whose lines tell a user nothing about their own program.
_NOT_THEIRS: Final = tuple(
    f"{folder}/" for folder in (_PACKAGE, Path(trio.__file__).parent, Path(outcome.__file__).parent)
)


def of_task(task: trio.lowlevel.Task) -> str:
    """Say at which line of the user's code a parked task stands."""
    if getattr(task.coro, "cr_frame", task) is None:  # which Trio 0.31 cannot iterate over
        return "its end"
    return _innermost((frame.f_code, line) for frame, line in task.iter_await_frames())


def of_coroutine(coroutine: Any) -> str:
    """Say at which line of the user's code a suspended coroutine stands."""
    return _innermost((frame.f_code, frame.f_lineno) for frame in frames_of(coroutine))


def of_function(function: Callable[..., object]) -> str:
    """Say where a function begins."""
    code: CodeType | None = getattr(function, "__code__", None)
    return repr(function) if code is None else _text(code, code.co_firstlineno)


def frames_of(coroutine: Any) -> Iterator[FrameType]:
    """Give the frames of a suspended coroutine and of what it awaits, outermost first."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def is_ours(code: CodeType) -> bool:
    """Say whether code belongs to this package."""
    return code.co_filename.startswith(_NOT_THEIRS[0])


def _innermost(places: Iterable[tuple[CodeType, int]]) -> str:
    known = list(places)
    theirs = [place for place in known if not place[0].co_filename.startswith(_NOT_THEIRS)]
    if not known:
        return "its end"
    return _text(*(theirs[-1] if theirs else known[0]))


def _text(code: CodeType, line: int) -> str:
    return f"{Path(code.co_filename).name}:{line} in {code.co_qualname}"
