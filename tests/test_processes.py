"""What all processes have in common: how they end, and what may be known about them."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_otp import (
    Agent,
    ExitProcess,
    GenServer,
    NoReply,
    Reply,
    Supervisor,
    Task,
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
