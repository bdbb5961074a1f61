"""The audit: when all is quiet, both sides of the ledger must agree."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from trio_otp import Agent, observe

from .ledger import Broken
from .tree import SIZE

if TYPE_CHECKING:
    from trio_otp import ProcessInfo

    from .customers import Customers
    from .ledger import Account
    from .tree import Tree

# What is warned of here, and is as it should be.
EXPECTED: Final = ("ended (killed) and is restarted", "casts undone")


async def audit(tree: Tree, customers: Customers) -> None:
    """Check every promise that can be counted, on a tree that runs."""
    infos = tree.look()
    same("processes", len(infos), SIZE)
    for account in tree.accounts:
        check(account, infos[account.server])
        if isinstance(account.server, Agent):
            same(f"state of {account.name}", await account.server.get(), account.in_life)
    check_calls(customers.tasks)
    check_names(tree)
    kept = tree.keeper.kept
    same("rows of the kept table", sum(kept.values()) if kept is not None else 0, customers.rows)


def audit_end(tree: Tree, customers: Customers) -> None:
    """Check what must still agree after the end."""
    for account in tree.accounts:
        info = observe(account.server)
        check(account, info)
        same(f"status of {account.name}", info.status, "stopped")
    check_calls(customers.tasks)
    same("names", tree.names.count(), 0)


def check(account: Account, info: ProcessInfo) -> None:
    """Check the requests to one server."""
    check_calls(account)
    casts, ended = account.casts, account.lives - (info.status == "running")
    # Each accepted cast was begun or is counted as dropped; a life ends within one at most.
    same(f"casts of {account.name}", casts.begun + info.dropped_casts, casts.sent)
    at_most(f"casts that {account.name} ended in", casts.begun - casts.done, ended)


def check_calls(account: Account) -> None:
    """Each call was answered or failed; each answer was earned, which its ticket has checked."""
    calls = account.calls
    same(f"calls of {account.name}", calls.answered + calls.failed, calls.sent)
    at_most(f"answers of {account.name}", calls.answered, calls.done)


def check_names(tree: Tree) -> None:
    """Each server of a team is registered, in its present life, and nobody else is."""
    known = {name: (entry.process, entry.value) for name, entry in tree.names.items()}
    same("names", known, {a.name: (a.server, a.lives) for a in tree.accounts if a.registered})


def same(what: str, found: object, expected: object) -> None:
    """Compare what was counted in two places."""
    if found != expected:
        raise Broken(f"{what}: {found}, and not {expected}")


def at_most(what: str, found: float, most: float) -> None:
    """Compare a count with the most that it may be."""
    if found > most:
        raise Broken(f"{what}: {found}, and that is more than {most}")


class Reports(logging.Handler):
    """Counts the crashes that the library reports, and prints nothing.

    Attributes:
        crashes: Crashes that were told.
        others: Reports of what should not have happened.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.crashes = 0
        self.others: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Count it."""
        if isinstance(error := record.exc_info and record.exc_info[1], Broken):
            self.others.append(str(error))
        elif hasattr(record, "otp_exit"):
            # A server may be crashed twice in one moment; one report then tells of both.
            self.crashes += 1 + (error is not record.otp_exit.error)
        elif not (text := record.getMessage()).endswith(EXPECTED):
            self.others.append(text)
