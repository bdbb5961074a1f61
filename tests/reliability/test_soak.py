"""The short form of the soak; `python -m tests.soak` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

from soak.ledger import Account, Broken, Ticket
from soak.meter import Reading, cycles, growth
from soak.run import soak
from trio_otp import Agent, Exit, Exited, MailboxFull, NotRunning, TimedOut

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def result():
    """What 5,000 crashes of the tree have shown."""
    return soak(5000, seed=1)


def test_nothing_is_lost(result):
    """Thousands of crashes all over a tree of 1,000 break no promise; all kinds have been there."""
    assert result.crashes >= 5000
    assert result.lives > 2 * 5000
    assert result.requests > 2000


def test_memory_is_flat(result):
    """What is held does not grow with the number of crashes, though nobody collects garbage."""
    assert len(result.memory) == 10
    assert growth(result.memory[1:]).blocks < 0.02


def test_the_end_comes_at_once(result):
    """A thousand processes at work end in no time, in about two steps each."""
    assert result.stop_seconds == 0
    assert 1000 < result.stop_steps < 3000


def test_seed_repeats_a_run():
    """The same seed gives the same crashes, lives and requests; another does not."""
    first = soak(300, seed=2, rounds=1)
    assert first == soak(300, seed=2, rounds=1)
    assert first.checksum != soak(300, seed=3, rounds=1).checksum


@pytest.mark.real
def test_command():
    """The command says what it has seen, and that all was well."""
    arguments = ["-m", "tests.soak", "--crashes", "200", "--seed", "5", "--rounds", "2"]
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "seed 5: 200 crashes in 2 rounds"
    assert [line.split()[1] for line in lines[1:3]] == ["crashes,", "crashes,"]
    assert "the end took" in lines[-1]


# --- the checks themselves can fail ----------------------------------------------------------


def ticket(*, crashes=False):
    """A ticket of a call."""
    account = Account("desk")
    return Ticket(account, account.calls, 0, crashes=crashes)


ERRORS = {
    "answer": None,
    "Exited": Exited(Agent(dict), Exit("killed")),
    "TimedOut": TimedOut("late"),
    "NotRunning": NotRunning("gone"),
    "MailboxFull": MailboxFull("full"),
}
# How far the call had come, and what its customer may hear then.
MAY_HEAR = {
    "new": {"Exited", "TimedOut", "NotRunning", "MailboxFull"},
    "begun": {"Exited", "TimedOut"},
    "done": {"answer"},
}


@pytest.mark.parametrize("told", ERRORS)
@pytest.mark.parametrize("stage", MAY_HEAR)
def test_what_a_customer_may_hear(stage, told):
    """An answer without the work, or an error in spite of it, is found."""
    one = ticket()
    if stage != "new":
        one.begin()
    if stage == "done":
        one.finish()
    if told in MAY_HEAR[stage]:
        one.tell(ERRORS[told])
    else:
        with pytest.raises(Broken, match=f"told when {stage}, its customer told {told}"):
            one.tell(ERRORS[told])


def test_work_after_the_news():
    """A request that is begun after its customer has left, or twice, is found."""
    late, twice = ticket(), ticket()
    late.tell(TimedOut("late"))
    with pytest.raises(Broken, match="begun when new, its customer told TimedOut"):
        late.begin()
    twice.begin()
    with pytest.raises(Broken, match="begun when begun"):
        twice.begin()


def test_cycles_are_found():
    """The meter names what only the collector could free."""
    cycles()
    loop: list[object] = []
    loop.append(loop)
    del loop
    assert cycles() == {"builtins.list": 1}
    assert cycles() == {}


def test_growth():
    """It compares tenths, so that a single reading says little."""
    readings = [Reading(100 + n // 10, 10) for n in range(30)]
    assert growth(readings) == Reading(pytest.approx(0.02), 0)
