"""The time of day: set forward, set back, asleep, standing still; and slots that went by."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import trio
import trio.lowlevel

from trio_otp import (
    At,
    ClockJumped,
    Cron,
    Every,
    Job,
    JobErrored,
    JobMissed,
    JobStarted,
    MemoryStorage,
    Scheduler,
)
from trio_otp.testing import SettableClock

MINUTELY = Cron("* * * * *")
HOUR = 3600


def missed(events):
    return [(event.job, event.count, event.more, event.reason) for event in events.of(JobMissed)]


def jumps(events):
    return [event.seconds for event in events.of(ClockJumped)]


# --- forward ------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-040")
@pytest.mark.reports("apscheduler#794", "node-schedule#632", "trio#1586")
async def test_machine_that_slept(autojump_clock, clock, diary):
    """A job that was due meanwhile runs within half a minute of waking up, and knows how late it is."""
    async with Scheduler([Job("early", Cron("0 3 * * *"), diary.work)], clock=clock):
        await trio.sleep(2 * HOUR)
        clock.suspend(2 * HOUR)
        await trio.sleep(30.1)
        assert diary.slots == ["03:00:00"]
        assert diary.runs[0].lateness == pytest.approx(HOUR, abs=30)
        await trio.sleep(2 * HOUR)
    assert diary.slots == ["03:00:00"]


@pytest.mark.conforms("SCHED-041")
@pytest.mark.reports("robfig/cron#26", "kubernetes#42649", "k3d#523")
@pytest.mark.parametrize(
    ("catch_up", "slots", "gone"),
    [
        ("latest", ["13:00:00"], [("job", 59, False, "late")]),
        ("all", [f"{12 + m // 60}:{m % 60:02}:00" for m in range(1, 61)], []),
        ("none", [], [("job", 60, False, "late")]),
    ],
)
async def test_clock_set_forward(autojump_clock, events, diary, catch_up, slots, gone):
    """By an hour: the newest slot has a run, or each in order, or none; the others are told."""
    clock = SettableClock(datetime(2026, 1, 1, 12, 0, 20, tzinfo=UTC))
    async with Scheduler([Job("job", MINUTELY, diary.work, catch_up=catch_up)], clock=clock):
        await trio.sleep(5)
        clock.jump(HOUR)
        await trio.sleep(30)
        assert diary.slots == slots
        assert missed(events) == gone
        await trio.sleep(10)
    assert diary.slots == [*slots, "13:01:00"]
    assert jumps(events) == [HOUR]


@pytest.mark.conforms("SCHED-041")
@pytest.mark.parametrize(("limit", "gone"), [(100, 20), (3, 117), (1, 119)])
async def test_all_has_a_limit(autojump_clock, clock, events, diary, limit, gone):
    """Of more slots than that the newest are run, one after another; of the others 100 are told."""
    job = Job("job", Cron("* * * * * *"), diary.work, 0.001, catch_up="all", catch_up_limit=limit)
    async with Scheduler([job], clock=clock, max_sleep=1):
        await trio.sleep(0.5)
        clock.jump(119)
        await trio.sleep(0.4)
        assert not diary.runs  # nobody has looked yet
        await trio.sleep(0.5)
    slots = [run.slot for run in diary.runs]
    assert len(slots) == limit
    assert all(later - slot == timedelta(seconds=1) for slot, later in pairwise(slots))
    assert slots[-1] == datetime(2026, 1, 1, 0, 2, tzinfo=UTC)
    assert diary.most == 1
    assert missed(events) == [("job", min(gone, 100), gone > 100, "late")]


@pytest.mark.conforms("SCHED-042", "CASE-96")
async def test_ten_years_at_once(autojump_clock, clock, events, diary):
    """The work does not grow with the jump: a job of every second has one run, an interval none more."""
    jobs = [
        Job("second", Cron("* * * * * *"), diary.work),
        Job("day", Cron("@daily"), diary.work),
        Job("interval", Every(1), diary.work),
    ]
    async with Scheduler(jobs, clock=clock):
        await trio.sleep(0.5)
        clock.jump(timedelta(days=3652))
        await trio.sleep(1)
    assert sorted(run.job for run in diary.runs) == ["day", "interval", "second"]
    assert [(job, more) for job, _, more, _ in missed(events)] == [("second", True), ("day", True)]


@pytest.mark.conforms("SCHED-043")
@pytest.mark.parametrize(("late", "runs"), [(59.9, 1), (60, 1), (60.1, 0)])
async def test_limit_of_lateness(autojump_clock, clock, events, diary, late, runs):
    """A start may be as late as it is allowed to, and not later."""
    job = Job("job", Cron("@hourly"), diary.work, misfire_grace=60)
    async with Scheduler([job], clock=clock, max_sleep=1):
        await trio.sleep(HOUR - 0.5)
        clock.jump(late)
        await trio.sleep(0.6)  # it has looked a moment ago, when it was so late
    assert len(diary.runs) == runs
    assert missed(events) == [("job", 1, False, "late")] * (1 - runs)


async def test_no_limit_of_lateness(autojump_clock, clock, diary):
    """Unless one is given, a slot is made up for however late it is."""
    async with Scheduler(
        [Job("job", At(datetime(2026, 1, 2, tzinfo=UTC)), diary.work)], clock=clock
    ):
        await trio.sleep(1)
        clock.jump(timedelta(days=1000))
        await trio.sleep(30)
        assert [run.lateness for run in diary.runs] == [pytest.approx(999 * 86400, abs=31)]


# --- back ------------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-044")
@pytest.mark.reports("quartznet#3147")
async def test_clock_set_back_by_an_hour(autojump_clock, diary):
    """A minute job goes on at once; a time of day that has been does not come again."""
    clock = SettableClock(datetime(2026, 1, 1, 12, 29, 30, tzinfo=UTC))
    jobs = [Job("beat", MINUTELY, diary.work), Job("daily", Cron("30 12 * * *"), diary.work)]
    async with Scheduler(jobs, clock=clock):
        await trio.sleep(100)  # 12:31:10
        clock.jump(-HOUR)
        await trio.sleep(60)  # 11:32:10
        assert [run.job for run in diary.runs] == ["beat", "daily", "beat", "beat"]
        assert diary.slots[-1] == "11:32:00"
        await trio.sleep(2 * HOUR)
    assert sum(run.job == "daily" for run in diary.runs) == 1
    starts = [
        start for start, run in zip(diary.starts, diary.runs, strict=True) if run.job == "beat"
    ]
    assert max(later - start for start, later in pairwise(starts)) <= 60


@pytest.mark.conforms("SCHED-045")
async def test_clock_that_was_wrong(autojump_clock, events, diary):
    """Set back by more than three hours, slots after the new time count again."""
    clock = SettableClock(datetime(2026, 1, 1, 12, 29, 30, tzinfo=UTC))
    async with Scheduler([Job("daily", Cron("30 12 * * *"), diary.work)], clock=clock):
        await trio.sleep(60)
        clock.jump(-4 * HOUR)
        await trio.sleep(5 * HOUR)
    assert diary.slots == ["12:30:00", "12:30:00"]
    assert jumps(events) == [-4 * HOUR]


@pytest.mark.conforms("SCHED-044", "SCHED-045")
@pytest.mark.parametrize(
    ("text", "seconds", "wait"), [(MINUTELY.text, 55, 120), ("0 12 * * *", 7200, 86400)]
)
async def test_clock_set_back_again_and_again(autojump_clock, diary, text, seconds, wait):
    """By too little to matter, but far in all: no job waits longer for that."""
    clock = SettableClock(datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC))
    async with Scheduler([Job("job", Cron(text), diary.work)], clock=clock):
        for _ in range(20):
            clock.jump(-seconds)
            await trio.sleep(31)
        await trio.sleep(wait)
    assert diary.runs


@pytest.mark.conforms("SCHED-046", "CASE-103")
@pytest.mark.reports("good_job#1543")
async def test_clock_set_back_a_little(autojump_clock, clock, diary):
    """The slot that was just run comes again by the clock, and is not run again."""
    async with Scheduler([Job("beat", MINUTELY, diary.work)], clock=clock, max_sleep=1):
        await trio.sleep(60.01)
        clock.jump(-1.51)
        await trio.sleep(1)  # the loop has seen it
        await trio.sleep(119)
    assert diary.slots == ["00:01:00", "00:02:00"]


class SlowToLoad(MemoryStorage):
    async def load(self):
        stored = await super().load()
        await trio.sleep(5)
        return stored


@pytest.mark.conforms("SCHED-045", "SCHED-048")
@pytest.mark.parametrize("seconds", [-86400, 86400])
async def test_clock_set_during_the_start(autojump_clock, clock, events, diary, seconds):
    """While the jobs are read: it is seen, like any other jump."""
    scheduler = Scheduler(
        [Job("a", Cron("0 12 * * *"), diary.work)], clock=clock, storage=SlowToLoad()
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        await trio.sleep(1)
        clock.jump(seconds)
        await trio.sleep(86400)
        await scheduler.stop()
    assert jumps(events) == [seconds]
    late = [run.lateness > 60 for run in diary.runs]
    assert late == ([True, False] if seconds > 0 else [False])


class TremblingClock(SettableClock):
    """A clock that is a little behind, whenever it is looked at just before a whole minute."""

    def now(self):
        now = super().now()
        return (
            now - timedelta(milliseconds=2) if now.second == 0 and now.microsecond < 1000 else now
        )


@pytest.mark.conforms("SCHED-047")
@pytest.mark.reports("node-crontab#7", "node-cron#180", "node-cron#243")
async def test_woken_too_early(autojump_clock, diary):
    """The loop sleeps again; the slot has one run, not before its time."""
    clock = TremblingClock(datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC))
    async with Scheduler([Job("beat", MINUTELY, diary.work)], clock=clock):
        await trio.sleep(120)
    assert diary.slots == ["00:01:00", "00:02:00"]
    assert all(start % 60 > 30 for start in diary.starts)


@pytest.mark.conforms("SCHED-048")
@pytest.mark.reports("quantum-core#342", "quantum-core#395", "robfig/cron#352")
@pytest.mark.parametrize("catch_up", ["latest", "none"])
async def test_clock_set_after_the_start(autojump_clock, diary, catch_up):
    """Begun in 1970, then told the time: one run at most for each job, and none if none is made up for."""
    clock = SettableClock(datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC))
    jobs = [
        Job(str(n), Cron(text), diary.work, catch_up=catch_up)
        for n, text in enumerate(("* * * * *", "@daily"))
    ]
    async with Scheduler(jobs, clock=clock):
        await trio.sleep(20)
        clock.set_to(datetime(2026, 11, 25, 10, 0, 30, tzinfo=UTC))
        await trio.sleep(20)
        assert sorted(run.job for run in diary.runs) == (["0", "1"] if catch_up == "latest" else [])
        diary.runs.clear()
        await trio.sleep(15)
    assert diary.slots == ["10:01:00"]


@pytest.mark.conforms("SCHED-049", "CASE-93")
@pytest.mark.reports("quantum-core#321", "quantum-core#322", "quantum-core#407")
@pytest.mark.parametrize(
    ("zone", "night", "runs"),
    [
        ("Europe/Berlin", datetime(2026, 3, 28, 20, tzinfo=UTC), 1),
        ("Europe/Berlin", datetime(2026, 10, 24, 20, tzinfo=UTC), 1),
        ("Australia/Adelaide", datetime(2019, 4, 6, 10, tzinfo=UTC), 1),
    ],
)
async def test_daylight_saving_is_no_jump(autojump_clock, events, diary, zone, night, runs):
    """The wall clock tells UTC: nothing happens to it, the scheduler lives, and each job has its run."""
    clock = SettableClock(night)
    jobs = [
        Job(f"{hour}:{minute:02}", Cron(f"{minute} {hour} * * *", timezone=zone), diary.work)
        for hour in (1, 2, 3)
        for minute in (0, 30)
    ]
    async with Scheduler(jobs, clock=clock) as scheduler:
        await trio.sleep(12 * HOUR)
        assert {job.state for job in scheduler.jobs} == {"active"}
    assert sorted(run.job for run in diary.runs) == sorted(job.name for job in jobs)
    assert max(run.lateness for run in diary.runs) == 0
    assert not jumps(events)


@pytest.mark.conforms("SCHED-050")
@pytest.mark.reports("apscheduler#292", "apscheduler#296", "oban-py#17")
async def test_stretch_that_was_blocked(autojump_clock, clock, events, diary):
    """Both clocks went on: one late run for the slots that went by, and no jump."""
    async with Scheduler([Job("beat", MINUTELY, diary.work)], clock=clock):
        await trio.sleep(50)
        autojump_clock.jump(100)  # as if somebody had blocked for so long
        await trio.sleep(25)
    assert diary.slots == ["00:02:00"]
    assert diary.runs[0].lateness == pytest.approx(30)
    assert missed(events) == [("beat", 1, False, "late")]
    assert not jumps(events)


class SlewedClock(SettableClock):
    """A clock that is being put right bit by bit."""

    def now(self):
        now = super().now()
        return now + (now - datetime(2026, 1, 1, tzinfo=UTC)) * 0.0005


@pytest.mark.conforms("SCHED-051")
async def test_clock_put_right_slowly(autojump_clock, events, diary):
    """Half a millisecond a second is no jump, for a whole day."""
    async with Scheduler([Job("beat", MINUTELY, diary.work)], clock=SlewedClock()):
        await trio.sleep(86400)
    assert not jumps(events)
    assert len(diary.runs) == 1440
    assert max(run.lateness for run in diary.runs) < 0.1


@pytest.mark.conforms("CASE-97", "SCHED-115")
async def test_intervals_know_no_wall_clock(autojump_clock, clock, events, diary):
    """Set back by a second each hour, and far in both directions: every 900 s for a day makes 96."""
    async with Scheduler([Job("interval", Every(900), diary.work)], clock=clock):
        for hour in range(24):
            await trio.sleep(HOUR - 1)
            clock.jump((-2, 5, -HOUR, 10 * HOUR, -86400)[hour % 5])
            await trio.sleep(1)
        await trio.sleep(1)
    assert diary.starts == [900 * n for n in range(1, 97)]
    assert len(jumps(events)) == 24


@pytest.mark.conforms("CASE-103")
async def test_woken_three_seconds_late(autojump_clock, clock, diary):
    """Two jobs that were due, one a second later than the other: both run once, with their times."""
    jobs = [Job("a", Cron("10 * * * * *"), diary.work), Job("b", Cron("11 * * * * *"), diary.work)]
    async with Scheduler(jobs, clock=clock):
        await trio.sleep(9)
        autojump_clock.jump(4)
        await trio.sleep(2)
    assert [(run.job, f"{run.slot:%S}", run.lateness) for run in diary.runs] == [
        ("a", "10", 3),
        ("b", "11", 2),
    ]


async def test_check_clock(autojump_clock, clock, diary):
    """Who knows that the clock was set need not wait for the next look."""
    async with Scheduler([Job("daily", Cron("@daily"), diary.work)], clock=clock) as scheduler:
        await trio.sleep(1)
        clock.jump(86400)
        scheduler.check_clock()
        await trio.lowlevel.checkpoint()
        await trio.sleep(0.001)
    assert len(diary.runs) == 1


@pytest.mark.reports("systemd#32039", "node-cron#492", "node-cron#517")
@pytest.mark.parametrize("zone", ["GMT", "Europe/London", "Europe/Berlin", "Antarctica/Troll"])
async def test_slots_come_one_by_one_over_a_change(autojump_clock, events, diary, zone):
    """Every 30 s over the night of a change: no burst, no slot twice, none left out."""
    clock = SettableClock(datetime(2026, 3, 29, 0, 0, 1, tzinfo=UTC))
    job = Job("beat", Cron("*/30 * * * * *", timezone=zone), diary.work)
    async with Scheduler([job], clock=clock):
        await trio.sleep(3 * HOUR)
    assert diary.starts == [29 + 30 * n for n in range(360)]
    assert len(events.of(JobStarted)) == 360
    assert not events.of(JobErrored)
