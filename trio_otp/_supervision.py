"""What the supervisors share: options, and how anything becomes a child."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from ._core import options
from ._core.errors import NotRunning
from ._core.loop import Loop, Rules
from ._core.process import Process
from ._core.specs import ChildSpec
from ._core.text import short
from ._task import Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable

    from ._core.children import Child, ChildInfo
    from ._core.life import Life

ChildLike: TypeAlias = "Process | ChildSpec | Callable[[], Awaitable[object]]"
"""What may stand in a list of children."""


class SupervisorProcess(Process):
    """What all supervisors are: a process whose lives are loops."""

    __slots__ = ("_loop",)

    _kind = "supervisor"
    _class_shutdown = float("inf")  # its children have limits; it waits for them

    _loop: Loop | None

    @property
    def children(self) -> tuple[ChildInfo, ...]:
        """A snapshot of the children in start order; empty when it does not run."""
        return () if self._loop is None else tuple(c.info() for c in self._loop.children())

    def _running(self) -> Loop:
        if self._loop is None or self._life is None or self._life.exit is not None:
            raise NotRunning(f"{self!r} is not running", self)
        return self._loop

    def _kill(self, life: Any) -> None:
        super()._kill(life)
        if self._loop is not None:
            self._loop.kill()

    async def _live(self, life: Life, rules: Rules, children: Iterable[Child] = ()) -> None:
        """Run one life of the loop that all supervisors share."""
        self._loop = loop = Loop(self, rules, children)
        await loop.run(lambda: self._become_ready(life))

    def _under(self) -> dict[Process, tuple[Hashable, int]]:
        if self._loop is None:
            return {}
        known: dict[Process, tuple[Hashable, int]] = {}
        for child in self._loop.children():
            known[child.process] = (child.id, child.restarts)
        known.update((guest, (guest.name, 0)) for guest in self._loop.guests)
        return known

    def _settle(self, life: Any, exit: Any, result: Any) -> None:
        self._loop = None


def spec_of(child: Any) -> ChildSpec:
    """Describe anything that may stand in a list of children."""
    if isinstance(child, ChildSpec):
        return child
    if isinstance(child, Process):
        spec = child.child_spec()
        if not isinstance(spec, ChildSpec):
            raise TypeError(f"child_spec() of {child!r} must return a ChildSpec, got {short(spec)}")
        return spec
    if not callable(child) and not isinstance(child, Coroutine):
        raise TypeError(
            f"a child must be a process, a ChildSpec or an async function, got {short(child)}"
        )
    function: Any = child  # pyright: ignore[reportUnknownVariableType]
    return ChildSpec(function)


def process_of(spec: ChildSpec, extra: tuple[Any, ...] = ()) -> Process:
    """Give the process that a spec describes; a function becomes a `Task`."""
    if isinstance(spec.start, Process):
        return spec.start
    name = spec.id if isinstance(spec.id, str) else None
    args: Any = (*extra, *spec.args)
    task: Task[Any] = Task(spec.start, *args, name=name, restart="permanent")
    return task


def budget_options(max_restarts: int, max_seconds: float) -> tuple[int, float]:
    """Check the two options of a restart budget."""
    return options.count("max_restarts", max_restarts), options.positive("max_seconds", max_seconds)


def check_significance(child: Child, auto_shutdown: str) -> None:
    """Refuse a significant child where its end can mean nothing."""
    if not child.significant:
        return
    if auto_shutdown == "never":
        raise ValueError(
            f"child {short(child.id)} is significant, but auto_shutdown is 'never': "
            "choose 'any_significant' or 'all_significant'"
        )
    if child.restart == "permanent":
        raise ValueError(
            f"child {short(child.id)} is significant and permanent: "
            "a permanent child never ends for good; make it transient or temporary"
        )
