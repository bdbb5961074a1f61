"""Task: what a handle keeps of a failure, and what its waiters get."""

import copy
import gc
import logging
import weakref
from dataclasses import dataclass

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_task import attempt, ended
from trio_otp import StartFailed, Supervisor, Task, TaskSupervisor, current_process


class Big:
    """Something that a frame holds and that can be watched going away."""


class Lost(Exception):
    """A failure that can be watched as well."""


@pytest.fixture
async def sup():
    async with TaskSupervisor() as sup:
        yield sup
        await sup.stop()


@pytest.fixture
def no_collector(monkeypatch):
    monkeypatch.setattr(logging.getLogger("trio_otp"), "disabled", True)  # pytest keeps records
    gc.disable()
    yield
    gc.enable()


# --- one error, many waiters -----------------------------------------------------------


@pytest.mark.conforms("TASK-041", "TASK-051", "CASE-03")
async def test_ten_readers(autojump_clock, nursery):
    """Ten readers, early and late, get the one result; one that gives up disturbs nobody."""
    answers = []

    async def reader(task, delay):
        await trio.sleep(delay)
        answers.append(await task)

    task = Task.async_(nursery, later_123)
    with trio.move_on_after(0.5):
        await task
    async with trio.open_nursery() as readers:
        for delay in [0] * 5 + [2] * 5:
            readers.start_soon(reader, task, delay)
    assert answers == [123] * 10


async def later_123():
    await trio.sleep(1)
    return 123


@pytest.mark.conforms("TASK-041", "TASK-051", "CASE-03")
async def test_ten_readers_of_a_failure(autojump_clock, sup):
    """Each of ten readers, early or late, gets the bare error of an isolated task."""
    errors = []

    async def body():
        await trio.sleep(1)
        raise KeyError("which")

    async def reader(task, delay):
        await trio.sleep(delay)
        errors.append(await attempt(task))

    task = sup.async_nolink(body)
    async with trio.open_nursery() as readers:
        for delay in [0] * 5 + [2] * 5:
            readers.start_soon(reader, task, delay)
    assert [repr(error) for error in errors] == ["KeyError('which')"] * 10


async def test_first_waiter_gets_the_error_itself(autojump_clock, sup):
    """The first to ask gets the object that was raised, later ones a copy like it."""
    original = LookupError("lost")
    original.add_note("and found")

    async def body():
        raise original from OSError("disk")

    task = sup.async_nolink(body)
    first, second = await attempt(task), await attempt(task)
    assert first is original
    assert second is not original
    assert type(second) is LookupError
    assert second.args == ("lost",)
    assert second.__notes__ == ["and found"]
    assert second.__cause__ is original.__cause__


async def test_errors_do_not_grow(autojump_clock, sup):
    """Neither the traceback nor the notes of the error grow from one await to the next."""

    async def body():
        raise ValueError

    async def asking():
        try:
            await task
        except ValueError as error:
            error.add_note("told")
            return len(error.__notes__), entries(error)

    task = sup.async_nolink(body)
    assert [await asking() for _ in range(5)] == [(1, (await asking())[1])] * 5


def entries(error):
    names, entry = [], error.__traceback__
    while entry is not None:
        names.append(entry.tb_frame.f_code.co_name)
        entry = entry.tb_next
    return names


async def test_traceback_begins_with_the_user(autojump_clock, sup):
    """What the handle keeps begins in the function of the task, not in the library."""

    async def body():
        helper()

    def helper():
        raise ValueError

    task = sup.async_nolink(body)
    await task.wait()
    assert entries(task.last_exit.error) == ["body", "helper"]


# --- awkward errors ----------------------------------------------------------------------


class TwoArguments(Exception):
    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")
        self.left = left


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__()
        self.code = code

    def __str__(self):
        return f"code {self.code}"


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        self.code = code

    def __str__(self):
        return f"code {self.code}"


class OddNew(Exception):
    def __new__(cls, *args, code=None):
        self = super().__new__(cls, *args)
        self.code = code
        return self

    def __init__(self, *args, code=None):
        super().__init__(*args)

    def __str__(self):
        return f"code {self.code}"


class CopiesToSomethingElse(Exception):
    def __reduce__(self):
        return dict, ()


