"""ChildSpec: how one child is to be started, restarted and stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVarTuple, overload

import attrs

from . import options
from .restarts import Backoff
from .text import callable_name, short

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable
    from typing import Unpack

    from .options import Limit, Restart, Shutdown
    from .process import Process

Ts = TypeVarTuple("Ts")


class Startable:
    """What a spec may describe besides an async function: the root of `Process`."""

    __slots__ = ()

    def _given_name(self) -> str | None:
        """Give the name that it was given, if it was."""
        raise NotImplementedError


class ChildOptions(TypedDict, total=False):
    """The options of a `ChildSpec`, for annotating `**changes`."""

    id: Hashable
    restart: Restart | None
    shutdown: Shutdown | Literal["inherit"]
    significant: bool
    backoff: Backoff | None
    start_timeout: Limit


@attrs.frozen(init=False, eq=False, repr=False)
class ChildSpec:
    """How a supervisor starts, restarts and stops one child; OTP's child specification.

    Args:
        start: A process, or an async function, called anew for each life.
        *args: What the function is called with. They must survive a life: what the
            function closes at its end will be closed when it is called again.
        id: Any hashable; by default the name given to the process, else the process
            itself; for a function its qualified name.
        restart: `"permanent"`, `"transient"` (after a crash or kill) or `"temporary"`
            (never); by default what the process says, and permanent for a function.
        shutdown: Seconds to clean up when stopped, `None` for no limit, or
            `"brutal_kill"`; by default what the process says, 5 for a function.
        significant: Whether its end may end the supervisor (see `auto_shutdown`).
        backoff: How long to wait before each restart.
        start_timeout: Seconds it may take to become ready; `None` for no limit.

    Raises:
        TypeError: `start` is neither, or an option is of a wrong type.
        ValueError: An option has a wrong value, or a function without a name no `id`.
    """

    start: Process | Callable[..., Awaitable[object]]
    args: tuple[Any, ...]
    id: Hashable
    restart: Restart | None
    shutdown: float | Literal["brutal_kill", "inherit"]
    significant: bool
    backoff: Backoff | None
    start_timeout: float

    @overload
    def __init__(self, start: Process, /, **options: Unpack[ChildOptions]) -> None: ...
    @overload
    def __init__(
        self,
        start: Callable[[*Ts], Awaitable[object]],
        /,
        *args: *Ts,
        **options: Unpack[ChildOptions],
    ) -> None: ...
    def __init__(  # type: ignore[misc]  # mypy takes *args: Any for less than *args: *Ts
        self,
        start: Any,
        /,
        *args: Any,
        id: Hashable = None,
        restart: Restart | None = None,
        shutdown: Shutdown | Literal["inherit"] = "inherit",
        significant: bool = False,
        backoff: Backoff | None = None,
        start_timeout: Limit = None,
    ) -> None:
        _check_start(start, args)
        if not isinstance(significant, bool):
            raise TypeError(f"significant must be True or False, got {short(significant)}")
        if backoff is not None and not isinstance(backoff, Backoff):
            raise TypeError(f"backoff must be a Backoff or None, got {short(backoff)}")
        if restart is not None:
            options.one_of("restart", restart, options.RESTARTS)
        self.__attrs_init__(  # pyright: ignore
            start=start,
            args=args,
            id=_id(start, id),
            restart=restart,
            shutdown=shutdown if shutdown == "inherit" else options.shutdown(shutdown),
            significant=significant,
            backoff=backoff,
            start_timeout=options.limit("start_timeout", start_timeout),
        )

    def __repr__(self) -> str:
        return f"<ChildSpec {short(self.id)}>"


def _check_start(start: Any, args: tuple[Any, ...]) -> None:
    if isinstance(start, Startable):
        if args:
            raise TypeError(f"{start!r} takes no arguments here: it was built with its own")
        return
    if isinstance(start, type):
        raise TypeError(
            f"start must be a process or an async function, got the class {short(start)}"
        )
    options.function("start", start)


def _id(start: Any, given: Hashable) -> Hashable:
    if given is not None:
        try:
            hash(given)
        except TypeError:
            raise TypeError(f"id must be hashable, got {short(given)}") from None
        return given
    if isinstance(start, Startable):
        return start._given_name() or start
    name: str | None = getattr(start, "__qualname__", None)
    if name is None or name.endswith("<lambda>"):
        raise ValueError(f"{callable_name(start)} has no name of its own: give it an id=")
    return name
