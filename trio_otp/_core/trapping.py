"""Trapping exits: being asked to stop instead of being cancelled."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from .process import own_life
from .waiting import Bell, until

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from .life import Life

T = TypeVar("T")


class ExitRequest(Bell):
    """What `trap_exit()` gives: whether this process has been asked to stop."""

    __slots__ = ("_blocks", "_scopes", "_set")

    def __init__(self) -> None:
        self._sleepers = None
        self._set = False
        self._blocks = 0  # nested `with trap_exit()` of one life share the request
        self._scopes: set[trio.CancelScope] = set()

    def tell(self) -> None:
        """Make the request; for whoever stops the process."""
        self._set = True
        for scope in self._scopes:
            scope.cancel(reason="asked to stop by trio_otp")
        self.ring()

    def is_set(self) -> bool:
        """Say whether this process has been asked to stop."""
        return self._set

    async def wait(self) -> None:
        """Sleep until this process is asked to stop.

        Cancellation leaves nothing behind.
        """
        await trio.lowlevel.checkpoint()
        await until(self.is_set, self)

    @contextmanager
    def interrupts(self) -> Generator[trio.CancelScope]:
        """Open a cancel scope that a stop request cancels.

        What stands in it is cut short, the code behind it goes on: the place to wait for
        input, never to work on it. Entered after the request, it is cancelled at once.
        """
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            if self._set:
                scope.cancel(reason="asked to stop by trio_otp")
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    def until(self, channel: trio.abc.ReceiveChannel[T]) -> MessagesUntil[T]:
        """Receive from a channel with `async for` until asked to stop, or until its end.

        A message taken is handled; one not taken stays in the channel. Cancellation loses
        no message, as with the channel's own `receive`.
        """
        return MessagesUntil(self, channel)


class MessagesUntil(Generic[T]):
    """The messages of a channel until a stop request; an iterator, not a generator."""

    __slots__ = ("_channel", "_exiting")

    def __init__(self, exiting: ExitRequest, channel: trio.abc.ReceiveChannel[T]) -> None:
        self._exiting = exiting
        self._channel = channel

    def __aiter__(self) -> MessagesUntil[T]:
        return self

    async def __anext__(self) -> T:
        with self._exiting.interrupts():
            try:
                return await self._channel.receive()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
        raise StopAsyncIteration


class trap_exit:
    """Be asked to stop, inside this block, instead of being cancelled.

    OTP's `Process.flag(:trap_exit, true)`. Gives an `ExitRequest`. Who does not end within
    its shutdown limit after the request is cancelled all the same; so is who leaves the
    block with a request pending. In a plain nursery an outer cancellation cannot be
    trapped: it reaches the process at once, as everything in that nursery.

    Raises:
        RuntimeError: Not inside a process of this library, or in a function that an agent
            runs on behalf of its caller without changing the Trio task.
    """

    __slots__ = ("_life",)

    def __enter__(self) -> ExitRequest:
        self._life = life = own_life("trap_exit()")
        if life.trap is None:
            life.trap = ExitRequest()
        life.trap._blocks += 1
        return life.trap

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _leave(self._life)


def _leave(life: Life) -> None:
    trap = life.trap
    assert trap is not None
    trap._blocks -= 1
    if not trap._blocks:
        life.trap = None
        if trap.is_set():
            life.scope.cancel(reason="left trap_exit() after being asked to stop")
