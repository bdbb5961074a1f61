"""The jobs of the to-do service, at the times of day that a test sets."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from item import Item
from jobs import Housekeeping
from lists import Lists
from store import Store
from trio_otp import JobStopped
from trio_otp.testing import SettableClock

pytestmark = pytest.mark.real  # the lists are kept by worker threads

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
async def lists(supervised, tmp_path):
    store = Store(str(tmp_path / "todo.db"))
    await store.prepare()
    lists = Lists(store)
    await supervised(lists.supervisor)
    return lists


@pytest.fixture
def clock():
    return SettableClock(datetime(2026, 7, 1, 0, 0, tzinfo=UTC))  # 2:00 in Berlin


@pytest.fixture
async def scheduler(lists, clock, supervised):
    return await supervised(Housekeeping(lists._store, lists, BERLIN).scheduler(clock))


async def test_jobs_go_by_the_clocks_of_the_zone(scheduler):
    """3:30 and 8:00 in Berlin, in summer."""
    assert {job.name: job.next_slot for job in scheduler.jobs} == {
        "clean up": datetime(2026, 7, 1, 1, 30, tzinfo=UTC),
        "remind": datetime(2026, 7, 1, 6, 0, tzinfo=UTC),
    }


async def test_clean_up_takes_off_what_is_done(lists, scheduler):
    """From lists in use and from all others, in the file too."""
    home, work = await lists.open("home"), await lists.open("work")
    await home.add(Item("a", "milk", done=True), Item("b", "bread"))
    await work.add(Item("c", "call", done=True))
    await (await scheduler.run_job("clean up"))
    assert await home.items() == lists._store.load("home") == [Item("b", "bread")]
    assert await work.items() == lists._store.load("work") == []


async def test_clean_up_comes_by_itself(lists, scheduler, clock, events):
    """A night that the machine slept through is made up for in the morning."""
    home = await lists.open("home")
    await home.add(Item("a", "milk", done=True))
    clock.suspend(4 * 3600)
    scheduler.check_clock()
    await events.wait_for(JobStopped, scheduler)
    assert await home.items() == []


async def test_reminder_names_what_is_due_on_its_day(lists, scheduler, clock):
    """And only on lists that have something; what is done needs no reminder."""
    clock.set_to(datetime(2026, 7, 2, 22, 30, tzinfo=UTC))  # the third in Berlin
    home, work = await lists.open("home"), await lists.open("work")
    await home.add(
        Item("a", "milk", "2026-07-03"), Item("b", "bread", "2026-07-02"),
        Item("c", "tea", "2026-07-03", done=True),
    )  # fmt: skip
    await work.add(Item("d", "call", "2026-07-04"))
    async with home.watch() as seen_home, work.watch() as seen_work:
        await (await scheduler.run_job("remind"))
        told = [json.loads(message) for message in (*_all(seen_home), *_all(seen_work))]
    assert [message["reminder"] for message in told if "reminder" in message] == [["milk"]]


def _all(channel):
    while channel.statistics().current_buffer_used:
        yield channel.receive_nowait()
