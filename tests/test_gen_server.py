"""GenServer: handlers, what they return, and everything that may be sent to a server."""

import contextlib
import math

import pytest
import trio
import trio.lowlevel
from trio.testing import Sequencer, wait_all_tasks_blocked

from trio_otp import (
    TIMEOUT,
    Agent,
    AlreadyRunning,
    Backoff,
    BadReturn,
    CalledItself,
    ChildSpec,
    Down,
    Exited,
    ExitProcess,
    GenServer,
    Ignore,
    MailboxFull,
    NoReply,
    NotRunning,
    Reply,
    Request,
    Start,
    StartFailed,
    Stop,
    Supervisor,
    Task,
    TimedOut,
    current_process,
    observe,
    subscribe,
)


class Scripted(GenServer):
    """A server whose handlers are given as functions, and that writes down what happens."""

    def __init__(self, first=0, **handlers):
        options = {name: handlers.pop(name) for name in ("timeout", "shutdown") if name in handlers}
        super().__init__(name="scripted", **options)
        self.first = first
        self.handlers = handlers
        self.log = []

    def run_handler(self, kind, *args):
        self.log.append((kind, *(arg for arg in args if not hasattr(arg, "reply"))))
        return self.handlers[kind](*args)

    def init(self):
        return self.first() if callable(self.first) else self.first

    def handle_call(self, request, caller, state):
        return self.run_handler("call", request, caller, state)

    def handle_cast(self, request, state):
        return self.run_handler("cast", request, state)

    def handle_info(self, message, state):
        return self.run_handler("info", message, state)

    def handle_continue(self, arg, state):
        return self.run_handler("continue_", arg, state)

    def terminate(self, exit, state):
        self.log.append(("terminate", exit.reason, state))
        return self.handlers.get("terminate", lambda _exit, _state: None)(exit, state)


def echo(request, caller, state):
    return Reply(request, state)


def keep(message, state):
    return NoReply(state)


class Stack(GenServer[tuple]):
    """The usual example, with functions for its clients."""

    def init(self):
        return ()

    async def pop(self):
        return await self.call(Pop())

    def push(self, item):
        self.cast(item)

    def handle_call(self, request, caller, state):
        return Reply(state[-1], state[:-1])

    def handle_cast(self, request, state):
        return NoReply((*state, request))


class Pop(Request[str]):
    """Take the newest item."""


# --- start -------------------------------------------------------------------------------


@pytest.mark.conforms("GS-004", "GS-013", "GS-020", "GS-033", "GS-043")
async def test_stack():
    """Calls answer, casts change the state, and functions for clients are methods."""
    async with Stack() as stack:
        stack.push("a")
        stack.push("b")
        assert [await stack.pop(), await stack.pop()] == ["b", "a"]


@pytest.mark.conforms("GS-001", "GS-002")
def test_child_spec():
    """Its spec is permanent with five seconds, unless its class or its caller says otherwise."""

    class Other(Stack, restart="transient", shutdown=1.0):
        pass

    assert (Stack()._restart(), Stack()._shutdown()) == ("permanent", 5.0)
    assert (Other()._restart(), Other()._shutdown()) == ("transient", 1.0)
    assert Stack().child_spec(id="x", restart="temporary").id == "x"


@pytest.mark.conforms("GS-003")
def test_init_must_be_defined():
    """A class without init is refused when it is instantiated, and told what it lacks."""
    with pytest.raises(TypeError, match=r"GenServer must define init\(self\)"):
        GenServer()


@pytest.mark.conforms("GS-005")
async def test_ends_with_its_home(autojump_clock):
    """It ends with the scope that owns it, cleanup included, however that scope ends."""
    for error in (contextlib.nullcontext(), pytest.raises(ValueError, match="home")):
        server = Scripted(7)
        with error:
            async with server:
                if not isinstance(error, contextlib.nullcontext):
                    raise ValueError("home")
        assert server.log == [("terminate", "shutdown", 7)]
        assert server.last_exit.reason == "shutdown"


@pytest.mark.conforms("GS-007")
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": 7}, TypeError),
        ({"timeout": "x"}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"mailbox": 0}, ValueError),
        ({"overflow": "x"}, ValueError),
        ({"restart": "x"}, ValueError),
        ({"shutdown": "x"}, ValueError),
    ],
)
def test_bad_options(options, error):
    """A wrong option is refused when the server is built, by its name."""
    with pytest.raises(error, match=next(iter(options))):
        GenServer(**options)


@pytest.mark.conforms("GS-010")
async def test_init_that_hangs(autojump_clock):
    """An init that takes longer than start_timeout is cancelled, and the start fails."""
    cleaned = []

    class Slow(GenServer):
        async def init(self):
            try:
                await trio.sleep_forever()
            finally:
                cleaned.append(trio.current_time())

    with pytest.raises(StartFailed):
        async with Supervisor([ChildSpec(Slow(), start_timeout=3)]):
            pass
    assert cleaned == [3]


