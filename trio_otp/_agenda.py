"""The agenda of a scheduler: which job is due when, and what becomes of slots that went by.

Pure: time goes in as a `Now`. Calendar schedules go by the wall clock, which may be set;
`Every` goes by Trio's clock, which may not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from datetime import datetime, timedelta
from itertools import pairwise, starmap
from operator import ge
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

import attrs

from ._core.text import short
from ._core.timers import Timers
from ._daylight import to_moment
from ._schedules import Every, Schedule, to_jitter

if TYPE_CHECKING:
    from random import Random

    from ._jobs import Job, JobState
    from ._wall_clock import Now

# Who sets a clock back by more was wrong before: what was done at wrong times counts no more.
CORRECTION: Final = timedelta(hours=3)

# Of the slots that went by, so many are told besides those that are run.
MOST_TOLD: Final = 100

Position: TypeAlias = Any
"""A moment for a calendar, a time of Trio's clock for an interval."""


@attrs.frozen
class Slot:
    """A slot that is due."""

    at: datetime
    scheduled: datetime
    """Later than the slot by its jitter."""
    lateness: float

    @classmethod
    def at_once(cls, moment: datetime) -> Slot:
        """Give one that is due in this moment."""
        return cls(moment, moment, 0.0)


@attrs.frozen
class Due:
    """What is due of one job at one moment."""

    run: tuple[Slot, ...]
    missed: tuple[datetime, ...]
    more: bool
    """Whether more were missed than are listed."""


class Track(ABC):
    """How far a job has come on its schedule."""

    __slots__ = ("jitter", "name", "next", "random", "start")

    next: Position | None
    """The slot that comes next."""
    start: float
    """When that is to start, by the clock of this kind of schedule; infinity for never."""

    def __init__(self, job: Job, random: Random) -> None:
        self.name = job.name
        self.jitter = to_jitter(job.schedule.jitter)
        self.random = random
        self.next = None
        self.start = math.inf

    def plan(self, slot: Position | None) -> None:
        """Make a slot the next one."""
        self.next = slot
        if slot is None:
            self.start = math.inf
        else:
            self.start = self._number(slot) + self._delay(slot)

    def take(self, now: Now, limit: int) -> tuple[list[Slot], bool]:
        """Take the slots that are due, at most so many, the newest; say if there were more."""
        first, start = self.next, self.start
        found: tuple[Position, ...]
        following = self._after(first)
        if following is None or self._number(following) > self._number(self._at(now)):
            found, more = (first,), False
        else:
            found = self._between(self._at(now), limit + 1)
            more, found = len(found) > limit, found[-limit:]
            following = self._after(found[-1])
        self.plan(following)
        return [self._due(slot, start if slot == first else None, now) for slot in found], more

    def _delay(self, slot: Position) -> float:
        if not self.jitter.seconds:
            return 0
        following = self._after(slot)
        room = math.inf if following is None else self._number(following) - self._number(slot)
        return self.jitter.delay(name=self.name, room=room, random=self.random)

    def _due(self, slot: Position, start: float | None, now: Now) -> Slot:
        number = self._number(slot)
        start = number if start is None else start
        at = self._wall(slot, now)
        late = max(0.0, self._number(self._at(now)) - start)
        return Slot(at, at + timedelta(seconds=start - number), late)

    @abstractmethod
    def _after(self, slot: Position) -> Position | None: ...
    @abstractmethod
    def _between(self, until: Position, limit: int) -> tuple[Position, ...]: ...
    @abstractmethod
    def _at(self, now: Now) -> Position: ...
    @abstractmethod
    def _number(self, slot: Position) -> float: ...
    @abstractmethod
    def _wall(self, slot: Position, now: Now) -> datetime: ...


