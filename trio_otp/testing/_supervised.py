"""Supervised: what starts processes that belong to a test."""

from __future__ import annotations

import warnings
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

import trio

from .._core import failures
from .._core.events import CastDropped, Ended, Ready, StopLate, subscribe
from .._core.snapshots import observe
from .._core.specs import ChildSpec
from .._supervision import process_of, spec_of
from .._supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator

    from .._core.events import Event
    from .._core.process import Process
    from .._core.snapshots import ProcessInfo
    from .._task import Task

P = TypeVar("P", bound="Process")
T = TypeVar("T")


class UnfinishedWork(UserWarning):
    """A test has ended while work that it had asked for was not done."""


class Root(Supervisor):
    """The supervisor of a test; what runs under it is no leak before the test has ended."""


class Supervised:
    """Starts processes that end with the test: the fixture `supervised`.

    `await supervised(Agent(dict))` is ExUnit's `start_supervised!`. What was started is
    stopped in reverse order when the test has ended. A process that crashes fails the test, at once
    and with the process's own error: a test that wants a crash puts the process under a
    `Supervisor` of its own. Nothing is started again.
    """

    def __init__(self, root: Root, children: set[Process]) -> None:
        self._root = root
        self._children = children

    @overload
    async def __call__(self, child: P, /) -> P: ...
    @overload
    async def __call__(self, child: Callable[[], Awaitable[T]], /) -> Task[T]: ...
    @overload
    async def __call__(self, child: ChildSpec, /) -> Process: ...
    async def __call__(self, child: Any, /) -> Any:
        """Start a process, a `ChildSpec` or an async function, and wait until it is ready.

        Gives back the process handed in, or the `Task` of a function. Cancellation abandons
        the start.

        Raises:
            StartFailed: It failed to start; the cause is its own error.
            AlreadyRunning: The process has a home already.
            NotRunning: The test is ending.
            TypeError: This cannot be a child.
            ValueError: It cannot be a child here.
        """
        spec = spec_of(child)
        process = process_of(spec)
        self._children.add(process)
        # Its own id: two processes of a test may well have one name.
        mine = ChildSpec(
            process,
            id=process,
            restart="temporary",
            shutdown=spec.shutdown,
            start_timeout=spec.start_timeout,
        )
        return await self._root.start_child(mine)


class _Watch:
    """Hears what goes wrong under the root of a test."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.children: set[Process] = set()  # those that the test started itself
        self.crashes: list[Exception] = []
        self.undone: list[str] = []
        self._ready: set[Process] = set()
        self._ending = False
        self._root = Root(name="supervised")

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Supervised]:
        with subscribe(self._hear), self.scope:
            async with self._root:
                try:
                    yield Supervised(self._root, self.children)
                finally:
                    self._ending = True
                    self.undone.extend(_unfinished(observe(self._root)))

    def _hear(self, event: Event) -> None:
        if event.path[0] != self._root.name:
            return
        match event:
            case Ready(process=process):
                self._ready.add(process)
            case Ended(process=process):
                was_ready = process in self._ready
                self._ready.discard(process)
                if was_ready and (self._ending or process in self.children):
                    self._ended(event)
            case StopLate(limit=limit) if self._ending:
                self.undone.append(f"{_name(event)} had not stopped after {limit:g} s")
            case CastDropped() if self._ending:
                self.undone.append(f"{_name(event)} had a cast to do")
            case _:
                pass

    def _ended(self, event: Ended) -> None:
        """Note a crash that nobody handles: no supervisor of the test's own is there any more."""
        if event.exit.error is not None:
            self.crashes.append(event.exit.error)
            self.scope.cancel(reason=f"{_name(event)} crashed")


@asynccontextmanager
async def supervising() -> AsyncGenerator[Supervised]:
    """Be the fixture: run a supervisor for a test, and fail with what crashed under it.

    Raises:
        Exception: What crashed, bare, or a group if several did.
    """
    watch = _Watch()
    async with watch.running() as supervised:
        yield supervised
    if watch.undone:
        lines = "".join(f"\n  {line}" for line in watch.undone)
        warnings.warn(UnfinishedWork(f"the test has ended before its work:{lines}"), stacklevel=1)
    if watch.crashes:
        leaving, _ = failures.merged(watch.crashes)
        assert leaving is not None  # merging keeps one
        failures.raised(leaving)


def _unfinished(info: ProcessInfo) -> Iterator[str]:
    """Find the tasks that somebody asked for and that the end of the test will cancel."""
    for child in info.children:
        if info.kind == "task_supervisor" and child.status == "running":
            yield f"{child.name}, a task of {info.name}, was still running"
        yield from _unfinished(child)


def _name(event: Event) -> str:
    return "/".join(event.path[1:])


@contextmanager
def telling_once() -> Generator[None]:
    """Let one failure come out of a test bare, without what only failed because of it.

    pytest-trio puts a failure of a fixture in a group. And a test that waits for an agent which
    crashes gets `Exited`, while the fixture has the crash: that is one failure, not two.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        leaving, _ = failures.merged(failures.leaves(group))
        if leaving is None or isinstance(leaving, BaseExceptionGroup):
            raise
    else:
        return
    failures.raised(leaving)
