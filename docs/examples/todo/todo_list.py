"""One to-do list: an agent in front of the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVarTuple, Unpack

import trio
from attrs import asdict, evolve

from item import Item
from store import Store
from trio_otp import Agent, Backoff, ChildOptions, ChildSpec, Exited
from viewers import Channel, Viewers

# By id, in the order of writing. A change makes a new one, so whoever got an
# older one can read it in peace.
Items: TypeAlias = dict[str, Item]
Ts = TypeVarTuple("Ts")


class TodoList(Agent[Items]):
    """An agent that keeps the items of one list, and shows them to its viewers.

    Its state holds the items, one life long; the database holds them for good.
    A change is written there first, in a worker thread, and becomes the new
    state only then. So the agent may die at any moment: its next life loads
    what was written, and that is everything anybody has ever been shown.

    The viewers belong to the handle and not to one of its lives: they stay.
    """

    def __init__(self, name: str, store: Store) -> None:
        super().__init__(self._load, name=name)
        self.viewers = Viewers()
        self._store = store
        self._lives = 0

    def child_spec(self, **changes: Unpack[ChildOptions]) -> ChildSpec:
        """Wait between two lives: a file that cannot be read may be readable in a moment."""
        changes.setdefault("backoff", Backoff(0.05, maximum=1.0))
        return super().child_spec(**changes)

    async def items(self) -> list[Item]:
        """The items as they are now."""
        return list((await self.get()).values())

    async def add(self, *items: Item) -> None:
        """Put ``items`` on the list, all in one step."""
        await self._change(self._add, items)

    async def mark(self, id: str, done: bool) -> bool:
        """Set whether an item is done; false if there is no such item."""
        return await self._change(self._mark, id, done)

    async def delete(self, id: str) -> None:
        """Take an item off the list, if it is on it."""
        await self._change(self._delete, id)

    async def clear_done(self) -> None:
        """Take off the list what is done."""
        await self._change(self._clear_done)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[trio.MemoryReceiveChannel[str]]:
        """Messages for a page: the list at once, then again after each change."""
        with self.viewers.join() as (channel, messages):
            # Asked of the agent, as every change is, so no page can be shown an
            # older list after a newer one.
            await self.get(self._show, channel)
            yield messages

    async def _change(
        self, change: Callable[[Items, *Ts], Coroutine[Any, Any, tuple[bool, Items]]], *args: *Ts
    ) -> bool:
        """Run one of the functions below in the agent."""
        while True:
            try:
                return await self.get_and_update(change, *args, timeout=None)
            except Exited as error:
                # Somebody killed the agent under our change, which may be written or
                # not. Every change may safely be made twice: so make it (again).
                if error.exit.reason != "killed":
                    raise

    # What follows runs in the agent, so never two at a time. The first argument
    # is the agent's state, the last thing given back the next one.

    async def _load(self) -> Items:
        items = await trio.to_thread.run_sync(self._store.load, self.name)
        self._lives += 1
        return self._shown({item.id: item for item in items})

    async def _add(self, items: Items, new: tuple[Item, ...]) -> tuple[bool, Items]:
        await trio.to_thread.run_sync(self._store.add, self.name, new)
        return True, self._shown(items | {item.id: item for item in new})

    async def _mark(self, items: Items, id: str, done: bool) -> tuple[bool, Items]:
        if id not in items:
            return False, items
        await trio.to_thread.run_sync(self._store.mark, self.name, id, done)
        return True, self._shown(items | {id: evolve(items[id], done=done)})

    async def _delete(self, items: Items, id: str) -> tuple[bool, Items]:
        await trio.to_thread.run_sync(self._store.delete, self.name, id)
        return True, self._shown({key: item for key, item in items.items() if key != id})

    async def _clear_done(self, items: Items) -> tuple[bool, Items]:
        await trio.to_thread.run_sync(self._store.delete_done, self.name)
        return True, self._shown({id: item for id, item in items.items() if not item.done})

    def _shown(self, items: Items) -> Items:
        self._show(items)
        return items

    def _show(self, items: Items, only: Channel | None = None) -> None:
        message = {"items": [asdict(item) for item in items.values()], "life": self._lives}
        self.viewers.tell(message, only=only)
