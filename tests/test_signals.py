"""Real signals, sent to real processes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "stopping.py"
pytestmark = pytest.mark.real


class Program:
    """A running program whose lines can be waited for."""

    def __init__(self, *arguments):
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines = []

    def wait_for(self, *wanted):
        while not {*wanted} <= {*self.lines}:
            read = self._process.stdout.readline()
            assert read, self._process.stderr.read()
            self.lines.append(read.strip())

    def send(self, number):
        self._process.send_signal(number)

    def write(self, text):
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def end(self):
        """Wait for the end; give the exit code, the lines and what stood on standard error."""
        # Not by communicate(): it would miss what readline() has taken from the pipe already.
        self.lines += self._process.stdout.read().split("\n")[:-1]
        errors = self._process.stderr.read()
        return self._process.wait(timeout=20), errors

    def close(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def program():
    programs = []

    def start(*arguments):
        programs.append(Program(*arguments))
        return programs[-1]

    yield start
    for one in programs:
        one.close()


def stops(lines):
    return [line for line in lines if line.startswith("stop ")]


STATES = ["idle", "delay", "start", "init", "trap", "agent", "main"]
SIGNALS = [signal.SIGINT, signal.SIGTERM]
CODES = {signal.SIGINT: (130, -signal.SIGINT), signal.SIGTERM: (143,)}

both = pytest.mark.parametrize("number", SIGNALS)


@pytest.mark.conforms("CASE-83", "REVIEW-1")
@pytest.mark.parametrize("state", STATES)
@both
def test_one(program, number, state):
    """A signal in any state stops the tree in order, and the exit code tells which it was."""
    running = program("run", state)
    running.wait_for("ready")
    running.send(number)
    code, errors = running.end()
    assert code in CODES[number]
    assert [line for line in running.lines if line not in ("ready", "asked", "main left")] == [
        *("start a", "start b", "stopping b", "stop b", "stopping a", "stop a")
    ]
    assert running.lines.count("asked") == (state == "trap")
    assert running.lines.count("main left") == (state == "main")
    assert errors.rstrip().endswith("KeyboardInterrupt") == (number == signal.SIGINT)
    assert "ExceptionGroup" not in errors


@pytest.mark.conforms("CASE-83", "REVIEW-1")
@pytest.mark.parametrize("state", ["idle", "delay", "start", "init", "trap", "agent"])
def test_interrupt_without_run(program, state):
    """Ctrl-C stops a tree in order without `run` too, and leaves as KeyboardInterrupt alone."""
    running = program("trio", state)
    running.wait_for("ready")
    running.send(signal.SIGINT)
    code, errors = running.end()
    assert code in CODES[signal.SIGINT]
    assert stops(running.lines) == ["stop b", "stop a"]
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "ExceptionGroup" not in errors
    assert running.lines.count("start a") == 1


@both
def test_during_a_shutdown(program, number):
    """A signal in a stop that has begun without one hurries nobody, and makes the exit code."""
    running = program("run", "shutdown", "held")
    running.wait_for("stopping b")
    running.send(number)
    running.write("go on\n")
    code, _ = running.end()
    assert code in CODES[number]
    assert stops(running.lines) == ["stop b", "stop a"]


@pytest.mark.conforms("CASE-83")
@pytest.mark.parametrize("state", [*STATES, "shutdown"])
@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_two(program, first, second, state):
    """The second does not wait for a held, shielded cleanup; the first makes the exit code."""
    running = program("run", state, "held")
    if state != "shutdown":
        running.wait_for("ready")
        running.send(first)
        running.wait_for("stopping b")
    else:
        running.wait_for("stopping b")
        running.send(first)
        time.sleep(0.1)  # two at once count as one: a program cannot tell them apart
    running.send(second)
    running.wait_for("stop a")  # at once: nobody waits for b any more
    running.write("go on\n")
    code, _ = running.end()
    assert code in CODES[first]
    assert stops(running.lines) == ["stop a", "stop b"]


@pytest.mark.conforms("CASE-83", "REVIEW-1")
def test_interrupt_twice_without_run(program):
    """With the supervisor in the main task, a second Ctrl-C in the stop cancels the rest at once."""
    running = program("trio", "idle", "held")
    running.wait_for("ready")
    time.sleep(0.1)  # until nothing runs: else it may come up in a child
    running.send(signal.SIGINT)
    running.wait_for("stopping b")
    time.sleep(0.1)
    running.send(signal.SIGINT)
    running.wait_for("stop a")
    running.write("go on\n")
    code, errors = running.end()
    assert code in CODES[signal.SIGINT]
    assert errors.rstrip().endswith("KeyboardInterrupt")


@both
def test_during_a_blocked_thread(program, number):
    """A worker thread that does not come back holds the stop, as Trio has it; the order is kept."""
    running = program("run", "thread")
    running.wait_for("ready")
    running.send(number)
    time.sleep(0.2)
    running.write("go on\n")
    code, _ = running.end()
    assert code in CODES[number]
    assert stops(running.lines) == ["stop b", "stop a"]


@both
def test_more_during_a_blocked_thread(program, number):
    """A second signal ends all but the thread; a third ends the program as Python does by itself."""
    running = program("run", "thread")
    running.wait_for("ready")
    running.send(number)
    time.sleep(0.1)
    running.send(signal.SIGTERM)
    running.wait_for("stop a", "stop b")
    running.send(signal.SIGTERM)
    code, _ = running.end()
    assert code == -signal.SIGTERM


STORM = """
import os, random, signal, sys, threading
import trio
from trio_otp import Agent, ChildSpec, Supervisor, TaskSupervisor

async def falls():
    await trio.lowlevel.checkpoint()
    raise ValueError

async def step(_):
    await trio.lowlevel.checkpoint()
    return 0

async def restarts():
    async with Supervisor([ChildSpec(falls, id=n) for n in range(3)], max_restarts=10**9):
        await trio.sleep_forever()

async def tasks():
    async with TaskSupervisor() as jobs:
        while True:
            jobs.start_child(trio.lowlevel.checkpoint)
            await jobs.async_nolink(trio.lowlevel.checkpoint)

async def agents():
    async with Supervisor([agent := Agent(int)], max_restarts=10**9):
        while True:
            agent.cast(step)
            await agent.get(lambda n: n)
            await agent.update(step)

import logging
logging.getLogger("trio_otp").setLevel(100)
rand = random.Random(int(sys.argv[1]))
for number in range(int(sys.argv[2])):
    scenario = (restarts, tasks, agents)[number % 3]
    signal.setitimer(signal.ITIMER_REAL, 0.002 + rand.random() * 0.01)
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        trio.run(scenario)
    except KeyboardInterrupt:
        pass
    print(number, flush=True)
"""


@pytest.mark.conforms("REVIEW-1")
@pytest.mark.parametrize("seed", [1, 2])
def test_interrupt_at_any_moment(seed):
    """Ctrl-C at random moments of a busy tree always ends it: no child is left that nobody knows."""
    ran = subprocess.run(
        # An interrupt between a call and its await leaves a coroutine, here as in any program.
        [sys.executable, "-W", "ignore", "-c", STORM, str(seed), "120"],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.stdout.split() == [str(number) for number in range(120)]
