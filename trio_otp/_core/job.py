"""Job: the process that runs one async function."""

from __future__ import annotations

import inspect
import math
from collections.abc import Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

import trio

from . import events, options
from .homes import check_thread
from .life import Life
from .process import NOTHING, NOTHING_GIVEN, Given, Looks, Process, asker, live, unprotected
from .text import callable_name, short

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from .exits import Exit
    from .guests import Guests
    from .homes import Home

_COROUTINE: Final[Any] = CoroutineType  # what an async function gives
ONE_LIFE: Final = object()  # stands for the function of a job that cannot run again


class Job(Process, restart="temporary"):
    """One function's run, with nothing to await: what `TaskSupervisor.start_child` gives."""

    __slots__ = ("_args", "_fn", "_handshake", "_readers", "_value")

    _kind = "task"

    _fn: Any
    _args: tuple[Any, ...]
    _handshake: bool  # whether the function says itself when it is ready; if it may run again
    _readers: int  # who will get the error as an exception, should it fail now
    _value: Any

    @property
    def name(self) -> str:
        """What it is called in messages, logs and trees; by default, as its function is."""
        return self._name or callable_name(type(self) if self._fn is None else self._fn)

    @classmethod
    @trio.lowlevel.enable_ki_protection
    def _launch(  # noqa: PLR0915, PLR0917  # the hot path: keywords and calls cost
        cls,
        nursery: trio.Nursery,
        home: Home,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        name: str | None,
        shield: bool,
        guests: Guests | None = None,
        limit: float = math.inf,
    ) -> Self:
        """Run a function once, recorded among the guests of a supervisor if it has one."""
        name = callable_name(fn) if name is None else options.label(name)
        body: Any = fn(*args) if callable(fn) else coroutine_of(fn, args)
        if type(body) is not _COROUTINE:
            body = checked(fn, body)
        self = cls.__new__(cls)
        self._name = name
        self._fn, self._args = ONE_LIFE, args  # to be told in a crash report
        self._last_exit = self._sleepers = None
        self._home = home
        self._given = NOTHING_GIVEN
        self._asked_by = asker()
        self._value = NOTHING
        self._readers = 0
        try:
            self._life = life = Life(shield, True, limit)
            self._status = "running"
            if guests is not None:
                guests.add(self)
            nursery.start_soon(live, self, life, body, name=name)
        except BaseException:
            body.close()
            check_thread()
            if guests is not None:
                guests.left(self)
            if not isinstance(nursery, trio.Nursery):
                raise TypeError(f"nursery must be a trio.Nursery, got {short(nursery)}") from None
            raise
        return self

    @classmethod
    def _described(
        cls, fn: Callable[..., Any], args: tuple[Any, ...], name: str | None, given: Given
    ) -> Self:
        """Make one that runs its function anew in each life."""
        refuse_wrong_arguments(options.function("fn", fn), args)
        self = cls.__new__(cls)
        Process.__init__(self, name=name)
        self._fn, self._args, self._given = fn, args, given
        self._handshake = takes_task_status(fn)
        self._value, self._readers = NOTHING, 0
        self._asked_by = asker()
        return self

    def _announce(self) -> None:
        """Emit the events of a launch, once the launcher's tables are right."""
        events.emit(events.Started, self, self._path())
        events.emit(events.Ready, self, self._path())

    def _make_life(self, shield: bool) -> Life:
        return Life(shield, not self._handshake)

    @trio.lowlevel.enable_ki_protection
    async def _main(self, life: Life) -> Any:
        body = self._body(life)
        try:
            return await unprotected(body)
        finally:
            body.close()  # an interrupt may have come before its first step

    def _body(self, life: Life) -> Coroutine[Any, Any, Any]:
        if life.ready:
            return coroutine_of(self._fn, self._args)
        return coroutine_of(self._fn, self._args, task_status=Readiness(self, life))

    def _claim(self, home: Home) -> None:
        if self._fn is ONE_LIFE:
            from_now = f"{self!r} has had its only life: build a Task(fn) to run one again"
            raise RuntimeError(from_now)
        super()._claim(home)

    def _settle(self, life: Any, exit: Exit, result: Any) -> None:
        if self._fn is ONE_LIFE:
            self._args = ()

    def _looked_at(self, life: Any) -> Looks:
        if life is None or life.exit is not None:
            return Looks()
        return Looks(current=(self.name, life.started_at))

    def _report_details(self, life: Any) -> str:
        starter = f"; started by {'/'.join(reversed(self._asked_by))}" if self._asked_by else ""
        arguments = f"; arguments {short(self._args)}" if self._args else ""
        return starter + arguments


class Readiness:
    """The `task_status` that a function child is given."""

    __slots__ = ("_job", "_life")

    def __init__(self, job: Job, life: Life) -> None:
        self._job = job
        self._life = life

    def started(self, value: object = None) -> None:
        """Say that the child is ready; the value is for Trio's protocol and is dropped."""
        self._job._become_ready(self._life)


def refuse_wrong_arguments(fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Raise now what calling the function later would raise."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return  # made in C: it will say so itself
    ours = {"task_status": None} if _has_task_status(signature) else {}
    try:
        signature.bind(*args, **ours)
    except TypeError as error:
        raise TypeError(f"{callable_name(fn)} cannot be called so: {error}") from None


def takes_task_status(fn: Callable[..., Any]) -> bool:
    """Say whether a function has a parameter `task_status` of its own."""
    try:
        return _has_task_status(inspect.signature(fn))
    except (TypeError, ValueError):
        return False


def _has_task_status(signature: inspect.Signature) -> bool:
    found = signature.parameters.get("task_status")
    return found is not None and found.kind is not found.VAR_KEYWORD


def coroutine_of(
    fn: Callable[..., Any], args: tuple[Any, ...], **kwargs: Any
) -> Coroutine[Any, Any, Any]:
    """Call an async function; say plainly what is wrong if it is none."""
    if not callable(fn):
        options.function("fn", fn)
    return checked(fn, fn(*args, **kwargs))


def checked(fn: Callable[..., Any], body: Any) -> Coroutine[Any, Any, Any]:
    """Pass on what an async function returned when called."""
    if isinstance(body, Coroutine):
        return body  # pyright: ignore[reportUnknownVariableType]
    raise TypeError(
        f"fn must be an async function, but {callable_name(fn)} returned {short(body)}, "
        "which is no coroutine"
    )
