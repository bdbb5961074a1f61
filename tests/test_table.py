"""Table: what it promises about keys, values and atomic changes."""

from itertools import islice
from typing import ClassVar
from unittest import mock

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trio_otp import Agent, BagTable, Table

BOTH = pytest.mark.parametrize("ordered", [False, True], ids=["plain", "ordered"])


def table_of(rows=(), **options):
    table = Table(**options)
    table.update(rows)
    return table


def rows_of(table):
    return sorted(table.items())


class Key:
    """A key that counts how often keys were compared."""

    compared = 0

    def __init__(self, number):
        self.number = number

    def __lt__(self, other):
        Key.compared += 1
        return self.number < other.number


# --- making one ---------------------------------------------------------------------------


@pytest.mark.conforms("ETS-001")
def test_defaults():
    """A table needs no options: it is unordered, empty, and belongs to nobody."""
    table = Table()
    assert (len(table), table.owner, table.closed, table.name) == (0, None, False, "Table")
    with pytest.raises(ValueError, match="ordered=True"):
        table.first()


@pytest.mark.conforms("ETS-002")
def test_names_are_labels():
    """Two tables of one name are two tables."""
    one, two = Table(name="hits"), Table(name="hits")
    one["a"] = 1
    assert (one.name, two.name, "a" in two) == ("hits", "hits", False)


@pytest.mark.parametrize(
    ("kind", "options", "error", "text"),
    [
        (Table, {"strange": 1}, TypeError, "strange"),
        (Table, {"read_concurrency": True}, TypeError, "read_concurrency"),
        (BagTable, {"compressed": True}, TypeError, "compressed"),
        (Table, {"ordered": "yes"}, TypeError, "ordered must be True or False, got 'yes'"),
        (BagTable, {"unique": 1}, TypeError, "unique must be True or False, got 1"),
        (Table, {"name": 5}, TypeError, "name must be a string or None, got 5"),
        (Table, {"owner": "me"}, TypeError, "owner must be a process, got 'me'"),
    ],
)
@pytest.mark.conforms("ETS-003", "ETS-013")
def test_wrong_options(kind, options, error, text):
    """An option that is unknown or of a wrong type is refused, by name."""
    with pytest.raises(error, match=text):
        kind(**options)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (table_of({"a": 1}), "<Table 1 rows>"),
        (table_of(name="hits"), "<Table 'hits' 0 rows>"),
        (BagTable(name="tags"), "<BagTable 'tags' 0 rows>"),
    ],
)
def test_repr(table, text):
    """A table says its name and how much it holds."""
    assert repr(table) == text


def test_repr_of_one_that_has_ended():
    """Also a table that is gone can say so."""
    table = Table(name="hits")
    table.close()
    assert repr(table) == "<Table 'hits' gone>"


# --- one key ------------------------------------------------------------------------------


@BOTH
@pytest.mark.conforms("ETS-005", "ETS-015", "ETS-021", "ETS-023", "ETS-024", "ETS-025")
def test_one_value_for_each_key(ordered):
    """A later value takes the place of an earlier one; what is missing is said as by a dict."""
    table = Table(ordered=ordered)
    table["k"] = 1
    table["k"] = 2
    assert (table["k"], table.get("k"), len(table)) == (2, 2, 1)
    assert ("k" in table, "z" in table, table.get("z"), table.get("z", 0)) == (True, False, None, 0)
    with pytest.raises(KeyError, match="z"):
        table["z"]


@BOTH
@pytest.mark.conforms("ETS-005", "ETS-006")
def test_equal_numbers_are_one_key(ordered):
    """1, 1.0 and True are equal, and so one key."""
    table = Table(ordered=ordered)
    table[1], table[1.0], table[True] = "int", "float", "bool"
    assert [*table.items()] == [(1, "bool")]


@pytest.mark.conforms("ETS-014")
def test_values_are_shared():
    """A table holds the object itself: a change in place is seen by all."""
    table, value = Table(), [1]
    table["k"] = value
    value.append(2)
    assert table["k"] is value


