"""One soak: rounds of storm and work with an audit after each, then the end, under load."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import attrs
import trio
import trio.testing

from trio_otp.testing import chaos, leaks, seeded

from .audit import Reports, audit, audit_end, same
from .customers import Customers
from .meter import Reading, cycles, no_collector, read
from .storm import PULSE, Storm
from .tree import Tree

DRAIN_SECONDS: Final = 16.0  # for what customers have left in mailboxes, and for restart delays
CHAOS: Final[Any] = {"seconds": 0.5, "rate": 10.0}
LOAD_SECONDS: Final = 32 * PULSE  # of work before the end, so that it comes in the middle

Progress = Callable[[int, Reading], object]


@attrs.frozen(kw_only=True)
class Result:
    """What a soak has seen. Equal for equal seeds: what depends on the machine is not compared.

    Attributes:
        crashes: Blows and requests that have crashed or killed a process.
        requests: Errands of customers.
        lives: Lives of servers.
        checksum: Of who was hit, how and when.
        stop_seconds: How long the tree took to end, in Trio's time.
        stop_steps: The same in steps of Trio tasks.
        real_seconds: The whole soak on a real clock.
        real_stop_seconds: The end on a real clock.
        memory: One reading after each round.
    """

    crashes: int
    requests: int
    lives: int
    checksum: int
    stop_seconds: float
    stop_steps: int
    real_seconds: float = attrs.field(eq=False)
    real_stop_seconds: float = attrs.field(eq=False)
    memory: tuple[Reading, ...] = attrs.field(eq=False, repr=False)


def soak(crashes: int, seed: int, rounds: int = 10, progress: Progress = lambda *_: None) -> Result:
    """Crash a tree of 1,000 processes so many times, and check all that it promises.

    Raises:
        AssertionError: A promise was broken; the text says which.
    """
    clock = trio.testing.MockClock(autojump_threshold=0)
    with no_collector(), seeded(seed), reports_counted() as reports:
        result = trio.run(Soak(seed, reports).run, crashes, rounds, progress, clock=clock)
    leaks()
    return result


@contextmanager
def reports_counted() -> Iterator[Reports]:
    """Take what the library reports away from the terminal, and count it."""
    log, reports = logging.getLogger("trio_otp"), Reports()
    before, log.propagate = log.propagate, False
    log.addHandler(reports)
    try:
        yield reports
    finally:
        log.removeHandler(reports)
        log.propagate = before


class Soak:
    """A tree, those who use it, and the storm."""

    def __init__(self, seed: int, reports: Reports) -> None:
        dice = random.Random(seed)
        self._dice = dice
        self._reports = reports
        self._tree = Tree()
        self._customers = Customers(self._tree, dice)
        self._storm = Storm(self._tree, dice)
        self._memory: list[Reading] = []

    async def run(self, crashes: int, rounds: int, progress: Progress) -> Result:
        """Go through it from the first start to the last end."""
        began = time.perf_counter()
        async with self._tree.root:
            await self._tree.grow()
            self._dice.shuffle(self._tree.accounts)  # who is popular
            while self._crashes() < crashes:
                await self._round(-(-crashes // rounds))
                self._memory.append(read())
                progress(self._crashes(), self._memory[-1])
            ending = await self._end()
        audit_end(self._tree, self._customers)
        self._check_reports_and_memory()
        return Result(
            crashes=self._crashes(),
            requests=self._customers.errands,
            lives=sum(account.lives for account in self._tree.accounts),
            checksum=self._storm.checksum,
            real_seconds=time.perf_counter() - began,
            memory=tuple(self._memory),
            **ending,
        )

    async def _round(self, crashes: int) -> None:
        """Have customers and the storm at work, then wait for quiet, and look."""
        over = self._crashes() + crashes
        async with self._customers.at_work():
            while self._crashes() < over:
                await self._storm.pulse()
        await self._chaos()
        await trio.sleep(DRAIN_SECONDS)
        await self._tree.restock()
        await audit(self._tree, self._customers)
        self._check_reports_and_memory()

    async def _chaos(self) -> None:
        """Let the test kit hit the tree as well, and judge whether it is whole."""
        seed = self._dice.randrange(2**32)
        for blow in await chaos(self._tree.root, seed=seed, **CHAOS):
            self._storm.record(blow.kind, "/".join(blow.path))

    async def _end(self) -> dict[str, float]:
        """Tell the tree to end, in the middle of the work."""
        steps = Steps()
        async with self._customers.at_work():
            await trio.sleep(LOAD_SECONDS)
            at, real = trio.current_time(), time.perf_counter()
            trio.lowlevel.add_instrument(steps)
            await self._tree.root.stop()
            trio.lowlevel.remove_instrument(steps)
            at, real = trio.current_time() - at, time.perf_counter() - real
        return {"stop_seconds": at, "stop_steps": steps.count, "real_stop_seconds": real}

    def _check_reports_and_memory(self) -> None:
        """Each crash that nobody awaited was told, once; and there are no cycles."""
        wanted = sum(account.crashes for account in self._tree.accounts)
        same("reports of other things", self._reports.others[:5], [])
        same("reports of crashes", self._reports.crashes, self._storm.crashed + wanted)
        same("garbage", cycles(), {})

    def _crashes(self) -> int:
        accounts = (*self._tree.accounts, self._customers.tasks)
        wanted = sum(account.crashes for account in accounts)
        return self._storm.crashed + self._storm.killed + wanted


class Steps(trio.abc.Instrument):
    """Counts the steps of Trio tasks."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count one."""
        self.count += 1
