"""Interrupts and exits that only the program may take, raised where processes run."""

import logging

import pytest
import trio
import trio.testing

from trio_otp import (
    Agent,
    CallFailed,
    ChildSpec,
    Ready,
    Supervisor,
    Task,
    TaskSupervisor,
    subscribe,
)

LEAVING = [KeyboardInterrupt(), SystemExit(3)]


def raise_it(error):
    raise error


async def raise_later(error, *_):
    await trio.lowlevel.checkpoint()
    raise error


def service(log, name):
    async def serve(*, task_status):
        log.append(f"start {name}")
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            log.append(f"stop {name}")

    return ChildSpec(serve, id=name)


async def child(error):
    return [ChildSpec(raise_later, error, restart="permanent")], trio.sleep_forever


async def agent_at_once(error):
    agent = Agent(int, name="agent")
    return [agent], lambda: agent.get(lambda _: raise_it(error))


async def agent_in_turn(error):
    agent = Agent(int, name="agent")
    return [agent], lambda: agent.get(lambda _: raise_later(error))


async def isolated_task(error):
    tasks = TaskSupervisor(name="tasks")

    async def use():
        await tasks.async_nolink(raise_later, error)

    return [tasks], use


async def stream_item(error):
    async def use():
        async with Task.async_stream([error], raise_later) as results:
            async for _ in results:
                pass

    return [], use


async def agent_init(error):
    return [Agent(raise_it, error)], trio.sleep_forever


PLACES = [child, agent_at_once, agent_in_turn, isolated_task, stream_item, agent_init]


@pytest.mark.conforms("CASE-83", "REVIEW-8")
@pytest.mark.parametrize("error", LEAVING, ids=repr)
@pytest.mark.parametrize("place", PLACES)
def test_it_leaves_alone(place, error, caplog):
    """Wherever it comes up, it ends the tree in order, leaves run by itself, and restarts nothing."""
    log = []

    async def main():
        children, use = await place(error)
        async with Supervisor([service(log, "a"), service(log, "b"), *children], name="sup"):
            await use()

    caplog.set_level(logging.ERROR, "trio_otp")
    with pytest.raises(type(error)) as caught:
        trio.run(main)
    assert getattr(caught.value, "code", 3) == 3
    assert log == ["start a", "start b", "stop b", "stop a"]
    assert not caplog.records


@pytest.mark.conforms("CASE-83")
@pytest.mark.parametrize("error", LEAVING, ids=repr)
def test_start_that_it_ends(error):
    """A supervisor whose last child never started does not become ready: no body runs."""
    told = []

    async def main():
        with subscribe(told.append):
            async with Supervisor([Agent(int), Agent(raise_it, error)]):
                pytest.fail("the body must not run")

    with pytest.raises(type(error)):
        trio.run(main)
    assert [type(event.process) for event in told if isinstance(event, Ready)] == [Agent]


@pytest.mark.conforms("CASE-83")
@pytest.mark.parametrize("error", LEAVING, ids=repr)
def test_others_hear_of_it(error):
    """Who waits for the process in which it came up is told that it ended; nothing is kept as a result."""
    heard = []

    async def main():
        agent = Agent(int)

        async def ask():
            try:
                await agent.get()
            except CallFailed as gone:
                heard.append(type(gone))
                raise

        async with trio.open_nursery() as nursery, Supervisor([agent], name="sup"):
            with trio.CancelScope(shield=True):
                agent.cast(lambda _: raise_later(error))
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
        assert agent.last_exit.error is None

    with pytest.raises(BaseException) as caught:
        trio.run(main)
    leaves = getattr(caught.value, "exceptions", [caught.value])
    assert any(isinstance(leaf, type(error)) for leaf in leaves)


@pytest.mark.conforms("REVIEW-8")
def test_exit_beside_failures(caplog):
    """An exit among failures keeps its code; the failures are in the log."""

    async def failing():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in the cleanup")

    async def main():
        async with Task(failing):
            await trio.testing.wait_all_tasks_blocked()
            raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        trio.run(main)
    assert caught.value.code == 3
    assert "ValueError: in the cleanup was not raised" in caplog.text
