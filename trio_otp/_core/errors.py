"""Every exception of the package: one flat list, each saying whose doing it is.

Texts are made when the error is, from short and guarded reprs: Trio asks every
exception that passes a nursery for its repr, and that must never fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import trio

from .text import short

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .exits import Exit
    from .process import Process


class CallFailed(Exception):
    """A request to a process was not answered: the base of all such errors.

    Attributes:
        process: Who was asked, if it was one process.
    """

    def __init__(self, message: str, process: Process | None = None) -> None:
        super().__init__(message)
        self.process = process


class NotRunning(CallFailed):
    """There is nobody to ask: not started yet, or ended and nobody promised to restart it."""


class Exited(CallFailed):
    """The process ended before it answered. Not the caller's mistake.

    Its `__cause__` is the crash, if there was one.

    Attributes:
        exit: How it ended.
    """

    def __init__(self, process: Process, exit: Exit) -> None:
        super().__init__(f"{short(process.name)} ended before it answered: {exit}", process)
        self.exit = exit
        self.__cause__ = exit.error


class TimedOut(CallFailed, trio.TooSlowError):
    """No answer within the limit; the process asked is unharmed.

    Attributes:
        item: The input of a stream whose function was too slow, else None.
    """

    def __init__(self, message: str, process: Process | None = None, item: object = None) -> None:
        super().__init__(message, process)
        self.item = item


class CalledItself(CallFailed):
    """The answer could only come from whoever is waiting for it."""


class MailboxFull(CallFailed, trio.WouldBlock):
    """The mailbox of the process holds as many requests as it may."""


class AlreadyRunning(Exception):
    """The process has a home already, or the child is not down."""


class StartFailed(Exception):
    """A child did not become ready; the cause is its own error, if it had one.

    Attributes:
        id: The child's id.
    """

    def __init__(self, message: str, id: Hashable = None) -> None:
        super().__init__(message)
        self.id = id


class RestartsExhausted(Exception):
    """A supervisor gave up: more restarts than it may make. The cause is the last crash."""


class DuplicateChild(ValueError):
    """The supervisor has a child of that id already."""


class UnknownChild(LookupError):
    """The supervisor has no such child."""


class UnknownJob(LookupError):
    """The scheduler has no job of that name."""


class MaxChildren(RuntimeError):
    """The supervisor holds as many children as it may."""


class AlreadyRegistered(Exception):
    """The key of the registry is taken.

    Attributes:
        key: The key.
        process: Who holds it.
    """

    def __init__(self, message: str, key: Hashable = None, process: Process | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.process = process


class BadReturn(TypeError):
    """A user's function returned what its place does not allow."""


class TableGone(RuntimeError):
    """The table has ended, with its owner or by `close()`."""


class BadTableFile(ValueError):
    """The file is damaged, or is not one of a table of that kind."""


class BadJobFile(ValueError):
    """The file is damaged, or is not one of an `SQLiteStorage` of that version."""


class ExitProcess(BaseException):
    """Raised by user code to end its own process with a reason; OTP's `exit/1`.

    Not an `Exception`, so that a broad `except Exception` does not eat it.

    Args:
        reason: `"normal"` or `"shutdown"`.
        detail: Anything; kept as `Exit.detail`.
    """

    def __init__(
        self, reason: Literal["normal", "shutdown"] = "normal", detail: object = None
    ) -> None:
        if reason not in ("normal", "shutdown"):
            raise ValueError(f"reason must be 'normal' or 'shutdown', got {short(reason)}")
        super().__init__(reason)
        self.reason: Literal["normal", "shutdown"] = reason
        self.detail = detail


class Ignore(BaseException):
    """Raised while starting: do not run this child, and do not call that a failure."""
