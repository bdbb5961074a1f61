"""async_stream: map over an input with a limited number of tasks.

The path of one item: pulled into a free slot, run as a task with its own clock, its
outcome kept until it is delivered. A slot is free when its task has *ended*, so a slow
head does not stall the rest; what runs and what waits for delivery is bounded together.

A sync input is pulled in the consumer's `__anext__`. An async one is pulled by a helper
task: pulled in `__anext__`, a result that is ready would wait for the next item, and a
limit around `__anext__` would kill an async generator in the middle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from outcome import Error, Value

from ._core import events, options, reports
from ._core.errors import Exited, TimedOut
from ._core.homes import TaskHome
from ._core.job import Job, refuse_wrong_arguments
from ._core.nursery import OwnNursery
from ._core.process import NOTHING, NOTHING_GIVEN, Given, current_process, unprotected
from ._core.text import callable_name, short
from ._core.waiting import Bell, next_ring, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from ._core.exits import Exit
    from ._core.guests import Guests
    from ._core.life import Life
    from ._core.options import Limit, StreamOnTimeout
    from ._core.process import Process

_END: Final = object()
_CLOSING: Final = "closing the input of a stream, while another error left it"


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
        refuse_wrong_arguments(fn, (None, *args))
        self._options = chosen
        self._linked = linked
        self._given = given
        self._admit = admit
        self._run: StreamRun | None = None

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> AsyncIterator[Any]:
        if self._run is not None:
            raise RuntimeError("this stream is entered already: call async_stream again")
        run = StreamRun(self)
        await run.open()
        self._run = run
        return run

    @trio.lowlevel.enable_ki_protection
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

    def forget_stream(self) -> None:
        """Let go of a stream whose items have all ended: each holds the other."""
        del self._run


class StreamRun(Bell):
    """One pass through an input: the async iterator that the block gives."""

    __slots__ = (
        "_admit",
        "_args",
        "_deliverable",
        "_failing",
        "_fn",
        "_given",
        "_guests",
        "_helper",
        "_helping",
        "_home",
        "_in_read",
        "_input",
        "_input_error",
        "_interrupted",
        "_items_gone",
        "_next_place",
        "_nursery",
        "_options",
        "_outer",
        "_pulled",
        "_reading",
        "_ready",
        "_running",
        "_source",
        "closing",
    )

    _reading: trio.CancelScope  # around all steps of an async input

    def __init__(self, stream: Stream) -> None:
        self._sleepers = None
        self._fn, self._args, self._options = stream._fn, stream._args, stream._options
        self._given, self._admit = stream._given, stream._admit
        self._home = StreamHome(self, linked=stream._linked)
        self._input: Any = stream._items
        self._source: Any = None  # the iterator; _input becomes _END at its end
        self._helper = isinstance(stream._items, AsyncIterable)
        self._helping = False  # the helper was started
        self._in_read = False
        self._interrupted = False  # the input let an interrupt or exit pass
        self._guests: Guests | None = None
        self._pulled = 0  # how many items were taken from the input
        self._input_error: Exception | None = None
        self._running: set[Item] = set()
        self._ready: dict[int, Item] = {}  # ended, and waiting for those before them
        self._deliverable: deque[Item] = deque()
        self._next_place = 0  # of the next item to deliver, if in order
        self.closing = False
        self._items_gone = False  # left, and every item has cleaned up
        self._failing = False  # left by an error
        self._outer, self._nursery = OwnNursery(), OwnNursery()

    # --- the block -----------------------------------------------------------------------

    async def open(self) -> None:
        """Enter: make the iterator, start nothing."""
        self._source = self._input = aiter(self._input) if self._helper else iter(self._input)
        if self._helper:
            await self._outer.__aenter__()
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
        leaving = error
        try:
            if await self._nursery.__aexit__(kind, error, trace):
                leaving = None
        except BaseException as failure:
            leaving = failure
        self._items_gone = True
        self._report_undelivered()
        self._home.forget_stream()
        self._failing = leaving is not None
        try:
            handled = await self._close_input(leaving)
            if leaving is None or handled:
                return True
            if leaving is not error:
                raise leaving
            return False
        finally:  # what leaves keeps this frame
            del error, trace, leaving

    async def _close_input(self, leaving: BaseException | None) -> bool:
        """Close it; give whether the error that leaves was only a cancellation of ours."""
        if not self._helper:
            self._close_sync_input()
            return False
        if self._in_read:
            self._reading.cancel(reason="stream left")
        elif not self._helping:  # nothing was ever pulled
            self._start_helper()
        self.ring()
        try:
            return await self._outer.leave(leaving)
        finally:
            del leaving

    def _close_sync_input(self) -> None:
        close = getattr(self._source, "close", None)
        if close is not None:
            try:
                _unprotected_call(close)
            except Exception as broken:
                if not self._failing:
                    raise
                reports.lost(broken, _CLOSING)

    def _report_undelivered(self) -> None:
        """Log what failed and was given to nobody, then forget all that is not delivered."""
        for item in (*self._deliverable, *self._ready.values()):
            exit = item.last_exit
            if exit is not None and exit.error is not None and not self._home.links(item):
                reports.lost(exit.error, f"the stream was left before it gave {short(item._input)}")
        self._deliverable.clear()
        self._ready.clear()
        if self._input_error is not None:
            reports.lost(self._input_error, "the stream was left before it gave its input's error")
            self._input_error = None

    # --- the iterator ----------------------------------------------------------------------

    def __aiter__(self) -> StreamRun:
        return self

    async def __anext__(self) -> Any:
        """Give the next outcome. A cancelled wait loses nothing."""
        await trio.lowlevel.checkpoint()
        while not self.closing:
            self._pull()
            if self._input_error is not None:
                await self._fail_with_input()
            if self._deliverable:
                return self._deliver()
            if self._input is _END and not self._running:
                self._refuse_false_end()
                raise StopAsyncIteration
            await next_ring(self)
            # If that was a failure of this very block, nothing more is given or started.
            await trio.lowlevel.checkpoint_if_cancelled()
        raise RuntimeError("the block of this stream has been left")

    def _pull(self) -> None:
        if self._helper:
            if not self._helping:
                self._start_helper()
            return
        while self._input is not _END and self._has_room():
            try:
                item = next(self._input, _END)
                if item is _END:
                    self._input = _END
                else:
                    self._launch(item)
            except Exception as error:
                self._input, self._input_error = _END, error

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
            await next_ring(self)
        error, self._input_error = self._input_error, None
        self._report_undelivered()
        if error is None:
            return  # somebody else who iterates has got it
        try:
            if isinstance(error, StopAsyncIteration):  # would look like a clean end
                raise RuntimeError("the input of the stream raised StopAsyncIteration") from error
            raise error
        finally:
            del error

    def _refuse_false_end(self) -> None:
        # Only a consumer that shields itself comes here: its block is cancelled, see _read.
        if self._interrupted:
            raise RuntimeError("the input of the stream was interrupted before its end")

    def _deliver(self) -> Any:
        item = self._deliverable.popleft()
        if self._helper:
            self.ring()  # there is room again
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

    @trio.lowlevel.enable_ki_protection
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
            self._options.timeout,
        )
        item._input, item._place, item._given = value, self._pulled, self._given
        self._running.add(item)
        self._pulled += 1
        if events.ANY:
            item._announce()

    def item_ended(self, item: Item) -> None:
        """Hear that an item's task is over."""
        self._running.discard(item)
        if self._guests is not None:
            self._guests.left(item)
        if self.closing:
            pass  # nobody will be given it
        elif self._options.ordered:
            self._ready[item._place] = item
            while self._next_place in self._ready:
                self._deliverable.append(self._ready.pop(self._next_place))
                self._next_place += 1
        else:
            self._deliverable.append(item)
        self.ring()

    # --- the helper of an async input ------------------------------------------------------

    def _start_helper(self) -> None:
        self._helping = True
        self._reading = trio.CancelScope(shield=True)
        self._outer.nursery.start_soon(self._help, name="async_stream input")

    @trio.lowlevel.enable_ki_protection
    async def _help(self) -> None:
        """Pull items one at a time, each into a free slot; close the input at the end."""
        try:
            await self._read_and_close()
        except Exception as broken:
            if not self._failing:
                raise
            reports.lost(broken, _CLOSING)

    async def _read_and_close(self) -> None:
        # All in one scope, since a generator may keep scopes of its own open between reads;
        # and shielded, since cancelled items may still use in their cleanup what it holds.
        try:
            with self._reading:
                try:
                    await self._read()
                finally:
                    await until(lambda: self._items_gone, self)
                    self._reading.shield = False
                    if not self._reading.cancel_called:
                        await self._close_async_input()
        finally:
            if self._reading.cancel_called:
                await self._close_async_input()

    async def _close_async_input(self) -> None:
        close = getattr(self._source, "aclose", None)
        if close is None:
            return
        try:
            await unprotected(close())
        except (Exception, trio.Cancelled) as broken:
            if not self._interrupted:
                raise
            if isinstance(broken, Exception):
                reports.lost(broken, _CLOSING)

    async def _read(self) -> None:
        try:
            while not self.closing and self._input is not _END:
                if self._has_room():
                    await self._read_one()
                else:
                    await next_ring(self)
        except (Exception, trio.Cancelled) as error:
            if self.closing:
                raise
            self._input_error = error if isinstance(error, Exception) else _stray(error)
        except BaseException:
            # It has to leave by the block, and the consumer must not take it for the end.
            self._interrupted = True
            self._outer.nursery.cancel_scope.cancel(reason="the stream's input was interrupted")
            raise
        finally:
            self._input = _END
            self.ring()

    async def _read_one(self) -> None:
        self._in_read = True
        try:
            item = await unprotected(anext(self._source))
        except StopAsyncIteration:
            self._input = _END
            return
        finally:
            self._in_read = False
        if not self.closing:
            self._launch(item)


@trio.lowlevel.disable_ki_protection
def _unprotected_call(fn: Callable[[], object]) -> None:
    fn()


def _stray(error: trio.Cancelled) -> Exception:
    stand_in = RuntimeError("a Cancelled left the input of a stream that nobody had cancelled")
    stand_in.__cause__ = error
    return stand_in
