"""What every test gets: a limit in real time."""

import os
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
import trio
from hypothesis import settings

# Found by its entry point, where the package was installed since it has one.
pytest_plugins = ["pytest_trio_otp"]

LIMIT_SECONDS = 60
# How long a hanging test has to end once it is cancelled.
GRACE_SECONDS = 5

# Coverage and a busy machine make single examples slow, which proves nothing.
settings.register_profile("here", deadline=None)
# The same examples each time: a new one is for whoever looks for it, not for whoever commits.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("soak", deadline=None, max_examples=50_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "here"))


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    """End a test that hangs, and show what each Trio task was waiting for.

    The test is cancelled, shields and all, so that what it started is cleaned
    up and the next test is not hurt. One that resists gets the failure thrown
    into whatever it runs at that moment.
    """
    reports: list[str] = []

    def too_long(_signal: int, frame: FrameType | None) -> None:
        if reports or not _cancel_test(reports):
            pytest.fail(f"ran into the limit\n{''.join(traceback.format_stack(frame))}")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LIMIT_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    if reports:
        pytest.fail("\n".join(reports), pytrace=False)


def _cancel_test(reports: list[str]) -> bool:
    """Have Trio cancel the test; False if no Trio runs."""
    if not trio.lowlevel.in_trio_run():
        return False
    reports.append(f"cancelled after {LIMIT_SECONDS} s; the Trio tasks, and where each waited:")
    # A signal arrives anywhere, also in the middle of Trio's own bookkeeping.
    trio.lowlevel.current_trio_token().run_sync_soon(_report_and_cancel, reports)
    signal.alarm(GRACE_SECONDS)
    return True


def _report_and_cancel(reports: list[str]) -> None:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    reports.extend(_waits(root))
    _lift_shields(root)
    # The last nursery of Trio's root task holds the main task and nothing else.
    root.child_nurseries[-1].cancel_scope.cancel(reason="the test hangs")


def _lift_shields(task: trio.lowlevel.Task) -> None:
    """Make every task cancellable: a child nobody can reach is how supervisors hang."""
    status = task._cancel_status  # Trio has no public way past a shield
    while status is not None:
        status._scope.shield = False
        status = status.parent
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            _lift_shields(child)


def _waits(task: trio.lowlevel.Task, depth: int = 1) -> Iterator[str]:
    where = (
        f"{Path(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"
        for frame, line in task.iter_await_frames()
    )
    yield f"{'  ' * depth}{task.name}: {' > '.join(where)}"
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _waits(child, depth + 1)
