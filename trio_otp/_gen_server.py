"""GenServer: one state behind handlers of your own, for calls, casts and all other messages.

The path of a request: `call` queues it, or runs its handler at once if the server is idle;
what the handler returns is taken into the life by a step of this file, which gives the
answer, or leaves it to be given later. Everything else is the server loop of `_core`.
"""

from __future__ import annotations

import math
from types import CoroutineType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    TypeVar,
    overload,
)

import trio

from ._core import failures, options, reports
from ._core.errors import BadReturn, Exited, ExitProcess, NotRunning
from ._core.exits import KILLED, NORMAL, SHUTDOWN, Exit
from ._core.process import NOTHING, Process
from ._core.server import LATER, Call, Notice, Server, ServerLife, begin, finish
from ._core.text import callable_name, short
from ._core.timers import Timers
from ._replies import TIMEOUT, Caller, Down, NoReply, Reply, Start, Stop, answer_once

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._core.life import Life
    from ._core.options import Limit, Overflow, Restart, Shutdown
    from ._replies import CallResult, CastResult, Request

S = TypeVar("S")
T = TypeVar("T")

_COROUTINE: Final[Any] = CoroutineType
_REPLY: Final[Any] = Reply
_NO_REPLY: Final[Any] = NoReply
_STOP: Final[Any] = Stop
_START: Final[Any] = Start

_OWN_END_SECONDS: Final = 5.0  # for terminate, where "brutal_kill" says nothing of a limit

# --- what servers wait for ---------------------------------------------------------------


class Timer:
    """A message to come, from `send_after`."""

    __slots__ = ("_life", "_message")

    def __init__(self, life: GenLife | None, message: object) -> None:
        self._life = life
        self._message = message

    def cancel(self) -> bool:
        """Take it back; False if it has come, or its server's life is over; `cancel_timer/1`."""
        there = self.remaining is not None
        if there and self._life is not None and self._life.timers is not None:
            self._life.timers.drop(self)
        return there

    @property
    def remaining(self) -> float | None:
        """Seconds until it comes, or None if it will not; `read_timer/1`."""
        if self._life is None or self._life.timers is None:
            return None
        at = self._life.timers.at(self)
        return None if at == math.inf else max(0.0, at - trio.current_time())


class Monitor:
    """A watch over one life of a process, from `monitor`."""

    __slots__ = ("_life", "_server", "_watched", "process")

    process: Process

    def __init__(self, server: GenServer[Any], life: GenLife, process: Process) -> None:
        self.process = process
        self._server, self._life = server, life
        self._watched: Life | None = process._life
        # Between two lives it is the next one: who monitors again on each Down would
        # otherwise be told of the same end over and over, as long as the restart is delayed.
        over = self._watched is None or self._watched.exit is not None
        if self._watched is None or (over and process.status != "restarting"):
            self._tell(process)
        else:
            self._watched.call_at_end(self._tell)
            life.monitors.add(self)

    def cancel(self) -> None:
        """End the watch; a message that is on its way still comes. `Process.demonitor/1`."""
        if self in self._life.monitors and self._watched is not None:
            self._watched.call_not_at_end(self._tell)
        self._life.monitors.discard(self)

    def _tell(self, process: Process) -> None:
        self._life.monitors.discard(self)
        exit = None if process._life is None else process._life.exit
        self._server._put(self._life, Down(process, exit))


class GenLife(ServerLife):
    """One run of a GenServer."""

    __slots__ = (
        "deferred",
        "farewell",
        "last_call",
        "limit",
        "monitors",
        "server",
        "stop",
        "timeout_at",
        "timers",
    )

    def __init__(self, server: GenServer[Any], shield: bool) -> None:
        super().__init__(shield)
        self.server: GenServer[Any] | None = server
        self.deferred: set[Call] = set()  # to be answered later
        self.farewell: trio.CancelScope | None = None  # around terminate
        self.limit = math.inf  # the seconds that the last stop left it
        self.monitors: set[Monitor] = set()
        self.stop: Stop[Any] | None = None  # what a handler ended it with
        self.last_call: Call | None = None  # the call that this answers
        self.timeout_at = math.inf
        self.timers: Timers[Timer] | None = None

    def ask(self, limit: float) -> None:
        """Ask it to end; if it is ending already, within this limit."""
        self.limit = min(self.limit, limit)
        if self.farewell is not None:
            self.farewell.deadline = min(self.farewell.deadline, trio.current_time() + limit)
        super().ask(limit)

    def kill(self) -> None:
        """Cancel it at once, also in its last handler."""
        super().kill()
        if self.farewell is not None:
            self.farewell.cancel(reason="killed by trio_otp")

    def go_on(self, result: Reply[Any] | NoReply[Any] | Start[Any]) -> None:
        """Take the state, and what is to come next."""
        self.state = result.state
        if result.timeout is not None or self.timeout_at < math.inf:
            seconds = options.limit("timeout", result.timeout)
            self.timeout_at = trio.current_time() + seconds
            self.look_again()
        if result.continue_ is not NOTHING and self.server is not None:
            self.queue.appendleft(Notice(_take, self.server.handle_continue, (result.continue_,)))

    def caller_left(self, call: Call) -> None:
        """Forget a call that nobody waits for any more."""
        self.deferred.discard(call)

    def look_again(self) -> None:
        """Work out when the loop is to look, and tell it if that is sooner than it will."""
        timer_at = math.inf if self.timers is None else self.timers.next_at()
        self.due = min(self.timeout_at, timer_at)
        if self.due < self.parked_until:
            self.wake()


