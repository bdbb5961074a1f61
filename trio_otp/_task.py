"""Task: one function's run, and the handle to its result."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NoReturn,
    TypeVar,
    TypeVarTuple,
    overload,
)

import trio
from outcome import Error, Value

from ._core import events, failures, options
from ._core.errors import CalledItself, Exited, NotRunning, TimedOut
from ._core.exits import NORMAL, Exit
from ._core.homes import LINKED, TaskHome
from ._core.job import ONE_LIFE, Job, checked, refuse_wrong_arguments, takes_task_status
from ._core.process import NOTHING, Process, ended_or_named, own_process, report_owed
from ._core.text import short
from ._core.waiting import Bell, Ear, next_ring, until
from ._stream import Stream, StreamOptions

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Generator,
        Iterable,
        Sequence,
    )
    from contextlib import AbstractAsyncContextManager

    import typing_extensions

    from ._core.life import Life
    from ._core.options import Limit, OnTimeout, Restart, Shutdown, StreamOnTimeout

    T_co = typing_extensions.TypeVar("T_co", covariant=True, default=None)
else:
    T_co = TypeVar("T_co", covariant=True)

T = TypeVar("T")
Item = TypeVar("Item")
Ts = TypeVarTuple("Ts")

SECONDS: Final = 5.0  # Elixir's default: long for an answer, short for a deadlock


class Task(Job, Generic[T_co]):
    """A one-off job whose result can be awaited; Elixir's `Task`.

    `Task.async_(nursery, fn, *args)` starts one at once, linked to the nursery: its
    failure fails that scope. `Task(fn, *args)` describes one, to be run by a supervisor,
    a block or a nursery. A subclass that defines `async def main(self)` is a task with
    fields of its own; its options are class keywords: `class Reporter(Task,
    restart="permanent")`.

    The result may be awaited by many and again. A failed task raises its own bare
    exception at each of them; one that was stopped or killed raises `Exited`.

    Args:
        fn: The async function to run.
        *args: What it is called with; in each life anew.
        name: A label; by default the function's qualified name.
        restart: When a supervisor starts it again; temporary (never) by default, unlike
            a bare function in a list of children, which is permanent.
        shutdown: Seconds to clean up when stopped, `None` for no limit, or `"brutal_kill"`.

    Raises:
        TypeError: `fn` is no function, or is missing and there is no `main`.
        ValueError: An option has a wrong value.
    """

    __slots__ = ()

    _over_for_good: ClassVar[bool] = True

    @overload
    def __init__(
        self,
        fn: Callable[[*Ts], Awaitable[T_co]],
        /,
        *args: *Ts,
        name: str | None = None,
        restart: Restart | None = None,
        shutdown: Shutdown | Literal["inherit"] = "inherit",
    ) -> None: ...
    @overload
    def __init__(
        self,
        /,
        *,
        name: str | None = None,
        restart: Restart | None = None,
        shutdown: Shutdown | Literal["inherit"] = "inherit",
    ) -> None: ...
    def __init__(  # type: ignore[misc]  # mypy takes *args: Any for less than *args: *Ts
        self,
        fn: Any = None,
        /,
        *args: Any,
        name: str | None = None,
        restart: Restart | None = None,
        shutdown: Shutdown | Literal["inherit"] = "inherit",
    ) -> None:
        super().__init__(name=name, restart=restart, shutdown=shutdown)
        if fn is None and type(self).main is Task.main:
            raise TypeError("Task needs a function, or a subclass with an async def main(self)")
        if fn is not None and type(self).main is not Task.main:
            raise TypeError(f"{type(self).__qualname__} has a main(): it takes no function")
        if fn is not None:
            refuse_wrong_arguments(options.function("fn", fn), args)
        elif args:
            raise TypeError(f"{type(self).__qualname__}.main takes no arguments, got {short(args)}")
        self._fn = fn
        self._args = args
        self._handshake = fn is not None and takes_task_status(fn)
        self._value = NOTHING
        self._readers = 0

    async def main(self) -> T_co:
        """Do the work of a subclass; its return value is the task's result.

        A stop cancels it, unless it traps exits: clean up in `finally`.
        """
        raise NotImplementedError

    # --- starting one --------------------------------------------------------------------

    @staticmethod
    def async_(
        nursery: trio.Nursery,
        fn: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
        name: str | None = None,
    ) -> Task[T]:
        """Start a task linked to a nursery, and give its handle; `Task.async/1`.

        The function is called at once, as `nursery.start_soon` does, so that wrong
        arguments raise here; it runs in the context of the caller. A failure fails the
        nursery's scope and cannot be swallowed around `await task` inside it; ending the
        task from outside (`stop`, `kill`) fails the scope with `Exited`.

        Raises:
            TypeError: `fn` is not an async function, or does not take the arguments.
            RuntimeError: The nursery is closed.
        """
        task: Task[Any] = Task._launch(nursery, LINKED, fn, args, name, False)
        if events.ANY:
            task._announce()
        return task

    @staticmethod
    def start_link(
        nursery: trio.Nursery,
        fn: Callable[[*Ts], Awaitable[object]],
        /,
        *args: *Ts,
        name: str | None = None,
    ) -> Process:
        """Start a linked task of which only failures matter; `Task.start_link/1`.

        What comes back cannot be awaited; else as `async_`.

        Raises:
            TypeError: `fn` is not an async function, or does not take the arguments.
            RuntimeError: The nursery is closed.
        """
        job = Job._launch(nursery, LINKED, fn, args, name, False)
        if events.ANY:
            job._announce()
        return job

    @staticmethod
    def completed(value: T) -> Task[T]:
        """Give a task that has its result already and never ran; `Task.completed/1`."""
        task: Task[Any] = Task(_nothing_to_do, name="completed")
        task._fn = ONE_LIFE
        task._value = value
        task._status = "stopped"
        task._last_exit = NORMAL
        return task

    # --- its result ------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, Any, T_co]:
        """Wait for the result, without a limit; see `await_`."""
        return self.await_(timeout=None).__await__()

    async def await_(self, *, timeout: Limit = SECONDS) -> T_co:
        """Wait for the result; `Task.await/2`.

        A limit or a cancellation ends the wait, never the task.

        Args:
            timeout: Seconds; `None` for no limit, 0 for only what is there now.

        Raises:
            NotRunning: The task was never started.
            TimedOut: There is no result yet.
            Exited: It was stopped or killed.
            Exception: Its own error, bare, if it failed.
        """
        limit = options.limit("timeout", timeout)
        if self._status == "new":
            self._started("await")
        self._readers += 1
        try:  # as in _reading, which would cost a few calls more
            await _checkpoint()
            if self._status != "stopped" and not await self._done_later(limit):
                raise TimedOut(f"{short(self.name)} has no result within {limit:g} s", self)
            if self._value is NOTHING:
                await self._failed()
        finally:
            self._readers -= 1
            if self._value is NOTHING:
                self._left()
        value: T_co = self._value
        return value

    async def yield_(self, *, timeout: Limit = SECONDS) -> Value[T_co] | Error | None:
        """Wait for the result as a value; `Task.yield/2`.

        Gives a `Value`, an `Error`, or `None` if there is nothing within the limit; may be
        asked again. Cancellation ends the wait, never the task.

        Raises:
            NotRunning: The task was never started.
        """
        limit = options.limit("timeout", timeout)
        self._started("await")
        with _reading([self]):
            await _checkpoint()
            if self._status != "stopped" and not await self._done_later(limit):
                return None
            await _unless_it_failed_us(self)
            return self._result()

    async def shutdown(
        self, *, timeout: Limit | Literal["brutal_kill"] = SECONDS
    ) -> Value[T_co] | Error | None:
        """End the task, and give its result if it still had one; `Task.shutdown/2`.

        It is unlinked first, so its end does not touch the scope it was linked to. A task
        that traps exits is told, and cancelled after `timeout` seconds; another is
        cancelled at once; who has not ended by then is named in a warning and waited for.
        If the wait is cancelled, the task still ends.

        Returns:
            A `Value` if it returned; `None` if it ended as asked; else an `Error`: with
            `Exited` if it was killed for being late, or with its own error.

        Raises:
            NotRunning: The task was never started.
        """
        limit = options.shutdown(timeout, "timeout")
        self._started("shut down")
        self._unlink()
        life: Life | None = self._life
        with _reading([self]):
            if life is None or life.exit is not None:
                await _checkpoint()
            elif limit == "brutal_kill":  # before the first checkpoint: also if we are cancelled
                self._kill(life)
                await ended_or_named(self, life, SECONDS)
            else:
                self._ask(life, limit)
                await ended_or_named(self, life, limit)
            return self._result(quiet="killed" if limit == "brutal_kill" else "shutdown")

    def ignore(self) -> Value[T_co] | Error | None:
        """Cut the link: from now on a failure is only logged; `Task.ignore/1`.

        Gives the result if there is one already, else `None`. The task goes on, as long
        as the nursery that it was started in.

        Raises:
            NotRunning: The task was never started.
        """
        self._started("ignore")
        self._unlink()
        return self._result() if self._is_over() else None

    @staticmethod
    async def await_many(tasks: Iterable[Task[T]], *, timeout: Limit = SECONDS) -> list[T]:
        """Wait for the results of all, in the given order; `Task.await_many/2`.

        One limit for all. The first failure is raised at once. A limit, a failure or a
        cancellation ends the wait, never the tasks.

        Raises:
            NotRunning: One was never started.
            TimedOut: Not all have a result yet.
            Exited: One was stopped or killed.
            Exception: The error of the first that failed, bare.
        """
        waited = _tasks(tasks)
        limit = options.limit("timeout", timeout)
        with _reading([*waited]):
            tally = Tally(waited, len(waited), or_failed=True)
            if not await tally.complete(limit):
                late = [task.name for task in waited if not task._is_over()]
                raise TimedOut(f"{short(late)} have no result within {timeout:g} s")
            for task in waited:
                if task._is_over() and _has_failed(task):
                    await task._failed()
            return [task._value for task in waited]

    @staticmethod
    async def yield_many(
        tasks: Iterable[Task[T]],
        *,
        timeout: Limit = SECONDS,
        limit: int | None = None,
        on_timeout: OnTimeout = "nothing",
    ) -> list[tuple[Task[T], Value[T] | Error | None]]:
        """Wait for the results of many as values, in the given order; `Task.yield_many/2`.

        Cancellation ends the wait, never the tasks.

        Args:
            tasks: The tasks to wait for.
            timeout: Seconds for all together; `None` for no limit.
            limit: Come back as soon as so many have ended, 1 or more; `None` for all.
            on_timeout: What to do, when the time is over, with those that have not ended:
                `"nothing"`, `"ignore"` (cut their links) or `"kill_task"`.

        Raises:
            NotRunning: One was never started.
            ValueError: An option has a wrong value.
        """
        waited = _tasks(tasks)
        options.one_of("on_timeout", on_timeout, ("nothing", "ignore", "kill_task"))
        wanted = len(waited) if limit is None else options.count("limit", limit, least=1)
        enough = min(wanted, len(waited))
        seconds = options.limit("timeout", timeout)
        with _reading([*waited]):
            in_time = await Tally(waited, enough).complete(seconds)
            given_up = {} if in_time else await _given_up(waited, on_timeout)
            await _unless_it_failed_us(*waited)
            over = {task: task._result() for task in waited if task._is_over()}
            return [(task, (over | given_up).get(task)) for task in waited]

    # --- streams ---------------------------------------------------------------------------

    @overload
    @staticmethod
    def async_stream(
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
    ) -> AbstractAsyncContextManager[AsyncIterator[Value[T] | Error]]: ...
    @overload
    @staticmethod
    def async_stream(
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
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[Item, Value[T] | Error]]]: ...
    @staticmethod  # type: ignore[misc]  # as for __init__
    def async_stream(items: Any, fn: Any, /, *args: Any, **about: Any) -> Any:
        """Map an async function over an input, some items at once; `Task.async_stream/3`.

        An async context manager that gives an async iterator of outcomes, a `Value` or an
        `Error` for each item. The input is read lazily, never ahead of a free slot. A
        failing item fails the block; one that ends by `ExitProcess("normal")` gives an
        `Error` with `Exited`. Leaving the block, also by cancellation, cancels the items
        that run, waits for their cleanup, then closes the input; a cancelled wait for the
        next outcome loses nothing.

        Args:
            items: An iterable or async iterable.
            fn: Called as `fn(item, *args)`.
            *args: Further arguments.
            **about: These options, all keyword-only:
                `max_concurrency=40`: how many items run at once, 1 or more.
                `ordered=True`: outcomes in the order of the input, or as they end.
                `timeout=5.0`: seconds for each item from its own start; `None` for no limit.
                `on_timeout="exit"`: raise `TimedOut`, which names the item, from the
                iteration; or `"kill_task"`: give it as that item's `Error` and go on.
                `zip_input_on_exit=False`: give `(item, outcome)` for every item.
                `max_buffered=1024`: how many items may run or wait for delivery together.

        Raises:
            TypeError: The input or the function is none, or an option is unknown.
            ValueError: An option has a wrong value.
        """
        return Stream(items, fn, args, StreamOptions.checked(**about))

    # --- inside ----------------------------------------------------------------------------

    def _body(self, life: Life) -> Coroutine[Any, Any, Any]:
        self._value = NOTHING  # a second run replaces the result of the first
        return checked(self.main, self.main()) if self._fn is None else super()._body(life)

    def _settle(self, life: Any, exit: Exit, result: Any) -> None:
        self._value = result
        if self._fn is ONE_LIFE:  # as in Job: a call more would cost
            self._args = ()

    def _awaited(self) -> bool:
        return self._readers > 0

    def _over(self, life: Life) -> bool:
        return self._status == "stopped"

    def _is_over(self) -> bool:
        return self._status == "stopped"

    def _started(self, what: str) -> None:
        if self._status == "new":
            raise NotRunning(f"cannot {what} {self!r}: it was never started", self)

    def _unlink(self) -> None:
        if isinstance(self._home, TaskHome):
            self._home = self._home.unlinked()

    def _left(self) -> None:
        """Report a failure whose last waiter has left without it: cancelled, or out of time."""
        if not self._readers and self._life is not None:
            report_owed(self, self._life)

    async def _done_later(self, limit: float) -> bool:
        if limit == 0:
            return False
        if self._life.task is trio.lowlevel.current_task():
            raise CalledItself(f"{short(self.name)} waits for its own result", self)
        at = math.inf if limit == math.inf else trio.current_time() + limit
        # Trio starts a batch of tasks in any order: after one checkpoint half of the quick
        # ones are done, after two nearly all, and no scope was paid for.
        await _checkpoint()
        return self._status == "stopped" or await until(self._is_over, self, at=at)

    async def _failed(self) -> NoReturn:
        await _unless_it_failed_us(self)
        raise self._error()

    def _result(self, quiet: str | None = None) -> Value[T_co] | Error | None:
        if self._value is not NOTHING:
            return Value(self._value)
        exit = self._last_exit
        assert exit is not None
        return None if exit.reason == quiet and exit.detail is None else Error(self._error())

    def _error(self) -> Exception:
        """Give the error to raise; the handle keeps a copy that knows no waiter's frames."""
        exit = self._last_exit
        assert exit is not None
        if exit.error is None:
            return Exited(self, exit)
        self._life.owed = None
        self._last_exit = failures.copied(exit)
        if self._life.exit is exit:
            self._life.exit = self._last_exit
        return exit.error