@BOTH
@pytest.mark.conforms("ETS-026", "ETS-030")
def test_deleting(ordered):
    """del insists on the key; take and pop give what they take away, or a default."""
    table = table_of({"a": 1, "b": 2, "c": 3}, ordered=ordered)
    del table["a"]
    assert (table.take("b"), table.take("b"), table.take("b", 0)) == (2, None, 0)
    assert (table.pop("c"), table.pop("c", 0)) == (3, 0)
    for missing in (lambda: table.pop("c"), lambda: table.__delitem__("c"), table.popitem):
        with pytest.raises(KeyError):
            missing()


@BOTH
def test_popitem_and_setdefault(ordered):
    """The other verbs of a mutable mapping work as those of a dict."""
    table = Table(ordered=ordered)
    assert (table.setdefault("a", 1), table.setdefault("a", 2), table.setdefault("b")) == (
        1,
        1,
        None,
    )
    assert (table.popitem(), rows_of(table)) == (("b", None), [("a", 1)])
    assert table == {"a": 1}


@BOTH
@pytest.mark.conforms("ETS-019")
def test_insert_new(ordered):
    """A free key is taken and True; a taken one stays as it is and False."""
    table = Table(ordered=ordered)
    assert (table.insert_new("k", 1), table.insert_new("k", 2), table["k"]) == (True, False, 1)


@BOTH
@pytest.mark.conforms("ETS-044")
def test_compare_and_set(ordered):
    """A value is replaced only if it equals the one that was expected; the loser is told."""
    table = table_of({"k": (1, "a")}, ordered=ordered)
    assert table.compare_and_set("k", (1, "a"), (2, "b")) is True
    assert table.compare_and_set("k", (1, "a"), (3, "c")) is False
    assert table["k"] == (2, "b")


@pytest.mark.parametrize("old", [None, mock.ANY])
def test_compare_and_set_of_a_missing_key(old):
    """A missing key equals nothing, not even what equals everything."""
    table = Table()
    assert table.compare_and_set("k", old, 1) is False
    assert "k" not in table


@BOTH
@pytest.mark.conforms("ETS-032", "ETS-036")
def test_update_value(ordered):
    """A function replaces a value, several fields of it in one change, and new and old come back."""
    table = table_of({"k": (10, 5)}, ordered=ordered)
    assert table.update_value("k", lambda v: (v[0] + 1, v[1] - 3)) == ((11, 2), (10, 5))
    assert table.update_value("z", lambda v: v * 2, default=4) == (8, 4)
    assert rows_of(table) == [("k", (11, 2)), ("z", 8)]


@pytest.mark.conforms("ETS-036")
def test_update_value_of_a_missing_key():
    """Without a default a missing key is an error, and the function is not called."""
    with pytest.raises(KeyError, match="z"):
        Table().update_value("z", pytest.fail)


def test_function_that_raises_changes_nothing():
    """An error of the function comes out, and the row stays."""
    table = table_of({"k": 0})
    with pytest.raises(ZeroDivisionError):
        table.update_value("k", lambda v: 1 // v)
    assert table["k"] == 0


async def true_later(*_):
    return True


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda table: table.update_value("k", true_later), "fn must be a plain function"),
        (lambda table: table.update_value("k", 5), "fn must be a function, got 5"),
        (lambda table: table.select(true_later), "predicate must be a plain function"),
        (lambda table: table.count(None), "predicate must be a function, got None"),
        (lambda table: table.delete_where(true_later), "predicate must be a plain function"),
    ],
)
@pytest.mark.conforms("ETS-040")
def test_async_functions_are_refused(use, text):
    """A coroutine is always true, so a function that gives one is refused and nothing changes."""
    table = table_of({"k": 1})
    with pytest.raises(TypeError, match=text):
        use(table)
    assert table == {"k": 1}


