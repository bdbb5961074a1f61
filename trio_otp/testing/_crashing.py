"""crash_everywhere: a scenario whose functions raise at each of their checkpoints in turn."""

from __future__ import annotations

import functools
import inspect
import types
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import trio

from .._core import options
from . import _places
from ._everywhere import everywhere

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

F = TypeVar("F", bound="Callable[..., Any]")


class InjectedCrash(Exception):
    """What the kit crashes things with; not for programs to raise."""


class Crashing:
    """Wraps the functions that are to crash; what the scenario of `crash_everywhere` is given."""

    def __init__(self, at: int | None, error: Callable[[], Exception]) -> None:
        self.points = 0
        self.place: str | None = None
        self.error: Exception | None = None
        self._at = at
        self._make = error

    def __call__(self, function: F, /) -> F:
        """Wrap a function, sync or async; it does what it did, and may crash.

        Raises:
            TypeError: That is no function.
        """
        options.function("function", function)
        wrap = self._async if inspect.iscoroutinefunction(function) else self._sync
        return cast("F", functools.update_wrapper(wrap(function), function))

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def crashing(*args: Any, **kwargs: Any) -> Any:
            self._enter(function)
            return function(*args, **kwargs)

        return crashing

    def _async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def crashing(*args: Any, **kwargs: Any) -> Any:
            self._enter(function)
            return await self._stepped(function(*args, **kwargs))

        return crashing

    def _enter(self, function: Callable[..., Any]) -> None:
        if (error := self._due()) is not None:
            self.place = f"crashed when it was called: {_places.of_function(function)}"
            raise error

    @types.coroutine
    def _stepped(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Await a coroutine of the user's, and let the error come out of one of its checkpoints."""
        go_on: Callable[[], Any] = partial(coroutine.send, None)
        try:
            while True:
                try:
                    message = go_on()
                except StopIteration as end:
                    return end.value
                if _can_raise(message, coroutine) and (error := self._due()) is not None:
                    self.place = f"crashed at {_places.of_coroutine(coroutine)}"
                    if not _broken_off(message, error):
                        yield message  # it cannot be broken off: the error comes after it
                    go_on = partial(coroutine.throw, error)
                else:
                    go_on = yield from _passed_on(coroutine, message)
        finally:
            coroutine.close()

    def _due(self) -> Exception | None:
        self.points += 1
        if self.points - 1 == self._at:
            self.error = self._make()
        return self.error if self.points - 1 == self._at else None


def _can_raise(message: Any, coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Say whether an exception may come out of the place at which a coroutine is suspended.

    A shielded checkpoint never raises, and code relies on it: a lock has just been taken
    there. `checkpoint` itself begins with a shielded one.
    """
    if hasattr(message, "abort_func"):
        return True
    codes = [frame.f_code for frame in _places.frames_of(coroutine)]
    return trio.lowlevel.checkpoint.__code__ in codes


def _passed_on(
    coroutine: Coroutine[Any, Any, Any], message: Any
) -> Generator[Any, Any, Callable[[], Any]]:
    """Hand a message to Trio; give what continues the coroutine with the answer."""
    try:
        answer = yield message
    except BaseException as error:  # such as GeneratorExit
        return partial(coroutine.throw, error)
    return partial(coroutine.send, answer)


def _broken_off(message: Any, error: Exception) -> bool:
    """Undo what a checkpoint has set up, as Trio does before it raises Cancelled there."""

    def raise_it() -> NoReturn:
        raise error

    abort = getattr(message, "abort_func", None)
    return abort is not None and abort(raise_it) is trio.lowlevel.Abort.SUCCEEDED


async def crash_everywhere(
    scenario: Callable[[Crashing], Awaitable[object]],
    check: Callable[[], object],
    *,
    error: Callable[[], Exception] = InjectedCrash,
    seed: int = 0,
    only: int | None = None,
) -> int:
    """Run a scenario again and again, its functions crashing one point later each time.

    The scenario is given a function that wraps those which are to crash:
    `async def scenario(crashing): ... agent.update(crashing(add), 1)`. The points are the
    calls of these functions and, in async ones, those of their checkpoints that can be cancelled,
    whatever task they run in. There the error is raised as if the awaited thing had raised it. Otherwise all is as in
    `cancel_everywhere`.

    Args:
        scenario: An async function of one argument; it may let the error out, bare, as the
            cause of another, or in a group of such.
        check: Raises, or returns False, if something is not as it must be; sync or async.
        error: Makes what is raised: an exception class or a function.
        seed: Of the order in which Trio runs the tasks that are ready.
        only: The one point to run, to repeat a failure.

    Returns:
        How many runs were crashed.

    Raises:
        Exception: What else scenario or check raised; a note says at which line it crashed.
        ValueError: Nothing was wrapped and called, or the scenario has no end.
        TypeError: An argument is of a wrong type.

    Cancellation from outside ends the run under way and passes on.
    """
    options.function("scenario", scenario)
    options.function("error", error)
    return await everywhere(
        "crash_everywhere",
        lambda point: _Crash(scenario, Crashing(point, error)),
        check,
        nothing="scenario called no function that may crash: wrap some with its argument",
        seed=seed,
        only=only,
    )


class _Crash:
    def __init__(
        self, scenario: Callable[[Crashing], Awaitable[object]], crashing: Crashing
    ) -> None:
        self._scenario = scenario
        self._crashing = crashing

    @property
    def points(self) -> int:
        return self._crashing.points

    @property
    def place(self) -> str | None:
        return self._crashing.place

    async def play(self) -> None:
        try:
            await self._scenario(self._crashing)
        except Exception as error:
            injected = self._crashing.error
            if injected is None or not _comes_from(error, type(injected)):
                raise


def _comes_from(error: BaseException, kind: type[Exception]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        members: tuple[BaseException, ...] = error.exceptions  # pyright: ignore
        return all(_comes_from(one, kind) for one in members)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, kind):
        cause = cause.__cause__
    return cause is not None
