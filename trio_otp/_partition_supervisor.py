"""PartitionSupervisor: several like processes, one of which serves a key."""

from __future__ import annotations

import inspect
import zlib
from numbers import Number
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

from ._core import options
from ._core.children import Child
from ._core.loop import Rules
from ._core.process import Process
from ._core.text import callable_name, short
from ._supervision import (
    SupervisorProcess,
    budget_options,
    check_significance,
    process_of,
    spec_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from ._core.life import Life
    from ._core.options import Strategy
    from ._core.specs import ChildSpec
    from ._task import Task

P = TypeVar("P", bound=Process)
T = TypeVar("T")


class PartitionSupervisor(SupervisorProcess, Generic[P]):
    """A fixed number of like processes, each for its share of the keys; OTP's PartitionSupervisor.

    For a server that is a bottleneck because it awaits: others go on meanwhile. (All run in
    one thread: it makes nothing compute faster.) Their states are independent. The handles
    are made at once, so `via` works before the start, and after a restart too.

    Args:
        make: Called with the number of each partition, from 0, or with nothing if it takes
            no positional argument; gives a process, a `ChildSpec` or an async function
            (permanent). Restarts keep what it gave.
        partitions: How many, 1 or more. The default is the same everywhere: processors do
            not matter here.
        strategy: Who is restarted with a fallen partition, as in `Supervisor`.
        max_restarts: How many restarts it may make within `max_seconds`, for all together.
        max_seconds: The length of that window in seconds.
        name: A label, also its id as a child.

    Raises:
        TypeError: `make` does not give children, or an option is of a wrong type.
        ValueError: An option has a wrong value; the message names what it takes.
    """

    __slots__ = ("_partitions", "_rules", "_specs")

    _kind = "partition_supervisor"

    @overload
    def __init__(
        self,
        make: Callable[[int], P] | Callable[[], P],
        /,
        *,
        partitions: int = ...,
        strategy: Strategy = ...,
        max_restarts: int = ...,
        max_seconds: float = ...,
        name: str | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: PartitionSupervisor[Process],
        make: Callable[[int], ChildSpec] | Callable[[], ChildSpec],
        /,
        *,
        partitions: int = ...,
        strategy: Strategy = ...,
        max_restarts: int = ...,
        max_seconds: float = ...,
        name: str | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: PartitionSupervisor[Task[T]],
        make: Callable[[int], Callable[[], Awaitable[T]]]
        | Callable[[], Callable[[], Awaitable[T]]],
        /,
        *,
        partitions: int = ...,
        strategy: Strategy = ...,
        max_restarts: int = ...,
        max_seconds: float = ...,
        name: str | None = ...,
    ) -> None: ...
    def __init__(
        self,
        make: Any,
        /,
        *,
        partitions: int = 8,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        restarts, seconds = budget_options(max_restarts, max_seconds)
        self._loop = None
        self._rules = Rules(
            strategy=options.one_of("strategy", strategy, options.STRATEGIES),
            max_restarts=restarts,
            max_seconds=seconds,
        )
        count = options.count("partitions", partitions, least=1)
        self._specs = [_named(number, spec) for number, spec in enumerate(_made(make, count))]
        self._partitions: tuple[Any, ...] = tuple(process for _, process in self._specs)
        if len(set(self._partitions)) < count:
            raise ValueError(f"{callable_name(make)} must make a new process for each partition")
        for child in self._children():
            check_significance(child, "never")

    @property
    def partitions(self) -> tuple[P, ...]:
        """Their handles, in the order of their numbers; `partitions/1` is its length."""
        return self._partitions

    def via(self, key: Hashable, /) -> P:
        """Give the process that serves a key; `{:via, PartitionSupervisor, {name, key}}`.

        Equal keys always have the same one. Integers go round by their absolute value;
        strings and bytes go by a checksum, the same in every run; other keys by their hash,
        which may change from run to run.

        Raises:
            TypeError: The key cannot be hashed.
        """
        partition: P = self._partitions[_number(key) % len(self._partitions)]
        return partition

    def resize(self, partitions: int, /) -> NoReturn:
        """Refuse: the number is fixed, since every key would find another process.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"{self!r} has {len(self._partitions)} partitions for good: to have {short(partitions)}, "
            "build another, and move what the old ones hold"
        )

    async def _main(self, life: Life) -> None:
        await self._live(life, self._rules, self._children())

    def _children(self) -> list[Child]:
        specs = enumerate(self._specs)
        return [Child(spec, process, id=number) for number, (spec, process) in specs]


def _made(make: Any, count: int) -> list[ChildSpec]:
    options.function("make", make)
    if inspect.iscoroutinefunction(make):
        name = callable_name(make)
        raise TypeError(f"make must give a child, but {name} is one: try lambda: {name}")
    numbered = _takes_number(make)
    return [spec_of(make(number) if numbered else make()) for number in range(count)]


def _takes_number(make: Callable[..., Any]) -> bool:
    try:
        inspect.signature(make).bind(0)
    except TypeError:
        return False
    except ValueError:  # written in C, and does not say
        return True
    return True


def _named(number: int, spec: ChildSpec) -> tuple[ChildSpec, Process]:
    """Give the process of a partition; its number is part of a name that nobody gave."""
    process = process_of(spec)
    if process is not spec.start or process._given_name() is None:
        process._name = f"{process.name}[{number}]"
    return spec, process


def _number(key: Hashable) -> int:
    """Make a number of a key: the same one for equal keys."""
    if isinstance(key, str):
        return zlib.crc32(key.encode("utf-8", "surrogatepass"))
    if isinstance(key, bytes):
        return zlib.crc32(key)
    if isinstance(key, Number) and not isinstance(key, int):
        key = _whole(key)
    try:
        # Within a tuple, because the hash of an object is its address: those of one size
        # would share partitions.
        return abs(key) if isinstance(key, int) else hash((key,))
    except TypeError:
        raise TypeError(f"key must be hashable, got {short(key)}") from None


def _whole(key: Any) -> Any:
    """Give the integer that a number equals, if it equals one."""
    try:
        return int(key) if int(key) == key else key
    except (TypeError, ValueError, OverflowError):  # complex, nan, infinity
        return key