class RefusesToBeCopied(Exception):
    def __copy__(self):
        raise RuntimeError


class OwnDisk(OSError):
    def __init__(self, path):
        super().__init__(28, "no space", path)


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


@dataclass
class Unhashable(Exception):
    code: int


@attrs.frozen(auto_exc=True)
class FrozenAttrs(Exception):
    code: int


AWKWARD = [
    TwoArguments("a", "b"),
    KeywordOnly(code=3),
    Slotted(4),
    OddNew("x", code=5),
    CopiesToSomethingElse("x"),
    RefusesToBeCopied("x"),
    OwnDisk("/dev/full"),
    Frozen(6),
    Unhashable(7),
    FrozenAttrs(8),
    FileNotFoundError(2, "no such file", "x.csv"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ImportError("no", name="n", path="p"),
    SyntaxError("bad", ("f.py", 1, 2, "text")),
    AttributeError("no", name="n", obj=3),
    ExceptionGroup("two", [ValueError(1), KeyError(2)]),
]


@pytest.mark.conforms("REVIEW-13")
@pytest.mark.parametrize("error", AWKWARD, ids=lambda error: type(error).__name__)
async def test_awkward_errors(autojump_clock, sup, error):
    """Every waiter gets an error of the same kind, text and fields, however oddly it is made."""

    async def body():
        raise error

    looks = (type(error), str(error), error.args, set(vars(error)) - {"__notes__"})
    task = sup.async_nolink(body)
    for _ in range(3):
        got = await attempt(task)
        fields = {name for name in vars(got) if not name.startswith("_trio_otp")}
        assert (type(got), str(got), got.args, fields) == looks
    assert task.last_exit.reason == "crashed"


@pytest.mark.parametrize("error", AWKWARD, ids=lambda error: type(error).__name__)
async def test_awkward_errors_leave_a_block(autojump_clock, error):
    """A linked failure leaves as the object that was raised, however oddly it is made."""

    async def body():
        raise error

    with pytest.raises(type(error)) as caught:
        async with Task(body) as task:
            await trio.sleep_forever()
    if not isinstance(error, ExceptionGroup):  # of which Trio makes another
        assert caught.value is error
    assert str(task.last_exit.error) == str(error)


class BadRepr(Exception):
    def __repr__(self):
        raise RuntimeError

    __str__ = __repr__


async def test_error_that_cannot_be_shown(autojump_clock, sup):
    """An error whose repr fails reaches its waiters; into a nursery goes a harmless one from it."""

    async def body():
        raise BadRepr

    with pytest.raises(BadRepr):
        await sup.async_nolink(body)
    with pytest.raises(RuntimeError, match="BadRepr, whose repr fails") as caught:
        async with Task(body):
            await trio.sleep_forever()
    assert type(caught.value.__cause__) is BadRepr


# --- nothing is left -----------------------------------------------------------------------


class Failing(Task):
    def __init__(self, how, watched, **options):
        super().__init__(**options)
        self.how, self.watched = how, watched

    async def main(self):
        await self.how(self)


async def plainly(task=None):
    big = Big()
    watch(task, big)
    raise Lost


async def while_handling(task=None):
    big = Big()
    watch(task, big)
    try:
        raise KeyError
    except KeyError:
        raise Lost from None


async def from_another(task=None):
    big = Big()
    watch(task, big)
    try:
        raise KeyError
    except KeyError as error:
        raise Lost from error


async def in_a_group(task=None):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plainly, task)
        nursery.start_soon(from_another, task)


async def below_a_custom_error(task=None):
    big = Big()
    watch(task, big)
    raise TwoArguments("a", "b")


WATCHED: list[weakref.ref] = []
HOWS = [plainly, while_handling, from_another, in_a_group, below_a_custom_error]
by_name = pytest.mark.parametrize("how", HOWS, ids=lambda how: how.__name__)


def watch(*things):
    WATCHED.extend(weakref.ref(thing) for thing in things if thing is not None)


@pytest.fixture(autouse=True)
def nothing_watched():
    WATCHED.clear()


def left():
    """Name what is still there of all that was watched."""
    assert WATCHED
    return [type(ref()).__name__ for ref in WATCHED if ref() is not None]


