"""What is done at certain times of day, whether anybody is looking or not."""

from __future__ import annotations

import logging
from zoneinfo import ZoneInfo

import trio

from lists import Lists
from store import Store
from trio_otp import Cron, Job, Scheduler, WallClock, current_run

logger = logging.getLogger("todo")

HOUR = 3600.0


class Housekeeping:
    """The two jobs of the service."""

    def __init__(self, store: Store, lists: Lists, zone: ZoneInfo) -> None:
        self._store = store
        self._lists = lists
        self._zone = zone

    def scheduler(self, clock: WallClock | None = None) -> Scheduler:
        """A scheduler that runs them, by the clocks of the zone."""
        return Scheduler(
            [
                # If the service was down at night, once in the morning will do.
                Job("clean up", Cron("30 3 * * *"), self._clean_up, timeout=HOUR),
                # In the evening a reminder is still of use, on the next day it is not.
                Job("remind", Cron("0 8 * * *"), self._remind, misfire_grace=12 * HOUR),
            ],
            timezone=self._zone,
            clock=clock,
            name="jobs",
        )

    async def _clean_up(self) -> None:
        """Take what is done off all lists."""
        for name in await trio.to_thread.run_sync(self._store.names):
            todo = await self._lists.open(name)
            await todo.clear_done()
        logger.info("cleaned up")

    async def _remind(self) -> None:
        """Tell everybody who looks at a list what is due today."""
        run = current_run()
        assert run is not None  # the scheduler called us
        # The day of the slot, not of the clock: a late run speaks of its own day.
        today = run.slot.astimezone(self._zone).date().isoformat()
        for todo in self._lists.all():
            due = [i.title for i in await todo.items() if i.date == today and not i.done]
            if due:
                todo.viewers.tell({"reminder": due})
