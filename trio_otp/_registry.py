"""Registry: names for processes that are alive; an entry ends with its owner's life.

Rules of this file:
  1. The tables change together, in one step, and events are emitted afterwards.
  2. An entry has a number, and is taken away by it: whoever registers under the same key
     later cannot lose what is theirs.
  3. What the end of an owner means is done in the step of that end, called by its wrapper.
"""

from __future__ import annotations

import itertools
import math
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, overload
from weakref import WeakValueDictionary

import attrs
import trio

from ._core import events, failures, options
from ._core.errors import AlreadyRegistered, AlreadyRunning, CalledItself, StartFailed
from ._core.exits import IGNORED
from ._core.homes import unready
from ._core.process import Process, current_process, life_now, own_process
from ._core.text import short
from ._core.waiting import Bell, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Generator, Hashable

    from ._core.life import Life
    from ._core.options import Keys

if sys.version_info >= (3, 13):
    from typing import TypeVar
else:
    from typing_extensions import TypeVar

K = TypeVar("K")
P = TypeVar("P", bound=Process)
V = TypeVar("V", default=None)
Q = TypeVar("Q", bound=Process)


class Entry(NamedTuple, Generic[P, V]):
    """One registration: whose it is, and the value kept with it."""

    process: P
    value: V


@attrs.frozen(kw_only=True)
class Registered(events.Event):
    """A process was registered under `key` of `registry`, with `value`."""

    registry: Registry[Any, Any, Any]
    key: Hashable
    value: object


@attrs.frozen(kw_only=True)
class Unregistered(events.Event):
    """The last entry of a process under `key` of `registry` was taken away, by `unregister`.

    That an owner has ended is told by `Ended` alone.
    """

    registry: Registry[Any, Any, Any]
    key: Hashable


class Starter(Protocol):
    """A supervisor that starts children one by one."""

    async def start_child(self, child: Q, /) -> Q:
        """Start it, and give it back when it is ready. Cancellation abandons the start."""
        ...