@pytest.mark.conforms("GS-014", "GS-046", "GS-036", "GS-047")
async def test_continue_runs_before_any_message(autojump_clock):
    """What init or a handler continues with runs before what was queued earlier, and may chain."""

    def go_on(arg, state):
        return NoReply(state, continue_=arg - 1) if arg else NoReply(state)

    def call(request, caller, state):
        return Reply(len(server.log), state, continue_=1)

    server = Scripted(lambda: Start(0, continue_=1), continue_=go_on, call=call, cast=keep)
    seen = []
    async with server:
        seen.append(server.status)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.call, "x")
            server.cast("y")
    assert seen == ["running"]
    kinds = [entry[:2] for entry in server.log]
    assert kinds[:2] == [("continue_", 1), ("continue_", 0)]
    at = kinds.index(("call", "x"))
    assert kinds[at : at + 3] == [("call", "x"), ("continue_", 1), ("continue_", 0)]


@pytest.mark.conforms("GS-036")
async def test_the_answer_comes_before_the_continue(autojump_clock):
    """A caller has its answer before handle_continue has ended."""

    async def slow(arg, state):
        await trio.sleep(5)
        return NoReply(state)

    def call(request, caller, state):
        return Reply("answer", state, continue_="slow")

    async with Scripted(call=call, continue_=slow) as server:
        assert await server.call("x") == "answer"
        assert trio.current_time() == 0


@pytest.mark.conforms("GS-015")
async def test_ignore_in_init():
    """An init that raises Ignore declines to start; a supervisor goes on without it."""

    def decline():
        raise Ignore

    server = Scripted(decline)
    async with Supervisor([server]) as sup:
        assert [child.status for child in sup.children] == ["stopped"]
    assert server.log == []
    with pytest.raises(NotRunning, match="declined"):
        async with Scripted(decline):
            pass


@pytest.mark.conforms("GS-016", "GS-019", "GS-009")
async def test_init_that_fails():
    """An error in init comes out of the start, bare and once, and terminate is not called."""

    def fail():
        raise ValueError("init")

    server = Scripted(fail)
    with pytest.raises(ValueError, match="init"):
        async with server:
            pass
    assert server.log == []
    with pytest.raises(StartFailed) as info:
        async with Supervisor([server]):
            pass
    assert isinstance(info.value.__cause__, ValueError)


@pytest.mark.conforms("GS-017", "GS-018")
@pytest.mark.parametrize("result", [Reply(1, 2), NoReply(1), Stop("normal", 1)])
async def test_bad_return_of_init(result):
    """What only the other handlers may return is refused from init."""
    with pytest.raises(BadReturn, match=r"init must return the state or Start\(state\), got"):
        async with Scripted(lambda: result):
            pass


# --- call --------------------------------------------------------------------------------


@pytest.mark.conforms("GS-021")
@pytest.mark.parametrize(
    ("limit", "error"), [("5", TypeError), (-1, ValueError), (math.nan, ValueError)]
)
async def test_bad_limits(limit, error):
    """A limit is a number of seconds, at least 0, or None."""
    async with Scripted(call=echo) as server:
        with pytest.raises(error, match="timeout"):
            await server.call("x", timeout=limit)
        assert await server.call("x", timeout=None) == "x"


@pytest.mark.conforms("GS-022", "GS-023", "GS-029")
async def test_call_that_takes_too_long(autojump_clock):
    """A call that is out of time leaves the server at its work; the late answer goes nowhere."""

    async def slow(request, caller, state):
        await trio.sleep(request)
        return Reply(request, state + 1)

    async with Scripted(call=slow) as server:
        with pytest.raises(TimedOut) as info:
            await server.call(10)
        assert info.value.process is server
        assert trio.current_time() == 5
        with trio.move_on_after(1):
            await server.call(3)  # is withdrawn: its handler had not been called
        assert await server.call(0, timeout=None) == 0
        assert [entry[1] for entry in server.log] == [10, 0]


@pytest.mark.conforms("GS-024", "GS-056")
async def test_server_that_calls_itself(autojump_clock):
    """A handler that calls its own server is refused at once; one that stops it is cancelled."""

    async def call(request, caller, state):
        if request == "call":
            with pytest.raises(CalledItself):
                await server.call("x")
            return Reply("refused", state)
        await server.stop()

    async with Scripted(call=call) as server:
        assert await server.call("call") == "refused"
        with pytest.raises(Exited):
            await server.call("stop")
        assert server.last_exit.reason == "shutdown"


@pytest.mark.conforms("GS-025", "GS-055", "GS-042", "PROC-030")
async def test_server_that_does_not_run():
    """Calls to a server that does not run fail at once; casts and messages do nothing, and count."""
    server = Scripted(call=echo)
    for when in ("before", "after"):
        with pytest.raises(NotRunning):
            await server.call("x")
        if when == "before":
            with pytest.raises(NotRunning):
                await server.stop()
        server.cast("x")
        server.send("x")
        assert server.send_after(1, "x").remaining is None
        async with server:
            pass
    assert observe(server).dropped_casts == 4


@pytest.mark.conforms("GS-027", "GS-038", "GS-028")
@pytest.mark.parametrize(
    ("reason", "told"),
    [("normal", "normal"), ("shutdown", "shutdown"), (ValueError("own"), "crashed")],
)
async def test_end_without_an_answer(autojump_clock, reason, told):
    """A server that ends without answering fails the call and all that wait, whatever the reason."""
    answers = []

    async def ask(server):
        try:
            await server.call("x")
        except Exited as gone:
            answers.append((gone.process, gone.exit.reason, gone.__cause__))

    async def stop(request, caller, state):
        await trio.sleep(1)
        return Stop(reason, state)

    server = Scripted(call=stop)
    async with Supervisor([server.child_spec(restart="temporary")]), trio.open_nursery() as nursery:
        nursery.start_soon(ask, server)
        await wait_all_tasks_blocked()
        nursery.start_soon(ask, server)  # stays in the queue
    assert [answer[:2] for answer in answers] == [(server, told)] * 2
    assert [type(answer[2]) for answer in answers] == [
        type(reason) if told == "crashed" else type(None)
    ] * 2
    assert len(server.log) == 2


