"""The storm: processes all over the tree are crashed where they wait, or killed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import trio

from trio_otp.testing import InjectedCrash
from trio_otp.testing._inside import throw

if TYPE_CHECKING:
    import random

    from trio_otp import Process

    from .ledger import Account
    from .tree import Tree

PULSE: Final = 1 / 64  # seconds; exact in binary, so that much happens in the same moment
AT_ONCE: Final = 8  # blows in a pulse
SUPERVISORS: Final = 0.002  # the share of blows at supervisors: each ends many lives
RESIDENTS: Final = 0.1  # the share of blows at restartable tasks


class Storm:
    """Hits the tree, and keeps the score.

    Attributes:
        crashed: Blows that raised an error, those of the test kit included.
        killed: Blows that were kills.
        checksum: Of who was hit, how and when: equal for equal runs.
    """

    def __init__(self, tree: Tree, dice: random.Random) -> None:
        self.crashed = self.killed = self.checksum = 0
        self._tree = tree
        self._dice = dice

    async def pulse(self) -> None:
        """Wait for the next moment, and hit some who run."""
        await trio.sleep(PULSE)
        # Nobody twice: he who was crashed does not look it yet.
        for process in {self._target(): None for _ in range(AT_ONCE)}:
            self._hit(process)

    def record(self, kind: str, name: str) -> None:
        """Add a blow to the score."""
        self.crashed += kind == "crash"
        self.killed += kind == "kill"
        self.checksum = zlib.crc32(f"{trio.current_time()} {kind} {name}".encode(), self.checksum)

    def _target(self) -> Process:
        dice, share = self._dice, self._dice.random()
        if share < SUPERVISORS:
            return dice.choice(self._tree.supervisors)
        if share < SUPERVISORS + RESIDENTS:
            return dice.choice(self._tree.residents)
        return popular(self._tree, dice).server

    def _hit(self, process: Process) -> None:
        if process.status != "running":
            return
        if self._dice.random() < 0.5:
            process.kill()
            self.record("kill", process.name)
        elif throw(process._life.task, InjectedCrash("blow")):
            self.record("crash", process.name)


def popular(tree: Tree, dice: random.Random) -> Account:
    """Draw a server; some are asked, and hit, far more often, so that requests queue there."""
    return tree.accounts[int(len(tree.accounts) * dice.random() ** 3)]