class GenServer(Server, Generic[S]):
    """A server with handlers of its own; OTP's GenServer.

    A subclass defines `init` and handlers, each sync or async, which get the state as their
    last argument and return the next one in a `Reply`, `NoReply` or `Stop`. **`self` is the
    address and outlives a crash; `state` is the life**: what a handler keeps on `self` is
    still there after a restart, broken or not. Handlers run one at a time, in the order of
    the messages; a plain one of an idle server runs in its caller, as functions of an
    `Agent` do. One that raises ends the server.

    Functions for clients are methods of the same class that use `self.call` and `self.cast`.

    Args:
        name: A label, also its id as a child.
        restart: When a supervisor starts it again; permanent by default.
        shutdown: Seconds to clean up when stopped, `terminate` included; `None` for no
            limit, or `"brutal_kill"`.
        timeout: Seconds that its calls wait by default; `None` for no limit.
        mailbox: How many requests may wait, 1 or more; `None` for any number. A full one
            fails a call with `MailboxFull`, whatever `overflow` says.
        overflow: What a *cast* or sent message does to a full mailbox: `"raise"`,
            `"drop_newest"` or `"drop_oldest"`.

    Raises:
        TypeError: The class has no `init`, or an option is of a wrong type.
        ValueError: An option has a wrong value; the message names what it takes.
    """

    __slots__ = ()

    _kind = "gen_server"
    _may_defer: ClassVar[bool] = True

    _life: Any  # GenLife | None

    def __init__(
        self,
        *,
        name: str | None = None,
        restart: Restart | None = None,
        shutdown: Shutdown | Literal["inherit"] = "inherit",
        timeout: Limit = 5.0,
        mailbox: int | None = None,
        overflow: Overflow = "raise",
    ) -> None:
        super().__init__(
            name=name,
            restart=restart,
            shutdown=shutdown,
            timeout=timeout,
            mailbox=mailbox,
            overflow=overflow,
            idle_timeout=None,
        )
        base: Any = GenServer
        if type(self).init is base.init:
            raise TypeError(f"{type(self).__qualname__} must define init(self)")

    # --- to be defined by a subclass -----------------------------------------------------

    def init(self) -> S | Start[S] | Awaitable[S | Start[S]]:
        """Make the state of a life; `init/1`. Raise `Ignore` to decline to start."""
        raise NotImplementedError  # pragma: no cover - such a class is refused in __init__

    def handle_call(
        self, request: Any, caller: Caller, state: S, /
    ) -> CallResult[S] | Awaitable[CallResult[S]]:
        """Answer a request of `call`, or keep the caller for later; `handle_call/3`."""
        raise NotImplementedError(_no_handler(self, "handle_call(request, caller, state)", request))

    def handle_cast(self, request: Any, state: S, /) -> CastResult[S] | Awaitable[CastResult[S]]:
        """Do what `cast` asked for; `handle_cast/2`."""
        raise NotImplementedError(_no_handler(self, "handle_cast(request, state)", request))

    def handle_info(self, message: Any, state: S, /) -> CastResult[S] | Awaitable[CastResult[S]]:
        """Take any other message: from `send`, `send_after`, `monitor`, or `TIMEOUT`; `handle_info/2`.

        One that is not defined logs the message and goes on.
        """
        reports.warn(f"{'/'.join(self._path())} was sent {short(message)}, and has no handle_info")
        return NoReply(state)

    def handle_continue(self, arg: Any, state: S, /) -> CastResult[S] | Awaitable[CastResult[S]]:
        """Go on with what `continue_` asked for, before any message; `handle_continue/2`."""
        raise NotImplementedError(_no_handler(self, "handle_continue(arg, state)", arg))

    def terminate(self, exit: Exit, state: S, /) -> object:
        """Clean up at the end of a life, whatever ends it, except a kill; `terminate/2`.

        Runs after a stop, a crash and a cancellation, shielded, and for as long as the
        server's `shutdown` allows; then it is cancelled. With `"brutal_kill"`, which is how
        it is stopped, only at an end of its own, for up to 5 seconds. Not after an `init`
        that failed. An exception in it becomes the crash of the server.
        """

    # --- asking --------------------------------------------------------------------------

    @overload
    async def call(self, request: Request[T], /, *, timeout: Limit = ...) -> T: ...
    @overload
    async def call(self, request: object, /, *, timeout: Limit = ...) -> Any: ...
    async def call(self, request: Any, /, *, timeout: Any = NOTHING) -> Any:
        """Have `handle_call` answer a request; `GenServer.call/3`.

        Cancelled before its handler was called, the request is withdrawn; later, the
        handler runs on and its answer is dropped.

        Args:
            request: Anything; a `Request[T]` gives a `T`.
            timeout: Seconds to wait; `None` for no limit; 0 for only if it is idle now.

        Raises:
            TimedOut: No answer within the limit; the server is unharmed.
            Exited: It ended first; the crash, if that was it, is the cause.
            NotRunning: It does not run, and nobody has promised to start it.
            CalledItself: The asker is the server, or one that it waits for without limit.
            MailboxFull: Its mailbox is full.
            Exception: What `caller.fail` was given.
        """
        life = self._life
        if life is not None and life.timers is not None:
            self._take_due_timers()
        return await self._call(_take_answer, self.handle_call, (request,), timeout)

    def cast(self, request: object, /) -> None:
        """Have `handle_cast` do something, some time; `GenServer.cast/2`.

        Comes back at once. To a server that does not run it does nothing; that, and what a
        full mailbox drops, is counted in `ProcessInfo.dropped_casts`.

        Raises:
            MailboxFull: Its mailbox is full, and `overflow` is `"raise"`.
        """
        self._take_due_timers()
        self._cast(_take, self.handle_cast, (request,))

    def send(self, message: object, /) -> None:
        """Send any message to `handle_info`; `send/2`. Else as `cast`."""
        self._take_due_timers()
        self._cast(_take, self.handle_info, (message,))

    def send_after(self, seconds: float, message: object, /) -> Timer:
        """Send a message later, to the life that there is now; `Process.send_after/3`.

        A timer ends with the life of the server; if that does not run, it is over already.

        Args:
            seconds: 0 or more.
            message: For `handle_info`.

        Raises:
            TypeError: `seconds` is no number.
            ValueError: `seconds` is negative, or not a number of seconds.
        """
        after = options.duration("seconds", seconds)
        life: GenLife | None = self._life
        if life is None or life.exit is not None:
            return Timer(None, message)
        life.check_run()
        timer = Timer(life, message)
        if life.timers is None:
            life.timers = Timers()
        life.timers.set(timer, trio.current_time() + after)
        life.look_again()
        return timer

    def monitor(self, process: Process, /) -> Monitor:
        """Have `handle_info` told, by a `Down`, of the end of a process; `Process.monitor/1`.

        Of the life that runs now, or, between two lives, of the next one: after a restart
        monitor it again. At once if it does not run, and is not going to. The watch ends
        with this server's own life.

        Raises:
            NotRunning: This server does not run.
            TypeError: That is no process.
        """
        if not isinstance(process, Process):
            raise TypeError(f"process must be a Process, got {short(process)}")
        life = self._life
        if life is None or life.exit is not None:
            raise NotRunning(f"{self!r} does not run, and so cannot monitor {process!r}", self)
        life.check_run()
        return Monitor(self, life, process)

    # --- inside ----------------------------------------------------------------------------

    def _make_life(self, shield: bool) -> GenLife:
        return GenLife(self, shield)

    @staticmethod
    @trio.lowlevel.disable_ki_protection
    def _invoke(fn: Callable[..., Any], life: ServerLife, args: tuple[Any, ...]) -> Any:
        if isinstance(life.taken, Call):
            return fn(args[0], Caller(life.taken), life.state)
        return fn(args[0], life.state)

    @trio.lowlevel.enable_ki_protection
    async def _main(self, life: Any) -> None:
        try:
            await super()._main(life)
        except BaseException as error:
            if life.state is not NOTHING:
                await self._part(life, _exit_of(life, error), error)
            raise
        stop = life.stop
        try:
            await self._part(life, SHUTDOWN if stop is None else _exit_by(stop))
        finally:
            if life.last_call is not None and stop is not None:
                life.last_call.settle(stop.reply)
        if stop is not None:
            _leave(stop)

    async def _init(self) -> S:
        made: Any = begin(self.init, ())
        if type(made) is _COROUTINE:
            made = await finish(made)
        if type(made) in (_REPLY, _NO_REPLY, _STOP):
            name = callable_name(self.init)
            raise BadReturn(f"{name} must return the state or Start(state), got {short(made)}")
        if type(made) is _START:
            assert self._life is not None  # it is being made
            self._life.go_on(made)
            made = made.state
        state: S = made
        return state

    async def _part(self, life: GenLife, exit: Exit, error: BaseException | None = None) -> None:
        """Run `terminate`, shielded and within the limit of a stop."""
        brutal = self._shutdown() == "brutal_kill"
        if life.asked == "killed" or (brutal and life.asked is not None):
            return
        grace = min(life.limit, _OWN_END_SECONDS if brutal else self._grace())
        life.farewell = trio.CancelScope(shield=True, deadline=trio.current_time() + grace)
        try:
            with life.farewell:
                result = begin(self.terminate, (exit, life.state))
                if type(result) is _COROUTINE:
                    await finish(result)
        except Exception as broken:
            if error is None or failures.passing(error) is None:
                raise
            reports.lost(broken, f"terminate of {short(self.name)} raised it during an interrupt")
        if life.farewell.cancelled_caught:
            life.late = True
            reports.warn(f"terminate of {'/'.join(self._path())} was cut off after {grace:g} s")

    def _settle(self, life: Any, exit: Exit, result: Any) -> None:
        deferred, life.deferred = life.deferred, set()
        for call in deferred:
            call.settle(None, Exited(self, exit))
        for monitor in tuple(life.monitors):
            monitor.cancel()
        life.timers = life.last_call = life.stop = life.server = None
        super()._settle(life, exit, result)

    def _put(self, life: GenLife, message: object) -> None:
        """Queue a message of the library's own: those are never dropped."""
        life.put(Notice(_take, self.handle_info, (message,)))

    def _take_due_timers(self) -> None:
        """Queue what has come due before what comes now."""
        life = self._life
        if life is not None and life.timers is not None and life.due <= trio.current_time():
            self._fire(life, life.timers)

    def _fire(self, life: GenLife, timers: Timers[Timer]) -> None:
        for timer in timers.take_due(trio.current_time()):
            self._put(life, timer._message)
        life.look_again()

    def _is_due(self, life: Any) -> bool:
        if life.timers is not None:
            self._fire(life, life.timers)
        if life.timeout_at <= trio.current_time() and not life.queue:
            life.timeout_at = math.inf
            self._put(life, TIMEOUT)
        life.look_again()
        return True