@pytest.mark.conforms("GS-030", "GS-052")
async def test_messages_of_one_sender_keep_their_order(autojump_clock):
    """Calls, casts and messages of one sender are handled in the order in which they were sent."""

    async def slow(message, state):
        await trio.sleep(1)
        return NoReply(state)

    async with Scripted(call=echo, cast=slow, info=slow) as server:
        server.cast(1)
        server.send(2)
        server.cast(3)
        await server.call(4)
        server.send(5)
        await server.call(6)
        assert [entry[1] for entry in server.log] == [1, 2, 3, 4, 5, 6]


# --- answers that come later ----------------------------------------------------------------


@pytest.mark.conforms("GS-031", "GS-034")
@pytest.mark.parametrize("busy", [False, True])
async def test_answers_from_elsewhere(autojump_clock, busy):
    """Whoever holds the caller may answer, also from another task, also in another order."""
    callers = {}

    def call(request, caller, state):
        callers[request] = caller
        return NoReply(state)

    async def slow(message, state):
        await trio.sleep(0.1)
        return NoReply(state)

    answers = []

    async def ask(server, word):
        answers.append(await server.call(word))

    async with Scripted(call=call, cast=slow) as server, trio.open_nursery() as nursery:
        if busy:
            server.cast("work")
        for word in ("a", "b"):
            nursery.start_soon(ask, server, word)
        await trio.sleep(1)
        callers["b"].reply("for b")
        await wait_all_tasks_blocked()
        callers["a"].reply("for a")
    assert answers == ["for b", "for a"]


async def test_answer_inside_the_handler():
    """A handler may answer by its caller, and go on."""

    def call(request, caller, state):
        caller.reply("early")
        return NoReply(state + 1)

    async with Scripted(call=call) as server:
        assert [await server.call(1), await server.call(2)] == ["early", "early"]
        assert server.log[-1] == ("call", 2, 1)


@pytest.mark.conforms("GS-032")
async def test_second_answers_are_refused(autojump_clock):
    """A call is answered once: a second answer is an error, wherever it comes from."""
    kept = []

    def call(request, caller, state):
        kept.append(caller)
        if request == "both":
            caller.reply(1)
            return Reply(2, state)
        return Reply("first", state)

    server = Scripted(call=call)
    async with Supervisor([server]):
        assert await server.call("x") == "first"
        with pytest.raises(RuntimeError, match="answered twice"):
            kept[0].reply("second")
        assert await server.call("y") == "first"
        assert await server.call("both") == 1
        await wait_all_tasks_blocked()
        assert "answered twice" in str(server.last_exit.error)


@pytest.mark.conforms("GS-031", "GS-035")
async def test_answers_for_those_who_have_left(autojump_clock):
    """An answer for a caller that has left, or to one whose server has ended, does nothing."""
    kept = []

    def call(request, caller, state):
        kept.append(caller)
        return NoReply(state)

    async with Scripted(call=call) as server:
        with pytest.raises(TimedOut):
            await server.call("x", timeout=1)
        kept[0].reply("late")
        async with trio.open_nursery() as nursery:
            seen = []

            async def ask():
                try:
                    await server.call("y", timeout=None)
                except Exited as gone:
                    seen.append(gone.exit.reason)

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            await server.stop()
            kept[1].reply("late")
        assert seen == ["shutdown"]


async def test_calls_can_be_failed():
    """caller.fail raises in the caller alone; the server goes on."""

    def call(request, caller, state):
        caller.fail(KeyError(request))
        return NoReply(state)

    async with Scripted(call=call) as server:
        for word in ("a", "b"):
            with pytest.raises(KeyError, match=word):
                await server.call(word)
        assert server.status == "running"


async def test_fail_takes_an_exception():
    """What is no exception cannot be raised in the caller."""

    def call(request, caller, state):
        with pytest.raises(TypeError, match="error must be an Exception"):
            caller.fail("no")
        return Reply("ok", state)

    async with Scripted(call=call) as server:
        assert await server.call("x") == "ok"


# --- what handlers return, and what they lack ------------------------------------------------


@pytest.mark.conforms("GS-041")
@pytest.mark.parametrize("result", [None, 7, (1, 2), Start(1)])
@pytest.mark.parametrize("wait", [False, True])
async def test_bad_returns(autojump_clock, result, wait):
    """A handler that returns nothing useful ends the server, by an error that names it."""

    async def later(*_):
        await trio.sleep(1)
        return result

    handler = later if wait else lambda *_: result
    server = Scripted(call=handler, cast=handler)
    async with Supervisor([server]):
        with pytest.raises(Exited) as info:
            await server.call("question")
        text = str(info.value.__cause__)
        assert "handle_call must return Reply, NoReply or Stop, got " in text
        assert "'question'" in text
        await wait_all_tasks_blocked()
        server.cast("order")
        await trio.sleep(2)
        assert "handle_cast must return NoReply or Stop" in str(server.last_exit.error)


