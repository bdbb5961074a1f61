"""What the original's Registry did when it was run: the same here, line for line.

A key of somebody else is refused by an error there and by an exception here.
"""

from contextlib import asynccontextmanager

import pytest
import trio

from trio_otp import (
    Agent,
    AlreadyRegistered,
    Registered,
    Registry,
    StartFailed,
    Supervisor,
    TaskSupervisor,
    Unregistered,
    current_process,
    subscribe,
)


class Holders:
    """Processes that register and then wait."""

    def __init__(self, tasks):
        self.tasks = tasks

    def new(self, registry, key, value):
        process = self.tasks.start_child(trio.sleep_forever, name="holder")
        return process, self.register(registry, key, process, value)

    def register(self, registry, key, process, value):
        try:
            registry.register(key, process, value)
        except AlreadyRegistered:
            return "already_registered"
        return "ok"


@pytest.fixture
async def holders():
    async with TaskSupervisor() as tasks:
        yield Holders(tasks)
        await tasks.stop()


async def killed(process):
    process.kill()
    await process.wait()


@pytest.mark.conforms(
    "REG-012", "REG-014", "REG-015", "REG-024", "REG-028", "REG-034", "REG-035", "REG-038"
)
async def test_unique(holders):
    """Unique keys: refused twice, updated, kept, and free for the next when the holder is dead."""
    r = Registry("unique")
    holder, first = holders.new(r, "k", 1)
    me, _ = holders.new(r, "mine", 1)
    assert (first, holders.register(r, "k", me, 2)) == ("ok", "already_registered")
    assert r.lookup("k") == ((holder, 1),)
    assert holders.register(r, "mine", me, 2) == "already_registered"
    assert [value for _, value in r.lookup("mine")] == [1]
    assert r.update_value("mine", lambda value: value + 1) == (2, 1)
    r.unregister("k", me)
    assert r.lookup("k") != ()
    await killed(holder)
    assert (r.whereis("k"), r.keys_of(holder)) == (None, ())
    assert holders.register(r, "k", me, "new") == "ok"
    assert r.lookup("k") == ((me, "new"),)


@pytest.mark.conforms("REG-021", "REG-026", "REG-037", "REG-039", "REG-067")
async def test_listeners(holders):
    """A listener hears of each register and each unregister in their order, and of nothing else."""
    l, heard = Registry("unique", "L"), []  # noqa: E741

    def listener(event):
        match event:
            case Registered():
                heard.append(f"register {event.registry.name} {event.key} {event.value}")
            case Unregistered():
                heard.append(f"unregister {event.registry.name} {event.key}")

    with subscribe(listener):
        holder, _ = holders.new(l, "k", 1)
        me, _ = holders.new(l, "mine", 2)
        l.update_value("mine", lambda value: value + 1)
        l.unregister("mine", me)
        l.unregister("never", me)
        await killed(holder)
    assert heard == ["register L k 1", "register L mine 2", "unregister L mine"]


@pytest.mark.conforms("REG-017", "REG-029", "REG-031", "REG-032", "REG-033", "REG-044", "REG-048")
async def test_duplicate(holders):
    """Duplicate keys: all entries are counted, found and told; each goes with its owner."""
    d = Registry("duplicate")
    holder, _ = holders.new(d, "t", 1)
    me, _ = holders.new(d, "t", 2)
    holders.register(d, "t", me, 2)
    assert d.count() == 3
    assert [value for process, value in d.lookup("t") if process is me] == [2, 2]
    assert d.keys_of(me) == ("t", "t")
    assert sorted(value for _, value in d.lookup("t")) == [1, 2, 2]
    d.unregister("t", me)
    assert d.count() == 1
    await killed(holder)
    assert d.count() == 0
    for number in range(12):
        holders.new(d, "t", number)
    assert len(d.lookup("t")) == 12
    with pytest.raises(ValueError, match="unique keys"):
        d.whereis("t")


@asynccontextmanager
async def named(registry, key):
    """An agent whose init takes a name, in a home where its failure to start stays."""

    def init():
        registry.register(key, current_process())
        return 0

    async with Supervisor() as home:
        yield lambda: home.start_child(Agent(init))


@pytest.mark.conforms("REG-069", "REG-073", "REG-074")
async def test_names_of_agents():
    """A taken name refuses the start; an unknown one is nobody."""
    r = Registry()
    async with named(r, "agent") as start:
        agent = await start()
        with pytest.raises(StartFailed) as failed:
            await start()
        assert failed.value.__cause__.process is agent
        assert r.items() == (("agent", (agent, None)),)
    assert r.whereis("nope") is None


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"keys": None}, ValueError),
        ({"keys": "x"}, ValueError),
        ({"keys": "unique", "name": b"q"}, TypeError),
        ({"keys": "unique", "partitions": 0}, TypeError),
        ({"keys": "unique", "listeners": ["x"]}, TypeError),
        ({"keys": "unique", "meta": 1}, TypeError),
    ],
)
@pytest.mark.conforms("REG-001")
def test_wrong_options(given, kind):
    """What an option does not take, or an option that is not there, is refused at once."""
    with pytest.raises(kind):
        Registry(**given)
