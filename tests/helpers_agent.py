"""What the tests of Agent share: functions for agents to run, and ways to reach them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from trio_otp import Agent, ChildSpec, Supervisor

# Whether the caller runs the function itself, because the agent is idle, or the agent does.
BOTH_PATHS = pytest.mark.parametrize("path", ["at once", "in turn"])
CALLS = {
    "get": Agent.get,
    "update": Agent.update,
    "get_and_update": Agent.get_and_update,
    "apply": Agent.apply,
}
ALL_CALLS = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


class Oops(Exception):
    """What the functions here fail with."""


def take(agent: Agent, path: str) -> None:
    """Choose the path of the next call: something is queued already, or the agent is idle."""
    if path == "in turn":
        agent.cast(same)


@asynccontextmanager
async def supervised(
    *agents: Agent | ChildSpec, max_restarts: int = 1_000_000
) -> AsyncIterator[Supervisor]:
    """Run agents in a home where their crashes stay."""
    async with Supervisor(agents, max_restarts=max_restarts) as supervisor:
        yield supervisor


def same(state, *_):
    return state


def add(state, number=1):
    return state + number


def also(state, item):
    """Append to a tuple."""
    return (*state, item)


def fail(state, *_):
    raise Oops("oops")


async def slow(state, seconds=1.0, fn=same, *args):
    await trio.sleep(seconds)
    return fn(state, *args)


async def hold(state, event):
    await event.wait()
    return state


def count_pair(state):
    return state, state + 1