class CalendarTrack(Track):
    """On a schedule of the calendar, by the wall clock."""

    __slots__ = ("done", "schedule")

    done: datetime
    """Slots up to here are done with."""

    def __init__(self, job: Job, schedule: Schedule, done: datetime, random: Random) -> None:
        super().__init__(job, random)
        self.schedule = schedule
        self.done = done
        self.plan(self._after(done))

    def take(self, now: Now, limit: int) -> tuple[list[Slot], bool]:
        """As for all, and note how far it is done."""
        slots, more = super().take(now, limit)
        self.done = slots[-1].at
        return slots, more

    def set_back(self, seconds: float, now: Now) -> bool:
        """Find the place again after the wall clock was set back; say whether it is another.

        A schedule of real time keeps its beat. Of the others, what was done is done, unless
        the clock was so wrong before that it never was the time. Set back a little again and
        again counts as set back once, or a job would be silent for as long as that goes on.
        """
        back = max(seconds, (self.done - now.wall).total_seconds())
        if back > CORRECTION.total_seconds() or self._repeats_within(back):
            self.done = now.wall
            self.plan(self._after(now.wall))
            return True
        return False

    def _repeats_within(self, seconds: float) -> bool:
        if not self.schedule.keeps_real_time or self.next is None:
            return False
        before = self.schedule.last_before(self.next)
        return before is not None and (self.next - before).total_seconds() <= seconds

    def _after(self, slot: datetime) -> datetime | None:
        found: Any = self.schedule.next_after(slot)
        if found is None:
            return None
        moment = to_moment("next_after()", found)
        if moment <= slot:
            raise ValueError(
                f"next_after({slot}) of {short(self.schedule)} gave {found}, not later"
            )
        return moment

    def _between(self, until: datetime, limit: int) -> tuple[datetime, ...]:
        assert self.next is not None
        start = self.next - datetime.resolution
        found = self.schedule.between(start, until, limit=limit)
        if not found or found[-1] > until or any(starmap(ge, pairwise(found))):
            raise ValueError(
                f"last_before() of {short(self.schedule)} does not agree with its next_after()"
            )
        return found

    def _at(self, now: Now) -> datetime:
        return now.wall

    def _number(self, slot: datetime) -> float:
        return slot.timestamp()

    def _wall(self, slot: datetime, now: Now) -> datetime:
        return slot


class TickTrack(Track):
    """On an interval, by Trio's clock."""

    __slots__ = ("begun", "every")

    def __init__(self, job: Job, every: Every, now: Now, random: Random) -> None:
        super().__init__(job, random)
        self.every = every
        self.begun = now.tick
        self.plan(every.first(now.tick))

    def ended(self, tick: float) -> bool:
        """Hear that a run has ended, or that there was none; say if that sets the next."""
        if self.every.mode == "rate" or self.next is not None:
            return False
        self.plan(self.every.next_after(tick, start=self.begun))
        return True

    def _after(self, slot: float) -> float | None:
        if self.every.mode == "delay":  # which is known when the run has ended
            return None
        return self.every.next_after(slot, start=self.begun)

    def _between(self, until: float, limit: int) -> tuple[float, ...]:
        assert self.next is not None
        start = math.nextafter(self.next, -math.inf)
        return self.every.between(start, until, start=self.begun, limit=limit)

    def _at(self, now: Now) -> float:
        return now.tick

    def _number(self, slot: float) -> float:
        return slot

    def _wall(self, slot: float, now: Now) -> datetime:
        return now.wall_at(slot)


class Entry:
    """A job of a scheduler, and how far it is."""

    def __init__(self, job: Job, number: int, *, active: bool) -> None:
        self.job = job
        self.number = number
        self.active = active
        self.error: Exception | None = None
        self.track: Track | None = None

    @property
    def state(self) -> JobState:
        """Where it stands."""
        if not self.active:
            return "inactive"
        if self.error is not None:
            return "errored"
        pausing = isinstance(self.track, TickTrack)  # between a run and the delay after it
        return "active" if pausing or (self.track and self.track.next) else "finished"


E = TypeVar("E", bound=Entry)


