"""Registry: what entries, looks, locks and events promise."""

import gc
import re
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_otp import (
    Agent,
    AlreadyRegistered,
    Ended,
    Entry,
    NotRunning,
    Process,
    Registered,
    Registry,
    StartFailed,
    Supervisor,
    Task,
    TaskSupervisor,
    Unregistered,
    current_process,
    subscribe,
)

BOTH = pytest.mark.parametrize("keys", ["unique", "duplicate"])


@pytest.fixture
async def home():
    async with TaskSupervisor() as tasks:
        yield tasks
        await tasks.stop()


async def until_stopped():
    await trio.sleep_forever()


def start(home: TaskSupervisor, name: str = "p") -> Process:
    return home.start_child(until_stopped, name=name)


async def end(*processes: Process) -> None:
    for process in processes:
        await process.stop()


def no_trace_of(registry: Registry) -> bool:
    tables = registry._by_key, registry._by_owner, registry._holders, registry._lasting
    return registry.count() == 0 and not any(tables)


# --- making one ---------------------------------------------------------------------------


@BOTH
@pytest.mark.conforms("REG-001", "REG-002", "REG-033")
def test_new_one(keys):
    """A registry needs no name and no home, and begins empty."""
    registry = Registry(keys)
    assert (registry.name, registry.count(), registry.items()) == ("Registry", 0, ())
    named = Registry(keys=keys, name="carts")
    assert (named.name, repr(named)) == ("carts", "<Registry 'carts' 0 entries>")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"keys": "x"}, ValueError, "keys must be one of 'unique', 'duplicate', got 'x'"),
        ({"keys": None}, ValueError, "keys must be one of 'unique', 'duplicate', got None"),
        ({"name": 1}, TypeError, "name must be a string or None, got 1"),
    ],
)
@pytest.mark.conforms("REG-001", "REG-002")
def test_wrong_options(options, kind, message):
    """A wrong option is refused at once, and the message says what it takes."""
    with pytest.raises(kind, match=re.escape(message)):
        Registry(**options)


# --- unique keys ---------------------------------------------------------------------------


@pytest.mark.conforms("REG-011", "REG-028", "REG-030", "REG-032", "REG-033", "REG-071")
async def test_unique_entry(home):
    """A process is found by its key, with its value, and the key by the process."""
    registry = Registry()
    a, b = start(home), start(home)
    registry.register("k", a, 1)
    registry.register("plain", a)
    assert registry.whereis("k") is a
    assert registry.lookup("k") == ((a, 1),)
    assert registry.lookup("plain") == (Entry(a, None),)
    assert (registry.keys_of(a), registry.keys_of(b)) == (("k", "plain"), ())
    assert [entry.value for entry in registry.lookup("k") if entry.process is b] == []
    assert registry.count() == 2
    assert (registry.whereis("none"), registry.lookup("none")) == (None, ())


@pytest.mark.conforms("REG-012", "REG-013", "REG-016")
async def test_taken_key(home):
    """A taken key is refused to everybody, the holder included, and nothing changes by that."""
    registry = Registry(name="names")
    a, b = start(home, "a"), start(home, "b")
    registry.register("k", a, 1)
    for process in (a, b):
        message = re.escape("'k' of 'names' belongs to <Job 'a' running>")
        with pytest.raises(AlreadyRegistered, match=message) as refused:
            registry.register("k", process, 2)
        assert (refused.value.key, refused.value.process) == ("k", a)
    assert registry.items() == (("k", (a, 1)),)
    assert (registry.keys_of(a), registry.keys_of(b)) == (("k",), ())
    await b.stop()
    assert registry.count() == 1
    await a.stop()
    assert no_trace_of(registry)


@pytest.mark.conforms("CASE-55", "REG-016")
async def test_registering_again_leaves_nothing(home):
    """A thousand refused registrations leave nothing behind, and the end of the owner all."""
    registry = Registry()
    owner = start(home)
    errors = []
    for value in range(1_000):
        try:
            registry.register("k", owner, value)
        except AlreadyRegistered as error:
            errors.append(error)
    assert len(errors) == 999
    assert registry.items() == (("k", (owner, 0)),)
    assert [len(table) for table in (registry._by_key, registry._by_owner[owner])] == [1, 1]
    await owner.stop()
    assert no_trace_of(registry)


