"""Rows: what every kind of table is. Rows that threads share, with an owner, an end and a file.

Rules of this file, and of the tables built on it:
  1. Reading one key is one operation of a dict, and takes no lock. Whatever changes rows, or
     looks at more than one, holds the lock.
  2. No function of a user is called under the lock: a slow one in a worker thread must not
     hold up the Trio thread. What keys and values say of equality and order is asked there.
  3. At the end something that always raises takes the place of the rows, so that nothing
     else has to look whether they are still there.
"""

from __future__ import annotations

from threading import RLock
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NoReturn, TypeVar

import trio

from . import _table_file
from ._core import options
from ._core.errors import BadTableFile, TableGone
from ._core.process import Process, life_now
from ._core.text import short

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike
    from typing import Self

    from ._core.life import Life

K = TypeVar("K")
V = TypeVar("V")

ABSENT: Final[Any] = object()


class Rows(Generic[K, V]):
    """Rows with an owner and an end, safe to use from worker threads."""

    __slots__ = ("__weakref__", "_flag", "_heir", "_lock", "_name", "_owner", "_rows", "_saving")

    _kind: ClassVar[str]
    _flag_name: ClassVar[str]  # the option that says which kind of table it is

    def __init__(
        self, flag: bool, owner: Process | None, heir: Process | None, name: str | None
    ) -> None:
        self._flag: Final = flag
        self._name: Final = options.label(name)
        self._rows: Any = {}
        self._lock: Final = RLock()
        self._saving: Final = trio.Lock()
        self._owner: Process | None = None
        self._heir: Process | None = None
        self._set_owner(owner, heir)

    def __repr__(self) -> str:
        kind, name = type(self).__name__, "" if self._name is None else f" {short(self._name)}"
        if self.closed:
            return f"<{kind}{name} gone>"
        owner = "" if self._owner is None else f" of {self._owner!r}"
        return f"<{kind}{name}{owner} {len(self)} rows>"

    def __len__(self) -> int:
        """Count the rows."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._name or type(self).__name__

    # --- its owner and its end -----------------------------------------------------------------

    @property
    def owner(self) -> Process | None:
        """The process with whose life it ends, or None."""
        return self._owner

    @property
    def closed(self) -> bool:
        """Whether it has ended: everything but this, `name`, `owner` and `close` raises then."""
        return isinstance(self._rows, _Gone)

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """End the table, and free its rows; a second time does nothing. `:ets.delete/1`."""
        if not self.closed:
            self._leave_owner()
            self._end("it was closed")

    @trio.lowlevel.enable_ki_protection
    def give_away(self, process: Process) -> None:
        """Make another process the owner; `:ets.give_away/3`.

        Anybody who has the table may do that. The heir stays the same.

        Raises:
            NotRunning: The process has no life at the moment.
            TypeError: That is not a process.
            TableGone: The table has ended.
        """
        len(self)  # raises if it has ended
        life = _life_of("process", process)
        self._leave_owner()
        self._belong_to(process, life)

    def _set_owner(self, owner: Process | None, heir: Process | None) -> None:
        if heir is not None:
            if owner is None:
                raise ValueError("heir needs an owner: it gets the table when the owner ends")
            _process("heir", heir)
        if owner is not None:
            self._belong_to(owner, _life_of("owner", owner))
        self._heir = heir

    def _belong_to(self, owner: Process, life: Life) -> None:
        self._owner = owner
        life.call_at_end(self._owner_ended)

    def _leave_owner(self) -> None:
        if self._owner is not None:
            self._owner._life.call_not_at_end(self._owner_ended)
            self._owner = None

    def _owner_ended(self, owner: Process) -> None:
        heir = self._heir
        if heir is not None and heir._life is not None and heir._life.exit is None:
            self._belong_to(heir, heir._life)
        else:
            self._end(f"its owner {short(owner.name)} has ended: {owner.last_exit}")

    def _end(self, why: str) -> None:
        with self._lock:
            self._rows = _Gone(f"the table {short(self.name)} is gone: {why}")
            self._owner = self._heir = None

    # --- all rows ------------------------------------------------------------------------------

    def _snapshot(self) -> list[tuple[K, V]]:
        """Give all rows as they are at one moment."""
        raise NotImplementedError

    def _drop(self, rows: list[tuple[K, V]]) -> int:
        """Take away those of the rows that are still there, and say how many were."""
        raise NotImplementedError

    def _fill(self, rows: list[tuple[Any, Any]]) -> None:
        """Take in what a file held."""
        raise NotImplementedError

    def select(self, predicate: Callable[[K, V], object], /) -> list[tuple[K, V]]:
        """Give the rows for which `predicate(key, value)` is true; `:ets.select/2`.

        All as they were at one moment. For another shape, write a comprehension over
        `items()`. It looks at every row, and holds the Trio thread meanwhile.

        Raises:
            TypeError: `predicate` is not a plain function.
            TableGone: The table has ended.
        """
        options.function("predicate", predicate)
        return [row for row in self._snapshot() if plain("predicate", predicate(*row))]

    def count(self, predicate: Callable[[K, V], object], /) -> int:
        """Count the rows for which `predicate(key, value)` is true; `:ets.select_count/2`.

        Errors as in `select`.
        """
        return len(self.select(predicate))

    def delete_where(self, predicate: Callable[[K, V], object], /) -> int:
        """Delete the rows for which `predicate(key, value)` is true, and say how many.

        `:ets.select_delete/2`. If the predicate raises, nothing is deleted. A row whose
        value another thread has replaced meanwhile stays. Errors as in `select`.
        """
        return self._drop(self.select(predicate))

    # --- on a disk -----------------------------------------------------------------------------

    async def save(self, path: str | PathLike[str], /) -> None:
        """Write all rows, as they are now, to a file that `load` reads; `:ets.tab2file/2`.

        Whole or not at all: the file is written beside the old one and takes its place when
        it is on the disk. A worker thread does that. Saves of one table follow each other,
        so that an older state never replaces a newer one. Cancelled before it has begun, it
        does nothing; later, it is finished.

        Keys and values may be None, booleans, numbers, strings, bytes, and tuples, lists,
        dicts, sets and frozensets of those. They come back as they are; anything else is
        refused. Values must not be changed in place meanwhile.

        Raises:
            TypeError: A row cannot be saved; the message names it. The old file stays.
            OSError: The file cannot be written. The old file stays.
            TableGone: The table has ended.
        """
        async with self._saving:
            head, rows = {self._flag_name: self._flag}, self._snapshot()
            await trio.to_thread.run_sync(_table_file.write, path, self._kind, head, rows)

    @classmethod
    async def load(
        cls,
        path: str | PathLike[str],
        /,
        *,
        owner: Process | None = None,
        heir: Process | None = None,
        name: str | None = None,
    ) -> Self:
        """Make a table of what `save` has written; `:ets.file2tab/1`.

        A worker thread reads it. Nothing in the file is ever run: one from a stranger can
        hold odd rows, but do no harm. Cancellation leaves no table behind.

        Args:
            path: The file.
            owner: As for a new table.
            heir: As for a new table.
            name: As for a new table.

        Raises:
            BadTableFile: The file is damaged, or not one of a table of this kind.
            OSError: There is no such file, or it cannot be read.
            NotRunning: The owner has no life.
            TypeError: An option is of a wrong type.
            ValueError: There is an heir without an owner.
        """
        table = await trio.to_thread.run_sync(cls._read, path, options.label(name))
        table._set_owner(owner, heir)
        return table

    @classmethod
    def _read(cls, path: str | PathLike[str], name: str | None) -> Self:
        head, rows = _table_file.read(path, cls._kind)
        try:
            options_of_kind: Any = {cls._flag_name: head[cls._flag_name]}
            table = cls(name=name, **options_of_kind)
            table._fill(rows)
        except (KeyError, TypeError, ValueError) as error:
            raise BadTableFile(f"{short(str(path))} holds no {cls._kind}: {error}") from error
        return table


class _Gone:
    """What takes the place of the rows at the end: whatever it is asked, it raises."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def _raise(self, *_: object) -> NoReturn:
        raise TableGone(self._text)

    __contains__ = __getattr__ = __iter__ = __len__ = _raise
    __delitem__ = __getitem__ = __setitem__ = _raise


def plain(option: str, result: Any) -> Any:
    """Pass on what a user's function returned; an async one would always look true."""
    if type(result) is CoroutineType:
        result.close()
        raise TypeError(f"{option} must be a plain function, got an async one")
    return result


def _process(option: str, value: Any) -> Process:
    if not isinstance(value, Process):
        raise TypeError(f"{option} must be a process, got {short(value)}")
    return value


def _life_of(option: str, value: Any) -> Life:
    return life_now(_process(option, value), "a table")
