"""Table: one value for each key, shared by tasks and threads; what ETS calls a set."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

import trio
from sortedcontainers import SortedDict  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from ._core import options
from ._core.text import short
from ._rows import ABSENT, K, Rows, V, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ._core.process import Process

D = TypeVar("D")


class Table(Rows[K, V], MutableMapping[K, V]):
    """A mapping that worker threads may share, and that has an owner; `:ets`.

    All methods but `save` and `load` are plain functions, and each is atomic, among tasks
    and among threads. What is *read* and then *written* by two calls is atomic only if no
    await and no other thread comes between: use `update_counter`, `update_value`,
    `compare_and_set`, `insert_new` or `take`. Iterating goes over the rows as they were
    when it began, so the table may be changed meanwhile.

    Without an owner it lives as long as anybody refers to it. With one it ends in the step
    in which the owner's life ends, a crash included, unless an heir is there to take it:
    let a supervisor own what is to outlive its workers. Used after its end it raises
    `TableGone`.

    Values are shared, not copied, and keys are compared as Python compares: 1, 1.0 and
    True are one key. Owner and heir are set in the Trio thread only.

    Args:
        owner: A running process with whose life it ends; None for no owner.
        heir: A process that becomes its owner when that ends, if it runs then. It stays the
            heir.
        name: A label for messages; need not be unique.
        ordered: Keep the keys sorted: they must be comparable with each other, in a total
            order. Changes cost more, looking up does not.

    Raises:
        TypeError: An option is of a wrong type.
        ValueError: There is an heir without an owner.
        NotRunning: The owner has no life at the moment.
    """

    __slots__ = ()

    _kind: ClassVar = "Table"
    _flag_name: ClassVar = "ordered"

    def __init__(
        self,
        *,
        owner: Process | None = None,
        heir: Process | None = None,
        name: str | None = None,
        ordered: bool = False,
    ) -> None:
        super().__init__(options.flag("ordered", ordered), owner, heir, name)
        if ordered:
            self._rows = SortedDict()

    # --- one key -------------------------------------------------------------------------------

    def __getitem__(self, key: K) -> V:
        value: V = self._rows[key]
        return value

    def __setitem__(self, key: K, value: V) -> None:
        with self._lock:
            self._put(key, value)

    @trio.lowlevel.enable_ki_protection
    def __delitem__(self, key: K) -> None:
        with self._lock:
            del self._rows[key]

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    if not TYPE_CHECKING:  # checkers take the types of MutableMapping: the same, in many overloads

        def get(self, key: K, default: Any = None) -> Any:
            """Give the value of a key, or the default."""
            return self._rows.get(key, default)

        def setdefault(self, key: K, default: Any = None) -> Any:
            """Give the value of a key; if it has none, that becomes the default."""
            with self._lock:
                if key not in self._rows:
                    self._put(key, default)
                return self._rows[key]

        @trio.lowlevel.enable_ki_protection
        def pop(self, key: K, *default: Any) -> Any:
            """Take a row away and give its value; without it the default, or KeyError."""
            with self._lock:
                return self._rows.pop(key, *default)

        def update(self, other: Any = (), /, **more: Any) -> None:
            """Put many rows in, all or none of them, and seen by others all at once."""
            rows = dict(other.items() if isinstance(other, Mapping) else other, **more)
            with self._lock:
                self._put_all(rows)

    @overload
    def take(self, key: K) -> V | None: ...
    @overload
    def take(self, key: K, default: V | D) -> V | D: ...
    def take(self, key: K, default: Any = None) -> Any:
        """Take a row away and give its value, or the default; `:ets.take/2`.

        Of many who take the same key one gets it.
        """
        return self.pop(key, default)

    def insert_new(self, key: K, value: V) -> bool:
        """Put a row in if its key is free, and say whether it was; `:ets.insert_new/2`.

        Of many who insert the same key one is told yes: a claim, or a lock.
        """
        return self._swap(key, ABSENT, value)

    def compare_and_set(self, key: K, old: V, new: V) -> bool:
        """Replace a value if it is, or equals, `old`; say whether it was replaced.

        What `:ets.select_replace/2` is for. A missing key is no match.
        """
        while (now := self._rows.get(key, ABSENT)) is not ABSENT and (now is old or now == old):
            if self._swap(key, now, new):
                return True
        return False

    def update_value(self, key: K, fn: Callable[[V], V], /, *, default: V = ABSENT) -> tuple[V, V]:
        """Replace a value by what a function makes of it, and give the new and the old.

        `:ets.update_element/3` and the like. If another thread has changed the value
        meanwhile, the function is called again with that: it must have no other effects,
        and not change this row itself. If it raises, all stays.

        Args:
            key: The key.
            fn: A plain function.
            default: The old value of a key that is not there.

        Raises:
            KeyError: The key is not there, and no default was given.
            TypeError: `fn` is not a plain function.
            TableGone: The table has ended.
        """
        options.function("fn", fn)
        while True:
            found = self._rows.get(key, ABSENT)
            old = default if found is ABSENT else found
            if old is ABSENT:
                raise KeyError(key)
            new = plain("fn", fn(old))
            if self._swap(key, found, new):
                return new, old

    def update_counter(
        self: Table[K, int],
        key: K,
        step: int = 1,
        *,
        default: int = ABSENT,
        limit: int | None = None,
        reset: int | None = None,
    ) -> int:
        """Add to a number and give the sum; `:ets.update_counter/3` and `/4`.

        Args:
            key: The key.
            step: What to add, which may be negative, or 0 to read.
            default: What a key that is not there counts from.
            limit: How far it may go: up if the step is 0 or more, else down.
            reset: What it becomes beyond the limit; by default the limit itself.

        Raises:
            KeyError: The key is not there, and no default was given.
            TypeError: A number is wanted and something else was found or given.
            TableGone: The table has ended.
        """
        options.whole("step", step)
        for name, number in (("limit", limit), ("reset", reset)):
            if number is not None:
                options.whole(name, number)
        if reset is not None and limit is None:
            raise TypeError("reset needs a limit: it says what the number becomes beyond that")
        return self.update_value(key, lambda n: _stepped(n, step, limit, reset), default=default)[0]

    # --- many keys -----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[K]:
        with self._lock:
            return iter([*self._rows])

    def __reversed__(self) -> Iterator[K]:
        """Go over the keys from the last to the first; `:ets.foldr/3`."""
        return reversed([*self])

    def items(self) -> ItemsView[K, V]:
        """Give a view of the rows; each iteration goes over them as they are when it begins."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """Give a view of the values; each iteration goes over them as they are when it begins."""
        return _Values(self)

    @trio.lowlevel.enable_ki_protection
    def clear(self) -> None:
        """Delete all rows at once; `:ets.delete_all_objects/1`."""
        with self._lock:
            self._rows.clear()

    @trio.lowlevel.enable_ki_protection
    def popitem(self) -> tuple[K, V]:
        """Take away the newest row, of an ordered table the one with the last key.

        Raises:
            KeyError: The table is empty.
        """
        with self._lock:
            row: tuple[K, V] = self._rows.popitem()
            return row

    # --- an ordered table ----------------------------------------------------------------------

    def first(self) -> K | None:
        """Give the first key of an ordered table, or None if it is empty; `:ets.first/1`.

        Raises:
            ValueError: The table is not ordered; so for all functions of this kind.
        """
        return self._at("first", lambda rows: 0)

    def last(self) -> K | None:
        """Give the last key of an ordered table, or None if it is empty; `:ets.last/1`."""
        return self._at("last", lambda rows: len(rows) - 1)

    def next(self, key: K) -> K | None:
        """Give the key after that one, which need not be there, or None; `:ets.next/2`."""
        return self._at("next", lambda rows: rows.bisect_right(key))

    def prev(self, key: K) -> K | None:
        """Give the key before that one, which need not be there, or None; `:ets.prev/2`."""
        return self._at("prev", lambda rows: rows.bisect_left(key) - 1)

    def range(
        self, low: K | None = None, high: K | None = None, *, reverse: bool = False
    ) -> list[tuple[K, V]]:
        """Give the rows of an ordered table from `low` up to, but without, `high`.

        Only those are looked at.

        Args:
            low: The first key, which need not be there; None for the start.
            high: The key to stop before; None for no end.
            reverse: Give them from the last to the first.
        """
        self._refuse_unordered("range")
        with self._lock:
            keys = self._rows.irange(low, high, (True, False), reverse)
            return [(key, self._rows[key]) for key in keys]

    def _at(self, what: str, index: Callable[[Any], int]) -> K | None:
        """Give the key at some place, or None if that is outside."""
        self._refuse_unordered(what)
        with self._lock:
            rows = self._rows
            place = index(rows)
            key: K | None = rows.keys()[place] if 0 <= place < len(rows) else None
            return key

    def _refuse_unordered(self, what: str) -> None:
        if not self._flag:
            raise ValueError(f"{what} needs a table with ordered=True, got {self!r}")

    # --- the rows, under the lock --------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def _put(self, key: K, value: V) -> None:
        if self._flag and key not in self._rows:
            _refuse_incomparable(self._rows, (key,))
        self._rows[key] = value

    @trio.lowlevel.enable_ki_protection
    def _put_all(self, rows: dict[K, V]) -> None:
        if self._flag:
            _refuse_incomparable(self._rows, rows)
        self._rows.update(rows)

    def _swap(self, key: K, old: V, new: V) -> bool:
        """Replace a value by another if it is still the same object: what atomic changes are made of."""
        with self._lock:
            if self._rows.get(key, ABSENT) is not old:
                return False
            self._put(key, new)
            return True

    @trio.lowlevel.enable_ki_protection
    def _drop(self, rows: list[tuple[K, V]]) -> int:
        with self._lock:
            found = [key for key, value in rows if self._rows.get(key, ABSENT) is value]
            for key in found:
                del self._rows[key]
            return len(found)

    def _snapshot(self) -> list[tuple[K, V]]:
        with self._lock:
            return [*self._rows.items()]

    def _fill(self, rows: list[tuple[Any, Any]]) -> None:
        self.update(rows)


class _Items(ItemsView[K, V]):
    _mapping: Table[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return iter(self._mapping._snapshot())


class _Values(ValuesView[V]):
    _mapping: Table[Any, V]

    def __iter__(self) -> Iterator[V]:
        return iter([value for _, value in self._mapping._snapshot()])


def _refuse_incomparable(rows: Any, keys: Collection[Any]) -> None:
    """Refuse keys that have no place in the order, before anything is changed."""
    try:
        sorted([*keys, *keys])  # twice, so that a single one is compared too
        for key in keys:
            rows.bisect(key)
    except TypeError as error:
        raise TypeError(f"keys of an ordered table must be comparable: {error}") from error
    for key in keys:
        if key != key:
            raise ValueError(f"a key of an ordered table must equal itself, got {short(key)}")


def _stepped(number: int, step: int, limit: int | None, reset: int | None) -> int:
    new = options.whole("a counter", number) + step
    if limit is None or (new <= limit if step >= 0 else new >= limit):
        return new
    return limit if reset is None else reset