@pytest.mark.conforms("REG-018")
async def test_equal_keys(home):
    """Keys are compared as Python compares."""
    registry = Registry()
    registry.register(1, start(home))
    for key in (1.0, True):
        with pytest.raises(AlreadyRegistered):
            registry.register(key, start(home))
    registry.register("1", start(home))
    assert registry.count() == 2


@BOTH
async def test_key_must_be_hashable(home, keys):
    """A key that Python cannot hash is refused, and nothing is half-written."""
    registry = Registry(keys)
    owner = start(home)
    with pytest.raises(TypeError, match="unhashable"):
        registry.register([], owner)
    assert no_trace_of(registry)


# --- whose entries -----------------------------------------------------------------------------


async def ended(home):
    process = start(home)
    await process.stop()
    return process


async def never_ran(home):
    return Task(until_stopped)


@BOTH
@pytest.mark.parametrize("make", [ended, never_ran])
@pytest.mark.conforms("REG-011")
async def test_only_what_lives_is_registered(home, keys, make):
    """A process without a life is refused: its entry would never end."""
    registry = Registry(keys)
    with pytest.raises(NotRunning, match="does not run") as refused:
        registry.register("k", dead := await make(home))
    assert refused.value.process is dead
    assert no_trace_of(registry)


@pytest.mark.parametrize("process", [None, "a name", Task])
async def test_only_processes_are_registered(process):
    """What is no process is refused, also the missing process of code outside of any."""
    with pytest.raises(TypeError, match="process must be a Process, got"):
        Registry().register("k", process)


@pytest.mark.conforms("REG-068", "REG-070", "REG-073")
async def test_registering_in_init(nursery):
    """A process that registers itself while it starts is reached by its key; a failed start frees it."""
    registry = Registry()

    def init(fails: bool):
        registry.register("counter", current_process(), "value")
        assert registry.whereis("counter").status == "starting"
        return 7 // (not fails)

    with pytest.raises(ZeroDivisionError):
        async with Agent(init, True):
            pass
    assert no_trace_of(registry)
    async with Agent(init, False) as agent:
        assert registry.lookup("counter") == ((agent, "value"),)
        assert await registry.whereis("counter").get() == 7
        registry.whereis("counter").cast(lambda n: n + 1)
        assert await registry.whereis("counter").get() == 8
    assert no_trace_of(registry)


@pytest.mark.conforms("REG-069", "REG-074")
async def test_start_under_a_taken_key(home):
    """A process that finds its key taken fails to start, from an error that names the holder."""
    registry = Registry()

    def init():
        registry.register("k", current_process())

    async with Supervisor() as supervisor:
        holder = await supervisor.start_child(Agent(init, name="first"))
        with pytest.raises(StartFailed) as failed:
            await supervisor.start_child(Agent(init, name="second"))
        assert isinstance(failed.value.__cause__, AlreadyRegistered)
        assert failed.value.__cause__.process is holder
        assert registry.whereis("k") is holder
        assert registry.whereis("other") is None


# --- the end of an owner ---------------------------------------------------------------------


async def returns(gate):
    await gate.wait()


async def crashes(gate):
    await gate.wait()
    raise ValueError


async def is_killed(gate):
    current_process().kill()
    await trio.sleep_forever()


@BOTH
@pytest.mark.parametrize("body", [returns, crashes, is_killed])
@pytest.mark.conforms("REG-019", "REG-023", "REG-024", "REG-025")
async def test_entries_end_with_their_owner(home, keys, body, caplog):
    """Whatever the reason, all entries go in the step of the end: nobody who waits sees them."""
    registries = [Registry(keys), Registry(keys)]
    gate, seen = trio.Event(), []
    other = start(home)
    owner = home.start_child(body, gate)
    for registry in registries:
        registry.register("k", owner)
        registry.register("mine", owner)
        registry.register("theirs", other)

    def watch(event):
        if isinstance(event, Ended) and event.process is owner:
            seen.append([registry.count() for registry in registries])

    with subscribe(watch):
        gate.set()
        await owner.wait()
    assert seen == [[1, 1]]
    for registry in registries:
        assert registry.lookup("k") == registry.keys_of(owner) == ()
        assert registry.items() == (("theirs", (other, None)),)


