"""Random lives against a model: what a supervisor does is what its rules say, whatever happens.

`HYPOTHESIS_PROFILE=soak` runs many more examples.
"""

import logging
from typing import Literal

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_otp import (
    Agent,
    AlreadyRunning,
    ChildSpec,
    Exited,
    NotRunning,
    Registry,
    Supervisor,
    TaskSupervisor,
    UnknownChild,
)

EXAMPLES = max(
    400, settings.default.max_examples if settings.default else 0
)  # for each test: 2,000 in all
log = logging.getLogger("trio_otp")
RESTARTS = ("permanent", "transient", "temporary")

Verb = Literal[
    "crash", "crash in turn", "kill", "stop", "terminate", "restart", "delete", "start", "call"
]
VERBS: tuple[Verb, ...] = (
    "crash", "crash in turn", "kill", "stop", "terminate", "restart", "delete", "start", "call",
)  # fmt: skip


@attrs.define
class Known:
    """What the model knows of one child."""

    restart: str
    up: bool = True
    lives: int = 1


class Model:
    """What the rules of a supervisor make of its children. Pure."""

    def __init__(self, strategy: str) -> None:
        self.strategy = strategy
        self.children: dict[int, Known] = {}

    def fall(self, id: int, *, failed: bool) -> None:
        """A child has ended by itself."""
        child = self.children[id]
        if child.restart == "permanent" or (child.restart == "transient" and failed):
            self.bounce(id)
        else:
            self.down(id)

    def bounce(self, id: int) -> None:
        """A child is started again, and with it all that the strategy names."""
        order = list(self.children)
        first = {"one_for_one": id, "rest_for_one": id, "one_for_all": order[0]}[self.strategy]
        group = order[order.index(first) :] if self.strategy != "one_for_one" else [id]
        for other in group:
            if self.children[other].restart == "temporary":
                del self.children[other]
            else:
                self.children[other].up = True
                self.children[other].lives += 1

    def down(self, id: int) -> None:
        """A child stays down; a temporary one is forgotten."""
        self.children[id].up = False
        if self.children[id].restart == "temporary":
            del self.children[id]


class Real:
    """The same with real processes: each child is an agent that counts its lives."""

    def __init__(self, strategy: str) -> None:
        self.sup = Supervisor(strategy=strategy, max_restarts=10**6)
        self.agents: dict[int, Agent[int]] = {}
        self.lives: dict[int, int] = {}

    async def start(self, id: int, restart: str) -> None:
        self.lives[id] = 0
        self.agents[id] = Agent(self.begin, id, name=str(id))
        await self.sup.start_child(ChildSpec(self.agents[id], id=id, restart=restart))

    def begin(self, id: int) -> int:
        self.lives[id] += 1
        return self.lives[id]

    def seen(self) -> list[tuple[int, bool, int]]:
        return [(c.id, c.status == "running", self.lives[c.id]) for c in self.sup.children]


def fail(_: object) -> int:
    raise ValueError


async def fail_later(_: object) -> int:
    await trio.sleep(1)
    raise ValueError


async def attempt(real: Real, model: Model, verb: Verb, id: int) -> None:
    """Do one thing to one child, and have the model do the same."""
    agent, known = real.agents[id], model.children.get(id)
    up = known is not None and known.up
    match verb:
        case "crash" | "crash in turn" | "call":
            await ask(agent, {"crash": fail, "crash in turn": fail_later}.get(verb), up=up)
            if up and verb != "call":
                model.fall(id, failed=True)
        case "kill":
            agent.kill()
            if up:
                model.fall(id, failed=True)
        case "stop":
            await agent.stop()
            if up:
                model.fall(id, failed=False)
        case _:
            await request(real.sup, model, verb, id)


async def ask(agent: Agent[int], fn: object, *, up: bool) -> None:
    try:
        await agent.get(fn)  # type: ignore[call-overload]
    except Exited:
        assert up
        assert fn is not None
    except NotRunning:
        assert not up
    else:
        assert up
        assert fn is None


async def request(sup: Supervisor, model: Model, verb: Verb, id: int) -> None:
    known = model.children.get(id)
    try:
        if verb == "delete":
            sup.delete_child(id)
        else:
            await {"terminate": sup.terminate_child, "restart": sup.restart_child}[verb](id)
    except UnknownChild:
        assert known is None
    except AlreadyRunning:
        assert known is not None
        assert known.up
    else:
        assert known is not None
        if verb == "terminate":
            model.down(id)
        elif verb == "restart":
            assert not known.up
            known.up, known.lives = True, known.lives + 1
        else:
            assert not known.up
            del model.children[id]


