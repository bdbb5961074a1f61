"""Lessons of public bug reports about tasks, scopes, contexts and memory."""

import contextvars
import gc
import logging
import math
import random
import weakref

import pytest
import trio
import trio.testing

from trio_otp import (
    Agent,
    DynamicSupervisor,
    Exited,
    RestartsExhausted,
    Supervisor,
    Task,
    TaskSupervisor,
    TimedOut,
)


async def after(seconds, value=None):
    await trio.sleep(seconds)
    if isinstance(value, BaseException):
        raise value
    return value


@pytest.mark.conforms("CASE-02")
async def test_stopping_what_has_ended(autojump_clock):
    """Stopping a task whose result was taken comes back at once, with the same answer each time."""
    async with TaskSupervisor() as tasks:
        task = tasks.async_nolink(after, 1, 42)
        assert await task == 42
        answers = [await task.stop(), await task.stop()]
        results = [await task.shutdown(timeout=None), await task.shutdown(timeout=None)]
    assert answers == [task.last_exit] * 2
    assert [result.value for result in results] == [42, 42]
    assert trio.current_time() == 1


@pytest.mark.conforms("CASE-22")
async def test_total_limit(autojump_clock):
    """A limit over several tasks is one limit: what is not there yet is not there, and runs on."""
    async with TaskSupervisor() as tasks:
        many = [tasks.async_nolink(after, seconds, seconds) for seconds in (0.3, 0.6, 0.9, 1.2)]
        results = await Task.yield_many(many, timeout=0.35)
        assert trio.current_time() == 0.35
        assert [result is not None for _, result in results] == [True, False, False, False]
        assert [task.status for task in many[1:]] == ["running"] * 3


@pytest.mark.real
@pytest.mark.conforms("CASE-05")
async def test_limit_and_failure_at_once():
    """When a limit and a failure meet, what comes out is one or the other, never a mixture."""
    dice = random.Random(5)
    outcomes = set()
    for _ in range(60):
        try:
            with trio.fail_after(0.0005 + dice.random() * 0.001):
                async with Task(after, 0.001, ValueError()):
                    await trio.sleep_forever()
        except (ValueError, trio.TooSlowError) as error:
            outcomes.add(type(error))
    assert outcomes <= {ValueError, trio.TooSlowError}


@pytest.mark.conforms("CASE-06")
async def test_shape_of_failures(autojump_clock):
    """One failure leaves a block bare, however deep; two in the same moment leave in one flat group."""
    with pytest.raises(KeyError):
        async with Task(after, 1, KeyError()):
            await trio.sleep_forever()

    async def deeper():
        async with Task(after, 1, KeyError()), Task(trio.sleep_forever):
            await trio.sleep_forever()

    with pytest.raises(KeyError):
        async with Task(deeper):
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        async with Task(after, 1, KeyError()), Task(after, 1, OSError()):
            await trio.sleep_forever()
    assert sorted(type(error).__name__ for error in caught.value.exceptions) == [
        "KeyError",
        "OSError",
    ]


@pytest.mark.conforms("CASE-08")
@pytest.mark.parametrize("failing", [0, 2])
async def test_cancellation_that_nobody_received(autojump_clock, failing):
    """Under an outer cancellation, only the errors of the user come out of a block."""

    async def fail_in_cleanup():
        try:
            await trio.sleep_forever()
        finally:
            raise OSError

    with trio.CancelScope() as scope, pytest.raises((RuntimeError, ExceptionGroup)) as caught:
        async with TaskSupervisor() as tasks, trio.open_nursery() as nursery:
            for _ in range(failing):
                tasks.async_(nursery, fail_in_cleanup)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            raise RuntimeError
    assert "Cancelled" not in repr(caught.value)


