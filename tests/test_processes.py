"""What all processes have in common: how they end, and what may be known about them."""

import contextvars

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_otp import (
    Agent,
    AlreadyRunning,
    ExitProcess,
    GenServer,
    NoReply,
    Reply,
    Supervisor,
    Task,
    TaskSupervisor,
    observe,
    trap_exit,
)


class Holder(GenServer[int]):
    """A server with nothing but a state."""

    def init(self):
        return 0

    def handle_call(self, request, caller, state):
        return Reply(state, state)

    def handle_info(self, message, state):
        return NoReply(state + 1)


async def forever():
    await trio.sleep_forever()


@pytest.mark.conforms("PROC-002", "PROC-006")
async def test_ending_oneself(autojump_clock):
    """ExitProcess ends the process that raises it, with its reason, and can be caught there."""

    async def leave(reason):
        try:
            raise ExitProcess("shutdown")
        except ExitProcess:
            await trio.sleep(1)
        raise ExitProcess(reason)

    for reason in ("normal", "shutdown"):
        async with Task(leave, reason) as task:
            assert (await task.wait()).reason == reason


@pytest.mark.conforms("PROC-003", "PROC-004", "PROC-011")
@pytest.mark.parametrize(("ask", "seen"), [("stop", ["told"]), ("kill", [])])
async def test_who_traps_is_told_and_who_is_killed_is_not(autojump_clock, ask, seen):
    """A stop tells a process that traps exits; a kill ends it all the same."""
    steps = []

    async def trapping():
        with trap_exit() as exiting:
            await exiting.wait()
            steps.append("told")

    async with Supervisor([Task(trapping)]) as sup:
        await wait_all_tasks_blocked()
        process = sup.children[0].process
        if ask == "stop":
            await process.stop()
        else:
            process.kill()
            await process.wait()
    assert steps == seen
    assert process.last_exit.reason == ("shutdown" if ask == "stop" else "killed")


@pytest.mark.conforms("PROC-004")
async def test_who_does_not_trap_ends_at_once(autojump_clock):
    """A stop ends a process that does not trap exits, with that reason."""
    async with Task(forever) as task:
        assert (await task.stop()).reason == "shutdown"


@pytest.mark.conforms("PROC-021", "PROC-022", "PROC-023", "PROC-045", "PROC-027")
@pytest.mark.parametrize("make", [lambda: Agent(int, name="it"), lambda: Holder(name="it")])
async def test_what_is_known_of_a_process(autojump_clock, make):
    """Its name and where it stands are known at any time, also before its start and after its end."""
    process = make()
    assert (process.name, process.status, observe(process).current) == ("it", "new", None)
    async with process:
        info = observe(process)
        assert (info.name, info.status, info.last_exit) == ("it", "running", None)
    info = observe(process)
    assert (info.name, info.status, info.last_exit.reason) == ("it", "stopped", "shutdown")
    async with make():
        pass  # a name is a label, and free


@pytest.mark.conforms("PROC-023", "PROC-045")
def test_names_given_and_not_given():
    """A process without a name is called after what it runs."""
    assert [process.name for process in (Agent(int), Holder(), Task(forever))] == [
        "Agent(int)",
        "Holder",
        "forever",
    ]


@pytest.mark.conforms("PROC-013")
async def test_waiting_is_a_monitor(autojump_clock):
    """Anybody may wait for the end of a process, without being hurt by it."""

    async def fail():
        await trio.sleep(3)
        raise ValueError

    async with Supervisor([Task(fail)]) as sup:
        exit = await sup.children[0].process.wait()
    assert (exit.reason, trio.current_time()) == ("crashed", 3)


# --- links, names, variables --------------------------------------------------------------


@pytest.mark.conforms("PROC-007", "PROC-008")
async def test_failure_ends_its_siblings():
    """A linked process that fails ends its nursery, and so those that share it."""
    sibling = Holder()
    with pytest.RaisesGroup(ValueError):
        async with trio.open_nursery() as nursery:
            await nursery.start(sibling.run)
            Task.async_(nursery, failing)
            await trio.sleep_forever()
    assert sibling.last_exit.reason == "shutdown"


async def failing():
    raise ValueError


@pytest.mark.conforms("PROC-008")
async def test_normal_end_hurts_nobody(autojump_clock):
    """A linked process that ends in peace leaves its nursery and its siblings running."""
    async with trio.open_nursery() as nursery, Holder() as sibling:
        await Task.async_(nursery, trio.sleep, 1)
        await trio.sleep(1)
        assert sibling.status == "running"


@pytest.mark.conforms("PROC-024", "PROC-027")
async def test_handle_is_free_when_the_end_is_seen():
    """A handle that runs is refused to another home; who saw its end may start it again at once."""
    server = Holder()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            await nursery.start(server.run)
            with pytest.raises(AlreadyRunning):
                await server.run()
            nursery.start_soon(server.stop)
            await server.wait()


@pytest.mark.conforms("PROC-028", "PROC-043")
async def test_all_that_run():
    """A snapshot of all processes has those that run, and none that have ended."""
    async with Holder(name="till") as server, TaskSupervisor(name="jobs") as tasks:
        job = tasks.start_child(trio.sleep_forever, name="job")
        assert {info.name for info in observe()} == {"till", "jobs"}
        assert [child.name for child in observe(tasks).children] == ["job"]
        await job.stop()
        await server.stop()
        assert {info.name for info in observe()} == {"jobs"}
        assert observe(tasks).children == ()
        await tasks.stop()


@pytest.mark.conforms("PROC-040")
async def test_variables_of_a_process():
    """A process has a copy of its home's context variables; what it sets there is its own."""
    variable = contextvars.ContextVar("variable", default="nothing")
    variable.set("home's")
    async with Agent(lambda: None) as one, Agent(lambda: None) as other:
        await one.get(lambda _: variable.set("one's"))
        assert await one.get(lambda _: variable.get()) == "one's"
        assert await other.get(lambda _: variable.get()) == "home's"
    assert variable.get() == "home's"