_checkpoint: Final = trio.lowlevel.checkpoint


async def _nothing_to_do() -> None:
    """Stand in for the function of a completed task."""


def _tasks(tasks: Iterable[Task[T]]) -> list[Task[T]]:
    waited = list(tasks)
    for task in waited:
        if not isinstance(task, Task):
            raise TypeError(f"tasks must be an iterable of Tasks, it holds {short(task)}")
        if task is own_process():
            raise CalledItself(f"{short(task.name)} waits for its own result", task)
        task._started("await")
    return waited


@contextmanager
def _reading(tasks: list[Task[Any]]) -> Generator[None]:
    """Count as somebody who will get the failures of these tasks as exceptions or values."""
    for task in tasks:
        task._readers += 1
    try:
        yield
    finally:
        for task in tasks:
            task._readers -= 1
            task._left()


async def _unless_it_failed_us(*tasks: Task[Any]) -> None:
    """Let the cancellation win that a linked failure has brought to the scope it belongs to."""
    if any(task._is_over() and _has_failed(task) for task in tasks):
        await trio.lowlevel.checkpoint_if_cancelled()


async def _given_up(
    tasks: list[Task[T]], on_timeout: OnTimeout
) -> dict[Task[T], Value[T] | Error | None]:
    """Do what is asked with those that have not ended; give their results."""
    late = [task for task in tasks if not task._is_over()]
    if on_timeout == "nothing":
        return {}
    for task in late:  # all of them, before the first wait: it may be long, or be cancelled
        task.ignore()
        if on_timeout == "kill_task":
            task.kill()
    if on_timeout == "ignore":
        return dict.fromkeys(late)
    return {task: await task.shutdown(timeout="brutal_kill") for task in late}