class Agenda(Generic[E]):
    """When the jobs of a scheduler are due."""

    __slots__ = ("_by_tick", "_by_wall", "_random")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._by_wall: Timers[E] = Timers()
        self._by_tick: Timers[E] = Timers()

    def track(self, job: Job, now: Now, done: datetime | None = None) -> Track:
        """Begin with the schedule of a job: with the slots after `done`, by default after now.

        Raises:
            Exception: Whatever a schedule of the user's raises.
        """
        schedule = job.schedule
        if isinstance(schedule, Every):
            return TickTrack(job, schedule, now, self._random)
        track = CalendarTrack(job, schedule, done or now.wall, self._random)
        if track.done > now.wall:  # set back while nobody looked
            track.set_back(0, now)
        return track

    def enter(self, entry: E, track: Track) -> None:
        """Wait for the next slot on a track."""
        entry.track, entry.error = track, None
        self.wait(entry)

    def wait(self, entry: E) -> None:
        """Wait for the next slot of a job."""
        track = entry.track
        assert track is not None
        mine, other = self._by_wall, self._by_tick
        if isinstance(track, TickTrack):
            mine, other = other, mine
        other.drop(entry)
        mine.set(entry, track.start, entry.number)

    def leave(self, entry: E) -> None:
        """Stop waiting for a job."""
        entry.track = None
        self._by_wall.drop(entry)
        self._by_tick.drop(entry)

    def seconds_left(self, now: Now) -> float:
        """Give the seconds until some job is due; infinity if none ever is, 0 or less if now."""
        return min(
            self._by_wall.next_at() - now.wall.timestamp(), self._by_tick.next_at() - now.tick
        )

    def take_due(self, now: Now) -> E | None:
        """Take out the job that is due next, by slot, then by age; `None` if none is."""
        wall, tick = now.wall.timestamp(), now.tick
        (wall_at, wall_rank), (tick_at, tick_rank) = self._by_wall.next(), self._by_tick.next()
        by_wall, by_tick = wall_at <= wall, tick_at <= tick
        if by_wall and by_tick:
            # To the microsecond, as datetimes are: each clock has its own rounding.
            first, second = (
                (round(wall_at - wall, 6), wall_rank),
                (round(tick_at - tick, 6), tick_rank),
            )
            by_wall = first <= second
        if by_wall:
            return self._by_wall.take_due(wall, most=1)[0]
        return self._by_tick.take_due(tick, most=1)[0] if by_tick else None

    def take_slots(self, entry: E, now: Now) -> Due:
        """Say what is to be done about a job that is due, and wait for its next slot.

        Raises:
            Exception: Whatever a schedule of the user's raises.
        """
        assert entry.track is not None  # else it is not due
        job = entry.job
        most = job.catch_up_limit if job.catch_up == "all" else 1
        slots, more = entry.track.take(now, most + MOST_TOLD)
        self.wait(entry)
        run = tuple(slot for slot in slots[-most:] if slot.lateness <= job.lateness_allowed)
        missed = tuple(slot.at for slot in slots[: len(slots) - len(run)])
        return Due(run, missed, more)

    def ended(self, entry: E, tick: float) -> bool:
        """Hear that a run of a job has ended, or that there was none; say if that sets the next."""
        if isinstance(entry.track, TickTrack) and entry.track.ended(tick):
            self.wait(entry)
            return True
        return False

    def set_back(self, entry: E, seconds: float, now: Now) -> bool:
        """Find the place of a job again after the wall clock was set back; say if it is another."""
        moved = isinstance(entry.track, CalendarTrack) and entry.track.set_back(seconds, now)
        if moved:
            self.wait(entry)
        return moved

    def next_slot(self, entry: E, now: Now) -> datetime | None:
        """Give when a job comes next."""
        track = entry.track
        if track is None or track.next is None:
            return None
        try:
            return track._wall(track.next, now)
        except OverflowError:  # beyond the years that a datetime knows
            return None

    def __len__(self) -> int:
        """Give how many places in memory it takes: not more than twice its jobs and some."""
        return self._by_wall.size() + self._by_tick.size()
