"""The slow work: putting a whole file on a list."""

from __future__ import annotations

from uuid import uuid4

import trio
from attrs import Factory, asdict, frozen

from download import DownloadFailed, download
from sheet import Sheet, read_sheet
from todo_list import TodoList
from trio_otp import CallFailed


@frozen
class Source:
    """Where the lines come from: a file that was sent along, or an address."""

    label: str
    content: bytes | None = None
    id: str = Factory(lambda: uuid4().hex)

    async def read(self) -> bytes:
        """The bytes of the file."""
        return await download(self.label) if self.content is None else self.content


async def import_into(todo: TodoList, source: Source) -> None:
    """Put what ``source`` holds on the list, and tell its viewers how it goes.

    Runs as a task of its own, long after the request that asked for it was
    answered. So nobody is there to catch an exception: a failure is told.
    """
    _tell(todo, source, state="running")
    try:
        sheet = await _import(todo, source)
    except (DownloadFailed, CallFailed) as error:
        _tell(todo, source, state="failed", reason=str(error))
    except Exception:
        # A mistake of ours. The viewers hear of it, and the crash goes on to the
        # supervisor, which logs it.
        _tell(todo, source, state="failed", reason="an error in the service")
        raise
    else:
        bad = [asdict(line) for line in sheet.bad]
        _tell(todo, source, state="done", imported=len(sheet.items), bad=bad)


async def _import(todo: TodoList, source: Source) -> Sheet:
    sheet = await trio.to_thread.run_sync(read_sheet, await source.read())
    if sheet.items:
        await todo.add(*sheet.items)
    return sheet


def _tell(todo: TodoList, source: Source, **news: object) -> None:
    todo.viewers.tell({"import": {"id": source.id, "source": source.label, **news}})