@pytest.mark.conforms("CASE-19")
async def test_submitting_under_a_limit(autojump_clock):
    """A stream runs no more than its limit at once, lets nobody starve, and loses nothing."""
    running, most = 0, 0

    async def job(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(5)
        running -= 1
        return number

    async with Task.async_stream(range(200), job, max_concurrency=10, timeout=6) as results:
        assert [result.unwrap() async for result in results] == list(range(200))
    assert most == 10
    assert trio.current_time() == 100


@pytest.mark.conforms("CASE-21", "REVIEW-9")
@pytest.mark.parametrize("limit", [None, math.inf, 0])
async def test_limits_everywhere(autojump_clock, limit):
    """No limit waits, 0 means only what is there now; in every place that takes a limit."""
    async with Agent(int, timeout=limit) as agent, TaskSupervisor() as tasks:
        task = tasks.async_nolink(after, 1, "x")
        waits = [
            lambda: task.await_(timeout=limit),
            lambda: Task.await_many([task], timeout=limit),
            lambda: agent.get(lambda state: after(1, "x")),
        ]
        for wait in waits:
            if limit == 0:
                with pytest.raises(TimedOut):
                    await wait()
            else:
                await wait()
        got = await task.yield_(timeout=limit)
        assert (got is None) == (limit == 0)
        assert await agent.get(lambda state: "now", timeout=None) == "now"


@pytest.mark.conforms("CASE-86")
async def test_context_of_a_lazily_started_agent(autojump_clock, caplog):
    """An agent lives in the context of its home's start, never in that of the request that started it."""
    caplog.set_level(logging.CRITICAL, "trio_otp")
    rid = contextvars.ContextVar("rid", default="none")
    agent = Agent(rid.get, name="agent")

    async def request(name, sup):
        rid.set(name)
        if agent.status == "new":
            await sup.start_child(agent)
        seen.append((name, await agent.get(), await agent.get(lambda _: rid.get())))

    seen = []
    async with Supervisor(name="sup") as sup:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request, "A", sup)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request, "B", sup)
        agent.cast(lambda _: 1 // 0)
        await trio.testing.wait_all_tasks_blocked()
        await request("C", sup)
    assert [(state, inside) for _, state, inside in seen] == [("none", "none")] * 3


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Oops(Exception):
    """An error that can be watched, unlike those of Python itself."""


class Big:
    """Something that can be watched."""


@pytest.mark.conforms("CASE-88")
@pytest.mark.parametrize("how", ["start_child", "async_nolink", "async_stream"])
async def test_finished_tasks_are_gone(no_collector, how):
    """Of a task that has ended, nothing is kept: neither handle nor argument nor table entry."""
    seen = []

    async def job(thing):
        await trio.lowlevel.checkpoint()

    async with TaskSupervisor() as tasks:
        for _ in range(300):
            thing = Big()
            seen.append(weakref.ref(thing))
            if how == "async_stream":
                async with tasks.async_stream_nolink([thing], job) as results:
                    async for _ in results:
                        pass
            else:
                process = getattr(tasks, how)(job, thing)
                seen.append(weakref.ref(process))
                del process
            del thing
        await tasks.join()
        await trio.lowlevel.checkpoint()
        assert not tasks.children
        assert sum(one() is not None for one in seen) == 0


@pytest.mark.conforms("CASE-89")
@pytest.mark.parametrize("kept", [False, True])
async def test_failures_hold_no_locals(no_collector, caplog, kept):
    """Of a failed task the error is kept with its handle; the locals of its frames are not."""
    caplog.set_level(logging.CRITICAL, "trio_otp")
    seen, handles = [], []

    async def job():
        local = Big()
        seen.append(weakref.ref(local))
        await trio.lowlevel.checkpoint()
        raise Oops

    async with TaskSupervisor() as tasks:
        handles.extend(tasks.async_nolink(job) for _ in range(50))
        await tasks.join()
    if not kept:
        errors = [weakref.ref(handle.last_exit.error) for handle in handles]
        handles.clear()
        assert sum(one() is not None for one in errors) == 0
    assert sum(one() is not None for one in seen) == 0


@pytest.mark.conforms("REVIEW-8")
async def test_stray_cancellation(autojump_clock, caplog):
    """A Cancelled that was kept and is raised later, where nobody has cancelled, is a crash."""
    kept = []

    async def keep():
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep(1)
            except trio.Cancelled as error:
                kept.append(error)
        raise kept[0]

    async with TaskSupervisor() as tasks:
        task = tasks.async_nolink(keep)
        exit = await task.wait()
    assert exit.reason == "crashed"
    assert isinstance(exit.error.__cause__, trio.Cancelled)
    assert "a Cancelled left a process that nobody had cancelled" in caplog.text


class Unspeakable(Exception):
    def __repr__(self):
        raise RuntimeError("no words")


def deep_group(depth):
    error = ValueError("at the bottom")
    for _ in range(depth):
        error = ExceptionGroup("g", [error])
    return error


@pytest.mark.conforms("REVIEW-11")
@pytest.mark.parametrize("error", [Unspeakable(), deep_group(1000)], ids=["mute", "deep"])
@pytest.mark.parametrize("linked", [True, False])
async def test_errors_that_break_repr(autojump_clock, caplog, error, linked):
    """An error whose repr fails, or is endless, does not bring Trio down: a plain one goes in its place."""
    if linked:
        with pytest.raises(RuntimeError, match="whose repr fails or would be endless") as caught:
            async with Task(after, 1, error):
                await trio.sleep_forever()
        assert caught.value.__cause__ is error
    else:
        async with TaskSupervisor() as tasks:
            task = tasks.async_nolink(after, 1, error)
            assert (await task.wait()).error is error


# --- seen when other libraries were run -----------------------------------------------------


@pytest.mark.conforms("OBS-06")
async def test_cancellation_is_no_error_of_a_task(autojump_clock):
    """Who awaits a task of its own nursery and is cancelled with it is cancelled; no `except` has it."""
    caught = []

    async def wait(nursery):
        task = Task.async_(nursery, trio.sleep_forever)
        try:
            await task
        except Exception as error:
            caught.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, nursery)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert caught == []


