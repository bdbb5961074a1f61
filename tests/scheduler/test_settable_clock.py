"""The clock of the test kit, and what becomes of a test that forgets it."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trio_otp import Cron, Job, Scheduler, SystemClock, WallClock
from trio_otp._wall_clock import ClockWatch, Now
from trio_otp.testing import SettableClock

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


async def noop():
    pass


@pytest.mark.conforms("SCHED-150")
async def test_goes_with_trios_clock(autojump_clock):
    """From the moment in which it is first looked at."""
    clock = SettableClock(NOON)
    await trio.sleep(5)
    assert clock.now() == NOON
    await trio.sleep(3600.5)
    assert clock.now() == NOON + timedelta(seconds=3600.5)


def test_stands_still_between_two_runs():
    """It goes on from where it was last seen, whatever Trio's clock says in the next run."""
    clock, seen = SettableClock(NOON), []

    async def look(seconds):
        seen.append(clock.now())
        await trio.sleep(seconds)
        seen.append(clock.now())

    for seconds in (60, 5):
        trio.run(look, seconds, clock=MockClock(autojump_threshold=0))
    assert [(moment - NOON).total_seconds() for moment in seen] == [0, 60, 60, 65]


@pytest.mark.conforms("SCHED-150")
async def test_can_be_set(autojump_clock):
    """By an amount, to a moment, or by a sleep of the machine; then it goes on."""
    clock = SettableClock(NOON)
    clock.jump(60)
    clock.jump(timedelta(minutes=-3))
    assert clock.now() == NOON - timedelta(minutes=2)
    clock.suspend(timedelta(days=1))
    assert clock.now() == NOON + timedelta(days=1, minutes=-2)
    clock.set_to(NOON)
    await trio.sleep(1)
    assert clock.now() == NOON + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("method", "value", "error", "words"),
    [
        ("jump", "5", TypeError, "seconds must be a number of seconds or a timedelta, got '5'"),
        ("jump", True, TypeError, "seconds must be a number of seconds"),
        ("jump", float("inf"), ValueError, "seconds must be finite, got inf"),
        ("suspend", -5, ValueError, "seconds must not be negative, got -5: use jump"),
        ("set_to", NOON.replace(tzinfo=None), ValueError, "moment must be an aware datetime"),
        ("set_to", 5, TypeError, "moment must be an aware datetime, got 5"),
    ],
)
async def test_bad_times(autojump_clock, method, value, error, words):
    """Are refused, and the clock is as it was."""
    clock = SettableClock(NOON)
    clock.now()
    with pytest.raises(error) as caught:
        getattr(clock, method)(value)
    assert words in str(caught.value)
    assert clock.now() == NOON


def test_start_needs_a_zone():
    """A naive datetime could mean any moment."""
    with pytest.raises(ValueError, match="start must be an aware datetime"):
        SettableClock(datetime(2026, 1, 1))


@pytest.mark.conforms("SCHED-150")
def test_kinds_of_clock():
    """Whatever tells an aware datetime is a clock; by default it is that of the machine, in UTC."""
    assert isinstance(SettableClock(), WallClock)
    assert isinstance(SystemClock(), WallClock)
    assert SystemClock().now().utcoffset() == timedelta(0)
    assert abs(SystemClock().now() - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.conforms("SCHED-151")
@pytest.mark.parametrize("max_sleep", [30, 1, None])
async def test_forgotten_clock(autojump_clock, max_sleep):
    """Trio's time flies and the machine's stands: the scheduler says so instead of spinning for ever."""
    with pytest.raises(RuntimeError, match=r"pass clock=SettableClock\(\) of trio_otp\.testing"):
        async with Scheduler([Job("a", Cron("@yearly"), noop)], max_sleep=max_sleep):
            await trio.sleep(10**9)


@pytest.mark.conforms("SCHED-151", "SCHED-051")
def test_watching_two_clocks():
    """A jump is what the wall clock gained or lost between two looks, if it is more than a second."""
    wall, tick = NOON, 0.0
    watch = ClockWatch(Now(wall, tick), 30)
    for gained, jump in [(0, 0), (0.9, 0), (-1, 0), (1.5, 1.5), (-3600, -3600), (0, 0)]:
        wall, tick = wall + timedelta(seconds=30 + gained), tick + 30
        assert watch.jump(Now(wall, tick)) == pytest.approx(jump)


@pytest.mark.conforms("SCHED-151")
def test_clock_that_is_set_back_again_and_again():
    """Is no clock that stands still, as long as it is not always at the same place."""
    watch = ClockWatch(Now(NOON, 0.0), 30)
    for look in range(1, 100):
        watch.jump(Now(NOON + timedelta(seconds=look % 3 * 10), look * 30.0))
    with pytest.raises(RuntimeError, match="the wall clock stood still"):
        for look in range(100, 200):
            watch.jump(Now(NOON, look * 30.0))


@pytest.mark.conforms("SCHED-034")
async def test_zone_of_the_machine_means_nothing(autojump_clock, clock, diary, monkeypatch):
    """Whatever it is, and even if it changes."""
    async with Scheduler([Job("a", Cron("0 3 * * *"), diary.work)], clock=clock):
        await trio.sleep(3600)
        monkeypatch.setitem(os.environ, "TZ", "Asia/Tokyo")
        await trio.sleep(2 * 86400)
    assert diary.slots == ["03:00:00", "03:00:00"]


@pytest.mark.real
@pytest.mark.conforms("SCHED-153")
def test_zones_of_a_package():
    """Where the system has no files of time zones, those of the package tzdata do, in all nights."""
    tests = Path(__file__).parent.parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not real"]
    nights = [
        str(tests / "schedules" / "test_daylight.py"),
        str(tests / "scheduler" / "test_clock.py"),
    ]
    done = subprocess.run(
        [*command, *nights], env={**os.environ, "PYTHONTZPATH": "", "PYTEST_ADDOPTS": ""},
        stdout=subprocess.PIPE, text=True, cwd=tests.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.conforms("SCHED-033")
@pytest.mark.reports("quantum-core#248")
async def test_zone_of_the_scheduler_and_of_the_job(autojump_clock, clock):
    """The scheduler's is for those that name none."""
    jobs = [
        Job("its", Cron("0 12 * * *"), noop),
        Job("own", Cron("0 12 * * *", timezone="America/New_York"), noop),
    ]
    async with Scheduler(jobs, clock=clock, timezone="Europe/Berlin") as scheduler:
        await scheduler.add(Job("added", Cron("0 12 * * *"), noop))
        hours = {job.name: job.next_slot.hour for job in scheduler.jobs}
        assert str(scheduler.find("its").job.schedule.timezone) == "Europe/Berlin"
    assert hours == {"its": 11, "own": 17, "added": 11}
