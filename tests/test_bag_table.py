"""BagTable: many values for each key."""

import pytest

from trio_otp import BagTable

BOTH = pytest.mark.parametrize("unique", [True, False], ids=["unique", "duplicates"])
ROWS = [("k", 1), ("k", 2), ("k", 1), (1, "int"), (1.0, "float")]


def bag_of(rows, unique=True):
    bag = BagTable(unique=unique)
    for key, value in rows:
        bag.insert(key, value)
    return bag


@pytest.mark.parametrize(
    ("unique", "values", "size"), [(True, (1, 2), 4), (False, (1, 2, 1), 5)], ids=["unique", "not"]
)
@pytest.mark.conforms("ETS-007", "ETS-008", "ETS-021", "ETS-022", "ETS-024", "ETS-025")
def test_many_values_for_a_key(unique, values, size):
    """Values stand in the order in which they came, equal ones once or as often as they came."""
    bag = bag_of(ROWS, unique)
    assert bag.lookup("k") == values
    assert bag.lookup(1) == bag.lookup(1.0) == ("int", "float")
    assert (len(bag), "k" in bag, "z" in bag, bag.lookup("z")) == (size, True, False, ())
    assert bag.keys() == ("k", 1)
    assert bag.items() == (*(("k", value) for value in values), (1, "int"), (1, "float"))


@BOTH
@pytest.mark.conforms("ETS-015", "ETS-016", "ETS-017")
def test_many_rows_at_once(unique):
    """Many rows are added in their order; none is fine."""
    bag = BagTable(unique=unique)
    assert bag.insert_all([]) is None
    bag.insert_all((key, 0) for key in "aba")
    assert bag.lookup("a") == ((0,) if unique else (0, 0))
    assert len(bag) == 2 + (not unique)


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([("a", 1), 5], TypeError),
        ([("a", 1), ()], ValueError),
        ([("a", 1), ([], 2)], TypeError),
        (5, TypeError),
    ],
)
@pytest.mark.conforms("ETS-016", "ETS-018")
def test_bad_rows(rows, error):
    """One bad row among many, and none of them is added."""
    bag = BagTable()
    with pytest.raises(error):
        bag.insert_all(rows)
    assert (len(bag), bag.keys()) == (0, ())


@BOTH
@pytest.mark.conforms("ETS-019")
def test_insert_new(unique):
    """A row is added only if its key has none."""
    bag = BagTable(unique=unique)
    assert (bag.insert_new("k", 1), bag.insert_new("k", 2)) == (True, False)
    assert (bag.lookup("k"), len(bag)) == ((1,), 1)


@BOTH
@pytest.mark.conforms("ETS-026", "ETS-030")
def test_taking_a_key(unique):
    """All rows of a key go at once; a key that is not there is no error."""
    bag = bag_of(ROWS, unique)
    assert len(bag.take("k")) == 2 + (not unique)
    assert (bag.take("k"), bag.delete("k"), len(bag), bag.keys()) == ((), None, 2, (1,))
    assert bag.delete(1) is None
    assert (len(bag), bag.items()) == (0, ())


@BOTH
@pytest.mark.conforms("ETS-027")
def test_deleting_one_value(unique):
    """Only equal values go, every copy of them; the last one takes the key along."""
    bag = bag_of(ROWS, unique)
    assert bag.delete_value("k", 3) == bag.delete_value("z", 1) == 0
    assert bag.delete_value("k", 1) == 1 + (not unique)
    assert (bag.lookup("k"), "z" in bag) == ((2,), False)
    assert bag.delete_value("k", 2) == 1
    assert ("k" in bag, len(bag)) == (False, 2)


@BOTH
@pytest.mark.conforms("ETS-039", "ETS-042", "ETS-043")
def test_choosing_rows(unique):
    """A predicate chooses rows of any key to give, count or delete."""
    bag = bag_of(ROWS, unique)
    ones = 1 + (not unique)
    assert bag.select(lambda key, value: value == 1) == [("k", 1)] * ones
    assert bag.count(lambda key, value: key == 1) == 2
    assert bag.delete_where(lambda key, value: value in {1, "int", "float"}) == ones + 2
    assert (bag.items(), len(bag)) == ((("k", 2),), 1)


def test_row_that_came_since_stays():
    """delete_where deletes the rows it was asked about and no others."""
    bag = bag_of([("k", (1, "old")), ("gone", 0)])

    def meanwhile(key, value):
        bag.insert("k", (2, "new"))
        bag.delete("gone")
        return True

    assert bag.delete_where(meanwhile) == 1
    assert bag.items() == (("k", (2, "new")),)


@BOTH
@pytest.mark.conforms("ETS-028")
def test_clear(unique):
    """All rows go at once, and the bag can be used on."""
    bag = bag_of(ROWS, unique)
    bag.clear()
    assert (len(bag), bag.keys()) == (0, ())
    bag.insert("a", 1)
    assert len(bag) == 1


@BOTH
@pytest.mark.conforms("ETS-050", "ETS-051")
def test_looking_while_it_changes(unique):
    """What was looked up stays as it was."""
    bag = bag_of(ROWS, unique)
    values, rows = bag.lookup("k"), bag.items()
    bag.insert("k", 9)
    bag.delete(1)
    assert (9 in values, len(rows)) == (False, 4 + (not unique))


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}], ids=repr)
def test_values_need_no_hash(value):
    """A value may be anything; only equality is asked of it."""
    bag = bag_of([("k", value), ("k", value)])
    assert bag.lookup("k") == (value,)


def test_value_that_cannot_be_compared():
    """An error of a value's own leaves no trace of a key without values."""

    class Odd:
        def __eq__(self, other):
            raise ZeroDivisionError

    bag = bag_of([("k", 1)])
    with pytest.raises(ZeroDivisionError):
        bag.insert("k", Odd())
    assert (bag.lookup("k"), len(bag)) == ((1,), 1)


def test_iteration_names_its_ways():
    """A bag is not iterated as a whole: keys() or items() say what is meant."""
    with pytest.raises(TypeError, match="not iterable"):
        iter(BagTable())