class Registry(Generic[K, P, V]):
    """Processes by key, as long as they live; Elixir's `Registry`.

    A plain object, not a process: it needs no home, and its looks are plain functions.
    An entry goes in the same step in which its owner's life ends, before anybody who waits
    for that end goes on. Keys are compared as Python compares: 1, 1.0 and True are one.
    Not to be used from other threads.

    Args:
        keys: `"unique"`, one process for each key, or `"duplicate"`, any number of entries.
        name: A label for messages.

    Attributes:
        meta: A dict for whatever belongs to the registry itself.

    Raises:
        ValueError: `keys` is neither; the message names what it takes.
        TypeError: `name` is not a string.
    """

    __slots__ = (
        "__weakref__",
        "_by_key",
        "_by_owner",
        "_count",
        "_holders",
        "_lasting",
        "_locks",
        "_name",
        "_numbers",
        "_starts",
        "_unique",
        "meta",
    )

    def __init__(self, keys: Keys = "unique", name: str | None = None) -> None:
        self._unique: Final = options.one_of("keys", keys, options.KEYS) == "unique"
        self._name: Final = options.label(name)
        self._numbers: Final = itertools.count()
        self._by_key: Final[dict[K, dict[int, Entry[P, V]]]] = {}
        self._by_owner: Final[dict[Process, dict[int, K]]] = {}
        self._holders: Final[dict[K, P]] = {}  # if keys are unique
        self._count = 0
        self._starts: Final[dict[K, _Start[P]]] = {}  # under way
        # Keys whose entry stays while its owner is between two lives, each with the life in
        # which the owner last registered itself.
        self._lasting: Final[dict[K, Life | None]] = {}
        self._locks: Final[WeakValueDictionary[Hashable, trio.Lock]] = WeakValueDictionary()
        self.meta: Final[dict[Hashable, Any]] = {}

    def __repr__(self) -> str:
        return f"<Registry {short(self.name)} {self._count} entries>"

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._name or type(self).__name__

    # --- looking -------------------------------------------------------------------------

    def whereis(self, key: K) -> P | None:
        """Give the process registered under a key, or None; `GenServer.whereis/1`.

        Raises:
            ValueError: The registry has duplicate keys: use `lookup`.
        """
        if not self._unique:
            raise self._needs_unique("whereis")
        return self._holders.get(key)

    def lookup(self, key: K) -> tuple[Entry[P, V], ...]:
        """Give all entries under a key, in the order in which they came; `Registry.lookup/2`."""
        return tuple(self._by_key.get(key, _NOTHING).values())

    def keys_of(self, process: Process) -> tuple[K, ...]:
        """Give the key of each entry of a process; `Registry.keys/2`."""
        return tuple(self._by_owner.get(process, _NOTHING).values())

    def items(self) -> tuple[tuple[K, Entry[P, V]], ...]:
        """Give every key and entry, to choose from by a comprehension; `Registry.select/2`."""
        found = self._by_key.items()
        return tuple((key, entry) for key, entries in found for entry in entries.values())

    def count(self) -> int:
        """Count the entries, not the keys; `Registry.count/1`."""
        return self._count

    # --- registering -----------------------------------------------------------------------

    @overload
    def register(self: Registry[K, P, None], key: K, process: P) -> None: ...
    @overload
    def register(self, key: K, process: P, value: V) -> None: ...
    @trio.lowlevel.enable_ki_protection
    def register(self, key: K, process: P, value: Any = None) -> None:
        """Enter a process under a key until the end of its current life; `Registry.register/3`.

        A process may do that for itself, in its init: then each of its lives is registered
        anew. It may also be done by others.

        Raises:
            AlreadyRegistered: The unique key is taken, be it by the same process.
            NotRunning: The process has no life at the moment.
            TypeError: That is not a process, or the key is not hashable.
        """
        life = _life_of(process)
        if self._holders.get(key) is process and self._lasting.get(key, life) is not life:
            self._lasting[key] = life
            self._replace(key, value)
        else:
            self._refuse_taken(key, process)
            self._add(key, process, value, life)
        if events.ANY:
            about = {"registry": self, "key": key, "value": value}
            events.emit(Registered, process, process._path(), **about)

    def unregister(
        self,
        key: K,
        process: Process | None = None,
        *,
        where: Callable[[V], object] | None = None,
    ) -> None:
        """Take away the entries of one process under a key; nothing if it has none.

        `Registry.unregister/2`, and with `where` `Registry.unregister_match/4`.

        Args:
            key: The key.
            process: Whose entries; by default those of the current process.
            where: Only entries for whose value this is true.

        Raises:
            TypeError: There is no current process, or `where` is not a function.
        """
        owner = current_process() if process is None else process
        if not isinstance(owner, Process):
            raise TypeError(f"process must be a Process, got {short(owner)}: say whose entry it is")
        numbers = self._numbers_of(key, owner)
        if where is not None:
            options.function("where", where)
            values = [(number, self._by_key[key][number].value) for number in numbers]
            numbers = {number for number, value in values if where(value)}
        self._unregister(key, owner, numbers)

    def update_value(self, key: K, fn: Callable[[V], V], /) -> tuple[V, V]:
        """Replace the value of an entry, and give the new and the old; `Registry.update_value/3`.

        The function is sync, so that nobody comes in between; if it raises, all stays.

        Raises:
            KeyError: Nobody is registered under the key; the function was not called.
            ValueError: The registry has duplicate keys.
            TypeError: `fn` is not a function.
        """
        if not self._unique:
            raise self._needs_unique("update_value")
        options.function("fn", fn)
        if key not in self._holders:
            raise KeyError(key)
        ((number, entry),) = self._by_key[key].items()
        value = fn(entry.value)
        if number not in self._by_key.get(key, _NOTHING):
            raise KeyError(key)  # the function took the entry away
        self._by_key[key][number] = Entry(entry.process, value)
        return value, entry.value

    # --- starting on demand ------------------------------------------------------------------

    async def get_or_start(self, key: K, make: Callable[[], P], supervisor: Starter) -> P:
        """Give the process registered under a key; if there is none, start one.

        However many ask at once, one is started, and all get it when it is ready. If its
        start fails, all get the error, each a `StartFailed` of its own. Its entry lasts
        longer than one that `register` makes: while its supervisor has promised the next
        life, the key stays taken, and calls wait for that life. A process that is being
        stopped is not handed out: its end is waited for.

        Cancellation ends the wait. If it is the caller whose `make` was called, the start
        is abandoned, and another who waits begins anew when what was started is gone.

        Args:
            key: The key.
            make: Builds the process; called in the first caller, and only if it is needed.
            supervisor: Who starts it, by `start_child`.

        Raises:
            StartFailed: The process failed to start.
            NotRunning: It declined to start, or the supervisor does not run.
            CalledItself: The caller is itself what is being started or stopped, or that waits
                for the caller.
            AlreadyRunning: `make` gave a process that runs.
            ValueError: The registry has duplicate keys.
            TypeError: `make` is not a function, or gives no process.
            Exception: What else `start_child` raises; others who wait then try themselves.
        """
        if not self._unique:
            raise self._needs_unique("get_or_start")
        if not callable(make):
            options.function("make", make)
        await trio.lowlevel.checkpoint()
        while True:
            process = self._holders.get(key)
            if (start := self._starts.get(key)) is not None:
                await start.wait()
            elif process is None:
                return await self._start(key, _made(make), supervisor)
            elif process._status != "stopping":
                return process
            else:
                await _end_of(process)

    @trio.lowlevel.enable_ki_protection
    async def _start(self, key: K, process: P, supervisor: Starter) -> P:
        start = self._starts[key] = _Start(self._starts, key, process)
        try:
            with _waiting_for(process):
                await supervisor.start_child(process)
            if process._life.exit is IGNORED:
                raise unready(process, IGNORED)
        except BaseException as error:
            start.failed(error)
            raise
        self._last(key, process)
        start.end()
        return process

    def _last(self, key: K, process: P) -> None:
        """Make the entry of a process that was started here last as long as that is promised."""
        life = process._life
        if key in self._holders:
            self._lasting[key] = life  # it has registered itself
        elif life.exit is None or process._status == "restarting":
            self._add(key, process, None, life)
            self._lasting[key] = None

    # --- one at a time -------------------------------------------------------------------------

    @asynccontextmanager
    async def lock(self, key: Hashable) -> AsyncGenerator[None, None]:
        """Hold a lock of that key in an `async with` block; `Registry.lock/3`.

        First come, first served. The keys of locks are their own: they have nothing to do
        with entries. There is no limit on the wait: use `trio.fail_after`. Cancellation
        ends the wait, or leaves the block; either way the next one goes on.

        Raises:
            RuntimeError: The Trio task holds this lock already.
        """
        async with self._locks.setdefault(key, trio.Lock()):
            yield

    # --- the tables ----------------------------------------------------------------------------

    def _add(self, key: K, process: P, value: Any, life: Life) -> None:
        number = next(self._numbers)
        self._by_key.setdefault(key, {})[number] = Entry(process, value)
        self._by_owner.setdefault(process, {})[number] = key
        if self._unique:
            self._holders[key] = process
        self._count += 1
        life.call_at_end(self._owner_ended)

    def _replace(self, key: K, value: Any) -> None:
        entries = self._by_key[key]
        for number, entry in entries.items():
            entries[number] = Entry(entry.process, value)

    @trio.lowlevel.enable_ki_protection
    def _unregister(self, key: K, owner: Process, numbers: set[int]) -> None:
        numbers &= self._numbers_of(key, owner)  # the user's condition may have changed that
        if not numbers:
            return
        self._take_away(owner, numbers)
        if owner not in self._by_owner:
            owner._life.call_not_at_end(self._owner_ended)
        if events.ANY and not self._numbers_of(key, owner):
            events.emit(Unregistered, owner, owner._path(), registry=self, key=key)

    def _numbers_of(self, key: K, owner: Process) -> set[int]:
        # Python goes through the smaller of the two: a key may have many owners, or an owner
        # many keys.
        owned = self._by_owner.get(owner, _NOTHING)
        return self._by_key.get(key, _NOTHING).keys() & owned.keys()

    def _take_away(self, owner: Process, numbers: Collection[int]) -> None:
        owned = self._by_owner[owner]
        for number in numbers:
            key = owned.pop(number)
            entries = self._by_key[key]
            del entries[number]
            if not entries:
                del self._by_key[key]
                self._holders.pop(key, None)
                self._lasting.pop(key, None)
        self._count -= len(numbers)
        if not owned:
            del self._by_owner[owner]

    def _owner_ended(self, owner: Process) -> None:
        """Let go of what ends with this life."""
        lasting = self._lasting if owner._status == "restarting" else _NOTHING
        owned = self._by_owner[owner]
        self._take_away(owner, [number for number, key in owned.items() if key not in lasting])
        if owner in self._by_owner:
            owner._life.call_at_end(self._owner_ended)  # the next one's, or if none follows

    # --- errors --------------------------------------------------------------------------------

    def _refuse_taken(self, key: K, process: Process) -> None:
        holder: Process | None = self._holders.get(key)
        start = self._starts.get(key)
        if start is not None and start.process is not process:
            holder = start.process
        if holder is not None:
            text = f"{short(key)} of {short(self.name)} belongs to {holder!r}"
            raise AlreadyRegistered(text, key, holder)

    def _needs_unique(self, what: str) -> ValueError:
        return ValueError(
            f"{what} needs a registry with unique keys: in {self!r} a key may have many processes"
        )


