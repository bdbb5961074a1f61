"""BagTable: many values for each key, shared by tasks and threads; what ETS calls a bag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import trio

from ._core import options
from ._rows import K, Rows, V

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._core.process import Process


class BagTable(Rows[K, V]):
    """Any number of values under each key, in the order in which they came; a bag of `:ets`.

    Owner, heir, threads, and how keys are compared: as for a `Table`. Adding to a key that
    has many values costs time in proportion to them if they are unique.

    Args:
        unique: Keep no two equal values under a key (`:bag`); False keeps them
            (`:duplicate_bag`).
        owner: A running process with whose life it ends; None for no owner.
        heir: A process that becomes its owner when that ends, if it runs then.
        name: A label for messages; need not be unique.

    Raises:
        TypeError: An option is of a wrong type.
        ValueError: There is an heir without an owner.
        NotRunning: The owner has no life at the moment.
    """

    __slots__ = ("_count",)

    _kind: ClassVar = "BagTable"
    _flag_name: ClassVar = "unique"

    def __init__(
        self,
        *,
        unique: bool = True,
        owner: Process | None = None,
        heir: Process | None = None,
        name: str | None = None,
    ) -> None:
        self._count = 0
        super().__init__(options.flag("unique", unique), owner, heir, name)

    # --- looking -------------------------------------------------------------------------------

    def lookup(self, key: K) -> tuple[V, ...]:
        """Give all values under a key, the oldest first; `:ets.lookup/2`."""
        return tuple(self._rows.get(key, ()))

    def __contains__(self, key: object) -> bool:
        """Say whether there is any value under a key; `:ets.member/2`."""
        return key in self._rows

    def __len__(self) -> int:
        """Count the rows, not the keys."""
        return len(self._rows) and self._count  # the first raises at the end

    def keys(self) -> tuple[K, ...]:
        """Give each key once, as they are now."""
        with self._lock:
            return tuple(self._rows)

    def items(self) -> tuple[tuple[K, V], ...]:
        """Give every key and value, as they are now; `:ets.tab2list/1`."""
        return tuple(self._snapshot())

    # --- changing ------------------------------------------------------------------------------

    def insert(self, key: K, value: V) -> None:
        """Add a value under a key; `:ets.insert/2`."""
        self.insert_all([(key, value)])

    def insert_all(self, rows: Iterable[tuple[K, V]], /) -> None:
        """Add many rows, all or none of them; `:ets.insert/2` with a list.

        Raises:
            TypeError: What was given is no iterable of pairs, or a key is not hashable.
            TableGone: The table has ended.
        """
        checked = [(key, value) for key, value in rows]
        for key, _ in checked:
            hash(key)
        with self._lock:
            self._add_all(checked)

    def insert_new(self, key: K, value: V) -> bool:
        """Add a row if there is none under its key, and say whether; `:ets.insert_new/2`."""
        with self._lock:
            if key in self._rows:
                return False
            self._add_all([(key, value)])
            return True

    @trio.lowlevel.enable_ki_protection
    def take(self, key: K) -> tuple[V, ...]:
        """Take away all rows of a key, and give their values; `:ets.take/2`."""
        with self._lock:
            values = self._rows.pop(key, ())
            self._count -= len(values)
            return tuple(values)

    def delete(self, key: K) -> None:
        """Delete all rows of a key, if there are any; `:ets.delete/2`."""
        self.take(key)

    @trio.lowlevel.enable_ki_protection
    def delete_value(self, key: K, value: V) -> int:
        """Delete the rows of a key whose value is equal, and say how many; `:ets.delete_object/2`."""
        with self._lock:
            return self._keep(key, [kept for kept in self.lookup(key) if kept != value])

    @trio.lowlevel.enable_ki_protection
    def clear(self) -> None:
        """Delete all rows at once; `:ets.delete_all_objects/1`."""
        with self._lock:
            self._rows.clear()
            self._count = 0

    # --- the rows, under the lock --------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def _add_all(self, rows: list[tuple[K, V]]) -> None:
        for key, value in rows:
            if not (self._flag and value in self._rows.get(key, ())):
                self._rows.setdefault(key, []).append(value)
                self._count += 1

    def _keep(self, key: K, values: list[V]) -> int:
        """Replace the values of a key by some of them; say how many are gone."""
        gone = len(self.lookup(key)) - len(values)
        self._count -= gone
        if values:
            self._rows[key] = values
        elif gone:
            del self._rows[key]
        return gone

    @trio.lowlevel.enable_ki_protection
    def _drop(self, rows: list[tuple[K, V]]) -> int:
        dropped: dict[K, set[int]] = {}
        for key, value in rows:
            dropped.setdefault(key, set()).add(id(value))
        with self._lock:
            return sum(
                self._keep(key, [kept for kept in self.lookup(key) if id(kept) not in ids])
                for key, ids in dropped.items()
            )

    def _snapshot(self) -> list[tuple[K, V]]:
        with self._lock:
            return [(key, value) for key, values in self._rows.items() for value in values]

    def _fill(self, rows: list[tuple[Any, Any]]) -> None:
        self.insert_all(rows)
