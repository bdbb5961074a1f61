"""chaos: blows at the children of a running tree, which must be whole again afterwards."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
import trio

from .._core import options
from .._core.errors import (
    AlreadyRunning,
    CallFailed,
    RestartsExhausted,
    StartFailed,
    UnknownChild,
)
from .._core.server import Notice, Server
from .._core.snapshots import observe
from .._core.text import short
from .._supervision import SupervisorProcess
from .._supervisor import Supervisor
from ._crashing import InjectedCrash
from ._inside import throw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._core.children import Child
    from .._core.loop import Loop
    from .._core.options import Limit
    from .._core.process import Process
    from .._core.snapshots import ProcessInfo

Kind: TypeAlias = Literal["crash", "kill", "delay", "restart"]
"""What chaos does to a child."""

KINDS: Final[tuple[Kind, ...]] = ("crash", "kill", "delay", "restart")
_COSTLY: Final = ("crash", "kill")  # these make a supervisor spend a restart
_LONGEST_DELAY_SECONDS: Final = 1.0
_LOOK_EVERY_SECONDS: Final = 0.05


@attrs.frozen
class Blow:
    """One thing that chaos did.

    Attributes:
        at: When, in seconds of Trio's clock.
        kind: What.
        path: To whom: the names from the root of the tree down to its own.
    """

    at: float
    kind: Kind
    path: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {'/'.join(self.path)} at {self.at:g}"


async def chaos(
    supervisor: SupervisorProcess,
    /,
    *,
    seconds: float,
    rate: float = 0.5,
    kinds: Iterable[Kind] = KINDS,
    seed: int = 0,
    settle: Limit = 60.0,
) -> tuple[Blow, ...]:
    """Hit the children of a running tree for some time, then see that the tree is whole.

    Whole means: the supervisor runs, every child in the tree that its restart type promises
    runs, and none is on its way. Who is hit, and how, follows from the seed.

    Args:
        supervisor: The root of the tree; it is not hit itself.
        seconds: How long to go on, in seconds of Trio's clock.
        rate: Blows a second, evenly spaced.
        kinds: What may be done: `"crash"` raises `InjectedCrash` where the child waits,
            `"kill"` is `Process.kill`, `"delay"` keeps an agent or GenServer busy for up to a second,
            `"restart"` terminates a child and starts it again.
        seed: Of the choice of children and kinds.
        settle: Seconds that the tree has to become whole again; `None` for no limit.

    Returns:
        What was done.

    Raises:
        AssertionError: The tree fell, or is not whole; the text says what and after which blows.
        NotRunning: The supervisor does not run.
        TypeError: An argument is of a wrong type.
        ValueError: An option has a wrong value, or the supervisors could never survive the rate.

    Cancellation leaves the tree as it is at that moment.
    """
    if not isinstance(supervisor, SupervisorProcess):
        raise TypeError(f"supervisor must be a supervisor, got {short(supervisor)}")
    storm = _Storm(supervisor, _kinds(kinds), random.Random(options.count("seed", seed)), seed)
    over = trio.current_time() + options.positive("seconds", seconds)
    pause = 1 / options.positive("rate", rate)
    limit = options.limit("settle", settle)
    storm.refuse_if_deadly(rate)
    await trio.lowlevel.checkpoint()
    while trio.current_time() + pause <= over and not storm.fallen():
        await trio.sleep(pause)
        await storm.strike()
    await trio.sleep(max(0, over - trio.current_time()))
    await storm.settle(limit)
    return tuple(storm.blows)


def _kinds(kinds: Iterable[Kind]) -> tuple[Kind, ...]:
    if isinstance(kinds, str):
        raise TypeError(f"kinds must be a collection of words, got the word {short(kinds)}")
    given = tuple(options.one_of("kinds", kind, KINDS) for kind in kinds)
    if not given:
        raise ValueError(f"kinds must name at least one of {', '.join(KINDS)}")
    return given


class _Storm:
    def __init__(
        self,
        root: SupervisorProcess,
        kinds: tuple[Kind, ...],
        dice: random.Random,
        seed: int,
    ) -> None:
        self.blows: list[Blow] = []
        self._root = root
        self._kinds = kinds
        self._dice = dice
        self._seed = seed
        root._running()  # else there is nothing to hit

    # --- striking ------------------------------------------------------------------------

    async def strike(self) -> None:
        """Hit one child in one way; nobody, if nobody can be hit at the moment."""
        kind = self._dice.choice(self._kinds)
        targets = [
            (loop, child) for loop, child in self._children() if _can_be_hit(loop, child, kind)
        ]
        if targets:
            loop, child = self._dice.choice(targets)
            blow = Blow(trio.current_time(), kind, child.process._path())
            if await self._hit(loop._owner, child.process, kind):
                self.blows.append(blow)

    async def _hit(self, owner: Process, process: Process, kind: Kind) -> bool:
        match kind:
            case "crash":
                return throw(process._life.task, InjectedCrash(f"blow {len(self.blows) + 1}"))
            case "kill":
                process.kill()
            case "delay":
                _delay(process, self._dice.uniform(0, _LONGEST_DELAY_SECONDS))
            case "restart":
                return await _restart(owner, process)
        return True

    # --- looking -------------------------------------------------------------------------

    def fallen(self) -> bool:
        """Say whether the root has ended."""
        return self._root.status in ("stopping", "stopped")

    async def settle(self, limit: float) -> None:
        """Wait until the tree is whole."""
        at = trio.current_time() + limit
        await trio.sleep(_LOOK_EVERY_SECONDS)  # for the last blow to tell
        while (faults := self._faults()) and not self.fallen():
            if trio.current_time() >= at:
                break
            # By looking again: a child is up one step after the event that says so.
            await trio.sleep(_LOOK_EVERY_SECONDS)
        if faults:
            raise AssertionError(self._story(faults))

    def refuse_if_deadly(self, rate: float) -> None:
        """Refuse a rate that is above what all budgets of the tree allow together."""
        children = [child.restart != "temporary" for _, child in self._children()] or [False]
        costly = rate * _share(children) * _share([kind in _COSTLY for kind in self._kinds])
        rules = [loop._rules for loop in self._loops()]
        allowed = sum(rule.max_restarts / rule.max_seconds for rule in rules)
        if costly > allowed:
            raise ValueError(
                f"rate={rate:g} means {costly:g} crashes and kills a second, and the supervisors of "
                f"this tree survive {allowed:g} restarts a second together: "
                "lower the rate, or give them a larger max_restarts for the test"
            )

    def _loops(self) -> Iterator[Loop]:
        if not self.fallen():
            for process in _all(observe(self._root)):
                loop = getattr(process, "_loop", None)
                if isinstance(process, SupervisorProcess) and loop is not None:
                    yield loop

    def _children(self) -> list[tuple[Loop, Child]]:
        return [(loop, child) for loop in self._loops() for child in loop.children()]

    def _faults(self) -> list[str]:
        if self.fallen():
            exit = self._root.last_exit
            gave_up = exit is not None and isinstance(exit.error, RestartsExhausted)
            advice = ": lower the rate, or allow more restarts" if gave_up else ""
            return [f"{self._root!r} has fallen, {exit}{advice}"]
        return [
            f"{'/'.join(child.process._path())} is {child.process.status}"
            for _, child in self._children()
            if not _is_well(child)
        ]

    def _story(self, faults: list[str]) -> str:
        blows = [f"{len(self.blows)} blows (seed={self._seed}), the last:", *self.blows[-10:]]
        return "the tree is not whole\n  " + "\n  ".join(map(str, [*faults, *blows]))


def _share(answers: list[bool]) -> float:
    return sum(answers) / len(answers)


def _all(info: ProcessInfo) -> Iterator[Process]:
    yield info.process
    for child in info.children:
        yield from _all(child)


def _can_be_hit(loop: Loop, child: Child, kind: Kind) -> bool:
    if child.state != "up":
        return False
    if kind == "delay":
        return isinstance(child.process, Server)
    return kind != "restart" or (
        isinstance(loop._owner, Supervisor) and child.restart != "temporary"
    )


async def _restart(owner: Process, process: Process) -> bool:
    assert isinstance(owner, Supervisor)  # see _can_be_hit
    # The tree is falling about it at the same time: whole or not, that is judged at the end.
    with suppress(CallFailed, UnknownChild, AlreadyRunning, StartFailed):
        await owner.terminate_child(process)
        await owner.restart_child(process)
        return True
    return False


def _delay(process: Any, seconds: float) -> None:
    """Keep a server busy by a notice: no mailbox is too full for it, and none counts it."""

    async def stay_busy(*_: Any) -> None:
        await trio.sleep(seconds)

    process._life.put(Notice(_take_nothing, stay_busy, (None,)))


def _take_nothing(life: Any, result: Any) -> None:
    """Leave a server as it is."""


def _is_well(child: Child) -> bool:
    """Say whether a child is where its restart type wants it."""
    if child.state != "down":
        return child.state == "up" and child.process.status == "running"
    exit = child.process.last_exit
    failed = exit is None or exit.failed
    return child.restart != "permanent" and not (child.restart == "transient" and failed)