async def test_replies_to_nobody():
    """A cast has nobody to reply to."""
    server = Scripted(cast=lambda *_: Stop("normal", 0, reply=1))
    async with Supervisor([server]):
        server.cast("x")
        await wait_all_tasks_blocked()
        assert "there is no caller" in str(server.last_exit.error)


@pytest.mark.parametrize("reason", ["boring", None, ValueError])
def test_bad_reasons(reason):
    """A Stop has one of three kinds of reason; another is refused where it is made."""
    with pytest.raises(ValueError, match="reason must be 'normal', 'shutdown' or an exception"):
        Stop(reason, 0)


@pytest.mark.conforms("GS-039", "GS-044", "GS-047")
async def test_handlers_that_are_missing(autojump_clock):
    """A call, cast or continue without a handler ends the server, by an error that says so."""

    class Bare(GenServer):
        def init(self):
            return 0

    class Continuing(Bare):
        def init(self):
            return Start(0, continue_="on")

    bare = Bare()
    async with Supervisor([bare]):
        with pytest.raises(Exited) as info:
            await bare.call("question")
        assert "has no handle_call(request, caller, state)" in str(info.value.__cause__)
        await wait_all_tasks_blocked()
        bare.cast("order")
        await wait_all_tasks_blocked()
        assert "has no handle_cast(request, state)" in str(bare.last_exit.error)
    with pytest.raises(NotImplementedError, match="has no handle_continue"):
        async with Continuing():
            await trio.sleep(1)


@pytest.mark.conforms("GS-045")
async def test_messages_nobody_handles_are_logged(autojump_clock, caplog):
    """A server without handle_info logs what it is sent, and goes on."""
    async with Stack() as stack:
        stack.send("what?")
        stack.push("a")
        assert await stack.pop() == "a"
    assert caplog.messages == ["Stack was sent 'what?', and has no handle_info"]


@pytest.mark.conforms("GS-040", "GS-060", "GS-067")
@pytest.mark.parametrize("wait", [False, True])
async def test_handler_that_raises(autojump_clock, caplog, wait):
    """A handler that raises ends the server; terminate gets the error and the last good state."""

    async def fail(request, caller, state):
        await trio.sleep(1)
        raise ValueError(request)

    def fail_at_once(request, caller, state):
        raise ValueError(request)

    server = Scripted(7, call=fail if wait else fail_at_once)
    async with Supervisor([server]):
        with pytest.raises(Exited) as info:
            await server.call("bad")
        assert str(info.value.__cause__) == "bad"
    assert server.log[:2] == [("call", "bad", 7), ("terminate", "crashed", 7)]
    assert len(caplog.messages) == 1
    assert "scripted crashed: ValueError: bad" in caplog.messages[0]


# --- idle time, timers -------------------------------------------------------------------


@pytest.mark.conforms("GS-048", "GS-049")
async def test_idle_time(autojump_clock):
    """TIMEOUT comes after that much idle time; any message cancels it for good."""
    at = []

    def info(message, state):
        at.append((message, trio.current_time()))
        return NoReply(state)

    def call(request, caller, state):
        return Reply(None, state, timeout=request)

    async with Scripted(lambda: Start(0, timeout=2), call=call, info=info) as server:
        await trio.sleep(10)
        assert at == [(TIMEOUT, 2)]
        await server.call(3)
        await trio.sleep(2)
        server.send("between")
        await trio.sleep(10)
        assert at[1:] == [("between", 12)]
        await server.call(3)
        await server.call(None)
        await trio.sleep(10)
        assert len(at) == 2
        await server.call(5)
        await server.call(1)
        await trio.sleep(10)
        assert at[2:] == [(TIMEOUT, 33)]
    assert repr(TIMEOUT) == "TIMEOUT"


@pytest.mark.conforms("GS-050")
async def test_no_idle_time_at_all(autojump_clock):
    """A timeout of 0 comes only if there is no message at that moment."""

    def call(request, caller, state):
        return Reply(None, state, timeout=0)

    async with Scripted(call=call, info=keep, cast=keep) as server:
        await server.call("a")
        await wait_all_tasks_blocked()
        assert [entry[1] for entry in server.log] == ["a", TIMEOUT]
        server.cast("first")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.call, "b")
            nursery.start_soon(server.call, "c")
        await wait_all_tasks_blocked()
        assert [entry[1] for entry in server.log].count(TIMEOUT) == 2
        assert server.log[-1][1] is TIMEOUT


async def test_bad_idle_time():
    """A timeout that is no number of seconds ends the server, by an error that names it."""
    server = Scripted(call=lambda _request, _caller, state: Reply(1, state, timeout=-1))
    async with Supervisor([server]):
        with pytest.raises(Exited) as info:
            await server.call("x")
        assert "timeout must not be negative" in str(info.value.__cause__)


@pytest.mark.conforms("GS-051", "PROC-031")
async def test_periodic_work(autojump_clock):
    """A timer that is set again in its handler is periodic work."""
    at = []

    class Ticking(GenServer):
        def init(self):
            self.send_after(1, "tick")
            return 0

        def handle_info(self, message, state):
            at.append(trio.current_time())
            self.send_after(1, "tick")
            return NoReply(state + 1)

    async with Ticking():
        await trio.sleep(3.5)
    assert at == [1, 2, 3]


