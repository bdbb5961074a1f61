"""Schedulers at random times, set clocks, crashes and changes, against what must be true of all of them."""

import random
import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing

from trio_otp import (
    ClockJumped,
    Cron,
    Every,
    Job,
    JobEvent,
    JobMissed,
    JobStarted,
    Schedule,
    Scheduler,
    Supervisor,
)
from trio_otp._agenda import MOST_TOLD
from trio_otp._core.timers import Timers
from trio_otp.testing import SettableClock

SEEDS = range(8)
DAY = 86400


async def noop():
    pass


def told(events):
    """What became of slots, in order: each with its job."""
    for event in events:
        if isinstance(event, JobStarted):
            yield event.job, event.run.slot
        elif isinstance(event, JobMissed):
            yield from ((event.job, slot) for slot in event.slots)


def some_jobs(dice):
    texts = ["* * * * * *", "*/10 * * * * *", "* * * * *", "*/3 * * * *", "0 0 * * *", "30 1 * * *"]
    return [
        Job(
            f"{number}: {text}",
            Cron(text, timezone=dice.choice(["UTC", "Europe/Berlin"])),
            noop,
            overlap="allow",
            catch_up=dice.choice(["latest", "all"]),
            catch_up_limit=dice.choice([1, 10, 100]),
        )
        for number, text in enumerate(dice.sample(texts, 4))
    ]


# --- clocks ------------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-041", "SCHED-050", "SCHED-074")
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_slot_is_told_once(autojump_clock, events, seed):
    """Though the clock is set forward, the machine blocked and the scheduler killed: none twice, none lost."""
    dice = random.Random(seed)
    clock = SettableClock(
        datetime(2026, 3, 28, 23, 30, tzinfo=UTC) + timedelta(seconds=dice.random())
    )
    jobs, begun = some_jobs(dice), clock.now()
    scheduler = Scheduler(jobs, clock=clock)
    async with Supervisor([scheduler], max_restarts=100):
        for _ in range(30):
            await trio.sleep(dice.uniform(0, 50))
            match dice.choice(["set", "block", "kill", "look"]):
                case "set":
                    clock.jump(dice.uniform(0, 30))
                case "block":
                    autojump_clock.jump(dice.uniform(0, 30))
                case "kill":
                    scheduler.kill()
                case "look":
                    scheduler.check_clock()
        await trio.sleep(31)
        end = clock.now()
    fates = list(told(events))
    for job in jobs:
        slots = [slot for name, slot in fates if name == job.name]
        assert slots == list(job.schedule.between(begun, end, limit=10_000))


@pytest.mark.conforms("SCHED-044", "SCHED-045", "SCHED-046")
@pytest.mark.parametrize("seed", SEEDS)
async def test_slots_only_increase_until_the_clock_is_set_back(autojump_clock, events, seed):
    """And those of a time of day even then, unless by more than three hours."""
    dice = random.Random(seed)
    clock = SettableClock(datetime(2026, 1, 1, 1, tzinfo=UTC) + timedelta(seconds=dice.random()))
    scheduler = Scheduler(some_jobs(dice), clock=clock)
    backs, highest = [], clock.now()
    async with Supervisor([scheduler], max_restarts=100):
        for _ in range(40):
            await trio.sleep(dice.uniform(0, 100))
            highest = max(highest, clock.now())
            if dice.random() < 0.2:
                scheduler.kill()
            lowest = (highest - clock.now()).total_seconds() - 3 * 3600
            jump = max(dice.choice([-3, 3, -50, 100, -1000, 1000, -9000]), lowest)
            backs += [len(events)] * (jump < 0)
            clock.jump(jump)
    assert len(events.of(ClockJumped)) > 10
    for begin, end in zip([0, *backs], [*backs, None], strict=True):
        check_increasing(told(list(events)[begin:end]))
    check_increasing(
        (job, slot) for job, slot in told(events) if "*/" not in job and ": *" not in job
    )


def check_increasing(fates):
    newest = {}
    for job, slot in fates:
        assert job not in newest or newest[job] < slot
        newest[job] = slot


