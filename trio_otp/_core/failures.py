"""What is done to exceptions on their way: trimmed, cloned, guarded, merged.

Rules of this file:
  1. Only groups that our own nurseries made are taken apart; a user's group stays whole.
  2. A stored error must not keep frames alive, nor grow when it is raised again.
  3. What enters a Trio nursery must survive `repr`: Trio asks for it.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import opcode
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import trio

from .errors import Exited, ExitProcess, Ignore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType, TracebackType

    from .exits import Exit

E = TypeVar("E", bound=BaseException)

_PACKAGE: Final = __name__.partition(".")[0] + "."
_DEEPEST: Final = 50  # levels of groups whose repr is surely harmless
_CRASH: Final = "_trio_otp_crash"
_numbers: Final = itertools.count(1)
_MERGED: Final = "_trio_otp_merged"
_CLEARED: Final = "_trio_otp_cleared"
NOT_A_CRASH: Final = (trio.Cancelled, ExitProcess, Ignore)
_PAUSES: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_CLEAR_SPARES_SUSPENDED: Final = sys.version_info >= (3, 13)
_YIELD: Final = opcode.opmap["YIELD_VALUE"]
_OURS_TO_TAKE: Final = (Exception, *NOT_A_CRASH)
_set: Final = BaseException.__setattr__  # past that of a frozen class, which refuses even these


# --- one error -------------------------------------------------------------------------


def trimmed(error: E) -> E:
    """Drop the leading traceback entries that are the library's own."""
    entry = error.__traceback__
    while entry is not None and _is_ours(entry):
        entry = entry.tb_next
    if entry is not None:  # an error of our own making keeps its only trace
        _set(error, "__traceback__", entry)
    return error


def _is_ours(entry: TracebackType) -> bool:
    return _belongs_to_us(entry.tb_frame)


def _belongs_to_us(frame: FrameType) -> bool:
    module: str = frame.f_globals.get("__name__", "")
    return module.startswith(_PACKAGE)


def detached(error: BaseException, handled: BaseException | None) -> None:
    """Cut from an error what is not its process's business, but that of its *caller*.

    That is our frames, which run on in the caller, and the exception that it was handling.
    """
    entry = error.__traceback__
    while entry is not None and _is_ours(entry):
        entry = entry.tb_next
    _set(error, "__traceback__", entry)
    while handled is not None and (context := error.__context__) is not None:
        if context is handled:
            _set(error, "__context__", None)
            return
        error = context


def twin(error: E) -> E:
    """Copy an interrupt that two tasks will raise, so that it counts as one."""
    for leaf in leaves(error):
        leaf.__dict__[_CRASH] = next(_numbers)
    return clone(error)


def forget_locals(error: BaseException) -> None:
    """Clear the finished frames of an error that has been reported."""
    # What is behind a cleared one is cleared: deep trees are not walked at each level.
    for one in _reachable(error, but_not_behind=_CLEARED):
        one.__dict__[_CLEARED] = True
        entry = one.__traceback__
        while entry is not None:
            _clear(entry.tb_frame)
            # A function that was called, not awaited, knows the frame that called it.
            caller = entry.tb_frame.f_back
            while caller is not None and _belongs_to_us(caller):
                _clear(caller)
                caller = caller.f_back
            entry = entry.tb_next


def _clear(frame: FrameType) -> None:
    if not _is_suspended(frame):
        with contextlib.suppress(RuntimeError):  # it is running
            frame.clear()


def _is_suspended(frame: FrameType) -> bool:
    """Say whether a coroutine or generator will go on here; before 3.13, `clear` would end it.

    An error may have come through one that lives on: a function of an agent may raise
    what its caller has just caught, or raise from it.
    """
    if _CLEAR_SPARES_SUSPENDED:  # pragma: no cover - a matter of the Python that runs this
        return False
    code = frame.f_code
    return code.co_flags & _PAUSES != 0 and code.co_code[frame.f_lasti] == _YIELD