async def test_timers_keep_their_place(autojump_clock):
    """What came due while the server was busy is handled before what was sent after that."""

    async def busy(message, state):
        await trio.sleep(10)
        return NoReply(state)

    async with Scripted(cast=busy, info=keep) as server:
        server.send_after(4, "timer")
        server.cast("work")
        await trio.sleep(2)
        server.send("before")
        await trio.sleep(4)
        server.send("after")
        await trio.sleep(5)
        assert [entry[1] for entry in server.log] == ["work", "before", "timer", "after"]


@pytest.mark.conforms("PROC-034", "PROC-035", "PROC-031")
async def test_timers_can_be_taken_back(autojump_clock):
    """A timer says how long it will take, and whether taking it back was in time."""
    async with Scripted(info=keep) as server:
        first, second = server.send_after(5, "first"), server.send_after(1, "second")
        await trio.sleep(2)
        assert (first.remaining, second.remaining) == (3, None)
        assert (first.cancel(), first.cancel(), second.cancel()) == (True, False, False)
        await trio.sleep(10)
        assert [entry[1] for entry in server.log] == ["second"]


@pytest.mark.conforms("CASE-51", "PROC-033")
async def test_timers_end_with_their_life(autojump_clock):
    """A timer of a life that is over never reaches the next one."""

    def crash(message, state):
        raise ValueError

    async with Supervisor([server := Scripted(cast=crash, info=keep)]):
        timer = server.send_after(5, "old")
        server.cast("crash")
        await trio.sleep(10)
        assert server.status == "running"
        assert timer.remaining is None
        assert [entry[0] for entry in server.log] == ["cast", "terminate"]


@pytest.mark.parametrize(
    ("seconds", "error"), [(-1, ValueError), ("1", TypeError), (math.nan, ValueError)]
)
async def test_bad_timers(seconds, error):
    """A timer takes seconds, at least 0."""
    async with Scripted(info=keep) as server:
        with pytest.raises(error, match="seconds must"):
            server.send_after(seconds, "x")


# --- monitors ------------------------------------------------------------------------------


@pytest.mark.conforms("PROC-013")
@pytest.mark.parametrize("how", ["returns", "crashes", "killed", "stopped"])
async def test_monitor(autojump_clock, how):
    """A monitor tells once how a process ended."""

    async def job():
        await trio.sleep(1)
        if how == "crashes":
            raise ValueError
        if how != "returns":
            await trio.sleep_forever()

    downs = []
    async with Scripted(
        info=lambda message, state: (downs.append(message), NoReply(state))[1]
    ) as server:
        task = Task(job)
        async with Supervisor([task]):
            server.monitor(task)
            await trio.sleep(2)
            if how == "killed":
                task.kill()
            elif how == "stopped":
                await task.stop()
            await wait_all_tasks_blocked()
        reason = {"returns": "normal", "crashes": "crashed", "stopped": "shutdown"}.get(how, how)
        assert [(down.process, down.exit.reason) for down in downs] == [(task, reason)]


@pytest.mark.conforms("PROC-014", "PROC-009")
async def test_monitor_of_what_does_not_run(autojump_clock):
    """What has ended, or never ran, is told at once."""
    agent, never = Agent(int), Agent(int)
    async with agent:
        pass
    async with Scripted(info=keep) as server:
        server.monitor(agent)
        server.monitor(never)
        await wait_all_tasks_blocked()
        assert [entry[1] for entry in server.log] == [
            Down(agent, agent.last_exit),
            Down(never, None),
        ]


async def test_monitor_watches_one_life(autojump_clock):
    """A restart is not an end that is told again; each life is monitored anew."""
    agent = Agent(int)
    async with Supervisor([agent]), Scripted(info=keep) as server:
        server.monitor(agent)
        for _ in range(2):
            await agent.stop()
            await agent.get()
        assert len(server.log) == 1
        server.monitor(agent)
        await agent.stop()
        await wait_all_tasks_blocked()
        assert len(server.log) == 2


async def test_monitoring_again_between_two_lives(autojump_clock):
    """Who monitors again on each Down hears of each life once, however long a restart takes."""

    def again(message, state):
        if message.process.status != "stopped":
            server.monitor(message.process)
        return NoReply(state)

    agent = Agent(int)
    async with Scripted(info=again) as server:
        async with Supervisor([agent.child_spec(backoff=Backoff(10))]):
            server.monitor(agent)
            exits = []
            for _ in range(3):
                agent.kill()
                exits.append(await agent.wait())
                await agent.get(timeout=None)
            await wait_all_tasks_blocked()
            assert [down.exit for _, down, _ in server.log] == exits
        await wait_all_tasks_blocked()
        assert server.log[3][1] == Down(agent, agent.last_exit)
        assert len(server.log) == 4


@pytest.mark.parametrize("ends", [True, False])
async def test_monitor_between_two_lives(autojump_clock, ends):
    """Its Down is of the next life; of the last one if the next does not come; it can be cancelled."""
    agent = Agent(int)
    async with Scripted(info=keep) as server:
        async with Supervisor([agent.child_spec(backoff=Backoff(10))]):
            agent.kill()
            crash = await agent.wait()
            assert agent.status == "restarting"
            server.monitor(agent)
            server.monitor(agent).cancel()
            await wait_all_tasks_blocked()
            assert server.log == []
            if ends:
                await agent.get(timeout=None)
                assert server.log == []
        await wait_all_tasks_blocked()
        ((_, down, _),) = server.log
        assert down == Down(agent, agent.last_exit)
        assert (agent.last_exit is crash) is not ends