@pytest.mark.conforms("SCHED-047")
@pytest.mark.reports("node-crontab#7", "good_job#1543")
@pytest.mark.parametrize("seed", SEEDS)
async def test_slots_between_the_ticks_of_a_float(autojump_clock, diary, seed):
    """Wherever the clocks begin: no run is early, none late, and the loop looks twice for each at most."""
    dice = random.Random(seed)
    autojump_clock.jump(10 ** dice.uniform(0, 7))
    clock = SettableClock(
        datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=dice.uniform(0, DAY))
    )
    looks = 0

    class Counted(Cron):
        def next_after(self, moment):
            nonlocal looks
            looks += 1
            return super().next_after(moment)

    async def work():
        at.append(clock.now())
        await diary.work()

    at = []
    async with Scheduler([Job("a", Counted("* * * * *"), work)], clock=clock, max_sleep=None):
        await trio.sleep(3600)
    assert len(at) == 60
    lateness = [now - run.slot for now, run in zip(at, diary.runs, strict=True)]
    assert min(lateness) >= timedelta(0)
    assert max(lateness) <= timedelta(microseconds=2)
    assert looks <= 2 * len(at) + 1


# --- work ---------------------------------------------------------------------------------------


class Seconds(Schedule):
    """Every whole second, and a count of how often that was asked."""

    asked = 0

    def next_after(self, moment):
        self.asked += 1
        return moment.replace(microsecond=0) + timedelta(seconds=1)

    def last_before(self, moment):
        self.asked += 1
        before = moment - datetime.resolution
        return before.replace(microsecond=0)


@pytest.mark.conforms("SCHED-042", "SCHED-048")
@pytest.mark.reports("quantum-core#342", "kubernetes#42649")
@pytest.mark.parametrize("seconds", [10 * MOST_TOLD, DAY, 3652 * DAY, 56 * 365 * DAY])
@pytest.mark.parametrize(
    ("runs", "policy"),
    [
        (1, {}),
        (5, {"catch_up": "all", "catch_up_limit": 5}),
        (0, {"catch_up": "none", "misfire_grace": 0}),
    ],
)
async def test_work_of_a_jump(autojump_clock, clock, events, seconds, runs, policy):
    """Is the same for a quarter of an hour and for half a century."""
    schedule = Seconds()
    async with Scheduler([Job("a", schedule, noop, overlap="allow", **policy)], clock=clock) as s:
        await trio.sleep(0.5)
        schedule.asked = 0
        clock.jump(seconds)
        s.check_clock()
        await trio.sleep(0.01)
        assert schedule.asked <= MOST_TOLD + runs + 6
    assert len(events.of(JobStarted)) == runs


class Compared(float):
    """A moment that counts how often it is compared."""

    count = 0

    def __lt__(self, other):
        Compared.count += 1
        return float(self) < float(other)


@pytest.mark.conforms("SCHED-143")
@pytest.mark.parametrize("size", [100, 10_000])
def test_one_of_many_moments_is_found_by_halving(size):
    """To take the next one and put it back compares it with a few others, not with all."""
    dice, timers = random.Random(1), Timers()
    for key in range(size):
        timers.set(key, Compared(dice.random()))
    for _ in range(1000):
        Compared.count = 0
        (key,) = timers.take_due(timers.next_at())
        timers.set(key, Compared(timers.next_at() + dice.random()))
        assert Compared.count <= 4 * size.bit_length()


# --- zones -------------------------------------------------------------------------------------


@pytest.fixture
def no_system_zones():
    """Have `zoneinfo` find what the package `tzdata` brings, and nothing else."""
    pytest.importorskip("tzdata")
    path = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(())
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(path)
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.conforms("SCHED-153")
async def test_zones_of_a_package_are_enough(no_system_zones, autojump_clock, diary):
    """Where the system has none, as on Windows."""
    assert zoneinfo.TZPATH == ()
    clock = SettableClock(datetime(2026, 3, 28, 12, tzinfo=UTC))
    nightly = Cron("30 2 * * *", timezone="Europe/Berlin")
    async with Scheduler([Job("a", nightly, diary.work)], clock=clock, max_sleep=None):
        await trio.sleep(2 * DAY)
    assert diary.slots == ["01:00:00", "00:30:00"]


# --- control ------------------------------------------------------------------------------------


