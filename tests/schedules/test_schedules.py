"""Schedules that are no cron expressions: once, every so often, one's own."""

import math
import pickle
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers_schedules import at
from trio_otp import At, Cron, Every, Jitter, Schedule

NOON = at("2026-01-01 12:00")


# --- At ----------------------------------------------------------------------------------


def test_once():
    """A moment has one slot, which is neither before nor after itself."""
    once = At(NOON)
    early, late = NOON - datetime.resolution, NOON + datetime.resolution
    assert [once.next_after(moment) for moment in (early, NOON, late)] == [NOON, None, None]
    assert [once.last_before(moment) for moment in (early, NOON, late)] == [None, None, NOON]
    assert once.between(early, NOON) == (NOON,)
    assert once.between(NOON, late) == ()
    assert not once.at_start


def test_once_is_kept_in_utc():
    """A moment is a value, whatever the zone it was written in."""
    once = At(datetime(2026, 1, 1, 13, tzinfo=ZoneInfo("Europe/Berlin")))
    assert once.moment.tzinfo is UTC
    assert {once, At(NOON), pickle.loads(pickle.dumps(once))} == {At(NOON)}


def test_second_pass():
    """A moment in the hour that is repeated is the pass that it says."""
    night = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert At(night).moment == at("2026-10-25 00:30")
    assert At(night.replace(fold=1)).moment == at("2026-10-25 01:30")


@pytest.mark.parametrize(
    ("moment", "error", "says"),
    [
        (datetime(2026, 1, 1), ValueError, "moment must be an aware datetime, .* without a zone"),
        ("2026-01-01", TypeError, "moment must be an aware datetime, got '2026-01-01'"),
        (
            datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
            ValueError,
            "moment must be a time that clocks show",
        ),
    ],
)
def test_no_moment(moment, error, says):
    """What is no moment, or one that the clocks of its zone skip, is refused."""
    with pytest.raises(error, match=says):
        At(moment)


# --- slots between two moments -----------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 1, 7, 12, 13, 100])
def test_between(limit):
    """The end is taken in, the beginning is not, and of too many the newest are given, in order."""
    hourly = [NOON + timedelta(hours=n) for n in range(1, 13)]
    found = Cron("@hourly").between(NOON, hourly[-1], limit=limit)
    assert [*found] == hourly[max(0, 12 - limit) :]


def test_between_in_no_time():
    """The work does not grow with the stretch: ten years of seconds are found from the end."""
    end = NOON.replace(year=2036)
    assert Cron("@secondly").between(NOON, end, limit=1) == (end,)


@pytest.mark.parametrize(
    ("after", "until", "limit", "error", "says"),
    [
        (datetime(2026, 1, 1), NOON, 1, ValueError, "after must be an aware datetime"),
        (NOON, datetime(2026, 1, 1), 1, ValueError, "until must be an aware datetime"),
        (NOON, NOON, -1, ValueError, "limit must be at least 0"),
        (NOON, NOON, 1.5, TypeError, "limit must be a whole number"),
    ],
)
def test_wrong_between(after, until, limit, error, says):
    """Wrong ends and limits are refused by name, also where there is no slot."""
    with pytest.raises(error, match=says):
        Cron("@yearly").between(after, until, limit=limit)


def test_own_schedule():
    """A class of one's own defines two methods and has the rest."""

    class Doubling(Schedule):
        """1, 2, 4, 8, ... seconds after noon."""

        def next_after(self, moment):
            return min((slot for slot in self.slots() if slot > moment), default=None)

        def last_before(self, moment):
            return max((slot for slot in self.slots() if slot < moment), default=None)

        def slots(self):
            return [NOON + timedelta(seconds=2**n) for n in range(5)]

    found = Doubling().between(NOON + timedelta(seconds=2), NOON + timedelta(hours=1), limit=2)
    assert [*found] == [NOON + timedelta(seconds=8), NOON + timedelta(seconds=16)]
    assert Doubling.jitter == Jitter(0)
    assert not Doubling().at_start


def test_own_schedule_that_stands_still():
    """A schedule that never goes back is asked no more often than the limit says."""

    class Stuck(Schedule):
        def next_after(self, moment):
            return NOON

        def last_before(self, moment):
            return NOON

    assert len(Stuck().between(at("2020-01-01"), NOON, limit=5)) == 5


# --- Every -------------------------------------------------------------------------------


def test_grid():
    """At a rate, ticks stay on the grid of the start, however late one looks."""
    every = Every(60)
    assert every.first(100) == 160
    assert [every.next_after(t, start=0) for t in (0, 59.9, 60, 80, 179, 180)] == [
        60, 60, 120, 120, 180, 240,
    ]  # fmt: skip


def test_grid_does_not_drift():
    """The ten thousandth tick is where it must be, to the last bit."""
    every, moment = Every(60), 0.0
    for _ in range(10_000):
        moment = every.next_after(moment + 0.01, start=0)
    assert moment == 600_000


def test_delay():
    """With a delay, the next run starts one period after the end of the last."""
    every = Every(60, mode="delay")
    assert every.first(0) == 60
    assert every.next_after(0, start=0) == 60
    assert every.next_after(80, start=0) == 140
    assert every.next_after(160, start=0) == 220


@pytest.mark.parametrize(
    ("initial_delay", "ticks"),
    [(None, [60, 120]), (0, [0, 60]), (10, [10, 70]), (timedelta(minutes=5), [300, 360])],
)
def test_initial_delay(initial_delay, ticks):
    """The first tick comes after one period, or when it is told to; the others follow it."""
    every = Every(60, initial_delay=initial_delay)
    assert [every.first(0), every.next_after(every.first(0), start=0)] == ticks


