"""Scenarios that were run on the original's GenServer: the same events in the same order here.

Where the original says why a server ended, ours has four words: a `boom` there is a crash here.
"""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_gen_server import Oops, Run, add, fail, get, put, slow, supervised
from trio_otp import (
    TIMEOUT,
    BadReturn,
    Exited,
    ExitProcess,
    Ignore,
    NoReply,
    NotRunning,
    Reply,
    Start,
    StartFailed,
    Stop,
    Supervisor,
    TaskSupervisor,
    TimedOut,
)


class Oracle(Run):
    """Logs in the words of the original."""

    def take(self):
        said, self.log = " | ".join(map(str, self.log)), []
        return said

    def handle_info(self, message, state):
        if callable(message):
            return message(state)
        self.log.append(f"info {message}")
        return NoReply(state)

    def handle_continue(self, arg, state):
        self.log.append(f"continue {arg}")
        return NoReply(state)

    def terminate(self, exit, state):
        self.log.append(f"terminate {exit.reason} state={state}")
        if state == "bad":
            raise Oops("in terminate")


def logging(server, what, **then):
    return lambda caller, state: server.log.append(what) or Reply("ok", state, **then)


# --- start ---------------------------------------------------------------------------------------


def raising(error):
    def init():
        raise error

    return init


STARTS = {
    "ok": (lambda: 1, "started"),
    "timeout": (lambda: Start(1, timeout=0.01), "started"),
    "ignore": (raising(Ignore()), "ignored"),
    "stop": (raising(ExitProcess("shutdown")), "failed: None"),
    "garbage": (lambda: NoReply(1), "failed: BadReturn"),
    "raises": (raising(Oops()), "failed: Oops"),
}


@pytest.mark.parametrize("case", STARTS)
@pytest.mark.conforms("GS-013", "GS-014", "GS-015", "GS-016", "GS-018", "GS-019", "GS-049")
async def test_start(autojump_clock, case):
    """What init does decides how the start ends; terminate is not called if it failed."""
    init, outcome = STARTS[case]
    server = Oracle(init)
    try:
        async with Supervisor([server], auto_shutdown="never"):
            seen = "started" if server.status == "running" else "ignored"
            await trio.sleep(0.04)
            timeouts = server.take()
    except StartFailed as error:
        seen, timeouts = f"failed: {type(error.__cause__).__name__}", server.take()
        seen = seen.replace("NoneType", "None")
    assert seen == outcome
    assert timeouts == (f"info {TIMEOUT}" if case == "timeout" else "")


# --- continue --------------------------------------------------------------------------------------


@pytest.mark.conforms("GS-046")
async def test_continue_before_what_was_queued():
    """continue first | info early."""

    def init():
        server.send("early")
        return Start(1, continue_="first")

    server = Oracle(init)
    async with server:
        await server.call(get)
        assert server.take() == "continue first | info early"


@pytest.mark.conforms("GS-036", "GS-046")
async def test_continue_after_a_call():
    """in call | continue after_reply | next call."""
    async with Oracle(1) as server:
        await server.call(logging(server, "in call", continue_="after_reply"))
        await server.call(logging(server, "next call"))
        assert server.take() == "in call | continue after_reply | next call"


# --- timeout ---------------------------------------------------------------------------------------


@pytest.mark.conforms("GS-048")
async def test_message_cancels_the_timeout(autojump_clock):
    """info ping, and no time-out after it."""
    async with Oracle(1) as server:
        await server.call(put(1, timeout=0.04))
        await trio.sleep(0.02)
        server.send("ping")
        await trio.sleep(0.06)
        assert server.take() == "info ping"


@pytest.mark.conforms("GS-050")
async def test_timeout_of_zero_with_a_queued_message(autojump_clock):
    """info queued, and no time-out."""
    async with Oracle(1) as server:
        server.cast(lambda s: server.send("queued") or NoReply(s, timeout=0))
        await trio.sleep(0.02)
        assert server.take() == "info queued"


# --- stop ------------------------------------------------------------------------------------------


@pytest.mark.conforms("GS-037")
async def test_stop_with_a_reply():
    """terminate normal state=s2 | caller got the_reply; the server is gone afterwards."""
    async with Oracle("s") as server:
        reply = await server.call(lambda c, s: Stop("normal", "s2", reply="the_reply"))
        server.log.append(f"caller got {reply}")
        assert server.take() == "terminate normal state=s2 | caller got the_reply"
        with pytest.raises(NotRunning):
            await server.call(get)


@pytest.mark.conforms("GS-038")
async def test_stop_without_a_reply():
    """The caller's call ends with the server's reason, whatever it is, and its detail."""
    async with Oracle("s") as server:
        with pytest.raises(Exited) as caught:
            await server.call(lambda c, s: Stop("normal", s))
    assert caught.value.exit.reason == "normal"
    async with Oracle("s") as server:
        with pytest.raises(Exited) as caught:
            await server.call(lambda c, s: raising(ExitProcess("shutdown", 1))())
    assert (caught.value.exit.reason, caught.value.exit.detail) == ("shutdown", 1)


@pytest.mark.conforms("GS-037", "GS-065")
async def test_stop_with_a_bad_terminate():
    """The reply still arrives; the exit is what terminate raised."""
    server = Oracle("bad", restart="temporary")
    async with supervised(server):
        assert await server.call(lambda c, s: Stop("normal", s, reply="the_reply")) == "the_reply"
        assert type((await server.wait()).error) is Oops