# --- steps: how results are taken --------------------------------------------------------


def _take_answer(life: GenLife, result: Any) -> Any:
    """Take what `handle_call` returned; give the answer, or leave it for later."""
    call = life.taken
    assert isinstance(call, Call)
    if type(result) is _REPLY:
        answer_once(call)
        life.go_on(result)
        return result.answer
    _go_on_or_stop(life, result, "Reply, NoReply or Stop")
    if life.stop is not None and life.stop.reply is not NOTHING:
        answer_once(call)
        life.last_call = call
    elif not call.answered:
        life.deferred.add(call)
    return LATER


def _take(life: GenLife, result: Any) -> None:
    """Take what another handler returned."""
    if type(result) is _STOP and result.reply is not NOTHING:
        raise _bad_return(life, result, "nothing to reply: there is no caller")
    _go_on_or_stop(life, result, "NoReply or Stop")


def _go_on_or_stop(life: GenLife, result: Any, accepted: str) -> None:
    if type(result) is _NO_REPLY:
        life.go_on(result)
    elif type(result) is _STOP:
        life.state, life.stop, life.finishing = result.state, result, True
    else:
        raise _bad_return(life, result, accepted)


def _bad_return(life: GenLife, result: object, accepted: str) -> BadReturn:
    taken: Any = life.taken
    request: Any = taken if isinstance(taken, Call) else Call(life, *taken)
    name, message = callable_name(request.fn), short(request.args[0])
    return BadReturn(f"{name} must return {accepted}, got {short(result)} for {message}")


# --- ends --------------------------------------------------------------------------------


def _exit_of(life: GenLife, error: BaseException) -> Exit:
    """Say, before the end, how an exception is going to end it."""
    if failures.of_nothing_but(error, trio.Cancelled) and life.scope.cancel_called:
        return KILLED if life.asked == "killed" else SHUTDOWN
    return life.conclude(error)[0]


def _exit_by(stop: Stop[Any]) -> Exit:
    if isinstance(stop.reason, Exception):
        return Exit("crashed", stop.reason)
    return NORMAL if stop.reason == "normal" else SHUTDOWN


def _leave(stop: Stop[Any]) -> None:
    """End as a handler asked for."""
    if isinstance(stop.reason, Exception):
        raise stop.reason
    if stop.reason == "shutdown":
        raise ExitProcess("shutdown")


def _no_handler(server: Process, handler: str, message: object) -> str:
    return f"{type(server).__qualname__} has no {handler}, and was asked for {short(message)}"