@pytest.mark.conforms("REG-014", "REG-015", "CASE-54")
async def test_next_owner_keeps_its_entry(home):
    """A key is free at once when its owner has ended, and that end takes nothing from the next."""
    registry = Registry()
    first, second = start(home), start(home)
    registry.register("k", first, 1)

    def take(event):
        if isinstance(event, Ended) and event.process is first:
            registry.register("k", second, 2)

    with subscribe(take):
        await first.stop()
    assert registry.lookup("k") == ((second, 2),)
    registry.unregister("k", first)
    assert registry.whereis("k") is second
    await second.stop()
    assert no_trace_of(registry)


@pytest.mark.conforms("CASE-54")
@pytest.mark.parametrize("seed", range(20))
async def test_restart_finds_its_names_free(autojump_clock, seed, caplog):
    """Children that register themselves come back at the first attempt, for one restart."""
    registry = Registry()
    inits = []

    def init(name):
        registry.register(name, current_process())
        inits.append(name)

    agents = [Agent(init, name, name=name) for name in "ab"]
    async with Supervisor(agents, strategy="one_for_all", max_restarts=1) as supervisor:
        agents[seed % 2].kill()
        await wait_all_tasks_blocked()
        assert inits == ["a", "b", "a", "b"]
        assert [registry.whereis(name) for name in "ab"] == agents
        assert [child.restarts for child in supervisor.children].count(1) == 1
    assert no_trace_of(registry)


async def test_registered_from_outside_for_one_life(autojump_clock, caplog):
    """An entry that others made is for the life it was made in: a restart does not renew it."""
    registry = Registry()
    agent = Agent(int)
    async with Supervisor([agent]):
        registry.register("k", agent)
        agent.kill()
        await agent.wait()
        assert registry.whereis("k") is None
        await agent.get()
        assert no_trace_of(registry)


@pytest.mark.conforms("REG-020")
async def test_registry_and_owner_part(home):
    """A registry that nobody uses any more is freed, though a process that was in it lives on."""
    owner = start(home)
    registry = Registry()
    registry.register("k", owner)
    registry.register("l", owner)
    registry.unregister("k", owner)
    registry.unregister("l", owner)
    gone = weakref.ref(registry)
    gc.disable()
    try:
        del registry
        assert gone() is None
        assert owner.status == "running"
    finally:
        gc.enable()


# --- duplicate keys -----------------------------------------------------------------------------


@pytest.mark.conforms("REG-017", "REG-029", "REG-031", "REG-032", "REG-033")
async def test_duplicate_entries(home):
    """Each registration is an entry of its own, in the order of coming."""
    registry = Registry("duplicate")
    a, b = start(home), start(home)
    for process, value in [(a, 1), (b, 2), (a, 2), (a, 2)]:
        registry.register("t", process, value)
    registry.register("u", a)
    assert registry.lookup("t") == ((a, 1), (b, 2), (a, 2), (a, 2))
    assert registry.keys_of(a) == ("t", "t", "t", "u")
    assert [value for process, value in registry.lookup("t") if process is a] == [1, 2, 2]
    assert registry.count() == 5
    await a.stop()
    assert registry.items() == (("t", (b, 2)),)
    assert (registry.keys_of(a), registry.count()) == ((), 1)


@pytest.mark.parametrize(
    "use",
    [
        lambda registry: registry.whereis("k"),
        lambda registry: registry.update_value("k", int),
    ],
)
@pytest.mark.conforms("REG-036", "REG-072")
def test_what_needs_unique_keys(use):
    """What means one process is refused where a key may have many."""
    with pytest.raises(ValueError, match="needs a registry with unique keys"):
        use(Registry("duplicate"))


# --- values ----------------------------------------------------------------------------------


@pytest.mark.conforms("REG-034", "REG-035", "REG-037")
async def test_update_value(home):
    """A function replaces the value, and both come back; without an entry it is not called."""
    registry = Registry()
    owner = start(home)
    registry.register("k", owner, 1)
    heard = []
    with subscribe(heard.append):
        assert registry.update_value("k", lambda value: value + 1) == (2, 1)
        with pytest.raises(KeyError, match="none"):
            registry.update_value("none", heard.append)
    assert heard == []
    assert registry.lookup("k") == ((owner, 2),)
    await owner.stop()
    assert no_trace_of(registry)


async def test_update_value_that_raises(home):
    """A function that raises leaves the value as it was."""
    registry = Registry()
    registry.register("k", start(home), 1)
    with pytest.raises(ZeroDivisionError):
        registry.update_value("k", lambda value: value / 0)
    with pytest.raises(TypeError, match="fn must be a function"):
        registry.update_value("k", 3)
    assert registry.lookup("k")[0].value == 1


