"""Process: the handle of anything that lives in a home, and the wrapper of its lives.

Rules of this file:
  1. `live` is the only code that settles a life. It is protected from KeyboardInterrupt
     and hands that protection off around user code; what it does after the user's code
     never waits, so it cannot be broken off.
  2. A life's scope is recorded before its Trio task is spawned.
  3. Tables are made right first, then events are emitted: a subscriber may call back.
"""

from __future__ import annotations

import dis
import inspect
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, TypeAlias, final

import trio

from . import events, failures, options, reports
from .errors import AlreadyRunning, NotRunning, TimedOut
from .homes import Block, Home, NurseryHome
from .life import Life
from .specs import ChildOptions, ChildSpec, Startable
from .text import short
from .waiting import Bell, until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Iterator
    from types import TracebackType
    from typing import Self, Unpack

    from .exits import Exit
    from .options import Limit, Restart, Shutdown

Status: TypeAlias = Literal["new", "starting", "running", "restarting", "stopping", "stopped"]
"""Where a process stands; `"restarting"` is between two lives, the next one promised."""

_current: Final[ContextVar[Process | None]] = ContextVar("trio_otp_process", default=None)

NOTHING: Final = object()  # the result of a life that did not return

_HANDLERS: Final = ("init", "handle_call", "handle_cast", "handle_info", "handle_continue")
MAY_OVERRIDE: Final = frozenset({"child_spec", "main", "terminate", *_HANDLERS})
_SET_BY_US: Final = frozenset({"_class_restart", "_class_shutdown"})  # on classes of users


class Given(NamedTuple):
    """The options that an instance was given; what it was not, its class decides."""

    restart: Restart | None = None
    shutdown: float | Literal["brutal_kill", "inherit"] = "inherit"

    @classmethod
    def checked(cls, restart: Any, shutdown: Any) -> Given:
        """Check the options; the plain case is one shared object."""
        if restart is None and shutdown == "inherit":
            return NOTHING_GIVEN
        if restart is not None:
            options.one_of("restart", restart, options.RESTARTS)
        return cls(restart, shutdown if shutdown == "inherit" else options.shutdown(shutdown))


NOTHING_GIVEN: Final = Given()


class Looks(NamedTuple):
    """What a kind of process adds to its snapshot."""

    mailbox_length: int = 0
    dropped_casts: int = 0
    current: tuple[str, float] | None = None