def chain(error: BaseException) -> Iterator[BaseException]:
    """Walk from an error to what caused it, last to first."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _reachable(error: BaseException, but_not_behind: str = "") -> Iterator[BaseException]:
    """Walk over an error, all that it came from, and what it groups."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            behind = (one.__cause__, one.__context__, *_inside(one))
            waiting += [e for e in behind if e is not None and but_not_behind not in e.__dict__]


def clone(error: E) -> E:
    """Copy an error without running its constructor, so that its text stays as it is.

    Raising an error makes its traceback grow by the frames of whoever awaited it, which
    would tie the handle to them. What cannot be copied honestly is given as it is.
    """
    try:
        twin = _copied(error)
    except Exception:
        return error
    if type(twin) is not type(error):
        return error
    if "__notes__" in twin.__dict__:  # a list: what one waiter notes is not for the next
        twin.__dict__["__notes__"] = list(twin.__dict__["__notes__"])
    for name in ("__cause__", "__context__", "__suppress_context__", "__traceback__"):
        _set(twin, name, getattr(error, name))
    return twin


def _copied(error: E) -> E:
    kind = type(error)
    if any(vars(base).get("__slots__") for base in kind.__mro__):
        return error  # values that neither a copy nor `__dict__` has
    if not hasattr(kind.__init__, "__code__") and not hasattr(kind.__new__, "__code__"):
        return copy.copy(error)  # a constructor in C: it restores all that it keeps
    if isinstance(error, OSError | UnicodeError | ImportError | SyntaxError):
        return error  # state in C that only their own constructor sets
    twin = kind.__new__(kind, *error.args)
    twin.__dict__.update(error.__dict__)
    return twin


def identified(exit: Exit) -> Exit:
    """Number a crash, so that its error and an `Exited` that it caused know each other."""
    number = next(_numbers)
    assert exit.error is not None
    exit.error.__dict__[_CRASH] = number
    return attrs.evolve(exit, crash=number)


def copied(exit: Exit) -> Exit:
    """Copy an exit with a copy of its error, which is about to be raised."""
    assert exit.error is not None
    return attrs.evolve(exit, error=clone(exit.error))


def keepsake(exit: Exit) -> Exit:
    """Copy an exit for its handle, with an error that holds no frames."""
    assert exit.error is not None
    return attrs.evolve(exit, error=_frameless(exit.error))


def _frameless(error: E) -> E:
    """Copy an error, all that it came from, and what it groups, without their frames."""
    found = list(_reachable(error))
    twins: dict[int, Any] = {id(one): clone(one) for one in found}
    for one in reversed(found):  # members before their group, which cannot exchange them
        if members := _inside(one):
            twins[id(one)] = _regrouped(twins[id(one)], [twins[id(member)] for member in members])
    for one in found:
        if (twin := twins[id(one)]) is not one:
            for name in ("__cause__", "__context__"):
                _set(twin, name, twins.get(id(getattr(one, name))))
            _set(twin, "__suppress_context__", one.__suppress_context__)
            _set(twin, "__traceback__", None)
    copy: E = twins[id(error)]
    return copy


def _regrouped(group: Any, members: list[BaseException]) -> Any:
    kind: Any = group.__class__
    other: Any = BaseExceptionGroup.__new__(kind, group.message, members)
    other.__dict__.update(group.__dict__)
    return other


def guarded(error: Exception) -> Exception:
    """Replace an error that would break Trio's own handling of it."""
    try:
        repr(error)
        harmless = _depth(error) <= _DEEPEST
    except Exception:
        harmless = False
    if harmless:
        return error
    kind = type(error).__name__
    stand_in = RuntimeError(f"{kind}, whose repr fails or would be endless")
    stand_in.__cause__ = error
    return stand_in


def _depth(error: BaseException) -> int:
    depth, level = 0, [error]
    while level and depth <= _DEEPEST:
        level = [member for group in level for member in _inside(group)]
        depth += 1
    return depth


# --- several errors ----------------------------------------------------------------------


