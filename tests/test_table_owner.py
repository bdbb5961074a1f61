"""Tables: with whom they end, and who inherits them."""

import gc
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_otp import (
    Agent,
    BagTable,
    ExitProcess,
    GenServer,
    NoReply,
    NotRunning,
    Supervisor,
    Table,
    TableGone,
    Task,
    TaskSupervisor,
    subscribe,
)

KINDS = pytest.mark.parametrize("kind", [Table, BagTable])


def fail(state, *_):
    raise ZeroDivisionError


def leave(state):
    raise ExitProcess("normal")


class Counting(GenServer):
    """A server that makes a table of its own in each life, or takes the one it is lent."""

    def __init__(self, home=None):
        super().__init__(name="counting")
        self.home = home
        self.tables = []

    def init(self):
        self.tables.append(Table(owner=self, heir=self.home, name="counts"))
        return None

    def handle_cast(self, request, state):
        self.tables[-1].update_counter(request, default=0)
        return NoReply(state)

    def handle_call(self, request, caller, state):
        raise ZeroDivisionError


USES = {
    Table: {
        "len": len,
        "iter": iter,
        "reversed": reversed,
        "in": lambda table: "k" in table,
        "get": lambda table: table.get("k"),
        "[]": lambda table: table["k"],
        "[]=": lambda table: table.__setitem__("k", 1),
        "del": lambda table: table.__delitem__("k"),
        "==": lambda table: table == {},
        "keys": lambda table: [*table.keys()],
        "items": lambda table: [*table.items()],
        "values": lambda table: [*table.values()],
        "pop": lambda table: table.pop("k", None),
        "popitem": lambda table: table.popitem(),
        "take": lambda table: table.take("k"),
        "setdefault": lambda table: table.setdefault("k", 1),
        "update": lambda table: table.update(k=1),
        "insert_new": lambda table: table.insert_new("k", 1),
        "compare_and_set": lambda table: table.compare_and_set("k", 1, 2),
        "update_value": lambda table: table.update_value("k", abs),
        "update_counter": lambda table: table.update_counter("k", default=0),
    },
    BagTable: {
        "len": len,
        "in": lambda bag: "k" in bag,
        "keys": lambda bag: bag.keys(),
        "items": lambda bag: bag.items(),
        "lookup": lambda bag: bag.lookup("k"),
        "insert": lambda bag: bag.insert("k", 1),
        "insert_all": lambda bag: bag.insert_all([("k", 1)]),
        "insert_new": lambda bag: bag.insert_new("k", 1),
        "take": lambda bag: bag.take("k"),
        "delete": lambda bag: bag.delete("k"),
        "delete_value": lambda bag: bag.delete_value("k", 1),
    },
}
OF_BOTH = {
    "clear": lambda table: table.clear(),
    "select": lambda table: table.select(max),
    "count": lambda table: table.count(max),
    "delete_where": lambda table: table.delete_where(max),
    "give_away": lambda table: table.give_away(Agent(int)),
}
OF_ORDERED = {
    "first": lambda table: table.first(),
    "last": lambda table: table.last(),
    "next": lambda table: table.next(1),
    "prev": lambda table: table.prev(1),
    "range": lambda table: table.range(1, 2),
}


# --- the end ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "use"),
    [
        pytest.param(kind(**options), use, id=f"{kind.__name__}-{name}{number or ''}")
        for number, (kind, options) in enumerate(
            [(Table, {}), (BagTable, {}), (Table, {"ordered": True})]
        )
        for name, use in (
            USES[kind] | OF_BOTH | (OF_ORDERED if options.get("ordered") else {})
        ).items()
    ],
)
@pytest.mark.conforms("ETS-029")
def test_use_after_the_end(table, use):
    """Whatever a closed table is asked, it says that it is gone."""
    table.close()
    with pytest.raises(TableGone, match=r"the table '\w+' is gone: it was closed"):
        use(table)


@KINDS
@pytest.mark.conforms("ETS-029", "ETS-010")
def test_closing_twice(kind):
    """Anybody may close a table; closing it again does nothing."""
    table = kind()
    table.close()
    table.close()
    assert (table.closed, table.owner) == (True, None)


