"""Many jobs: counted in tasks, wakes, places in memory and steps, since a clock would tell of the machine."""

import gc
import re
import subprocess
import sys
import weakref
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import trio

from trio_otp import Cron, Every, Job, JobStarted, Scheduler, subscribe
from trio_otp._agenda import Agenda, Entry
from trio_otp._wall_clock import Now

MANY = 2000
PROGRAM = Path(__file__).parents[1] / "programs" / "scale.py"


class Wakes(trio.abc.Instrument):
    """Counts the steps of each Trio task, by its name."""

    def __init__(self):
        self.steps = {}

    def before_task_step(self, task):
        self.steps[task.name] = self.steps.get(task.name, 0) + 1


async def noop():
    pass


def daily(count):
    return [Job(f"job {n}", Cron(f"{n % 60} {n % 7} * * *"), noop) for n in range(count)]


@pytest.mark.conforms("SCHED-140")
async def test_idle_jobs_cost_nothing(autojump_clock, clock):
    """However many they are: one task, which looks at the clock every half a minute."""
    before = trio.lowlevel.current_statistics().tasks_living
    async with Scheduler(daily(MANY), clock=clock) as scheduler:
        await trio.sleep(7 * 3600)  # the last slot of the day is over
        assert (
            trio.lowlevel.current_statistics().tasks_living - before == 2
        )  # it, and the home of runs
        wakes = Wakes()
        trio.lowlevel.add_instrument(wakes)
        await trio.sleep(3600)
        trio.lowlevel.remove_instrument(wakes)
        assert len(scheduler.jobs) == MANY
    assert wakes.steps["Scheduler"] <= 121


@pytest.mark.conforms("SCHED-141")
async def test_adding_a_job_costs_the_same_among_many(autojump_clock, clock, monkeypatch):
    """Its schedule is asked once, nobody else's, and the loop sleeps on."""
    jobs, asked, found = daily(500), [], Cron.next_after
    monkeypatch.setattr(
        Cron, "next_after", lambda cron, now: (asked.append(cron), found(cron, now))[1]
    )
    async with Scheduler([Job("first", Every(1), noop)], clock=clock) as scheduler:
        await trio.sleep(0.5)
        wakes = Wakes()
        trio.lowlevel.add_instrument(wakes)
        for job in jobs:
            await scheduler.add(job)
        trio.lowlevel.remove_instrument(wakes)
    assert [id(cron) for cron in asked] == [id(job.schedule) for job in jobs]
    assert wakes.steps.get("Scheduler", 0) == 0


@pytest.mark.conforms("SCHED-142", "SCHED-090")
async def test_many_due_at_once_block_nobody(autojump_clock, clock):
    """All start, in order; between two starts others have a turn."""
    begun, turns, first = [], [], trio.Event()

    def note(event):
        if isinstance(event, JobStarted):
            begun.append(event.job)
            first.set()

    async def probe():
        await first.wait()
        while len(begun) < MANY:
            turns.append(len(begun))
            await trio.lowlevel.checkpoint()

    jobs = [Job(f"job {number}", Cron("@hourly"), noop) for number in range(MANY)]
    with subscribe(note):
        async with Scheduler(jobs, clock=clock, max_sleep=None), trio.open_nursery() as nursery:
            nursery.start_soon(probe)
            await trio.sleep(3601)
    assert begun == [job.name for job in jobs]
    assert max(later - turn for turn, later in pairwise(turns)) <= 3


@pytest.mark.conforms("SCHED-143")
def test_taking_one_of_many_is_cheap(monkeypatch):
    """The slot of one job is found without asking the schedule of any other."""
    asked = []
    found = Cron.next_after
    now = Now(datetime(2026, 1, 1, tzinfo=UTC), 0.0)
    agenda = Agenda(Random(1))
    for number, job in enumerate(daily(MANY)):
        entry = Entry(job, number, active=True)
        agenda.enter(entry, agenda.track(job, now))
    monkeypatch.setattr(
        Cron, "next_after", lambda cron, moment: (asked.append(cron), found(cron, moment))[1]
    )
    soon = now.moved_to(now.wall.replace(hour=3, minute=7))
    agenda.take_slots(agenda.take_due(soon), soon)
    assert len(asked) == 1


