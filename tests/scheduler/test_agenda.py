"""The agenda and the watch over the clocks, without a scheduler: random schedules, steps of time, and jumps."""

import math
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from random import Random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_otp import Cron, Every, Jitter, Job, Schedule
from trio_otp._agenda import Agenda, Entry, Slot
from trio_otp._wall_clock import ClockWatch, Now

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = 60, 3600, 86400


async def noop():
    pass


@attrs.frozen
class Listed(Schedule):
    """Slots that are listed, so that a test knows them without asking anybody's calendar."""

    slots: tuple[datetime, ...]
    keeps_real_time: bool
    jitter: object = Schedule.jitter

    def next_after(self, moment):
        at = bisect_right(self.slots, moment)
        return self.slots[at] if at < len(self.slots) else None

    def last_before(self, moment):
        at = bisect_left(self.slots, moment)
        return self.slots[at - 1] if at else None


@attrs.frozen
class Look:
    """What one look at the clocks brought."""

    now: Now
    jump: float
    moved: bool
    """Whether the job began anew, since the wall clock was set back."""
    told: tuple[datetime, ...]
    """The slots that were missed and those to be run."""
    run: tuple[Slot, ...]
    more: bool


class Observer:
    """One job, and a loop that only looks."""

    def __init__(self, job, wall=NEW_YEAR, tick=0.0):
        self.wall, self.tick = wall, tick
        self.agenda = Agenda(Random(1))
        self.watch = ClockWatch(self.now, 30)
        self.entry = Entry(job, 1, active=True)
        self.agenda.enter(self.entry, self.agenda.track(job, self.now))

    @property
    def now(self):
        return Now(self.wall, self.tick)

    def look(self, step, jump=0.0):
        """Let time pass and the wall clock be set, and do what a scheduler does then."""
        self.tick += step
        self.wall += timedelta(seconds=step + jump)
        seen = self.watch.jump(self.now)
        moved = seen < 0 and self.agenda.set_back(self.entry, -seen, self.now)
        told, run, more = [], [], False
        while (entry := self.agenda.take_due(self.now)) is not None:
            due = self.agenda.take_slots(entry, self.now)
            told += (*due.missed, *(slot.at for slot in due.run))
            run += due.run
            more |= due.more
        return Look(self.now, seen, moved, tuple(told), tuple(run), more)


def stretches(looks):
    """Part looks where the job began anew."""
    parts = [[]]
    for look in looks:
        if look.moved:
            parts.append([])
        parts[-1].append(look)
    return [part for part in parts if part]


def told(looks):
    return [slot for look in looks for slot in look.told]


# --- what is drawn -------------------------------------------------------------------------------

SECONDS = st.one_of(st.integers(0, most * 10**6) for most in (1, 90, 3 * HOUR)).map(
    lambda micro: micro / 10**6
)
JUMPS = st.one_of(
    st.just(0.0),
    st.floats(-2, 2, allow_nan=False),
    st.integers(-90, 90).map(float),
    st.integers(-5 * HOUR, 5 * HOUR).map(float),
    st.integers(-400 * DAY, 400 * DAY).map(float),
)
TIMES = st.lists(st.tuples(SECONDS, JUMPS), min_size=1, max_size=30)
# Mostly set back, by less than what lets a job begin anew at once.
NUDGES = st.lists(st.tuples(st.floats(0, 200), st.floats(-70, 10)), min_size=1, max_size=30)
FORWARD = st.lists(st.tuples(SECONDS, JUMPS.map(abs)), min_size=1, max_size=30)


NONE = st.just(Schedule.jitter)


@st.composite
def listed(draw, beat=None, jitter=NONE):
    gaps = draw(st.lists(st.integers(1, 90) | st.integers(1, 40_000), min_size=1, max_size=120))
    first = NEW_YEAR - timedelta(seconds=draw(st.sampled_from([0, 0, HOUR, DAY])))
    slots = tuple(first + timedelta(seconds=s) for s in accumulate(gaps))
    return Listed(slots, draw(st.booleans()) if beat is None else beat, draw(jitter))