# --- counters -----------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("start", "options", "after"),
    [
        (10, {}, 11),
        (10, {"step": -3}, 7),
        (10, {"step": 0}, 10),
        (10, {"step": 100, "limit": 50, "reset": 0}, 0),
        (10, {"step": 40, "limit": 50, "reset": 0}, 50),
        (10, {"step": -100, "limit": 0, "reset": 7}, 7),
        (10, {"step": -10, "limit": 0, "reset": 7}, 0),
        (8, {"limit": 8}, 8),
        (9, {"step": 0, "limit": 8}, 8),
        (-5, {"step": -1, "limit": -5}, -5),
        (None, {"default": 40}, 41),
        (5, {"default": 40}, 6),
    ],
)
@pytest.mark.conforms("ETS-032", "ETS-033", "ETS-034")
def test_counters(ordered, start, options, after):
    """A step is added and the sum comes back; beyond a limit the number is reset, or stays there."""
    table = table_of({} if start is None else {"c": start}, ordered=ordered)
    assert table.update_counter("c", **options) == after
    assert table["c"] == after


@pytest.mark.parametrize(
    ("value", "options", "error", "text"),
    [
        ("text", {}, TypeError, "a counter must be a whole number, got 'text'"),
        (1.5, {}, TypeError, "a counter must be a whole number, got 1.5"),
        (True, {}, TypeError, "a counter must be a whole number, got True"),
        (1, {"step": 1.5}, TypeError, "step must be a whole number, got 1.5"),
        (1, {"step": None}, TypeError, "step must be a whole number, got None"),
        (1, {"step": 1, "limit": "9"}, TypeError, "limit must be a whole number, got '9'"),
        (1, {"limit": 1, "reset": 0.0}, TypeError, "reset must be a whole number, got 0.0"),
        (1, {"reset": 0}, TypeError, "reset needs a limit"),
    ],
)
@pytest.mark.conforms("ETS-035")
def test_bad_counters(value, options, error, text):
    """What is no whole number is refused by name, and nothing changes."""
    table = table_of({"c": value})
    with pytest.raises(error, match=text):
        table.update_counter("c", **options)
    assert table["c"] is value


@pytest.mark.conforms("ETS-034", "ETS-035")
def test_counter_that_is_not_there():
    """Without a default a missing counter is an error; a bad default makes no row."""
    table = Table()
    with pytest.raises(KeyError, match="c"):
        table.update_counter("c")
    with pytest.raises(TypeError, match="a counter must be"):
        table.update_counter("c", default="x")
    assert len(table) == 0


# --- many keys ----------------------------------------------------------------------------


@BOTH
@pytest.mark.conforms("ETS-016", "ETS-017")
def test_many_rows_at_once(ordered):
    """Pairs, mappings and tables go in whole; of equal keys the last one wins; none is fine."""
    table = Table(ordered=ordered)
    table.update([])
    table.update([("a", 1), ("b", 2), ("a", 3)])
    table.update(table_of({"c": 4}), d=5)
    assert rows_of(table) == [("a", 3), ("b", 2), ("c", 4), ("d", 5)]


@BOTH
@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([("b", 2), 5], TypeError),
        ([("b", 2), ()], ValueError),
        ([("b", 2), ("c", 3, 4)], ValueError),
        ([("b", 2), ([], 3)], TypeError),
        (5, TypeError),
    ],
)
@pytest.mark.conforms("ETS-016", "ETS-018")
def test_bad_rows(ordered, rows, error):
    """One bad row among many, and none of them is put in."""
    table = table_of({"a": 1}, ordered=ordered)
    with pytest.raises(error):
        table.update(rows)
    assert table == {"a": 1}


@BOTH
@pytest.mark.conforms("ETS-028")
def test_clear(ordered):
    """All rows go at once, and the table can be used on."""
    table = table_of({"a": 1, "b": 2}, ordered=ordered)
    table.clear()
    assert len(table) == 0
    table["c"] = 3
    assert [*table] == ["c"]


@pytest.mark.conforms("ETS-046", "ETS-047")
def test_all_rows_of_a_plain_table():
    """Rows come in the order of their first insertion, and backwards in the reverse of it."""
    table = table_of([(key, -key) for key in (30, 10, 20)])
    assert [*table.items()] == [(30, -30), (10, -10), (20, -20)]
    assert ([*table], [*reversed(table)]) == ([30, 10, 20], [20, 10, 30])
    assert sum(table.values()) == -60


