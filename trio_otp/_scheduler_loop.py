"""One life of a scheduler: what it holds, and the loop that does what is due."""

from __future__ import annotations

import math
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import trio

from . import _job_events as happened
from ._agenda import Agenda, Slot
from ._core import events, reports
from ._core.text import short
from ._core.waiting import Bell, next_ring
from ._held_jobs import HeldJob
from ._runner import Runner
from ._wall_clock import ClockWatch, Now

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ._agenda import Due, Track
    from ._core.process import Process
    from ._core.trapping import ExitRequest
    from ._held_jobs import Run
    from ._job_places import Place
    from ._jobs import Job, JobInfo
    from ._runner import Settings
    from ._task import Task


class SchedulerLoop(Bell):
    """The engine; rings when there may be something else to do than to wait."""

    def __init__(self, owner: Process, settings: Settings, place: Place) -> None:
        self._sleepers = None
        self.held: dict[str, HeldJob] = {}
        self._deleted: dict[str, HeldJob] = {}  # those of which a run goes on
        self.stopping = False
        self.runner = Runner(owner, settings, place, self._over)
        self.tell = partial(happened.tell, owner)
        self._owner = owner
        self._settings = settings
        self._agenda: Agenda[HeldJob] = Agenda(settings.random)
        self._numbers = count(1)
        self._wakes_at = -math.inf  # while it sleeps or not
        self._must_look = False
        self.shift = 0.0  # of the moment that a manual scheduler was told, against Trio's clock
        self._watch = ClockWatch(self.now(), settings.max_sleep)

    def now(self) -> Now:
        """Look at both clocks."""
        return Now.told_by(self._settings.clock, trio.current_time())

    # --- jobs ----------------------------------------------------------------------------

    def track(self, job: Job, now: Now) -> Track:
        """Begin with the schedule of a job; raises what the schedule does."""
        return self._agenda.track(job, now)

    def hold(self, job: Job, *, active: bool, counted: datetime) -> HeldJob:
        """Record a new job, whose slots up to a moment are done with."""
        held = HeldJob(job, next(self._numbers), active=active, counted=counted)
        if job.name in self._deleted:
            held.adopt(self._deleted.pop(job.name))
        self.held[job.name] = held
        return held

    def enter(self, held: HeldJob, track: Track, now: Now) -> None:
        """Wait for the slots of a job, and let the loop know if it sleeps too long for that."""
        self._agenda.enter(held, track)
        held.active = True
        if now.tick + self._agenda.seconds_left(now) < self._wakes_at:
            self.ring()

    def put(self, held: HeldJob, job: Job, track: Track, now: Now) -> None:
        """Give a job another definition; what the old one has waiting is dropped."""
        held.job = job
        self.rest(held, now)
        if job.active:
            self.enter(held, track, now)

    def rest(self, held: HeldJob, now: Now) -> None:
        """Wait for the slots of a job no more, and drop what waits."""
        self._agenda.leave(held)
        held.active, held.error = False, None
        held.begin_anew(now.wall)
        held.end_waiting("deleted", manual=False)

    def drop(self, held: HeldJob) -> None:
        """Forget a job; a run that has begun goes on."""
        name, now = held.job.name, self.now()
        del self.held[name]
        self.rest(held, now)
        held.end_waiting("deleted", manual=True)
        if held.runs:  # which count, should the name come back
            self._deleted[name] = held

    def begin(self, held: HeldJob, now: Now) -> None:
        """Wait for the slots of a job that was remembered."""
        try:
            track = self._agenda.track(held.job, now, held.counted)
            held.begin_anew(min(held.counted, now.wall))  # a clock may have been wrong before
            self.enter(held, track, now)
        except Exception as error:
            self._fail(held, error)

    def info(self, held: HeldJob) -> JobInfo:
        """Give a snapshot of a job."""
        return held.info(self._agenda.next_slot(held, self.now()))

    def run_now(self, held: HeldJob, slot: datetime | None) -> Task[Any]:
        """Start a run that no slot asks for."""
        return self.runner.run_now(held, slot or self.now().wall)

    def reboot(self, held: HeldJob) -> None:
        """Start the run of `@reboot`."""
        self.runner.offer(held, Slot.at_once(self.now().wall))

    def _fail(self, held: HeldJob, error: Exception) -> None:
        """Give up a job whose schedule failed."""
        self._agenda.leave(held)
        held.error = error
        reports.lost(error, f"the schedule of job {short(held.job.name)} has failed; it rests")
        self.tell(happened.JobErrored, held.job, error=error)

    def _over(self, run: Run) -> None:
        """Hear that a run has ended."""
        if not run.held.runs:
            self._deleted.pop(run.job.name, None)
        if not run.manual and self._agenda.ended(run.held, trio.current_time() + self.shift):
            self.ring()

    # --- the loop ------------------------------------------------------------------------

    async def run(self, exiting: ExitRequest) -> None:
        """Start what is due, and sleep until the next; returns when asked to stop."""
        while not exiting.is_set():
            self._must_look = False
            now = self.now()
            if jump := self._watch.jump(now):
                await self._obey_clock(jump, now)
                now = self.now()
            await self.start_due(now, exiting.is_set)
            if not (exiting.is_set() or self._must_look):
                await self._sleep()

    def look(self) -> None:
        """Have the loop look at the clocks again, whatever it does now."""
        self._must_look = True
        self.ring()

    async def start_due(self, now: Now, stop: Callable[[], bool]) -> list[Run]:
        """Start the runs of all jobs that are due, one after another."""
        started: list[Run] = []
        while not stop() and (held := self._agenda.take_due(now)) is not None:
            started += await self._start_one(held, now, stop)
            if self._agenda.seconds_left(now) <= 0:
                # One in a batch of Trio's: those of the same batch run in any order.
                await trio.lowlevel.checkpoint()
        return started

    async def _start_one(self, held: HeldJob, now: Now, stop: Callable[[], bool]) -> list[Run]:
        started: list[Run] = []
        track = held.track
        for slot, in_line in self._slots(held, now):
            if started:
                await trio.lowlevel.checkpoint()  # as above
            if stop():
                self._missed(held, (slot.at,), False, "stopping")
            elif held.track is not track:
                self.tell(happened.JobSkipped, held.job, slot=slot.at, reason="deleted")
            else:
                started += self.runner.offer(held, slot, in_line=in_line)
        if not started and held.track is track:
            self._agenda.ended(held, now.tick)
        return started

    async def finish(self, grace: float) -> None:
        """Start nothing more; let the runs end by themselves for a while, then end them."""
        self.stopping = True
        self.runner.end_waiting()
        await self.runner.wait(grace)
        await self.runner.end()
        if not self._settings.manual:
            self._miss_the_rest()

    async def _sleep(self) -> None:
        now = self.now()
        left = min(self._agenda.seconds_left(now), self._settings.max_sleep)
        self._wakes_at = now.tick + left
        with trio.CancelScope(deadline=self._wakes_at):
            await next_ring(self)

    async def _obey_clock(self, jump: float, now: Now) -> None:
        if events.ANY:
            events.emit(happened.ClockJumped, self._owner, self._owner._path(), seconds=jump)
        if jump < 0:
            for held in tuple(self.held.values()):
                self._set_back(held, -jump, now)
                await trio.lowlevel.checkpoint()

    def _set_back(self, held: HeldJob, seconds: float, now: Now) -> None:
        try:
            if self._agenda.set_back(held, seconds, now):
                held.begin_anew(now.wall)
        except Exception as error:
            self._fail(held, error)

    # --- one job that is due -----------------------------------------------------------------

    def _slots(self, held: HeldJob, now: Now) -> list[tuple[Slot, bool]]:
        """Decide which slots are to be run, and whether one after another."""
        due = self._due(held, now)
        if due is None:
            return []
        if due.missed:
            self._missed(held, due.missed, due.more, "late")
        in_line = len(due.run) > 1 and held.job.overlap != "allow"
        return [(slot, in_line) for slot in due.run]

    def _miss_the_rest(self) -> None:
        """Tell of the slots that came while the end was under way."""
        now = self.now()
        while (held := self._agenda.take_due(now)) is not None:
            if (due := self._due(held, now)) is not None:
                slots = (*due.missed, *(slot.at for slot in due.run))
                self._missed(held, slots, due.more, "stopping")

    def _due(self, held: HeldJob, now: Now) -> Due | None:
        try:
            return self._agenda.take_slots(held, now)
        except Exception as error:
            self._fail(held, error)
            return None

    def _missed(
        self, held: HeldJob, slots: tuple[datetime, ...], more: bool, reason: happened.MissReason
    ) -> None:
        self.tell(happened.JobMissed, held.job, slots=slots, more=more, reason=reason)
