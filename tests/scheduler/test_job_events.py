"""What is told of jobs, and what a run knows of itself."""

import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import trio

from trio_otp import (
    AlreadyRunning,
    Cron,
    Every,
    Job,
    JobAdded,
    JobDeleted,
    JobEvent,
    JobFailed,
    JobMissed,
    JobSkipped,
    JobStarted,
    JobStopped,
    JobUpdated,
    Scheduler,
    Supervisor,
    UnknownJob,
    current_run,
)
from trio_otp.testing import chaos, leaks

SECONDLY = Cron("* * * * * *")
SECOND = timedelta(seconds=1)


@pytest.mark.conforms("SCHED-160")
async def test_events_of_a_job(autojump_clock, clock, events, caplog):
    """One for each thing that happens, with the job, the slot, the lateness, the duration, the result."""

    async def job(seconds):
        await trio.sleep(seconds)
        return seconds / (seconds - 2)

    async with Scheduler(clock=clock, name="nightly") as scheduler:
        await scheduler.add(Job("a", Cron("0 * * * * *"), job, 1))
        await trio.sleep(62)
        await scheduler.update("a", args=(2,))
        await trio.sleep(61)
        await scheduler.delete("a")
    told = events.of(JobEvent)
    kinds = [JobAdded, JobStarted, JobStopped, JobUpdated, JobStarted, JobFailed, JobDeleted]
    assert [type(event) for event in told] == kinds
    assert {(event.process, event.path, event.job) for event in told} == {
        (scheduler, ("nightly",), "a")
    }
    _, began, stopped, _, began_again, failed, _ = told
    assert began.run == stopped.run
    assert began_again.run == failed.run
    assert began.run.span != failed.run.span
    minute = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    run = began.run
    assert (run.job, run.slot, run.scheduled, run.lateness, run.attempt) == (
        "a",
        minute,
        minute,
        0,
        1,
    )
    assert (stopped.outcome, stopped.result, stopped.duration) == ("ok", -1.0, 1)
    assert (type(failed.error), failed.duration) == (ZeroDivisionError, 2)
    assert [event.at - told[0].at for event in told] == [0, 60, 61, 62, 120, 122, 123]


@pytest.mark.conforms("SCHED-162")
async def test_run_knows_itself(autojump_clock, clock):
    """Also in the tasks that it spawns; outside of runs there is none."""
    known = []

    async def look():
        known.append(current_run())

    async def job():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
        await look()

    async with Scheduler([Job("a", SECONDLY, job)], clock=clock):
        await trio.sleep(2.5)
        assert current_run() is None
    assert [run.slot.second for run in known] == [1, 1, 2, 2]
    assert known[0] is known[1]
    assert {(run.job, run.attempt, run.manual) for run in known} == {("a", 1, False)}


async def test_run_asked_for_by_a_job_is_its_own(autojump_clock, clock):
    """A run within a run does not take the one for the other."""
    known = []

    async def inner():
        known.append(current_run().job)

    async def outer():
        await (await scheduler.run_job("inner"))
        known.append(current_run().job)

    jobs = [Job("outer", SECONDLY, outer), Job("inner", Cron("@yearly"), inner)]
    async with Scheduler(jobs, clock=clock) as scheduler:
        await trio.sleep(1.5)
    assert known == ["inner", "outer"]


@pytest.mark.conforms("SCHED-162", "SCHED-165")
async def test_attempts_are_counted(autojump_clock, clock, diary):
    """A slot whose run was broken off by the end of the scheduler is run again, as number two."""
    job = Job("a", Cron("@minutely"), diary.work, 5, ack="after")
    scheduler = Scheduler([job], clock=clock)
    async with Supervisor([scheduler]):
        await trio.sleep(61)
        scheduler.kill()
        await trio.sleep(70)
    assert [(f"{run.slot:%M}", run.attempt) for run in diary.runs] == [
        ("01", 1),
        ("01", 2),
        ("02", 1),
    ]


# --- all is told, once ------------------------------------------------------------------------


class Books:
    """What must be true of the events of a scheduler, whatever is done with it."""

    def __init__(self, events):
        self.begun = [event.run for event in events.of(JobStarted)]
        self.ended = [event.run for event in (*events.of(JobStopped), *events.of(JobFailed))]
        self.skipped = [(event.job, event.slot) for event in events.of(JobSkipped)]
        self.missed = [(event.job, slot) for event in events.of(JobMissed) for slot in event.slots]

    def check(self):
        """Each run has one end, and each slot one fate."""
        assert sorted(run.span for run in self.begun) == sorted(run.span for run in self.ended)
        begun = [(run.job, run.slot) for run in self.begun if not run.manual]
        fates = [*begun, *self.skipped, *self.missed]
        assert len(fates) == len(set(fates))
        return fates


def some_job(dice, name, work):
    overlap = dice.choice(["skip", "allow", "replace"])
    return Job(
        f"{name}, {overlap}",
        dice.choice([SECONDLY, Cron("*/5 * * * * *"), Cron("*/3 * * * * *", jitter=2)]),
        work,
        dice.choice([0, 0.5, 2.5, 20]),
        dice.choice([0, 0.5]),
        overlap=overlap,
        timeout=dice.choice([None, 2, 10]),
        catch_up=dice.choice(["latest", "all", "none"]),
        ack=dice.choice(["before", "after"]),
    )


