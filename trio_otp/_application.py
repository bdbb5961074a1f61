"""run(): the root of a program, with signals, an ordered stop, and an exit code."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, overload

import trio

from ._core import options, reports
from ._core.job import coroutine_of
from ._core.nursery import OwnNursery
from ._supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from ._core.options import Strategy
    from ._supervision import ChildLike

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@overload
def run(
    main: Callable[[*Ts], Awaitable[T]],
    /,
    *args: *Ts,
    children: Iterable[ChildLike] = (),
    strategy: Strategy = "one_for_one",
    max_restarts: int = 3,
    max_seconds: float = 5.0,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T: ...
@overload
def run(
    *,
    children: Iterable[ChildLike],
    strategy: Strategy = "one_for_one",
    max_restarts: int = 3,
    max_seconds: float = 5.0,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> None: ...
def run(  # type: ignore[misc]  # mypy takes *args: Any for less than *args: *Ts
    main: Any = None,
    /,
    *args: Any,
    children: Iterable[ChildLike] = (),
    strategy: Strategy = "one_for_one",
    max_restarts: int = 3,
    max_seconds: float = 5.0,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> Any:
    """Run a program: services, and a main function if there is one.

    With `main`, the children are started, `main(*args)` runs, and when it returns they
    are stopped in reverse; its value is returned, its error raised bare. Without, the
    children run until a signal. SIGINT and SIGTERM cancel `main` and stop the children in
    order, a second one kills what is left; then SIGINT raises `KeyboardInterrupt` and
    SIGTERM `SystemExit(143)`. Outside the main thread there are no signals. The
    counterpart of an OTP application; `trio.run` and guest mode work without it.

    Args:
        main: An async function.
        *args: What it is called with.
        children: Processes, `ChildSpec`s or async functions, as for `Supervisor`.
        strategy: The root supervisor's; so are `max_restarts` and `max_seconds`.
        max_restarts: See `Supervisor`.
        max_seconds: See `Supervisor`.
        clock: As for `trio.run`.
        instruments: As for `trio.run`.

    Raises:
        TypeError: There is neither a main nor a child, or an argument is of a wrong type.
        RestartsExhausted: The children fell too often.
        StartFailed: A child did not start.
        KeyboardInterrupt: After an ordered stop by SIGINT.
        SystemExit: After one by SIGTERM (143), or what the program raised itself.
    """
    root = Supervisor(
        children, strategy=strategy, max_restarts=max_restarts, max_seconds=max_seconds, name="root"
    )
    if main is not None:
        options.function("main", main)
    elif not root._specs:
        raise TypeError("run needs a main function, or children=[...] with at least one child")
    return trio.run(_program, root, main, args, clock=clock, instruments=instruments)


async def _program(root: Supervisor, main: Any, args: tuple[Any, ...]) -> Any:
    caught: list[int] = []
    value = None
    async with OwnNursery() as nursery:
        with trio.CancelScope() as scope:
            if threading.current_thread() is threading.main_thread():
                await nursery.start(_obey_signals, root, scope, caught)
            try:
                async with root:
                    value = await (root.wait() if main is None else coroutine_of(main, args))
            except Exception as error:
                if not caught:
                    raise
                reports.lost(error, "it came up while a signal was ending the program")
        nursery.cancel_scope.cancel()
    _leave_by(caught)
    return value if main is not None else None


async def _obey_signals(
    root: Supervisor,
    scope: trio.CancelScope,
    caught: list[int],
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """Stop the program in order at the first signal, kill what is left at the second.

    Then Python's own handlers are back, for a program that does not even reach a checkpoint.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            caught.append(number)
            if len(caught) == 1:
                scope.cancel(reason=f"signal {signal.Signals(number).name}")
            else:
                root.kill()
                return


def _leave_by(caught: list[int]) -> None:
    if not caught:
        return
    if caught[0] == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + caught[0])
