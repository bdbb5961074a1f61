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

    def __init__(self, how, state):
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), how, state],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines = []

    def wait_for(self, line):
        while not self.lines or self.lines[-1] != line:
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

    def start(how, state):
        programs.append(Program(how, state))
        return programs[-1]

    yield start
    for one in programs:
        one.close()


def stops(lines):
    return [line for line in lines if line.startswith("stop ")]


@pytest.mark.conforms("CASE-83", "REVIEW-1")
@pytest.mark.parametrize("state", ["idle", "delay", "start", "trap", "agent"])
@pytest.mark.parametrize("how", ["run", "trio"])
def test_interrupt(program, how, state):
    """Ctrl-C in any state stops the tree in order, and leaves as KeyboardInterrupt alone."""
    running = program(how, state)
    running.wait_for("ready")
    running.send(signal.SIGINT)
    code, errors = running.end()
    assert code in (130, -signal.SIGINT)
    assert stops(running.lines) == ["stop b", "stop a"]
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "ExceptionGroup" not in errors
    assert running.lines.count("start a") == 1
    if how == "run":  # without it, the interrupt may come up in the child itself
        assert ("asked" in running.lines) == (state == "trap")


@pytest.mark.parametrize("state", ["idle", "delay", "start"])
def test_terminate(program, state):
    """SIGTERM stops in order too, and makes exit code 143."""
    running = program("run", state)
    running.wait_for("ready")
    running.send(signal.SIGTERM)
    code, errors = running.end()
    assert code == 143
    assert stops(running.lines) == ["stop b", "stop a"]
    assert "Traceback" not in errors.replace("falls at once", "") or state == "delay"


@pytest.mark.conforms("CASE-83")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_the_stop(program, number):
    """A second signal does not wait for a slow, shielded cleanup before it ends the others."""
    running = program("run", "slow")
    running.wait_for("ready")
    running.send(number)
    running.wait_for("stopping b")
    running.send(number)
    running.wait_for("stopping a")  # at once: nobody waits for b any more
    code, _ = running.end()
    assert code in (130, 143, -signal.SIGINT)
    assert stops(running.lines) == ["stop a", "stop b"]


@pytest.mark.conforms("CASE-83", "REVIEW-1")
def test_interrupt_twice_without_run(program):
    """With the supervisor in the main task, a second Ctrl-C in the stop cancels the rest at once."""
    running = program("trio", "slow")
    running.wait_for("ready")
    running.send(signal.SIGINT)
    running.wait_for("stopping b")
    running.send(signal.SIGINT)
    running.wait_for("stopping a")
    code, errors = running.end()
    assert code in (130, -signal.SIGINT)
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_interrupt_during_a_blocked_thread(program):
    """A worker thread that does not come back holds the stop, as Trio has it; the order is kept."""
    running = program("run", "thread")
    running.wait_for("ready")
    running.send(signal.SIGINT)
    time.sleep(0.2)
    running.write("go on\n")
    code, _ = running.end()
    assert code in (130, -signal.SIGINT)
    assert stops(running.lines) == ["stop b", "stop a"]


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