@pytest.mark.parametrize("register_again", [False, True])
async def test_update_value_of_what_goes_meanwhile(home, register_again):
    """A function that takes the entry away does not bring it back, nor touch the next one."""
    registry = Registry()
    first, second = start(home), start(home)
    registry.register("k", first, 1)

    def fn(value):
        registry.unregister("k", first)
        if register_again:
            registry.register("k", second, 10)
        return value

    with pytest.raises(KeyError):
        registry.update_value("k", fn)
    assert registry.lookup("k") == (((second, 10),) if register_again else ())


# --- unregistering --------------------------------------------------------------------------------


@BOTH
@pytest.mark.conforms("REG-038")
async def test_unregister(home, keys):
    """Entries go at once; those of others stay, and there may be none to go."""
    registry = Registry(keys)
    a, b = start(home), start(home)
    registry.register("k", a, 1)
    registry.register("l", a, 2)
    registry.unregister("k", b)
    registry.unregister("none", a)
    assert registry.count() == 2
    registry.unregister("k", a)
    registry.unregister("k", a)
    assert registry.items() == (("l", (a, 2)),)
    registry.register("k", b)
    await end(a, b)
    assert no_trace_of(registry)


@pytest.mark.conforms("REG-038")
async def test_unregister_oneself(home):
    """Inside a process its own entries go, all of them under the key, and nobody else's."""
    registry = Registry("duplicate")
    other = start(home)
    registry.register("t", other)

    async def body():
        registry.register("t", current_process(), 1)
        registry.register("t", current_process(), 2)
        registry.unregister("t")
        return registry.lookup("t")

    assert await home.async_nolink(body) == ((other, None),)


async def test_unregister_whose(home):
    """Outside of any process one has to say whose entries are meant."""
    with pytest.raises(TypeError, match=r"got None: say whose entry it is"):
        Registry().unregister("k")
    with pytest.raises(TypeError, match="where must be a function, got 1"):
        Registry().unregister("k", start(home), where=1)


@BOTH
@pytest.mark.conforms("REG-040", "REG-042")
async def test_unregister_some(home, keys):
    """With a condition only the entries go whose value fulfils it, and the keys stay right."""
    registry = Registry(keys)
    a, b = start(home), start(home)
    values = [1] if keys == "unique" else [1, 5, 2, 6]
    for value in values:
        registry.register("k", a, value)
    if keys == "duplicate":
        registry.register("k", b, 7)
    registry.unregister("k", a, where=lambda value: value > 4)
    left = [value for value in values if value < 4]
    assert [value for process, value in registry.lookup("k") if process is a] == left
    assert registry.keys_of(a) == ("k",) * len(left)
    assert registry.keys_of(b) == (("k",) if keys == "duplicate" else ())
    registry.unregister("k", a, where=lambda value: value < 4)
    assert registry.keys_of(a) == ()


async def test_condition_that_changes_the_registry(home):
    """A condition may itself take entries away; nothing is taken away twice."""
    registry = Registry("duplicate")
    owner = start(home)
    for value in (1, 2, 3):
        registry.register("k", owner, value)

    def clear(value):
        registry.unregister("k", owner, where=lambda other: other < 3)
        return value > 1

    registry.unregister("k", owner, where=clear)
    assert no_trace_of(registry)


async def test_condition_that_raises(home):
    """A condition that raises takes nothing away."""
    registry = Registry("duplicate")
    owner = start(home)
    for value in (1, 0):
        registry.register("k", owner, value)
    with pytest.raises(ZeroDivisionError):
        registry.unregister("k", owner, where=lambda value: 1 / value)
    assert registry.count() == 2


@pytest.mark.parametrize("where", [None, lambda value: True])
async def test_interrupts_wait_for_the_tables(home, where):
    """An interrupt cannot come between two tables, but it can come in what the user gave."""
    protected = []

    class Key:
        def __hash__(self):
            protected.append(trio.lowlevel.currently_ki_protected())
            return 1

    def user(value):
        assert not trio.lowlevel.currently_ki_protected()
        return where is None or where(value)

    registry, owner, key = Registry(), start(home), Key()
    registry.register(key, owner)
    assert set(protected) == {True}
    registry.update_value(key, user)
    protected.clear()
    registry.unregister(key, owner, where=where and user)
    assert protected[-3:] == [True] * 3
    assert no_trace_of(registry)