# --- crashes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "error", "reason"),
    [
        (fail, Oops, "crashed"),
        (lambda c, s: raising(ExitProcess("shutdown"))(), None, "shutdown"),
        (lambda c, s: "what", BadReturn, "crashed"),
    ],
    ids=["raise", "exit", "garbage"],
)
@pytest.mark.conforms("GS-040", "GS-041", "GS-060")
async def test_crash_in_a_callback(handler, error, reason):
    """Server and caller end with the same reason, after terminate with the last good state."""
    server = Oracle("s", restart="temporary")
    async with supervised(server):
        with pytest.raises(Exited) as caught:
            await server.call(handler)
        assert caught.value.exit.reason == server.last_exit.reason == reason
        assert type(caught.value.__cause__) is (error or type(None))
        assert server.take() == f"terminate {reason} state=s"


# --- calls -----------------------------------------------------------------------------------------


@pytest.mark.conforms("GS-022", "GS-023")
async def test_timeout_of_a_call(autojump_clock):
    """The late reply goes nowhere; the server did the work."""

    async def late(caller, state):
        await trio.sleep(0.06)
        caller.reply("late")
        return NoReply(state + 1)

    async with Oracle(0) as server:
        with pytest.raises(TimedOut):
            await server.call(late, timeout=0.01)
        await trio.sleep(0.15)
        assert await server.call(get) == 1


@pytest.mark.conforms("GS-024", "GS-025", "GS-027", "GS-042")
async def test_calls_that_cannot_be_answered(autojump_clock):
    """A server that dies meanwhile, one that is dead, one that never was: each fails at once."""
    server = Oracle(0, restart="temporary")
    async with supervised(server), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def kill_it():
            await trio.sleep(0.01)
            server.kill()

        with pytest.raises(Exited) as caught:
            await server.call(slow(60, get), timeout=5)
        assert (caught.value.exit.reason, trio.current_time()) == ("killed", 0.01)
        for nobody in (server, Oracle(0)):
            with pytest.raises(NotRunning):
                await nobody.call(get)
            assert nobody.cast("x") is None
        assert trio.current_time() == 0.01


@pytest.mark.conforms("GS-030")
async def test_one_sender_stays_in_order():
    """cast 1 | cast 2 | cast 3 | call."""
    async with Oracle(0) as server:
        for n in (1, 2, 3):
            server.cast(server.note(f"cast {n}"))
        await server.call(logging(server, "call"))
        assert server.take() == "cast 1 | cast 2 | cast 3 | call"


@pytest.mark.parametrize("pause", [0, 0.02])
@pytest.mark.conforms("GS-032")
async def test_two_replies(autojump_clock, pause):
    """The caller gets the first one; where the second went astray there, here it is an error."""

    async def twice(caller, state):
        caller.reply("one")
        await trio.sleep(pause)
        with pytest.raises(RuntimeError):
            caller.reply("two")
        return NoReply(state)

    async with Oracle(0) as server:
        assert await server.call(twice) == "one"
        assert await server.call(get) == 0


# --- GenServer.stop ----------------------------------------------------------------------------------


@pytest.mark.conforms("GS-053", "GS-055", "GS-057")
async def test_stop():
    """stop runs terminate, and says how it ended; where it is normal there, here it is shutdown."""
    async with Oracle("s") as server:
        assert (await server.stop()).reason == "shutdown"
        assert server.take() == "terminate shutdown state=s"
    server = Oracle("bad", restart="temporary")
    async with supervised(server):
        assert type((await server.stop()).error) is Oops


@pytest.mark.conforms("GS-054", "GS-064")
async def test_stop_and_the_backlog(autojump_clock):
    """Where the queue was handled first there, here the stop overtakes all but the one under way."""
    async with Oracle("s") as server:
        for n in (1, 2, 3):
            server.cast(slow(0.005, server.note(f"cast {n}")))
        await wait_all_tasks_blocked()
        await server.stop()
        assert server.take() == "cast 1 | terminate shutdown state=s"


@pytest.mark.parametrize("backlog", [3, 30])
@pytest.mark.conforms("GS-061", "GS-064")
async def test_shutdown_and_the_backlog(autojump_clock, backlog):
    """A supervisor's shutdown takes no longer for a long queue, and terminate runs in any case."""
    server = Oracle(0, shutdown=0.1)
    async with Supervisor([server]) as supervisor:
        for _ in range(backlog):
            server.cast(slow(0.01, add(1)))
        await wait_all_tasks_blocked()
        await supervisor.terminate_child(server)
        assert trio.current_time() == 0
        assert server.last_exit.reason == "shutdown"
        assert server.take() == "terminate shutdown state=0"


# --- the end of a parent -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["normal", "shutdown", "boom"])
@pytest.mark.conforms("GS-005", "GS-060", "GS-062")
async def test_parent_exit(end):
    """However the parent ends, terminate runs, as for one that traps exits there."""
    server = Oracle("s")

    async def parent():
        async with server:
            if end != "normal":
                raise ExitProcess("shutdown") if end == "shutdown" else Oops

    async with TaskSupervisor() as tasks:
        await tasks.start_child(parent).wait()
    assert server.take() == "terminate shutdown state=s"
    assert server.last_exit.reason == "shutdown"