async def settle():
    """Let Trio's own last steps go by: it forgets a task a little after its end."""
    for _ in range(3):
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()


@by_name
@pytest.mark.parametrize("awaited", [0, 1, 3])
@pytest.mark.conforms("CASE-89")
async def test_dropped_isolated_handle(autojump_clock, no_collector, sup, how, awaited):
    """Dropping the handle of a failed isolated task frees its error and frames at once."""

    async def use():
        task = sup.async_nolink(how)
        await ended(task)
        watch(task)
        for _ in range(awaited):
            try:
                await task
            except Lost as error:
                watch(error)
            except Exception:
                pass

    await use()
    await settle()
    assert left() == []


@by_name
@pytest.mark.parametrize("awaited", [0, 1, 3])
async def test_dropped_linked_handle(autojump_clock, no_collector, how, awaited):
    """The same for a linked one, once the owner has dealt with the error that left it."""

    async def use():
        try:
            async with trio.open_nursery() as nursery:
                task = Task.async_(nursery, how)
                watch(task)
        except* Exception:
            pass
        for _ in range(awaited):
            assert await attempt(task) is not None

    await use()
    await settle()
    assert left() == []


@by_name
@pytest.mark.parametrize("home", ["block", "nursery", "supervisor"])
@pytest.mark.parametrize("awaited", [0, 2])
async def test_dropped_subclass(autojump_clock, no_collector, how, home, awaited):
    """The same for a subclass, whose own frame holds the task itself."""

    async def use():
        task = Failing(how, WATCHED)
        watch(task)
        await run_in(home, task, supervisor)
        for _ in range(awaited):
            assert await attempt(task) is not None

    async with Supervisor() as supervisor:
        await use()
        await settle()
        assert left() == []


async def run_in(home, task, supervisor):
    try:
        if home == "block":
            async with task:
                await trio.sleep_forever()
        elif home == "nursery":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(task.run)
        else:
            await supervisor.start_child(task)
            await task.wait()
    except* Exception:
        pass


@pytest.mark.conforms("CASE-89")
async def test_kept_handle_keeps_no_locals(autojump_clock, no_collector, sup):
    """A kept handle keeps the error, but not what the frames of the failed task held."""
    task = sup.async_nolink(plainly)
    await attempt(task)
    await settle()
    assert left() == []
    assert type(task.last_exit.error) is Lost


@pytest.mark.parametrize("first", [True, False])
async def test_failed_start_keeps_no_locals(autojump_clock, no_collector, first):
    """A handle whose start failed keeps the error that was raised, but not what its frames held."""

    async def child(*, task_status):
        big = Big()
        watch(big, current_process())
        raise Lost

    async def use():
        async with Supervisor([child] if first else []) as supervisor:
            await supervisor.start_child(child)

    for _ in range(3):
        with pytest.raises(StartFailed):
            await use()
    await settle()
    assert left() == []


@pytest.mark.conforms("CASE-88")
async def test_finished_tasks_leave_nothing(autojump_clock, no_collector, sup):
    """Arguments and handles of finished tasks are gone, though their home lives on."""

    async def body(big):
        return None

    async with trio.open_nursery() as nursery:
        for start in [lambda *args: Task.async_(nursery, *args), sup.async_nolink]:
            for _ in range(50):
                big = Big()
                task = start(body, big)
                watch(big, task)
                await task
        del big, task
        await settle()
        assert left() == []
        assert sup.children == ()


async def test_given_up_waits_leave_nothing(autojump_clock, no_collector, nursery):
    """Waiters that gave up are not remembered by the task."""
    task = Task.async_(nursery, trio.sleep, 100)
    for _ in range(50):
        with trio.move_on_after(0.1) as scope:
            watch(scope)
            await task
        del scope
        assert await task.yield_(timeout=0.1) is None
        await Task.yield_many([task, Task.completed(1)], timeout=0.1)
    assert not task._sleepers
    await settle()
    assert left() == []


def test_handles_are_small():
    """A handle has no dictionary of its own, and copying one is not a thing to do by accident."""
    task = Task(plainly)
    assert not hasattr(task, "__dict__")
    assert copy.copy([task]) == [task]
