"""What a supervisor knows of one child: its place, its state, and who waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from .waiting import Bell

if TYPE_CHECKING:
    from collections.abc import Hashable
    from contextvars import Context

    from .exits import Exit
    from .options import Restart
    from .process import Process, Status
    from .specs import ChildSpec

State: TypeAlias = Literal["down", "waiting", "starting", "up", "stopping"]
"""Where a child stands; `"waiting"` is for its delay before a restart."""

Verb: TypeAlias = Literal["start", "terminate", "restart"]


class Child:
    """One child of one supervisor. Written by the supervisor's loop alone."""

    __slots__ = (
        "asker",
        "backoff",
        "context",
        "doomed",
        "failure",
        "falls",
        "id",
        "kind",
        "process",
        "restart",
        "restarts",
        "shutdown",
        "significant",
        "start_timeout",
        "state",
        "up_since",
    )

    def __init__(self, spec: ChildSpec, process: Process, id: Hashable = None) -> None:
        self.id: Final[Hashable] = spec.id if id is None else id
        self.process: Final = process
        self.kind: Final = "supervisor" if process._kind.endswith("supervisor") else "worker"
        self.restart: Restart = spec.restart or process._restart()
        process._check_restart(self.restart)
        self.shutdown = process._shutdown() if spec.shutdown == "inherit" else spec.shutdown
        self.significant: Final = spec.significant
        self.backoff: Final = spec.backoff
        self.start_timeout: Final = spec.start_timeout
        self.state: State = "down"
        self.asker: Request | None = None  # the request that its next change answers
        self.doomed = False  # to be forgotten as soon as it is down
        self.failure: Exception | None = None  # why its start is being ended
        self.context: Context | None = None  # where to run it, if not where its home began
        self.restarts = 0  # in all, for those who look
        self.falls = 0  # in a row, for its backoff
        self.up_since = 0.0

    @property
    def alive(self) -> bool:
        """Whether a life of it is there."""
        return self.state in ("starting", "up", "stopping")

    @property
    def grace(self) -> float:
        """The seconds that a stop leaves it."""
        return 0 if isinstance(self.shutdown, str) else self.shutdown

    def info(self) -> ChildInfo:
        """Take a snapshot."""
        return ChildInfo(
            id=self.id,
            process=self.process,
            kind=self.kind,
            status=self.process.status,
            restart=self.restart,
            significant=self.significant,
            restarts=self.restarts,
            last_exit=self.process.last_exit,
        )


@attrs.frozen(kw_only=True)
class ChildInfo:
    """One child as its supervisor saw it; what `Supervisor.children` holds.

    Attributes:
        id: Its id.
        process: Its handle.
        kind: `"worker"` or `"supervisor"`.
        status: Where its process stood.
        restart: When it is started again.
        significant: Whether its end may end the supervisor.
        restarts: How often it was started again.
        last_exit: How its last life ended, if one has.
    """

    id: Hashable
    process: Process
    kind: Literal["worker", "supervisor"]
    status: Status
    restart: Restart
    significant: bool
    restarts: int
    last_exit: Exit | None

    def __repr__(self) -> str:
        return f"<ChildInfo {self.id!r} {self.status}>"


class Request(Bell):
    """What one asker wants done with one child; answered once."""

    __slots__ = ("child", "earlier", "error", "left", "settled", "verb")

    def __init__(self, verb: Verb, child: Child) -> None:
        self._sleepers = None
        self.verb: Verb = verb
        self.child = child
        self.settled = False
        self.left = False  # the asker does not wait any more
        self.earlier: Request | None = None  # one that is answered with this one
        self.error: Exception | None = None

    def settle(self, error: Exception | None = None) -> None:
        """Answer; the first answer counts."""
        if not self.settled:
            self.settled = True
            self.error = error
            self.ring()

    def is_settled(self) -> bool:
        """Say whether there is an answer."""
        return self.settled