async def play(strategy: str, steps: list[tuple[Verb, int, str]]) -> None:
    real, model = Real(strategy), Model(strategy)
    async with real.sup:
        for number, (verb, which, restart) in enumerate(steps):
            if verb == "start" or not real.agents:
                await real.start(number, restart)
                model.children[number] = Known(restart)
            else:
                await attempt(real, model, verb, list(real.agents)[which % len(real.agents)])
            await trio.testing.wait_all_tasks_blocked()
            assert real.seen() == [(id, c.up, c.lives) for id, c in model.children.items()]
    assert {agent.status for agent in real.agents.values()} <= {"stopped"}


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@settings(max_examples=EXAMPLES)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(VERBS), st.integers(0, 9), st.sampled_from(RESTARTS)), max_size=25
    )
)
def test_supervisor_against_its_model(strategy: str, steps: list[tuple[Verb, int, str]]) -> None:
    """After whatever happens to its children, who runs, and in which life, is what the rules say."""
    run(play, strategy, steps)


async def juggle(steps: list[tuple[str, int]]) -> None:
    """Tasks that end, crash, are terminated, time out and are left; their count is the model's."""
    expected: set[int] = set()
    tasks = {}
    async with TaskSupervisor() as sup:
        for number, (verb, which) in enumerate(steps):
            known = list(tasks)
            id = known[which % len(known)] if known else None
            if verb == "start" or id is None:
                done = trio.Event()
                tasks[number] = (sup.async_nolink(hold, done, which % 2), done)
                expected.add(number)
            elif verb == "end":
                tasks[id][1].set()
                expected.discard(id)
            elif verb == "terminate" and id in expected:
                await sup.terminate_child(tasks[id][0])
                expected.discard(id)
            elif verb == "wait":
                with trio.move_on_after(which):
                    await tasks[id][0].yield_(timeout=which + 1)
            await trio.testing.wait_all_tasks_blocked()
            assert {child.process for child in sup.children} == {tasks[id][0] for id in expected}
        await sup.stop()
    assert all(task.status == "stopped" for task, _ in tasks.values())


async def hold(done: trio.Event, fails: int) -> None:
    await done.wait()
    if fails:
        raise ValueError


@settings(max_examples=EXAMPLES)
@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "end", "terminate", "wait"]), st.integers(0, 9)),
        max_size=25,
    )
)
def test_tasks_against_their_model(steps: list[tuple[str, int]]) -> None:
    """Whatever becomes of tasks and of who waits for them, those listed are those that live."""
    run(juggle, steps)


async def look_up(steps: list[tuple[str, int]]) -> None:
    """Agents by key, started by whoever asks first; a key has one agent, or none."""
    registry: Registry[int, Agent[int], None] = Registry()
    alive: dict[int, Agent[int]] = {}
    async with Supervisor() as sup:
        for verb, key in steps:
            if verb == "open":
                found = []

                async def first(key: int = key, found: list[Agent[int]] = found) -> None:
                    made = await registry.get_or_start(key, temporary, sup)
                    found.append(made)

                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(first)
                assert len(set(found)) == 1
                assert alive.setdefault(key, found[0]) is found[0]
            elif key in alive:
                agent = alive.pop(key)
                agent.kill() if verb == "kill" else await agent.stop()
                await agent.wait()
            assert all(registry.whereis(key) is alive.get(key) for key in range(4))
            assert registry.count() == len(alive)
    assert registry.count() == 0


def temporary() -> Agent[int]:
    return Agent(int, restart="temporary")


@settings(max_examples=EXAMPLES)
@given(
    st.lists(st.tuples(st.sampled_from(["open", "kill", "stop"]), st.integers(0, 3)), max_size=20)
)
def test_registry_against_its_model(steps: list[tuple[str, int]]) -> None:
    """Whoever opens and ends them, each key has one living agent, or none."""
    run(look_up, steps)


def run(fn, *args) -> None:  # type: ignore[no-untyped-def]
    log.setLevel(logging.CRITICAL + 1)  # thousands of crashes, all of them wanted
    try:
        trio.run(fn, *args, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        log.setLevel(logging.NOTSET)