def test_ticks_between():
    """A stall of 95 s leaves the ticks that were missed, and the next is back on the grid."""
    every = Every(10)
    assert every.between(10, 105, start=0) == (20, 30, 40, 50, 60, 70, 80, 90, 100)
    assert every.between(10, 105, start=0, limit=1) == (100,)
    assert every.between(10, 20, start=0) == (20,)
    assert every.between(0, 9, start=0) == ()
    assert every.next_after(105, start=0) == 110


def test_ticks_between_for_delays():
    """Without a grid only the first tick is known, so nothing piles up."""
    every = Every(10, mode="delay")
    assert every.between(0, 1000, start=0) == (10,)
    assert every.between(10, 1000, start=0) == ()


@given(
    st.floats(1e-6, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.integers(0, 10**6),
    st.sampled_from([-1, 0, 1]),
)
def test_any_grid(seconds, initial_delay, start, number, nudge):
    """At and right beside any tick, the next is later, none lies between, and both views agree."""
    every = Every(seconds, initial_delay=initial_delay)
    moment = every.first(start) + number * seconds
    moment = math.nextafter(moment, moment + nudge)
    tick = every.next_after(moment, start=start)
    assert tick > moment
    assert every.between(moment, tick, start=start) == (tick,)
    assert every.between(moment, math.nextafter(tick, -math.inf), start=start) == ()


@pytest.mark.conforms("SCHED-119")
def test_periods_of_any_kind():
    """A period may be a number or a timedelta; equal ones are equal values."""
    assert {Every(90), Every(90.0), Every(timedelta(minutes=1.5))} == {Every(90)}
    assert pickle.loads(pickle.dumps(Every(1, jitter=0.5))) == Every(1, jitter=Jitter(0.5))


@pytest.mark.conforms("SCHED-119")
@pytest.mark.parametrize(
    ("seconds", "error", "says"),
    [
        (0, ValueError, "seconds must be at least a microsecond, got 0"),
        (1e-9, ValueError, "seconds must be at least a microsecond, got 1e-09"),
        (-1, ValueError, "seconds must not be negative, got -1"),
        (timedelta(seconds=-1), ValueError, "seconds must not be negative"),
        (math.nan, ValueError, "seconds must not be negative, got nan"),
        (math.inf, ValueError, "seconds must be finite, got inf"),
        ("5", TypeError, "seconds must be a number of seconds"),
        (None, TypeError, "seconds must be a number of seconds"),
        (True, TypeError, "seconds must be a number of seconds"),
    ],
)
def test_wrong_period(seconds, error, says):
    """A period that is none is refused."""
    with pytest.raises(error, match=says):
        Every(seconds)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"mode": "fixed"}, ValueError, "mode must be one of 'rate', 'delay', got 'fixed'"),
        ({"initial_delay": -1}, ValueError, "initial_delay must not be negative, got -1"),
        ({"initial_delay": math.inf}, ValueError, "initial_delay must be finite, got inf"),
        ({"jitter": -1}, ValueError, "jitter must not be negative, got -1"),
    ],
)
def test_wrong_every(options, error, says):
    """A wrong option is refused by a message that names it."""
    with pytest.raises(error, match=says):
        Every(10, **options)


# --- Jitter ------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-132")
@pytest.mark.parametrize("jitter", [10, 11, Jitter(timedelta(minutes=1), stable=True)])
def test_jitter_longer_than_the_period(jitter):
    """A jitter that could reach the next tick is refused where that is known."""
    with pytest.raises(ValueError, match="jitter must be less than the period of 10 s, got"):
        Every(10, jitter=jitter)


@pytest.mark.conforms("SCHED-132")
@pytest.mark.parametrize("stable", [False, True])
def test_jitter_keeps_to_the_room(stable):
    """Where the next slot is nearer than the jitter is long, the start stays before that slot."""
    dice, jitter = random.Random(1), Jitter(3600, stable=stable)
    delays = [jitter.delay(name=f"job {n}", room=60, random=dice) for n in range(1000)]
    assert 0 <= min(delays) < 1
    assert 59 < max(delays) < 60


@pytest.mark.conforms("SCHED-131")
def test_seeded_jitter():
    """Delays are drawn from the source that is given, so that a seed repeats them."""
    jitter = Jitter(600)

    def delays(seed):
        dice = random.Random(seed)
        return [jitter.delay(name="job", room=3600, random=dice) for _ in range(100)]

    assert delays(1) == delays(1) != delays(2)
    assert len({*delays(1)}) == 100


@pytest.mark.conforms("SCHED-131")
def test_stable_jitter():
    """A stable delay depends on the name alone, in this program and in any other."""
    jitter, dice = Jitter(1000, stable=True), random.Random(1)
    delays = {
        name: {jitter.delay(name=name, room=3600, random=dice) for _ in range(10)}
        for name in ("backup", "report")
    }
    assert {name: [round(delay, 3) for delay in each] for name, each in delays.items()} == {
        "backup": [743.573],
        "report": [554.787],
    }


def test_wrong_jitter():
    """What is no jitter is refused by name."""
    with pytest.raises(ValueError, match="jitter must be finite"):
        Jitter(math.inf)
    with pytest.raises(TypeError, match="stable"):
        Jitter(1, stable="name")
