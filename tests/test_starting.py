"""Homes: how a life begins, what a failed start raises, and who owns a handle."""

import pytest
import trio
import trio.testing

from trio_otp import (
    Agent,
    AlreadyRunning,
    ChildSpec,
    Exited,
    ExitProcess,
    Ignore,
    NotRunning,
    StartFailed,
    Supervisor,
    Task,
    TaskSupervisor,
)


def broken():
    raise OSError("no such file")


def declining():
    raise Ignore


async def not_ready(*, task_status):
    pass


async def hanging(*, task_status):
    await trio.sleep_forever()


async def in_block(process):
    async with process:
        pytest.fail("the body must not run")


async def in_nursery(process):
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(process.run)
        finally:
            nursery.cancel_scope.cancel()


async def in_supervisor(process):
    await in_block(Supervisor([process]))


async def test_nursery_gives_the_handle(nursery):
    """nursery.start(process.run) comes back when the process is ready, with the process."""
    agent = Agent(dict)
    assert await nursery.start(agent.run) is agent
    assert agent.status == "running"
    await agent.stop()


async def test_start_soon_works_too(autojump_clock, nursery):
    """A home that does not wait for readiness is a home as well."""
    agent = Agent(dict)
    nursery.start_soon(agent.run)
    await trio.testing.wait_all_tasks_blocked()
    assert await agent.get() == {}
    await agent.stop()


@pytest.mark.parametrize("home", [in_block, in_nursery])
async def test_failed_start_is_bare(home):
    """A block and a nursery raise the error of init as it is."""
    with pytest.raises((OSError, ExceptionGroup)) as caught:
        await home(Agent(broken))
    error = caught.value
    assert isinstance(error, OSError) or isinstance(error.exceptions[0], OSError)


async def test_failed_start_in_a_supervisor():
    """A supervisor says which child did not start, from its own error."""
    with pytest.raises(StartFailed, match="Supervisor/state failed to start") as caught:
        await in_supervisor(Agent(broken, name="state"))
    assert caught.value.id == "state"
    assert isinstance(caught.value.__cause__, OSError)


async def test_return_before_ready():
    """Who returns without having said that it is ready has not started."""
    with pytest.raises(StartFailed, match="returned before it was ready"):
        await in_block(Task(not_ready))
    with pytest.raises(StartFailed, match="ended before it was ready"):
        await in_supervisor(ChildSpec(not_ready).start)


async def test_declining_to_start():
    """Ignore leaves a block nobody to run for; to a supervisor it is a start like any other."""
    with pytest.raises(NotRunning, match="declined to start"):
        await in_block(Agent(declining))
    agent = Agent(declining, name="i")
    async with Supervisor([agent]) as sup:
        assert [info.status for info in sup.children] == ["stopped"]


@pytest.mark.parametrize("reason", ["normal", "shutdown"])
async def test_exit_before_ready(reason):
    """An exit before readiness is no failure, and no start."""

    def leave():
        raise ExitProcess(reason)

    with pytest.raises(NotRunning, match=f"declined to start: {reason}"):
        await in_block(Agent(leave))


async def test_cancelled_while_starting(autojump_clock):
    """A start that is cancelled ends the life, its cleanup included, and lets the cancellation through."""
    done = []

    async def slow(*, task_status):
        try:
            await trio.sleep_forever()
        finally:
            done.append(trio.current_time())

    task = Task(slow)
    with trio.move_on_after(2) as scope:
        await in_block(task)
    assert scope.cancelled_caught
    assert (done, task.status) == ([2], "stopped")


async def test_stopped_while_starting(autojump_clock, nursery):
    """A process that is stopped in its start leaves nobody to run the body for."""
    task = Task(hanging)

    async def stop():
        await trio.sleep(1)
        await task.stop()

    nursery.start_soon(stop)
    with pytest.raises(NotRunning):
        await in_block(task)


async def test_one_home_at_a_time():
    """A handle that has a home is refused by every other."""
    agent = Agent(dict)
    async with agent:
        for home in (in_block, in_supervisor):
            with pytest.raises(AlreadyRunning, match="has a home already"):
                await home(agent)
        with pytest.raises(AlreadyRunning):
            await agent.run()
        assert await agent.get() == {}