# --- choosing entries ---------------------------------------------------------------------------


@BOTH
@pytest.mark.conforms(
    "REG-051", "REG-052", "REG-053", "REG-054", "REG-055", "REG-056", "REG-057", "REG-058", "REG-059",
    "REG-060", "REG-063", "REG-064",
)  # fmt: skip
async def test_choosing(home, keys):
    """Comprehensions over the entries of one key, or of all, do what match specs are for."""
    registry = Registry(keys)
    assert registry.items() == ()
    a, b = start(home), start(home)
    wild = ("_", {"$1"})[0]
    registry.register(("room", 1), a, {"role": "admin", "age": 30})
    registry.register(("room", 2), b, {"role": "guest", "age": 7})
    registry.register(wild, b, None)
    admins = [p for p, value in registry.lookup(("room", 1)) if value["role"] == "admin"]
    assert admins == [a]
    assert registry.lookup("_") == ((b, None),)
    assert registry.lookup(("room", "_")) == ()
    of_b = [key for key, entry in registry.items() if entry.process is b]
    assert of_b == [("room", 2), "_"]
    grown = [key[1] for key, (_, value) in registry.items() if value and value["age"] > 17]
    assert grown == [1]
    either = sum(key == "_" or entry.process is a for key, entry in registry.items())
    assert either == 2
    assert [
        p for p, value in registry.lookup(("room", 1)) if value == {"role": "admin", "age": 30.0}
    ]


