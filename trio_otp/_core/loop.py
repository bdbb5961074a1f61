"""The loop that all supervisors share.

Rules of this file:
  1. The loop waits for nothing but its mailbox. A start or a stop under way is a state of
     a child, so that nothing that happens meanwhile has to wait for it.
  2. Only the loop starts, restarts and stops children. What happens to them reaches it as
     a message; who is restarted is decided in `restarts.py`.
  3. Stops come before starts, starts in their order, requests when neither is under way;
     only a terminate may end a restart that hangs. The children of a dynamic supervisor
     have nothing to do with one another: there, nothing waits for anything.
  4. Children are shielded, each in a scope of its own that is there before its task is. An
     outer cancellation reaches the loop alone, and its `finally` stops them in order.
  5. If stopping itself fails, all scopes are cancelled: the nursery must be able to end.
"""

from __future__ import annotations

import math
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
import trio

from . import events, failures, reports, restarts
from .errors import (
    AlreadyRunning,
    CalledItself,
    DuplicateChild,
    ExitProcess,
    MaxChildren,
    NotRunning,
    RestartsExhausted,
    StartFailed,
    UnknownChild,
)
from .exits import IGNORED, KILLED, SHUTDOWN, Exit
from .guests import Guests
from .homes import Home
from .nursery import OwnNursery
from .process import Process, name_late
from .text import short
from .timers import Timers
from .waiting import until

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from .children import Child, Request
    from .life import Life
    from .options import AutoShutdown, Strategy

Message: TypeAlias = tuple[Literal["ready", "ended", "asked", "left", "alone", "due"], Any, Any]


@attrs.frozen(kw_only=True)
class Rules:
    """What a supervisor was told about restarting and stopping."""

    strategy: Strategy = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 5.0
    auto_shutdown: AutoShutdown = "never"
    max_children: float = math.inf
    together: bool = False  # stop all children at once, instead of one after the other
    dynamic: bool = False  # children come and go: none waits for another, or is kept when down


