"""What `import trio_otp` offers, and what its docstrings promise."""

import inspect
from collections.abc import Iterator

import pytest

import trio_otp
import trio_otp.testing

PINNED = [
    "Process",
    "Task",
    "TaskSupervisor",
    "Agent",
    "GenServer",
    "Supervisor",
    "DynamicSupervisor",
    "PartitionSupervisor",
    "Request",
    "Caller",
    "Down",
    "TIMEOUT",
    "Timer",
    "Monitor",
    "Reply",
    "NoReply",
    "Stop",
    "Start",
    "Registry",
    "Entry",
    "ChildSpec",
    "Backoff",
    "Every",
    "Cron",
    "At",
    "Schedule",
    "Jitter",
    "Exit",
    "run",
    "trap_exit",
    "current_process",
    "observe",
    "ProcessInfo",
    "format_tree",
    "subscribe",
    "Subscription",
    "Started",
    "Ready",
    "Ended",
    "Restarting",
    "GaveUp",
    "StopLate",
    "CastDropped",
    "CallFailed",
    "NotRunning",
    "Exited",
    "TimedOut",
    "CalledItself",
    "MailboxFull",
    "AlreadyRunning",
    "StartFailed",
    "RestartsExhausted",
    "DuplicateChild",
    "UnknownChild",
    "MaxChildren",
    "AlreadyRegistered",
    "BadReturn",
    "Table",
    "BagTable",
    "TableGone",
    "ExitProcess",
    "Ignore",
    "Restart",
    "Strategy",
    "AutoShutdown",
    "Overflow",
    "OnTimeout",
    "EveryMode",
    "Dst",
    "DayRule",
    "Status",
    "Reason",
]

DOORS = (trio_otp, trio_otp.testing)
PUBLIC = {name: getattr(door, name) for door in DOORS for name in door.__all__}
KIT = "trio_otp.testing"
CODE = {
    name: thing
    for name, thing in PUBLIC.items()
    if inspect.isclass(thing) or inspect.isfunction(thing)
}


def methods(cls: type) -> Iterator[tuple[str, object]]:
    """The public methods and properties that come from this package."""
    for name in dir(cls):
        owner = next((base for base in cls.__mro__ if name in vars(base)), object)
        if not name.startswith("_") and owner.__module__.startswith("trio_otp"):
            thing = getattr(cls, name)
            if inspect.isroutine(thing) or isinstance(thing, property):
                yield name, thing


FUNCTIONS = {name: thing for name, thing in CODE.items() if inspect.isfunction(thing)} | {
    f"{name}.{method}": thing
    for name, cls in CODE.items()
    if inspect.isclass(cls)
    for method, thing in methods(cls)
}
ASYNC = {name: thing for name, thing in FUNCTIONS.items() if inspect.iscoroutinefunction(thing)}


def by_name(things):
    return pytest.mark.parametrize("thing", things.values(), ids=things.keys())


def test_pinned_names_are_there():
    """Names that programs rely on do not go away."""
    assert set(PINNED) <= set(trio_otp.__all__)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_door_lists_what_it_offers(door):
    """Each public name is listed once, and nothing public is left unlisted."""
    assert len(door.__all__) == len(set(door.__all__))
    offered = {
        name
        for name, thing in vars(door).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }
    assert offered == set(door.__all__)


@by_name(CODE)
def test_lives_at_the_door(thing):
    """Tracebacks and help name the door, not where the code happens to be."""
    assert thing.__module__ == ("trio_otp" if hasattr(trio_otp, thing.__name__) else KIT)


@by_name(CODE | FUNCTIONS)
def test_has_a_docstring(thing):
    """Each class, function, method and property says what it is."""
    assert inspect.getdoc(thing)


@by_name(ASYNC)
def test_says_what_cancellation_leaves_behind(thing):
    """An async function tells what is still true after it was cancelled."""
    assert "cancel" in (inspect.getdoc(thing) or "").lower()
