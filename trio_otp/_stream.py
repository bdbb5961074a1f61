"""async_stream: map over an input with a limited number of tasks.

The path of one item: pulled into a free slot, run as a task with its own clock, its
outcome kept until it is delivered. A slot is free when its task has *ended*, so a slow
head does not stall the rest; what runs and what waits for delivery is bounded together.

A sync input is pulled in the consumer's `__anext__`. An async one is pulled by a helper
task: pulled in `__anext__`, a result that is ready would wait for the next item, and a
limit around `__anext__` would kill an async generator in the middle.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from outcome import Error, Value

from ._core import events, options, reports
from ._core.errors import Exited, TimedOut
from ._core.homes import TaskHome
from ._core.job import Job
from ._core.nursery import OwnNursery
from ._core.process import NOTHING, NOTHING_GIVEN, Given, current_process
from ._core.text import callable_name, short
from ._core.waiting import Bell, any_ring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from ._core.exits import Exit
    from ._core.guests import Guests
    from ._core.life import Life
    from ._core.options import Limit, StreamOnTimeout
    from ._core.process import Process

_END: Final = object()


@attrs.frozen(kw_only=True)
class StreamOptions:
    """How a stream was told to go about it; the defaults are those of `async_stream`."""

    max_concurrency: int = 40  # Trio's own default for worker threads
    ordered: bool = True
    timeout: float = 5.0
    on_timeout: StreamOnTimeout = "exit"
    zip_input_on_exit: bool = False
    max_buffered: int = 1024

    @classmethod
    def checked(
        cls,
        *,
        max_concurrency: int = 40,
        ordered: bool = True,
        timeout: Limit = 5.0,
        on_timeout: StreamOnTimeout = "exit",
        zip_input_on_exit: bool = False,
        max_buffered: int = 1024,
    ) -> StreamOptions:
        """Check them, when the stream is described, not when it is entered."""
        return cls(
            max_concurrency=options.count("max_concurrency", max_concurrency, least=1),
            ordered=bool(ordered),
            timeout=options.limit("timeout", timeout),
            on_timeout=options.one_of("on_timeout", on_timeout, ("exit", "kill_task")),
            zip_input_on_exit=bool(zip_input_on_exit),
            max_buffered=options.count("max_buffered", max_buffered, least=1),
        )


class Stream:
    """The async context manager that `async_stream` gives; nothing runs until it is entered."""

    __slots__ = ("_admit", "_args", "_fn", "_given", "_items", "_linked", "_options", "_run")

    def __init__(
        self,
        items: Any,
        fn: Any,
        args: tuple[Any, ...],
        chosen: StreamOptions,
        *,
        linked: bool = True,
        given: Given = NOTHING_GIVEN,
        admit: Callable[[], Guests | None] = lambda: None,
    ) -> None:
        if not isinstance(items, AsyncIterable | Iterable):
            raise TypeError(f"items must be an iterable or async iterable, got {short(items)}")
        self._items: Any = items
        self._fn = options.function("fn", fn)
        self._args = args
        self._options = chosen
        self._linked = linked
        self._given = given
        self._admit = admit
        self._run: StreamRun | None = None

    async def __aenter__(self) -> AsyncIterator[Any]:
        if self._run is not None:
            raise RuntimeError("this stream is entered already: call async_stream again")
        run = StreamRun(self)
        await run.open()
        self._run = run
        return run

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        run, self._run = self._run, None
        assert run is not None  # entered
        return await run.close(kind, error, trace)


class Item(Job):
    """The task of one item of an input."""

    __slots__ = ("_input", "_place")

    _input: Any
    _place: int

    def _settle(self, life: Any, exit: Exit, result: Any) -> None:
        self._value = result


class StreamHome(TaskHome):
    """The scope of a stream's block: linked or not, it hears of every item's end."""

    __slots__ = ("_linked", "_run")

    def __init__(self, run: StreamRun, *, linked: bool) -> None:
        super().__init__()
        self.parent = current_process()
        self._run = run
        self._linked = linked

    def links(self, process: Process) -> bool:
        """Say whether a failing item fails the block."""
        return self._linked

    def hands_on(self, process: Process) -> bool:
        """Say whether the consumer will be given the failure as a value."""
        return not self._run.closing

    def ended(self, process: Process, life: Life, exit: Exit) -> BaseException | None:
        """Free the slot; fail the block if a linked item was ended from outside."""
        assert isinstance(process, Item)
        self._run.item_ended(process)
        if not self._linked or self._run.closing or exit.reason == "normal":
            return None
        return Exited(process, exit) if life.asked or exit.reason == "shutdown" else None


class StreamRun(Bell):
    """One pass through an input: the async iterator that the block gives."""

    __slots__ = (
        "_admit",
        "_args",
        "_deliverable",
        "_fn",
        "_given",
        "_guests",
        "_helper",
        "_home",
        "_input",
        "_input_error",
        "_next_place",
        "_nursery",
        "_options",
        "_outer",
        "_pulled",
        "_pulling",
        "_ready",
        "_running",
        "_source",
        "closing",
    )

    def __init__(self, stream: Stream) -> None:
        self._sleepers = None
        self._fn, self._args, self._options = stream._fn, stream._args, stream._options
        self._given, self._admit = stream._given, stream._admit
        self._home = StreamHome(self, linked=stream._linked)
        self._input: Any = stream._items
        self._source: Any = None  # the iterator; _input becomes _END at its end
        self._helper = isinstance(stream._items, AsyncIterable)
        self._guests: Guests | None = None
        self._pulled = 0  # how many items were taken from the input
        self._pulling: trio.CancelScope | None = None  # around a read of an async input
        self._input_error: BaseException | None = None
        self._running: set[Item] = set()
        self._ready: dict[int, Item] = {}  # ended, and waiting for those before them
        self._deliverable: deque[Item] = deque()
        self._next_place = 0  # of the next item to deliver, if in order
        self.closing = False
        self._outer, self._nursery = OwnNursery(), OwnNursery()

    # --- the block -----------------------------------------------------------------------

    async def open(self) -> None:
        """Enter: make the iterator, start nothing."""
        if self._helper:
            await self._outer.__aenter__()
            self._input = aiter(self._input)
        else:
            self._input = iter(self._input)
        self._source = self._input
        await self._nursery.__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def close(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Leave: end the items and wait for them, then close the input."""
        self.closing = True
        self._nursery.nursery.cancel_scope.cancel(reason="stream left")
        raised = None
        try:
            if await self._nursery.__aexit__(kind, error, trace):
                kind = error = trace = None
        except BaseException as failure:
            raised = failure
        self._report_undelivered()
        leaving = raised or error
        if self._helper:
            handled = await self._close_helper(leaving)
        else:
            handled = self._close_input(leaving)
        if raised is not None and not handled:
            try:
                raise raised
            finally:
                del raised, leaving, error
        return handled or (error is None and leaving is None)

    async def _close_helper(self, leaving: BaseException | None) -> bool:
        if self._pulling is not None:
            self._pulling.cancel(reason="stream left")
        elif self._input is not _END:  # nothing was ever pulled
            self._outer.nursery.start_soon(_aclose, self._source)
        self.ring()
        return await self._outer.leave(leaving)

    def _close_input(self, leaving: BaseException | None) -> bool:
        close = getattr(self._source, "close", None)
        if close is not None:
            try:
                close()
            except Exception as broken:
                if leaving is None:
                    raise
                reports.lost(broken, "closing the input of a stream, while another error left it")
        return False

    def _report_undelivered(self) -> None:
        for item in (*self._deliverable, *self._ready.values()):
            exit = item.last_exit
            if exit is not None and exit.error is not None and not self._home.links(item):
                reports.lost(exit.error, f"the stream was left before it gave {short(item._input)}")

    # --- the iterator ----------------------------------------------------------------------

    def __aiter__(self) -> StreamRun:
        return self

    async def __anext__(self) -> Any:
        """Give the next outcome. A cancelled wait loses nothing."""
        await trio.lowlevel.checkpoint()
        while True:
            self._pull()
            if self._input_error is not None:
                await self._fail_with_input()
            if self._deliverable:
                return self._delivered(self._deliverable.popleft())
            if self._input is _END and not self._running:
                raise StopAsyncIteration
            await any_ring(self)

    def _pull(self) -> None:
        if self._helper:
            if self._pulled == 0 and self._pulling is None and self._input is not _END:
                self._start_helper()
            return
        while self._input is not _END and self._has_room():
            try:
                item = next(self._input, _END)
                if item is _END:
                    self._input = _END
                else:
                    self._launch(item)
            except BaseException as error:
                self._input_error = error
                return

    def _has_room(self) -> bool:
        waiting = len(self._ready) + len(self._deliverable)
        running = len(self._running)
        return (
            running < self._options.max_concurrency
            and running + waiting < self._options.max_buffered
        )

    async def _fail_with_input(self) -> None:
        """Let the input's own error out, once no item runs any more."""
        for item in self._running:
            item._life.scope.cancel(reason="the input of its stream failed")
        while self._running:
            await any_ring(self)
        error, self._input_error = self._input_error, None
        self._input = _END
        self._deliverable.clear()
        self._ready.clear()
        assert error is not None
        try:
            raise error
        finally:
            del error

    def _delivered(self, item: Item) -> Any:
        outcome = self._outcome(item)
        return (item._input, outcome) if self._options.zip_input_on_exit else outcome

    def _outcome(self, item: Item) -> Value[Any] | Error:
        if item._value is not NOTHING:
            return Value(item._value)
        exit = item.last_exit
        assert exit is not None  # only ended items are delivered
        if exit.error is not None:
            return Error(exit.error)
        if exit.reason != "killed" or item._life.asked is not None:
            return Error(Exited(item, exit))
        late = TimedOut(
            f"{callable_name(self._fn)} was not done within {self._options.timeout:g} s "
            f"for the item {short(item._input)}",
            item,
            item._input,
        )
        if self._options.on_timeout == "exit":
            raise late
        return Error(late)

    # --- items -----------------------------------------------------------------------------

    def _launch(self, value: Any) -> None:
        self._guests = self._admit()
        item = Item._launch(
            self._nursery.nursery,
            self._home,
            self._fn,
            (value, *self._args),
            None,
            False,
            self._guests,
        )
        item._input, item._place, item._given = value, self._pulled, self._given
        if self._options.timeout < math.inf:
            item._life.scope.deadline = trio.current_time() + self._options.timeout
        self._running.add(item)
        self._pulled += 1
        if events.ANY:
            item._announce()

    def item_ended(self, item: Item) -> None:
        """Hear that an item's task is over."""
        self._running.discard(item)
        if self._guests is not None:
            self._guests.left(item)
        if self._options.ordered:
            self._ready[item._place] = item
            while self._next_place in self._ready:
                self._deliverable.append(self._ready.pop(self._next_place))
                self._next_place += 1
        else:
            self._deliverable.append(item)
        self.ring()

    # --- the helper of an async input ------------------------------------------------------

    def _start_helper(self) -> None:
        self._pulling = trio.CancelScope()
        self._outer.nursery.start_soon(self._help, name="async_stream input")

    @trio.lowlevel.enable_ki_protection
    async def _help(self) -> None:
        """Pull items one at a time, each into a free slot; close the input at the end."""
        try:
            while not self.closing and self._input is not _END:
                if self._has_room():
                    await self._pull_one()
                else:
                    await any_ring(self)
        except BaseException as error:
            if self.closing or not isinstance(error, Exception):
                raise
            self._input_error = error
        finally:
            self._input = _END
            self.ring()
            await self._wait_for_leaving()
            await _aclose(self._source)

    async def _wait_for_leaving(self) -> None:
        while not self.closing:
            await any_ring(self)

    async def _pull_one(self) -> None:
        self._pulling = trio.CancelScope()
        with self._pulling:
            try:
                item = await anext(self._source)
            except StopAsyncIteration:
                self._input = _END
                self.ring()
                return
            self._launch(item)


async def _aclose(source: Any) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
