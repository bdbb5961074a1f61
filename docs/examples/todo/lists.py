"""All lists that are in use."""

from __future__ import annotations

from functools import partial

from store import Store
from todo_list import TodoList
from trio_otp import DynamicSupervisor, Registry


class Lists:
    """One `TodoList` for each name, started by its first user."""

    def __init__(self, store: Store) -> None:
        # Somebody who plays with the kill button should not spend the budget of all
        # lists: so it is larger than usual.
        self.supervisor = DynamicSupervisor(name="lists", max_restarts=20, max_seconds=5.0)
        self._registry: Registry[str, TodoList, None] = Registry("unique", name="lists")
        self._store = store

    async def open(self, name: str) -> TodoList:
        """The list called ``name``, running.

        However many first users come at the same moment, one list is started.
        """
        make = partial(TodoList, name, self._store)
        return await self._registry.get_or_start(name, make, self.supervisor)

    def all(self) -> list[TodoList]:
        """Every list that somebody uses."""
        return [entry.process for _, entry in self._registry.items()]