@BOTH
@pytest.mark.conforms("REG-043", "REG-044", "REG-045", "REG-046", "REG-048", "REG-063")
async def test_entries_do_not_change_under_a_loop(home, keys):
    """What a look gives is a snapshot: the loop over it may change the registry, or raise."""
    registry = Registry(keys)
    owners = [start(home) for _ in range(3)]
    for number, owner in enumerate(owners):
        registry.register("t" if keys == "duplicate" else ("t", number), owner, number)
    reached = []
    with pytest.raises(ZeroDivisionError):
        for key, (process, value) in registry.items():
            registry.unregister(key, process)
            reached.append(1 // (1 - value))
    assert reached == [1]
    assert registry.count() == 1
    assert list(registry.lookup("none")) == []


@pytest.mark.conforms("REG-050")
async def test_publishing(home):
    """A message goes to all subscribers of its topic; one that is full or gone hinders nobody."""
    topics = Registry("duplicate")
    received = {}

    async def subscriber(name, size, leaves):
        send, receive = trio.open_memory_channel(size)
        topics.register("news", current_process(), send)
        topics.register("other", current_process(), send)
        if leaves:
            receive.close()
            await trio.sleep_forever()
        await gate.wait()
        received[name] = receive.receive_nowait()

    gate = trio.Event()
    for name, size, leaves in [
        ("a", 1, False),
        ("full", 0, False),
        ("gone", 1, True),
        ("b", 1, False),
    ]:
        home.start_child(subscriber, name, size, leaves)
    await wait_all_tasks_blocked()
    lost = []
    for entry in topics.lookup("news"):
        try:
            entry.value.send_nowait("hello")
        except (trio.WouldBlock, trio.BrokenResourceError) as error:
            lost.append(type(error))
    gate.set()
    await wait_all_tasks_blocked()
    assert received == {"a": "hello", "b": "hello"}
    assert sorted(lost, key=str) == [trio.BrokenResourceError, trio.WouldBlock]


# --- events ----------------------------------------------------------------------------------------


@pytest.mark.conforms("REG-004", "REG-021", "REG-026", "REG-037", "REG-039", "REG-067")
async def test_events(home):
    """Registering and unregistering are told, once they are done; updates and ends are not."""
    registry = Registry()
    a, b = start(home, "a"), start(home, "b")
    heard = []

    def listen(event):
        assert event.registry is registry
        match event:
            case Registered():
                heard.append(("register", event.path[-1], event.key, event.value))
                assert registry.whereis(event.key) is event.process
            case Unregistered():
                heard.append(("unregister", event.path[-1], event.key))
                assert registry.whereis(event.key) is None

    with subscribe(lambda event: None if isinstance(event, Ended) else listen(event)):
        registry.register("k", a, 1)
        registry.register("mine", b, 2)
        registry.update_value("mine", lambda value: value + 1)
        registry.unregister("mine", b)
        registry.unregister("never", b)
        with pytest.raises(AlreadyRegistered):
            registry.register("k", b)
        await a.stop()
    assert heard == [
        ("register", "a", "k", 1),
        ("register", "b", "mine", 2),
        ("unregister", "b", "mine"),
    ]


@pytest.mark.conforms("REG-041")
async def test_unregistering_is_told_once(home):
    """Of several entries under one key only the going of the last is told."""
    registry = Registry("duplicate")
    owner, other = start(home), start(home)
    for value in (1, 2, 3):
        registry.register("t", owner, value)
    registry.register("t", other, 9)
    heard = []
    with subscribe(heard.append):
        registry.unregister("t", owner, where=lambda value: value == 2)
        assert heard == []
        registry.unregister("t", owner)
    assert [(type(event), event.process, event.key) for event in heard] == [
        (Unregistered, owner, "t")
    ]


@pytest.mark.conforms("REG-022")
async def test_a_broken_listener_is_not_felt(home, caplog):
    """A subscriber that raises is logged and dropped; whoever registers does not notice."""
    registry = Registry()
    with subscribe(lambda event: 1 // 0):
        registry.register("k", start(home))
        registry.register("l", start(home))
    assert registry.count() == 2
    assert [record.name for record in caplog.records] == ["trio_otp"]


# --- beside the entries ------------------------------------------------------------------------------


@pytest.mark.conforms("REG-006", "REG-075", "REG-076", "REG-077")
async def test_meta(home):
    """What belongs to the registry itself is kept in a dict, whoever put it there."""
    registry = Registry()

    async def write():
        registry.meta["config", 1] = "x"

    await home.async_nolink(write)
    assert registry.meta.get(("config", 1)) == "x"
    registry.meta["config", 1] = "y"
    assert registry.meta.pop(("config", 1), None) == "y"
    assert registry.meta.pop(("config", 1), None) is None
    assert registry.meta == {}


@pytest.mark.conforms("REG-078", "REG-079", "REG-080")
async def test_locks(autojump_clock, nursery):
    """One holder for each key, first come first served; other keys, and entries, are not touched."""
    registry = Registry()
    log = []

    async def hold(key, name, delay):
        await trio.sleep(delay)
        async with registry.lock(key):
            await trio.sleep(1)
            log.append((trio.current_time(), name))

    for key, name, delay in [("k", 1, 0.1), ("k", 2, 0.2), ("k", 3, 0.3), ("l", 4, 0.1)]:
        nursery.start_soon(hold, key, name, delay)
    await trio.sleep(5)
    assert sorted(log) == [(1.1, 1), (1.1, 4), (2.1, 2), (3.1, 3)]
    assert registry.items() == ()
    assert len(registry._locks) == 0


@pytest.mark.conforms("REG-081", "REG-082", "REG-083", "REG-084")
@pytest.mark.parametrize("how", ["holder raises", "holder is cancelled", "waiter is cancelled"])
async def test_lock_is_handed_on(autojump_clock, how):
    """Whoever leaves, in the block or in the queue, stands in nobody's way."""
    registry = Registry()
    seen = []

    async def first():
        with trio.move_on_after(1 if how == "holder is cancelled" else 10):
            async with registry.lock("k"):
                await trio.sleep(2)
                if how == "holder raises":
                    raise ValueError

    async def second():
        await trio.sleep(0.1)
        with trio.move_on_after(0.5 if how == "waiter is cancelled" else 10):
            async with registry.lock("k"):
                seen.append(("second", trio.current_time()))

    async def third():
        await trio.sleep(0.2)
        async with registry.lock("k"):
            seen.append(("third", trio.current_time()))

    async with TaskSupervisor() as tasks:
        for body in (first, second, third):
            tasks.async_nolink(body)
    free = 1 if how == "holder is cancelled" else 2
    second_came = [] if how == "waiter is cancelled" else [("second", free)]
    assert seen == [*second_came, ("third", free)]
    assert len(registry._locks) == 0


@pytest.mark.conforms("REG-085")
async def test_lock_is_not_taken_twice():
    """Who takes a lock that it holds is told at once, instead of waiting for itself."""
    registry = Registry()
    async with registry.lock("k"):
        with pytest.raises(RuntimeError):
            async with registry.lock("k"):
                pass
        async with registry.lock("l"):
            pass
