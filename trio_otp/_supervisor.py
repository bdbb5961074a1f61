"""Supervisor: keeps a list of children alive by a strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from ._core import options
from ._core.children import Child, Request
from ._core.errors import DuplicateChild, UnknownChild
from ._core.loop import Rules
from ._core.process import Process
from ._core.text import short
from ._supervision import (
    ChildLike,
    SupervisorProcess,
    budget_options,
    check_significance,
    process_of,
    spec_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable

    from ._core.life import Life
    from ._core.options import AutoShutdown, Strategy
    from ._core.specs import ChildSpec
    from ._task import Task

P = TypeVar("P", bound=Process)
T = TypeVar("T")


class Supervisor(SupervisorProcess):
    """A nursery that catches what its children raise, and restarts them; OTP's Supervisor.

    Children start in the given order, each ready before the next, and stop in reverse:
    when it is stopped, when its block is left, when the outside is cancelled, and when it
    gives up. A child is a process, a `ChildSpec`, or an async function (permanent).

    Args:
        children: The children it starts with, in this order; in each life anew.
        strategy: Who is restarted with a fallen child: `"one_for_one"` nobody else,
            `"one_for_all"` all, `"rest_for_one"` those started after it.
        max_restarts: How many restarts it may make within `max_seconds`, for all children
            together; a group restart counts once. One more, and it stops all and fails
            with `RestartsExhausted`.
        max_seconds: The length of that window in seconds.
        auto_shutdown: Whether the end of significant children ends it: `"never"`,
            `"any_significant"`, `"all_significant"`.
        name: A label, also its id as a child.
        stop_together: Stop all children at once instead of one after the other.

    Raises:
        DuplicateChild: Two children have one id.
        TypeError: A child or an option is of a wrong type.
        ValueError: An option has a wrong value; the message names what it takes.
    """

    __slots__ = ("_rules", "_specs")

    def __init__(
        self,
        children: Iterable[ChildLike] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        name: str | None = None,
        stop_together: bool = False,
    ) -> None:
        super().__init__(name=name)
        restarts, seconds = budget_options(max_restarts, max_seconds)
        self._loop = None
        self._rules = Rules(
            strategy=options.one_of("strategy", strategy, options.STRATEGIES),
            max_restarts=restarts,
            max_seconds=seconds,
            auto_shutdown=options.one_of("auto_shutdown", auto_shutdown, options.AUTO_SHUTDOWNS),
            together=bool(stop_together),
        )
        self._specs = [(spec, process_of(spec)) for spec in map(spec_of, children)]
        self._check_children()

    # --- children ------------------------------------------------------------------------

    @overload
    async def start_child(self, child: P, /) -> P: ...
    @overload
    async def start_child(self, child: Callable[[], Awaitable[T]], /) -> Task[T]: ...
    @overload
    async def start_child(self, child: ChildSpec, /) -> Process: ...
    async def start_child(self, child: Any, /) -> Any:
        """Add a child at the end of the order and start it; `Supervisor.start_child/2`.

        Gives back the process handed in, or the `Task` of a function, when it is ready.
        Cancellation abandons the start: the child is stopped and forgotten. A supervisor
        that is restarted begins with its first children again. A child that is still
        starting is there already: who asks for it a second time gets `DuplicateChild` at
        once, and may call it, for calls to a starting process queue.

        Raises:
            StartFailed: The child failed to start; it is forgotten.
            DuplicateChild: There is a child of that id.
            AlreadyRunning: The process has a home already.
            CalledItself: The asker is itself being started by this supervisor.
            NotRunning: The supervisor does not run, or is stopping.
            TypeError: This cannot be a child.
            ValueError: It cannot be a child here.
        """
        spec = spec_of(child)
        new = self._child(spec, process_of(spec))
        await self._running().ask(Request("start", new))
        return new.process

    async def terminate_child(self, child: Hashable | Process, /) -> None:
        """Stop a child and keep it down; `Supervisor.terminate_child/2`.

        Returns when it has ended. It keeps its place and can be restarted by
        `restart_child`, or by a group restart; a temporary one is forgotten. Cancellation
        ends the wait; the stop goes on.

        Args:
            child: Its id or its process.

        Raises:
            UnknownChild: There is no such child.
            NotRunning: The supervisor does not run, or is stopping.
        """
        await self._running().ask(Request("terminate", self._find(child)))

    async def restart_child(self, child: Hashable | Process, /) -> Process:
        """Start a child that is down; `Supervisor.restart_child/2`.

        Does not count as a restart. Cancellation abandons the start.

        Raises:
            UnknownChild: There is no such child.
            AlreadyRunning: It is not down.
            StartFailed: It failed to start; it stays down and is not tried again.
            CalledItself: The asker is itself being started by this supervisor.
            NotRunning: The supervisor does not run, or is stopping.
        """
        found = self._find(child)
        await self._running().ask(Request("restart", found))
        return found.process

    def delete_child(self, child: Hashable | Process, /) -> None:
        """Forget a child that is down; `Supervisor.delete_child/2`.

        Raises:
            UnknownChild: There is no such child.
            AlreadyRunning: It is not down.
            NotRunning: The supervisor does not run.
        """
        self._running().delete(self._find(child))

    # --- inside ----------------------------------------------------------------------------

    async def _main(self, life: Life) -> None:
        children = [self._child(spec, process) for spec, process in self._specs]
        await self._live(life, self._rules, children)

    def _child(self, spec: ChildSpec, process: Process) -> Child:
        child = Child(spec, process)
        check_significance(child, self._rules.auto_shutdown)
        return child

    def _check_children(self) -> None:
        ids: set[Hashable] = set()
        for spec, process in self._specs:
            if spec.id in ids:
                raise DuplicateChild(f"two children have the id {short(spec.id)}")
            ids.add(spec.id)
            self._child(spec, process)

    def _find(self, child: Hashable | Process) -> Child:
        found = self._running().find(child)
        if found is None:
            raise UnknownChild(f"{self!r} has no child {short(child)}")
        return found
