"""Tables on a disk: saved whole or not at all, loaded whole or not at all."""

import json
import os
import stat
from hashlib import sha256

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_otp import Agent, BadTableFile, BagTable, NotRunning, Table, TableGone

pytestmark = pytest.mark.real  # worker threads write and read


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table"


def table_of(rows, **options):
    table = Table(**options)
    table.update(rows)
    return table


def with_seal(*lines):
    """The file that has these lines, with the right checksum."""
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    body = "".join(f"{text}\n" for text in texts).encode()
    return body + f"sha256 {sha256(body).hexdigest()}\n".encode()


HEAD = {"format": "trio_otp table", "version": 1, "kind": "Table", "ordered": False}
NESTED = ({"a": [1, (2.5, None)], 3: {4}}, frozenset({b"\x00\xff", "ü\n\ud800"}), -(10**50), True)


# --- there and back -----------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.conforms("ETS-069")
async def test_table_there_and_back(path, ordered):
    """A table comes back with its rows in their order, and with its kind."""
    table = table_of({(2, "b"): "two", (1, "a"): "one"}, ordered=ordered)
    await table.save(path)
    loaded = await Table.load(path, name="again")
    assert [*loaded.items()] == [*table.items()]
    assert loaded.name == "again"
    if ordered:
        assert loaded.first() == (1, "a")


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.conforms("ETS-069")
async def test_bag_there_and_back(path, unique):
    """A bag comes back with all its rows, and keeps or refuses duplicates as before."""
    bag = BagTable(unique=unique)
    bag.insert_all([("k", 1), ("k", 1), ("j", [2])])
    await bag.save(str(path))
    loaded = await BagTable.load(str(path))
    assert loaded.items() == bag.items()
    loaded.insert("j", [2])
    assert len(loaded.lookup("j")) == 2 - unique


@pytest.mark.parametrize("rows", [{}, {"": ""}, {None: NESTED, NESTED[1]: float("-inf")}], ids=len)
async def test_values_come_back_as_they_are(path, rows):
    """Each type that can be saved comes back as that type, however deep."""
    await table_of(rows).save(path)
    assert repr(await Table.load(path)) == f"<Table {len(rows)} rows>"
    loaded = dict((await Table.load(path)).items())
    assert loaded == rows
    assert str([*map(type, loaded.get(None, ()))]) == str([*map(type, rows.get(None, ()))])


async def test_loaded_table_can_have_an_owner(path):
    """A loaded table ends with its owner like any other."""
    await table_of({"a": 1}).save(path)
    async with Agent(int) as owner, Agent(int) as heir:
        table = await Table.load(path, owner=owner, heir=heir)
        assert (table.owner, len(table)) == (owner, 1)
    assert table.closed
    with pytest.raises(NotRunning):
        await Table.load(path, owner=owner)
    with pytest.raises(ValueError, match="heir needs an owner"):
        await Table.load(path, heir=owner)
    with pytest.raises(TypeError, match="name must be a string or None, got 1"):
        await Table.load(path, name=1)


async def test_state_that_is_saved(path):
    """What is saved is the table as it was when its turn came, however it changes meanwhile."""
    table = table_of({"a": 1})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.save, path)
        await wait_all_tasks_blocked()
        table["a"] = 2
    assert dict(await Table.load(path)) == {"a": 1}


async def test_later_save_wins(path):
    """Saves of one table follow each other: the file ends as the last one left it."""
    table = table_of(dict.fromkeys(range(5000), "x" * 100))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.save, path)
        await wait_all_tasks_blocked()
        table.clear()
        table["last"] = True
        nursery.start_soon(table.save, path)
    assert dict(await Table.load(path)) == {"last": True}


async def test_link_stays_a_link(path, tmp_path):
    """A save through a link replaces the file that it points to."""
    link = tmp_path / "link"
    link.symlink_to(path)
    await table_of({"a": 1}).save(link)
    assert link.is_symlink()
    assert dict(await Table.load(path)) == {"a": 1}


async def test_others_may_read_it(path):
    """A new file has the rights that a new file has here."""
    path.with_name("plain").touch()
    await Table().save(path)
    assert stat.filemode(path.stat().st_mode) == stat.filemode(
        path.with_name("plain").stat().st_mode
    )


# --- what cannot be saved -----------------------------------------------------------------


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def endless():
    value = []
    value.append(value)
    return value