async def test_monitor_during_a_start(autojump_clock):
    """What is monitored while it starts is told of at its end, not when it is ready."""

    async def slow():
        await trio.sleep(1)
        return 0

    agent = Agent(slow)
    async with Scripted(info=keep) as server, trio.open_nursery() as nursery:
        nursery.start_soon(agent.run)
        await wait_all_tasks_blocked()
        server.monitor(agent)
        await agent.get()
        assert server.log == []
        await agent.stop()
        await wait_all_tasks_blocked()
        assert server.log == [("info", Down(agent, agent.last_exit), 0)]


@pytest.mark.conforms("PROC-015")
async def test_monitors_are_independent(autojump_clock):
    """Each monitor tells once, however many watch, in one server or in several."""
    agent = Agent(int)
    async with Scripted(info=keep) as first, Scripted(info=keep) as second:
        async with agent:
            for server in (first, first, second):
                server.monitor(agent)
        await wait_all_tasks_blocked()
        assert [len(server.log) for server in (first, second)] == [2, 1]


async def test_a_caller_shows_its_request():
    """A caller that was kept shows what it waits for."""
    seen = []

    def call(request, caller, state):
        seen.append(repr(caller))
        return Reply(1, state)

    async with Scripted(call=call) as server:
        await server.call("question")
    assert seen == ["<Caller with 'question'>"]


@pytest.mark.conforms("PROC-018")
async def test_monitors_can_be_ended(autojump_clock):
    """A monitor that is cancelled tells nothing; one of a server that has ended hurts nobody."""
    agent = Agent(int)
    async with agent:
        async with Scripted(info=keep) as server:
            watch = server.monitor(agent)
            watch.cancel()
            watch.cancel()
            server.monitor(agent)
        assert not agent._life.at_end
    assert server.log == [("terminate", "shutdown", 0)]


async def test_bad_monitors():
    """A monitor is set on a process, by a server that runs."""
    server = Scripted()
    with pytest.raises(NotRunning, match="cannot monitor"):
        server.monitor(Agent(int))
    async with server:
        with pytest.raises(TypeError, match="process must be a Process"):
            server.monitor("agent")


async def test_own_messages_take_no_room(autojump_clock):
    """What the library sends counts in no mailbox, and is not what a full one drops."""

    class Small(GenServer):
        def __init__(self):
            super().__init__(mailbox=2, overflow="drop_oldest")
            self.seen = []

        def init(self):
            return Start(0, continue_="begin")

        async def handle_cast(self, message, state):
            self.seen.append(message)
            await trio.sleep(5)
            return NoReply(state, continue_="more")

        def handle_info(self, message, state):
            self.seen.append(message)
            return NoReply(state)

        def handle_continue(self, message, state):
            return NoReply(state)

    async with Small() as server:
        server.send_after(0.2, "timer")
        for number in range(4):
            server.cast(number)
            await trio.sleep(0.5)
        assert observe(server).mailbox_length == 2
        await trio.sleep(60)
        assert server.seen == [0, "timer", 2, 3]
        assert observe(server).dropped_casts == 1


async def test_forgotten_callers_leave_nothing(autojump_clock):
    """A server that never answers keeps nothing of the calls that gave up."""
    async with Scripted(call=lambda _request, _caller, state: NoReply(state)) as server:
        for _ in range(10):
            with contextlib.suppress(TimedOut):
                await server.call("x", timeout=1)
        assert not server._life.deferred


async def test_full_mailboxes_hold_what_the_library_sends(autojump_clock):
    """A full mailbox refuses requests, but loses no timer and no end of a process."""

    async def slow(message, state):
        await trio.sleep(5)
        return NoReply(state)

    class Small(GenServer):
        def __init__(self):
            super().__init__(mailbox=1)
            self.seen = []

        def init(self):
            return 0

        async def handle_info(self, message, state):
            self.seen.append(message)
            await trio.sleep(5)
            return NoReply(state)

    agent = Agent(int)
    async with Small() as small:
        async with agent:
            small.monitor(agent)
            small.send_after(1, "timer")
            small.send("work")
            await wait_all_tasks_blocked()
            small.send("fills it")
            with pytest.raises(MailboxFull):
                small.send("too much")
            with pytest.raises(MailboxFull):
                await small.call("too much")
        await trio.sleep(60)
        assert small.seen == ["work", "fills it", Down(agent, agent.last_exit), "timer"]


# --- stop and terminate ----------------------------------------------------------------------


@pytest.mark.conforms("GS-053", "GS-060")
async def test_stop(autojump_clock):
    """stop() runs terminate and says how it ended."""

    async def tidy(exit, state):
        await trio.sleep(2)

    async with Scripted(3, terminate=tidy) as server:
        assert (await server.stop()).reason == "shutdown"
        assert server.log == [("terminate", "shutdown", 3)]
        assert trio.current_time() == 2


@pytest.mark.conforms("GS-054", "GS-064")
async def test_stop_overtakes_the_backlog(autojump_clock):
    """A stop waits for the handler under way; what is only queued stays undone."""

    async def slow(message, state):
        await trio.sleep(1)
        return NoReply(state + 1)

    async with Scripted(cast=slow) as server:
        server.cast("under way")
        await wait_all_tasks_blocked()
        server.cast("queued")
        await server.stop()
        assert server.log == [("cast", "under way", 0), ("terminate", "shutdown", 1)]


