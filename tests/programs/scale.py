"""What ten thousand jobs cost: `python scale.py [JOBS]` prints figures of this machine.

Hours pass in a moment, by a mock clock; the figures are of real time.
"""

import sys
import time
import tracemalloc
from contextlib import contextmanager

import trio
import trio.testing

from trio_otp import Cron, Every, Job, JobStarted, Scheduler, subscribe
from trio_otp.testing import SettableClock

HOUR, DAY = 3600, 86400


async def noop():
    pass


class Steps(trio.abc.Instrument):
    """Counts the steps of the Trio task of a scheduler."""

    def __init__(self):
        self.count = 0

    def before_task_step(self, task):
        self.count += task.name == "Scheduler"


@contextmanager
def counted():
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    yield steps
    trio.lowlevel.remove_instrument(steps)


def say(what, value, unit):
    print(f"{what:<42}{value:>12,.3f} {unit}", flush=True)


@contextmanager
def timed(what, number=1, unit="ms"):
    """Print how long it took, by real time, each of so many."""
    begun = time.perf_counter()
    yield
    say(what, (time.perf_counter() - begun) / number * {"ms": 1e3, "us": 1e6}[unit], unit)


def build(count):
    return [Job(f"job {n}", Cron(f"{n % 60} {n // 60 % 24} * * *"), noop) for n in range(count)]


def scheduler(jobs=(), **options):
    return Scheduler(jobs, clock=SettableClock(), **options)


async def add_and_idle(count):
    with timed(f"building {count:,} jobs"):
        jobs = build(count)
    async with scheduler() as target:
        with timed(f"adding {count:,} jobs"):
            for job in jobs:
                await target.add(job)
        with timed("one more", unit="us"):
            await target.add(Job("more", Cron("@yearly"), noop))
        say("Trio tasks besides those of the program", tasks(), "")


def tasks():
    return trio.lowlevel.current_statistics().tasks_living - 3  # its main task, and two of Trio's


async def memory(count):
    jobs = build(count)
    async with scheduler() as target:
        tracemalloc.start()
        for job in jobs:
            await target.add(job)
        say("memory for each job that is held", tracemalloc.get_traced_memory()[0] / count, "bytes")
        tracemalloc.stop()


async def idle(count):
    jobs = [Job(f"job {n}", Cron("@yearly"), noop) for n in range(count)]
    async with scheduler(jobs):
        await trio.sleep(1)
        with counted() as steps, timed("a simulated hour, idle"):
            await trio.sleep(HOUR)
        say("in which it looks at the clock", steps.count, "times")


async def one_by_one(count):
    jobs = [Job(f"job {n}", Every(count, initial_delay=n + 1), noop) for n in range(count)]
    async with scheduler(jobs, max_sleep=None):
        await trio.sleep(0.5)
        with timed(f"one run among {count:,} jobs", count, "us"):
            await trio.sleep(count)


async def burst(count):
    begun = trio.Event()
    number = 0

    def note(event):
        nonlocal number
        if isinstance(event, JobStarted):
            number += 1
            begun.set()

    jobs = [Job(f"job {n}", Cron("@hourly"), noop) for n in range(count)]
    with subscribe(note):
        async with scheduler(jobs, max_sleep=None), trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, HOUR + 1)
            await begun.wait()
            longest, before = 0.0, time.perf_counter()
            with timed(f"starting {count:,} runs at once"):
                while number < count:
                    await trio.lowlevel.checkpoint()
                    longest, before = (
                        max(longest, time.perf_counter() - before),
                        time.perf_counter(),
                    )
            say("meanwhile another task waits, at most", longest * 1e3, "ms")


async def long_times(count):
    async with scheduler([Job("daily", Cron("0 3 * * *"), noop)], max_sleep=None):
        with timed("a simulated year of a daily job"):
            await trio.sleep(365 * DAY)
    async with scheduler([Job("minutely", Cron("* * * * *"), noop)]):
        with timed(f"{count:,} simulated minutes of a minute job"):
            await trio.sleep(60 * count)


async def main(count):
    await add_and_idle(count)
    await memory(count)
    await idle(count)
    await one_by_one(count)
    await burst(count)
    await long_times(count)


if __name__ == "__main__":
    trio.run(
        main,
        int(sys.argv[1]) if sys.argv[1:] else 10_000,
        clock=trio.testing.MockClock(autojump_threshold=0),
    )
