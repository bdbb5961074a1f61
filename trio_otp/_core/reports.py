"""What goes to the log: each failure that nobody gets as an exception, once.

The library logs to the standard `logging`, under the name `trio_otp`, and configures
nothing. A record carries the process, its path and the error as `extra` fields
(`otp_process`, `otp_path`, `otp_exit`), so that a handler need not parse the text.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

import trio

from . import failures
from .text import short

if TYPE_CHECKING:
    from .exits import Exit

log: Final = logging.getLogger("trio_otp")

_LONGEST: Final = 2000  # characters of an error's own text that are told whole


def crashed(path: tuple[str, ...], exit: Exit, details: str, extra: dict[str, Any]) -> None:
    """Report a crash: where, what, and the traceback of the error that began it."""
    assert exit.error is not None
    if not log.isEnabledFor(logging.ERROR):
        return  # before any text is made
    # A cleanup that fails under cancellation has a Cancelled in its context: not a cause.
    causes = [one for one in failures.chain(exit.error) if not isinstance(one, trio.Cancelled)]
    first, last = causes[-1], causes[0]
    text = f"{'/'.join(path)} crashed: {_in_words(last)}"
    if first is not last:
        text += f" (it began with {_in_words(first)})"
    _write(logging.ERROR, text + details, first, {"otp_path": path, "otp_exit": exit, **extra})


def lost(error: BaseException, why: str) -> None:
    """Report an error that cannot be raised any more."""
    _write(logging.ERROR, f"{_in_words(error)} was not raised: {why}", error, {})


def warn(text: str, **extra: Any) -> None:
    """Report what a person should look at, though nothing has failed."""
    _write(logging.WARNING, text, None, extra)


def _in_words(error: BaseException) -> str:
    text = _in_full(error)
    if len(text) > 300:
        text = text[:300] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_long(error: BaseException) -> bool:
    return any(len(_in_full(leaf)) > _LONGEST for leaf in failures.leaves(error))


def _in_full(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return short(error)


def _cut(error: BaseException) -> str:
    """Give the traceback without the middle of its text: a message may hold a whole state."""
    text = "".join(traceback.format_exception(error))
    return f"{text[:_LONGEST]} ... {text[-_LONGEST:]}".rstrip("\n")


def _write(level: int, text: str, error: BaseException | None, extra: dict[str, Any]) -> None:
    if not log.isEnabledFor(level):
        return
    about = None if error is None else (type(error), error, error.__traceback__)
    try:
        record = log.makeRecord(log.name, level, __file__, 0, "%s", (text,), about, extra=extra)
        if error is not None and _is_long(error):
            record.exc_text = _cut(error)  # logging's own formatter takes it as it is
        log.handle(record)
    except Exception as broken:  # a handler of the user's: watching must never hurt
        print(f"trio_otp: logging failed with {short(broken)}: {text}", file=sys.stderr)
