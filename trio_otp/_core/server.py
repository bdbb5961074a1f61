"""Server: one state, one mailbox, one loop; answers or refuses every request.

A message carries its work: a function, its arguments, and a step that takes its result
into the life. So the loop needs no dispatch, and all servers share it.

Rules of this file:
  1. A request is taken up when its function is called. Until then a caller that leaves
     withdraws it; from then on it runs to its end, and a late answer is dropped.
  2. When a life ends, everybody who waits for an answer is told in the same step.
  3. The fast path: an idle server's function may run in its caller, in the server's
     context, in one step; all that differs is whose Trio task it is.
  4. What runs in the caller is protected from KeyboardInterrupt as well: a request that is
     half queued would wake a caller that does not wait.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, TypeAlias

import trio

from . import events, failures, options, reports
from .errors import CalledItself, Exited, MailboxFull, NotRunning, TimedOut
from .homes import OTHER_RUN
from .life import Life
from .process import NOTHING, Looks, Process, own_process
from .text import callable_name, short
from .waiting import Sleeper, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from .exits import Exit
    from .options import Limit, Overflow, Restart, Shutdown

Step: TypeAlias = "Callable[[Any, Any], Any]"
"""Takes a function's result into a life, and gives the answer, or LATER."""

Stage: TypeAlias = Literal["queued", "taken", "settled", "withdrawn"]
LATER: Final = object()  # somebody will answer this call when it is time

_COROUTINE: Final[Any] = CoroutineType  # what an async function gives
_current_token: Final = trio.lowlevel.current_trio_token
_EACH: Final = 64  # requests between two checkpoints of a busy server


class Call(Sleeper):
    """A request that waits for its answer; also the bed of whoever waits for it."""

    __slots__ = (
        "answered",
        "args",
        "begun",
        "error",
        "fn",
        "life",
        "stage",
        "step",
        "value",
    )

    def __init__(
        self,
        life: ServerLife,
        step: Step,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        stage: Stage = "queued",
    ) -> None:
        super().__init__()
        self.life = life
        self.step: Step | None = step
        self.fn: Callable[..., Any] | None = fn
        self.args = args
        self.begun: Coroutine[Any, Any, Any] | None = None  # what the fast path got from fn
        self.stage = stage
        self.answered = False  # by its server, whether or not anybody still waited
        self.value: Any = None
        self.error: Exception | None = None

    def settle(self, value: Any, error: Exception | None = None) -> None:
        """Answer it, if anybody still waits."""
        if self.stage == "queued":
            self._free()
        if self.stage != "withdrawn":
            self.stage = "settled"
            self.value, self.error = value, error
            self.wake()

    def withdraw(self) -> None:
        """Leave it without an answer; in the queue it does not count from now on."""
        if self.stage == "queued":
            self.life.pending -= 1
            self._free()
        elif self.stage == "taken":
            self.life.caller_left(self)
        if self.stage != "settled":
            self.stage = "withdrawn"

    def _free(self) -> None:
        """Let go of what will not be called."""
        self.fn = self.step = None
        self.args = ()
        if self.begun is not None:
            self.begun.close()
            self.begun = None

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        if self.stage == "queued":
            self.withdraw()  # now: the server may run before whoever waits for it does
        return super()._give_up(_)


Cast: TypeAlias = "tuple[Step, Callable[..., Any], tuple[Any, ...]]"


class Notice(NamedTuple):
    """Like a cast, but from the library itself: no mailbox is too full for it, and it does not count."""

    step: Step
    fn: Callable[..., Any]
    args: tuple[Any, ...]


