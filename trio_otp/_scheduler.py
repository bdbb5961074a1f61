"""Scheduler: jobs that are run when their schedules say so."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import asynccontextmanager
from datetime import UTC
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
import trio

from . import _job_events as happened
from ._core import options
from ._core.errors import CalledItself, NotRunning, UnknownJob
from ._core.process import Process, own_process
from ._core.reports import log
from ._core.text import short
from ._core.trapping import trap_exit
from ._core.waiting import until
from ._cron import Cron
from ._daylight import find_zone, to_moment
from ._job_places import On, to_place
from ._job_storage import MemoryStorage, StoredJob, checked_storage
from ._jobs import Job
from ._runner import Settings
from ._scheduler_loop import SchedulerLoop
from ._schedules import Schedule
from ._task_supervisor import TaskSupervisor
from ._wall_clock import Now, SystemClock, checked_clock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import datetime, timezone
    from zoneinfo import ZoneInfo

    from ._agenda import Track
    from ._core.exits import Exit
    from ._core.life import Life
    from ._core.options import Limit
    from ._core.trapping import ExitRequest
    from ._held_jobs import HeldJob
    from ._job_places import Place
    from ._job_storage import JobStorage
    from ._jobs import JobInfo
    from ._runner import OnStorageError
    from ._task import Task
    from ._wall_clock import WallClock

OnConflict: TypeAlias = Literal["stored", "config", "error"]
"""Which definition counts if a job is listed in code and stored as well."""

ON_CONFLICTS: Final = ("stored", "config", "error")
ON_STORAGE_ERRORS: Final = ("run", "skip")


class Scheduler(Process):
    """Runs jobs when their schedules say so; what Quantum is to Elixir.

    One process that sleeps until the next job is due, however many there are. Each run is a
    temporary task of a `TaskSupervisor`: a job that fails or hangs hurts nobody, and is run
    again at its next slot. Jobs can be added, changed and deleted while it runs.

    A stop starts nothing more, gives the runs `grace` seconds to end by themselves, and cancels
    the rest; `kill()`, and a cancellation of the nursery that it runs in, cancel all at once.

    Args:
        jobs: The jobs that it has from its start.
        name: A label, also its id as a child.
        timezone: The zone of `Cron`s that name none: a name like `"Europe/Berlin"`, a
            `ZoneInfo` or a `datetime.timezone`.
        clock: What tells the time of day; by default this machine.
        supervisor: Whose children the runs are: a `TaskSupervisor`, `OnOneOf` or `OnAllOf`
            several; by default one of its own.
        storage: What remembers the jobs; by default memory, as long as this handle lives.
        on_conflict: Which definition counts if a job of `jobs` is stored as well, since it
            was added or changed at run time: the one `"stored"`, that of `jobs`
            (`"config"`), or neither (`"error"`: the start fails).
        on_storage_error: Whether a run takes place (`"run"`) whose slot the storage could
            not count as done before it, or not (`"skip"`).
        max_concurrency: How many runs may go on at once; others wait in the order in which
            they are due. `None` for any number.
        max_sleep: Seconds after which it looks at the time of day again at the latest: so
            long it may take to see that the clock was set, or that the machine slept. `None`
            for no limit, which saves time in tests of years.
        grace: Seconds that runs have to end by themselves at a stop; `None` for no limit.
        manual: Sleep and start nothing; `run_due` does, for tests.
        random: Where jitter and `OnOneOf` draw from.

    Raises:
        TypeError: A value is of a wrong type.
        ValueError: A value is not one of those accepted, or two jobs have one name.
    """

    __slots__ = (
        "_booted",
        "_booted_in",
        "_changing",
        "_config",
        "_grace_of_runs",
        "_loop",
        "_on_conflict",
        "_place",
        "_settings",
        "_zone",
    )

    _kind = "scheduler"
    _class_shutdown = math.inf  # its runs have limits; it waits for them

    def __init__(
        self,
        jobs: Iterable[Job] = (),
        *,
        name: str | None = None,
        timezone: str | ZoneInfo | timezone = "UTC",
        clock: WallClock | None = None,
        supervisor: TaskSupervisor | Place | None = None,
        storage: JobStorage | None = None,
        on_conflict: OnConflict = "stored",
        on_storage_error: OnStorageError = "run",
        max_concurrency: int | None = None,
        max_sleep: Limit = 30.0,
        grace: Limit = 5.0,
        manual: bool = False,
        random: Random | None = None,
    ) -> None:
        super().__init__(name=name)
        self._loop: SchedulerLoop | None = None
        self._changing = trio.Lock()
        self._zone = _zone(timezone)
        self._config = _by_name(jobs, self._zone)
        self._place = None if supervisor is None else to_place("supervisor", supervisor)
        self._on_conflict = options.one_of("on_conflict", on_conflict, ON_CONFLICTS)
        self._grace_of_runs = options.limit("grace", grace)
        self._booted: set[str] = set()
        self._booted_in: trio.lowlevel.TrioToken | None = None
        self._settings = Settings(
            clock=SystemClock() if clock is None else checked_clock(clock),
            random=_random(random),
            storage=MemoryStorage() if storage is None else checked_storage(storage),
            on_storage_error=options.one_of(
                "on_storage_error", on_storage_error, ON_STORAGE_ERRORS
            ),
            max_concurrency=options.count_or_none("max_concurrency", max_concurrency, least=1),
            manual=options.flag("manual", manual),
            max_sleep=options.positive("max_sleep", options.limit("max_sleep", max_sleep)),
        )

    # --- looking ---------------------------------------------------------------------------

    @property
    def jobs(self) -> tuple[JobInfo, ...]:
        """A snapshot of its jobs in the order in which they were added; `jobs/0`.

        Raises:
            NotRunning: It does not run.
        """
        loop = self._running()
        return tuple(map(loop.info, loop.held.values()))

    def find(self, name: str, /) -> JobInfo | None:
        """Give a snapshot of a job, or `None` if there is none of that name; `find_job/1`.

        Raises:
            NotRunning: It does not run.
        """
        loop = self._running()
        held = loop.held.get(name)
        return None if held is None else loop.info(held)

    # --- changing --------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def add(self, job: Job, /) -> str:
        """Have a job from now on, in the place of one that has its name, and give the name.

        `add_job/1`. The old definition is never run again, and its slots are gone; a run of it
        that goes on is not touched. Its next slot is the first after now. If cancelled, it
        is not added.

        Raises:
            TypeError: It is no `Job`, or the storage cannot store it.
            NotRunning: The scheduler does not run, or is stopping.
            Exception: What its schedule, or the storage, raises; then nothing has changed.
        """
        job = _placed(job, self._zone)
        async with self._change() as loop:
            await self._put(loop, job)
        return job.name

    @trio.lowlevel.enable_ki_protection
    async def update(self, name: str, /, **changes: Any) -> None:
        """Change some options of a job; `add_job/1` for a job that is there.

        If cancelled, it has not changed.

        Args:
            name: The name of the job.
            **changes: Options of `Job`, but its name.

        Raises:
            UnknownJob: There is none of that name.
            TypeError: There is no such option, or a value is of a wrong type.
            ValueError: A value is not one of those accepted.
            NotRunning: The scheduler does not run, or is stopping.
        """
        if "name" in changes:
            raise TypeError("name cannot be changed: delete the job, and add another")
        async with self._change() as loop:
            held = self._known(name)
            job = held.job.changed(**{"active": held.active} | changes)
            await self._put(loop, _placed(job, self._zone))

    @trio.lowlevel.enable_ki_protection
    async def delete(self, name: str, /) -> bool:
        """Have a job no more, and say whether there was one; `delete_job/1`.

        A run that goes on is not touched. A job of the list given to the scheduler is there
        again after a restart. If cancelled, the job is still there.

        Raises:
            NotRunning: The scheduler does not run, or is stopping.
            Exception: What the storage raises; then nothing has changed.
        """
        async with self._change() as loop:
            if name not in loop.held:
                return False
            await self._settings.storage.delete(name)
            self._forget(loop, name)
        return True

    @trio.lowlevel.enable_ki_protection
    async def delete_all(self) -> None:
        """Have no job any more; `delete_all_jobs/0`. Errors and cancellation as in `delete`."""
        async with self._change() as loop:
            await self._settings.storage.purge()
            for name in tuple(loop.held):
                self._forget(loop, name)

    @trio.lowlevel.enable_ki_protection
    async def activate(self, name: str, /) -> None:
        """Have a job run again, from its next slot after now on; `activate_job/1`.

        Also one whose schedule had failed. Nothing happens if it is active. If cancelled,
        it is not activated.

        Raises:
            UnknownJob: There is none of that name.
            NotRunning: The scheduler does not run, or is stopping.
            Exception: What its schedule, or the storage, raises; then nothing has changed.
        """
        async with self._change() as loop:
            held, now = self._known(name), loop.now()
            if held.active and held.error is None:
                return
            track = loop.track(held.job, now)
            await self._settings.storage.set_state(name, True, now.wall)
            held.begin_anew(now.wall)
            loop.enter(held, track, now)
            loop.tell(happened.JobUpdated, held.job)

    @trio.lowlevel.enable_ki_protection
    async def deactivate(self, name: str, /) -> None:
        """Have a job not run until it is activated; `deactivate_job/1`.

        Its slots until then are lost, not put off. A run that goes on is not touched.
        Nothing happens if it is inactive. Errors and cancellation as in `activate`.
        """
        async with self._change() as loop:
            held, now = self._known(name), loop.now()
            if not held.active:
                return
            await self._settings.storage.set_state(name, False, now.wall)
            loop.rest(held, now)
            loop.tell(happened.JobUpdated, held.job)

    # --- running ---------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run_job(self, name: str, /, *, slot: datetime | None = None) -> Task[Any]:
        """Run a job now, once, and give the task, to be awaited or not; `run_job/1`.

        Also an inactive one. Its schedule is not touched, its jitter and guard do not count;
        what it says of overlap and time-out does. With several supervisors, the task on the first.
        If cancelled, it is not run; a run that has been given is not touched.

        Args:
            name: The name of the job.
            slot: What `current_run().slot` is to be, for a day whose run failed, say; an
                aware datetime, by default now.

        Raises:
            UnknownJob: There is none of that name.
            AlreadyRunning: It is running, and skips what overlaps.
            NotRunning: The scheduler does not run or is stopping, or none of its supervisors
                can take the run.
        """
        await trio.lowlevel.checkpoint()
        moment = None if slot is None else to_moment("slot", slot)
        await self._next_life()
        return self._open().run_now(self._known(name), moment)

    @trio.lowlevel.enable_ki_protection
    async def run_due(self, moment: datetime | None = None, /) -> tuple[Process, ...]:
        """Start what is due at a moment, and give the processes; for tests, with `manual=True`.

        Comes back when they have been started; `wait` for those that matter. If cancelled,
        those that have been started go on, and the others are due as before.

        Args:
            moment: The time of day, an aware datetime; by default now. It counts for
                intervals, too: an hour later, an `Every(60)` is due.

        Raises:
            RuntimeError: The scheduler is not manual.
            NotRunning: It does not run, or is stopping.
        """
        if not self._settings.manual:
            raise RuntimeError(f"{self!r} runs its jobs itself: run_due needs manual=True")
        await trio.lowlevel.checkpoint()
        await self._next_life()
        loop = self._open()
        now = loop.now()
        now = now if moment is None else now.moved_to(to_moment("moment", moment))
        loop.shift = now.tick - trio.current_time()
        return tuple(run.process for run in await loop.start_due(now, lambda: loop.stopping))

    async def join(self) -> None:
        """Wait until no run goes on, or waits. Cancellation leaves nothing behind.

        Raises:
            CalledItself: The asker is one of the runs, and would wait for its own end.
            NotRunning: The scheduler does not run.
        """
        runner = self._running().runner
        await trio.lowlevel.checkpoint()
        if runner.has(own_process()):
            raise CalledItself(f"this is a run of {self!r}, and would wait for its own end", self)
        await until(runner.idle, runner)

    def check_clock(self) -> None:
        """Look at the time of day now, and not only within `max_sleep` seconds.

        For who knows that it was set, or that the machine has slept.

        Raises:
            NotRunning: It does not run.
        """
        self._running().look()

    # --- inside ----------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _main(self, life: Life) -> None:
        with trap_exit() as exiting:
            async with self._home_of_runs() as place:
                loop = SchedulerLoop(self, self._settings, place)
                try:
                    await self._live(loop, life, exiting)
                finally:
                    loop.stopping = True
                    loop.runner.end_all()
                    with trio.CancelScope(shield=True):  # of their cleanup, wherever they are
                        await until(loop.runner.idle, loop.runner)
                    loop.runner.part()

    @asynccontextmanager
    async def _home_of_runs(self) -> AsyncGenerator[Place]:
        if self._place is not None:
            yield self._place
        else:
            async with TaskSupervisor(name="runs") as supervisor:
                yield On(supervisor)

    async def _live(self, loop: SchedulerLoop, life: Life, exiting: ExitRequest) -> None:
        with exiting.interrupts() as starting:
            # Whoever changed something in the life before ends with that first.
            async with self._changing:
                await self._load(loop)
                self._loop = loop
        if starting.cancelled_caught:
            return
        self._become_ready(life)
        if self._booted_in is not (here := trio.lowlevel.current_trio_token()):
            self._booted_in = here
            self._booted.clear()
        for held in tuple(loop.held.values()):
            if not exiting.is_set() and self._boot(loop, held):
                await trio.lowlevel.checkpoint()  # in order, as at a slot
        await (exiting.wait() if self._settings.manual else loop.run(exiting))
        await loop.finish(self._grace_of_runs)

    async def _load(self, loop: SchedulerLoop) -> None:
        storage, now = self._settings.storage, loop.now()
        stored = {one.name: one for one in await storage.load()}
        for job in self._config.values():
            known = stored.pop(job.name, None)
            if known is None:
                known = StoredJob(name=job.name, job=None, active=None, last_slot=now.wall)
                await storage.put(known)
            elif known.job is not None:
                known = await self._decide(job, known)
            _recall(loop, known.job or job, known, now)
        for known in stored.values():
            if known.job is None:  # the program lists it no more
                await storage.delete(known.name)
            else:
                _recall(loop, known.job, known, now)

    async def _decide(self, job: Job, known: StoredJob) -> StoredJob:
        if self._on_conflict == "error":
            raise ValueError(
                f"job {short(job.name)} is listed in code, and stored since it was added or changed "
                "at run time: say on_conflict='stored' or 'config', or delete it"
            )
        log.info("job %s: the definition counts that is %s", short(job.name), self._on_conflict)
        if self._on_conflict == "config":
            known = attrs.evolve(known, job=None)
            await self._settings.storage.put(known)
        return known

    async def _put(self, loop: SchedulerLoop, job: Job) -> None:
        now = loop.now()
        track = loop.track(job, now)
        new = StoredJob(name=job.name, job=job, active=job.active, last_slot=now.wall)
        await self._settings.storage.put(new)
        self._take_in(loop, job, track, now)

    def _take_in(self, loop: SchedulerLoop, job: Job, track: Track, now: Now) -> None:
        if loop is not self._loop or loop.stopping:
            return  # it is stored, for the next life
        held = loop.held.get(job.name)
        if held is None:
            held = loop.hold(job, active=job.active, counted=now.wall)
            if job.active:
                loop.enter(held, track, now)
            loop.tell(happened.JobAdded, job)
        else:
            loop.put(held, job, track, now)
            loop.tell(happened.JobUpdated, job)
        self._boot(loop, held)

    def _boot(self, loop: SchedulerLoop, held: HeldJob) -> bool:
        """Run a `@reboot` job, once in all lives between two stops; say whether it is one."""
        schedule, name = held.job.schedule, held.job.name
        if not (isinstance(schedule, Schedule) and held.error is None and schedule.at_start):
            return False
        gone = loop.stopping or loop.held.get(name) is not held  # since it was looked for
        if gone or name in self._booted:
            return False
        self._booted.add(name)
        if held.active:
            loop.reboot(held)
        return True

    def _forget(self, loop: SchedulerLoop, name: str) -> None:
        held = loop.held[name]
        self._booted.discard(name)
        self._settings.attempts.pop(name, None)
        loop.drop(held)
        loop.tell(happened.JobDeleted, held.job)

    @asynccontextmanager
    async def _change(self) -> AsyncGenerator[SchedulerLoop]:
        """Change jobs, one at a time, here and in storage."""
        while True:
            await self._next_life()
            async with self._changing:
                if self._status not in ("starting", "restarting"):
                    yield self._open()
                    return

    async def _next_life(self) -> None:
        """Wait for a life that was promised, as calls of an agent do."""
        await until(lambda: self._status not in ("starting", "restarting"), self)

    def _running(self) -> SchedulerLoop:
        if self._loop is None:
            raise NotRunning(f"{self!r} is not running", self)
        return self._loop

    def _open(self) -> SchedulerLoop:
        loop = self._running()
        if loop.stopping or self._status == "stopping":
            raise NotRunning(f"{self!r} is stopping", self)
        return loop

    def _known(self, name: str) -> HeldJob:
        held = self._running().held.get(name)
        if held is None:
            raise UnknownJob(f"{self!r} has no job {short(name)}")
        return held

    def _ask(self, life: Any, limit: float) -> None:
        super()._ask(life, limit)
        if self._loop is not None:
            self._loop.ring()

    def _ask_in_turn(self, life: Any) -> None:
        if self._loop is not None:
            self._loop.runner.asked_to_stop()
        super()._ask_in_turn(life)

    def _kill(self, life: Any) -> None:
        super()._kill(life)
        if self._loop is not None:
            self._loop.runner.kill_all()

    def _settle(self, life: Any, exit: Exit, result: Any) -> None:
        self._loop = None
        if exit.error is None:  # stopped, not to be restarted after a crash
            self._booted.clear()


def _recall(loop: SchedulerLoop, job: Job, known: StoredJob, now: Now) -> None:
    active = job.active if known.active is None else known.active
    held = loop.hold(job, active=active, counted=known.last_slot or now.wall)
    if active:
        loop.begin(held, now)


def _zone(value: Any) -> ZoneInfo | timezone | None:
    zone = find_zone(value)
    if zone is None:
        raise TypeError("timezone must be a name, a ZoneInfo or a datetime.timezone, got None")
    return None if zone is UTC else zone


def _placed(job: Any, zone: ZoneInfo | timezone | None) -> Job:
    """Give a job by the clocks of a zone, unless it names its own."""
    if not isinstance(job, Job):
        raise TypeError(f"a job must be a Job, got {short(job)}")
    if zone is not None and isinstance(job.schedule, Cron) and job.schedule.timezone is None:
        return job.changed(schedule=attrs.evolve(job.schedule, timezone=zone))
    return job


def _by_name(jobs: Iterable[Job], zone: ZoneInfo | timezone | None) -> dict[str, Job]:
    named: dict[str, Job] = {}
    if not isinstance(jobs, Iterable):
        raise TypeError(f"jobs must be an iterable of Jobs, got {short(jobs)}")
    for job in jobs:
        placed = _placed(job, zone)
        if placed.name in named:
            raise ValueError(f"jobs must have different names, got {short(placed.name)} twice")
        named[placed.name] = placed
    return named


def _random(value: Any) -> Random:
    if value is None:
        return Random()
    if not isinstance(value, Random):
        raise TypeError(f"random must be a random.Random, got {short(value)}")
    return value
