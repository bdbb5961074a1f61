"""Figures for the log."""

from __future__ import annotations

import logging

import trio

from lists import Lists
from todo_list import TodoList
from trio_otp import CallFailed, Task, TaskSupervisor

logger = logging.getLogger("todo")


class Reporter(Task[None], restart="permanent"):
    """Logs, again and again, how much there is to do.

    A task that never returns. If it crashes, its supervisor starts it again:
    nothing in here has to survive.
    """

    def __init__(self, lists: Lists, imports: TaskSupervisor, seconds: float) -> None:
        super().__init__(name="reporter")
        self.lists = lists
        self.imports = imports
        self.seconds = seconds

    async def main(self) -> None:
        while True:
            await trio.sleep(self.seconds)
            await self._report()

    async def _report(self) -> None:
        lists = self.lists.all()
        counts = [await _open_items(todo) for todo in lists]
        logger.info(
            "lists in use: %d, items to do: %d, imports running: %d",
            len(lists), sum(counts), len(self.imports.children),
        )  # fmt: skip


async def _open_items(todo: TodoList) -> int:
    try:
        return await todo.get(lambda items: sum(not item.done for item in items.values()))
    except CallFailed:
        return 0  # killed this very moment; the next report has it again
