"""Jobs in an SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

import trio

from ._core.errors import BadJobFile
from ._core.text import short
from ._job_storage import StoredJob
from ._job_text import read_job, write_job

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_APPLICATION: Final = 0x74726A62  # marks the file as one of ours, in its header
_VERSION: Final = 1

_TABLE: Final = """
    CREATE TABLE jobs (
        name TEXT NOT NULL PRIMARY KEY,
        job TEXT,           -- NULL: listed in code
        active INTEGER,     -- NULL: as the job says
        last_slot TEXT      -- UTC, ISO 8601
    )
"""
_PUT: Final = """
    INSERT INTO jobs VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE
    SET job = excluded.job, active = excluded.active, last_slot = excluded.last_slot
"""


class SQLiteStorage:
    """Remembers jobs in an SQLite file, which outlives the program.

    For jobs that are added at run time it stores their definition: a `Cron`, `Every` or `At`,
    a function that can be imported by its name, arguments of plain types. Of jobs that the
    program itself lists it stores only how far they are, so those may be anything.

    Whoever can write the file can have any function called: it deserves as much care as your
    code. One scheduler at a time should use it. Each operation is a transaction, in a worker
    thread.

    Args:
        path: The file; made by the first operation, if it is not there.

    Raises:
        TypeError: `path` is no path.
        ValueError: It is empty, or `":memory:"`, which is what `MemoryStorage` is for.
    """

    __slots__ = ("_one_by_one", "_path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = _checked(path)
        # Those who wait for SQLite's own lock would each keep a thread busy.
        self._one_by_one = trio.CapacityLimiter(1)

    async def load(self) -> Iterable[StoredJob]:
        """Give all that is stored, in the order in which it was. Cancellation changes nothing.

        A job whose function is not there any more is given as well; it fails when it is run,
        until it is updated or deleted.

        Raises:
            BadJobFile: The file is damaged, or none of ours.
            sqlite3.Error: It cannot be read.
        """
        return await self._in_thread(self._load)

    async def put(self, stored: StoredJob, /) -> None:
        """Store a job in the place of the one of its name; if cancelled, nothing is stored.

        Raises:
            TypeError: Its schedule, function or arguments cannot be stored.
            BadJobFile: The file is damaged, or none of ours.
            sqlite3.Error: It cannot be written.
        """
        job = None if stored.job is None else write_job(stored.job)
        await self._in_thread(
            self._change, _PUT, stored.name, job, stored.active, _text(stored.last_slot)
        )

    async def delete(self, name: str, /) -> None:
        """Forget a job; if cancelled, it is still there. Errors as in `load`."""
        await self._in_thread(self._change, "DELETE FROM jobs WHERE name = ?", name)

    async def set_state(self, name: str, active: bool, last_slot: datetime, /) -> None:
        """Note whether a job is to be run, and up to which moment its slots are done with.

        If cancelled, nothing is noted. Errors as in `load`.
        """
        sql = "UPDATE jobs SET active = ?, last_slot = ? WHERE name = ?"
        await self._in_thread(self._change, sql, active, _text(last_slot), name)

    async def set_last_slot(self, name: str, last_slot: datetime, /) -> None:
        """Note up to which moment the slots of a job are done with.

        If cancelled, nothing is noted. Errors as in `load`.
        """
        sql = "UPDATE jobs SET last_slot = ? WHERE name = ?"
        await self._in_thread(self._change, sql, _text(last_slot), name)

    async def purge(self) -> None:
        """Forget all jobs; if cancelled, all are still there. Errors as in `load`."""
        await self._in_thread(self._change, "DELETE FROM jobs")

    async def _in_thread(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        return await trio.to_thread.run_sync(fn, *args, limiter=self._one_by_one)

    # --- in the thread -------------------------------------------------------------------

    def _load(self) -> list[StoredJob]:
        with self._transaction() as db:
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise BadJobFile(f"{short(self._path)} is damaged: {verdict}")
            rows = db.execute("SELECT name, job, active, last_slot FROM jobs ORDER BY rowid")
            return [self._stored(*row) for row in rows]

    def _change(self, sql: str, *values: Any) -> None:
        with self._transaction() as db:
            db.execute(sql, values)

    def _stored(
        self, name: str, job: str | None, active: int | None, last: str | None
    ) -> StoredJob:
        try:
            return StoredJob(
                name=name,
                job=None if job is None else read_job(name, job),
                active=None if active is None else bool(active),
                last_slot=None if last is None else datetime.fromisoformat(last).astimezone(UTC),
            )
        except Exception as error:
            raise BadJobFile(
                f"{short(self._path)} is damaged: job {short(name)}: {error}"
            ) from error

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=30)) as db, db:
                self._prepare(db)
                yield db
        except sqlite3.OperationalError as error:  # locked, full, not allowed
            error.add_note(f"the file is {short(self._path)}")
            raise
        except sqlite3.DatabaseError as error:
            raise BadJobFile(
                f"{short(self._path)} is damaged, or no SQLite file: {error}"
            ) from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Make the table in a file that is new, and refuse files of others."""
        db.execute("BEGIN IMMEDIATE")
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if (application, version) == (_APPLICATION, _VERSION):
            return
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise BadJobFile(f"{short(self._path)} is no file of jobs of version {_VERSION}")
        db.execute(_TABLE)
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {_VERSION}")


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _checked(path: Any) -> str:
    given: object = path
    fspath: Any = getattr(given, "__fspath__", None)
    text: object = fspath() if fspath is not None else given
    if not isinstance(text, str):
        raise TypeError(f"path must be a string or a path of one, got {short(given)}")
    if text in ("", ":memory:"):
        raise ValueError(f"path must name a file, got {short(text)}: see MemoryStorage")
    return text