class ServerLife(Life):
    """One run of a server: its state is here, and nowhere else."""

    __slots__ = (
        "context",
        "crash",
        "current",
        "due",
        "finishing",
        "idle",
        "parked_until",
        "pending",
        "queue",
        "since",
        "sleeper",
        "state",
        "taken",
        "token",
        "undone",
    )

    def __init__(self, shield: bool) -> None:
        super().__init__(shield)
        self.queue: deque[Call | Cast | Notice] = deque()
        self.pending = 0  # calls and casts in the queue that were not withdrawn
        self.idle = False  # parked, so that the fast path may be taken
        self.sleeper: Sleeper | None = None
        self.finishing = False  # to end after the function under way
        self.crash: BaseException | None = None  # of a function that ran in its caller
        self.state: Any = NOTHING
        self.context: Any = None
        self.current: Callable[..., Any] | None = None  # what it runs, and since when
        self.since = 0.0
        self.taken: Call | Cast | Notice | None = (
            None  # what it runs; a call fails should that crash
        )
        self.due = math.inf  # when the loop is to look, though there be nothing in the queue
        self.parked_until = -math.inf  # when the loop will look, unless it is woken
        self.undone = 0  # casts that were queued at its end
        self.token = trio.lowlevel.current_trio_token()

    def put(self, request: Call | Notice) -> None:
        """Queue a request, and let the loop see it."""
        self.queue.append(request)
        self.pending += type(request) is not Notice
        if self.idle:
            self.wake()

    def caller_left(self, call: Call) -> None:
        """Hear that nobody waits any more for a call that was taken up."""

    def wake(self) -> None:
        """Let the loop look: there is something to do."""
        if self.sleeper is not None:
            self.idle = False
            self.sleeper.wake()

    def ask(self, limit: float) -> None:
        """Ask it to end, and take nothing on meanwhile."""
        self.idle = False
        super().ask(limit)

    def kill(self) -> None:
        """Cancel it at once, and take nothing on meanwhile."""
        self.idle = False
        super().kill()

    def check_run(self) -> None:
        """Refuse another thread before it can do harm."""
        try:
            here = _current_token()
        except RuntimeError:
            here = None
        if here is not self.token:
            raise RuntimeError(OTHER_RUN)


