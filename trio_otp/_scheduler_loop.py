"""One life of a scheduler: its jobs, its loop, and their runs.

Rules of this file:
  1. The loop decides at each slot and starts runs; it never waits for one, nor for storage.
     Whatever a run waits for, it waits for in its own task.
  2. A run is recorded in the step in which its task is spawned, and forgotten in the step in
     which that ends, however it does.
  3. Tables are made right first, then events are emitted: a subscriber may call back.
"""

from __future__ import annotations

import inspect
import math
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import attrs
import trio

from . import _job_events as happened
from ._agenda import Agenda, Entry, Slot
from ._core import events, reports
from ._core.errors import AlreadyRunning, MaxChildren, NotRunning
from ._core.job import coroutine_of
from ._core.process import unprotected
from ._core.text import short
from ._core.waiting import Bell, next_ring, until
from ._job_gate import Gate
from ._job_runs import JobRun, Outcome, enter
from ._jobs import JobInfo
from ._schedules import Every
from ._wall_clock import ClockWatch, Now

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from random import Random

    from ._agenda import Track
    from ._core.exits import Exit
    from ._core.process import Process
    from ._core.trapping import ExitRequest
    from ._job_events import MissReason, SkipReason
    from ._job_places import Candidates, Place
    from ._job_storage import JobStorage
    from ._jobs import Job
    from ._task import Task
    from ._task_supervisor import TaskSupervisor
    from ._wall_clock import WallClock

OnStorageError: TypeAlias = Literal["run", "skip"]
"""What becomes of a run whose slot the storage could not count as done."""


@attrs.frozen(kw_only=True)
class Settings:
    """What a scheduler was told once and for all, and what its lives share."""

    clock: WallClock
    random: Random
    storage: JobStorage
    on_storage_error: OnStorageError
    max_concurrency: float
    max_sleep: float
    manual: bool
    attempts: dict[str, tuple[datetime, int]] = attrs.field(factory=dict)
    """The slot that a job began last and did not end, and how often it began."""


class HeldJob(Entry, Bell):
    """A job of a running scheduler; rings when one of its runs ends."""

    def __init__(self, job: Job, number: int, *, active: bool, counted: datetime) -> None:
        super().__init__(job, number, active=active)
        self._sleepers = None
        self.runs: dict[Run, None] = {}
        self.last_slot: datetime | None = None
        self.last_outcome: Outcome | None = None
        self.finished: datetime | None = None  # the newest slot whose run has ended
        self.counted = counted  # storage knows that slots up to here are done with

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
    """A run, from its slot on; `about` is there when it has begun."""

    __slots__ = (
        "about",
        "asked_stop",
        "begun",
        "due_at",
        "held",
        "in_line",
        "inside",
        "job",
        "loop",
        "manual",
        "process",
        "result",
        "slot",
        "span",
        "supervisor",
        "timed_out",
        "why",
    )

    process: Process
    supervisor: TaskSupervisor

    def __init__(
        self, loop: SchedulerLoop, held: HeldJob, slot: Slot, *, in_line: bool, manual: bool
    ) -> None:
        self.loop = loop
        self.held = held
        self.job = held.job
        self.slot = slot
        self.span = next(loop.spans)
        self.in_line = in_line  # behind the earlier runs of its job
        self.manual = manual
        self.due_at = trio.current_time() - slot.lateness
        self.about: JobRun | None = None
        self.begun = 0.0
        self.inside = False  # the gate
        self.asked_stop = False  # of its own scheduler, and waits for that
        self.timed_out = False
        self.result: object = None
        self.why: SkipReason | Literal["stopping"] | None = None  # it was ended by the loop

    def __repr__(self) -> str:
        return f"<run of {short(self.job.name)} for {self.slot.at}>"

    def over(self, process: Process) -> None:
        """Hear that its task has ended."""
        assert process.last_exit is not None
        self.loop.ended(self, process.last_exit)

    def end(self, why: SkipReason | Literal["stopping"] | None) -> None:
        """Ask it to end."""
        self.why = self.why or why
        self.supervisor._ask_to_end(self.process)


