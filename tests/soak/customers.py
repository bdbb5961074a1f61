"""The customers: tasks beside the tree that ask its servers for all they can do."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from trio_otp import Agent, MailboxFull

from .ledger import FAILURES, Account, Broken, Tally, Ticket, WantedCrash
from .servers import do, is_gone, slow
from .storm import PULSE, popular

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

    from .tree import Tree

CUSTOMERS: Final = 50
LONGEST_PAUSE: Final = 16  # pulses between two errands
PATIENCE_SECONDS: Final = 60  # after which a call without a limit is taken for forgotten
LONGEST: Final = 16  # pulses that a slow request takes
CRASHING: Final = 0.1  # the share of requests that crash their server


class Customers:
    """All customers of a tree, and what is counted of them together.

    Attributes:
        errands: Requests of all kinds; several casts at once are one.
        rows: Writes that the kept table has accepted.
        tasks: The account of what ran as a task of its own.
    """

    def __init__(self, tree: Tree, dice: random.Random) -> None:
        self.errands = self.rows = 0
        self.tasks = Account("tasks")
        self._over = False
        self._tree = tree
        self._dice = dice
        self._kinds: tuple[Any, ...] = (self._call, self._call, self._cast, self._run, self._keep)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Have them all work for the time of a block; each ends the errand that it is on."""
        self._over = False
        async with trio.open_nursery() as nursery:
            for _ in range(CUSTOMERS):
                nursery.start_soon(self._customer)
            yield
            self._over = True
            nursery.cancel_scope.deadline = trio.current_time() + PATIENCE_SECONDS
        if nursery.cancel_scope.cancelled_caught:
            raise Broken("somebody waits for an answer, and nobody is going to give it")

    async def _customer(self) -> None:
        while not self._over:
            await trio.sleep(self._dice.randint(1, LONGEST_PAUSE) * PULSE)
            self.errands += 1
            await self._dice.choice(self._kinds)(popular(self._tree, self._dice))

    async def _call(self, account: Account) -> None:
        ticket = self._ticket(account, account.calls)
        # Often less than the request itself takes.
        limit = self._dice.choice([None, self._dice.randint(0, LONGEST) * PULSE])
        server = account.server
        try:
            if isinstance(server, Agent):
                await server.update(do, ticket, timeout=limit)
            else:
                await server.call(ticket, timeout=limit)
        except FAILURES as error:
            ticket.tell(error)
        else:
            ticket.tell(None)

    async def _cast(self, account: Account) -> None:
        """Send some at once, so that a crash finds a queue."""
        for _ in range(self._dice.randint(1, 6)):
            ticket = self._ticket(account, account.casts)
            server = account.server
            try:
                server.cast(do, ticket) if isinstance(server, Agent) else server.cast(ticket)
            except MailboxFull:
                ticket.refuse()

    async def _run(self, _: Account) -> None:
        ticket = self._ticket(self.tasks, self.tasks.calls)
        try:
            await self._tree.tasks.async_nolink(slow, 0, ticket)
        except (WantedCrash, *FAILURES) as error:
            ticket.tell(error)
        else:
            ticket.tell(None)

    async def _keep(self, account: Account) -> None:
        """Write a row of the table that must not be lost."""
        self._tree.keeper.cast(account.name)
        kept = self._tree.keeper.kept
        if kept is not None and not is_gone(kept):  # it goes with the tree
            kept.update_counter(account.name, default=0)
            self.rows += 1

    def _ticket(self, account: Account, tally: Tally) -> Ticket:
        dice = self._dice
        seconds = dice.choice([0, dice.randint(1, LONGEST) * PULSE])
        return Ticket(account, tally, seconds, crashes=dice.random() < CRASHING)
