"""Tasks that a supervisor stops with the rest, but never restarts.

They are started by whoever asks for them, by plain functions, and leave the table by
their own wrapper: a finished task costs the supervisor's loop nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import Exited
from .homes import Home, TaskHome
from .waiting import Bell

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trio

    from .exits import Exit
    from .life import Life
    from .process import Process


class Guests(Bell):
    """The table of such tasks; rings when it has become empty."""

    __slots__ = ("_table", "isolated", "linked", "tell")

    def __init__(self, owner: Process) -> None:
        self._sleepers = None
        self._table: dict[Process, None] = {}
        self.tell: trio.MemorySendChannel[Any] | None = None  # the loop, once it waits for us
        self.isolated = GuestHome(owner, self)
        self.linked = LinkedGuestHome(owner, self)

    def part(self) -> None:
        """Let go of the homes, once all have left: they know this table, a cycle."""
        del self.isolated, self.linked

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Process]:
        return iter(tuple(self._table))

    def __contains__(self, process: object) -> bool:
        return process in self._table

    def add(self, process: Process) -> None:
        """Record one, in the same step as its Trio task is spawned."""
        self._table[process] = None

    def left(self, process: Process) -> None:
        """Forget one whose life is over."""
        self._table.pop(process, None)
        if not self._table:
            self.ring()
            if self.tell is not None:
                self.tell.send_nowait(("alone", None, None))


class GuestHome(Home):
    """The supervisor's own nursery: a failure stays in the handle."""

    __slots__ = ("_guests",)

    def __init__(self, owner: Process, guests: Guests) -> None:
        super().__init__(owner)
        self._guests = guests

    def ended(self, process: Process, life: Life, exit: Exit) -> BaseException | None:
        """Take the task from the table."""
        process._home = None
        self._guests.left(process)
        return None


class LinkedGuestHome(TaskHome):
    """The nursery of whoever asked, while the task is linked to it."""

    __slots__ = ("_guests",)

    def __init__(self, owner: Process, guests: Guests) -> None:
        super().__init__()
        self.parent = owner
        self._guests = guests

    def ended(self, process: Process, life: Life, exit: Exit) -> BaseException | None:
        """Take the task from the table; fail the scope if it was ended from outside."""
        process._home = None
        self._guests.left(process)
        return None if exit.reason == "normal" else Exited(process, exit)

    def unlinked(self) -> Home:
        """Give the home of a task whose link is cut."""
        return self._guests.isolated
