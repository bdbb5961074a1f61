"""cancel_everywhere: a scenario cancelled at each of its checkpoints in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._core import options
from . import _places
from ._everywhere import everywhere

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def cancel_everywhere(
    scenario: Callable[[], Awaitable[object]],
    check: Callable[[], object],
    *,
    seed: int = 0,
    only: int | None = None,
) -> int:
    """Run a scenario again and again, cancelled one point later each time, until none is left.

    Point 0 is before its first step. The others are the moments in which a cancellation can
    come from outside while the scenario is under way: whenever a Trio task, the scenario's or one
    that works for it, has stopped at a checkpoint, and whenever something has woken a run
    that was waiting. So every checkpoint is cancelled while it waits, and also in the moment in
    which what it waited for has just come. The scheduler's order is seeded, so that all runs
    are the same up to their point; threads, sockets and a real clock are not, so use Trio's mock
    clock.

    The check is called after each run, the first of which is not cancelled. What the
    scenario keeps, it must make anew each time, or the check must allow for it.

    Args:
        scenario: An async function; it may end normally or by the cancellation.
        check: Raises, or returns False, if something is not as it must be; sync or async.
            `leaks` is one.
        seed: Of the order in which Trio runs the tasks that are ready.
        only: The one point to run, to repeat a failure.

    Returns:
        How many runs were cancelled.

    Raises:
        Exception: What scenario or check raised; a note says at which line it was cancelled.
        ValueError: The scenario has no checkpoint, or no end.
        TypeError: An argument is of a wrong type.

    Cancellation from outside ends the run under way and passes on.
    """
    options.function("scenario", scenario)
    return await everywhere(
        "cancel_everywhere",
        lambda point: _Cut(scenario, point),
        check,
        nothing="scenario has no checkpoint, so it cannot be cancelled: let it await something",
        seed=seed,
        only=only,
    )


class _Cut(trio.abc.Instrument):
    """Cancels a scenario at one of its points, and counts them until then."""

    def __init__(self, scenario: Callable[[], Awaitable[object]], at: int | None) -> None:
        self.points = 0
        self.place: str | None = None
        self._scenario = scenario
        self._at = at
        self._scope = trio.CancelScope()
        self._root = trio.lowlevel.current_task()
        self._waited = False

    async def play(self) -> None:
        if self._at == 0:
            self.place = "cancelled before its first step"
            self._scope.cancel(reason=self.place)
        trio.lowlevel.add_instrument(self)
        try:
            with self._scope:
                await self._scenario()
        finally:
            trio.lowlevel.remove_instrument(self)

    # --- what Trio calls -------------------------------------------------------------------

    def before_io_wait(self, timeout: float) -> None:
        self._waited = trio.lowlevel.current_statistics().tasks_runnable == 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._waited:  # else nothing has happened since the step before
            self._waited = False
            self._point(task, "was about to go on from")

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._point(task, "had come to")

    def _point(self, task: trio.lowlevel.Task, stood: str) -> None:
        self.points += 1
        if self.points == self._at:
            self.place = f"cancelled at {_places.of_task(self._root)}"
            if task is not self._root:
                self.place += f", when {task.name} {stood} {_places.of_task(task)}"
            self._scope.cancel(reason=f"point {self._at}")
