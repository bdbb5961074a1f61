"""A program for the tests of interrupts: `python interrupting.py SCENARIO [EACH [SEED]]`.

It runs a scenario once and notes each line of the library that is executed. Then it runs
the scenario again for EACH lines (2) of each function, with a SIGINT when the line is
reached. It says on its standard output which of these runs did not end as they should;
one that hangs is the last. `python interrupting.py restarts 1000` tries all lines.
"""

import contextlib
import dis
import logging
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import trio
import trio.testing

import trio_otp
from trio_otp import (
    Agent,
    ChildSpec,
    Cron,
    Every,
    Job,
    RestartsExhausted,
    Scheduler,
    Supervisor,
    Task,
    TaskSupervisor,
    current_process,
)
from trio_otp.testing import SettableClock

LIBRARY = str(Path(trio_otp.__file__).parent)
INSIDE_AWAIT = {dis.opmap["SEND"], dis.opmap["YIELD_VALUE"]}
AFTER_AWAIT = 2  # from here on, Python looks for no signals when it resumes a frame


class Lines:
    """Counts the lines of the library that are executed, or raises SIGINT at one of them."""

    def __init__(self, code=None, line=0, at=0):
        self.seen = Counter()
        self._code, self._line, self._at = code, line, at

    def __enter__(self):
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _enter(self, frame, *_):
        code = frame.f_code
        wanted = code is self._code if self._code else code.co_filename.startswith(LIBRARY)
        return self._trace if wanted else None

    def _trace(self, frame, event, _):
        if event == "line" and not is_resumed(frame):
            self.seen[frame.f_code, frame.f_lineno] += 1
            if frame.f_lineno == self._line and self.seen[self._code, self._line] == self._at:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return self._trace


def is_resumed(frame):
    """Say whether a frame only passes on to the coroutine that it awaits."""
    code, at = frame.f_code.co_code, max(frame.f_lasti, 0)
    resumed = code[at] == dis.opmap["RESUME"] and code[at + 1] & 3 >= AFTER_AWAIT
    return resumed or code[at] in INSIDE_AWAIT


# --- scenarios ---------------------------------------------------------------------------

running = Counter()  # what is running now, by process


@contextlib.contextmanager
def counted():
    process = current_process()
    running[process] += 1
    try:
        yield
    finally:
        running[process] -= 1


async def steady():
    with counted():
        await trio.sleep_forever()


async def falls():
    with counted():
        await trio.sleep(0.01)
        raise ValueError


async def brief(*_):
    with counted():
        await trio.sleep(0.01)


async def restarts():
    children = [ChildSpec(steady, id="a"), ChildSpec(falls, id="b")]
    with contextlib.suppress(RestartsExhausted):
        async with Supervisor(children, strategy="one_for_all", max_restarts=1) as top:
            await top.start_child(ChildSpec(steady, id="c"))
            await top.terminate_child("c")
            await trio.sleep_forever()


async def tasks():
    async with TaskSupervisor() as jobs, trio.open_nursery() as nursery:
        jobs.start_child(brief)
        jobs.start_child(falls)
        slow = jobs.async_nolink(steady)
        await jobs.async_(nursery, brief)
        await jobs.async_nolink(brief).yield_()
        await Task.await_many([Task.async_(nursery, brief), jobs.async_nolink(brief)])
        await slow.shutdown()


async def step(number):
    await trio.sleep(0.01)
    return number + 1


async def agents():
    with contextlib.suppress(trio_otp.Exited):
        async with Agent(int) as agent, Task(steady):
            agent.cast(step)
            await agent.update(step)
            await agent.get()
            with contextlib.suppress(trio_otp.TimedOut):
                await agent.get(step, timeout=0.001)
            await agent.stop()


async def numbers():
    for number in range(3):
        await trio.sleep(0.01)
        yield number


async def streams():
    async with Task.async_stream(range(4), brief, max_concurrency=2) as results:
        async for _ in results:
            pass
    async with Task.async_stream(numbers(), brief) as results:
        async for _ in results:
            break


async def jobs():
    beat = Every(0.02)
    listed = [
        Job("falls", beat, falls),
        Job("next", beat, steady, overlap="replace", when=lambda: True),
        Job("limited", beat, steady, timeout=0.01, ack="after"),
        Job("boot", Cron("@reboot"), brief),
    ]
    clock = SettableClock()
    async with Scheduler(listed, clock=clock, max_concurrency=3, grace=0) as scheduler:
        await scheduler.add(Job("more", Cron("* * * * * *"), brief))
        clock.jump(5)
        scheduler.check_clock()
        await scheduler.update("more", timeout=1)
        await scheduler.deactivate("more")
        await scheduler.activate("more")
        await (await scheduler.run_job("more"))
        clock.jump(-20)
        await trio.sleep(0.1)
        await scheduler.delete("more")
        await scheduler.stop()


# --- runs --------------------------------------------------------------------------------


def run(scenario, lines):
    async def main():
        with lines:
            await scenario()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class Faults(logging.Handler):
    """Keeps the errors in the log that only a fault of the library can make."""

    def __init__(self):
        super().__init__()
        self.errors = []

    def emit(self, record):
        error = record.exc_info and record.exc_info[1]
        if isinstance(error, AssertionError | AttributeError | LookupError | RuntimeError):
            self.errors.append(error)


faults = Faults()


def wrong(scenario, lines):
    """Say what is wrong with how a run ended, if anything is."""
    running.clear()
    faults.errors.clear()
    try:
        run(scenario, lines)
    except KeyboardInterrupt:
        left = [process for process, count in running.items() if count]
        return f"left {left}, logged {faults.errors}" if left or faults.errors else None
    except BaseException as error:
        return repr(error)[:200]
    return None  # it was not reached this time, or nearly everything was over


def hangs(*_):
    print("hangs", flush=True)
    os._exit(1)


def chosen(lines, dice, each=2):
    """Choose a few lines of each function, and for each of them one of the times it is reached."""
    of = {}
    for (code, line), count in lines.seen.items():
        of.setdefault(code, []).append((line, count))
    for code, its in of.items():
        for line, count in dice.sample(its, min(each, len(its))):
            yield code, line, dice.randint(1, count)


def main(scenario, each="2", seed="1"):
    logging.getLogger("trio_otp").addHandler(faults)
    signal.signal(signal.SIGALRM, hangs)
    run(scenario, lines := Lines())
    runs = 0
    for code, line, at in chosen(lines, random.Random(int(seed)), int(each)):
        signal.alarm(5)
        runs += 1
        if problem := wrong(scenario, Lines(code, line, at)):
            print(code.co_qualname, line, at, problem, flush=True)
    signal.alarm(0)
    print("runs", runs, flush=True)


if __name__ == "__main__":
    main(globals()[sys.argv[1]], *sys.argv[2:])
