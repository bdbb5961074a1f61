"""Task.shutdown against what can come between: traps, shields, others who stop, kill or leave."""

import random

import pytest
import trio
from outcome import Value
from trio.testing import wait_all_tasks_blocked

from helpers_task import (
    ENDINGS,
    ended,
    exit_normal,
    exit_shutdown,
    exit_shutdown_detail,
    fate,
    later,
    raises,
    returns,
    told,
)
from trio_otp import Task, TaskSupervisor, current_process, trap_exit


@pytest.fixture
async def sup():
    async with TaskSupervisor(name="sup") as sup:
        yield sup
        await sup.stop()


async def trapping(seen, reaction):
    with trap_exit() as exiting:
        await exiting.wait()
        seen.append(trio.current_time())
        return await reaction()


async def shielded(seconds):
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)
    await trio.lowlevel.checkpoint()


async def running(start, *args):
    task = start(*args)
    await wait_all_tasks_blocked()
    return task


# What a task does when it is asked to stop, and what shutdown with a limit then gives.
REACTIONS = {
    returns: "value",
    exit_normal: ("normal", None),
    exit_shutdown: None,
    exit_shutdown_detail: ("shutdown", "why"),
    raises: ValueError,
    trio.sleep_forever: ("killed", None),
}


@pytest.mark.conforms("TASK-106", "TASK-109", "TASK-118", "TASK-120", "TASK-121")
@pytest.mark.parametrize("reaction", REACTIONS, ids=lambda reaction: reaction.__name__)
@pytest.mark.parametrize("brutal", [False, True])
async def test_linked_task_that_traps_exits(autojump_clock, caplog, reaction, brutal):
    """With a limit it is told and ends in its own way, brutally it is not; its owner lives on."""
    seen = []

    async def owner(nursery):
        task = await running(Task.async_, nursery, trapping, seen, reaction)
        answer = await task.shutdown(timeout="brutal_kill" if brutal else 3)
        assert task.status == "stopped"
        await trio.sleep(1)
        return told(answer)

    assert await fate(owner) == (None if brutal else REACTIONS[reaction])
    assert seen == ([] if brutal else [0])
    assert trio.current_time() == (4 if reaction is trio.sleep_forever and not brutal else 1)
    assert caplog.messages == []


@pytest.mark.conforms("COMMON-008", "TASK-121")
@pytest.mark.parametrize(
    ("timeout", "limit", "answer"),
    [(0, 0, ("killed", None)), (2, 2, ("killed", None)), ("brutal_kill", 5, None)],
)
async def test_late_task_is_named(autojump_clock, sup, caplog, timeout, limit, answer):
    """A task that shields itself is waited for, and named once when its time, or patience, is over."""
    task = await running(sup.async_nolink, shielded, 9)
    assert told(await task.shutdown(timeout=timeout)) == answer
    assert trio.current_time() == 9
    text = f"is late: asked to stop, and not done after {limit} s; its end is waited for"
    assert caplog.messages == [f"sup/shielded {text}"]


@pytest.mark.conforms("COMMON-008", "TASK-086")
async def test_late_tasks_of_many_are_named(autojump_clock, sup, caplog):
    """While `yield_many` waits for a task that it has killed, the log says for which."""
    tasks = [sup.async_nolink(shielded, seconds, name=f"{seconds} s") for seconds in (9, 15, 4)]
    results = await Task.yield_many(tasks, timeout=2, on_timeout="kill_task")
    assert [told(result) for _, result in results] == [None, None, None]
    assert trio.current_time() == 15
    assert [message.split(":")[0] for message in caplog.messages] == [
        "sup/9 s is late",
        "sup/15 s is late",
    ]


@pytest.mark.conforms("TASK-114")
@pytest.mark.parametrize("timeout", [9, None])
async def test_killed_by_another_meanwhile(autojump_clock, sup, nursery, timeout):
    """A task that somebody kills while it is shut down was killed, not shut down."""
    task = await running(sup.async_nolink, trapping, [], trio.sleep_forever)
    nursery.start_soon(kill_at, 1, task)
    assert told(await task.shutdown(timeout=timeout)) == ("killed", None)
    assert trio.current_time() == 1


async def kill_at(seconds, task):
    await trio.sleep(seconds)
    task.kill()


@pytest.mark.conforms("TASK-106")
async def test_two_callers(autojump_clock, sup, nursery):
    """Of two who shut a task down the more impatient decides, and both are told the same."""
    answers = []

    async def ask(delay, timeout):
        await trio.sleep(delay)
        answers.append(told(await task.shutdown(timeout=timeout)))

    task = await running(sup.async_nolink, trapping, [], trio.sleep_forever)
    async with trio.open_nursery() as askers:
        askers.start_soon(ask, 0, 9)
        askers.start_soon(ask, 1, 2)
    assert answers == [("killed", None)] * 2
    assert trio.current_time() == 3


