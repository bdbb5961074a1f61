"""What goes to the log: each failure that nobody gets as an exception, once.

The library logs to the standard `logging`, under the name `trio_otp`, and configures
nothing. A record carries the process, its path and the error as `extra` fields
(`otp_process`, `otp_path`, `otp_exit`), so that a handler need not parse the text.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from . import failures
from .text import short

if TYPE_CHECKING:
    from .exits import Exit

log: Final = logging.getLogger("trio_otp")


def crashed(path: tuple[str, ...], exit: Exit, details: str, extra: dict[str, Any]) -> None:
    """Report a crash: where, what, and the traceback of the error that began it."""
    assert exit.error is not None
    causes = list(failures.chain(exit.error))
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
    try:
        text = str(error)
    except Exception:
        return short(error)
    if len(text) > 300:
        text = text[:300] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _write(level: int, text: str, error: BaseException | None, extra: dict[str, Any]) -> None:
    if not log.isEnabledFor(level):
        return
    about = None if error is None else (type(error), error, error.__traceback__)
    try:
        log.log(level, "%s", text, exc_info=about, extra=extra)
    except Exception as broken:  # a handler of the user's: watching must never hurt
        print(f"trio_otp: logging failed with {short(broken)}: {text}", file=sys.stderr)
