"""What the tests of GenServer share: a server that does what its requests say."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_otp import ChildSpec, GenServer, NoReply, Reply, Supervisor


class Oops(Exception):
    """What the handlers here fail with."""


class Run(GenServer[Any]):
    """Requests are functions: it calls them, returns what they do, and logs what else it gets."""

    def __init__(self, init: Any = 0, **options: Any) -> None:
        super().__init__(**options)
        self.make = init if callable(init) else lambda: init
        self.log: list[Any] = []

    def init(self):
        return self.make()

    def handle_call(self, request, caller, state):
        return request(caller, state)

    def handle_cast(self, request, state):
        return request(state)

    def handle_info(self, message, state):
        if callable(message):
            return message(state)
        self.log.append(("info", message))
        return NoReply(state)

    def handle_continue(self, arg, state):
        if callable(arg):
            return arg(state)
        self.log.append(("continue", arg))
        return NoReply(state)

    def terminate(self, exit, state):
        self.log.append(("terminate", str(exit), state))

    def note(self, what: Any) -> Any:
        """A cast that logs."""
        return lambda state: self.log.append(what) or NoReply(state)


def get(caller, state):
    """A call for the state."""
    return Reply(state, state)


def put(new, **then):
    """A call that sets the state and is answered by the old one."""
    return lambda caller, state: Reply(state, new, **then)


def add(number):
    """A cast."""
    return lambda state: NoReply(state + number)


def slow(seconds, handler):
    """A handler that takes its time before it does what another does."""

    async def handle(*args):
        await trio.sleep(seconds)
        return handler(*args)

    return handle


def fail(*_):
    raise Oops("oops")


@asynccontextmanager
async def supervised(*servers: GenServer[Any] | ChildSpec) -> AsyncIterator[Supervisor]:
    """Run servers in a home where their crashes stay."""
    async with Supervisor(servers, max_restarts=1_000_000) as supervisor:
        yield supervisor