class Loop(Home):
    """One life of a supervisor."""

    __slots__ = (
        "_budget",
        "_by_process",
        "_children",
        "_current",
        "_held",
        "_inbox",
        "_leaving",
        "_outbox",
        "_owner",
        "_requests",
        "_rules",
        "_starting",
        "_stop_order",
        "_timers",
        "_to_start",
        "_to_stop",
        "_told",
        "_unready",
        "closing",
        "guests",
        "nursery",
    )

    def __init__(self, owner: Process, rules: Rules, children: Iterable[Child] = ()) -> None:
        super().__init__(owner)
        self._owner: Final = owner
        self._rules: Final = rules
        self._budget = restarts.Budget(rules.max_restarts, rules.max_seconds)
        self._children: dict[Hashable, Child] = {child.id: child for child in children}
        self._by_process = {child.process: child for child in self._children.values()}
        self._inbox: trio.MemorySendChannel[Message]
        self._outbox: trio.MemoryReceiveChannel[Message]
        self._inbox, self._outbox = trio.open_memory_channel(float("inf"))
        # Stop limits, start limits and restart delays, each one of a child, or stop limits
        # of guests; None is the delay of a group restart.
        self._timers: Timers[Child | Process | None] = Timers()
        self._to_stop: set[Child] = set()
        self._stop_order: list[Child] = []  # those to be stopped in turn, the next one last
        self._told: set[Child] = set()  # to stop, and not down yet
        self._to_start: deque[Child] = deque()  # in start order
        self._starting: set[Child] = set()
        self._held = False  # a group restart waits for its delay
        self._requests: deque[Request] = deque()
        self._current: Request | None = None
        self._unready = True  # the first start is not over
        self.closing = False  # it takes no more children
        self._leaving: BaseException | None = None  # what ends this life
        self.guests = Guests(owner)

    # --- from the first start to the last stop -----------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run(self, ready: Any) -> None:
        """Live: start the children, keep them by the rules, stop them.

        Args:
            ready: Called when all children have been started.
        """
        self._claim_all()
        try:
            async with OwnNursery() as self.nursery:
                try:
                    self._to_start.extend(self._children.values())
                    await self._serve(ready)
                finally:
                    await self._end()
        finally:
            self._release_all()

    async def _serve(self, ready: Any) -> None:
        while True:
            self._advance()
            if self._unready and not (self._to_start or self._starting or self.closing):
                self._unready = False
                ready()
                self._advance()  # to the requests that came meanwhile
            self._handle(await self._next())
            if self._leaving is not None:
                leaving, self._leaving = self._leaving, None
                try:
                    failures.raised(leaving)
                finally:
                    del leaving

    async def _end(self) -> None:
        try:
            with trio.CancelScope(shield=True):
                self._close()
                await self._stop_all()
        finally:
            for process in self._all_lives():
                process._life.scope.cancel(reason="its supervisor could not stop it in order")
            self._refuse_the_rest()

    def _close(self) -> None:
        self.closing = True
        self._to_start.clear()
        self._timers = Timers()
        self.guests.tell = self._inbox
        under_way = [child.asker for child in self._children.values()]
        starts = [request for request in under_way if request and request.verb != "terminate"]
        for request in (*self._requests, *starts):
            request.settle(self._stopping())
        self._requests.clear()

    def _refuse_the_rest(self) -> None:
        """Answer those who asked just before this was closing, or whose stop was broken off."""
        for child in self._children.values():
            if child.asker is not None:
                self._answer(child, self._stopping())
        try:
            while True:
                kind, request, _ = self._outbox.receive_nowait()
                if kind == "asked":
                    request.settle(self._stopping())
        except trio.WouldBlock:
            pass

    def _stopping(self) -> NotRunning:
        return NotRunning(f"{self._owner!r} is stopping", self._owner)

    async def _stop_all(self) -> None:
        alive = [child for child in reversed(self._children.values()) if child.alive]
        for child in alive:
            if child.state == "stopping":
                self._timers.set(child, trio.current_time() + child.grace)
        self._to_stop.clear()
        self._have_stopped(alive)
        for guest in self.guests:
            self.stop_guest(guest)
            self._timers.set(guest, trio.current_time() + guest._grace())
        while self._to_stop or self.guests:
            self._stop_next()
            self._handle(await self._next())

    def stop_guest(self, guest: Process) -> None:
        """Ask a guest to end as this supervisor does."""
        if guest._shutdown() == "brutal_kill":
            guest.kill()
        else:
            guest._ask(guest._life, guest._grace())

    def watch_guest(self, guest: Process, at: float) -> None:
        """Name a guest that has not ended by then, since whoever had it stopped has left."""
        self._timers.set(guest, at)
        self._inbox.send_nowait(("alone", None, None))  # to look at its timers again

    def kill(self) -> None:
        """Cancel all children at once; for `Process.kill`."""
        for process in self._all_lives():
            process.kill()

    def _all_lives(self) -> list[Process]:
        processes = [child.process for child in self._children.values() if child.alive]
        return [p for p in (*processes, *self.guests) if p._life.exit is None]

    # --- claims --------------------------------------------------------------------------

    def _claim_all(self) -> None:
        claimed: list[Process] = []
        try:
            for child in self._children.values():
                child.process._claim(self)
                claimed.append(child.process)
        except BaseException:
            for process in claimed:
                process._home = None
            raise

    def _release_all(self) -> None:
        for child in tuple(self._children.values()):
            self._answer(child)  # who waits for a stop that was broken off: it is down
            self._forget(child)
        self.guests.part()

    def _forget(self, child: Child) -> None:
        self._children.pop(child.id, None)
        self._by_process.pop(child.process, None)
        if child in self._to_start:
            self._to_start.remove(child)
        child.process._home = None
        self._forsake(child)
        if self.idle():
            self.guests.ring()

    def idle(self) -> bool:
        """Say whether there is nothing under it."""
        return not self._children and not self.guests

    def size(self) -> int:
        """Count what is under it."""
        return len(self._children) + len(self.guests)

    def _forsake(self, child: Child) -> None:
        """Take back the promise of another life: who waits for it need not wait on."""
        child.process._forsaken()

    # --- messages ------------------------------------------------------------------------

    def ready(self, process: Process) -> None:
        """Hear of a child's wrapper that it is ready."""
        self._inbox.send_nowait(("ready", self._by_process[process], None))

    def ended(self, process: Process, life: Life, exit: Exit) -> BaseException | None:
        """Hear of a child's wrapper that its life is over; the failure stays here."""
        child = self._by_process[process]
        if self._promises(child, exit):
            process._status = "restarting"
        self._inbox.send_nowait(("ended", child, exit))
        return None

    def interrupted(self) -> None:
        """Take back all promises: what passes is about to cancel this loop."""
        self.closing = True

    def hands_on(self, process: Process) -> bool:
        """Say whether the failure of a start is told to whoever asked for it."""
        child = self._by_process[process]
        return _is_starting(child) and (self._unready or child.asker is not None)

    def promises(self, process: Process) -> bool:
        """Say whether another life will follow the one that is being stopped."""
        exit = KILLED if process._life.asked == "killed" else SHUTDOWN
        return self._promises(self._by_process[process], exit)

    def _promises(self, child: Child, exit: Exit) -> bool:
        """Say whether another life will follow, as far as can be known before deciding."""
        if self.closing or child.doomed or exit is IGNORED:
            return False
        if child in self._to_stop:
            return child in self._to_start
        if _is_starting(child) or child.failure is not None:
            return child.asker is None and not self._unready
        return restarts.wants_restart(child.restart, exit)

    async def _next(self) -> Message:
        at = self._timers.next_at()
        if at == float("inf"):
            return await self._outbox.receive()
        with trio.CancelScope(deadline=at):
            return await self._outbox.receive()
        for _ in range(2):  # who was asked to stop in this moment may end in this moment
            await trio.lowlevel.checkpoint()
        try:
            return self._outbox.receive_nowait()
        except trio.WouldBlock:
            return ("due", None, None)

    def _handle(self, message: Message) -> None:
        match message:
            case ("ended", child, exit):
                self._on_end(child, exit)
            case ("ready", child, _):
                self._on_ready(child)
            case ("asked", request, _):
                self._on_asked(request)
            case ("left", request, _):
                self._on_left(request)
            case ("due", _, _):
                for key in self._timers.take_due(trio.current_time()):
                    self._on_due(key)
            case _:
                pass  # "alone": the last guest has left; whoever waits for that looks

    # --- what may be done now ------------------------------------------------------------

    def _advance(self) -> None:
        if self.closing:
            return  # an interrupt passes; the cancellation that it brings comes next
        if self._to_stop:
            self._stop_next()
        elif self._to_start and not self._held:
            self._start_next()
        if not self._unready:
            self._serve_next()

    def _have_stopped(self, children: list[Child]) -> None:
        """Have children stopped before anything is started: all now, or one after the other."""
        self._to_stop.update(children)
        if self._rules.together:
            for child in children:
                self._stop(child)
        else:
            self._stop_order = [c for c in self._children.values() if c in self._to_stop]

    def _stop_next(self) -> None:
        if self._rules.together:
            return  # all have been told
        while self._to_stop and self._told.isdisjoint(self._to_stop):
            child = self._stop_order.pop()
            if child in self._to_stop:  # else it has ended by itself
                self._stop(child)

    def _start_next(self) -> None:
        while self._to_start and not self._starting:
            self._start(self._to_start.popleft())

    # --- starting ------------------------------------------------------------------------

    def _start(self, child: Child) -> None:
        child.state = "starting"
        child.failure = None
        self._starting.add(child)
        if child.context is None:
            life = child.process._spawn(self.nursery)
        else:
            life = child.context.copy().run(child.process._spawn, self.nursery)
        if life.ready:
            self._on_ready(child)
        else:
            self._timers.set(child, trio.current_time() + child.start_timeout)

    def _on_ready(self, child: Child) -> None:
        if child.state == "starting":
            child.state = "up"
            child.up_since = trio.current_time()
            self._starting.discard(child)
            self._timers.drop(child)
            self._answer(child)

    def _start_failed(self, child: Child, exit: Exit) -> None:
        if child.asker is None and not self._unready:
            self._restart(child, exit, again=True)
            return
        error = child.failure or _start_failed(child, exit)
        if exit.error is not None:  # it goes on, with frames that the handle must not keep
            child.process._last_exit = child.process._life.exit = failures.keepsake(exit)
        if child.asker is None:
            self._leaving = error
            return
        starting = child.asker.verb == "start"
        self._answer(child, error)
        if starting or child.doomed:
            self._forget(child)
        else:
            self._forsake(child)

    def _on_ignored(self, child: Child) -> None:
        self._answer(child)
        self._down_for_good(child)

    # --- ending --------------------------------------------------------------------------

    def _stop(self, child: Child) -> None:
        if child.state == "stopping":
            return
        child.state = "stopping"
        self._told.add(child)
        self._timers.set(child, trio.current_time() + child.grace)
        if child.shutdown == "brutal_kill":
            child.process.kill()
        else:
            child.process._ask(child.process._life, child.grace)

    def _on_end(self, child: Child, exit: Exit) -> None:
        # Who falls while it waits to be stopped with its group was only quicker: no restart.
        was = "stopping" if child in self._to_stop else child.state
        child.state = "down"
        self._timers.drop(child)
        self._starting.discard(child)
        self._told.discard(child)
        self._to_stop.discard(child)
        if self.closing:
            self._answer(child)
        elif was == "stopping" and child.failure is None:
            self._on_stopped(child)
        elif was != "up" and exit is IGNORED and child.failure is None:
            self._on_ignored(child)
        elif was != "up":
            self._start_failed(child, exit)
        else:
            self._on_fall(child, exit)

    def _on_stopped(self, child: Child) -> None:
        if child.asker is not None and child.asker.verb == "terminate":
            self._answer(child)
        if child not in self._to_start:
            gone = StartFailed(f"{self._path_of(child)} was dropped by a group restart", child.id)
            self._answer(child, gone)
            self._down_for_good(child)

    def _on_fall(self, child: Child, exit: Exit) -> None:
        if restarts.wants_restart(child.restart, exit):
            self._restart(child, exit)
            return
        if child.significant:
            others = [c.state != "down" for c in self._children.values() if c.significant]
            if restarts.shuts_down(self._rules.auto_shutdown, child.significant, others):
                self._leaving = ExitProcess("shutdown", "auto_shutdown")
        self._down_for_good(child)

    def _down_for_good(self, child: Child) -> None:
        if child.restart == "temporary" or child.doomed or self._rules.dynamic:
            self._forget(child)
        else:
            self._forsake(child)

    # --- restarting ----------------------------------------------------------------------

    def _restart(self, child: Child, exit: Exit, *, again: bool = False) -> None:
        now = trio.current_time()
        user = child.process.name if child.id is child.process else child.id
        if not self._budget.spend(now, user):
            self._give_up(child, exit)
            return
        if not again and now - child.up_since >= self._rules.max_seconds:
            child.falls = 0
        child.falls += 1
        child.restarts += 1
        delay = child.backoff.delay(child.falls) if child.backoff else 0.0
        if exit.error is None:
            reports.warn(f"{self._path_of(child)} ended ({exit}) and is restarted")
        # A start that failed is not repeated on the spot: requests come in between.
        at_once = not (delay or again)
        alone = self._rules.strategy == "one_for_one"
        if alone:
            child.state = "waiting"
        else:
            self._bounce_group(child, now + delay, at_once=at_once)
        if events.ANY:
            about = {"exit": exit, "delay": delay, "count": child.restarts}
            events.emit(events.Restarting, child.process, child.process._path(), **about)
        if alone and at_once:
            self._start(child)
        elif alone:
            self._timers.set(child, now + delay)

    def _bounce_group(self, fallen: Child, at: float, *, at_once: bool) -> None:
        order = list(self._children.values())
        places = restarts.bounced(self._rules.strategy, len(order), order.index(fallen))
        members = [order[place] for place in places]
        earlier = not {*self._to_start} <= {*members}
        for child in members:
            child.doomed |= child.restart == "temporary"
            if child.asker is None:
                child.failure = None  # a start that is timing out is part of this restart now
            if child.doomed and not child.alive:
                self._forget(child)
        self._have_stopped([child for child in reversed(members) if child.alive])
        wanted = {*self._to_start, *(child for child in members if not child.doomed)}
        self._to_start = deque(child for child in order if child in wanted)
        for child in self._to_start:
            if not child.alive:
                child.process._status = "restarting"
        if not earlier:  # else these wait with a group that has a delay already
            self._held = not at_once
            self._timers.set(None, at if self._held else math.inf)

    def _give_up(self, child: Child, exit: Exit) -> None:
        self.closing = True  # promises end here, before anybody can look
        text = f"{short(self._owner.name)} gave up: {self._budget.account()}"
        error = RestartsExhausted(text)
        error.__cause__ = exit.error
        self._leaving = error
        if events.ANY:
            events.emit(events.GaveUp, self._owner, self._owner._path(), error=error)

    # --- time ----------------------------------------------------------------------------

    def _on_due(self, key: Child | Process | None) -> None:
        if key is None:
            self._held = False
        elif isinstance(key, Process):
            if key in self.guests:
                name_late(key, key._life, key._grace())
        elif key.state == "waiting":
            self._start(key)
        elif key.state == "starting":
            key.failure = StartFailed(
                f"{self._path_of(key)} was not ready within {key.start_timeout:g} s", key.id
            )
            self._stop(key)
        else:
            name_late(key.process, key.process._life, key.grace)

    # --- requests ------------------------------------------------------------------------

    async def ask(self, request: Request) -> None:
        """Have the loop do something, and wait until it is done.

        A start whose asker leaves is abandoned; a stop goes on.
        """
        self.check_run()
        if self.closing:
            raise self._stopping()
        if not self._rules.dynamic and self._is_starting(trio.lowlevel.current_task()):
            raise CalledItself(
                f"{self._owner!r} is starting this very task, and answers when that is done",
                self._owner,
            )
        self._inbox.send_nowait(("asked", request, None))
        try:
            await until(request.is_settled, request)
        except BaseException:
            request.left = True
            self._inbox.send_nowait(("left", request, None))
            raise
        error, request.error = request.error, None
        if error is not None:
            try:
                failures.raised(error)
            finally:
                del error

    def _is_starting(self, task: trio.lowlevel.Task) -> bool:
        for child in self._starting:
            inner: Loop | None = getattr(child.process, "_loop", None)
            if child.process._life.task is task or (inner and inner._is_starting(task)):
                return True
        return False

    def _on_asked(self, request: Request) -> None:
        if self.closing:
            request.settle(self._stopping())
        else:
            self._requests.append(request)

    def _serve_next(self) -> None:
        while self._requests and self._may_serve(self._requests[0]):
            request = self._requests.popleft()
            if not request.left:
                self._current = request
                self._serve_one(request)

    def _may_serve(self, request: Request) -> bool:
        """Say whether nothing is under way that a request has to wait for."""
        if self._rules.dynamic:
            return True
        if self._current is not None or self._to_stop or (self._to_start and not self._held):
            return False
        # One start at a time; a stop may be what ends the one under way.
        return not self._starting or request.verb == "terminate"

    def _serve_one(self, request: Request) -> None:
        child = request.child
        self._take_over(child, request)
        try:
            if request.verb == "start":
                self.admit(child)
            elif self._children.get(child.id) is not child:
                raise UnknownChild(f"{self._owner!r} has no child {short(child.id)} any more")
            if request.verb == "terminate":
                self._terminate(child)
            else:
                self._refuse_if_not_down(child)
                self._start(child)
        except Exception as error:
            self._answer(child, error)

    def _take_over(self, child: Child, request: Request) -> None:
        """Have a child answer this request; an earlier one is a start that ends, or a stop too."""
        if child.asker is not None and child.asker.verb == "start":
            ended = StartFailed(f"{self._path_of(child)} was terminated in its start", child.id)
            self._answer(child, child.failure or ended)
        request.earlier, child.asker = child.asker, request

    def _terminate(self, child: Child) -> None:
        child.failure = None
        if child.alive:
            self._to_stop.add(child)
            self._stop(child)
            return
        self._timers.drop(child)
        if child in self._to_start:
            self._to_start.remove(child)
        child.state = "down"
        self._answer(child)
        self._down_for_good(child)

    def _answer(self, child: Child, error: Exception | None = None) -> None:
        request, child.asker = child.asker, None
        while request is not None:
            request.settle(error)
            self._current = None  # where requests are served one at a time it was this one
            request = request.earlier

    def _on_left(self, request: Request) -> None:
        child = request.child
        if self.closing or request.verb == "terminate":
            return
        if child.asker is not request:
            self._undo(request)
            return
        child.failure = NotRunning(f"the start of {self._path_of(child)} was abandoned")
        if child in self._to_start:
            self._to_start.remove(child)
        if child.state == "starting":
            self._stop(child)
        elif not child.alive:
            self._start_failed(child, IGNORED)

    def _undo(self, request: Request) -> None:
        """Stop a child that became ready in the very moment in which its asker left."""
        child = request.child
        granted = request.settled and request.error is None
        if granted and self._children.get(child.id) is child:
            child.doomed |= request.verb == "start"
            self._terminate(child)

    # --- plain looks and changes -----------------------------------------------------------

    def admit(self, child: Child) -> None:
        """Take a child into the tables, at the end of the order."""
        if child.id in self._children:
            raise DuplicateChild(
                f"{self._owner!r} has a child {short(child.id)} already, "
                f"it is {self._children[child.id].process.status}"
            )
        if len(self._children) >= self._rules.max_children:
            limit = f"max_children={self._rules.max_children:g}"
            raise MaxChildren(f"{self._owner!r} holds {limit} children already")
        child.process._claim(self)
        self._children[child.id] = child
        self._by_process[child.process] = child

    def start_now(self, child: Child) -> None:
        """Take a child in and run it, in the step and the context of whoever asks."""
        self.check_run()
        self.admit(child)
        self._start(child)
        child.context = copy_context()

    def delete(self, child: Child) -> None:
        """Forget a child that is down."""
        self._refuse_if_not_down(child)
        self._forget(child)

    def _refuse_if_not_down(self, child: Child) -> None:
        if child.state != "down" or child in self._to_start:
            raise AlreadyRunning(f"{self._path_of(child)} is {child.process.status}")

    def children(self) -> list[Child]:
        """Give the children in start order."""
        return list(self._children.values())

    def find(self, child: Hashable) -> Child | None:
        """Find a child by its process or its id."""
        if isinstance(child, Process) and child in self._by_process:
            return self._by_process[child]
        return self._children.get(child)

    def _path_of(self, child: Child) -> str:
        return "/".join(child.process._path())


def _is_starting(child: Child) -> bool:
    """Say whether a child is not ready yet; the news that it is may still be in the mailbox."""
    return child.state == "starting" and not child.process._life.ready


def _start_failed(child: Child, exit: Exit) -> StartFailed:
    path = "/".join(child.process._path())
    if exit.error is None:
        error = StartFailed(f"{path} ended before it was ready: {exit}", child.id)
    else:
        error = StartFailed(f"{path} failed to start: {exit}", child.id)
        error.__cause__ = exit.error
    return error
