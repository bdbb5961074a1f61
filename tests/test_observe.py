"""Snapshots: frozen, taken without waiting, whatever the watched are doing."""

from contextlib import suppress

import attrs
import pytest
import trio
import trio.testing

from trio_otp import (
    Agent,
    Backoff,
    ChildSpec,
    Exited,
    Supervisor,
    Task,
    TaskSupervisor,
    format_tree,
    observe,
)


async def slow(state, seconds=5):
    await trio.sleep(seconds)
    return state


def shape(info):
    return (info.name, [shape(child) for child in info.children])


async def test_tree(autojump_clock):
    """Supervisors show their children in start order, blocks what runs inside their process."""
    inside = Agent(dict, name="inside")

    async def worker():
        async with inside:
            await trio.sleep_forever()

    tree = Supervisor(
        [Agent(dict, name="a"), Supervisor([ChildSpec(worker, id="worker")], name="inner")],
        name="sup",
    )
    async with tree, TaskSupervisor(name="jobs") as tasks, trio.open_nursery() as nursery:
        tasks.start_child(trio.sleep, 1, name="job")
        Task.async_(nursery, trio.sleep, 1, name="linked")
        await trio.testing.wait_all_tasks_blocked()
        expected = ("sup", [("a", []), ("inner", [("worker", [("inside", [])])])])
        assert shape(observe(tree)) == expected
        roots = sorted((shape(info) for info in observe()), key=lambda pair: pair[0])
        assert roots == [("jobs", [("job", [])]), ("linked", []), expected]


async def test_supervisors_tasks_are_shown_once(autojump_clock):
    """Whatever nursery they run in, a supervisor's tasks stand under it, and nowhere else."""

    async def asker(nursery):
        tasks.async_(nursery, trio.sleep, 2, name="linked")
        tasks.async_nolink(trio.sleep, 2, name="isolated")
        tasks.start_child(trio.sleep, 2, name="restartable", restart="transient")
        async with tasks.async_stream([2], trio.sleep) as outcomes:
            _ = [outcome async for outcome in outcomes]

    async with TaskSupervisor(name="jobs") as tasks, trio.open_nursery() as nursery:
        inner = await nursery.start(Task(_nursery_of, asker, name="asker").run)
        await trio.sleep(1)
        jobs, other = sorted(observe(), key=lambda info: info.name, reverse=True)
        assert shape(other) == ("asker", [])
        names = sorted(info.name for info in jobs.children)
        assert names == ["isolated", "linked", "restartable", "sleep"]
        assert observe(inner).children == ()


async def _nursery_of(fn):
    async with trio.open_nursery() as nursery:
        await fn(nursery)


async def test_current_of_a_task(autojump_clock):
    """A task that runs shows its name and since when."""
    async with TaskSupervisor() as tasks:
        await trio.sleep(1)
        task = tasks.start_child(trio.sleep, 1, name="job")
        assert observe(task).current == ("job", 1)
        await task.wait()
        assert observe(task).current is None


async def test_drawing(autojump_clock):
    """A drawing has a line for each process, indented under what it belongs to."""

    async def fragile():
        await trio.sleep(1)
        raise ValueError

    tree = Supervisor(
        [
            Agent(dict, name="state"),
            TaskSupervisor(name="jobs"),
            ChildSpec(fragile, id="fragile", backoff=Backoff(10)),
        ],
        name="root",
    )
    async with tree:
        jobs = observe(tree).children[1].process
        jobs.start_child(trio.sleep, 5, name="one")
        await trio.sleep(2)
        assert format_tree(tree).splitlines() == [
            "root (supervisor, running)",
            "    state (agent, running)",
            "    jobs (task_supervisor, running)",
            "        one (task, running)",
            "    fragile (task, restarting, restarts 1, last life crashed with ValueError)",
        ]
        assert format_tree(jobs).splitlines()[1] == "    one (task, running)"