@pytest.mark.conforms("GS-057", "GS-065")
@pytest.mark.parametrize("wait", [False, True])
async def test_terminate_that_raises(autojump_clock, wait):
    """An error in terminate becomes the crash; what came before it is its context."""

    async def fail(exit, state):
        if wait:
            await trio.sleep(1)
        raise KeyError("terminate")

    def crash(message, state):
        raise ValueError("first")

    server = Scripted(cast=crash, terminate=fail)
    async with Supervisor([server.child_spec(restart="temporary")]):
        server.cast("x")
        await trio.sleep(2)
        assert isinstance(server.last_exit.error, KeyError)
        assert isinstance(server.last_exit.error.__context__, ValueError)
    server = Scripted(terminate=fail)
    async with Supervisor([server.child_spec(restart="temporary")]):
        assert isinstance((await server.stop()).error, KeyError)


@pytest.mark.conforms("GS-058")
async def test_stop_that_takes_too_long(autojump_clock):
    """A stop that is out of time goes on."""

    async def tidy(exit, state):
        await trio.sleep(4)

    async with Scripted(terminate=tidy) as server:
        with pytest.raises(TimedOut):
            await server.stop(timeout=1)
        assert (await server.wait()).reason == "shutdown"
        assert trio.current_time() == 4


@pytest.mark.conforms("GS-037")
@pytest.mark.parametrize("broken", [False, True])
async def test_last_answer(autojump_clock, broken):
    """The answer of a Stop is given after terminate, even if that fails."""
    steps = []

    async def tidy(exit, state):
        await trio.sleep(1)
        steps.append("terminate")
        if broken:
            raise KeyError

    server = Scripted(call=lambda *_: Stop("normal", "end", reply="bye"), terminate=tidy)
    async with Supervisor([server.child_spec(restart="temporary")]):
        steps.append(await server.call("x"))
        assert steps == ["terminate", "bye"]
        assert server.log[-1] == ("terminate", "normal", "end")
        assert (await server.wait()).reason == ("crashed" if broken else "normal")


@pytest.mark.conforms("GS-059", "GS-067")
async def test_which_ends_are_logged(autojump_clock, caplog):
    """An end by an exception is logged; a normal end and a shutdown are not."""
    for reason in ("normal", "shutdown", ValueError("own")):
        server = Scripted(cast=lambda _message, state, reason=reason: Stop(reason, state))
        async with Supervisor([server.child_spec(restart="temporary")]):
            server.cast("x")
            await wait_all_tasks_blocked()
    assert len(caplog.messages) == 1
    assert "ValueError: own" in caplog.messages[0]


async def end_by_supervisor(server):
    async with Supervisor([server]) as sup:
        await sup.terminate_child(server)


async def end_by_cancellation(server):
    with trio.CancelScope() as scope:
        async with server:
            scope.cancel()
            await trio.lowlevel.checkpoint()


async def end_by_nursery(server):
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        nursery.cancel_scope.cancel()


async def end_by_block(server):
    async with server:
        pass


async def end_by_system_exit(server):
    with pytest.raises(SystemExit):
        async with server:
            await server.call("exit")


@pytest.mark.conforms("GS-061", "GS-062", "GS-066", "PEER-6", "OBS-05")
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    "end",
    [end_by_supervisor, end_by_cancellation, end_by_nursery, end_by_block, end_by_system_exit],
)
async def test_terminate_always_runs(autojump_clock, end, waits):
    """terminate runs, and may wait, whatever ends the server, cancellation included."""
    done = []

    async def tidy(exit, state):
        await trio.sleep(1)
        done.append((exit.reason, state))

    async def leave(request, caller, state):
        if waits:
            await trio.lowlevel.checkpoint()
        raise SystemExit(3)

    await end(Scripted(9, terminate=tidy, call=leave))
    assert done == [("shutdown", 9)]
    assert trio.current_time() == 1


async def test_terminate_that_raises_during_an_exit(autojump_clock, caplog):
    """An error in terminate does not take the place of a SystemExit: it is logged."""

    def fail(exit, state):
        raise KeyError("terminate")

    def leave(request, caller, state):
        raise SystemExit(3)

    await end_by_system_exit(Scripted(call=leave, terminate=fail))
    assert ["during an interrupt" in text for text in caplog.messages] == [True]


@pytest.mark.conforms("GS-061")
@pytest.mark.parametrize("how", ["kill", "brutal_kill"])
async def test_terminate_does_not_run_when_killed(autojump_clock, how):
    """A kill does not ask: terminate does not run."""
    server = Scripted(shutdown="brutal_kill" if how == "brutal_kill" else 5)
    async with Supervisor([server.child_spec(restart="temporary")]) as sup:
        if how == "kill":
            server.kill()
            await server.wait()
        else:
            await sup.terminate_child(server)
    assert server.log == []
    assert server.last_exit.reason == "killed"


@pytest.mark.parametrize("how", ["block", "stop"])
async def test_brutal_kill_in_every_home(autojump_clock, how):
    """A server that is to be killed has no terminate when it is stopped, by whomever."""
    server = Scripted(shutdown="brutal_kill")
    async with server:
        if how == "stop":
            await server.stop()
    assert server.log == []


