"""What happens to jobs, as events: `process` is the scheduler, `job` the job's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from ._core import events
from ._core.events import Event

if TYPE_CHECKING:
    from datetime import datetime

    from ._core.process import Process
    from ._job_runs import JobRun, Outcome
    from ._jobs import Job
    from ._task_supervisor import TaskSupervisor

SkipReason: TypeAlias = Literal[
    "running", "when", "no_supervisor", "replaced", "deleted", "storage", "cancelled"
]
"""Why a slot that came in time has no run."""

MissReason: TypeAlias = Literal["late", "stopping"]
"""Why slots that went by have no run."""


@attrs.frozen(kw_only=True)
class JobEvent(Event):
    """Something that happened to a job of a scheduler; `process` is the scheduler."""

    job: str


@attrs.frozen(kw_only=True)
class JobAdded(JobEvent):
    """A scheduler has a job that it had not."""


@attrs.frozen(kw_only=True)
class JobUpdated(JobEvent):
    """A job was changed, activated or deactivated."""


@attrs.frozen(kw_only=True)
class JobDeleted(JobEvent):
    """A scheduler has a job no more. A run that goes on is not touched."""


@attrs.frozen(kw_only=True)
class JobStarted(JobEvent):
    """A run begins; just one of `JobStopped` and `JobFailed` follows."""

    run: JobRun


@attrs.frozen(kw_only=True)
class JobStopped(JobEvent):
    """A run has ended without an error.

    Attributes:
        outcome: `"ok"`; `"timeout"`: its time was up; `"replaced"`: by the next one;
            `"cancelled"`: by anybody else, a stop included.
        result: What it returned.
        duration: How many seconds it took, by Trio's clock.
    """

    run: JobRun
    outcome: Outcome
    result: object
    duration: float


@attrs.frozen(kw_only=True)
class JobFailed(JobEvent):
    """A run has ended with an error. It is in the log, too; the job's next slot comes.

    Attributes:
        error: The error, with its traceback.
        duration: How many seconds it took, by Trio's clock.
    """

    run: JobRun
    error: Exception
    duration: float


@attrs.frozen(kw_only=True)
class JobSkipped(JobEvent):
    """A slot came, and there is no run.

    Attributes:
        slot: The slot.
        reason: `"running"`: a run goes on and may not overlap; `"when"`: the guard said no,
            or raised; `"no_supervisor"`: none that could take it; `"replaced"`,
            `"deleted"`: it still waited when the next one came, or the job was deleted,
            changed or deactivated; `"storage"`: that failed, and `on_storage_error="skip"`;
            `"cancelled"`: somebody ended it before it began.
    """

    slot: datetime
    reason: SkipReason


@attrs.frozen(kw_only=True)
class JobMissed(JobEvent):
    """Slots went by without a run.

    Attributes:
        slots: Which ones; of very many, the newest.
        more: Whether there were older ones that nobody counted.
        reason: `"late"`: the catch-up policy leaves them out; `"stopping"`: they came while
            the scheduler ended, and storage does not count them as done.
    """

    slots: tuple[datetime, ...]
    more: bool
    reason: MissReason

    @property
    def count(self) -> int:
        """How many they are; at least, if there were `more`."""
        return len(self.slots)


@attrs.frozen(kw_only=True)
class JobErrored(JobEvent):
    """A schedule, a guard or a place of one's own failed.

    After an error of its schedule a job has no slots until it is activated or changed; after one
    of the others it has no run at this slot.
    """

    error: Exception


@attrs.frozen(kw_only=True)
class SupervisorPassedOver(JobEvent):
    """A supervisor that a run was to go to does not run, or is full.

    Attributes:
        supervisor: Which one.
    """

    supervisor: TaskSupervisor


@attrs.frozen(kw_only=True)
class StorageFailed(JobEvent):
    """The storage raised when it was told of a run; the scheduler goes on."""

    error: Exception


@attrs.frozen(kw_only=True)
class ClockJumped(Event):
    """The wall clock was set, or the machine slept.

    Attributes:
        seconds: By how much; negative if it was set back.
    """

    seconds: float


def tell(scheduler: Process, kind: type[JobEvent], job: Job, **about: Any) -> None:
    """Tell of something about a job, if anybody listens."""
    if events.ANY:
        events.emit(kind, scheduler, scheduler._path(), job=job.name, **about)
