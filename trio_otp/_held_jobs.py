"""What a running scheduler holds: its jobs, and their runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import trio

from ._agenda import Entry
from ._core.text import short
from ._core.waiting import Bell
from ._jobs import JobInfo
from ._schedules import Every

if TYPE_CHECKING:
    from datetime import datetime

    from ._agenda import Slot
    from ._core.exits import Exit
    from ._core.process import Process
    from ._job_events import MissReason, SkipReason
    from ._job_runs import JobRun, Outcome
    from ._jobs import Job
    from ._task_supervisor import TaskSupervisor

End: TypeAlias = "SkipReason | MissReason"
"""Why a scheduler ends a run."""


class HeldJob(Entry, Bell):
    """A job of a running scheduler; rings when one of its runs ends."""

    def __init__(self, job: Job, number: int, *, active: bool, counted: datetime) -> None:
        super().__init__(job, number, active=active)
        self._sleepers = None
        self.runs: dict[Run, None] = {}
        self.last_slot: datetime | None = None
        self.last_outcome: Outcome | None = None
        self.era = object()  # in which runs count; another after each change
        self._settled = counted  # the newest slot that has ended or was skipped
        self.counted = counted  # storage knows that slots up to here are done with

    def begin_anew(self, moment: datetime) -> None:
        """Count slots from a moment on, whatever was settled before and whatever runs."""
        self.era = object()
        self.counted = self._settled = moment

    def settle(self, slot: datetime) -> datetime:
        """Note that a slot has ended or was skipped; give the newest such slot."""
        self._settled = max(slot, self._settled)
        return self._settled

    def catches_up(self) -> bool:
        """Say whether it is making up for slots one after another, so that new ones queue, too."""
        all_in_turn = self.job.catch_up == "all" and self.job.overlap == "skip"
        return all_in_turn and any(run.in_line for run in self.runs)

    def adopt(self, before: HeldJob) -> None:
        """Take over the runs of a job that had this name, and was deleted."""
        self.runs = before.runs
        for run in self.runs:
            run.held = self  # of another era, so they do not count

    def end_waiting(self, why: End, *, manual: bool) -> None:
        """Drop the runs that have not begun; those that somebody asked for only by request."""
        for run in tuple(self.runs):
            if run.about is None and (manual or not run.manual):
                run.end(why)

    def is_next(self, run: Run) -> bool:
        """Say whether all runs have ended that are older than one, and not of its own slot."""
        return next(iter(self.runs)).slot is run.slot

    def info(self, next_slot: datetime | None) -> JobInfo:
        """Give a snapshot."""
        running = sum(run.about is not None for run in self.runs)
        return JobInfo(
            job=self.job,
            state=self.state,
            next_slot=next_slot,
            last_slot=self.last_slot,
            last_outcome=self.last_outcome,
            running=running,
            waiting=len(self.runs) - running,
            error=self.error,
        )


class Run:
    """A run, from its slot to its end; `about` is there when it has begun."""

    __slots__ = (
        "about",
        "asked_stop",
        "begun",
        "counting",
        "due_at",
        "era",
        "held",
        "in_line",
        "inside",
        "job",
        "manual",
        "process",
        "result",
        "settled",
        "slot",
        "span",
        "supervisor",
        "timed_out",
        "why",
    )

    process: Process
    supervisor: TaskSupervisor

    def __init__(
        self, held: HeldJob, slot: Slot, *, span: int, in_line: bool, manual: bool
    ) -> None:
        self.held = held
        self.era = held.era
        self.job = held.job
        self.slot = slot
        self.span = span
        self.in_line = in_line  # behind the earlier runs of its job
        self.manual = manual
        self.due_at = trio.current_time() - slot.lateness
        self.about: JobRun | None = None
        self.begun = 0.0
        self.inside = False  # the gate
        self.counting = False  # its slot, before it begins
        self.settled = False  # has done its work
        self.asked_stop = False  # of its own scheduler, and waits for that
        self.timed_out = False
        self.result: object = None
        self.why: End | None = None  # it was ended by the loop

    def __repr__(self) -> str:
        return f"<run of {short(self.job.name)} for {self.slot.at}>"

    @property
    def counts(self) -> bool:
        """Whether storage keeps account of its slot."""
        of_calendar = not self.manual and not isinstance(self.job.schedule, Every)
        return of_calendar and self.era is self.held.era

    def outcome(self, exit: Exit) -> Outcome:
        """Say how it ended."""
        if self.timed_out:
            return "timeout"
        if exit.error is not None:
            return "error"
        if exit.reason == "normal":
            return "ok"
        return "replaced" if self.why == "replaced" else "cancelled"

    def end(self, why: End) -> None:
        """Ask it to end."""
        self.why = self.why or why
        self.supervisor._ask_to_end(self.process)
