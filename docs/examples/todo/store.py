"""Where the lists are kept when nobody is looking: one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

import trio
from attrs import astuple, frozen

from item import Item

# Items come back in the order of their rowid, the order they were written in.
_TABLE = """
    CREATE TABLE IF NOT EXISTS items (
        id TEXT NOT NULL UNIQUE,
        title TEXT NOT NULL,
        date TEXT,
        done INTEGER NOT NULL,
        list TEXT NOT NULL
    )
"""
_INDEX = "CREATE INDEX IF NOT EXISTS items_by_list ON items (list)"


@frozen
class Store:
    """The items of every list, in a file.

    All methods but `prepare` block, so they are called in worker threads. Each
    opens a connection of its own: that takes a fraction of a millisecond, and
    no connection is ever shared between threads.
    """

    file: str

    async def prepare(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Make the file ready, or end the program with one clear line."""
        try:
            await trio.to_thread.run_sync(self._create)
        except sqlite3.Error as error:
            raise SystemExit(f"todo: cannot use {self.file}: {error}") from error
        task_status.started()

    def names(self) -> list[str]:
        """The names of all lists that hold anything."""
        with self._connection() as db:
            rows = db.execute("SELECT DISTINCT list FROM items ORDER BY list")
            return [name for (name,) in rows]

    def load(self, name: str) -> list[Item]:
        """All items of the list ``name``, oldest first."""
        with self._connection() as db:
            rows = db.execute(
                "SELECT id, title, date, done FROM items WHERE list = ? ORDER BY rowid", (name,)
            )
            return [Item(id, title, date, bool(done)) for id, title, date, done in rows]

    def add(self, name: str, items: Iterable[Item]) -> None:
        """Write all of ``items`` or, if that fails, none; those already there stay."""
        rows = [(*astuple(item), name) for item in items]
        with self._connection() as db:
            db.executemany("INSERT OR IGNORE INTO items VALUES (?, ?, ?, ?, ?)", rows)

    def mark(self, name: str, id: str, done: bool) -> None:
        """Write whether an item is done."""
        with self._connection() as db:
            db.execute("UPDATE items SET done = ? WHERE list = ? AND id = ?", (done, name, id))

    def delete(self, name: str, id: str) -> None:
        """Forget an item."""
        with self._connection() as db:
            db.execute("DELETE FROM items WHERE list = ? AND id = ?", (name, id))

    def delete_done(self, name: str) -> None:
        """Forget all items of a list that are done."""
        with self._connection() as db:
            db.execute("DELETE FROM items WHERE list = ? AND done", (name,))

    def _create(self) -> None:
        with self._connection() as db:
            db.execute(_TABLE)
            db.execute(_INDEX)
            # A file can begin like a database and be broken further down: better
            # to hear of it now than from the first user of a list.
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError("the database is damaged")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are committed together, or not at all."""
        with closing(sqlite3.connect(self.file)) as db, db:
            yield db