@pytest.mark.conforms("TASK-123")
@pytest.mark.parametrize("timeout", [3, "brutal_kill"])
async def test_caller_that_was_cancelled_before(autojump_clock, sup, timeout):
    """Who is cancelled already, and then asks, has asked; and does not wait."""
    task = await running(sup.async_nolink, trapping, [], trio.sleep_forever)
    with trio.CancelScope() as scope:
        scope.cancel()
        await task.shutdown(timeout=timeout)
    assert scope.cancelled_caught
    assert trio.current_time() == 0
    await ended(task)
    assert (task.last_exit.reason, trio.current_time()) == ("killed", 3 if timeout == 3 else 0)


@pytest.mark.conforms("TASK-117")
@pytest.mark.parametrize("timeout", [None, 5, "brutal_kill"])
async def test_task_that_shuts_itself_down(autojump_clock, sup, timeout):
    """A task that shuts itself down is cancelled there and then."""

    async def body():
        await current_process().shutdown(timeout=timeout)
        pytest.fail("not reached")

    task = sup.async_nolink(body)
    exit = await task.wait()
    assert exit.reason == ("killed" if timeout == "brutal_kill" else "shutdown")
    assert trio.current_time() == 0


async def nest(depth):
    async with trio.open_nursery() as nursery:
        if depth:
            nursery.start_soon(nest, depth - 1)
        await trio.sleep_forever()


async def test_deep_task_is_not_late(autojump_clock, sup, caplog):
    """A killed task that needs many steps to end, and no time, is not called late."""
    task = await running(sup.async_nolink, nest, 20)
    assert await task.shutdown(timeout="brutal_kill") is None
    assert caplog.messages == []


# --- races -----------------------------------------------------------------------------------


async def after_steps(dice, event, end):
    """Be woken, take up to two more steps, and end."""
    await event.wait()
    for _ in range(dice.randrange(3)):
        await trio.lowlevel.checkpoint()
    return await end()


@pytest.mark.conforms("TASK-107", "TASK-108", "TASK-111", "TASK-125", "TASK-128")
async def test_end_and_shutdown_in_the_same_moment(autojump_clock, sup):
    """A value or an error that there was is what shutdown gives, whoever was quicker."""
    answers = set()
    for seed in range(300):
        dice, event, done = random.Random(seed), trio.Event(), []

        async def end():
            done.append(dice.choice([returns, raises]))
            return await done[0]()

        task = await running(sup.async_nolink, after_steps, dice, event, end)
        event.set()
        for _ in range(dice.randrange(3)):
            await trio.lowlevel.checkpoint()
        answer = told(await task.shutdown(timeout=dice.choice([5, None, "brutal_kill"])))
        assert answer == (ENDINGS[done[0]] if done else None), seed
        answers.add(answer)
    assert answers == {None, "value", ValueError}


@pytest.mark.conforms("TASK-110", "TASK-122")
async def test_linked_failure_and_shutdown_in_the_same_moment(autojump_clock):
    """A failure before the shutdown fails the scope; one after it is a value, and never both."""
    fates = set()
    for seed in range(300):
        dice, event = random.Random(seed), trio.Event()

        async def owner(nursery):
            task = await running(Task.async_, nursery, after_steps, dice, event, raises)
            event.set()
            for _ in range(dice.randrange(3)):
                await trio.lowlevel.checkpoint()
            failed_before = task.status == "stopped"
            answer = told(await task.shutdown())
            await trio.lowlevel.checkpoint()
            assert not failed_before, seed
            return "owner lives", answer

        fates.add(told(await fate(owner)))
    assert fates == {ValueError, ("owner lives", ValueError), ("owner lives", None)}


# --- what yield_many does with those that are late -----------------------------------------


@pytest.mark.conforms("TASK-086", "TASK-094")
async def test_limit_that_is_not_reached_in_time(autojump_clock, nursery):
    """If the time is over before enough have ended, all that are late are killed."""
    tasks = [Task.async_(nursery, later, seconds) for seconds in (9, 1, 8)]
    results = await Task.yield_many(tasks, timeout=2, limit=2, on_timeout="kill_task")
    assert [told(result) for _, result in results] == [None, "late", None]
    assert [task.last_exit.reason for task in tasks] == ["killed", "normal", "killed"]
    assert trio.current_time() == 2


@pytest.mark.conforms("TASK-086")
async def test_answer_in_the_last_moment(autojump_clock, nursery):
    """A task that is killed for being late, and answers all the same, gives its answer."""

    async def stubborn():
        with trio.CancelScope(shield=True):
            return await later(3)

    task = Task.async_(nursery, stubborn)
    results = await Task.yield_many([task], timeout=2, on_timeout="kill_task")
    assert results == [(task, Value("late"))]


@pytest.mark.conforms("TASK-087", "TASK-098")
async def test_ignored_for_being_late(autojump_clock, nursery):
    """A task that is ignored for being late goes on, and its result can still be had."""
    task = Task.async_(nursery, later, 3)
    assert await Task.yield_many([task], timeout=2, on_timeout="ignore") == [(task, None)]
    assert await task.yield_() == Value("late")
    assert trio.current_time() == 3
