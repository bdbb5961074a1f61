"""What the handlers of a GenServer are given, and what they return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, Literal, TypeAlias, TypeVar

import attrs

from ._core import options
from ._core.process import NOTHING
from ._core.text import short

if TYPE_CHECKING:
    from ._core.exits import Exit
    from ._core.process import Process
    from ._core.server import Call

S = TypeVar("S")
T_co = TypeVar("T_co", covariant=True)

# --- what handlers are given -------------------------------------------------------------


class Request(Generic[T_co]):
    """A request whose answer has a type: `class Pop(Request[str])` makes `call(Pop())` a `str`."""

    __slots__ = ()


class Caller:
    """Who waits for the answer to a call; what `handle_call` is given to answer it later.

    May be kept, and used by any Trio task of the run: `from` in Elixir.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def __repr__(self) -> str:
        request = short(self._call.args[0]) if self._call.args else "no request any more"
        return f"<Caller with {request}>"

    def reply(self, answer: object) -> None:
        """Answer the call; `GenServer.reply/2`. Does nothing if nobody waits any more.

        Raises:
            RuntimeError: It was answered already.
        """
        self._settle(answer, None)

    def fail(self, error: Exception) -> None:
        """Have the call raise an error, without any harm to the server.

        Elixir has no counterpart: there, an error is an answer like any other.

        Raises:
            RuntimeError: It was answered already.
            TypeError: That is no exception.
        """
        if not isinstance(error, Exception):
            raise TypeError(f"error must be an Exception, got {short(error)}")
        self._settle(None, error)

    def _settle(self, answer: object, error: Exception | None) -> None:
        call = self._call
        call.life.check_run()
        answer_once(call)
        if call.stage == "taken":  # else the caller has left, or knows that the server has ended
            call.life.caller_left(call)
            call.settle(answer, error)


@attrs.frozen
class Down:
    """The message about the end of a process that a server monitors.

    `exit` is how the life ended, or None if the process had never run.
    """

    process: Process
    exit: Exit | None


class _Timeout:
    """The class of `TIMEOUT`."""

    def __repr__(self) -> str:
        return "TIMEOUT"


TIMEOUT: Final = _Timeout()
"""The message that `handle_info` gets when nothing else has come for `timeout` seconds.

In a `match` write `case trio_otp.TIMEOUT:`; a bare name there would take any message.
"""

# --- what handlers return ----------------------------------------------------------------


@attrs.define
class Reply(Generic[S]):
    """Answer the call and go on with a state; `{:reply, answer, state}`.

    `timeout`: seconds without a message after which `handle_info` gets `TIMEOUT`; any
    message before that cancels it. `continue_`: what `handle_continue` is called with next,
    before any message. So too in `NoReply` and `Start`.
    """

    answer: object
    state: S
    timeout: float | None = attrs.field(default=None, kw_only=True)
    continue_: object = attrs.field(default=NOTHING, kw_only=True)

    def __attrs_post_init__(self) -> None:
        options.limit("timeout", self.timeout)


@attrs.define
class NoReply(Generic[S]):
    """Go on with a state; a call is answered later, by its `Caller`; `{:noreply, state}`."""

    state: S
    timeout: float | None = attrs.field(default=None, kw_only=True)
    continue_: object = attrs.field(default=NOTHING, kw_only=True)

    def __attrs_post_init__(self) -> None:
        options.limit("timeout", self.timeout)


def _check_reason(_: object, __: object, reason: object) -> None:
    if reason not in ("normal", "shutdown") and not isinstance(reason, Exception):
        text = "reason must be 'normal', 'shutdown' or an exception"
        raise ValueError(f"{text}, got {short(reason)}")


@attrs.define
class Stop(Generic[S]):
    """End the server; `{:stop, reason, state}`.

    `reason` is `"normal"`, `"shutdown"`, or an exception, which makes it a crash. `reply`
    answers the call that it is the result of, after `terminate`; without it that call
    raises `Exited`.
    """

    reason: Literal["normal", "shutdown"] | Exception = attrs.field(validator=_check_reason)
    state: S
    reply: object = attrs.field(default=NOTHING, kw_only=True)


@attrs.define
class Start(Generic[S]):
    """Begin with a state, when `init` has more to say than that; `{:ok, state, ...}`."""

    state: S
    timeout: float | None = attrs.field(default=None, kw_only=True)
    continue_: object = attrs.field(default=NOTHING, kw_only=True)

    def __attrs_post_init__(self) -> None:
        options.limit("timeout", self.timeout)


CallResult: TypeAlias = Reply[S] | NoReply[S] | Stop[S]
"""What `handle_call` may return."""
CastResult: TypeAlias = NoReply[S] | Stop[S]
"""What the other handlers may return."""


def answer_once(call: Call) -> None:
    """Note that a call has its answer; refuse a second one."""
    if call.answered:
        raise RuntimeError("a call cannot be answered twice")
    call.answered = True
