"""TaskSupervisor: tasks started on demand, counted, limited, and stopped together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeVar, TypeVarTuple, overload

import trio

from ._core import events, options
from ._core.children import Child, ChildInfo, Request
from ._core.errors import CalledItself, MaxChildren, NotRunning, UnknownChild
from ._core.job import Job
from ._core.loop import Rules
from ._core.process import NOTHING_GIVEN, Given, Process, ended_or_named, own_process
from ._core.specs import ChildSpec
from ._core.text import short
from ._core.waiting import until
from ._stream import Stream, StreamOptions
from ._supervision import SupervisorProcess, budget_options
from ._task import Task

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from outcome import Error, Value

    from ._core.guests import Guests
    from ._core.life import Life
    from ._core.loop import Loop
    from ._core.options import Limit, Restart, Shutdown, StreamOnTimeout

T = TypeVar("T")
Item = TypeVar("Item")
Ts = TypeVarTuple("Ts")


class TaskSupervisor(SupervisorProcess):
    """A home for tasks that outlive the scope that starts them; `Task.Supervisor`.

    `start_child` when nobody waits, `async_nolink` when somebody does but must not be hurt
    by a failure, `async_` when a failure is to fail the caller's scope. Leaving its block
    in peace waits for what still runs, as a nursery does; leaving it by an error or a
    cancellation, or `stop()`, stops what runs. Under a supervisor it is stopped as any
    child. A failure that nobody awaits is logged.

    Args:
        name: A label, also its id as a child.
        max_children: How many tasks it may hold, restarting ones included; `None` for any.
        max_restarts: How many restarts it may make within `max_seconds`, for all its tasks.
        max_seconds: The length of that window in seconds.

    Raises:
        TypeError: An option is of a wrong type.
        ValueError: An option has a wrong value; the message names what it takes.
    """

    __slots__ = ("_max_children", "_rules")

    _kind = "task_supervisor"

    def __init__(
        self,
        *,
        name: str | None = None,
        max_children: int | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
    ) -> None:
        super().__init__(name=name)
        restarts, seconds = budget_options(max_restarts, max_seconds)
        self._loop = None
        self._max_children = options.count_or_none("max_children", max_children)
        self._rules = Rules(max_restarts=restarts, max_seconds=seconds, together=True, dynamic=True)

    # --- starting ------------------------------------------------------------------------

    def start_child(
        self,
        fn: Callable[[*Ts], Awaitable[object]],
        /,
        *args: *Ts,
        name: str | None = None,
        restart: Restart = "temporary",
        shutdown: Shutdown = 5.0,
    ) -> Process:
        """Start a task that nobody waits for; `Task.Supervisor.start_child/3`.

        Comes back at once, with a process to look at, stop or `wait` for; there is nothing
        to await. The task runs in the context of the caller, also when it is restarted.

        Args:
            fn: The async function; unless it may be restarted, it is called at once.
            *args: What it is called with.
            name: A label; by default the function's qualified name.
            restart: Whether it is started again: `"permanent"` always, `"transient"` after
                a crash or kill, `"temporary"` never.
            shutdown: Seconds to clean up when stopped, `None` for no limit, or
                `"brutal_kill"`.

        Raises:
            MaxChildren: It holds as many as it may.
            NotRunning: It does not run, or is stopping.
            TypeError: `fn` is not an async function, or does not take the arguments.
            ValueError: An option has a wrong value.
        """
        given = _given(restart, shutdown)
        if given.restart is not None:
            return self._start_restartable(fn, args, name, given)
        loop = self._admission()
        guests = loop.guests
        job = Job._launch(loop.nursery, guests.isolated, fn, args, name, True, guests)
        _announce(job, given)
        return job

    def async_(
        self,
        nursery: trio.Nursery,
        fn: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
        name: str | None = None,
        shutdown: Shutdown = 5.0,
    ) -> Task[T]:
        """Start a task linked to the caller's nursery; `Task.Supervisor.async/3`.

        It runs in `nursery` and fails with it, as one of `Task.async_`; this supervisor
        counts it, and stops it with the rest, which fails the nursery's scope with
        `Exited`. Arguments and errors as in `start_child`.
        """
        given, guests = _given("temporary", shutdown), self._admission().guests
        task: Task[Any] = Task._launch(nursery, guests.linked, fn, args, name, False, guests)
        _announce(task, given)
        return task

    def async_nolink(
        self,
        fn: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
        name: str | None = None,
        shutdown: Shutdown = 5.0,
    ) -> Task[T]:
        """Start a task whose failure only `await` shows; `Task.Supervisor.async_nolink/3`.

        It lives as long as this supervisor, whatever becomes of the caller. Arguments and
        errors as in `start_child`.
        """
        given, loop = _given("temporary", shutdown), self._admission()
        guests = loop.guests
        task: Task[Any] = Task._launch(loop.nursery, guests.isolated, fn, args, name, True, guests)
        _announce(task, given)
        return task

    # --- streams ---------------------------------------------------------------------------

    @overload
    def async_stream(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        fn: Callable[[Item, *Ts], Awaitable[T]],
        /,
        *args: *Ts,
        max_concurrency: int = ...,
        ordered: bool = ...,
        timeout: Limit = ...,
        on_timeout: StreamOnTimeout = ...,
        zip_input_on_exit: Literal[False] = False,
        max_buffered: int = ...,
        shutdown: Shutdown = ...,
    ) -> AbstractAsyncContextManager[AsyncIterator[Value[T] | Error]]: ...
    @overload
    def async_stream(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        fn: Callable[[Item, *Ts], Awaitable[T]],
        /,
        *args: *Ts,
        zip_input_on_exit: Literal[True],
        max_concurrency: int = ...,
        ordered: bool = ...,
        timeout: Limit = ...,
        on_timeout: StreamOnTimeout = ...,
        max_buffered: int = ...,
        shutdown: Shutdown = ...,
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[Item, Value[T] | Error]]]: ...
    def async_stream(  # type: ignore[misc]  # mypy takes *args: Any for less than *args: *Ts
        self, items: Any, fn: Any, /, *args: Any, **about: Any
    ) -> Any:
        """Map over an input with tasks linked to the block; `Task.Supervisor.async_stream/4`.

        As `Task.async_stream`; the tasks are counted here and stopped with the rest.
        A full supervisor raises `MaxChildren` from the iteration.

        Args:
            items: The input.
            fn: Called as `fn(item, *args)`.
            *args: Further arguments.
            **about: The options of `Task.async_stream`, and `shutdown`: the seconds that a
                stop of this supervisor leaves an item, or `"brutal_kill"`.
        """
        return self._stream(items, fn, args, about, linked=True)

    @overload
    def async_stream_nolink(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        fn: Callable[[Item, *Ts], Awaitable[T]],
        /,
        *args: *Ts,
        max_concurrency: int = ...,
        ordered: bool = ...,
        timeout: Limit = ...,
        on_timeout: StreamOnTimeout = ...,
        zip_input_on_exit: Literal[False] = False,
        max_buffered: int = ...,
        shutdown: Shutdown = ...,
    ) -> AbstractAsyncContextManager[AsyncIterator[Value[T] | Error]]: ...
    @overload
    def async_stream_nolink(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        fn: Callable[[Item, *Ts], Awaitable[T]],
        /,
        *args: *Ts,
        zip_input_on_exit: Literal[True],
        max_concurrency: int = ...,
        ordered: bool = ...,
        timeout: Limit = ...,
        on_timeout: StreamOnTimeout = ...,
        max_buffered: int = ...,
        shutdown: Shutdown = ...,
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[Item, Value[T] | Error]]]: ...
    def async_stream_nolink(  # type: ignore[misc]  # as above
        self, items: Any, fn: Any, /, *args: Any, **about: Any
    ) -> Any:
        """Map over an input, failures as values; `Task.Supervisor.async_stream_nolink/4`.

        As `async_stream`, except that an item that fails gives an `Error` and the rest
        goes on. A `timeout` still ends the iteration unless `on_timeout="kill_task"`.
        """
        return self._stream(items, fn, args, about, linked=False)

    # --- looking and ending ----------------------------------------------------------------

    @property
    def children(self) -> tuple[ChildInfo, ...]:
        """A snapshot of its tasks; empty when it does not run."""
        if self._loop is None:
            return ()
        restartable = [child.info() for child in self._loop.children()]
        return (*restartable, *map(_info, self._loop.guests))

    async def terminate_child(self, child: Process, /) -> None:
        """Stop one of its tasks for good and wait until it has ended.

        `Task.Supervisor.terminate_child/2`. Cancellation ends the wait; the stop goes on.

        Raises:
            UnknownChild: It is not, or no longer, one of its tasks.
            NotRunning: The supervisor does not run, or is stopping.
        """
        loop = self._running()
        if child in loop.guests:
            await trio.lowlevel.checkpoint_if_cancelled()
            await _end_guest(loop, child)
            return
        found = loop.find(child)
        if found is None:
            raise UnknownChild(f"{self!r} has no task {short(child)}")
        await loop.ask(Request("terminate", found))

    async def join(self) -> None:
        """Wait until it holds no task. Cancellation leaves nothing behind.

        Raises:
            CalledItself: The asker is one of its tasks, and would wait for its own end.
            NotRunning: The supervisor does not run.
        """
        loop, asker = self._running(), own_process()
        await trio.lowlevel.checkpoint()
        if asker is not None and (asker in loop.guests or loop.find(asker) is not None):
            raise CalledItself(f"{short(asker.name)} is one of the tasks of {self!r}", self)
        await until(loop.idle, loop.guests)

    # --- inside ----------------------------------------------------------------------------

    async def _main(self, life: Life) -> None:
        await self._live(life, self._rules)

    async def _before_leaving(self) -> None:
        if self._loop is not None and not self._loop.closing:
            await self.join()

    def _admission(self) -> Loop:
        loop = self._loop or self._running()
        if loop.closing:
            raise NotRunning(f"{self!r} is stopping", self)
        if self._max_children < math.inf and loop.size() >= self._max_children:
            raise MaxChildren(f"{self!r} holds max_children={self._max_children:g} tasks already")
        return loop

    def _ask_to_end(self, task: Process) -> None:
        """Stop one of the tasks without waiting for its end."""
        if self._loop is not None and task in self._loop.guests and not self._loop.closing:
            self._loop.stop_guest(task)
            self._loop.watch_guest(task, trio.current_time() + task._grace())

    def _admit_item(self) -> Guests:
        return self._admission().guests

    @trio.lowlevel.enable_ki_protection
    def _start_restartable(
        self, fn: Any, args: tuple[Any, ...], name: str | None, given: Given
    ) -> Process:
        self._admission()
        job = Job._described(fn, args, name, given)
        self._running().start_now(Child(ChildSpec(job, id=job), job))
        return job

    def _stream(
        self, items: Any, fn: Any, args: tuple[Any, ...], about: dict[str, Any], *, linked: bool
    ) -> Any:
        given = _given("temporary", about.pop("shutdown", 5.0))
        chosen = StreamOptions.checked(**about)
        return Stream(items, fn, args, chosen, linked=linked, given=given, admit=self._admit_item)


def _given(restart: Any, shutdown: Any) -> Given:
    if restart == "temporary" and shutdown == 5.0:
        return NOTHING_GIVEN
    options.one_of("restart", restart, options.RESTARTS)
    return Given(None if restart == "temporary" else restart, options.shutdown(shutdown))


async def _end_guest(loop: Loop, guest: Process) -> None:
    life, grace = guest._life, guest._grace()
    at = trio.current_time() + grace
    loop.stop_guest(guest)
    try:
        await ended_or_named(guest, life, grace)
    finally:
        if life.exit is None and not loop.closing:  # which sees to that itself
            loop.watch_guest(guest, at)


def _announce(job: Job, given: Given) -> None:
    job._given = given
    if events.ANY:
        job._announce()


def _info(process: Process) -> ChildInfo:
    return ChildInfo(
        id=process,
        process=process,
        kind="worker",
        status=process.status,
        restart="temporary",
        significant=False,
        restarts=0,
        last_exit=process.last_exit,
    )