class _Ends(Bell):
    """Rings when a run has ended."""

    def __init__(self) -> None:
        self._sleepers = None


class SchedulerLoop(Bell):
    """The engine; rings when there may be something else to do than to wait."""

    def __init__(self, owner: Process, settings: Settings, place: Place) -> None:
        self._sleepers = None
        self.owner = owner
        self.settings = settings
        self.place = place
        self.agenda: Agenda[HeldJob] = Agenda(settings.random)
        self.held: dict[str, HeldJob] = {}
        self.runs: dict[Run, None] = {}
        self.ends = _Ends()
        self.gate = Gate(settings.max_concurrency)
        self.stopping = False
        self.spans = count(1)
        self._numbers = count(1)
        self._wakes_at = -math.inf  # while it sleeps or not

    # --- jobs ----------------------------------------------------------------------------

    def now(self) -> Now:
        """Look at both clocks."""
        return Now.told_by(self.settings.clock, trio.current_time())

    def track(self, job: Job, now: Now) -> Track:
        """Begin with the schedule of a job; raises what the schedule does."""
        return self.agenda.track(job, now)

    def hold(self, job: Job, *, active: bool, counted: datetime) -> HeldJob:
        """Record a new job, whose slots up to a moment are done with."""
        held = HeldJob(job, next(self._numbers), active=active, counted=counted)
        self.held[job.name] = held
        return held

    def enter(self, held: HeldJob, track: Track, now: Now) -> None:
        """Wait for the slots of a job, and let the loop know if it sleeps too long for that."""
        self.agenda.enter(held, track)
        held.active = True
        if now.tick + self.agenda.seconds_left(now) < self._wakes_at:
            self.ring()

    def put(self, held: HeldJob, job: Job, track: Track, now: Now) -> None:
        """Give a job another definition; what the old one has waiting is dropped."""
        held.job = job
        self.rest(held, now)
        if job.active:
            self.enter(held, track, now)

    def rest(self, held: HeldJob, now: Now) -> None:
        """Wait for the slots of a job no more, and drop what waits."""
        self.agenda.leave(held)
        held.active, held.error, held.counted = False, None, now.wall
        for run in tuple(held.runs):
            if run.about is None:
                run.end("deleted")

    def drop(self, held: HeldJob) -> None:
        """Forget a job; a run that has begun goes on."""
        del self.held[held.job.name]
        self.rest(held, self.now())

    def fail(self, held: HeldJob, error: Exception) -> None:
        """Give up a job whose schedule failed."""
        self.agenda.leave(held)
        held.error = error
        reports.lost(error, f"the schedule of job {short(held.job.name)} has failed; it rests")
        self.emit(happened.JobErrored, held.job, error=error)

    def begin(self, held: HeldJob, now: Now) -> None:
        """Wait for the slots of a job that was remembered."""
        try:
            self.enter(held, self.agenda.track(held.job, now, held.counted), now)
        except Exception as error:
            self.fail(held, error)

    def info(self, held: HeldJob) -> JobInfo:
        """Give a snapshot of a job."""
        return held.info(self.agenda.next_slot(held, self.now()))

    # --- the loop ------------------------------------------------------------------------

    async def run(self, exiting: ExitRequest) -> None:
        """Start what is due, and sleep until the next; returns when asked to stop."""
        watch = ClockWatch(self.now(), self.settings.max_sleep)
        while not exiting.is_set():
            now = self.now()
            if jump := watch.jump(now):
                await self._obey_clock(jump, now)
                now = self.now()
            await self.start_due(now, exiting.is_set)
            if not exiting.is_set():
                await self._sleep()

    async def start_due(self, now: Now, stop: Callable[[], bool]) -> list[Run]:
        """Start the runs of all jobs that are due, one after another."""
        started: list[Run] = []
        due = [(held, held.track) for held in self.agenda.take_due(now)]
        for held, track in due:
            if stop():
                self.agenda.wait(held)  # for who settles what is left
            elif held.track is track:  # else it was changed since, or is gone
                for slot, in_line in self._slots(held, now):
                    if started:
                        # One in a batch of Trio's: those of the same batch run in any order.
                        await trio.lowlevel.checkpoint()
                    if held.track is track:
                        started += self._offer(held, slot, in_line)
                    else:
                        self.skipped(held.job, slot.at, "deleted")
        return started

    async def finish(self, grace: float) -> None:
        """Start nothing more; let the runs end by themselves for a while, then end them."""
        self.stopping = True
        for run in tuple(self.runs):
            if run.about is None:
                run.end("stopping")
        with trio.move_on_after(grace):
            await until(lambda: all(run.asked_stop for run in self.runs), self.ends)
        self._miss_the_rest()
        self.end_all()
        await until(lambda: not self.runs, self.ends)

    def end_all(self) -> None:
        """Ask all runs to end."""
        self.stopping = True
        for run in tuple(self.runs):
            run.end("stopping")

    def asked_to_stop_by(self, process: Process | None) -> None:
        """Hear who asks for the end: a run that does is not given grace, since it waits for us."""
        for run in self.runs:
            run.asked_stop |= run.process is process

    def kill(self) -> None:
        """Cancel all runs at once."""
        for run in tuple(self.runs):
            run.process.kill()

    async def _obey_clock(self, jump: float, now: Now) -> None:
        if events.ANY:
            events.emit(happened.ClockJumped, self.owner, self.owner._path(), seconds=jump)
        if jump < 0:
            for held in tuple(self.held.values()):
                self._set_back(held, -jump, now)
                await trio.lowlevel.checkpoint()

    def _set_back(self, held: HeldJob, seconds: float, now: Now) -> None:
        try:
            if self.agenda.set_back(held, seconds, now):
                held.counted = now.wall
        except Exception as error:
            self.fail(held, error)

    async def _sleep(self) -> None:
        now = self.now()
        left = min(self.agenda.seconds_left(now), self.settings.max_sleep)
        self._wakes_at = now.tick + left
        with trio.CancelScope(deadline=self._wakes_at):
            await next_ring(self)

    def _miss_the_rest(self) -> None:
        now = self.now()
        for held in self.agenda.take_due(now) if not self.settings.manual else ():
            try:
                due = self.agenda.take_slots(held, now)
            except Exception as error:
                self.fail(held, error)
            else:
                slots = (*due.missed, *(slot.at for slot in due.run))
                self._missed(held.job, slots, due.more, "stopping")

    # --- one slot ------------------------------------------------------------------------

    def _slots(self, held: HeldJob, now: Now) -> list[tuple[Slot, bool]]:
        """Decide about a job that is due: which slots are to run, and whether one after another."""
        try:
            due = self.agenda.take_slots(held, now)
        except Exception as error:
            self.fail(held, error)
            return []
        self._missed(held.job, due.missed, due.more, "late")
        if not due.run:
            self.agenda.ended(held, now.tick)
        in_line = len(due.run) > 1 and held.job.overlap != "allow"
        return [(slot, in_line) for slot in due.run]

    def _offer(self, held: HeldJob, slot: Slot, in_line: bool) -> list[Run]:
        """Start the runs that a slot brings, if the job lets it."""
        if not in_line and held.runs and held.job.overlap == "skip":
            self.skipped(held.job, slot.at, "running")
            return []
        return self._start_all(held, slot, in_line, manual=False)

    def run_now(self, held: HeldJob) -> Task[Any]:
        """Start a run that no slot asks for."""
        slot = Slot.at_once(self.now().wall)
        if held.runs and held.job.overlap == "skip":
            self.skipped(held.job, slot.at, "running")
            raise AlreadyRunning(f"job {short(held.job.name)} is running, and skips what overlaps")
        runs = self._start_all(held, slot, in_line=False, manual=True)
        if not runs:
            raise NotRunning(f"job {short(held.job.name)} has no supervisor that can take a run")
        return cast("Task[Any]", runs[0].process)  # as all manual ones

    def reboot(self, held: HeldJob) -> None:
        """Start the run of `@reboot`."""
        self._offer(held, Slot.at_once(self.now().wall), in_line=False)

    def _start_all(self, held: HeldJob, slot: Slot, in_line: bool, *, manual: bool) -> list[Run]:
        in_line = in_line or self._replace(held)
        choice = self.place.choose(self.settings.random)
        if held.job.where is not None:
            choice = held.job.where.choose(self.settings.random)
        made = [Run(self, held, slot, in_line=in_line, manual=manual) for _ in choice]
        runs = [run for run, able in zip(made, choice, strict=True) if self._start(run, able)]
        if not runs:
            self.skipped(held.job, slot.at, "no_supervisor")
        return runs

    def _replace(self, held: HeldJob) -> bool:
        """End what the job runs, if that is to be; say if the next is to wait for it."""
        if held.job.overlap == "replace":
            for run in tuple(held.runs):
                run.end("replaced")
        return held.job.overlap == "replace"

    def _start(self, run: Run, candidates: Candidates) -> bool:
        for supervisor in candidates:
            try:
                self._launch(run, supervisor)
            except (NotRunning, MaxChildren):
                self.emit(happened.SupervisorPassedOver, run.job, supervisor=supervisor)
            else:
                return True
        return False

    @trio.lowlevel.enable_ki_protection
    def _launch(self, run: Run, supervisor: TaskSupervisor) -> None:
        start = supervisor.async_nolink if run.manual else supervisor.start_child
        process = start(self._live, run, name=run.job.name, shutdown=run.job.shutdown)
        run.process, run.supervisor = process, supervisor
        self.runs[run] = run.held.runs[run] = None
        process._life.call_at_end(run.over)

    # --- one run, in its own task ----------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _live(self, run: Run) -> object:
        if run.in_line:
            await until(lambda: next(iter(run.held.runs)) is run, run.held)
        if not await self._may_begin(run):
            return None
        await self.gate.enter((run.slot.scheduled, run.span))
        run.inside = True
        if not await self._counted(run) or run.why is not None:
            run.why = run.why or "storage"
            return None
        self._begin(run)
        try:
            run.result = await self._work(run)
        except Exception:
            await self._count_done(run)
            raise
        await self._count_done(run)
        return run.result

    async def _may_begin(self, run: Run) -> bool:
        """Ask the guard of a job."""
        if run.job.when is None or run.manual:
            return True
        try:
            answer = await unprotected(_answer(run.job.when, run.job.args))
        except Exception as error:
            reports.lost(error, f"the guard of job {short(run.job.name)} has failed")
            self.emit(happened.JobErrored, run.job, error=error)
            answer = False
        if not answer:
            run.why = run.why or "when"
        return bool(answer)

    def _begin(self, run: Run) -> None:
        run.begun = trio.current_time()
        run.about = JobRun(
            job=run.job.name,
            span=run.span,
            slot=run.slot.at,
            scheduled=run.slot.scheduled,
            lateness=run.begun - run.due_at,
            attempt=self._attempt(run),
            manual=run.manual,
        )
        run.held.last_slot = run.slot.at
        enter(run.about)
        self.emit(happened.JobStarted, run.job, run=run.about)

    async def _work(self, run: Run) -> object:
        if run.job.timeout == math.inf:
            return await unprotected(_called(run.job))
        with trio.CancelScope(deadline=run.begun + run.job.timeout):
            return await unprotected(_called(run.job))
        run.timed_out = True
        return None

    # --- its end -----------------------------------------------------------------------------

    def ended(self, run: Run, exit: Exit) -> None:
        """Settle a run whose task has ended."""
        held = run.held
        del self.runs[run], held.runs[run]
        if run.inside:
            self.gate.leave()
        if not run.manual and self.agenda.ended(held, trio.current_time()):
            self.ring()
        if run.about is None:
            self._never_began(run)
        else:
            self._tell_end(run, run.about, exit)
        held.ring()
        self.ends.ring()

    def _never_began(self, run: Run) -> None:
        if run.why == "stopping":
            self._missed(run.job, (run.slot.at,), False, "stopping")
        else:
            self.skipped(run.job, run.slot.at, run.why or "cancelled")

    def _tell_end(self, run: Run, about: JobRun, exit: Exit) -> None:
        outcome = run.held.last_outcome = _outcome(run, exit)
        if outcome not in ("cancelled", "replaced"):
            self.settings.attempts.pop(about.job, None)
        told: dict[str, Any] = {"run": about, "duration": trio.current_time() - run.begun}
        if exit.error is not None:
            self.emit(happened.JobFailed, run.job, error=exit.error, **told)
        else:
            self.emit(happened.JobStopped, run.job, outcome=outcome, result=run.result, **told)

    def _attempt(self, run: Run) -> int:
        """Count how often a slot has begun, as far as this handle knows."""
        if run.manual:
            return 1
        slot, number = self.settings.attempts.get(run.job.name, (None, 0))
        number = number + 1 if slot == run.slot.at else 1
        self.settings.attempts[run.job.name] = (run.slot.at, number)
        return number

    # --- storage -----------------------------------------------------------------------------

    async def _counted(self, run: Run) -> bool:
        """Count a slot as done before its run, if it is so wanted; say if that may begin."""
        if run.job.ack == "after" or not _has_slots(run):
            return True
        return await self._count(run, run.slot.at) or self.settings.on_storage_error == "run"

    async def _count_done(self, run: Run) -> None:
        """Count slots as done up to the newest that has ended, unless an older one goes on."""
        held, slot = run.held, run.slot.at
        if run.job.ack == "before" or not _has_slots(run):
            return
        held.finished = newest = max(slot, held.finished or slot)
        others = (other for other in held.runs if other is not run and _has_slots(other))
        if all(other.slot.at > newest for other in others):
            await self._count(run, newest)

    async def _count(self, run: Run, slot: datetime) -> bool:
        """Have storage count slots as done; say whether they are."""
        if slot <= run.held.counted:  # or the job was changed meanwhile, and began anew
            return True
        try:
            await self.settings.storage.set_last_slot(run.job.name, slot)
        except Exception as error:
            reports.lost(error, f"storage failed to count a slot of job {short(run.job.name)}")
            self.emit(happened.StorageFailed, run.job, error=error)
            return False
        run.held.counted = max(slot, run.held.counted)
        return True

    # --- telling -----------------------------------------------------------------------------

    def emit(self, kind: type[happened.JobEvent], job: Job, **about: Any) -> None:
        """Tell of something about a job."""
        if events.ANY:
            events.emit(kind, self.owner, self.owner._path(), job=job.name, **about)

    def skipped(self, job: Job, slot: datetime, reason: SkipReason) -> None:
        """Tell of a slot without a run."""
        self.emit(happened.JobSkipped, job, slot=slot, reason=reason)

    def _missed(
        self, job: Job, slots: tuple[datetime, ...], more: bool, reason: MissReason
    ) -> None:
        if slots:
            self.emit(happened.JobMissed, job, slots=slots, more=more, reason=reason)


def _has_slots(run: Run) -> bool:
    """Say whether a run is one that storage counts."""
    return not run.manual and not isinstance(run.job.schedule, Every)


def _outcome(run: Run, exit: Exit) -> Outcome:
    if exit.error is not None:
        return "error"
    if run.timed_out:
        return "timeout"
    if exit.reason == "normal":
        return "ok"
    return "replaced" if run.why == "replaced" else "cancelled"


async def _answer(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    answer = fn(*args)
    return await answer if inspect.isawaitable(answer) else answer


async def _called(job: Job) -> object:
    """Call the function of a job; one that exits fails by that, and ends nobody else."""
    try:
        if job.thread:
            return await trio.to_thread.run_sync(job.fn, *job.args)
        return await coroutine_of(job.fn, job.args)
    except SystemExit as error:
        raise RuntimeError(f"job {short(job.name)} raised {error!r}") from error
    except BaseExceptionGroup as group:
        exits, rest = group.split(SystemExit)
        if exits is None or (rest is not None and rest.subgroup(KeyboardInterrupt) is not None):
            raise
        raise RuntimeError(f"job {short(job.name)} raised SystemExit in a group") from group
