"""Who owns a life: a nursery, an `async with` block, or (elsewhere) a supervisor.

A home hears from the life's wrapper when it is ready and when it has ended, and says
what the wrapper raises: a linked home lets a failure go on into its scope.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from . import reports
from .errors import Exited, NotRunning, StartFailed
from .events import is_over
from .exits import NORMAL
from .nursery import OwnNursery
from .text import short
from .waiting import until

if TYPE_CHECKING:
    from types import TracebackType

    from .exits import Exit
    from .life import Life
    from .process import Process


OTHER_RUN: Final = (
    "a handle can be used only in the Trio run that its process lives in: "
    "from a worker thread, go through trio.from_thread"
)


def check_thread() -> None:
    """Refuse a thread in which no Trio run is."""
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(OTHER_RUN)


class Home:
    """What every home is: it claims a handle from start to removal."""

    __slots__ = ("_token", "parent")

    parent: Process | None  # the process above in the tree
    _token: trio.lowlevel.TrioToken

    def __init__(self, parent: Process | None) -> None:
        self.parent = parent
        self._token = trio.lowlevel.current_trio_token()

    def holds(self) -> bool:
        """Say whether the claim still counts: one that a finished run left does not."""
        return not is_over(self._token)

    def check_run(self) -> None:
        """Refuse another thread, or Trio run, before it can do harm."""
        check_thread()
        if trio.lowlevel.current_trio_token() is not self._token:
            raise RuntimeError(OTHER_RUN)

    def ready(self, process: Process) -> None:
        """Hear that the process has become ready."""

    def ended(self, process: Process, life: Life, exit: Exit) -> BaseException | None:
        """Hear that the life is over; give what its wrapper is to raise if that was no crash."""
        raise NotImplementedError

    def interrupted(self) -> None:
        """Hear, before a life has ended, that it lets an interrupt or exit pass."""

    def links(self, process: Process) -> bool:
        """Say whether a crash goes on as an exception."""
        return False

    def promises(self, process: Process) -> bool:
        """Say whether another life will follow the one that is being stopped."""
        return False

    def hands_on(self, process: Process) -> bool:
        """Say whether a crash, though it stays here, is told to somebody who asked."""
        return False


class LinkedHome(Home):
    """A scope that fails with the process: the caller's nursery or block."""

    __slots__ = ()

    def links(self, process: Process) -> bool:
        """Say yes: that is what this home is."""
        return True

    def ended(self, process: Process, life: Life, exit: Exit) -> BaseException | None:
        """Let what counts as a failure here go on."""
        if life.asked == "killed":
            return Exited(process, exit)
        return None if life.ready or life.asked or exit.failed else unready(process, exit)


def unready(process: Process, exit: Exit) -> Exception:
    """Make the error of a start that ended, though not in failure, before it was ready."""
    if exit is NORMAL:
        return StartFailed(f"{short(process.name)} returned before it was ready", process.name)
    return NotRunning(f"{short(process.name)} declined to start: {exit}", process)


class TaskHome(Home):
    """The scope of whoever asked for a task, while it is linked to it."""

    __slots__ = ()

    def __init__(self) -> None:
        self.parent = None  # no token: one object serves all tasks, and they live once

    def check_run(self) -> None:
        """Refuse another thread; another Trio run cannot be told."""
        check_thread()

    def links(self, process: Process) -> bool:
        """Say yes: that is what this home is."""
        return True

    def ended(self, process: Process, life: Life, exit: Exit) -> BaseException | None:
        """Fail the scope if the task was ended from outside; a normal end never does."""
        return None if exit.reason == "normal" else Exited(process, exit)

    def unlinked(self) -> Home:
        """Give the home of a task whose link is cut."""
        return UNLINKED


class UnlinkedHome(TaskHome):
    """The same once `ignore` or `shutdown` has cut the link."""

    __slots__ = ()

    def links(self, process: Process) -> bool:
        """Say no: a failure is only reported."""
        return False

    def ended(self, process: Process, life: Life, exit: Exit) -> BaseException | None:
        """Let nothing go on."""
        return None

    def unlinked(self) -> Home:
        """Give this home itself."""
        return self


LINKED: Final = TaskHome()
UNLINKED: Final = UnlinkedHome()


class NurseryHome(LinkedHome):
    """The Trio task that called `run`, usually by `await nursery.start(process.run)`."""

    __slots__ = ("_status",)

    def __init__(self, parent: Process | None, status: trio.TaskStatus[Any]) -> None:
        super().__init__(parent)
        self._status = status

    def ready(self, process: Process) -> None:
        """Hand the handle to whoever waits in `nursery.start`."""
        self._status.started(process)

    def ended(self, process: Process, life: Life, exit: Exit) -> BaseException | None:
        """Release the handle: the Trio task ends with the life."""
        process._home = None
        return super().ended(process, life, exit)


class Block(LinkedHome):
    """An `async with` block: its life is shielded, and ends after the body.

    So the cleanup of a body can still use the process when the outside is cancelled, and
    nested blocks end in reverse.
    """

    __slots__ = ("_nursery", "_process")

    def __init__(self, process: Process, parent: Process | None) -> None:
        super().__init__(parent)
        self._process: Final = process
        self._nursery: Final = OwnNursery()

    @trio.lowlevel.enable_ki_protection
    async def open(self) -> None:
        """Start the life and wait until it is ready."""
        self._process._claim(self)
        nursery = await self._nursery.__aenter__()  # cannot fail: no checkpoint, and protected
        try:
            life = self._process._spawn(nursery)
            await until(lambda: life.ready or life.exit is not None, self._process)
            if not life.ready and not life.exit.failed:
                # An interrupt that it let pass has cancelled us, and says it all.
                await trio.lowlevel.checkpoint_if_cancelled()
                raise unready(self._process, life.exit)
        except BaseException as error:
            await self.close(type(error), error, error.__traceback__)
            raise
        if not life.ready:  # it failed: its error leaves by our nursery
            await self.close(None, None, None)

    @trio.lowlevel.enable_ki_protection
    async def close(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Stop the life, wait for its end, and let out what failed."""
        broken = None
        if error is None:
            try:
                await self._process._before_leaving()
            except BaseException as raised:
                error = broken = raised
        try:
            with trio.CancelScope(shield=True):
                await self._process._stopped()
        except BaseException as raised:
            if error is not None:
                reports.lost(error, f"leaving its block was broken off by {short(raised)}")
            error = broken = raised
            if self._process._life.asked:
                self._process.kill()  # nobody waits any more for a stop in order
        finally:
            # Whatever happened above, nothing may keep our nursery from ending.
            self._process._life.scope.cancel(reason="block left")
        try:
            return await self._leave(error, broken)
        finally:  # what leaves keeps this frame, which must not keep what it displaced
            del error, trace, broken

    async def _leave(self, error: BaseException | None, broken: BaseException | None) -> bool:
        try:
            handled = await self._nursery.leave(error)
            if broken is not None and not handled:
                raise broken
            return handled
        finally:
            self._process._home = None
            del error, broken