class Model:
    """What a scheduler should know of its jobs: for each its schedule, and since when its slots count."""

    def __init__(self):
        self.jobs = {}

    def add(self, name, schedule, now):
        self.jobs[name] = [schedule, True, now, now]

    def update(self, name, now):
        if self.jobs[name][1]:
            self.jobs[name][2:] = now, now

    def switch(self, name, active, now):
        job = self.jobs[name]
        if job[1] != active:
            job[1:] = active, now, now

    def take_due(self, now):
        due = [name for name in self.jobs if (slot := self.next_slot(name)) and slot <= now]
        for name in due:
            self.jobs[name][3] = now
        return due

    def next_slot(self, name):
        schedule, active, since, done = self.jobs[name]
        if not active:
            return None
        if isinstance(schedule, Every):
            passed = (done - since) // timedelta(seconds=schedule.seconds) + 1
            return since + passed * timedelta(seconds=schedule.seconds)
        return schedule.next_after(done)


class Both:
    """A scheduler and its model, of which the same is asked."""

    def __init__(self, scheduler, clock):
        self.scheduler = scheduler
        self.clock = clock
        self.model = Model()
        self.changes = []

    async def add(self, name, dice):
        schedule = dice.choice(
            [Cron("* * * * *"), Cron("*/7 * * * *"), Cron("@hourly"), Every(64), Every(512)]
        )
        self._changes("JobUpdated" if name in self.model.jobs else "JobAdded", name)
        await self.scheduler.add(Job(name, schedule, noop))
        self.model.add(name, schedule, self.clock.now())

    async def delete(self, name, dice):
        known = name in self.model.jobs
        self._changes("JobDeleted", name, known)
        assert await self.scheduler.delete(name) is known
        self.model.jobs.pop(name, None)

    async def update(self, name, dice):
        if name in self.model.jobs:
            self._changes("JobUpdated", name)
            await self.scheduler.update(name, timeout=dice.choice([5, None]))
            self.model.update(name, self.clock.now())

    async def switch(self, name, dice):
        if name in self.model.jobs:
            active = dice.random() < 0.5
            self._changes("JobUpdated", name, self.model.jobs[name][1] != active)
            await (self.scheduler.activate if active else self.scheduler.deactivate)(name)
            self.model.switch(name, active, self.clock.now())

    async def step(self, name, dice):
        await trio.sleep(dice.choice([0, 1, 30, 60, 500]))
        runs = await self.scheduler.run_due()
        for run in runs:
            await run.wait()
        assert sorted(run.name for run in runs) == sorted(self.model.take_due(self.clock.now()))

    def _changes(self, kind, name, really=True):
        self.changes += [(kind, name)] * really

    def compare(self):
        slots = [(job.name, job.next_slot) for job in self.scheduler.jobs]
        assert slots == [(name, self.model.next_slot(name)) for name in self.model.jobs]


@pytest.mark.conforms(
    "SCHED-080", "SCHED-081", "SCHED-082", "SCHED-083", "SCHED-091", "SCHED-154", "CASE-101"
)
@pytest.mark.reports("quantum-core#392", "quantum-core#413", "quantum-core#416")
@pytest.mark.parametrize("seed", SEEDS)
async def test_jobs_are_as_a_model_says(autojump_clock, clock, events, seed):
    """Added, replaced, changed, deleted and switched at random: those run that should, and all is told."""
    dice = random.Random(seed)
    async with Scheduler(clock=clock, manual=True) as scheduler:
        both = Both(scheduler, clock)
        for _ in range(200):
            do = dice.choice(
                [both.add, both.delete, both.update, both.switch, both.step, both.step]
            )
            await do(dice.choice("abcdef"), dice)
            both.compare()
    kinds = ("JobAdded", "JobUpdated", "JobDeleted")
    seen = [(type(event).__name__, event.job) for event in events.of(JobEvent)]
    assert [change for change in seen if change[0] in kinds] == both.changes


# --- one handle, several runs of Trio ---------------------------------------------------------------


@pytest.mark.conforms("SCHED-092")
def test_handle_lives_again_under_another_run_of_trio():
    """With the jobs that it had, and the slots that it has not run."""
    slots = []

    async def work():
        slots.append(clock.now())

    async def live(*jobs):
        async with scheduler:
            for job in jobs:
                await scheduler.add(job)
            await trio.sleep(61)

    clock = SettableClock()
    scheduler = Scheduler(clock=clock)
    first, second = (trio.testing.MockClock(autojump_threshold=0) for _ in range(2))

    async def live_later():
        clock.jump(300)  # it stood still between the runs
        await live()

    trio.run(live, Job("a", Cron("* * * * *"), work), clock=first)
    trio.run(live_later, clock=second)
    assert [f"{slot:%H:%M:%S}" for slot in slots] == ["00:01:00", "00:06:01", "00:07:00"]