# --- the owner ----------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize(
    "how",
    [Agent.kill, lambda owner: owner.cast(fail), lambda owner: owner.cast(leave)],
    ids=["kill", "crash", "normal"],
)
@pytest.mark.conforms("ETS-052")
async def test_end_of_the_owner(autojump_clock, kind, how):
    """However its owner ends, the table is gone when anybody hears of that end."""
    owner = Agent(int, name="owner", restart="temporary")
    heard = []
    async with Supervisor([owner]):
        table = kind(owner=owner)

        async def watch():
            await owner.wait()
            heard.append(table.closed)

        def ended(event):
            if type(event).__name__ == "Ended":
                heard.append(table.closed)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await wait_all_tasks_blocked()
            with subscribe(ended):
                how(owner)
                await owner.wait()
        assert heard == [True, True]
        with pytest.raises(TableGone, match="its owner 'owner' has ended: "):
            len(table)


@KINDS
@pytest.mark.conforms("ETS-052")
async def test_block_as_the_end_of_the_owner(autojump_clock, kind):
    """A table lives in the block of its owner and is gone behind it."""
    async with Agent(int) as owner:
        table = kind(owner=owner)
        assert table.owner is owner
        assert repr(owner) in repr(table)
    assert table.closed


@pytest.mark.conforms("ETS-054")
async def test_table_of_a_server_that_crashes(autojump_clock):
    """The rows go with the life; the next life makes a new table, empty, under the same name."""
    server = Counting()
    async with Supervisor([server]):
        server.cast("a")
        with pytest.raises(Exception, match="ended before it answered"):
            await server.call("crash")
        await trio.sleep(1)
        old, new = server.tables
        assert (old.closed, new.closed, len(new), old.name) == (True, False, 0, new.name)


@pytest.mark.conforms("ETS-054", "ETS-001")
async def test_table_that_outlives_its_workers(autojump_clock):
    """A table of the supervisor is there, with its rows, in the next life of a worker."""
    async with Supervisor(max_restarts=1) as home:
        hits = Table(owner=home)

        async def worker():
            if hits.update_counter("lives", default=0) == 1:
                raise ZeroDivisionError
            await trio.sleep_forever()

        await home.start_child(worker)
        await trio.sleep(1)
        assert hits["lives"] == 2
    assert hits.closed


@KINDS
async def test_owner_that_does_not_run(autojump_clock, kind):
    """A table belongs to a life: a process without one cannot own it."""
    agent = Agent(int, name="sleepy")
    with pytest.raises(NotRunning, match="sleepy"):
        kind(owner=agent)
    async with agent:
        table = kind(owner=agent)
    for owned in (lambda: kind(owner=agent), lambda: kind().give_away(agent)):
        with pytest.raises(NotRunning, match="sleepy"):
            owned()
    assert table.closed


@KINDS
def test_heir_without_owner(kind):
    """Nobody can inherit from nobody."""
    with pytest.raises(ValueError, match="heir needs an owner"):
        kind(heir=Agent(int))
    with pytest.raises(TypeError, match="heir must be a process, got 'me'"):
        kind(owner=Agent(int), heir="me")


@KINDS
async def test_closed_table_is_forgotten_by_its_owner(autojump_clock, kind):
    """An owner that lives on keeps nothing of a table that was closed or dropped before."""
    gc.disable()
    try:
        async with Agent(int) as owner:
            table = kind(owner=owner)
            known = weakref.ref(table)
            table.close()
            del table
            assert known() is None
    finally:
        gc.enable()


@KINDS
async def test_ended_table_keeps_nothing_alive(autojump_clock, kind):
    """With the collector off, a table that ended with its owner goes with its last reference."""
    gc.disable()
    try:
        owner, heir = Agent(int), Agent(int)
        async with heir, owner:
            table = kind(owner=owner, heir=heir)
        known, last = weakref.ref(table), weakref.ref(owner)
        del table, owner
        assert (known(), last()) == (None, None)
    finally:
        gc.enable()


# --- the heir, and gifts ------------------------------------------------------------------


