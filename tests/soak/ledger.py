"""Both sides of every request: what customers were told, and what servers did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from trio_otp import Exited, MailboxFull, NotRunning, TimedOut

if TYPE_CHECKING:
    from trio_otp import Agent, GenServer

Stage: TypeAlias = Literal["new", "begun", "done"]


class WantedCrash(Exception):
    """What a request crashes its server with."""


# What the library promises: how far a call may have come when its caller hears this.
ALLOWED: Final[dict[str, tuple[Stage, ...]]] = {
    "answer": ("done",),
    "Exited": ("new", "begun"),
    "TimedOut": ("new", "begun"),  # one that was begun goes on
    "NotRunning": ("new",),
    "MailboxFull": ("new",),
    "WantedCrash": ("begun",),  # of a task, which hands it to whoever awaits it
}
FAILURES: Final = (Exited, TimedOut, NotRunning, MailboxFull)


class Broken(AssertionError):
    """The library has broken a promise."""


@attrs.define
class Tally:
    """Requests of one kind to one server.

    Attributes:
        sent: Accepted of customers.
        begun: Their functions were called.
        done: Their functions have come to their end.
        answered: Customers got an answer.
        failed: Customers got an error instead.
    """

    sent: int = 0
    begun: int = 0
    done: int = 0
    answered: int = 0
    failed: int = 0


@attrs.define(eq=False)
class Account:
    """One server, and the counts of what it was asked for.

    Attributes:
        registered: Whether its lives enter themselves in the registry.
        lives: How often its state was made.
        in_life: Requests that were done in the present life; its state is this number.
        crashes: Requests that were made to crash it, and did.
    """

    name: str
    registered: bool = False
    server: Agent[int] | GenServer[int] = attrs.field(init=False)
    calls: Tally = attrs.field(factory=Tally)
    casts: Tally = attrs.field(factory=Tally)
    lives: int = 0
    in_life: int = 0
    crashes: int = 0

    def open(self) -> int:
        """Begin a life; gives its first state."""
        self.lives += 1
        self.in_life = 0
        return 0


class Ticket:
    """One request on its way; marked by its server, judged by its customer."""

    __slots__ = ("_account", "_crashes", "_stage", "_tally", "_told", "seconds")

    def __init__(self, account: Account, tally: Tally, seconds: float, *, crashes: bool) -> None:
        self.seconds = seconds  # that its work takes
        self._crashes = crashes
        self._account = account
        self._tally = tally
        self._stage: Stage = "new"
        self._told = ""  # what its customer has heard
        tally.sent += 1

    def begin(self) -> None:
        """Note that its function was called."""
        if self._stage != "new" or self._told:
            raise self._broken("begun")
        self._stage = "begun"
        self._tally.begun += 1

    def finish(self) -> None:
        """Note that its function has come to its end; crash there, if it is such a ticket."""
        if self._stage != "begun" or self._told not in ("", "TimedOut"):
            raise self._broken("done")
        if self._crashes:
            self._account.crashes += 1
            raise WantedCrash(self._account.name)
        self._stage = "done"
        self._tally.done += 1
        self._account.in_life += 1

    def tell(self, error: Exception | None) -> None:
        """Judge what the customer of a call hears: an answer, or an error."""
        self._told = "answer" if error is None else type(error).__name__
        if self._stage not in ALLOWED[self._told]:
            raise self._broken("told")
        self._tally.answered += error is None
        self._tally.failed += error is not None

    def refuse(self) -> None:
        """Take a cast back that was not accepted."""
        self._told = "MailboxFull"
        self._tally.sent -= 1

    def _broken(self, what: str) -> Broken:
        told = self._told or "nothing"
        return Broken(f"{self._account.name}: {what} when {self._stage}, its customer told {told}")