@pytest.mark.conforms("SCHED-161")
@pytest.mark.parametrize("seed", range(20))
async def test_every_slot_has_one_fate(autojump_clock, clock, events, diary, seed):
    """Over 100 s of random jobs every slot is run, skipped or missed, once; each run has one end."""
    dice = random.Random(seed)
    jobs = [some_job(dice, number, diary.work) for number in range(6)]
    begun = clock.now()
    scheduler = Scheduler(jobs, clock=clock, max_concurrency=dice.choice([None, 1, 3]), grace=3)
    async with scheduler:
        for _ in range(10):
            await trio.sleep(dice.uniform(0, 10))
            if dice.random() < 0.3:
                autojump_clock.jump(dice.uniform(0, 20))
            if dice.random() < 0.3:
                await ask_for_run(scheduler, dice.choice(jobs).name)
        await scheduler.stop()
        end = clock.now()
    fates = Books(events).check()
    for job in jobs:
        slots = {slot for name, slot in fates if name == job.name}
        certain = job.schedule.between(begun, end - 5 * SECOND, limit=1000)
        assert slots >= set(certain)
    leaks()


async def ask_for_run(scheduler, name):
    with suppress(AlreadyRunning):
        await scheduler.run_job(name)


@pytest.mark.conforms("SCHED-161", "SCHED-063")
@pytest.mark.parametrize("seed", range(20))
async def test_nobody_runs_twice(autojump_clock, clock, events, seed):
    """Random changes, clocks, failures and stops: runs overlap only where allowed, and each has one end."""
    dice = random.Random(seed)
    alive, most = {}, {}

    async def work(seconds, cleanup):
        name = current_run().job
        alive[name] = alive.get(name, 0) + 1
        most[name] = max(most.get(name, 0), alive[name])
        try:
            await trio.sleep(seconds)
            if dice.random() < 0.2:
                raise ValueError(name)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(cleanup)
            alive[name] -= 1

    scheduler = Scheduler(clock=clock, max_concurrency=dice.choice([None, 2]), max_sleep=2)
    async with scheduler:
        for _ in range(40):
            await trio.sleep(dice.uniform(0, 5))
            await do_something(dice, scheduler, clock, work)
    books = Books(events)
    assert sorted(run.span for run in books.begun) == sorted(run.span for run in books.ended)
    assert not any(alive.values())
    assert all(count == 1 for name, count in most.items() if not name.endswith("allow"))
    leaks()


async def do_something(dice, scheduler, clock, work):
    name = dice.choice([job.name for job in scheduler.jobs] or ["none"])
    what = dice.choice(["add", "add", "delete", "deactivate", "activate", "run_job", "clock"])
    match what:
        case "add":
            await scheduler.add(some_job(dice, dice.randrange(4), work))
        case "clock":
            clock.jump(dice.choice([100, -100, -3, 5, -20_000, 20_000]))
        case _:
            with suppress(AlreadyRunning, UnknownJob):
                await getattr(scheduler, what)(name)


@pytest.mark.conforms("SCHED-161")
async def test_chaos(autojump_clock, clock, events, diary):
    """A scheduler that is killed and restarted again and again is whole afterwards, and so are its books."""
    jobs = [Job("a", SECONDLY, diary.work, 1.5), Job("b", Every(2), diary.work, 5, overlap="allow")]
    scheduler = Scheduler(jobs, clock=clock)
    async with Supervisor([scheduler], max_restarts=1000) as root:
        blows = await chaos(root, seconds=60, rate=1)
        assert len(blows) > 10
        diary.runs.clear()
        await trio.sleep(10)
        assert {run.job for run in diary.runs} == {"a", "b"}
    begun = [event.run for event in events.of(JobStarted)]
    assert len(begun) == len(events.of(JobStopped)) + len(events.of(JobFailed))
    leaks()


# --- jitter --------------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-130")
@pytest.mark.reports("systemd#2956")
async def test_jitter_moves_starts_and_no_slots(autojump_clock, clock, diary):
    """1,000 daily runs with an hour of jitter are those of 1,000 days."""
    job = Job("a", Cron("@daily", jitter=3600), diary.work)
    scheduler = Scheduler([job], clock=clock, max_sleep=None, random=random.Random(1))
    async with scheduler:
        await trio.sleep(86400 * 1001 - 1)
    days = [run.slot.date() for run in diary.runs]
    first = datetime(2026, 1, 2, tzinfo=UTC).date()
    assert days == [first + timedelta(days=number) for number in range(1000)]
    delays = [(run.scheduled - run.slot).total_seconds() for run in diary.runs]
    assert min(delays) >= 0
    assert max(delays) <= 3600
    assert len({round(delay) for delay in delays}) > 500
    assert max(run.lateness for run in diary.runs) < 1e-4


@pytest.mark.conforms("SCHED-130")
async def test_jitter_comes_from_the_given_source(autojump_clock, clock, diary):
    """The same seed, the same delays."""
    starts = []
    for _ in range(2):
        diary.runs.clear()
        job = Job("a", Every(100, jitter=50), diary.work)
        async with Scheduler([job], clock=clock, random=random.Random(7)):
            await trio.sleep(1000)
        starts.append([(run.scheduled - run.slot).total_seconds() for run in diary.runs])
    assert starts[0] == pytest.approx(starts[1], abs=1e-5)
    assert len(set(starts[0])) > 5


@pytest.mark.conforms("SCHED-133")
async def test_catching_up_moves_no_later_run(autojump_clock, clock, diary):
    """A run that is made up for has no jitter, and the next slot comes in its time."""
    job = Job("a", Cron("@hourly", jitter=600), diary.work)
    async with Scheduler([job], clock=clock) as scheduler:
        await trio.sleep(10)
        clock.jump(timedelta(hours=5, minutes=30))
        await trio.sleep(31)
        (run,) = diary.runs
        assert run.slot == run.scheduled == datetime(2026, 1, 1, 5, tzinfo=UTC)
        assert scheduler.find("a").next_slot == datetime(2026, 1, 1, 6, tzinfo=UTC)
