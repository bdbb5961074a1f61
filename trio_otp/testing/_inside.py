"""What the kit uses of Trio that is not public: all of it is here, and guarded."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

import trio
from trio._core import _run

if TYPE_CHECKING:
    from collections.abc import Generator

_SHUFFLES: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Let the order in which Trio runs the tasks that are ready follow from a seed.

    Two runs of the same code are then the same, as long as no thread, socket or real clock
    has a say. Trio picks that order at random and has no public way to choose it; this is the
    way of pytest-trio and Hypothesis. Works around `trio.run` and inside a run; what was
    before is put back at the end.

    Raises:
        RuntimeError: This version of Trio keeps its dice elsewhere.
    """
    settings: dict[str, Any] = _run.__dict__
    dice = settings.get("_r")
    if not isinstance(dice, random.Random) or _SHUFFLES not in settings:
        raise RuntimeError(
            f"trio {trio.__version__} orders its tasks in a way that trio_otp.testing does not "
            "know: run without a seed, or with an older Trio"
        )
    before, shuffled = dice.getstate(), settings[_SHUFFLES]
    settings[_SHUFFLES] = True  # without it, the order depends on hashes of the tasks as well
    dice.seed(seed)
    try:
        yield
    finally:
        settings[_SHUFFLES] = shuffled
        dice.setstate(before)


def throw(task: trio.lowlevel.Task, error: Exception) -> bool:
    """Have the checkpoint at which a task is parked raise an error, as Trio does with Ctrl-C.

    False if it is not parked, or waits for something that cannot be broken off.
    """

    def raise_it() -> NoReturn:
        raise error

    if task._abort_func is None:
        return False
    task._attempt_abort(raise_it)
    error.__traceback__ = None  # that was of this call: it would keep whoever called us
    return task._next_send_fn is not None