@BOTH
@pytest.mark.parametrize(
    "view", [iter, reversed, Table.keys, Table.items, Table.values], ids=lambda view: view.__name__
)
@pytest.mark.conforms("ETS-050", "ETS-051")
def test_iterating_while_it_changes(ordered, view):
    """An iteration gives the rows as they were when it began, whatever happens meanwhile."""
    table = table_of({key: key for key in range(20)}, ordered=ordered)
    before = [*view(table)]
    seen = []
    for item in view(table):
        seen.append(item)
        table.take(item[0] if view is Table.items else item)
        table[len(seen) + 100] = 0
    assert seen == before
    assert len(table) == 20


@pytest.mark.conforms("ETS-051")
async def test_iterating_across_an_await(autojump_clock):
    """A task that awaits between two rows still sees the table as it was."""
    table = table_of({1: "a", 2: "b", 3: "c"})
    seen = []
    for row in table.items():
        seen.append(row)
        table.clear()
        await trio.sleep(1)
    assert seen == [(1, "a"), (2, "b"), (3, "c")]


@BOTH
@pytest.mark.conforms("ETS-038", "ETS-039", "ETS-040", "ETS-042", "ETS-043")
def test_choosing_rows(ordered):
    """A predicate chooses rows to give, count or delete; one that none fits gives none."""
    table = table_of({1: ("a", 10), 2: ("b", 20), 3: ("a", 30), 4: ("a", 30)}, ordered=ordered)
    assert table.select(lambda key, value: value[0] == "b") == [(2, ("b", 20))]
    assert table.select(lambda key, value: len(value) == 3) == []
    assert table.count(lambda key, value: value[0] == "a") == 3
    assert table.delete_where(lambda key, value: value == ("a", 30)) == 2
    assert table.delete_where(lambda key, value: value == ("a", 30)) == 0
    assert [*table] == [1, 2]


def test_predicate_that_raises_deletes_nothing():
    """delete_where asks about all rows before it deletes the first."""
    table = table_of({3: 0, 1: 0, 0: 0})
    with pytest.raises(ZeroDivisionError):
        table.delete_where(lambda key, value: 1 / key)
    assert len(table) == 3


def test_row_that_was_replaced_stays():
    """delete_where deletes the row it was asked about, not one that came since."""
    table = table_of({"a": 1, "b": 1})

    def replace(key, value):
        table["a"] = 2
        return True

    assert table.delete_where(replace) == 1
    assert table == {"a": 2}


@pytest.mark.conforms("ETS-041")
def test_pages():
    """An iteration is taken page by page, over the rows as they were at the first."""
    table = table_of({key: key for key in range(4)}, ordered=True)
    rows = iter(table.items())
    assert [key for key, _ in islice(rows, 3)] == [0, 1, 2]
    table.clear()
    assert [key for key, _ in islice(rows, 3)] == [3]
    assert [*islice(rows, 3)] == []


# --- ordered ------------------------------------------------------------------------------


@pytest.mark.conforms("ETS-006", "ETS-046", "ETS-047", "ETS-048", "ETS-049")
def test_order():
    """Keys stand in their order, and one can go from any place to the next, also from a gap."""
    table = table_of([(key, -key) for key in (30, 10, 20)], ordered=True)
    assert [*table.items()] == [(10, -10), (20, -20), (30, -30)]
    assert ([*table.values()], [*reversed(table)]) == ([-10, -20, -30], [30, 20, 10])
    assert (table.first(), table.last()) == (10, 30)
    assert [table.next(key) for key in (5, 10, 15, 30, 35)] == [10, 20, 20, None, None]
    assert [table.prev(key) for key in (5, 10, 15, 30, 35)] == [None, None, 10, 20, 30]
    assert table.popitem() == (30, -30)