async def test_one_home_after_the_other():
    """A handle whose life is over may live again, in any home."""
    agent = Agent(list)
    for _ in range(2):
        async with agent:
            assert await agent.apply(lambda state: state.append(1) or len(state)) == 1
    async with Supervisor([agent]):
        assert await agent.get() == []


def test_claim_of_a_run_that_is_over():
    """A claim that a finished run has left does not count."""
    agent = Agent(dict)
    homes = []

    async def claim():
        async with agent:
            homes.append(agent._home)
        agent._home = homes[0]  # as after a run that broke down

    async def use():
        async with agent:
            return await agent.get()

    trio.run(claim)
    assert trio.run(use) == {}


async def test_task_of_an_asker_has_a_home_for_good(nursery):
    """A task that was asked for had its life; its handle cannot be run again."""
    task = Task.async_(nursery, trio.lowlevel.checkpoint)
    await task
    with pytest.raises(RuntimeError, match="has had its only life"):
        await task.run()


async def test_killed_process_fails_its_block(autojump_clock):
    """A kill is a failure of the block; a stop leaves the body running."""
    agent = Agent(dict)
    async with agent:
        await agent.stop()
        await trio.sleep(1)
    with pytest.raises(Exited) as caught:
        async with agent:
            agent.kill()
            await trio.sleep_forever()
    assert caught.value.exit.reason == "killed"


@pytest.mark.conforms("REVIEW-2")
async def test_blocks_end_in_reverse(autojump_clock):
    """Under an outer cancellation the body ends first, then the innermost process; 50 times of 50."""
    for _ in range(50):
        log = []

        def service(name, log=log):
            async def serve():
                try:
                    await trio.sleep_forever()
                finally:
                    log.append(name)

            return Task(serve)

        with trio.CancelScope() as scope:
            async with Agent(dict) as agent, service("db"), service("cache"), service("web"):
                try:
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        log.append(await agent.get())
        assert log == [{}, "web", "cache", "db"]


@pytest.mark.conforms("REVIEW-1")
@pytest.mark.parametrize("failing", [True, False])
async def test_stop_that_is_broken_off(autojump_clock, caplog, monkeypatch, failing):
    """An error in the stopping code leaves the block; one of the body is in the log then."""
    agent = Agent(dict)

    async def break_off():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        async with agent:
            monkeypatch.setattr(type(agent), "_stopped", lambda _: break_off())
            if failing:
                raise ValueError("of the body")
    assert ("ValueError: of the body was not raised" in caplog.text) == failing
    assert agent.status == "stopped"


@pytest.mark.conforms("REVIEW-12")
@pytest.mark.parametrize("home", [Agent(dict), Supervisor([trio.sleep_forever]), TaskSupervisor()])
async def test_failing_cleanup_under_a_cancellation(autojump_clock, home):
    """An error in the cleanup of a body that was cancelled leaves bare: it counts, not the cancellation."""
    with pytest.raises(ValueError, match="in the cleanup"), trio.move_on_after(1) as scope:
        async with home:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("in the cleanup")
    assert not scope.cancelled_caught
    assert home.status == "stopped"


async def test_crash_and_its_echo(autojump_clock):
    """A crash leaves its block alone, though a caller in it got Exited from that crash."""
    with pytest.raises(ZeroDivisionError):
        async with Agent(int) as agent:
            with trio.CancelScope(shield=True):
                await agent.get(lambda state: 1 // state)


@pytest.mark.conforms("REVIEW-5")
async def test_context_of_a_crash(autojump_clock):
    """What the caller was handling is not in the crash of the function that it had run."""

    def fail(state):
        try:
            raise KeyError("of the function")
        except KeyError:
            raise ValueError  # noqa: B904  # its context is what this is about

    agent = Agent(int)
    async with Supervisor([agent.child_spec(restart="temporary")]):
        try:
            raise LookupError("of the caller")
        except LookupError:
            with pytest.raises(Exited):
                await agent.get(fail)
    error = agent.last_exit.error
    assert isinstance(error.__context__, KeyError)
    assert error.__context__.__context__ is None