@KINDS
@pytest.mark.conforms("ETS-055", "ETS-056")
async def test_heir(autojump_clock, kind):
    """At the end of the owner the heir owns the table, rows and all; at its own end it is gone."""
    owner, heir = Agent(int), Agent(int, name="heir")
    async with heir:
        async with owner:
            table = kind(owner=owner, heir=heir)
            (table.insert if kind is BagTable else table.__setitem__)("k", 1)
        assert table.owner is heir
        assert table.select(lambda key, value: True) == [("k", 1)]
    with pytest.raises(TableGone, match="its owner 'heir' has ended"):
        len(table)


@pytest.mark.conforms("ETS-056")
async def test_heir_stays_heir(autojump_clock):
    """Who has inherited a table and gives it back inherits it again."""
    home, server = Supervisor(max_restarts=1), Agent(int)
    async with home:
        async with server:
            table = Table(owner=server, heir=home)
        async with server:
            table.give_away(server)
            assert table.owner is server
        assert table.owner is home


@pytest.mark.parametrize("heir", ["never ran", "has ended", "the owner"])
@pytest.mark.conforms("ETS-055")
async def test_heir_that_does_not_run(autojump_clock, heir):
    """If the heir does not run when the owner ends, the table is gone."""
    owner, other = Agent(int), Agent(int)
    async with owner:
        async with other:
            table = Table(owner=owner, heir=owner if heir == "the owner" else other)
        if heir == "never ran":
            table = Table(owner=owner, heir=Agent(int))
    assert table.closed


@KINDS
@pytest.mark.conforms("ETS-057")
async def test_gift(autojump_clock, kind):
    """A table that was given away lives and ends with its new owner, and no longer with the old."""
    giver, receiver = Agent(int), Agent(int)
    async with receiver:
        async with giver:
            table = kind(owner=giver)
            table.give_away(receiver)
            assert table.owner is receiver
        assert not table.closed
    assert table.closed


async def test_gift_to_the_owner(autojump_clock):
    """A gift to whom it belongs already changes nothing."""
    async with Agent(int) as owner:
        table = Table(owner=owner)
        table.give_away(owner)
        assert table.owner is owner
    assert table.closed


@pytest.mark.parametrize("receiver", [None, "me"])
def test_gift_to_no_process(receiver):
    """A table is given to a process; close() is what ends it."""
    with pytest.raises(TypeError, match=f"process must be a process, got {receiver!r}"):
        Table().give_away(receiver)


async def test_table_that_belonged_to_nobody(autojump_clock):
    """A table without an owner can be given one."""
    table = Table()
    async with Agent(int) as owner:
        table.give_away(owner)
    assert table.closed


# --- sharing ------------------------------------------------------------------------------


@pytest.mark.conforms("ETS-010")
async def test_everybody_may_use_it(autojump_clock):
    """Who has the table reads it, changes it and ends it, whoever owns it."""
    async with Agent(int) as owner, TaskSupervisor() as others:
        table = Table(owner=owner)
        table["k"] = 1

        async def other():
            table["k"] += 1
            table.close()
            return table.owner

        assert await others.async_nolink(other) is None
        assert table.closed


@pytest.mark.conforms("ETS-063")
async def test_reading_while_the_owner_is_busy(autojump_clock):
    """Reading does not go through the owner: not while it is busy, and not inside its own functions."""

    async def work(state, table):
        await trio.sleep(2)
        return table["k"]

    async with Agent(int) as owner, trio.open_nursery() as nursery:
        table = Table(owner=owner)
        table["k"] = "v"
        busy = Task.async_(nursery, owner.get, work, table)
        await trio.sleep(1)
        assert (table["k"], trio.current_time()) == ("v", 1)
        assert await busy == "v"
    assert trio.current_time() == 2


@pytest.mark.conforms("ETS-067")
async def test_claims_that_end_with_their_holder(autojump_clock):
    """insert_new claims a key without asking anybody; who watches the holders frees what they held."""
    claims = Table()
    async with TaskSupervisor() as holders, trio.open_nursery() as nursery:
        held = trio.Event()
        first = holders.start_child(held.wait)
        assert claims.insert_new("key", first)
        assert not claims.insert_new("key", holders.start_child(held.wait))

        async def free():
            await first.wait()
            claims.delete_where(lambda key, holder: holder is first)

        nursery.start_soon(free)
        held.set()
    assert len(claims) == 0