class Tally(Bell):
    """Waits for the ends of many tasks, looking at each only when it has ended."""

    __slots__ = ("_left", "_or_failed", "_tasks", "_wanted")

    def __init__(self, tasks: Sequence[Task[Any]], wanted: int, *, or_failed: bool = False) -> None:
        self._sleepers = None
        self._tasks = tasks
        self._wanted = wanted
        self._or_failed = or_failed  # one failure is enough
        self._left = 0

    @trio.lowlevel.enable_ki_protection
    async def complete(self, limit: float) -> bool:
        """Wait until so many have ended; False if that takes longer than the limit."""
        at = trio.current_time() + limit
        await trio.lowlevel.checkpoint()
        if limit > 0 and not self._enough():
            with trio.CancelScope(deadline=at):
                while not self._enough():  # one that ended may have been started again
                    await self._next_look()
        return self._enough()

    def _enough(self) -> bool:
        over = [task for task in self._tasks if task._is_over()]
        self._left = self._wanted - len(over)
        return self._left <= 0 or (self._or_failed and any(_has_failed(task) for task in over))

    async def _next_look(self) -> None:
        ears = [Ear(task, self._heard) for task in self._tasks if not task._is_over()]
        try:
            await next_ring(self)
        finally:
            for ear in ears:
                ear.leave()

    def _heard(self, task: Task[Any]) -> bool:
        if not task._is_over():
            return False
        self._left -= 1
        if self._left <= 0 or (self._or_failed and _has_failed(task)):
            self.ring()
        return True


def _has_failed(task: Task[Any]) -> bool:
    return task._value is NOTHING
