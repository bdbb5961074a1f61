"""One run of a job: what it may know of itself, and how it can end."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from datetime import datetime

Outcome: TypeAlias = Literal["ok", "error", "timeout", "cancelled", "replaced"]
"""How a run ended."""

_current: Final[ContextVar[JobRun | None]] = ContextVar("trio_otp_job_run", default=None)


@attrs.frozen(kw_only=True)
class JobRun:
    """A run of a job, as it began.

    Attributes:
        job: The name of the job.
        span: A number that no other run of its scheduler has; all events of a run carry it.
        slot: The slot that it is for, in UTC. For a tick of `Every`, the time of day it came.
        scheduled: When it was to start: the slot, later by its jitter.
        lateness: By how many seconds it started later than that.
        attempt: 1, or more if this slot was begun before and did not end, as far as its
            scheduler knows.
        manual: Whether `run_job` asked for it.
    """

    job: str
    span: int
    slot: datetime
    scheduled: datetime
    lateness: float
    attempt: int
    manual: bool


def current_run() -> JobRun | None:
    """Give the run whose code is running, or `None`.

    Right also in the Trio tasks that it spawns and in the worker threads that it asks.
    """
    return _current.get()


def enter(run: JobRun) -> None:
    """Make a run the current one of this context."""
    _current.set(run)
