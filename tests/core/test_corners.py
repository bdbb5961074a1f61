"""Corners of the machinery that no noun reaches by itself."""

import functools
import re

import pytest
import trio

from trio_otp import (
    Agent,
    Backoff,
    ChildSpec,
    Every,
    ExitProcess,
    Ignore,
    Reply,
    StopLate,
    Supervisor,
    Task,
    TaskSupervisor,
    subscribe,
)
from trio_otp._core.failures import merged
from trio_otp._core.job import refuse_wrong_arguments, takes_task_status
from trio_otp._core.text import callable_name, short


class Mute:
    def __repr__(self):
        raise RuntimeError("no words")


class Callable:
    def __call__(self):
        raise AssertionError


def test_short():
    """Anything has a short text, also what has none of its own."""
    assert short("x" * 1000).count("x") < 100
    assert "Mute" in short(Mute())
    assert "list" in short(type("list", (), {})())  # reprlib takes it for what it is not


@pytest.mark.parametrize(
    ("make", "takes"),
    [
        (lambda: Agent(int, timeout="1"), "timeout must be a number of seconds or None"),
        (lambda: Agent(int, idle_timeout="1"), "idle_timeout must be a number of seconds or None"),
        (lambda: Reply(1, 2, timeout="1"), "timeout must be a number of seconds or None"),
        (lambda: Backoff(1, maximum="1"), "maximum must be a number of seconds or None"),
        (lambda: Backoff("1"), "initial must be a number of seconds"),
        (lambda: Supervisor(max_seconds="1"), "max_seconds must be a number of seconds"),
        (lambda: Every("1"), "seconds must be a number of seconds"),
    ],
)
def test_only_what_is_taken_is_named(make, takes):
    """The message about wrong seconds names None where that is taken, and nowhere else."""
    with pytest.raises(TypeError, match=f"^{re.escape(takes)}, got '1'$"):
        make()


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (test_short, "test_short"),
        (functools.partial(functools.partial(test_short)), "test_short"),
        (Callable(), "Callable"),
        (len, "len"),
    ],
)
def test_callable_name(fn, name):
    """A function is named as its author wrote it, a partial by what it wraps."""
    assert callable_name(fn) == name


def test_what_cannot_be_inspected():
    """A function made in C may have no signature: it will say itself what is wrong."""
    assert not takes_task_status(getattr)
    refuse_wrong_arguments(getattr, ())


def test_spec_has_a_short_repr():
    """A child specification is told by its id."""
    assert repr(ChildSpec(trio.sleep, 1, id="s" * 1000)).startswith("<ChildSpec 'sss")


@pytest.mark.parametrize("reason", ["crashed", "killed", "boom", None])
def test_exit_reasons(reason):
    """A process ends itself normally or by shutdown; anything else is an exception."""
    text = re.escape(f"reason must be 'normal' or 'shutdown', got {reason!r}")
    with pytest.raises(ValueError, match=text):
        ExitProcess(reason)


async def test_ignore_after_the_start(autojump_clock, caplog):
    """Ignore is for declining to start; later it is a crash that says so."""

    async def late(*, task_status):
        task_status.started()
        raise Ignore

    async with Supervisor([ChildSpec(late, restart="temporary")]):
        await trio.sleep(1)
    assert "Ignore was raised after the start" in caplog.text


async def test_unlinked_guest(autojump_clock, nursery):
    """A linked task of a supervisor that is ignored fails nobody's scope, and is still counted."""

    async def fail():
        await trio.sleep(1)
        raise ValueError

    async with TaskSupervisor() as tasks:
        task = tasks.async_(nursery, fail)
        assert task.ignore() is None
        assert len(tasks.children) == 1
        await tasks.join()
    assert task.last_exit.reason == "crashed"


async def test_nursery_that_is_closed():
    """A nursery that takes no more tasks refuses ours, and nothing is left of it."""
    async with trio.open_nursery() as closed:
        pass
    async with TaskSupervisor() as tasks:
        with pytest.raises(RuntimeError, match="closed"):
            tasks.async_(closed, trio.sleep, 1)
        assert not tasks.children
    with pytest.raises(TypeError, match=r"nursery must be a trio\.Nursery, got 3"):
        Task.async_(3, trio.sleep, 1)


@pytest.mark.parametrize("once", [True, False])
async def test_subscriber_that_exits(once):
    """A subscriber that ends the program ends it: no life is begun that nobody runs."""
    left = []

    def leave(event):
        if not (once and left):
            left.append(event)
            raise SystemExit(5)

    task = Task(trio.sleep_forever)
    with subscribe(leave), pytest.raises(SystemExit):
        async with task:
            pytest.fail("the body must not run")
    assert task.status == "stopped"


async def test_asker_leaves_while_its_child_is_bounced(autojump_clock):
    """A start that a group restart has interrupted is abandoned when its asker leaves."""
    starts = []

    async def hanging(*, task_status):
        starts.append(trio.current_time())
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)

    async def falls_once():
        await trio.sleep(1 if not starts else 60)
        raise ValueError

    async with Supervisor([falls_once], strategy="one_for_all", name="sup") as sup:
        with trio.move_on_after(2):
            await sup.start_child(ChildSpec(hanging, id="hanging"))
        await trio.sleep(8)
        assert [info.id for info in sup.children] == [falls_once.__qualname__]
    assert starts == [0]


def test_one_error_that_leaves_twice():
    """An error that leaves a nursery by two ways is one failure."""
    error = ValueError()
    assert merged([error, error]) == (error, [])


async def test_stop_of_a_block_that_is_broken_off(autojump_clock):
    """Who breaks off the wait for a late child goes on waiting for its end, and it counts as killed."""

    async def stubborn(*, task_status):
        task_status.started()
        with trio.CancelScope(shield=True):
            await trio.sleep(20)

    def leave(event):
        if isinstance(event, StopLate):
            raise SystemExit(3)

    task, begun = Task(stubborn, shutdown=5), trio.current_time()
    with pytest.raises(SystemExit), subscribe(leave):
        async with task:
            pass
    assert trio.current_time() - begun == 20
    assert task.last_exit.reason == "killed"
