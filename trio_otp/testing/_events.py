"""Events: all that a test was told of its processes, as a list."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar, overload

import trio

from .._core import options
from .._core.events import Event
from .._core.text import callable_name
from ._supervised import Root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._core.options import Limit
    from .._core.process import Process

E = TypeVar("E", bound=Event)


class Events(list[Event]):
    """All events of the processes of a test, in the order they happened: the fixture `events`.

    A list, so assert on it as on any list.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting = trio.lowlevel.ParkingLot()
        self._thread = threading.get_ident()

    def hear(self, event: Event) -> None:
        """Add an event; the handler for `subscribe`."""
        # Neither a run in another thread nor the root of the fixture is the test's.
        if threading.get_ident() == self._thread and not isinstance(event.process, Root):
            self.append(event)
            self._waiting.unpark_all()

    def of(self, kind: type[E], process: Process | None = None, /) -> list[E]:
        """Give the events of one kind, of one process or of all."""
        return [event for event in self._about(process) if isinstance(event, kind)]

    def kinds(self, process: Process | None = None, /) -> list[type[Event]]:
        """Give what kinds of events happened to a process, or to all, in order."""
        return [type(event) for event in self._about(process)]

    @overload
    async def wait_for(
        self, wanted: type[E], process: Process | None = None, /, *,
        count: int = 1, timeout: Limit = 5.0,
    ) -> E: ...  # fmt: skip
    @overload
    async def wait_for(
        self, wanted: Callable[[Event], object], process: Process | None = None, /, *,
        count: int = 1, timeout: Limit = 5.0,
    ) -> Event: ...  # fmt: skip
    async def wait_for(
        self, wanted: Any, process: Process | None = None, /, *,
        count: int = 1, timeout: Limit = 5.0,
    ) -> Event:  # fmt: skip
        """Wait until something has happened, and give the event.

        What has happened already counts, so that nothing can be missed: to wait for the second
        restart, say `count=2`. Cancellation leaves nothing behind.

        Args:
            wanted: A kind of event, or a function that says yes to the event wanted.
            process: Whose event; None for anybody's.
            count: How many such events there must be; the last of them is the answer.
            timeout: Seconds to wait; `None` for no limit.

        Raises:
            trio.TooSlowError: It has not happened in time; the text lists what has.
            TypeError: `wanted` is neither, or an option is of a wrong type.
            ValueError: An option has a wrong value; the message names what it takes.
        """
        options.function("wanted", wanted)
        options.count("count", count, least=1)
        at = options.limit("timeout", timeout) + trio.current_time()
        await trio.lowlevel.checkpoint()
        found = list(self._matching(wanted, process))
        with trio.CancelScope(deadline=at):
            while len(found) < count:
                await self._waiting.park()
                found = list(self._matching(wanted, process))
        if len(found) < count:
            raise trio.TooSlowError(self._too_late(wanted, count, timeout))
        return found[count - 1]

    def _about(self, process: Process | None) -> Iterator[Event]:
        return (event for event in self if process is None or event.process is process)

    def _matching(self, wanted: Any, process: Process | None) -> Iterator[Event]:
        kind: type[Event] | None = wanted if isinstance(wanted, type) else None
        for event in self._about(process):
            if wanted(event) if kind is None else isinstance(event, kind):
                yield event

    def _too_late(self, wanted: Any, count: int, timeout: Limit) -> str:
        what = callable_name(wanted) if count == 1 else f"{callable_name(wanted)} number {count}"
        heard = "".join(f"\n  {type(event).__name__} {'/'.join(event.path)}" for event in self)
        return f"no {what} within {timeout} s; what happened:{heard or ' nothing'}"
