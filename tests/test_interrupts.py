"""Interrupts in the middle of the library's own code."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "interrupting.py"
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def runs():
    """Run all scenarios side by side: each takes a second or two."""
    running = {
        scenario: subprocess.Popen(
            # An interrupt between a call and its await leaves a coroutine, here as in any program.
            [sys.executable, "-W", "ignore", str(PROGRAM), scenario],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for scenario in ("restarts", "tasks", "agents", "streams", "jobs")
    }
    yield running
    for one in running.values():
        one.kill()
        one.communicate()


@pytest.mark.conforms("CASE-83", "REVIEW-1")
@pytest.mark.parametrize("scenario", ["restarts", "tasks", "agents", "streams", "jobs"])
def test_interrupt_in_each_function(runs, scenario):
    """Ctrl-C anywhere in the library ends the program, with all cleanup done and no fault of ours."""
    shown, errors = runs[scenario].communicate(timeout=50)
    *problems, last = shown.splitlines()
    assert not problems, errors
    assert last.startswith("runs ")
    assert int(last.removeprefix("runs ")) > 100
