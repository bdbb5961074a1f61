"""Job: what is to be run, when, and what happens if it cannot be so."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVarTuple, overload
from uuid import uuid4

import attrs

from ._core import options
from ._core.job import refuse_wrong_arguments
from ._core.text import callable_name, short
from ._job_places import Place, to_place
from ._schedules import Every, Schedule

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from ._core.options import Limit, Shutdown
    from ._task_supervisor import TaskSupervisor

Ts = TypeVarTuple("Ts")

Overlap: TypeAlias = Literal["allow", "skip", "replace"]
"""What happens at a slot while a run of the same job goes on."""

CatchUp: TypeAlias = Literal["latest", "all", "none"]
"""Which of the slots that went by without a run are made up for."""

Ack: TypeAlias = Literal["before", "after"]
"""Whether storage counts a slot as done before its run (at most once) or after (at least once)."""

JobState: TypeAlias = Literal["active", "inactive", "errored", "finished"]
"""Where a job stands; `"errored"`: its schedule failed, `"finished"`: it has no slot left."""

OVERLAPS: Final = ("allow", "skip", "replace")
CATCH_UPS: Final = ("latest", "all", "none")
ACKS: Final = ("before", "after")

# A run is late by what it takes to wake; without catching up, nothing later than this is run.
ON_TIME: Final = 1.0


@attrs.frozen(init=False, eq=False, repr=False)
class Job:
    """Something that a scheduler runs, and when; a value, `Quantum.Job`.

    Args:
        name: What it is called, unique in its scheduler; `None` for a name that nobody
            else has, to be had from `job.name`.
        schedule: When: `Cron`, `Every`, `At`, or a `Schedule` of your own.
        fn: An async function; with `thread=True` a plain one.
        *args: What it is called with.
        when: Asked before each run, with the same arguments, whether it is to take place; a
            function, async or not. `run_job` does not ask.
        overlap: At a slot while a run of this job goes on: `"skip"` it, `"allow"` both, or
            `"replace"`: cancel the old one, wait for its cleanup, and then run.
        timeout: Seconds that a run may take before it is cancelled; `None` for no limit.
        catch_up: Of the slots that went by, because the machine slept, its clock was set or
            the program was down: `"latest"` runs the newest, `"all"` each in order, one
            after another unless they may overlap, `"none"` none.
        catch_up_limit: At most so many are run by `"all"`, the newest.
        misfire_grace: Seconds that a start may be late before the slot counts as missed;
            `None` for no limit, with `catch_up="none"` one second.
        ack: When storage is told that a slot is done: `"before"` its run, so it happens at
            most once, or `"after"`, so it happens at least once, even if the program dies.
        active: Whether it is to be run at all, until `activate`.
        where: Whose child a run is: a `TaskSupervisor`, `OnOneOf` or `OnAllOf` several; by
            default the scheduler's.
        thread: Call `fn` in a worker thread. A thread cannot be cancelled: whatever stops
            the run waits for it.
        shutdown: Seconds that a run has to clean up when it is cancelled, before it is
            named as late, `None` for no limit, or `"brutal_kill"`.

    Raises:
        TypeError: A value is of a wrong type, or `fn` does not take the arguments.
        ValueError: A value is not one of those accepted; the message names them.
    """

    name: str
    schedule: Schedule | Every
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    when: Callable[..., Any] | None
    overlap: Overlap
    timeout: float
    catch_up: CatchUp
    catch_up_limit: int
    misfire_grace: float | None
    ack: Ack
    active: bool
    where: Place | None
    thread: bool
    shutdown: float | Literal["brutal_kill"]

    @overload
    def __init__(
        self,
        name: str | None,
        schedule: Schedule | Every,
        fn: Callable[[*Ts], Awaitable[object]],
        /,
        *args: *Ts,
        when: Callable[[*Ts], bool | Awaitable[bool]] | None = None,
        overlap: Overlap = "skip",
        timeout: Limit = None,
        catch_up: CatchUp = "latest",
        catch_up_limit: int = 100,
        misfire_grace: float | None = None,
        ack: Ack = "before",
        active: bool = True,
        where: TaskSupervisor | Place | None = None,
        thread: Literal[False] = False,
        shutdown: Shutdown = 5.0,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str | None,
        schedule: Schedule | Every,
        fn: Callable[[*Ts], object],
        /,
        *args: *Ts,
        when: Callable[[*Ts], bool | Awaitable[bool]] | None = None,
        overlap: Overlap = "skip",
        timeout: Limit = None,
        catch_up: CatchUp = "latest",
        catch_up_limit: int = 100,
        misfire_grace: float | None = None,
        ack: Ack = "before",
        active: bool = True,
        where: TaskSupervisor | Place | None = None,
        thread: Literal[True],
        shutdown: Shutdown = 5.0,
    ) -> None: ...
    def __init__(  # type: ignore[misc]  # mypy takes *args: Any for less than *args: *Ts
        self,
        name: str | None,
        schedule: Any,
        fn: Any,
        /,
        *args: Any,
        when: Any = None,
        overlap: Overlap = "skip",
        timeout: Limit = None,
        catch_up: CatchUp = "latest",
        catch_up_limit: int = 100,
        misfire_grace: float | None = None,
        ack: Ack = "before",
        active: bool = True,
        where: Any = None,
        thread: bool = False,
        shutdown: Shutdown = 5.0,
    ) -> None:
        _check_function(fn, args, options.flag("thread", thread))
        if when is not None:
            _check_guard(when, args)
        self.__attrs_init__(  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
            name=_new_name(fn) if name is None else _given_name(name),
            schedule=_checked_schedule(schedule),
            fn=fn,
            args=args,
            when=when,
            overlap=options.one_of("overlap", overlap, OVERLAPS),
            timeout=_limit_of_run(timeout),
            catch_up=options.one_of("catch_up", catch_up, CATCH_UPS),
            catch_up_limit=options.count("catch_up_limit", catch_up_limit, least=1),
            misfire_grace=_grace(misfire_grace),
            ack=options.one_of("ack", ack, ACKS),
            active=options.flag("active", active),
            where=None if where is None else to_place("where", where),
            thread=thread,
            shutdown=options.shutdown(shutdown),
        )

    def __repr__(self) -> str:
        """Give its call, with those options that are not the default."""
        given = [
            repr(self.name),
            _in_short(self.schedule),
            callable_name(self.fn),
            *map(short, self.args),
        ]
        _, _, _, _, *names = [field.name for field in attrs.fields(Job)]
        options = [
            f"{name}={value!r}"
            for name in names
            if (value := getattr(self, name)) != getattr(_PLAIN, name)
        ]
        return f"Job({', '.join(given + options)})"

    def changed(self, **changes: Any) -> Job:
        """Give the same job with some of its options changed, `fn` and `args` among them.

        Raises:
            TypeError: There is no such option, or a value is of a wrong type.
            ValueError: A value is not one of those accepted.
        """
        given: dict[str, Any] = attrs.asdict(self, recurse=False)
        if unknown := changes.keys() - given.keys():
            raise TypeError(f"a Job has no option {short(min(unknown))}: it has {', '.join(given)}")
        given |= changes
        first = (given.pop("name"), given.pop("schedule"), given.pop("fn"))
        return Job(*first, *given.pop("args"), **given)

    @property
    def lateness_allowed(self) -> float:
        """The seconds by which a start may be late; infinity for no limit."""
        if self.misfire_grace is not None:
            return self.misfire_grace
        return ON_TIME if self.catch_up == "none" else math.inf


@attrs.frozen(kw_only=True)
class JobInfo:
    """What a scheduler knows of a job, at one moment.

    Attributes:
        job: The job.
        state: Where it stands.
        next_slot: When it comes next, in UTC; `None` if it does not.
        last_slot: The slot of the newest run that has begun in this life, or `None`.
        last_outcome: How the run that ended last did, or `None`.
        running: How many runs go on.
        waiting: How many are due and wait, for others of the job or for the scheduler.
        error: What its schedule raised, if it is errored.
    """

    job: Job
    state: JobState
    next_slot: datetime | None
    last_slot: datetime | None
    last_outcome: str | None
    running: int
    waiting: int
    error: Exception | None

    @property
    def name(self) -> str:
        """What the job is called."""
        return self.job.name


def _in_short(schedule: Schedule | Every) -> str:
    text = str(schedule)
    return f"{type(schedule).__name__}({text!r})" if text != repr(schedule) else text


def _given_name(value: Any) -> str:
    name = options.label(value)
    if not name:
        raise ValueError("name must not be empty: None gives the job a name of its own")
    return name


def _new_name(fn: Callable[..., Any]) -> str:
    return f"{callable_name(fn)}-{uuid4().hex}"


def _check_function(fn: Any, args: tuple[Any, ...], thread: bool) -> None:
    refuse_wrong_arguments(options.function("fn", fn), args)
    is_async = inspect.iscoroutinefunction(inspect.unwrap(fn))
    if thread and is_async:
        raise TypeError(
            f"with thread=True fn must be a plain function, {callable_name(fn)} is async"
        )
    if not thread and not is_async and _surely_plain(fn):
        raise TypeError(
            f"fn must be an async function, {callable_name(fn)} is none: "
            "write async def, or pass thread=True to call it in a worker thread"
        )


def _check_guard(when: Any, args: tuple[Any, ...]) -> None:
    try:
        refuse_wrong_arguments(options.function("when", when), args)
    except TypeError as error:
        raise TypeError(f"when is asked with the arguments of fn: {error}") from error


def _surely_plain(fn: Any) -> bool:
    """Say whether calling it gives no coroutine; others may, like a class or a partial."""
    return inspect.isfunction(fn) or inspect.ismethod(fn) or inspect.isbuiltin(fn)


def _checked_schedule(value: Any) -> Any:
    if not isinstance(value, Schedule | Every):
        given: object = value
        hint = ": try Cron(...)" if isinstance(given, str) else ""
        hint = ": try Every(...)" if isinstance(given, int | float) else hint
        raise TypeError(
            f"schedule must be a Cron, an Every, an At or another Schedule, got {short(given)}{hint}"
        )
    return value


def _limit_of_run(value: Limit) -> float:
    limit = options.limit("timeout", value)
    return options.positive("timeout", limit)


def _grace(value: float | None) -> float | None:
    return None if value is None else options.duration("misfire_grace", value)


async def _nothing() -> None:
    pass


_PLAIN: Final = Job("plain", Every(1), _nothing)  # with the default of every option