async def test_facts(autojump_clock):
    """A snapshot has kind, status, start, id, restarts and the last exit."""
    agent = Agent(int, name="n")
    async with Supervisor([agent.child_spec(id="the agent")], name="sup") as sup:
        await trio.sleep(2)
        with pytest.raises(Exited):
            await agent.get(lambda n: 1 // n)
        await agent.get()
        (info,) = observe(sup).children
        assert (info.id, info.name, info.kind, info.status) == (
            "the agent",
            "n",
            "agent",
            "running",
        )
        assert (info.restarts, info.started_at) == (1, 2)
        assert isinstance(info.last_exit.error, ZeroDivisionError)
        assert info.process is agent
        assert (observe(sup).kind, observe(sup).started_at) == ("supervisor", 0)
        assert (
            "n (agent, running, restarts 1, last life crashed with ZeroDivisionError)"
            in format_tree()
        )


async def test_before_and_after(autojump_clock):
    """A process can be looked at before its first life and after its last."""
    agent = Agent(dict)
    info = observe(agent)
    assert (info.status, info.started_at, info.last_exit, info.children) == ("new", None, None, ())
    async with agent:
        pass
    assert (observe(agent).status, observe(agent).last_exit.reason) == ("stopped", "shutdown")
    task = Task(trio.sleep, 1)
    assert observe(task).current is None


async def test_children_that_are_down(autojump_clock):
    """A child between two lives, and one that is down for good, are shown as such."""

    async def fail():
        raise ValueError

    specs = [
        ChildSpec(fail, id="waiting", backoff=Backoff(60)),
        ChildSpec(trio.sleep, 0, id="done", restart="transient"),
    ]
    async with Supervisor(specs, name="sup") as sup:
        await trio.sleep(1)
        assert [info.status for info in observe(sup).children] == ["restarting", "stopped"]


@pytest.mark.conforms("CASE-111")
async def test_who_waits_for_whom(autojump_clock):
    """Two servers that wait for each other: the snapshot names both, what they run, and since when."""
    first, second = Agent(dict, name="first"), Agent(dict, name="second")

    async def ask(state, seconds, other):
        await trio.sleep(seconds)
        with suppress(Exited):  # one of them ends first
            await other.get(timeout=60)
        return state

    async with first, second, trio.open_nursery() as nursery:
        nursery.start_soon(first.get, ask, 1, second)
        nursery.start_soon(second.get, ask, 2, first)
        await trio.sleep(3)
        a, b = observe(first), observe(second)
        assert (a.waiting_for, b.waiting_for) == (second, first)
        assert a.current == b.current == (ask.__qualname__, 0)
        assert "second (agent, running, mailbox 1, calling first)" in format_tree()
        nursery.cancel_scope.cancel()


async def test_mailboxes(autojump_clock):
    """The length of a mailbox leaves out who has left; dropped casts are counted."""
    agent = Agent(int, name="busy", mailbox=2, overflow="drop_newest")
    async with agent, trio.open_nursery() as nursery:
        nursery.start_soon(agent.get, slow)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            agent.cast(slow)
        info = observe(agent)
        assert (info.mailbox_length, info.dropped_casts) == (2, 1)
        assert info.current == ("slow", 0)
        assert "mailbox 2, casts dropped 1" in format_tree(agent)
        nursery.cancel_scope.cancel()


async def test_asked_by(autojump_clock):
    """A task shows who asked for it, and who asked for that one."""
    chains = []

    async def leaf():
        chains.append(observe(task).asked_by)

    async def middle(nursery):
        nonlocal task
        task = Task.async_(nursery, leaf, name="leaf")

    task = None
    async with trio.open_nursery() as nursery, Task(middle, nursery, name="middle") as outer:
        await outer
    assert chains == [("middle",)]


@pytest.mark.conforms("CASE-52")
async def test_looking_does_not_hurt(autojump_clock, caplog):
    """A tree is looked at all the time while its children crash and an agent is busy: nobody feels it."""
    caplog.set_level("CRITICAL", "trio_otp")

    async def fragile():
        await trio.sleep(0.5)
        raise ValueError

    busy = Agent(int, name="busy")
    children = [ChildSpec(fragile, id=number, restart="transient") for number in range(100)]
    async with Supervisor([busy, *children], max_restarts=10**6, name="sup") as sup:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(busy.get, slow)
            for _ in range(100):
                start = trio.current_time()
                assert len(observe(sup).children) == 101
                assert trio.current_time() == start
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert all(info.restarts in (1, 2) for info in observe(sup).children[1:])
        assert observe(sup).children[0].restarts == 0


async def test_frozen(autojump_clock):
    """A snapshot does not change, and cannot be changed."""
    async with Agent(dict) as agent:
        info = observe(agent)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            info.status = "stopped"
    assert info.status == "running"


async def test_deep_tree():
    """A tree deeper than the stack can be looked at and drawn."""
    tree = Supervisor(name="leaf")
    for _ in range(1500):
        tree = Supervisor([tree], name="s")
    text = format_tree(tree)
    assert text == "s (supervisor, new)"
    async with tree:
        assert len(format_tree().splitlines()) == 1501


def test_outside_a_run():
    """Without a run there are no roots; a process can be looked at all the same."""
    assert observe() == ()
    assert format_tree() == ""
    assert observe(Agent(dict)).status == "new"


def test_bad_input():
    """What is no process is refused."""
    with pytest.raises(TypeError, match="process must be a Process or None, got 'a'"):
        observe("a")


async def test_shown_once(autojump_clock):
    """A task that belongs to a supervisor and runs in another process is shown where it is found first."""
    jobs = TaskSupervisor(name="jobs")

    async def worker():
        async with jobs, trio.open_nursery() as nursery:
            jobs.async_(nursery, trio.sleep, 60, name="both")
            await trio.sleep(60)

    async with Supervisor([ChildSpec(worker, id="worker")], name="sup"):
        await trio.sleep(1)
        assert format_tree().count("both (task, running)") == 1
