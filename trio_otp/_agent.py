"""Agent: a value that several tasks share, read and changed by functions."""

from __future__ import annotations

from collections.abc import MutableMapping, MutableSequence, MutableSet
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, TypeVarTuple, overload

from ._core import options
from ._core.errors import BadReturn
from ._core.process import NOTHING
from ._core.server import Server, begin, finish
from ._core.text import callable_name, short

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._core.options import Limit, Overflow, Restart, Shutdown
    from ._core.server import ServerLife

S = TypeVar("S")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_OF_THE_AGENT: Final[Any] = NOTHING  # as a limit: the one that the agent was given
_COROUTINE: Final[Any] = CoroutineType
_TUPLE: Final[Any] = tuple
_MUTABLE: Final[Any] = (MutableMapping, MutableSequence, MutableSet)


class Agent(Server, Generic[S]):
    """State behind functions, shared without locks; Elixir's `Agent`.

    Functions are run on the state one at a time, in the order in which they were asked
    for, so that each is atomic, also one that awaits. **A function that raises ends the
    agent**, and its state is lost: under a supervisor it begins again with `init`. So
    read what may be missing by `d.get`, not by `d[...]`.

    Values: `update`, with a function that returns the next state. Objects that change in
    place: `apply`; with it a plain class is a typed server: `book = Agent(Ledger)`,
    `await book.apply(Ledger.add, "x", 2)`. The state is shared, not copied: what `get`
    gives is the object itself, so copy what you keep: `await agent.get(dict)`.

    Calls wait while it starts, and between two lives if its supervisor has promised the
    next. A call that leaves before its function was called is withdrawn; one that leaves
    later lets it run on.

    Args:
        init: Makes the state of each life; sync or async. For a type, `dict[str, int]`
            tells a type checker more than `dict`.
        *args: What it is called with.
        name: A label, also its id as a child.
        restart: When a supervisor starts it again; permanent by default, transient with
            an `idle_timeout`.
        shutdown: Seconds to clean up when stopped, `None` for no limit, or `"brutal_kill"`.
        timeout: Seconds that its calls wait by default; `None` for no limit.
        mailbox: How many requests may wait, 1 or more; `None` for any number. A full one
            fails a call with `MailboxFull`, whatever `overflow` says.
        overflow: What a *cast* to a full mailbox does: `"raise"` raises `MailboxFull`,
            `"drop_newest"` drops it, `"drop_oldest"` drops the oldest waiting cast.
        idle_timeout: Seconds without any request after which it ends, with reason normal.

    Raises:
        TypeError: `init` is not a function, or an option is of a wrong type.
        ValueError: An option has a wrong value; the message names what it takes.
    """

    __slots__ = ("_args", "_init_fn")

    _kind = "agent"

    @overload
    def __init__(
        self,
        init: Callable[[*Ts], Coroutine[Any, Any, S]],
        /,
        *args: *Ts,
        name: str | None = None,
        restart: Restart | None = None,
        shutdown: Shutdown | Literal["inherit"] = "inherit",
        timeout: Limit = 5.0,
        mailbox: int | None = None,
        overflow: Overflow = "raise",
        idle_timeout: Limit = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        init: Callable[[*Ts], S],
        /,
        *args: *Ts,
        name: str | None = None,
        restart: Restart | None = None,
        shutdown: Shutdown | Literal["inherit"] = "inherit",
        timeout: Limit = 5.0,
        mailbox: int | None = None,
        overflow: Overflow = "raise",
        idle_timeout: Limit = None,
    ) -> None: ...
    def __init__(  # type: ignore[misc]  # mypy takes *args: Any for less than *args: *Ts
        self,
        init: Any,
        /,
        *args: Any,
        name: str | None = None,
        restart: Restart | None = None,
        shutdown: Shutdown | Literal["inherit"] = "inherit",
        timeout: Limit = 5.0,
        mailbox: int | None = None,
        overflow: Overflow = "raise",
        idle_timeout: Limit = None,
    ) -> None:
        super().__init__(
            name=name,
            restart=restart,
            shutdown=shutdown,
            timeout=timeout,
            mailbox=mailbox,
            overflow=overflow,
            idle_timeout=idle_timeout,
        )
        self._init_fn = options.function("init", init)
        self._args = args

    # --- asking --------------------------------------------------------------------------

    @overload
    async def get(self, /, *, timeout: Limit = ...) -> S: ...
    @overload
    async def get(
        self,
        fn: Callable[[S, *Ts], Coroutine[Any, Any, T]],
        /,
        *args: *Ts,
        timeout: Limit = ...,
    ) -> T: ...
    @overload
    async def get(self, fn: Callable[[S, *Ts], T], /, *args: *Ts, timeout: Limit = ...) -> T: ...
    async def get(  # type: ignore[misc]  # as for __init__
        self, fn: Any = None, /, *args: Any, timeout: Any = NOTHING
    ) -> Any:
        """Give what a function makes of the state, which stays; `Agent.get/3`.

        Without a function, the state itself. Cancelled before the function was called, it
        is withdrawn; later, it runs on and its answer is dropped.

        Args:
            fn: Called as `fn(state, *args)`; sync or async.
            *args: Further arguments.
            timeout: Seconds to wait; `None` for no limit; 0 for only if it is idle now.

        Raises:
            TimedOut: No answer within the limit; the agent is unharmed.
            Exited: It ended first; the crash, if that was it, is the cause.
            NotRunning: It does not run, and nobody has promised to start it.
            CalledItself: The asker is the agent, or one that it waits for without limit.
            MailboxFull: Its mailbox is full.
        """
        return await self._call(_keep, _itself if fn is None else fn, args, timeout)

    async def update(
        self,
        fn: Callable[[S, *Ts], Coroutine[Any, Any, S] | S],
        /,
        *args: *Ts,
        timeout: Limit = _OF_THE_AGENT,
    ) -> None:
        """Make what a function returns the next state; `Agent.update/3`.

        A function that returns None for a state that is a mutable container has changed
        it in place: that is what `apply` is for, and ends the agent with `BadReturn`.
        Cancelled before the function was called, it is withdrawn; later, the change
        is made all the same. Arguments and errors as in `get`.
        """
        await self._call(_replace, fn, args, timeout)

    @overload
    async def get_and_update(
        self,
        fn: Callable[[S, *Ts], Coroutine[Any, Any, tuple[T, S]]],
        /,
        *args: *Ts,
        timeout: Limit = ...,
    ) -> T: ...
    @overload
    async def get_and_update(
        self,
        fn: Callable[[S, *Ts], tuple[T, S]],
        /,
        *args: *Ts,
        timeout: Limit = ...,
    ) -> T: ...
    async def get_and_update(  # type: ignore[misc]  # as for __init__
        self, fn: Any, /, *args: Any, timeout: Any = NOTHING
    ) -> Any:
        """Take `(answer, next_state)` from a function; `Agent.get_and_update/3`.

        Anything but a tuple of two ends the agent with `BadReturn`. Cancellation as in
        `update`; arguments and errors as in `get`.
        """
        return await self._call(_pair, fn, args, timeout)

    @overload
    async def apply(
        self,
        fn: Callable[[S, *Ts], Coroutine[Any, Any, T]],
        /,
        *args: *Ts,
        timeout: Limit = ...,
    ) -> T: ...
    @overload
    async def apply(self, fn: Callable[[S, *Ts], T], /, *args: *Ts, timeout: Limit = ...) -> T: ...
    async def apply(  # type: ignore[misc]  # as for __init__
        self, fn: Any, /, *args: Any, timeout: Any = NOTHING
    ) -> Any:
        """Run a function that changes the state object in place, and give its result.

        Elixir has no counterpart: its values cannot change. Cancellation as in `update`;
        arguments and errors as in `get`.
        """
        return await self._call(_keep, fn, args, timeout)

    def cast(
        self,
        fn: Callable[[S, *Ts], Coroutine[Any, Any, S] | S],
        /,
        *args: *Ts,
    ) -> None:
        """Make what a function returns the next state, some time; `Agent.cast/2`.

        Comes back at once. To an agent that does not run it does nothing; that, and what
        a full mailbox drops, is counted in `ProcessInfo.dropped_casts`. None for a
        mutable container is an error, as in `update`.

        Raises:
            MailboxFull: Its mailbox is full, and `overflow` is `"raise"`.
            TypeError: `fn` is not a function.
        """
        self._cast(_replace, fn, args)

    # --- inside ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What it is called in messages, logs and trees; by default, after its `init`."""
        return self._name or f"Agent({callable_name(self._init_fn)})"

    async def _init(self) -> S:
        state: Any = begin(self._init_fn, self._args)
        if type(state) is _COROUTINE:
            state = await finish(state)
        made: S = state
        return made


def _itself(state: S) -> S:
    return state


def _keep(life: ServerLife, result: Any) -> Any:
    return result


def _replace(life: ServerLife, result: Any) -> None:
    if result is None and isinstance(life.state, _MUTABLE):
        raise BadReturn(
            f"the function returned None for the next state, where the state is a "
            f"{type(life.state).__name__}: to change it in place use apply()"
        )
    life.state = result


def _pair(life: ServerLife, result: Any) -> Any:
    if not isinstance(result, _TUPLE) or len(result) != 2:
        raise BadReturn(f"the function must return (answer, next_state), got {short(result)}")
    life.state = result[1]
    return result[0]
