"""The servers: they do what a ticket says, in all the ways that a server can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from trio_otp import Agent, GenServer, NoReply, Registry, Reply, Table, TableGone

from .ledger import Account, Broken

if TYPE_CHECKING:
    from trio_otp import Caller, Process

    from .ledger import Ticket

Names = Registry[str, Any, int]


def begin(account: Account, names: Names) -> int:
    """Open an account for a life, and enter the life in the registry."""
    state = account.open()
    if account.registered:
        names.register(account.name, account.server, account.lives)
    return state


def quick(done: int, ticket: Ticket) -> int:
    """Do what takes no time."""
    ticket.begin()
    ticket.finish()
    return done + 1


async def slow(done: int, ticket: Ticket) -> int:
    """Do what takes some time, in which everything may happen."""
    ticket.begin()
    await trio.sleep(ticket.seconds)
    ticket.finish()
    return done + 1


def do(done: int, ticket: Ticket) -> Any:
    """Do what a ticket says: quickly, or slowly."""
    return slow(done, ticket) if ticket.seconds else quick(done, ticket)


class Desk(GenServer[int]):
    """A server whose calls are answered at once, or after a while by a timer."""

    def __init__(self, account: Account, names: Names, **options: Any) -> None:
        super().__init__(name=account.name, **options)
        self.account = account
        self.names = names

    def init(self) -> int:
        """Open the account."""
        return begin(self.account, self.names)

    async def handle_call(self, ticket: Ticket, caller: Caller, done: int, /) -> Any:
        """Answer, or have the timer do it and serve others meanwhile."""
        if not ticket.seconds:
            return Reply(None, quick(done, ticket))
        ticket.begin()
        self.send_after(ticket.seconds, (ticket, caller))
        return NoReply(done)

    def handle_info(self, message: tuple[Ticket, Caller], done: int, /) -> NoReply[int]:
        """Answer a call whose time has come."""
        ticket, caller = message
        ticket.finish()
        caller.reply(None)
        return NoReply(done + 1)

    async def handle_cast(self, ticket: Ticket, done: int, /) -> NoReply[int]:
        """Do it."""
        return NoReply(await slow(done, ticket) if ticket.seconds else quick(done, ticket))


class Keeper(GenServer[Table[str, int]]):
    """Owns two tables: one that its heir keeps between its lives, and one for each life."""

    def __init__(self, heir: Process) -> None:
        super().__init__(name="keeper")
        self.heir = heir
        self.kept: Table[str, int] | None = None
        self.own: Table[str, int] | None = None

    def init(self) -> Table[str, int]:
        """Take the kept table back, and make one that ends with this life."""
        if self.kept is None:
            self.kept = Table(owner=self, heir=self.heir, name="kept")
        elif self.kept.owner is not self.heir:
            raise Broken(f"the heir has not got {self.kept!r}")
        else:
            self.kept.give_away(self)
        if self.own is not None and not is_gone(self.own):
            raise Broken(f"{self.own!r} has outlived its owner")
        self.own = Table(owner=self, name="own")
        return self.own

    def handle_cast(self, key: str, own: Table[str, int], /) -> NoReply[Table[str, int]]:
        """Count a key in the table of this life."""
        own.update_counter(key, default=0)
        return NoReply(own)


def is_gone(table: Table[Any, Any]) -> bool:
    """Say whether a table has ended."""
    try:
        len(table)
    except TableGone:
        return True
    return False


def agent(account: Account, names: Names, **options: Any) -> Agent[int]:
    """Make an agent for an account."""
    account.server = Agent(begin, account, names, name=account.name, **options)
    return account.server


def desk(account: Account, names: Names, **options: Any) -> Desk:
    """Make a GenServer for an account."""
    account.server = made = Desk(account, names, **options)
    return made