@pytest.mark.conforms("ETS-048")
def test_order_of_nothing():
    """An empty table has no first and no last key."""
    table = Table(ordered=True)
    assert (table.first(), table.last(), table.next(1), table.prev(1)) == (None,) * 4
    assert table.range() == []


@pytest.mark.parametrize(
    ("low", "high", "keys"),
    [
        (None, None, [10, 20, 30]),
        (20, None, [20, 30]),
        (11, None, [20, 30]),
        (None, 20, [10]),
        (10, 30, [10, 20]),
        (20, 20, []),
        (30, 10, []),
    ],
)
@pytest.mark.conforms("ETS-045")
def test_ranges(low, high, keys):
    """A range has its lower end and not its upper one, and can be had backwards."""
    table = table_of({key: key for key in (30, 10, 20)}, ordered=True)
    assert table.range(low, high) == [(key, key) for key in keys]
    assert table.range(low, high, reverse=True) == [(key, key) for key in keys[::-1]]


@pytest.mark.conforms("ETS-045")
def test_range_looks_at_its_own_part_only():
    """A range of a large table costs few comparisons."""
    table = table_of({Key(number): number for number in range(5000)}, ordered=True)
    Key.compared = 0
    assert [value for _, value in table.range(Key(70), Key(73))] == [70, 71, 72]
    assert Key.compared < 100


@pytest.mark.parametrize(
    "use",
    [
        lambda table: table.first(),
        lambda table: table.last(),
        lambda table: table.next(1),
        lambda table: table.prev(1),
        lambda table: table.range(1),
    ],
)
@pytest.mark.conforms("ETS-048", "ETS-049")
def test_order_of_an_unordered_table(use):
    """A table that is not ordered has no order to ask for, and says what it needs."""
    with pytest.raises(ValueError, match="needs a table with ordered=True"):
        use(table_of({1: 1}))


@pytest.mark.parametrize(
    ("before", "keys"),
    [([], [None]), ([], [1j]), ([], ["x", 5]), ([1, 2], ["x"]), ([1, 2], [7, None])],
)
@pytest.mark.conforms("ETS-006")
def test_keys_without_an_order(before, keys):
    """A key that cannot be compared with itself or the others is refused, and all that come with it."""
    table = table_of(dict.fromkeys(before), ordered=True)
    with pytest.raises(TypeError, match="keys of an ordered table must be comparable"):
        table.update(dict.fromkeys(keys))
    assert [*table] == before
    table.update(dict.fromkeys(keys[:-1]))
    with pytest.raises(TypeError, match="keys of an ordered table must be comparable"):
        table[keys[-1]] = None
    assert [*table] == before + keys[:-1]


def test_nan_has_no_place():
    """A number that does not equal itself would break the order."""
    table = table_of({1.0: "one"}, ordered=True)
    with pytest.raises(ValueError, match="must equal itself, got nan"):
        table[float("nan")] = "none"
    assert [*table] == [1.0]


# --- like a dict --------------------------------------------------------------------------

KEYS = st.integers(0, 8)
CHANGES = {
    "set": lambda rows, key, value: rows.__setitem__(key, value),
    "del": lambda rows, key, value: rows.__delitem__(key),
    "pop": lambda rows, key, value: rows.pop(key, value),
    "setdefault": lambda rows, key, value: rows.setdefault(key, value),
    "update": lambda rows, key, value: rows.update({key: value, key + 1: value}),
    "clear": lambda rows, key, value: rows.clear() if value == 0 else None,
    "get": lambda rows, key, value: rows.get(key, value),
}


def outcome(fn, *args):
    try:
        return fn(*args)
    except KeyError as error:
        return repr(error)


@BOTH
@given(st.lists(st.tuples(st.sampled_from(sorted(CHANGES)), KEYS, st.integers(0, 20))))
def test_like_a_dict(ordered, changes):
    """Any changes give the same answers and leave the same rows as those of a dict."""
    table, plain = Table(ordered=ordered), {}
    for name, key, value in changes:
        change = CHANGES[name]
        assert outcome(change, table, key, value) == outcome(change, plain, key, value)
    assert [*table.items()] == (sorted(plain.items()) if ordered else [*plain.items()])
    if ordered:
        for key in range(-1, 11):
            assert table.next(key) == min((k for k in plain if k > key), default=None)
            assert table.prev(key) == max((k for k in plain if k < key), default=None)


