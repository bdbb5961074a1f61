"""Running a scenario once for each place at which it can be broken off."""

from __future__ import annotations

import inspect
import itertools
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from .._core import options
from .._core.text import short
from ._inside import seeded
from ._leaks import only_new_objects

if TYPE_CHECKING:
    from collections.abc import Callable

# More than any scenario of a test has; one that never comes to its end has more.
MOST_POINTS: Final = 10_000


class Attempt(Protocol):
    """One run of a scenario."""

    @property
    def points(self) -> int:
        """How many were met so far."""
        ...

    @property
    def place(self) -> str | None:
        """Where it was broken off, if it was."""
        ...

    async def play(self) -> None:
        """Run the scenario; what it raises because it was broken off stays inside."""
        ...


async def everywhere(
    what: str,
    attempt: Callable[[int | None], Attempt],
    check: Callable[[], object],
    *,
    nothing: str,
    seed: int,
    only: int | None,
) -> int:
    """Make an attempt that is not broken off, then one for each point, and check after each.

    Args:
        what: The public function that asks, for texts.
        attempt: Makes an attempt that is broken off at a point, or, with None, at none.
        check: Raises, or returns False, if an invariant does not hold.
        nothing: What to say if there is no point.
        seed: Of the order of scheduling; the same in each attempt.
        only: The one point to try.
    """
    options.function("check", check)
    options.count("seed", seed)
    points = options.count_or_none("only", only) if only is not None else None
    with only_new_objects():
        if points is not None:
            await _try(what, attempt(only), check, only, seed)
            return 1
        whole = attempt(None)
        await _try(what, whole, check, None, seed)
        if not whole.points:
            raise ValueError(nothing)
        for point in itertools.count():
            one = attempt(point)
            await _try(what, one, check, point, seed)
            if one.place is None:
                return point
            if point > MOST_POINTS:
                raise ValueError(f"{what}: the scenario has no end after {point} points")
    raise AssertionError  # not reached


async def _try(
    what: str, attempt: Attempt, check: Callable[[], object], point: int | None, seed: int
) -> None:
    try:
        with seeded(seed):
            await attempt.play()
        await _hold(check)
    except trio.Cancelled:
        raise  # the test itself is cancelled
    except BaseException as error:
        error.add_note(f"{what}: {_told(attempt.place, point, seed)}")
        raise


async def _hold(check: Callable[[], object]) -> None:
    result: Any = check()
    if inspect.isawaitable(result):
        result = await result
    if result is False:
        raise AssertionError(f"check {short(check)} returned False")


def _told(place: str | None, point: int | None, seed: int) -> str:
    if place is None:
        return f"this run was not broken off: scenario and check fail by themselves (seed={seed})"
    return f"point {point}, {place}; only={point}, seed={seed} repeats it alone"