class Name(str):
    """A subclass would come back as a plain string."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object, "is of type type"),
        (Name("x"), "is of type Name"),
        ([({1: 1j},)], "1j is of type complex"),
        (trio.Event(), "is of type Event"),
        (endless(), "nested deeper than 100 levels"),
        (deep(101), "nested deeper than 100 levels"),
        (10**5000, "limit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_value_that_cannot_be_saved(path, value, text):
    """The error names the row, the old file stays, and nothing lies beside it."""
    await table_of({"old": 1}).save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match=rf"the row of 'bad' cannot be saved: .*{text}"):
        await table_of({"good": 1, "bad": value}).save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


async def test_deepest_value_that_can_be_saved(path):
    """What can be saved can be loaded."""
    await table_of({"deep": deep(99)}).save(path)
    assert (await Table.load(path))["deep"] == deep(99)


async def test_key_that_cannot_be_saved(path):
    """A key is as narrow as a value, and no file appears."""
    with pytest.raises(TypeError, match="the row of 1j cannot be saved: 1j is of type complex"):
        await table_of({1j: 1}).save(path)
    assert os.listdir(path.parent) == []


async def test_place_that_cannot_be_written(tmp_path):
    """The error of the operating system comes out as it is."""
    with pytest.raises(FileNotFoundError):
        await Table().save(tmp_path / "nowhere" / "table")
    with pytest.raises(IsADirectoryError):
        await Table().save(tmp_path)


async def test_save_after_the_end(path):
    """A table that is gone writes nothing, rather than nothing's rows."""
    table = Table()
    table.close()
    with pytest.raises(TableGone):
        await table.save(path)
    assert not path.exists()


async def test_cancelled_save(path):
    """A save that is cancelled before it begins writes nothing, and the next one works."""
    table = table_of({"a": 1})
    with trio.CancelScope() as scope:
        scope.cancel()
        await table.save(path)
    assert (scope.cancelled_caught, path.exists()) == (True, False)
    await table.save(path)
    with trio.CancelScope() as scope:
        scope.cancel()
        await Table.load(path)
    assert scope.cancelled_caught


# --- damaged files ------------------------------------------------------------------------


async def test_every_damage_is_found(path):
    """A file that lost its end, or in which any byte has changed, is an error, never another table."""
    await table_of({"a": 1}).save(path)
    whole = path.read_bytes()
    damaged = [
        *(whole[:length] for length in range(len(whole))),
        *(
            whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]
            for place in range(len(whole))
            for bit in (1, 32)
        ),
        whole + b"\n",
        whole + whole,
        whole[:-1] + b"\r\n",
    ]
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(BadTableFile, match="is damaged, or was not written by save"):
            await Table.load(path)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([], "was not written by save"),
        ([[]], "was not written by save"),
        ([{}], "was not written by save"),
        ([HEAD | {"format": "else"}], "is no Table of version 1"),
        ([HEAD | {"version": 2}], "is no Table of version 1"),
        ([HEAD | {"kind": "BagTable"}], "is no Table of version 1"),
        ([HEAD | {"ordered": 1}], "ordered must be True or False"),
        ([{key: HEAD[key] for key in HEAD if key != "ordered"}], "holds no Table: 'ordered'"),
        ([HEAD, []], "was not written by save"),
        ([HEAD, ["a", 1, 2]], "was not written by save"),
        ([HEAD, ["a", {"set": [[]]}]], "was not written by save"),
        ([HEAD, ["a", {"eval": "1"}]], "was not written by save"),
        ([HEAD, ["a", {}]], "was not written by save"),
        ([HEAD, ["a", {"bytes": "?"}]], "was not written by save"),
        ([HEAD, "[" * 200_000], "was not written by save"),
        ([HEAD, [[], 1]], "holds no Table: unhashable"),
        ([HEAD | {"ordered": True}, ["a", 1], [2, 2]], "must be comparable"),
    ],
)
async def test_files_of_others(path, lines, text):
    """A file that is whole but says something else is an error that says so."""
    path.write_bytes(with_seal(*lines))
    with pytest.raises(BadTableFile, match=text):
        await Table.load(path)


async def test_file_that_is_not_there(path):
    """A missing file is no empty table."""
    with pytest.raises(FileNotFoundError):
        await Table.load(path)


async def test_bag_is_no_table(path):
    """A table is not loaded as a bag."""
    await Table().save(path)
    with pytest.raises(BadTableFile, match="is no BagTable of version 1"):
        await BagTable.load(path)
