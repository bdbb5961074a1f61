"""The meter: memory, and garbage that only the collector would find."""

from __future__ import annotations

import gc
import mmap
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STATM: Final = Path("/proc/self/statm")


@attrs.frozen
class Reading:
    """What the process holds at one moment.

    Attributes:
        blocks: Pieces of memory that Python has given out.
        megabytes: What the system counts as resident; 0 where it does not say.
    """

    blocks: float
    megabytes: float


def read() -> Reading:
    """Read the meter."""
    pages = int(STATM.read_text().split()[1]) if STATM.exists() else 0
    return Reading(sys.getallocatedblocks(), pages * mmap.PAGESIZE / 2**20)


def growth(readings: Sequence[Reading]) -> Reading:
    """Compare the last tenth of the readings with the first: 0.01 is one per cent more."""
    tenth = max(1, len(readings) // 10)
    first, last = readings[:tenth], readings[-tenth:]
    blocks = sum(one.blocks for one in last) / sum(one.blocks for one in first)
    before = sum(one.megabytes for one in first) or 1
    megabytes = (sum(one.megabytes for one in last) or 1) / before
    return Reading(blocks - 1, megabytes - 1)


@contextmanager
def no_collector() -> Iterator[None]:
    """Switch the collector off, so that cycles stay where they are."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def cycles() -> Counter[str]:
    """Collect once, and say what was found, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.collect()  # which now frees it
