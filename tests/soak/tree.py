"""The tree: 1,000 processes of every kind, in every kind of supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

import trio

from trio_otp import (
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    PartitionSupervisor,
    Registry,
    Strategy,
    Supervisor,
    TaskSupervisor,
    observe,
)

from .ledger import Account
from .servers import Keeper, agent, desk

if TYPE_CHECKING:
    from trio_otp import Process, ProcessInfo

STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)
TEAMS, TEAM, PARTITIONS, DYNAMIC, RESIDENTS, BYSTANDERS = 36, 4, 100, 200, 100, 51
SIZE: Final = 1000

# More than the storm ever takes; spent only if something comes back again and again.
BUDGET: Final[Any] = {"max_restarts": 1000, "max_seconds": 1.0}
# What the mailboxes of a team are like, and how soon its children come back.
MAILBOXES: Final[tuple[Any, ...]] = (
    {},
    {"mailbox": 4, "overflow": "raise"},
    {"mailbox": 4, "overflow": "drop_newest"},
    {"mailbox": 4, "overflow": "drop_oldest"},
)
BACKOFF: Final = Backoff(1 / 16, maximum=0.5)


class Tree:
    """The handles of the tree, and an account for each of its servers."""

    def __init__(self) -> None:
        self.accounts: list[Account] = []
        self.names: Registry[str, Any, int] = Registry("unique", name="names")
        self.supervisors: list[Process] = []
        self.residents: list[Process] = []
        self.root = Supervisor(name="root", **BUDGET)
        self.keeper = Keeper(self.root)
        self.dynamic = DynamicSupervisor(name="dynamic", **BUDGET)
        self.dynamic_accounts = [self._account(f"dynamic-{n}") for n in range(DYNAMIC)]
        self.tasks = TaskSupervisor(name="tasks", **BUDGET)
        for account in self.dynamic_accounts:
            agent(account, self.names)

    async def grow(self) -> None:
        """Start all of it under its root."""
        keepers = Supervisor([self.keeper], name="keepers", **BUDGET)
        partitions = PartitionSupervisor(
            lambda number: agent(self._account(f"partition-{number}"), self.names),
            partitions=PARTITIONS,
            name="partitions",
            **BUDGET,
        )
        branches = [self._branch(strategy) for strategy in STRATEGIES]
        self.supervisors += [*branches, partitions, self.dynamic, self.tasks, keepers]
        for child in (*branches, partitions, self.dynamic, self.tasks, keepers):
            await self.root.start_child(child)
        for number in range(BYSTANDERS):
            await self.root.start_child(ChildSpec(trio.sleep_forever, id=f"bystander-{number}"))
        await self.restock()

    async def restock(self) -> None:
        """Start again what supervisors do not: the children that they lost with their own life."""
        for account in self.dynamic_accounts:
            if account.server.status in ("new", "stopped"):
                await self.dynamic.start_child(account.server)
        self.residents = [one for one in self.residents if one.status != "stopped"]
        while len(self.residents) < RESIDENTS:
            resident = self.tasks.start_child(trio.sleep_forever, restart="permanent")
            self.residents.append(resident)

    def look(self) -> dict[Process, ProcessInfo]:
        """Look at all processes that run."""
        found: dict[Process, ProcessInfo] = {}
        waiting = [observe(self.root)]
        while waiting:
            info = waiting.pop()
            found[info.process] = info
            waiting.extend(info.children)
        return found

    def _branch(self, strategy: Strategy) -> Supervisor:
        teams = [self._team(strategy, number) for number in range(TEAMS)]
        self.supervisors += teams
        return Supervisor(teams, strategy=strategy, name=strategy, **BUDGET)

    def _team(self, branch: Strategy, number: int) -> Supervisor:
        name = f"{branch}-{number}"
        options = MAILBOXES[number % len(MAILBOXES)]
        backoff = BACKOFF if number % 5 == 0 else None
        accounts = [self._account(f"{name}-{place}", registered=True) for place in range(TEAM)]
        servers = [
            (desk if place % 3 == 0 else agent)(account, self.names, **options)
            for place, account in enumerate(accounts)
        ]
        return Supervisor(
            [ChildSpec(server, backoff=backoff) for server in servers],
            strategy=STRATEGIES[number % len(STRATEGIES)],
            name=name,
            **BUDGET,
        )

    def _account(self, name: str, *, registered: bool = False) -> Account:
        account = Account(name, registered)
        self.accounts.append(account)
        return account
