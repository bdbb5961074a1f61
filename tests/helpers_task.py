"""What the tests of Task share: every way a task can end, and what its owner sees."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from outcome import Error, Value

from trio_otp import Exited, ExitProcess, Task, current_process, trap_exit

BAD_LIMITS = [(-1, ValueError), (float("nan"), ValueError), (True, TypeError), ("5", TypeError)]


async def returns(value: Any = "value") -> Any:
    return value


async def later(seconds: float, value: Any = "late") -> Any:
    await trio.sleep(seconds)
    return value


async def exit_normal() -> None:
    raise ExitProcess("normal")


async def exit_shutdown() -> None:
    raise ExitProcess("shutdown")


async def exit_shutdown_detail() -> None:
    raise ExitProcess("shutdown", "why")


async def raises() -> None:
    raise ValueError("oops")


async def killed() -> None:
    itself = current_process()
    assert itself is not None
    itself.kill()
    await trio.sleep_forever()


# Each way to end, and what somebody who asks for the result is told, see `told`.
ENDINGS = {
    returns: "value",
    exit_normal: ("normal", None),
    exit_shutdown: ("shutdown", None),
    exit_shutdown_detail: ("shutdown", "why"),
    raises: ValueError,
    killed: ("killed", None),
}
QUIET = {body: ENDINGS[body] for body in (returns, exit_normal)}
LINKED_FAILURES = {body: told for body, told in ENDINGS.items() if body not in QUIET}
FAILURES = {body: told for body, told in ENDINGS.items() if body is not returns}


def told(answer: Any) -> Any:
    """Reduce a result, or an error in its place, to what tells it from others."""
    if isinstance(answer, Value):
        answer = answer.value
    if isinstance(answer, Error):
        answer = answer.error
    if isinstance(answer, Exited):
        return answer.exit.reason, answer.exit.detail
    return type(answer) if isinstance(answer, BaseException) else answer


async def attempt(asking: Awaitable[Any]) -> Any:
    """Give the answer, or the exception that a careless owner would catch."""
    try:
        return await asking
    except Exception as error:
        return error


async def fate(owner: Callable[[trio.Nursery], Awaitable[Any]]) -> Any:
    """Run an owner with a nursery; give what it returned, or the one error that left it."""
    value = None
    try:
        async with trio.open_nursery() as nursery:
            value = await owner(nursery)
            nursery.cancel_scope.cancel(reason="the owner is done")
    except BaseExceptionGroup as group:
        (error,) = group.exceptions
        return error
    return value


def reaction(*behaviour: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    """Make a task that traps exits and, when it is asked to stop, does as told."""

    async def trapping() -> Any:
        with trap_exit() as exiting:
            await exiting.wait()
            for behave in behaviour:
                return await behave()
            await trio.sleep_forever()

    return trapping


async def ended(*tasks: Task[Any]) -> None:
    """Wait until all have ended, without asking for a result."""
    for task in tasks:
        await task.wait()
