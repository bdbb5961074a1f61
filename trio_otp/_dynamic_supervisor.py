"""DynamicSupervisor: children of any kind, started on demand and known by their handles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from ._core import options
from ._core.children import Child, ChildInfo, Request
from ._core.errors import UnknownChild
from ._core.loop import Rules
from ._core.process import Process
from ._core.text import short
from ._supervision import SupervisorProcess, budget_options, process_of, spec_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._core.life import Life
    from ._core.specs import ChildSpec
    from ._task import Task

P = TypeVar("P", bound=Process)
T = TypeVar("T")


class DynamicSupervisor(SupervisorProcess):
    """Any number of children, started on demand; OTP's DynamicSupervisor.

    It begins empty in each life. Children are known by their handles, not by ids, so any
    number of like ones may run. One that is down for good is forgotten. No child waits for
    another: one that takes long to start or to stop delays nobody else, each is restarted
    alone, and at the end all are stopped together.

    Args:
        name: A label, also its id as a child.
        max_children: How many children it may hold, those that are starting or between two
            lives included; `None` for any.
        max_restarts: How many restarts it may make within `max_seconds`, for all children
            together. Mind how many there are: of thousands, four may well fall in 5 s.
        max_seconds: The length of that window in seconds.
        extra_arguments: What functions are called with before their own arguments, in
            each life; processes were built with theirs.

    Raises:
        TypeError: An option is of a wrong type.
        ValueError: An option has a wrong value; the message names what it takes.
    """

    __slots__ = ("_extra", "_rules")

    _kind = "dynamic_supervisor"

    def __init__(
        self,
        *,
        name: str | None = None,
        max_children: int | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        extra_arguments: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(name=name)
        restarts, seconds = budget_options(max_restarts, max_seconds)
        given: object = extra_arguments
        if not isinstance(given, tuple | list):
            raise TypeError(f"extra_arguments must be a tuple, got {short(given)}")
        self._loop = None
        self._extra = tuple(extra_arguments)
        self._rules = Rules(
            max_restarts=restarts,
            max_seconds=seconds,
            max_children=options.count_or_none("max_children", max_children),
            together=True,
            dynamic=True,
        )

    @overload
    async def start_child(self, child: P, /) -> P: ...
    @overload
    async def start_child(self, child: ChildSpec, /) -> Process: ...
    @overload
    async def start_child(self, child: Callable[..., Awaitable[T]], /) -> Task[T]: ...
    async def start_child(self, child: Any, /) -> Any:
        """Start a child and give it back when it is ready; `DynamicSupervisor.start_child/2`.

        A child is a process, a `ChildSpec` or an async function; the id of a spec plays no
        role. One that declines to start (`Ignore`) comes back stopped. Other starts go on
        meanwhile, and a child may start another from its own start. Cancellation abandons
        the start: the child is stopped and forgotten. Each life of the child runs in the
        context in which this supervisor was started, not in that of the asker.

        Raises:
            MaxChildren: It holds as many as it may.
            StartFailed: The child failed to start, or was terminated first; it is forgotten.
            DuplicateChild: The process is a child of it already.
            AlreadyRunning: The process has another home.
            NotRunning: The supervisor does not run, or is stopping.
            TypeError: This cannot be a child.
            ValueError: It is significant, which means nothing here.
        """
        spec = spec_of(child)
        if spec.significant:
            raise ValueError(
                f"{short(spec.id)} is significant: a DynamicSupervisor has no such children"
            )
        process = process_of(spec, self._extra)
        new = Child(spec, process, id=process)
        await self._running().ask(Request("start", new))
        return process

    async def terminate_child(self, child: Process, /) -> None:
        """Stop a child for good and wait until it has ended; `terminate_child/2`.

        Also one that is starting, or between two lives. Cancellation ends the wait; the stop
        goes on.

        Raises:
            UnknownChild: It is not, or no longer, one of its children.
            NotRunning: The supervisor does not run, or is stopping.
        """
        found = self._running().find(child)
        if found is None:
            raise UnknownChild(f"{self!r} has no child {short(child)}")
        await self._running().ask(Request("terminate", found))

    @property
    def children(self) -> tuple[ChildInfo, ...]:
        """A snapshot of the children in the order of their starts; empty when it does not run."""
        # One that is down for good stays in the table until the loop has its turn.
        return tuple(info for info in super().children if info.status != "stopped")

    async def _main(self, life: Life) -> None:
        await self._live(life, self._rules)
