"""A program that measures a scheduler with many jobs: `python tests/programs/scale.py [JOBS]`.

Figures are seconds, and the same in units of the cheapest thing that plain Trio can do
instead, measured in the same run: so they can be compared between machines.
"""

import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import trio
from trio.testing import MockClock

from trio_otp import Cron, Every, Job, Scheduler
from trio_otp.testing import SettableClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
YEAR = 365


async def noop():
    pass


@contextmanager
def measured(what, count, unit=None):
    """Print how long a block takes; give the seconds for one of `count` things."""
    took = []
    begun = time.process_time()
    yield took
    took.append((time.process_time() - begun) / count)
    times = f"{took[0] / unit:6.1f} times plain" if unit else ""
    print(f"{what:44} {took[0] * count:7.3f} s {took[0] * 1e6:8.1f} us each {times}")


async def plain_spawns(count):
    """Start tasks that do nothing, one in each of Trio's batches."""
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(noop)
            await trio.lowlevel.checkpoint()


async def measure(count):
    with measured("plain Trio: start a task, let a batch go by", count) as plain:
        await plain_spawns(count)
    (unit,) = plain
    with measured("build Cron schedules, all different", count):
        crons = [Cron(f"{n % 60} {n // 60 % 24} * * *") for n in range(count)]
    with measured("ask each for its next slot", count) as asked:
        for cron in crons:
            cron.next_after(NOON)
    jobs = [Job(f"job {number}", cron, noop) for number, cron in enumerate(crons)]
    options = {"clock": SettableClock(NOON), "max_sleep": None}
    with measured("start a scheduler with them", count):
        async with Scheduler(jobs, **options):
            pass
    async with Scheduler(**options) as scheduler:
        with measured("add them one by one", count) as added:
            for job in jobs:
                await scheduler.add(job)
        print(f"{'  of which asking':44} {asked[0] / added[0]:7.0%}")
    ticks = [Job(f"tick {number}", Every(1e6), noop) for number in range(count)]
    async with Scheduler(ticks, **options):
        await trio.sleep(1e6 - 1)
        with measured("all due in one moment: start to end", count, unit):
            await trio.sleep(2)
    async with Scheduler([Job("daily", Cron("@daily"), noop)], **options):
        with measured("a year of a daily job", YEAR):
            await trio.sleep(YEAR * 86400)


if __name__ == "__main__":
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    trio.run(measure, many, clock=MockClock(autojump_threshold=0))