_NOTHING: Final[dict[Any, Any]] = {}


class _Start(Bell, Generic[P]):
    """A start under way for all who ask for that key; over when it is no longer in its table."""

    __slots__ = ("_error", "_key", "_starts", "process")

    def __init__(self, starts: dict[Any, _Start[P]], key: object, process: P) -> None:
        self._sleepers = None
        self._starts = starts
        self._key = key
        self._error: StartFailed | None = None
        self.process = process

    def end(self, _: object = None) -> None:
        """Let all who wait look again."""
        del self._starts[self._key]
        self.ring()

    def failed(self, error: BaseException) -> None:
        """End it when what was being started is gone, which it may not be if its asker has left."""
        if isinstance(error, StartFailed):
            self._error = failures.clone(error).with_traceback(None)  # which would keep frames
        life = self.process._life
        if life is None or life.exit is not None:
            self.end()
        else:
            life.call_at_end(self.end)

    async def wait(self) -> None:
        """Wait until it is over; raise a copy of its error."""
        with _waiting_for(self.process):
            await until(lambda: self._starts.get(self._key) is not self, self)
        if self._error is not None:
            raise failures.clone(self._error)


def _life_of(process: Any) -> Life:
    """Give the life that an entry is going to belong to."""
    if not isinstance(process, Process):
        raise TypeError(f"process must be a Process, got {short(process)}")
    return life_now(process, "an entry")


def _made(make: Callable[[], P]) -> P:
    process: Any = make()
    if not isinstance(process, Process):
        raise TypeError(f"make must return a process, got {short(process)}")
    if process._life is not None and process._life.exit is None:
        raise AlreadyRunning(f"make must return a process that does not run, got {process!r}")
    made: Any = process
    return made  # type: ignore[no-any-return]


async def _end_of(process: Process) -> None:
    life = process._life
    with _waiting_for(process):
        await until(lambda: life.exit is not None, process)


@contextmanager
def _waiting_for(process: Process) -> Generator[None, None, None]:
    """Record that the current process waits for another, unless that one waits for it."""
    asking = own_process()
    if asking is None:
        yield
        return
    met: Process | None = process
    while met is not None:
        if met is asking:
            raise CalledItself(f"{asking!r} would wait for its own start or end", process)
        met = met._unlimited_wait()
    asking._life.waiting_for = (process, math.inf)
    try:
        yield
    finally:
        asking._life.waiting_for = None
