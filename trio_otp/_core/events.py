"""What happens to processes, as values for those who subscribed; free for those who did not."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import trio

from . import reports
from .text import callable_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from .exits import Exit
    from .process import Process


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened to a process.

    Attributes:
        process: Whom it is about.
        path: The names from the root of its tree down to its own.
        at: When, in seconds of Trio's clock.
    """

    process: Process
    path: tuple[str, ...]
    at: float


@attrs.frozen(kw_only=True)
class Started(Event):
    """A life has begun; it is not ready yet."""


@attrs.frozen(kw_only=True)
class Ready(Event):
    """A life has become ready: init returned, or `task_status.started()` was called."""


@attrs.frozen(kw_only=True)
class Ended(Event):
    """A life is over, its cleanup included."""

    exit: Exit


@attrs.frozen(kw_only=True)
class Restarting(Event):
    """A supervisor is going to start a child again after `delay` seconds, the time of number `count`."""

    exit: Exit
    delay: float
    count: int


@attrs.frozen(kw_only=True)
class GaveUp(Event):
    """A supervisor has spent its restarts; it stops its children and fails with `error`."""

    error: Exception


@attrs.frozen(kw_only=True)
class StopLate(Event):
    """A process was asked to stop, its `limit` in seconds has passed, and it still runs."""

    limit: float


@attrs.frozen(kw_only=True)
class CastDropped(Event):
    """A cast will not be done: its mailbox was full, or its process ended before it."""


Handler: TypeAlias = "Callable[[Event], object]"

_subscriptions: list[Subscription] = []
ANY: Final = _subscriptions  # truthy as long as anybody listens: look before you build an event


class Subscription:
    """A handler that is told of events until it is closed; also a context manager."""

    __slots__ = ("_handler", "_run")

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._run = _current_run()

    def close(self) -> None:
        """Tell the handler nothing any more; closing twice does nothing."""
        if self in _subscriptions:
            _subscriptions.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def is_over(self) -> bool:
        """Say whether the run that it hears has ended."""
        return self._run is not None and is_over(self._run)

    def _tell(self, event: Event) -> None:
        if self._run not in (None, _current_run()):
            return
        try:
            self._handler(event)
        except Exception as error:
            self.close()
            reports.lost(
                error, f"subscriber {callable_name(self._handler)} raised it and is dropped"
            )


def subscribe(handler: Handler) -> Subscription:
    """Have `handler(event)` called at once for every event, in the order they happen.

    Called inside a Trio run, it hears that run only, and is closed after its end; outside, it
    hears every run. The handler runs in the middle of the library's work: it must be quick
    and cannot wait. One that raises is logged and dropped. The counterpart of
    `:telemetry.attach/4`.

    Raises:
        TypeError: `handler` cannot be called.
    """
    if not callable(handler):
        raise TypeError(f"handler must be a function of one event, got {handler!r}")
    subscription = Subscription(handler)
    _subscriptions.append(subscription)
    return subscription


def is_over(run: trio.lowlevel.TrioToken) -> bool:
    """Say whether a run of Trio has ended."""
    try:
        run.run_sync_soon(_nothing)
    except trio.RunFinishedError:
        return True
    return False


def _nothing() -> None:
    pass


def _current_run() -> trio.lowlevel.TrioToken | None:
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


def _close_those_of_finished_runs() -> None:
    for subscription in tuple(_subscriptions):
        if subscription.is_over():
            subscription.close()


class _Thread(threading.local):
    """What one thread has not told yet, and the Trio run in which it last had something to tell."""

    def __init__(self) -> None:
        self.run: trio.lowlevel.TrioToken | None = None
        self.untold: deque[tuple[Event, tuple[Subscription, ...]]] = deque()


_thread: Final = _Thread()


def emit(kind: type[Event], process: Process, path: tuple[str, ...], **about: Any) -> None:
    """Tell all subscribers; called only when there are any."""
    event = kind(process=process, path=path, at=trio.current_time(), **about)
    if _thread.run is not (run := trio.lowlevel.current_trio_token()):
        _thread.run = run
        _close_those_of_finished_runs()
    untold = _thread.untold
    untold.append((event, tuple(_subscriptions)))
    if len(untold) > 1:
        return  # a handler caused it: all shall hear of the one under way first
    try:
        while untold:
            event, listeners = untold[0]
            for subscription in listeners:
                if subscription in _subscriptions:
                    subscription._tell(event)
            untold.popleft()
    finally:
        untold.clear()
