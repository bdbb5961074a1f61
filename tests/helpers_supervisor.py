"""Supervisors of children that report, and what happened as one line of text.

`+a` a became ready, `!a` ended before it was ready, `?a` was told to stop (only children that
trap exits are), `-a:crashed` it is down and why. The supervisor itself is `SUP`.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

import trio
from trio.testing import wait_all_tasks_blocked

from trio_otp import (
    ChildSpec,
    Ended,
    ExitProcess,
    Ignore,
    Process,
    Ready,
    RestartsExhausted,
    Supervisor,
    subscribe,
    trap_exit,
)

RESTARTS = ("permanent", "transient", "temporary")


class Boom(Exception):
    """What a child crashes with."""


class Refused(Exception):
    """Why a child does not start."""


class Log:
    """The events of all processes with a name, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._up: set[Process] = set()

    def hear(self, event: object) -> None:
        match event:
            case Ready(process=process):
                self._up.add(process)
                if process.name != "SUP":
                    self.events.append(f"+{process.name}")
            case Ended(process=process, exit=exit):
                was_up = process in self._up
                self._up.discard(process)
                text = f"-{process.name}:{exit.reason}" if was_up else f"!{process.name}"
                self.events.append(text)

    def take(self) -> str:
        text = " ".join(self.events)
        self.events.clear()
        return text


@contextmanager
def recording() -> Iterator[Log]:
    log = Log()
    with subscribe(log.hear):
        yield log


class Probe:
    """A child that stays until told otherwise; `starts` are the fates of its starts in turn."""

    def __init__(self, log: Log, id: str, starts: str = "", *, trap: bool = True, grace: float = 0,
                 leaves: str = "shutdown") -> None:  # fmt: skip
        self.log, self.id, self.trap, self.grace, self.leaves = log, id, trap, grace, leaves
        self.starts = starts.split()
        self.attempts = 0

    async def live(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.attempts += 1
        self.orders, inbox = trio.open_memory_channel[str](1)
        self._start(self.starts.pop(0) if self.starts else "ok")
        if not self.trap:
            task_status.started()
            self._leave(await inbox.receive())
            return
        with trap_exit() as exiting:
            task_status.started()
            how = self.leaves
            with exiting.interrupts():
                how = await inbox.receive()
            if exiting.is_set():
                self.log.events.append(f"?{self.id}")
                await trio.sleep(self.grace)
        self._leave(how)

    def _start(self, fate: str) -> None:
        if fate == "ignore":
            raise Ignore
        if fate == "no":
            raise Refused(self.id)

    def _leave(self, how: str) -> None:
        if how == "crashed":
            raise Boom(self.id)
        if how in ("normal", "shutdown"):
            raise ExitProcess(how)


class Bench:
    """A supervisor of probes. `kids` are words like `a`, `t/temporary`, `c/transient/significant`.

    `plain` children do not trap exits; `starts` maps a name to the fates of its starts:
    `ok`, `no` (fails) or `ignore`.
    """

    def __init__(self, log: Log, kids: str = "", starts: dict[str, str] | None = None,
                 child: dict | None = None, **options: object) -> None:  # fmt: skip
        self.log = log
        self.probes: dict[str, Probe] = {}
        self._starts = starts or {}
        self._child = child or {}
        specs = [self.spec(kid) for kid in kids.split()]
        self.sup = Supervisor(specs, **({"name": "SUP"} | options))

    def spec(self, kid: str, **options: object) -> ChildSpec:
        name, *words = kid.split("/")
        traits = {key: options.pop(key) for key in ("grace", "leaves") if key in options}
        probe = Probe(
            self.log, name, self._starts.get(name, ""), trap="plain" not in words, **traits
        )
        self.probes[name] = probe
        if restart := [word for word in words if word in RESTARTS]:
            options["restart"] = restart[0]
        options = self._child | {"significant": "significant" in words} | options
        return ChildSpec(probe.live, id=name, **options)

    def __getitem__(self, id: str) -> Process:
        return next(info.process for info in self.sup.children if info.id == id)

    async def fall(self, id: str, how: str = "crashed") -> None:
        """End a child in one of the four ways, and wait until all is quiet again."""
        self.end(id, how)
        await wait_all_tasks_blocked()

    def end(self, id: str, how: str = "crashed") -> None:
        if how == "killed":
            self[id].kill()
        else:
            self.probes[id].orders.send_nowait(how)

    def which(self) -> str:
        """The children in start order; those that do not run in brackets."""
        return " ".join(
            info.id if info.status in ("running", "stopping") else f"({info.id})"
            for info in self.sup.children
        )


@asynccontextmanager
async def running(log: Log, kids: str = "", starts: dict[str, str] | None = None,
                  child: dict | None = None, **options: object) -> AsyncIterator[Bench]:  # fmt: skip
    """Run a supervisor of probes beside the test, which its giving up does not cancel."""
    bench = Bench(log, kids, starts, child, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(held, bench.sup))
        yield bench
        nursery.cancel_scope.cancel()


async def held(sup: Process, *, task_status: trio.TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
    """Run a supervisor that may give up."""
    with suppress(RestartsExhausted):
        await sup.run(task_status=task_status)


async def idle() -> None:
    """Be a child that does nothing."""
    await trio.sleep_forever()