@pytest.mark.conforms("OBS-08")
@pytest.mark.parametrize("end", ["stop", "kill", "crash"])
async def test_nobody_waits_for_the_dead(autojump_clock, end):
    """Whoever waits for a task, or for the answer of an agent, hears of its end whatever that is."""

    async def work(_=None):
        await trio.sleep(1)
        if end == "crash":
            raise KeyError("crash")
        await trio.sleep_forever()

    async def wait_for(awaitable):
        with pytest.raises((Exited, KeyError)):
            await awaitable
        ended.append(trio.current_time() - begun)

    begun, ended = trio.current_time(), []
    async with TaskSupervisor() as home, DynamicSupervisor(max_restarts=9) as agents:
        task = home.async_nolink(work)
        agent = await agents.start_child(Agent(int).child_spec(restart="temporary"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for, task)
            nursery.start_soon(wait_for, agent.get(work, timeout=None))
            await trio.sleep(1)
            if end != "crash":
                task.kill()
                agent.kill()
    assert ended == [1, 1]


@pytest.mark.conforms("OBS-10")
async def test_fan_out_has_a_limit(autojump_clock):
    """Of 5,000 items only a few are worked on at once, though nobody has asked for a limit."""
    alive = most = 0

    async def work(_):
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        await trio.sleep(0.001)
        alive -= 1

    async with Task.async_stream(range(5000), work) as results:
        assert len([one async for one in results]) == 5000
    assert 1 < most <= 64


@pytest.mark.conforms("OBS-14")
async def test_error_after_the_start(autojump_clock):
    """A child that fails long after it has said that it is ready is a crash like any other."""
    lives = []

    async def late(*, task_status):
        task_status.started()
        lives.append(trio.current_time())
        await trio.sleep(10)
        raise KeyError("late")

    with pytest.raises(RestartsExhausted) as caught:
        async with Supervisor([late], max_restarts=1, max_seconds=60):
            await trio.sleep_forever()
    assert len(lives) == 2
    assert isinstance(caught.value.__cause__, KeyError)
