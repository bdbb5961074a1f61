"""One run of a process, from start to exit: how it is asked to end, and how it did."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import trio

from . import failures
from .errors import Ignore
from .exits import IGNORED, KILLED, NORMAL, SHUTDOWN, Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from .process import Process
    from .trapping import ExitRequest


_Scope = trio.CancelScope
_now = trio.current_time


class Life:
    """The state of one run. Its wrapper alone settles it; homes and handles ask."""

    __slots__ = (
        "asked",
        "at_end",
        "exit",
        "late",
        "named",
        "owed",
        "ready",
        "scope",
        "started_at",
        "task",
        "trap",
        "waiting_for",
    )

    asked: Literal["shutdown", "killed"] | None  # how it was first asked to end, if it was
    at_end: dict[Callable[[Process], None], None] | None  # to be called, in the step of its end
    exit: Exit | None
    late: bool  # asked to stop, and still there when its time was up
    named: bool  # as late, in the log
    owed: tuple[tuple[str, ...], Exit, str] | None  # what to report if no waiter gets its error
    ready: bool
    scope: trio.CancelScope
    started_at: float
    task: trio.lowlevel.Task | None  # None until its first step
    trap: ExitRequest | None  # there while it traps exits
    waiting_for: tuple[Process, float] | None  # whom its own task calls, and for how long

    def __init__(self, shield: bool, ready: bool = False, limit: float = math.inf) -> None:
        self.asked = self.at_end = self.exit = self.owed = None
        self.task = self.trap = self.waiting_for = None
        self.ready = ready
        self.late = self.named = False
        self.started_at = now = _now()
        if limit < math.inf:
            self.scope = _Scope(deadline=now + limit, shield=shield)
        else:
            self.scope = _Scope(shield=True) if shield else _Scope()  # half the price

    def ask(self, limit: float) -> None:
        """Ask it to end: one that traps exits is told, any other cancelled.

        Trio itself cancels a trapping one after `limit` seconds, so that nobody needs to
        stand by.
        """
        if self.asked is None:
            self.asked = "shutdown"
        if self.trap is None or limit == 0:
            if self.trap is not None:
                self.late = True  # it would have obeyed, but has no time to
            self.scope.cancel(reason="asked to stop by trio_otp")
        else:
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + limit)
            self.trap.tell()

    def kill(self) -> None:
        """Cancel it at once, whatever it traps."""
        if self.asked is None:
            self.asked = "killed"
        self.late = True
        self.scope.cancel(reason="killed by trio_otp")

    def call_at_end(self, fn: Callable[[Process], None]) -> None:
        """Have a function called with the process, once, in the step in which this life ends.

        One that asks for that again while it is called hears of the next life's end, or
        that none follows.
        """
        if self.at_end is None:
            self.at_end = {}
        self.at_end[fn] = None

    def call_not_at_end(self, fn: Callable[[Process], None]) -> None:
        """Take that back."""
        assert self.at_end is not None  # it was asked for
        del self.at_end[fn]

    def conclude(self, error: BaseException) -> tuple[Exit, BaseException | None]:
        """Say how an exception ended it, and which one must go on through the program."""
        if isinstance(error, Exception) and not isinstance(error, BaseExceptionGroup):
            return Exit("crashed", failures.trimmed(error)), None  # nothing else is so common
        return self._conclude_otherwise(error)

    def _conclude_otherwise(self, error: BaseException) -> tuple[Exit, BaseException | None]:
        if (request := failures.exit_request(error)) is not None:
            return Exit(request.reason, None, request.detail), None
        if not self.ready and failures.of_nothing_but(error, Ignore):
            return IGNORED, None
        if (stop := failures.passing(error)) is not None:
            return SHUTDOWN, stop
        crash = failures.without(error, failures.NOT_A_CRASH)
        if isinstance(crash, Exception):
            return Exit("crashed", failures.trimmed(crash)), None
        if not self.scope.shield and trio.current_effective_deadline() <= trio.current_time():
            return (KILLED if self.late else SHUTDOWN), error
        return Exit("crashed", _stray(error)), None

    def quiet_end(self) -> Exit:
        """Say how it ended without an exception."""
        if self.asked is None:  # a deadline of the scope's own is a limit on the whole life
            return KILLED if self.scope.cancelled_caught else NORMAL
        overdue = self.scope.deadline <= trio.current_time()
        return KILLED if overdue or self.late else SHUTDOWN


def _stray(error: BaseException) -> Exception:
    """Make a crash of what would otherwise be lost in silence."""
    if failures.of_nothing_but(error, trio.Cancelled):
        text = "a Cancelled left a process that nobody had cancelled: was it kept and raised later?"
    else:
        text = "Ignore was raised after the start: it is for declining to start"
    crash = RuntimeError(text)
    crash.__cause__ = error
    return crash