@pytest.mark.conforms("SCHED-144")
def test_agenda_stays_small():
    """100,000 changes of ten jobs leave a few places more than ten; so do many jobs that are gone."""
    now = Now(datetime(2026, 1, 1, tzinfo=UTC), 0.0)
    agenda = Agenda(Random(1))
    schedules = (Cron("@yearly"), Every(5))
    entries = [Entry(Job(str(n), schedules[n % 2], noop), n, active=True) for n in range(10)]
    tracks = [agenda.track(entry.job, now) for entry in entries]
    for turn in range(100_000):
        agenda.enter(entries[turn % 10], tracks[turn % 10])
    assert len(agenda) <= 2 * 10 + 64
    for entry in entries:
        agenda.leave(entry)
    assert len(agenda) <= 64


@pytest.mark.conforms("SCHED-144")
async def test_jobs_that_are_gone_leave_nothing(autojump_clock, clock):
    """Adding, running and deleting again and again keeps no object of the library."""
    async with Scheduler(clock=clock) as scheduler:

        async def turn(number):
            name = await scheduler.add(Job(None, Cron(f"{number % 60} {number % 24} * * *"), noop))
            await (await scheduler.run_job(name))
            await scheduler.delete(name)

        for number in range(20):
            await turn(number)
        gc.collect()
        before = len(gc.get_objects())
        for number in range(300):
            await turn(number)
        gc.collect()
        assert len(gc.get_objects()) - before < 100


async def test_life_leaves_no_cycle(autojump_clock, clock):
    """What a life has made is gone with it, without the collector; also if it crashes or is killed."""

    async def fail():
        raise ValueError("fail")

    beat = Cron("* * * * * *")
    jobs = [
        Job("a", beat, noop), Job("b", beat, fail), Job("c", Every(0.3), trio.sleep, 9, overlap="replace"),
        Job("d", Every(0.3), trio.sleep, 9, timeout=0.2), Job("e", beat, noop, when=lambda: False),
    ]  # fmt: skip
    gc.collect()
    gc.disable()
    try:
        scheduler = Scheduler(jobs, clock=clock, max_concurrency=2)
        async with scheduler:
            loop = weakref.ref(scheduler._loop)
            await trio.sleep(3.5)
            await (await scheduler.run_job("a"))
        assert loop() is None
        async with trio.open_nursery() as nursery:
            await nursery.start(scheduler.run)
            loop = weakref.ref(scheduler._loop)
            await trio.sleep(3.5)
            nursery.cancel_scope.cancel()
        assert loop() is None
    finally:
        gc.enable()


@pytest.mark.conforms("SCHED-152")
async def test_year_of_a_daily_job(autojump_clock, clock, diary):
    """Takes two steps a day of the scheduler, if nobody sets the clock."""
    wakes = Wakes()
    async with Scheduler([Job("a", Cron("0 3 * * *"), diary.work)], clock=clock, max_sleep=None):
        trio.lowlevel.add_instrument(wakes)
        await trio.sleep(365 * 86400)
        trio.lowlevel.remove_instrument(wakes)
    assert len(diary.runs) == 365
    assert wakes.steps["Scheduler"] <= 2 * 365 + 2


@pytest.mark.real
def test_program_that_measures():
    """Prints a figure for each question, and its unit."""
    done = subprocess.run(
        [sys.executable, PROGRAM, "20"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    lines = [re.split(r"  +", line.strip()) for line in done.stdout.splitlines()]
    assert [what for what, _ in lines] == [
        "building 20 jobs",
        "adding 20 jobs",
        "one more",
        "Trio tasks besides those of the program",
        "memory for each job that is held",
        "a simulated hour, idle",
        "in which it looks at the clock",
        "one run among 20 jobs",
        "starting 20 runs at once",
        "meanwhile another task waits, at most",
        "a simulated year of a daily job",
        "20 simulated minutes of a minute job",
    ]
    figures = dict(lines)
    assert figures["Trio tasks besides those of the program"] == "2.000"
    assert figures["in which it looks at the clock"] == "120.000 times"
    assert all(float(figure.split()[0].replace(",", "")) >= 0 for figure in figures.values())
