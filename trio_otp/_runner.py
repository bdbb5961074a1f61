"""Starting the runs of jobs, and what becomes of each.

Rules of this file:
  1. Nothing here waits for a run, nor for storage; whatever a run waits for, it waits for in
     its own task.
  2. A run is recorded in the step in which its task is spawned, and forgotten in the step in
     which that ends, however it does.
  3. Tables are made right first, then events are emitted: a subscriber may call back.
"""

from __future__ import annotations

import inspect
import math
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import attrs
import trio

from . import _job_events as happened
from ._agenda import Slot
from ._core import reports
from ._core.errors import AlreadyRunning, MaxChildren, NotRunning, TimedOut
from ._core.job import coroutine_of
from ._core.process import task_and_above, unprotected
from ._core.text import short
from ._core.waiting import Bell, until
from ._held_jobs import Run
from ._job_gate import Gate
from ._job_places import checked_choice
from ._job_runs import JobRun, enter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime
    from random import Random

    from ._core.exits import Exit
    from ._core.process import Process
    from ._held_jobs import HeldJob
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
    attempts: dict[str, tuple[Slot, int]] = attrs.field(factory=dict)
    """The slot that a job began last and did not end, and how often it began."""


class Runner(Bell):
    """The runs of one life of a scheduler; rings when one has ended."""

    def __init__(
        self, owner: Process, settings: Settings, place: Place, over: Callable[[Run], None]
    ) -> None:
        self._sleepers = None
        self._settings = settings
        self._place = place
        self._over = over  # hears of each run that has ended, before its event is told
        self._tell = partial(happened.tell, owner)
        self._runs: dict[Run, None] = {}
        self._gate = Gate(settings.max_concurrency)
        self._spans = count(1)

    # --- starting --------------------------------------------------------------------------

    def offer(self, held: HeldJob, slot: Slot, *, in_line: bool = False) -> list[Run]:
        """Start the runs that a slot brings, if the job lets it, or have them queue."""
        in_line = in_line or held.catches_up()
        if not in_line and self._overlaps(held, slot):
            held.settle(slot.at)
            return []
        return self._start_all(held, slot, in_line=in_line, manual=False)

    def run_now(self, held: HeldJob, moment: datetime) -> Task[Any]:
        """Start a run that no slot asks for."""
        name, slot = short(held.job.name), Slot.at_once(moment)
        if self._overlaps(held, slot):
            raise AlreadyRunning(f"job {name} is running, and skips what overlaps")
        runs = self._start_all(held, slot, in_line=False, manual=True)
        if not runs:
            raise NotRunning(f"job {name} has no supervisor that can take a run")
        return cast("Task[Any]", runs[0].process)  # as all manual ones

    def _overlaps(self, held: HeldJob, slot: Slot) -> bool:
        """Say whether there is to be no run since one goes on."""
        if not held.runs or held.job.overlap != "skip":
            return False
        self._tell(happened.JobSkipped, held.job, slot=slot.at, reason="running")
        return True

    def _start_all(self, held: HeldJob, slot: Slot, *, in_line: bool, manual: bool) -> list[Run]:
        in_line = self._replace(held, in_line)
        runs: list[Run] = []
        for able in self._choose(held.job):
            run = Run(held, slot, span=next(self._spans), in_line=in_line, manual=manual)
            if self._start(run, able):
                runs.append(run)
        if not runs:
            self._tell(happened.JobSkipped, held.job, slot=slot.at, reason="no_supervisor")
        return runs

    def _choose(self, job: Job) -> tuple[Candidates, ...]:
        place = job.where or self._place
        try:
            return checked_choice(place.choose(self._settings.random))
        except Exception as error:  # a strategy of the user's
            reports.lost(error, f"the choice of a supervisor for job {short(job.name)} has failed")
            self._tell(happened.JobErrored, job, error=error)
            return ()

    def _replace(self, held: HeldJob, in_line: bool) -> bool:
        """End what the job runs, if that is to be; say if the next is to wait for that."""
        if not in_line and held.job.overlap == "replace":
            for run in tuple(held.runs):
                run.end("replaced")
        return in_line or held.job.overlap == "replace"

    def _start(self, run: Run, candidates: Candidates) -> bool:
        for supervisor in candidates:
            try:
                self._launch(run, supervisor)
            except (NotRunning, MaxChildren):
                self._tell(happened.SupervisorPassedOver, run.job, supervisor=supervisor)
            else:
                return True
        return False

    @trio.lowlevel.enable_ki_protection
    def _launch(self, run: Run, supervisor: TaskSupervisor) -> None:
        start = supervisor.async_nolink if run.manual else supervisor.start_child
        process = start(self._live, run, name=run.job.name, shutdown=run.job.shutdown)
        run.process, run.supervisor = process, supervisor
        self._runs[run] = run.held.runs[run] = None
        process._life.call_at_end(partial(self._ended, run))

    # --- ending, from outside ---------------------------------------------------------------

    async def wait(self, grace: float) -> None:
        """Wait for the end of all runs, so many seconds at most, but not for who waits for us."""
        with trio.move_on_after(grace):
            await until(lambda: all(run.asked_stop for run in self._runs), self)

    async def end(self) -> None:
        """End all runs, and wait until they have ended."""
        self.end_all()
        await until(self.idle, self)

    def idle(self) -> bool:
        """Say whether there is no run."""
        return not self._runs

    def has(self, process: Process | None) -> bool:
        """Say whether a process is one of the runs."""
        return any(run.process is process for run in self._runs)

    def end_all(self) -> None:
        """Ask all runs to end."""
        for run in tuple(self._runs):
            run.end("stopping")

    def end_waiting(self) -> None:
        """Drop all runs that have not begun; one whose slot is being counted begins."""
        for run in tuple(self._runs):
            if run.about is None and not run.counting:
                run.end("stopping")

    def part(self) -> None:
        """Let go of the loop, which knows us, a cycle; runs on other supervisors may still end."""
        self._over = _nobody

    def kill_all(self) -> None:
        """Cancel all runs at once."""
        for run in tuple(self._runs):
            run.process.kill()

    def asked_to_stop(self) -> None:
        """Hear that the current Trio task asks the scheduler to end.

        A run that does, also by a task of its own, has no grace, since it waits for us.
        """
        asking = set(task_and_above())
        for run in self._runs:
            run.asked_stop |= run.process._life.task in asking
        self.ring()

    # --- one run, in its own task ----------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _live(self, run: Run) -> object:
        if run.in_line:
            await until(lambda: run.held.is_next(run), run.held)
        if not await self._may_begin(run):
            await self._count_settled(run)
            return None
        await self._gate.enter((run.slot.scheduled, run.span))
        run.inside = True
        if self._is_too_late(run):
            await self._count_settled(run)
            return None
        if not await self._counted(run) or run.why is not None:
            run.why = run.why or "storage"
            return None
        self._begin(run)
        try:
            run.result = await self._work(run)
        except Exception:
            await self._count_settled(run)
            raise
        await self._count_settled(run)
        return run.result

    async def _may_begin(self, run: Run) -> bool:
        """Ask the guard of a job."""
        if run.job.when is None or run.manual:
            return True
        yes = False
        try:
            with trio.fail_after(run.job.timeout):
                yes = await unprotected(_agrees(run.job))
        except Exception as error:
            reports.lost(error, f"the guard of job {short(run.job.name)} has failed")
            self._tell(happened.JobErrored, run.job, error=error)
        if not yes:
            run.why = run.why or "when"
        return yes

    def _is_too_late(self, run: Run) -> bool:
        """Say whether it has waited for its turn longer than it may be late."""
        grace = run.job.misfire_grace
        if run.manual or grace is None or trio.current_time() - run.due_at <= grace:
            return False
        run.why = run.why or "late"
        return True

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
        self._tell(happened.JobStarted, run.job, run=run.about)

    async def _work(self, run: Run) -> object:
        limit = run.job.timeout
        if limit == math.inf:
            return await unprotected(_called(run.job))
        with trio.CancelScope(deadline=run.begun + limit) as scope:
            result = await unprotected(_called(run.job))
            if not (run.job.thread and scope.cancel_called):  # what a thread gives comes too late
                return result
        run.timed_out = True
        raise TimedOut(f"job {short(run.job.name)} has not ended within {limit:g} s")

    # --- its end -----------------------------------------------------------------------------

    def _ended(self, run: Run, process: Process) -> None:
        """Settle a run whose task has ended."""
        assert process.last_exit is not None
        del self._runs[run], run.held.runs[run]
        if run.inside:
            self._gate.leave()
        self._over(run)
        if run.about is None:
            self._tell_of_none(run)
        else:
            self._tell_end(run, run.about, process.last_exit)
        run.held.ring()
        self.ring()

    def _tell_of_none(self, run: Run) -> None:
        """Tell of a run that never began."""
        slot = run.slot.at
        if run.why in ("stopping", "late"):
            self._tell(happened.JobMissed, run.job, slots=(slot,), more=False, reason=run.why)
        else:
            self._tell(happened.JobSkipped, run.job, slot=slot, reason=run.why or "cancelled")

    def _tell_end(self, run: Run, about: JobRun, exit: Exit) -> None:
        outcome = run.held.last_outcome = run.outcome(exit)
        if not run.manual and outcome not in ("cancelled", "replaced"):
            self._settings.attempts.pop(about.job, None)
        told: dict[str, Any] = {"run": about, "duration": trio.current_time() - run.begun}
        if outcome == "error":
            self._tell(happened.JobFailed, run.job, error=exit.error, **told)
        else:
            self._tell(happened.JobStopped, run.job, outcome=outcome, result=run.result, **told)

    def _attempt(self, run: Run) -> int:
        """Count how often a slot has begun, as far as this handle knows."""
        if run.manual:
            return 1
        last, number = self._settings.attempts.get(run.job.name, (None, 0))
        if last is not run.slot:  # else it is another run of the same slot
            number = number + 1 if last is not None and last.at == run.slot.at else 1
        self._settings.attempts[run.job.name] = (run.slot, number)
        return number

    # --- storage -----------------------------------------------------------------------------

    async def _counted(self, run: Run) -> bool:
        """Count a slot as done before its run, if it is so wanted; say if that may begin."""
        if run.job.ack == "after" or not run.counts:
            return True
        run.counting = True
        counted = await self._count(run, run.slot.at)
        run.counting = False
        return counted or self._settings.on_storage_error == "run"

    async def _count_settled(self, run: Run) -> None:
        """Count slots as done up to the newest that has ended or was skipped.

        With `ack="after"` not while the run of an older one goes on.
        """
        if not run.counts:
            return
        run.settled = True
        newest = run.held.settle(run.slot.at)
        if run.job.ack == "before":
            free = run.about is None or newest > run.slot.at  # else it was counted before its run
        else:
            others = (other for other in run.held.runs if other.counts and not other.settled)
            free = all(other.slot.at > newest for other in others)
        if free:
            await self._count(run, newest)

    async def _count(self, run: Run, slot: datetime) -> bool:
        """Have storage count slots as done; say whether they are."""
        if slot <= run.held.counted:  # or the job was changed meanwhile, and began anew
            return True
        try:
            await self._settings.storage.set_last_slot(run.job.name, slot)
        except Exception as error:
            reports.lost(error, f"storage failed to count a slot of job {short(run.job.name)}")
            self._tell(happened.StorageFailed, run.job, error=error)
            return False
        run.held.counted = max(slot, run.held.counted)
        return True


def _nobody(_: Run) -> None:
    pass


async def _agrees(job: Job) -> bool:
    """Ask the guard of a job."""
    assert job.when is not None
    answer = await _surviving(job, _answer(job.when, job.args))
    return bool(answer)


async def _answer(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    answer = fn(*args)
    return await answer if inspect.isawaitable(answer) else answer


async def _called(job: Job) -> object:
    """Call the function of a job."""
    return await _surviving(job, _result(job))


async def _result(job: Job) -> object:
    if job.thread:
        return await trio.to_thread.run_sync(job.fn, *job.args)
    return await coroutine_of(job.fn, job.args)


async def _surviving(job: Job, work: Awaitable[Any]) -> Any:
    """Await a function of the user's; one that exits fails by that, and ends nobody else."""
    try:
        return await work
    except SystemExit as error:
        raise RuntimeError(f"job {short(job.name)} raised {error!r}") from error
    except BaseExceptionGroup as group:
        exits, rest = group.split(SystemExit)
        if exits is None or (rest is not None and rest.subgroup(KeyboardInterrupt) is not None):
            raise
        raise RuntimeError(f"job {short(job.name)} raised SystemExit in a group") from group