class Process(Bell, Startable):
    """The handle of something that runs in a home: the base of all of them.

    Cheap to build, runs nothing by itself, and stays the address of its process from one
    life to the next. There are three ways to run one: `async with process:` (the block
    owns it), `await nursery.start(process.run)` (the nursery does, OTP's `start_link`),
    and `Supervisor([process])`. Equal only to itself; not to be used from other threads.
    """

    __slots__ = (
        "__weakref__",
        "_asked_by",
        "_given",
        "_home",
        "_last_exit",
        "_life",
        "_name",
        "_status",
    )

    _kind: ClassVar[str] = "process"
    _over_for_good: ClassVar[bool] = False  # whether `wait` means the end of all lives
    _class_restart: ClassVar[Restart] = "permanent"
    _class_shutdown: ClassVar[float | Literal["brutal_kill"]] = 5.0

    _home: Home | None
    _last_exit: Exit | None
    _life: Any  # Life, or what a subclass makes of it
    _name: str | None
    _status: Status
    _asked_by: tuple[str, ...]  # the process that asked for it, and who asked for that one
    _given: Given

    def __init__(
        self,
        *,
        name: str | None = None,
        restart: Restart | None = None,
        shutdown: Shutdown | Literal["inherit"] = "inherit",
    ) -> None:
        self._name = options.label(name)
        self._given = Given.checked(restart, shutdown)
        self._status = "new"
        self._home = self._last_exit = self._life = self._sleepers = None
        self._asked_by = ()

    def __init_subclass__(
        cls,
        *,
        restart: Restart | None = None,
        shutdown: Shutdown | Literal["inherit"] = "inherit",
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        _refuse_hidden_names(cls)
        given = Given.checked(restart, shutdown)
        cls._class_restart = given.restart or cls._class_restart
        if given.shutdown != "inherit":
            cls._class_shutdown = given.shutdown

    if not TYPE_CHECKING:  # pragma: no branch

        def __getattr__(self, name: str) -> Any:
            if name in Process.__slots__:  # all of them are set in __init__
                raise RuntimeError(f"{type(self).__qualname__}.__init__ must call super().__init__")
            return object.__getattribute__(self, name)  # which says what it always says

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {short(self.name)} {self._status}>"

    # --- looking -----------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What it is called in messages, logs and trees; need not be unique."""
        return self._name or type(self).__name__

    @property
    def status(self) -> Status:
        """Where it stands: one of `"new" "starting" "running" "restarting" "stopping" "stopped"`."""
        return self._status

    @property
    def last_exit(self) -> Exit | None:
        """How its last life ended, or None if none has."""
        return self._last_exit

    # --- running -----------------------------------------------------------------------

    @final
    @trio.lowlevel.enable_ki_protection
    async def run(
        self,
        *,
        task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED,  # pyright: ignore[reportArgumentType]
    ) -> None:
        """Live once in the calling Trio task; OTP's `start_link` by `nursery.start(p.run)`.

        Returns when the process ends in peace. Cancellation ends the process, its cleanup
        included, and passes on.

        Raises:
            AlreadyRunning: It has a home already.
            Exited: It was killed.
            Exception: Its own error, bare, if it crashed or failed to start.
        """
        home = NurseryHome(_current.get(), task_status)
        self._claim(home)
        before = _current.get()
        try:
            life = self._begin(shield=False)
            if life.ready:
                home.ready(self)
            await live(self, life, self._main(life))
        finally:
            _current.set(before)

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Self:
        block = Block(self, _current.get())
        await block.open()
        return self

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        block = self._home
        assert isinstance(block, Block)  # the claim lasts as long as the block
        try:
            return await block.close(kind, error, trace)
        finally:
            del error, trace  # a crash that leaves keeps this frame

    # --- ending ------------------------------------------------------------------------

    @final
    async def stop(self, *, timeout: Limit = None) -> Exit:
        """Ask it to end, wait until it has, and say how; `GenServer.stop/3`.

        A function that traps exits is told and has its shutdown limit; another is
        cancelled; a server finishes what it is working on, but not its backlog. The stop
        goes on if the wait is cancelled or times out: it cannot be taken back. A
        *permanent* child of a supervisor comes back; `terminate_child` keeps it down.

        Args:
            timeout: Seconds to wait; `None` for no limit.

        Raises:
            NotRunning: It has never run.
            TimedOut: It has not ended yet.
        """
        at = options.limit("timeout", timeout) + trio.current_time()
        await trio.lowlevel.checkpoint()
        life = self._life
        self._check_run(life)
        if life is not None:
            self._ask_in_turn(life)
        return await self._end(at, "stop", lambda: life is None or life.exit is not None)

    @final
    async def wait(self) -> Exit:
        """Wait for the end of its current life and say how it ended; `Process.monitor/1`.

        At once if nothing runs. For a `Task`, the end for good. Cancellation leaves
        nothing behind.

        Raises:
            NotRunning: It has never run.
        """
        await trio.lowlevel.checkpoint()
        life = self._life
        self._check_run(life)
        return await self._end(float("inf"), "wait for", lambda: self._over(life))

    @final
    def kill(self) -> None:
        """Cancel it, and everything under it, at once; `Process.exit(pid, :kill)`.

        Without order and without asking, also while it is being stopped. Cooperative, as
        all cancellation: code that reaches no checkpoint, or shields, is waited for by its
        home. Does nothing if it does not run.
        """
        if self._life is not None and self._life.exit is None:
            self._check_run(self._life)
            self._kill(self._life)

    def _given_name(self) -> str | None:
        return self._name

    # --- describing --------------------------------------------------------------------

    def child_spec(self, **changes: Unpack[ChildOptions]) -> ChildSpec:
        """Describe it as a child, with some options changed; `Supervisor.child_spec/2`.

        Raises:
            TypeError: An option is unknown, or of a wrong type.
            ValueError: An option has a wrong value; the message names what it takes.
        """
        return ChildSpec(self, **changes)

    # --- for the homes -------------------------------------------------------------------

    async def _main(self, life: Any) -> Any:
        """Run one life; calls `_become_ready` when it can be used."""
        raise NotImplementedError

    def _make_life(self, shield: bool) -> Life:
        return Life(shield)

    def _claim(self, home: Home) -> None:
        """Give the handle to one home, until its removal."""
        if self._home is not None and self._home.holds():
            raise AlreadyRunning(f"{self!r} has a home already: a handle has one at a time")
        self._home = home

    def _claimed_by(self) -> Home:
        assert self._home is not None  # a claim lasts at least as long as a life
        return self._home

    def _begin(self, *, shield: bool) -> Any:
        """Make the next life; the caller runs it by `live`, and looks whether it is ready."""
        life = self._make_life(shield)
        before, self._life = self._life, life
        if before is not None:
            life.at_end = before.at_end  # what is to hear of the end of this one, too
        self._status = "running" if life.ready else "starting"
        if events.ANY:
            try:
                events.emit(events.Started, self, self._path())
                if life.ready:
                    events.emit(events.Ready, self, self._path())
            except BaseException as error:  # a subscriber that exits: nobody will run this life
                _finish(self, life, error, NOTHING)
                raise
        return life

    def _spawn(self, nursery: trio.Nursery) -> Any:
        """Run the next life, shielded, as a task of a nursery of ours."""
        life = self._begin(shield=True)
        nursery.start_soon(live, self, life, self._main(life), name=self.name)
        return life

    def _become_ready(self, life: Life) -> None:
        if life.ready:
            raise RuntimeError(f"{short(self.name)} said twice that it has started")
        life.ready = True
        if self._status != "starting":
            return  # being stopped: the news comes too late
        self._status = "running"
        self._claimed_by().ready(self)
        self.ring()
        if events.ANY:
            events.emit(events.Ready, self, self._path())

    def _check_run(self, life: Life | None) -> None:
        """Refuse another thread before it can do harm to a life."""
        if life is not None and life.exit is None:
            self._claimed_by().check_run()

    def _ask(self, life: Life, limit: float) -> None:
        """Ask for the end as a home does: now."""
        if life.exit is None:
            self._status = "stopping"
            life.ask(limit)

    def _ask_in_turn(self, life: Life) -> None:
        """Ask for the end as a user of the handle does."""
        self._ask(life, self._grace())

    def _kill(self, life: Life) -> None:
        self._status = "stopping"
        life.kill()

    def _grace(self) -> float:
        """Give the seconds that a stop leaves it."""
        limit = self._shutdown()
        return 0 if limit == "brutal_kill" else limit

    def _shutdown(self) -> float | Literal["brutal_kill"]:
        given = self._given.shutdown
        return self._class_shutdown if given == "inherit" else given

    def _restart(self) -> Restart:
        return self._given.restart or self._class_restart

    async def _before_leaving(self) -> None:
        """Do what leaving its block in peace means, before the stop."""

    def _forsaken(self) -> None:
        """Hear that no other life will follow."""
        if self._status == "restarting":
            self._status = "stopped"
            if self._life is not None and self._life.at_end is not None:
                _call_at_end(self, self._life)
            self.ring()

    def _check_restart(self, restart: Restart) -> None:
        """Refuse a restart type that makes no sense for it."""

    async def _stopped(self) -> None:
        """Stop the current life and wait for its end; for blocks."""
        life = self._life
        if life is not None and life.exit is None:
            self._ask(life, self._grace())
            await ended_or_named(self, life, self._grace())

    async def _end(self, at: float, what: str, over: Callable[[], bool]) -> Exit:
        life = self._life
        if self._status == "new":
            raise NotRunning(f"cannot {what} {self!r}: it has never run", self)
        if not await until(over, self, at=at):
            raise TimedOut(f"could not {what} {self!r} in time: it goes on ending", self)
        exit = self._last_exit if self._over_for_good else life.exit
        assert exit is not None
        return exit

    def _over(self, life: Life) -> bool:
        """Say whether `wait` may return."""
        return life.exit is not None

    def _settle(self, life: Any, exit: Exit, result: Any) -> None:
        """Hear of the end of a life: fail who waits for an answer, keep a result."""

    def _tell_of_end(self, life: Any, path: tuple[str, ...]) -> None:
        """Emit what is to be known before the end itself."""

    def _awaited(self) -> bool:
        """Say whether somebody waits for the error of a crash and will get it."""
        return False

    def _unlimited_wait(self) -> Process | None:
        """Give whom it is calling without a limit."""
        waits: tuple[Process, float] | None = self._life and self._life.waiting_for
        return waits[0] if waits is not None and waits[1] == float("inf") else None

    def _looked_at(self, life: Any) -> Looks:
        """Give what a snapshot adds."""
        return Looks()

    def _under(self) -> dict[Process, tuple[Hashable, int]]:
        """Give what its tables hold: each process with its id and its restarts."""
        return {}

    def _report_details(self, life: Any) -> str:
        """Give what a crash report adds."""
        return ""

    def _path(self) -> tuple[str, ...]:
        names = [self.name]
        process: Process = self
        while (home := process._home) is not None and home.parent is not None:
            process = home.parent
            names.append(process.name)
        return tuple(reversed(names))


@trio.lowlevel.enable_ki_protection
async def live(process: Process, life: Life, body: Coroutine[Any, Any, Any]) -> None:
    """Run one life to its end in the current Trio task; raises what its home lets out."""
    life.task = trio.lowlevel.current_task()
    _current.set(process)
    result = NOTHING
    try:
        with life.scope:
            result = await unprotected(body)
    except BaseException as error:
        body.close()  # an interrupt may have come before its first step
        leaving = _finish(process, life, error, result)
    else:
        leaving = _end(process, life, life.quiet_end(), result)
    del process, life, body, result  # since Python 3.12 a stored error knows this frame
    if leaving is not None:
        try:
            failures.raised(leaving)
        finally:
            del leaving  # a traceback keeps this frame, which must not keep the error


@trio.lowlevel.disable_ki_protection
async def unprotected(body: Coroutine[Any, Any, Any]) -> Any:
    """Await user code where an interrupt may be raised."""
    return await body


def _finish(
    process: Process, life: Life, error: BaseException, result: Any
) -> BaseException | None:
    """Settle a life that an exception ended; give what its wrapper is to raise."""
    exit, passing = life.conclude(error)
    if exit.error is None:
        if passing is not None:
            process._claimed_by().interrupted()
        out = _end(process, life, exit, result)
        return passing or out
    crash, path, awaited = exit.error, process._path(), process._awaited()
    details = process._report_details(life)
    exit = failures.identified(exit)
    home = process._claimed_by()
    told = home.hands_on(process)
    if home.links(process):
        # It goes on as an exception, through frames that the handle must not keep.
        _end(process, life, failures.keepsake(exit), result)
        return failures.guarded(crash)
    out = _end(process, life, exit, result)
    if told:
        return out
    life.owed = (path, exit, details)
    waits_on = process._over_for_good and process._status != "stopped"  # for a later life's end
    if not awaited or waits_on:
        report_owed(process, life)
    failures.forget_locals(crash)
    return out


def _end(process: Process, life: Life, exit: Exit, result: Any) -> BaseException | None:
    """Make all records right, wake who waits, then emit the event."""
    home = process._claimed_by()
    path = process._path() if events.ANY else ()
    life.exit = process._last_exit = exit
    process._status = "stopped"  # a home that promises another life says so in ended()
    process._settle(life, exit, result)
    out = home.ended(process, life, exit)
    if life.at_end is not None:
        _call_at_end(process, life)
    if process._sleepers is not None:
        process.ring()
    if events.ANY:
        process._tell_of_end(life, path)
        events.emit(events.Ended, process, path, exit=exit)
    life.task = None  # its context knows the process: a cycle
    return out


def _call_at_end(process: Process, life: Life) -> None:
    called, life.at_end = life.at_end, None
    assert called is not None
    for fn in called:
        fn(process)


def report_owed(process: Process, life: Life) -> None:
    """Report the failure of a life that nobody has taken as an exception."""
    if life.owed is not None:
        owed, life.owed = life.owed, None
        _report(process, *owed)


def _report(process: Process, path: tuple[str, ...], exit: Exit, details: str) -> None:
    extra = {"otp_process": process, "otp_asked_by": process._asked_by}
    reports.crashed(path, exit, details, extra)


async def ended_or_named(process: Process, life: Life, limit: float) -> None:
    """Wait for the end of a life that was asked to stop; name it once if it is late."""

    def over() -> bool:
        return life.exit is not None

    if await until(over, process, at=trio.current_time() + limit):
        return
    for _ in range(2):  # who is cancelled in this moment may end in this moment
        await trio.lowlevel.checkpoint()
    if not over():
        name_late(process, life, limit)
        await until(over, process)


def name_late(process: Process, life: Life, limit: float) -> None:
    """Say once who is late; Trio cannot end a task by force, so its home keeps waiting."""
    if life.named or life.exit is not None:
        return  # somebody else waits for its end as well, or it has just come
    life.named = True
    life.kill()
    path = process._path()
    reports.warn(
        f"{'/'.join(path)} is late: asked to stop, and not done after {limit:g} s; its end is waited for",
        otp_process=process,
        otp_path=path,
    )
    if events.ANY:
        events.emit(events.StopLate, process, path, limit=limit)


def current_process() -> Process | None:
    """Give the process whose code is running, or None; OTP's `self()`.

    Right also in a function that an agent runs on behalf of its caller, and in the Trio
    tasks that a process spawns.
    """
    return _current.get()


def life_now(process: Process, what: str) -> Life:
    """Give the life that something is going to belong to."""
    life: Life | None = process._life
    if life is None or life.exit is not None:
        raise NotRunning(f"{process!r} does not run: {what} belongs to a life", process)
    return life


def own_process() -> Process | None:
    """Give the process whose own Trio task, not one that it spawned, is running."""
    process = _current.get()
    if process is None or process._life is None:
        return None
    return process if process._life.task is trio.lowlevel.current_task() else None


def own_life(what: str) -> Life:
    """Find the life that the current Trio task belongs to."""
    process = _current.get()
    life: Life | None = None if process is None else process._life
    if life is None or all(task is not life.task for task in task_and_above()):
        raise RuntimeError(f"{what} works only in the Trio tasks of a process of trio_otp")
    return life


def task_and_above() -> Iterator[trio.lowlevel.Task]:
    """Give the current Trio task, and those in whose nurseries it runs, the nearest first."""
    task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    while task is not None:
        yield task
        task = task.parent_nursery and task.parent_nursery.parent_task


def asker() -> tuple[str, ...]:
    """Name the process that asks for another, and who asked for it: nearest first, up to eight."""
    process = _current.get()
    return () if process is None else (process.name, *process._asked_by)[:8]


def _refuse_hidden_names(cls: type) -> None:
    """Refuse a subclass, at its creation, that has or sets something under a name of ours."""
    if _is_ours(cls):
        return
    theirs: dict[str, str] = {}  # the names met so far, also those of a mixin
    for base in cls.__mro__:
        if not _is_ours(base):
            if base is cls or not issubclass(base, Process):  # else it was checked already
                theirs.update(_names_set_by(base))
                theirs.update({name: f"{base.__qualname__}.{name} hides" for name in vars(base)})
        elif issubclass(base, Process) or base is Bell:
            for name in (base.__dict__.keys() & theirs.keys()) - MAY_OVERRIDE - _SET_BY_US:
                if not name.startswith("__"):
                    raise TypeError(f"{theirs[name]} {base.__qualname__}.{name}")


def _names_set_by(cls: type) -> dict[str, str]:
    """Find what its methods assign to `self`, with words for the error."""
    found: dict[str, str] = {}
    for method in filter(inspect.isfunction, vars(cls).values()):
        first, before = method.__code__.co_varnames[:1], ""
        for step in dis.get_instructions(method):
            if step.opname == "STORE_ATTR" and (before,) == first:
                found[step.argval] = f"{method.__qualname__} sets self.{step.argval}, which hides"
            # Since Python 3.13 one step may load two.
            before = step.argrepr.split(", ")[-1] if step.opname.startswith("LOAD_FAST") else ""
    return found


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]