BEATS = st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "*/20 * * * * *", "5 */3 * * *"])
TIMES_OF_DAY = st.sampled_from(["30 2 * * *", "0,15 0,1,3 * * *", "@daily", "0 12 1 * *"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
CRONS = st.builds(lambda text, zone: Cron(text, timezone=zone), BEATS | TIMES_OF_DAY, ZONES)
POLICIES = st.fixed_dictionaries(
    {
        "catch_up": st.sampled_from(["latest", "all", "none"]),
        "catch_up_limit": st.integers(1, 150),
        "misfire_grace": st.none() | st.floats(0, 10 * HOUR),
    }
)


# --- every slot once -----------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-041", "SCHED-046")
@pytest.mark.reports("node-cron#492", "node-cron#517", "good_job#1543", "node-crontab#7")
@given(schedule=listed() | CRONS, policy=POLICIES, times=TIMES)
def test_slots_of_a_calendar_are_told_once_and_all(schedule, policy, times):
    """Whatever the clock does: between two new beginnings slots only increase, and none is left out."""
    observer = Observer(Job("job", schedule, noop, **policy))
    begun = observer.wall
    looks = [observer.look(*time) for time in times]
    for part in stretches(looks):
        assert all(before < after for before, after in pairwise(told(part)))
        begun = part[0].now.wall if part[0].moved else begun
        for look in part:
            expected = schedule.between(begun, look.now.wall, limit=1000)
            assert look.told == expected[len(expected) - len(look.told) :]
            assert look.more == (len(look.told) < len(expected))
            begun = max(begun, look.now.wall)


@pytest.mark.conforms("SCHED-044", "SCHED-045")
@given(schedule=listed() | CRONS, times=TIMES | NUDGES)
def test_jobs_begin_anew_for_a_reason(schedule, times):
    """Only set back; times of day by more than three hours, a beat by one of its steps, in one go or in several."""
    observer = Observer(Job("job", schedule, noop))
    done = observer.wall
    for step, jump in times:
        coming = observer.entry.track.next
        look = observer.look(step, jump)
        back = max(-look.jump, (done - look.now.wall).total_seconds())
        assert look.moved == (look.jump < 0 and back >= limit(schedule, coming))
        if look.moved or look.told:
            done = look.now.wall if look.moved else look.told[-1]


def limit(schedule, coming):
    """The seconds of a set-back that let a job begin anew."""
    longest = math.nextafter(3 * HOUR, math.inf)
    before = coming and schedule.keeps_real_time and schedule.last_before(coming)
    return min(longest, (coming - before).total_seconds()) if before else longest


@pytest.mark.conforms("SCHED-044")
@given(schedule=listed(beat=False), times=TIMES)
def test_time_of_day_is_never_told_twice(schedule, times):
    """Unless the clock goes back by more than three hours."""
    observer = Observer(Job("job", schedule, noop))
    highest, looks = observer.wall, []
    for step, jump in times:
        low = highest - timedelta(hours=3) - observer.wall
        looks.append(observer.look(step, max(jump, low.total_seconds())))
        highest = max(highest, observer.wall)
    assert not any(look.moved for look in looks)
    assert all(before < after for before, after in pairwise(told(looks)))


@pytest.mark.conforms("SCHED-044")
@pytest.mark.reports("quartznet#3147")
@given(st.sampled_from(["* * * * *", "*/20 * * * * *", "0 * * * *"]), TIMES | NUDGES)
def test_beat_is_never_two_steps_away(text, times):
    """As the clock shows them, however often and by however little that is set back."""
    beat = Cron(text)
    step = (beat.next_after(beat.next_after(NEW_YEAR)) - beat.next_after(NEW_YEAR)).total_seconds()
    observer = Observer(Job("job", beat, noop))
    for passed, jump in times:
        look = observer.look(passed, jump)
        if look.jump:  # less than a second is none
            assert observer.agenda.seconds_left(observer.now) <= 2 * step


@pytest.mark.conforms("SCHED-045")
def test_times_of_day_come_back_if_the_clock_goes_back_again_and_again():
    """Two hours at a time: what was done is done, until it lies more than three hours ahead."""
    observer = Observer(Job("job", Cron("0 12 * * *"), noop))
    noon = NEW_YEAR + timedelta(hours=12)
    assert observer.look(12.5 * HOUR).told == (noon,)
    assert [observer.look(0, -2.0 * HOUR).moved for _ in range(3)] == [False, True, False]
    assert observer.look(6 * HOUR).told == (noon,)


@pytest.mark.conforms("SCHED-044", "SCHED-045")
@pytest.mark.parametrize(
    ("text", "ahead", "hours"),
    [
        ("0 * * * *", 0.5, 1),
        ("0 * * * *", 2, 1),
        ("0 1 * * *", 2, 25),
        ("0 1 * * *", 4, 1),
    ],
)
def test_clock_that_was_set_back_while_nobody_looked(text, ahead, hours):
    """Slots that storage counts as done lie ahead: the same as if the scheduler had seen it."""
    done = NEW_YEAR + timedelta(hours=ahead)
    track = Agenda(Random(1)).track(Job("job", Cron(text), noop), Now(NEW_YEAR, 0.0), done)
    assert track.next == NEW_YEAR + timedelta(hours=hours)


# --- which of them are run ---------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-041", "SCHED-043")
@given(schedule=listed() | CRONS, policy=POLICIES, times=FORWARD)
def test_newest_are_run(schedule, policy, times):
    """As many as the policy says, and none that is later than it may be."""
    job = Job("job", schedule, noop, **policy)
    observer = Observer(job)
    most = job.catch_up_limit if job.catch_up == "all" else 1
    for time in times:
        look = observer.look(*time)
        in_time = [
            slot
            for slot in look.told
            if look.now.wall.timestamp() - slot.timestamp() <= job.lateness_allowed
        ]
        assert [slot.at for slot in look.run] == in_time[-most:]


@pytest.mark.conforms("SCHED-130", "SCHED-132")
@given(schedule=listed(jitter=st.builds(Jitter, st.sampled_from([1, HOUR, DAY]))), times=FORWARD)
def test_jitter_moves_no_slot(schedule, times):
    """Only the newest slot may still wait for its start, which is before the next slot."""
    observer = Observer(Job("job", schedule, noop, catch_up="all", catch_up_limit=1000))
    looks = []
    for time in times:
        coming, start = observer.entry.track.next, observer.entry.track.start
        if coming is not None:
            following = schedule.next_after(coming)
            assert coming.timestamp() <= start
            assert following is None or start <= following.timestamp()
        look = observer.look(*time)
        looks.append(look)
        for slot in look.run:
            planned = start if slot.at == coming else slot.at.timestamp()
            assert abs(slot.scheduled.timestamp() - planned) < 1e-5
            late = max(0, look.now.wall.timestamp() - planned)
            assert abs(slot.lateness - late) < 1e-5
    expected = list(schedule.between(NEW_YEAR, observer.wall, limit=1000))
    assert told(looks) in (expected, expected[:-1])


# --- intervals ---------------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-114", "SCHED-115", "SCHED-110")
@given(
    period=st.floats(1e-3, HOUR),
    initial=st.none() | st.floats(0, HOUR),
    tick=st.floats(0, 1e7),
    times=TIMES,
)
def test_ticks_are_told_once_and_all(period, initial, tick, times):
    """A grid from the first to the last, by multiplication; no jump of the wall clock is seen in it."""
    job = Job("job", Every(period, initial_delay=initial), noop, catch_up="all", catch_up_limit=50)
    observer, alone = Observer(job, tick=tick), Observer(job, tick=tick)
    first = tick + (period if initial is None else initial)
    number = 0
    for step, jump in times:
        look, other = observer.look(step, jump), alone.look(step)
        assert (len(look.told), len(look.run), look.more) == (
            len(other.told), len(other.run), other.more,
        )  # fmt: skip
        before, number = number, ticks_until(observer.tick, first, period)
        due = number - before
        assert len(look.told) == min(due, 150)
        assert len(look.run) == min(due, 50)
        assert look.more == (due > 150)
        assert observer.entry.track.next == first + number * period
        assert not look.moved


def ticks_until(tick, first, period):
    """Count by trying: the ticks are products, and their order is what counts."""
    number = max(0, int((tick - first) / period) - 2)
    while first + number * period <= tick:
        number += 1
    return number


@pytest.mark.conforms("SCHED-111")
@given(period=st.floats(1e-3, HOUR), times=st.lists(st.tuples(SECONDS, SECONDS), min_size=1))
def test_delay_counts_from_the_end(period, times):
    """Until the end of a run nothing is due, however long it takes; then it is a period away."""
    observer = Observer(Job("job", Every(period, mode="delay"), noop))
    expected = period
    for wait, work in times:
        look = observer.look(wait)
        if observer.tick < expected:
            assert look.told == ()
            continue
        assert len(look.told) == 1
        assert observer.agenda.seconds_left(observer.now) == math.inf
        assert observer.look(work).told == ()
        assert observer.agenda.ended(observer.entry, observer.tick)
        assert not observer.agenda.ended(observer.entry, observer.tick)
        expected = observer.tick + period


# --- the watch -----------------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-051", "SCHED-045")
@given(
    steps=st.lists(
        st.tuples(
            st.floats(1, HOUR), st.floats(-DAY, DAY).filter(lambda jump: abs(abs(jump) - 1) > 1e-4)
        ),
        min_size=1,
    )
)
def test_every_jump_is_seen_once(steps):
    """With its size, at the next look; a second is none, and nothing else is one."""
    observer = Observer(Job("job", Cron("@yearly"), noop))
    for step, jump in steps:
        expected = jump if abs(jump) > 1 else 0
        assert observer.look(step, jump).jump == pytest.approx(expected, abs=1e-4)
        assert observer.look(step).jump == 0


@pytest.mark.conforms("SCHED-051")
@given(rate=st.floats(-5e-4, 5e-4), steps=st.lists(st.floats(0.001, 30), min_size=1, max_size=200))
def test_slewing_is_no_jump(rate, steps):
    """As fast as clocks are put right, and for as long as it takes."""
    observer = Observer(Job("job", Cron("@yearly"), noop))
    assert not any(observer.look(step, step * rate).jump for step in steps)


# --- who is next ---------------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-090", "SCHED-081", "SCHED-082")
@given(st.data())
def test_those_that_are_due_come_by_slot_then_by_age(data):
    """Of both clocks together, through joining, leaving and joining again; and nobody who left."""
    agenda, now = Agenda(Random(1)), Now(NEW_YEAR, 0.0)
    seconds = st.integers(1, 50)
    due, entries = {}, []
    for number in range(data.draw(st.integers(1, 12))):
        second = data.draw(seconds)
        schedule = data.draw(
            st.sampled_from([Cron(f"{second} * * * * *"), Every(HOUR, initial_delay=second)])
        )
        entry = Entry(Job(str(number), schedule, noop), number, active=True)
        agenda.enter(entry, agenda.track(entry.job, now))
        entries.append(entry)
        due[entry] = second
    for entry in data.draw(st.lists(st.sampled_from(entries))):
        if entry in due:
            agenda.leave(entry)
            del due[entry]
        else:
            agenda.enter(entry, agenda.track(entry.job, now))
            due[entry] = second = next_second(entry)
            assert entry.track.next is not None
    soon = data.draw(seconds)
    assert agenda.seconds_left(now) == min(due.values(), default=math.inf)
    then = Now(NEW_YEAR + timedelta(seconds=soon), float(soon))
    taken = [*iter(lambda: agenda.take_due(then), None)]
    expected = sorted((second, entry.number) for entry, second in due.items() if second <= soon)
    assert [entry.number for entry in taken] == [number for _, number in expected]


def next_second(entry):
    schedule = entry.job.schedule
    if isinstance(schedule, Every):
        return schedule.initial_delay
    return schedule.next_after(NEW_YEAR).second


def test_one_clock_is_due_a_moment_before_the_other():
    """Whichever is due is taken, also if the other will be in less than a microsecond."""
    agenda, now = Agenda(Random(1)), Now(NEW_YEAR, 100.0)
    jobs = [Job("cron", Cron("* * * * *"), noop), Job("tick", Every(1), noop)]
    cron, tick = (Entry(job, number, active=True) for number, job in enumerate(jobs))
    for entry in (cron, tick):
        agenda.enter(entry, agenda.track(entry.job, now))
    agenda._by_wall.set(cron, now.wall.timestamp() + 3e-7, cron.number)
    agenda._by_tick.set(tick, now.tick, tick.number)
    assert agenda.seconds_left(now) == 0
    assert agenda.take_due(now) is tick
    assert agenda.take_due(now) is None
