"""The lists of the to-do service by themselves, broken off and killed wherever that can happen."""

import pytest

from item import Item
from lists import Lists
from store import Store
from trio_otp.testing import cancel_everywhere, chaos, leaks

pytestmark = pytest.mark.real  # the lists are kept by worker threads


@pytest.fixture
async def lists(supervised, tmp_path):
    store = Store(str(tmp_path / "todo.db"))
    await store.prepare()
    lists = Lists(store)
    await supervised(lists.supervisor)
    return lists


async def shown(lists, name):
    return [item.title for item in await (await lists.open(name)).items()]


async def test_change_that_is_cancelled_is_made_or_not(lists):
    """However far a request came before its browser left, the page and the file agree."""
    todo = await lists.open("home")
    tries = 0

    async def scenario():
        nonlocal tries
        tries += 1
        await todo.add(Item(f"a{tries}", "milk"))
        await todo.mark(f"a{tries}", True)

    async def check():
        items = await todo.items()
        assert items == lists._store.load("home")
        assert len(items) <= tries
        leaks()

    assert await cancel_everywhere(scenario, check) > 3


async def test_opening_that_is_cancelled_hurts_nobody(lists):
    """The first user of a list may leave at any moment: the next finds it, and it is empty."""
    number = 0

    async def scenario():
        nonlocal number
        number += 1
        await lists.open(f"list {number}")

    async def check():
        assert await shown(lists, f"list {number}") == []
        assert {child.status for child in lists.supervisor.children} == {"running"}

    assert await cancel_everywhere(scenario, check) > 3


async def test_lists_survive_being_killed(lists, nursery):
    """A list whose agent is killed again and again keeps all that it has confirmed."""
    todo = await lists.open("storm")
    written = []

    async def write():
        while True:
            title = f"item {len(written)}"
            await todo.add(Item(title, title))
            written.append(title)

    nursery.start_soon(write)
    blows = await chaos(lists.supervisor, seconds=1.2, rate=3.0, kinds=["kill"])
    nursery.cancel_scope.cancel()
    assert len(blows) == 3
    assert (await shown(lists, "storm"))[: len(written)] == written
    assert written