# --- interrupts ---------------------------------------------------------------------------


class Guarded(int):
    """A key that notes whether the code that compares it is protected from an interrupt."""

    seen: ClassVar[list[bool]] = []

    def __lt__(self, other):
        Guarded.seen.append(trio.lowlevel.currently_ki_protected())
        return int(self) < int(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.update({Guarded(7): 0, Guarded(8): 0}),
        lambda table: table.__setitem__(Guarded(7), 0),
        lambda table: table.setdefault(Guarded(7)),
        lambda table: table.insert_new(Guarded(7), 0),
        lambda table: table.__delitem__(Guarded(1)),
        lambda table: table.pop(Guarded(1)),
        lambda table: table.take(Guarded(1)),
        lambda table: table.delete_where(lambda key, value: key == 1),
    ],
)
async def test_interrupt_between_keys_and_rows(autojump_clock, change):
    """An ordered table is never left with a key in its order that has no row, or the reverse."""
    table = table_of({Guarded(number): number for number in range(5)}, ordered=True)
    Guarded.seen.clear()
    change(table)
    assert Guarded.seen
    assert all(Guarded.seen)


async def test_functions_can_be_interrupted(autojump_clock):
    """What the user's function does is the user's: an interrupt reaches it."""
    table, seen = table_of({"k": 1}), []

    def look(*_):
        seen.append(trio.lowlevel.currently_ki_protected())

    table.update_value("k", look)
    table.delete_where(look)
    assert seen == [False, False]


# --- shared by tasks ----------------------------------------------------------------------


async def eight_times(fn):
    """Run a function in eight tasks at once."""
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(fn)


@pytest.mark.conforms("ETS-059", "ETS-061", "ETS-062")
async def test_safe_ways_to_count(autojump_clock):
    """A counter, a compare-and-set in a loop and a function lose no step, awaits in between or not."""
    table = table_of({"a": 0, "b": 0, "c": 0})

    async def count():
        for _ in range(100):
            table.update_counter("a")
            table.update_value("b", lambda n: n + 1)
            done = False
            while not done:
                n = table["c"]
                await trio.lowlevel.checkpoint()
                done = table.compare_and_set("c", n, n + 1)

    await eight_times(count)
    assert table == {"a": 800, "b": 800, "c": 800}


@pytest.mark.conforms("ETS-060", "ETS-062")
async def test_unsafe_way_to_count(autojump_clock):
    """To read, await, and write loses steps; without the await it does not."""
    table = table_of({"across": 0, "at once": 0})

    async def count():
        for _ in range(100):
            n = table["across"]
            await trio.lowlevel.checkpoint()
            table["across"] = n + 1
            table["at once"] = table["at once"] + 1

    await eight_times(count)
    assert table["across"] < 800
    assert table["at once"] == 800


@pytest.mark.conforms("ETS-020", "ETS-031")
async def test_one_winner(autojump_clock):
    """Of many tasks one inserts a key, and one takes it."""
    table, inserted, taken = Table(), [], []

    async def insert():
        await trio.lowlevel.checkpoint()
        inserted.append(table.insert_new("once", "it"))

    async def take():
        await trio.lowlevel.checkpoint()
        taken.append(table.take("once"))

    await eight_times(insert)
    await eight_times(take)
    assert sorted(inserted) == [False] * 7 + [True]
    assert sorted(taken, key=bool) == [None] * 7 + ["it"]


@pytest.mark.conforms("ETS-066")
async def test_one_writes_and_all_read(autojump_clock):
    """One agent makes all changes in its order; the others read without asking it."""
    table = table_of({"k": 0})

    async def write(state, number):
        await trio.sleep(1)
        table["k"] = number

    async with Agent(int) as writer:
        writer.cast(write, 1)
        assert table["k"] == 0
        await writer.get()
        assert table["k"] == 1