def of_nothing_but(error: BaseException, kind: type[E]) -> E | None:
    """Give the error, or the first leaf of a group of nothing but such errors."""
    if isinstance(error, kind):
        return error
    if not _inside(error):
        return None
    found = leaves(error)
    fitting = [leaf for leaf in found if isinstance(leaf, kind)]
    return fitting[0] if len(fitting) == len(found) else None


def leaves(error: BaseException) -> list[BaseException]:
    """Flatten groups, without recursion: they may be nested deeper than the stack."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        inside = _inside(one)
        waiting.extend(reversed(inside))
        if not inside:
            found.append(one)
    return found


def passing(error: BaseException) -> BaseException | None:
    """Give the interrupt, exit or the like in an error that only the program may take."""
    for leaf in leaves(error):
        if not isinstance(leaf, _OURS_TO_TAKE):
            return leaf
    return None


def without(error: BaseException, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    """Give what is left of an error without the leaves of some kinds."""
    if isinstance(error, kinds):
        return None
    if not any(isinstance(leaf, kinds) for leaf in leaves(error)):
        return error  # as it is: a split makes another group, and maybe of another type
    group: Any = error
    rest: BaseException | None = group.split(kinds)[1]
    return rest


def merged(errors: Iterable[BaseException]) -> tuple[BaseException | None, list[BaseException]]:
    """Decide what leaves one of our nurseries, and what of it must be logged instead.

    One failure leaves bare; several in one flat group. An interrupt or exit leaves alone.
    A cancellation matters only if it is all there is, an `Exited` only if the crash that
    caused it does not leave as well.
    """
    found = list(_flat(errors))
    for error in found:
        if (stop := passing(error)) is not None:
            return stop, [e for e in found if e is not error and not _is_beside(e, stop)]
    failures = [e for e in found if not _is_cancelled(e)]
    failures = [e for e in failures if not _is_echo(e, failures)]
    if len(failures) > 1:
        return _group(failures), []
    remaining = failures or found
    return (remaining[0] if remaining else None), []


def _flat(errors: Iterable[BaseException]) -> Iterator[BaseException]:
    seen: set[int] = set()
    for error in errors:
        for one in _members(error):
            if id(one) not in seen:
                seen.add(id(one))
                yield one


def _members(error: BaseException) -> tuple[BaseException, ...]:
    return _inside(error) if hasattr(error, _MERGED) else (error,)


def _inside(error: BaseException) -> tuple[BaseException, ...]:
    """Give the exceptions that a group holds directly; none for another error."""
    held: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return held if isinstance(error, BaseExceptionGroup) else ()


def _is_cancelled(error: BaseException) -> bool:
    return of_nothing_but(error, trio.Cancelled) is not None


def _is_beside(error: BaseException, stop: BaseException) -> bool:
    """Say whether an error is nothing to speak of beside an interrupt: or its twin."""
    mark = stop.__dict__.get(_CRASH)
    same = mark is not None and all(one.__dict__.get(_CRASH) == mark for one in leaves(error))
    quiet = isinstance(error, Exited) and error.exit.error is None  # who waited for its process
    return same or quiet or _is_cancelled(error)


def _is_echo(error: BaseException, failures: list[BaseException]) -> bool:
    if not isinstance(error, Exited) or not error.exit._crash:
        return False
    others = (one for failure in failures if failure is not error for one in chain(failure))
    return any(one.__dict__.get(_CRASH) == error.exit._crash for one in others)


def _group(failures: list[BaseException]) -> BaseException:
    group = BaseExceptionGroup("several failures", failures)
    setattr(group, _MERGED, True)
    return group


def raised(error: BaseException) -> None:
    """Raise an error with the context it had: being on our way adds nothing to it."""
    context = error.__context__
    try:
        raise error
    finally:
        _set(error, "__context__", context)
        del error, context


def exit_request(error: BaseException) -> ExitProcess | None:
    """Give the `ExitProcess` that an error is, alone or as a group of nothing else."""
    return of_nothing_but(error, ExitProcess)