async def test_brutal_kill_and_an_end_of_its_own(autojump_clock):
    """How it is stopped says nothing of how it ends by itself: there it has five seconds."""

    async def forever(exit, state):
        await trio.sleep_forever()

    server = Scripted(
        cast=lambda request, state: Stop("normal", state),
        terminate=forever,
        shutdown="brutal_kill",
    )
    async with Supervisor([server.child_spec(restart="temporary")]):
        server.cast("stop")
        await server.wait()
        assert trio.current_time() == 5


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("1", TypeError)])
@pytest.mark.parametrize(
    "make",
    [Start, NoReply, lambda state, **then: Reply(1, state, **then)],
    ids=["Start", "NoReply", "Reply"],
)
def test_wrong_timeouts_of_results(make, timeout, error):
    """A timeout that is no number of seconds is refused where the result is built."""
    with pytest.raises(error, match="timeout must"):
        make(0, timeout=timeout)


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_terminate_has_its_limit(autojump_clock, caplog, how):
    """A terminate that takes longer than the shutdown limit is cut off, and named."""

    def crash(message, state):
        raise ValueError

    async def forever(exit, state):
        await trio.sleep_forever()

    server = Scripted(cast=crash, terminate=forever, shutdown=2)
    async with Supervisor([server.child_spec(restart="temporary")]) as sup:
        if how == "stop":
            await sup.terminate_child(server)
        else:
            server.cast("x")
            await server.wait()
        assert trio.current_time() == 2
    assert server.last_exit.reason == ("killed" if how == "stop" else "crashed")
    assert "terminate of Supervisor/scripted was cut off after 2 s" in caplog.messages


async def test_stop_during_a_terminate(autojump_clock):
    """A stop, or a kill, that comes while terminate runs counts for what is left of it."""

    def crash(message, state):
        raise ValueError

    async def forever(exit, state):
        await trio.sleep_forever()

    for how, at in (("stop", 1 + 2), ("kill", 1)):
        server = Scripted(cast=crash, terminate=forever, shutdown=None)
        start = trio.current_time()
        sup = Supervisor([server.child_spec(restart="temporary", shutdown=2)])
        async with sup:
            server.cast("x")
            await trio.sleep(1)
            if how == "kill":
                server.kill()
                await server.wait()
        assert trio.current_time() - start == at


@pytest.mark.conforms("GS-068", "GS-008", "GS-006")
async def test_same_handle_after_a_restart(autojump_clock):
    """A restarted server has its old address, and a new state; one handle runs once at a time."""

    def crash(message, state):
        raise ValueError

    async with Supervisor([server := Scripted(5, call=lambda r, _c, s: Reply(s, r), cast=crash)]):
        assert await server.call(6) == 5
        server.cast("crash")
        await wait_all_tasks_blocked()
        assert await server.call(0) == 5
        with pytest.raises(AlreadyRunning, match="has a home already"):
            async with server:
                pass


# --- where handlers run ------------------------------------------------------------------------


async def test_handlers_know_their_server(autojump_clock):
    """In a handler the current process is the server, on both paths."""

    async def slow(message, state):
        await trio.sleep(1)
        return NoReply(state)

    def who(request, caller, state):
        return Reply(current_process(), state)

    async with Scripted(call=who, cast=slow) as server:
        assert await server.call("idle") is server
        server.cast("work")
        assert await server.call("busy") is server


async def test_exit_process_in_a_handler(autojump_clock):
    """A handler may end its own server by ExitProcess; terminate runs."""

    def leave(message, state):
        raise ExitProcess("shutdown", "enough")

    async with Scripted(cast=leave) as server:
        server.cast("x")
        exit = await server.wait()
        assert (exit.reason, exit.detail) == ("shutdown", "enough")
        assert server.log[-1] == ("terminate", "shutdown", 0)


async def test_random_traffic(autojump_clock):
    """Calls at every moment, to idle and busy servers, are answered in their order or fail."""

    async def handle(request, caller, state):
        await trio.sleep(request % 3)
        return Reply(request, state + 1)

    def handle_at_once(request, caller, state):
        return Reply(request, state + 1) if request % 2 else handle(request, caller, state)

    async with Scripted(call=handle_at_once) as server:
        answers = []

        async def ask(number):
            await trio.sleep(number % 7)
            answers.append((number, await server.call(number, timeout=None)))

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(ask, number)
        assert sorted(answers) == [(number, number) for number in range(300)]
        assert server.log[-1][2] == 299


async def test_events_of_a_server(autojump_clock):
    """A server tells of its start and end as any process does."""
    kinds = []
    with subscribe(lambda event: kinds.append(type(event).__name__)):
        async with Scripted():
            pass
    assert kinds == ["Started", "Ready", "Ended"]


async def test_sequence_of_clients(autojump_clock):
    """A deferred answer lets the server go on with others meanwhile."""
    seq = Sequencer()
    kept = []

    def call(request, caller, state):
        if request == "wait":
            kept.append(caller)
            return NoReply(state)
        return Reply(request, state)

    async with Scripted(call=call) as server, trio.open_nursery() as nursery:

        async def first():
            async with seq(0):
                nursery.start_soon(second)
            assert await server.call("wait") == "done"

        async def second():
            async with seq(1):
                await wait_all_tasks_blocked()
                assert await server.call("other") == "other"
            kept[0].reply("done")

        nursery.start_soon(first)
