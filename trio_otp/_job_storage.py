"""What a scheduler has to remember of its jobs, and where: a protocol, and memory."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

from ._core.text import short

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ._jobs import Job


@attrs.frozen(kw_only=True)
class StoredJob:
    """What is remembered of a job.

    Attributes:
        name: Its name.
        job: The job itself; `None` for one that the program itself lists, in code.
        active: Whether it is to be run; `None` for as `job`, or the program, says.
        last_slot: Up to which moment its slots are done with, in UTC; `None` for the
            beginning of this scheduler.
    """

    name: str
    job: Job | None
    active: bool | None
    last_slot: datetime | None


@runtime_checkable
class JobStorage(Protocol):
    """Where a scheduler remembers its jobs.

    Every method does all or nothing, also when it is cancelled. The scheduler never calls
    `put`, `delete`, `set_state` and `purge` at the same time, but any number of `set_last_slot`. What
    concerns one job must take effect in the order in which it was called.

    An error of `load` fails the start of the scheduler, one of `put`, `delete` or `set_state` its
    asker; one of `set_last_slot` is reported, and the scheduler goes on.
    """

    async def load(self) -> Iterable[StoredJob]:
        """Give all that is stored.

        What is damaged must raise, never look empty. Cancellation changes nothing.
        """
        ...

    async def put(self, stored: StoredJob, /) -> None:
        """Store a job in the place of the one of its name.

        If cancelled, the old one is still there.

        Raises:
            TypeError: It cannot be stored.
        """
        ...

    async def delete(self, name: str, /) -> None:
        """Forget a job; nothing happens if there is none of that name.

        If cancelled, it is still there.
        """
        ...

    async def set_state(self, name: str, active: bool, last_slot: datetime, /) -> None:
        """Note whether a job is to be run, and up to which moment its slots are done with.

        Nothing happens if there is none of that name. If cancelled, nothing is noted.
        """
        ...

    async def set_last_slot(self, name: str, last_slot: datetime, /) -> None:
        """Note up to which moment the slots of a job are done with.

        Nothing happens if there is none of that name, since a run may outlive its job. If
        cancelled, nothing is noted.
        """
        ...

    async def purge(self) -> None:
        """Forget all jobs. If cancelled, all are still there."""
        ...


class MemoryStorage:
    """Remembers jobs as long as this object lives: over crashes of the scheduler, not of the program."""

    __slots__ = ("_jobs",)

    def __init__(self) -> None:
        self._jobs: dict[str, StoredJob] = {}

    async def load(self) -> Iterable[StoredJob]:
        """Give all that is stored. Never waits, so it cannot be cancelled."""
        return tuple(self._jobs.values())

    async def put(self, stored: StoredJob, /) -> None:
        """Store a job in the place of the one of its name. Cannot be cancelled."""
        self._jobs[stored.name] = stored

    async def delete(self, name: str, /) -> None:
        """Forget a job. Cannot be cancelled."""
        self._jobs.pop(name, None)

    async def set_state(self, name: str, active: bool, last_slot: datetime, /) -> None:
        """Note whether a job is to be run, and up to which moment its slots are done with.

        Cannot be cancelled.
        """
        self._change(name, active=active, last_slot=last_slot)

    async def set_last_slot(self, name: str, last_slot: datetime, /) -> None:
        """Note up to which moment the slots of a job are done with. Cannot be cancelled."""
        self._change(name, last_slot=last_slot)

    async def purge(self) -> None:
        """Forget all jobs. Cannot be cancelled."""
        self._jobs.clear()

    def _change(self, name: str, **changes: Any) -> None:
        if name in self._jobs:  # else a run outlived its job
            self._jobs[name] = attrs.evolve(self._jobs[name], **changes)


def checked_storage(value: JobStorage) -> JobStorage:
    """Pass on a storage."""
    if not isinstance(value, JobStorage) or isinstance(value, type):
        hint = ": for a file, SQLiteStorage(path)" if isinstance(value, str | PathLike) else ""
        raise TypeError(f"storage must have the methods of JobStorage, got {short(value)}{hint}")
    return value
