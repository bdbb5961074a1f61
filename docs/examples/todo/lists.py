"""All lists that are in use."""

from __future__ import annotations

from contextlib import suppress

from store import Store
from todo_list import TodoList
from trio_otp import Backoff, ChildSpec, DuplicateChild, Supervisor

# A file that cannot be read may be readable in a moment; who asks meanwhile waits.
BACKOFF = Backoff(0.05, maximum=1.0)


class Lists:
    """One `TodoList` for each name, its agent started by its first user."""

    def __init__(self, store: Store) -> None:
        # Somebody who plays with the kill button should not spend the budget of all
        # lists: so it is larger than usual.
        self.supervisor = Supervisor(name="lists", max_restarts=20, max_seconds=5.0)
        self._store = store
        self._by_name: dict[str, TodoList] = {}

    async def open(self, name: str) -> TodoList:
        """The list called ``name``, running.

        Two first users at the same moment are no problem: both ask for the same
        agent to be started, and the supervisor tells the second that it has it
        already. Whoever calls an agent that is still starting, waits.
        """
        todo = self._by_name.get(name)
        if todo is None:
            todo = self._by_name[name] = TodoList(name, self._store)
        if todo.agent.status in ("new", "stopped"):
            with suppress(DuplicateChild):
                await self.supervisor.start_child(ChildSpec(todo.agent, backoff=BACKOFF))
        return todo

    def all(self) -> list[TodoList]:
        """Every list that somebody has used."""
        return list(self._by_name.values())