class Server(Process):
    """What answers requests one at a time; the base of the nouns that do."""

    __slots__ = ("_dropped_casts", "_idle_timeout", "_mailbox", "_overflow", "_timeout")

    _kind = "server"

    _may_defer: ClassVar[bool] = False  # a handler is given the call, to answer it later

    _life: ServerLife | None

    def __init__(
        self,
        *,
        name: str | None,
        restart: Restart | None,
        shutdown: Shutdown | Literal["inherit"],
        timeout: Limit,
        mailbox: int | None,
        overflow: Overflow,
        idle_timeout: Limit,
    ) -> None:
        super().__init__(name=name, restart=restart, shutdown=shutdown)
        self._timeout = options.limit("timeout", timeout)
        self._mailbox = options.count_or_none("mailbox", mailbox, least=1)
        self._overflow: Overflow = options.one_of("overflow", overflow, options.OVERFLOWS)
        self._dropped_casts = 0  # that a full mailbox, or an end, left undone; in all lives
        self._idle_timeout = math.inf
        if idle_timeout is not None:
            self._idle_timeout = options.positive("idle_timeout", idle_timeout, options.OR_NONE)
            self._check_restart(self._restart())

    def _restart(self) -> Restart:
        # Ending for want of use is normal: a permanent one would be back at once.
        restart = self._given.restart or self._class_restart
        if restart == "permanent" and not self._given.restart and self._idle_timeout < math.inf:
            return "transient"
        return restart

    def _check_restart(self, restart: Restart) -> None:
        if restart == "permanent" and self._idle_timeout < math.inf:
            raise ValueError(
                f"restart='permanent' does not go with idle_timeout={self._idle_timeout:g}: "
                "it would be started again each time it has ended for want of use"
            )

    @staticmethod
    @trio.lowlevel.disable_ki_protection
    def _invoke(fn: Callable[..., Any], life: ServerLife, args: tuple[Any, ...]) -> Any:
        """Call a user's function where an interrupt may be raised."""
        return fn(life.state, *args)

    # --- the loop ------------------------------------------------------------------------

    async def _init(self) -> Any:
        """Make the first state."""
        raise NotImplementedError

    def _make_life(self, shield: bool) -> ServerLife:
        return ServerLife(shield)

    @trio.lowlevel.enable_ki_protection
    async def _main(self, life: ServerLife) -> None:
        assert life.task is not None  # set by our wrapper before it awaits us
        life.context = life.task.context
        life.state = await self._init()
        self._become_ready(life)
        while not life.finishing:
            if life.queue:
                await self._work(life)
            elif not await self._rest(life):
                return  # unused for so long: a normal end

    async def _work(self, life: ServerLife) -> None:
        queue, invoke = life.queue, self._invoke
        for _ in range(_EACH):
            if not queue or life.finishing:
                return
            request = queue.popleft()
            if isinstance(request, tuple):
                life.pending -= type(request) is not Notice
                life.taken = request
                step, fn, args = request
                result = invoke(fn, life, args)
                if type(result) is _COROUTINE:
                    result = await self._awaited_result(life, fn, result)
                step(life, result)
            elif request.stage == "queued":
                life.pending -= 1
                await self._serve(life, request)
        await trio.lowlevel.checkpoint()

    async def _serve(self, life: ServerLife, request: Call) -> None:
        fn, step = request.fn, request.step
        assert fn is not None  # both go only when it is withdrawn
        assert step is not None
        request.stage = "taken"
        life.taken = request
        result = request.begun or self._invoke(fn, life, request.args)
        if type(result) is _COROUTINE:
            result = await self._awaited_result(life, fn, result)
        answer = step(life, result)
        life.taken = None
        if answer is not LATER:
            request.settle(answer)

    async def _awaited_result(
        self, life: ServerLife, fn: Callable[..., Any], result: Coroutine[Any, Any, Any]
    ) -> Any:
        life.current, life.since = fn, trio.current_time()
        try:
            return await finish(result)
        finally:
            life.current = None
            result.close()  # an interrupt may have come before its first step

    async def _rest(self, life: ServerLife) -> bool:
        """Park until there is something to do; False if it is to end for want of that."""
        if self._idle_timeout < math.inf:
            self._used(life)
        while not (life.queue or life.finishing):
            if not await self._park(life, life.due):
                # Who asks in the moment when its time is up is served all the same.
                over = life.due <= trio.current_time() and not life.queue
                if over and not self._is_due(life):
                    return False
        return True

    def _used(self, life: ServerLife) -> None:
        life.due = trio.current_time() + self._idle_timeout

    def _is_due(self, life: ServerLife) -> bool:
        """Do what was to be done at this time; False to end in peace."""
        return False

    async def _park(self, life: ServerLife, deadline: float) -> bool:
        life.sleeper = Sleeper()
        life.idle = life.asked is None  # whom nobody has asked to end meanwhile
        life.parked_until = deadline
        try:
            if deadline == math.inf:
                await life.sleeper.park()
                return True
            with trio.CancelScope(deadline=deadline):
                await life.sleeper.park()
                return True
            return False
        finally:
            life.idle = False
            life.sleeper = None
            life.parked_until = -math.inf
            if life.crash is not None:
                crash, life.crash = life.crash, None
                try:
                    raise crash  # also in the place of a cancellation: it came first
                finally:
                    del crash

    # --- ending --------------------------------------------------------------------------

    def _ask_in_turn(self, life: Life) -> None:
        assert isinstance(life, ServerLife)
        own = life.task is trio.lowlevel.current_task()
        if self._status not in ("running", "stopping") or own or life.trap is not None:
            super()._ask_in_turn(life)
        else:
            self._status = "stopping"
            life.asked = life.asked or "shutdown"
            life.finishing = True
            life.wake()

    def _settle(self, life: ServerLife, exit: Exit, result: Any) -> None:
        """Fail all who wait, each with an error of its own, and count the casts."""
        calls = [request for request in (life.taken, *life.queue) if isinstance(request, Call)]
        casts = [request for request in life.queue if _is_cast(request)]
        life.queue.clear()
        life.state, life.taken, life.context, life.pending = NOTHING, None, None, 0
        for request in calls:
            if request.stage in ("queued", "taken"):
                request.settle(None, Exited(self, exit))
        life.undone = len(casts)
        self._dropped_casts += life.undone
        if casts and exit.error is None:
            reports.warn(f"{'/'.join(self._path())} ended ({exit}) with {len(casts)} casts undone")

    def _tell_of_end(self, life: ServerLife, path: tuple[str, ...]) -> None:
        for _ in range(life.undone):
            events.emit(events.CastDropped, self, path)

    def _looked_at(self, life: ServerLife | None) -> Looks:
        if life is None:
            return Looks(dropped_casts=self._dropped_casts)
        current = life.current and (callable_name(life.current), life.since)
        return Looks(life.pending, self._dropped_casts, current)

    def _report_details(self, life: ServerLife) -> str:
        return f"; {life.pending} requests in its mailbox were left" if life.pending else ""

    # --- asking --------------------------------------------------------------------------

    async def _call(
        self, step: Step, fn: Callable[..., Any], args: tuple[Any, ...], timeout: Any
    ) -> Any:
        """Have a function run on the state, and wait for the answer."""
        limit = self._timeout if timeout is NOTHING else options.limit("timeout", timeout)
        if not callable(fn):
            options.function("fn", fn)
        life = self._life
        if life is not None and life.idle and not life.queue:
            life.check_run()
            del life  # since Python 3.12 a crash knows this frame, and its life keeps the crash
            await trio.lowlevel.checkpoint_if_cancelled()  # which does not yield
            return await self._call_at_once(step, fn, args, limit)
        return await self._call_in_turn(step, fn, args, limit)

    @trio.lowlevel.enable_ki_protection
    async def _call_at_once(  # noqa: PLR0915  # the hot path: calls cost
        self, step: Step, fn: Callable[..., Any], args: tuple[Any, ...], limit: float
    ) -> Any:
        """Run a function of an idle server in its caller; see rule 3."""
        life = self._life
        assert life is not None  # or it would not be idle
        life.idle = False  # what it casts to the server must queue
        request = life.taken = Call(life, step, fn, args, "taken") if self._may_defer else None
        crash: BaseException | None = None
        result: Any = None
        answer: Any = LATER
        try:
            result = life.context.run(self._invoke, fn, life, args)
            if type(result) is not _COROUTINE:
                answer = step(life, result)
        except BaseException as error:
            crash = error
        life.taken = None
        if answer is LATER:
            request = request or Call(life, step, fn, args, "taken")
            try:
                self._leave_to_loop(life, request, result, crash)
                return await self._answer(request, limit, trio.current_time() + limit)
            finally:
                del crash, self, life, request  # the user's frame knows this one, and the error
        life.idle = life.asked is None  # it may have killed the server
        if life.queue or life.finishing or life.due < life.parked_until:
            life.wake()
        if self._idle_timeout < math.inf:
            self._used(life)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return answer

    def _leave_to_loop(
        self, life: ServerLife, request: Call, result: Any, crash: BaseException | None
    ) -> None:
        """Have the server's own task end what has begun in a caller, or end with it."""
        if crash is not None:
            failures.detached(crash, sys.exc_info()[1])
            life.crash = crash
            if failures.passing(crash) is not None:
                life.crash = failures.twin(crash)
                life.wake()
                raise crash
            life.taken = request  # fails with the life
        elif type(result) is _COROUTINE:
            request.begun, request.stage = result, "queued"
            life.queue.appendleft(request)  # before what it cast itself
            life.pending += 1
        life.wake()

    @trio.lowlevel.enable_ki_protection
    async def _call_in_turn(
        self, step: Step, fn: Callable[..., Any], args: tuple[Any, ...], limit: float
    ) -> Any:
        at = trio.current_time() + limit
        self._refuse_own_call()
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._status not in _OPEN:
            await self._next_life(limit, at)
        life = self._life
        assert life is not None
        life.check_run()
        if life.pending >= self._mailbox:
            raise MailboxFull(f"{self!r} has {life.pending} requests in its mailbox already", self)
        request = Call(life, step, fn, args)
        life.put(request)
        return await self._answer(request, limit, at)

    async def _next_life(self, limit: float, at: float) -> None:
        """Wait for a life that was promised, within the limit of the call."""
        if limit > 0 and self._promised():
            assert self._life is not None
            self._life.check_run()
            await self._wait_for(lambda: until(lambda: not self._promised(), self), limit, at)
            if self._promised():
                raise self._timed_out(limit)
        if self._status not in _OPEN:
            raise NotRunning(f"{self!r} is not running", self)

    def _promised(self) -> bool:
        """Say whether there is no life to ask, but one is to come."""
        if self._status != "stopping":
            return self._status == "restarting"
        assert self._home is not None  # a claim lasts at least as long as a life
        return self._home.promises(self)

    async def _answer(self, request: Call, limit: float, at: float) -> Any:
        if request.stage == "settled":
            await trio.lowlevel.cancel_shielded_checkpoint()
        try:
            if request.stage != "settled":
                await self._wait_for(request.park, limit, at)
        finally:
            request.withdraw()
        if request.stage != "settled":
            raise self._timed_out(limit)
        if request.error is None:
            return request.value
        # If its crash fails the scope that we wait in, that wins.
        await trio.lowlevel.checkpoint_if_cancelled()
        error, request.error = request.error, None
        try:
            raise error
        finally:
            del error

    async def _wait_for(
        self, sleep: Callable[[], Awaitable[object]], limit: float, at: float
    ) -> None:
        asking = own_process()
        if asking is not None:
            asking._life.waiting_for = (self, limit)
        try:
            if limit == math.inf:
                self._refuse_circle(asking)
                await sleep()
            else:
                with trio.CancelScope(deadline=at):
                    await sleep()
        finally:
            if asking is not None:
                asking._life.waiting_for = None

    def _timed_out(self, limit: float) -> TimedOut:
        text = f"{self!r} has not answered within {limit:g} s"
        life = self._life
        if life is not None and life.current is not None:
            text += f"; it is in {callable_name(life.current)}"
        if life is not None and life.waiting_for is not None:
            text += f", waiting for {life.waiting_for[0]!r}"
        return TimedOut(text, self)

    def _refuse_own_call(self) -> None:
        if self._life is not None and self._life.task is trio.lowlevel.current_task():
            raise CalledItself(f"{self!r} would wait for itself: use the state it was given", self)

    def _refuse_circle(self, asking: Process | None) -> None:
        """Refuse a wait without limit for somebody who so waits for us."""
        if asking is None:
            return
        names, process = [asking.name], self._unlimited_wait()
        names.append(self.name)
        while process is not None:
            names.append(process.name)
            if process is asking:
                circle = " -> ".join(map(short, names))
                raise CalledItself(f"all would wait for each other: {circle}", self)
            process = process._unlimited_wait()

    @trio.lowlevel.enable_ki_protection
    def _cast(self, step: Step, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Have a function run on the state, some time."""
        if not callable(fn):
            options.function("fn", fn)
        life = self._life
        if life is None or life.finishing or self._status not in _OPEN:
            self._drop_cast()
            return
        life.check_run()
        full = life.pending >= self._mailbox
        if not full or self._make_room(life):
            life.queue.append((step, fn, args))  # as put() does, which would be a call more
            life.pending += 1
            if life.idle:
                life.wake()
        if full:
            self._drop_cast()  # last: a subscriber may cast, too

    def _make_room(self, life: ServerLife) -> bool:
        """Take a cast out of a full mailbox, if there is one and that is the policy."""
        if self._overflow == "raise":
            raise MailboxFull(f"{self!r} has {life.pending} requests in its mailbox already", self)
        place = -1
        if self._overflow == "drop_oldest":
            place = next((i for i, r in enumerate(life.queue) if _is_cast(r)), -1)
        if place >= 0:
            del life.queue[place]
            life.pending -= 1
        return place >= 0

    def _drop_cast(self) -> None:
        self._dropped_casts += 1
        if events.ANY:
            events.emit(events.CastDropped, self, self._path())


def _is_cast(request: Call | Cast | Notice) -> bool:
    return not isinstance(request, Call | Notice)


_OPEN: Final = frozenset({"running", "starting"})


@trio.lowlevel.disable_ki_protection
def begin(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call a user's function that makes a state."""
    return fn(*args)


@trio.lowlevel.disable_ki_protection
async def finish(result: Coroutine[Any, Any, Any]) -> Any:
    """Await a user's coroutine where an interrupt may be raised."""
    return await result
