"""Supervisor: requests about single children, and what meets them halfway."""

import logging
import math
import random
from collections import Counter
from contextlib import suppress
from contextvars import ContextVar
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_supervisor import Bench, Boom, idle, recording, running
from trio_otp import (
    Agent,
    AlreadyRunning,
    Backoff,
    CalledItself,
    ChildSpec,
    DuplicateChild,
    Ended,
    Ignore,
    NotRunning,
    RestartsExhausted,
    StartFailed,
    Supervisor,
    Task,
    UnknownChild,
    subscribe,
)


@pytest.fixture
def log():
    with recording() as log:
        yield log


class Slow:
    """A child that becomes ready after `seconds` (by default never), with a cleanup of `cleanup`."""

    def __init__(self, seconds=float("inf"), cleanup=0.0):
        self.seconds, self.cleanup = seconds, cleanup
        self.starts, self.cleaned = [], []

    async def live(self, *, task_status):
        self.starts.append(trio.current_time())
        try:
            await trio.sleep(self.seconds)
            task_status.started()
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.cleanup)
            self.cleaned.append(trio.current_time())

    def spec(self, id="slow", **options):
        return ChildSpec(self.live, id=id, **options)


# --- answers -----------------------------------------------------------------------------


@pytest.mark.conforms("SUP-093")
async def test_start_child_gives_what_was_handed_in(autojump_clock):
    """start_child gives the process itself, and the awaitable task of a function."""

    async def answer():
        return 42

    agent = Agent(lambda: 1)
    async with Supervisor([]) as sup:
        assert await sup.start_child(agent) is agent
        assert await agent.get() == 1
        task = await sup.start_child(ChildSpec(answer, restart="temporary"))
        assert isinstance(task, Task)
        assert await task == 42


@pytest.mark.conforms("SUP-111")
async def test_life_cycle_of_a_child(autojump_clock):
    """Start, refuse to delete, terminate, restart with fresh state, terminate, delete."""
    agent = Agent(list[int], name="agent")
    async with Supervisor([]) as sup:
        await sup.start_child(agent)
        await agent.apply(list.append, 1)
        with pytest.raises(AlreadyRunning, match="agent is running"):
            sup.delete_child("agent")
        await sup.terminate_child("agent")
        with pytest.raises(NotRunning):
            await agent.get()
        assert await sup.restart_child("agent") is agent
        assert await agent.get() == []
        await sup.terminate_child("agent")
        sup.delete_child("agent")
        assert sup.children == ()
    async with agent:
        assert await agent.get() == []


@pytest.mark.conforms("SUP-104")
async def test_children_by_id_or_process(autojump_clock):
    """Requests take the id of a child or its process."""
    agent = Agent(dict, name="agent")
    async with Supervisor([agent]) as sup:
        await sup.terminate_child(agent)
        assert await sup.restart_child(agent) is agent
        await sup.terminate_child("agent")
        sup.delete_child(agent)
        for unknown in (agent, "agent", 7, []):
            with pytest.raises((UnknownChild, TypeError)):
                await sup.terminate_child(unknown)


@pytest.mark.conforms("SUP-102", "SUP-107", "SUP-110")
async def test_unknown_child(autojump_clock):
    """A request about nobody names the supervisor and what was asked for."""
    async with Supervisor([], name="boss") as sup:
        for request in (sup.terminate_child, sup.restart_child):
            with pytest.raises(UnknownChild, match="'boss' running> has no child 'ghost'"):
                await request("ghost")
        with pytest.raises(UnknownChild, match="ghost"):
            sup.delete_child("ghost")


@pytest.mark.conforms("SUP-118")
@pytest.mark.parametrize("ran", [False, True])
async def test_requests_to_a_supervisor_that_does_not_run(autojump_clock, ran):
    """Requests to one that never ran, or has ended, fail at once."""
    sup = Supervisor([ChildSpec(idle, id="x")])
    if ran:
        async with sup:
            pass
    for ask in (sup.terminate_child, sup.restart_child):
        with pytest.raises(NotRunning):
            await ask("x")
    with pytest.raises(NotRunning):
        await sup.start_child(idle)
    with pytest.raises(NotRunning):
        sup.delete_child("x")
    assert sup.children == ()


async def test_requests_of_a_childs_own_task(autojump_clock):
    """A child that has started may ask its supervisor: add siblings, and end itself."""
    steps = []

    async def child():
        await sup.start_child(ChildSpec(idle, id="sibling"))
        steps.append(len(sup.children))
        await sup.terminate_child("child")
        steps.append("not reached")

    async with Supervisor([ChildSpec(child, id="child")]) as sup:
        await wait_all_tasks_blocked()
        assert steps == [2]
        assert [(info.id, info.status) for info in sup.children] == [
            ("child", "stopped"),
            ("sibling", "running"),
        ]


async def test_context_is_that_of_the_supervisor(autojump_clock):
    """A child lives in the context of its supervisor's start, not of the request that added it."""
    who = ContextVar("who", default="nobody")
    seen = []

    async def child():
        seen.append(who.get())
        await trio.sleep_forever()

    who.set("program")
    async with Supervisor([]) as sup:
        who.set("request")
        process = await sup.start_child(child)
        await wait_all_tasks_blocked()
        process.kill()
        await wait_all_tasks_blocked()
    assert seen == ["program", "program"]


@pytest.mark.conforms("SUP-098", "SUP-103")
async def test_failed_starts_cost_nothing(autojump_clock, log, caplog):
    """A start that fails on request is told to the asker alone: no restart, no log, no child."""
    async with running(log, "a", {"bad": "no"}, max_restarts=0) as bench:
        for _ in range(5):
            with pytest.raises(StartFailed, match="SUP/bad failed to start"):
                await bench.sup.start_child(bench.spec("bad"))
        assert bench.which() == "a"
    assert not caplog.records


async def test_two_askers_for_one_id(autojump_clock):
    """Of two that start the same id at once, one gets the child and the other an error."""
    for _ in range(50):
        answers = []

        async def ask(answers=answers):
            try:
                answers.append(await sup.start_child(ChildSpec(idle, id="x")))
            except DuplicateChild as error:
                answers.append(error)

        async with Supervisor([]) as sup, trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            assert len(sup.children) == 1
        assert sorted(type(answer).__name__ for answer in answers) == ["DuplicateChild", "Task"]


# --- one thing at a time --------------------------------------------------------------------


@pytest.mark.conforms("SUP-016", "SUP-100")
async def test_requests_queue_behind_a_start(autojump_clock, log):
    """Requests wait for the start under way, however long it takes, and are served in their order."""
    async with running(log, "a") as bench, trio.open_nursery() as nursery:
        log.take()
        nursery.start_soon(bench.sup.start_child, Slow(10).spec())
        await wait_all_tasks_blocked()
        nursery.start_soon(bench.sup.terminate_child, "a")
        await wait_all_tasks_blocked()
        nursery.start_soon(bench.sup.start_child, bench.spec("b"))
        await trio.sleep(9)
        assert log.take() == ""
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        assert log.take() == "+slow ?a -a:shutdown +b"


async def test_requests_queue_behind_the_first_start(autojump_clock, log):
    """A request made while the supervisor itself is starting waits until it has started."""
    sup = Supervisor([Slow(3).spec()], name="SUP")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sup.run)
        await wait_all_tasks_blocked()
        assert (sup.status, [info.status for info in sup.children]) == ("starting", ["starting"])
        await sup.start_child(ChildSpec(idle, id="x"))
        assert (sup.status, trio.current_time()) == ("running", 3)
        assert log.take() == "+slow +x"
        nursery.cancel_scope.cancel()


async def test_starts_queue_behind_a_slow_restart(autojump_clock, log):
    """A restart under way holds back other starts."""
    slow = Slow(0)
    async with running(log) as bench:
        process = await bench.sup.start_child(slow.spec())
        slow.seconds = 2
        process.kill()
        await wait_all_tasks_blocked()
        log.take()
        await bench.sup.start_child(bench.spec("x"))
        assert log.take() == "+slow +x"
        assert trio.current_time() == 2


async def test_hanging_restart_can_be_terminated(autojump_clock, log):
    """A restart that never becomes ready is ended by terminate_child, and may be tried by hand."""
    slow = Slow(0)
    async with running(log) as bench:
        process = await bench.sup.start_child(slow.spec())
        slow.seconds = math.inf
        process.kill()
        await wait_all_tasks_blocked()
        log.take()
        await bench.sup.terminate_child("slow")
        assert log.take() == "!slow"
        assert bench.which() == "(slow)"
        slow.seconds = 0
        await bench.sup.restart_child("slow")
        assert bench.which() == "slow"


@pytest.mark.conforms("SUP-105")
async def test_requests_queue_behind_a_stop(autojump_clock, log):
    """While it waits for a child to stop, it serves no other request; falls it acts on at once."""
    async with running(log, "b") as bench, trio.open_nursery() as nursery:
        await bench.sup.start_child(bench.spec("slow", grace=3))
        log.take()
        nursery.start_soon(bench.sup.terminate_child, "slow")
        await wait_all_tasks_blocked()
        nursery.start_soon(bench.sup.start_child, bench.spec("x"))
        await bench.fall("b")
        assert log.take() == "?slow -b:crashed +b"
        assert len(bench.sup.children) == 2
        await trio.sleep(3)
        await wait_all_tasks_blocked()
        assert log.take() == "-slow:shutdown +x"


@pytest.mark.conforms("REVIEW-4")
async def test_falls_are_acted_on_during_a_start(autojump_clock, log):
    """A child that falls while another one starts is restarted at once."""
    async with running(log, "a") as bench, trio.open_nursery() as nursery:
        log.take()
        nursery.start_soon(bench.sup.start_child, Slow(10).spec())
        await wait_all_tasks_blocked()
        await bench.fall("a")
        assert log.take() == "-a:crashed +a"
        assert trio.current_time() == 0


async def test_group_restart_during_a_start(autojump_clock, log):
    """A group restart takes a child that is being started along; its asker still gets it."""
    async with running(log, "a", strategy="one_for_all") as bench, trio.open_nursery() as nursery:
        slow, answers = Slow(10), []
        log.take()

        async def ask():
            answers.append(await bench.sup.start_child(slow.spec()))

        nursery.start_soon(ask)
        await trio.sleep(4)
        await bench.fall("a")
        assert log.take() == "-a:crashed !slow +a"
        await trio.sleep(10)
        await wait_all_tasks_blocked()
        assert log.take() == "+slow"
        assert slow.starts == [0, 4]
        assert answers == [bench["slow"]]


# --- asking while starting --------------------------------------------------------------------


@pytest.mark.conforms("REVIEW-4")
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("verb", ["start", "restart", "terminate"])
async def test_asking_ones_own_supervisor_while_starting(autojump_clock, depth, verb):
    """A child that asks, while it starts, a supervisor that waits for it gets CalledItself."""
    errors = []

    async def child(*, task_status):
        with pytest.raises(CalledItself, match="is starting this very task") as caught:
            if verb == "start":
                await root.start_child(idle)
            else:
                await getattr(root, f"{verb}_child")("other")
        errors.append(caught.value)
        task_status.started()
        await trio.sleep_forever()

    tree = ChildSpec(child, id="child")
    for _ in range(depth):
        tree = Supervisor([tree])
    root = Supervisor([ChildSpec(idle, id="other"), tree])
    async with root:
        assert [error.process for error in errors] == [root]
        assert len(root.children) == 2


async def test_asking_while_being_restarted(autojump_clock):
    """The same in a later life: a restart does not hang on its own child either."""
    lives = []

    async def child(*, task_status):
        lives.append(1)
        if len(lives) == 2:
            with pytest.raises(CalledItself):
                await sup.start_child(idle)
        task_status.started()
        await trio.sleep(1)
        raise Boom

    async with Supervisor([child]) as sup:
        await trio.sleep(1.5)
        assert len(lives) == 2
        assert [info.status for info in sup.children] == ["running"]


async def test_asking_another_supervisor_while_starting(autojump_clock):
    """Only the supervisor that waits is out of reach: a starting child may use any other."""
    async with Supervisor([]) as other:

        async def child(*, task_status):
            await other.start_child(idle)
            task_status.started()
            await trio.sleep_forever()

        async with Supervisor([child]):
            assert len(other.children) == 1


# --- askers that leave -----------------------------------------------------------------------


@pytest.mark.conforms("CASE-10", "REVIEW-4")
async def test_asker_who_leaves_abandons_only_the_start(autojump_clock, log):
    """A start whose asker gives up is ended and forgotten; the other children are untouched."""
    slow = Slow(cleanup=1)
    async with running(log, "healthy") as bench:
        log.take()
        with trio.move_on_after(0.1) as scope:
            await bench.sup.start_child(slow.spec())
        assert scope.cancelled_caught
        await trio.sleep(2)
        assert (slow.starts, slow.cleaned) == ([0], [1.1])
        assert bench.which() == "healthy"
        assert log.take() == "!slow"


@pytest.mark.conforms("SUP-100")
async def test_abandoned_start_is_over_before_the_next(autojump_clock, log):
    """The next request waits for the cleanup of an abandoned start; the id and the handle are free."""
    slow = Slow(cleanup=1)
    task = Task(slow.live, name="slow")
    async with Supervisor([], name="SUP") as sup:
        with trio.move_on_after(0.5):
            await sup.start_child(task)
        slow.seconds = 0
        assert await sup.start_child(task) is task
        assert slow.starts == [0, 1.5]
        assert task.status == "running"


async def test_abandoned_restart_leaves_the_child_down(autojump_clock, log):
    """A restart_child whose asker gives up leaves the child as it was: down."""
    slow = Slow(0)
    async with running(log) as bench:
        await bench.sup.start_child(slow.spec())
        await bench.sup.terminate_child("slow")
        slow.seconds = 10
        with trio.move_on_after(1):
            await bench.sup.restart_child("slow")
        await wait_all_tasks_blocked()
        assert bench.which() == "(slow)"
        slow.seconds = 0
        await bench.sup.restart_child("slow")
        assert bench.which() == "slow"


@pytest.mark.conforms("SUP-101")
async def test_stop_goes_on_when_its_asker_leaves(autojump_clock, log):
    """A terminate_child cannot be taken back."""
    async with running(log) as bench:
        await bench.sup.start_child(bench.spec("slow", grace=3))
        with trio.move_on_after(1):
            await bench.sup.terminate_child("slow")
        assert bench.which() == "slow"
        await trio.sleep(2.5)
        assert bench.which() == "(slow)"


async def test_queued_start_whose_asker_left_never_runs(autojump_clock, log):
    """A request that was not taken up when its asker gave up is not carried out."""
    queued = Slow(0)
    async with running(log) as bench, trio.open_nursery() as nursery:
        nursery.start_soon(bench.sup.start_child, Slow(5).spec("first"))
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await bench.sup.start_child(queued.spec("second"))
        await trio.sleep(10)
        assert queued.starts == []
        assert bench.which() == "first"


@pytest.mark.parametrize("verb", ["start", "restart"])
async def test_askers_that_leave_at_any_moment(autojump_clock, log, verb):
    """However an asker is cancelled, it has its child if it got the answer, and else there is none."""
    got = 0
    for checkpoints in range(9):
        for _ in range(12):
            async with running(log) as bench:
                spec = bench.spec("x")
                if verb == "restart":
                    await bench.sup.start_child(spec)
                    await bench.sup.terminate_child("x")
                ask = partial(bench.sup.start_child, spec)
                if verb == "restart":
                    ask = partial(bench.sup.restart_child, "x")
                answered = await cancelled_after(checkpoints, ask)
                await wait_all_tasks_blocked()
                there = "x" if answered else "" if verb == "start" else "(x)"
                assert bench.which() == there
                got += answered
    assert 0 < got < 9 * 12


async def cancelled_after(checkpoints, ask):
    """Cancel a request after so many checkpoints; say whether it was answered before."""
    answers = []

    async def asker():
        answers.append(await ask())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker)
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    return bool(answers)


# --- requests that overtake one another --------------------------------------------------------


async def test_request_about_a_child_that_is_gone_meanwhile(autojump_clock, log):
    """A request that was queued when its child was forgotten does not touch the next of that id."""
    async with running(log) as bench, trio.open_nursery() as nursery:
        await bench.sup.start_child(bench.spec("x/temporary", grace=1))
        log.take()
        nursery.start_soon(bench.sup.terminate_child, "x")
        await wait_all_tasks_blocked()
        nursery.start_soon(bench.sup.start_child, bench.spec("x"))
        refused = partial(raises, UnknownChild, bench.sup.terminate_child, bench["x"])
        nursery.start_soon(refused)
        await trio.sleep(2)
        assert log.take() == "?x -x:shutdown +x"
        assert bench.which() == "x"


async def raises(error, request, *args):
    with pytest.raises(error):
        await request(*args)


async def test_restart_of_a_child_that_is_deleted_meanwhile(autojump_clock, log):
    """A queued restart_child of a child that somebody deletes is refused when its turn comes."""
    async with running(log, "x y") as bench, trio.open_nursery() as nursery:
        await bench.sup.terminate_child("x")
        nursery.start_soon(bench.sup.start_child, Slow(5).spec())
        await wait_all_tasks_blocked()
        nursery.start_soon(raises, UnknownChild, bench.sup.restart_child, "x")
        await wait_all_tasks_blocked()
        bench.sup.delete_child("x")
        await trio.sleep(6)
        assert bench.which() == "y slow"


@pytest.mark.parametrize(("leaves", "cleaned"), [(4, [5]), (4.5, [5]), (5.5, [5, 6.5])])
async def test_asker_that_leaves_during_a_group_restart(autojump_clock, log, leaves, cleaned):
    """A start that is abandoned while a group restart bounces the child is forgotten all the same."""
    slow, scope = Slow(10, cleanup=1), trio.CancelScope()

    async def ask():
        with scope:
            await bench.sup.start_child(slow.spec())

    async with running(log, "a", strategy="one_for_all") as bench, trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(4)
        await bench.fall("a")
        await trio.sleep(leaves - 4)
        scope.cancel()
        await trio.sleep(20)
        assert bench.which() == "a"
        assert slow.cleaned == cleaned


async def test_asker_that_leaves_while_a_group_waits(autojump_clock, log):
    """A restart_child that is abandoned in the delay of a group leaves its child down, unpromised."""
    slow, scope = Slow(0), trio.CancelScope()

    async def ask():
        with scope:
            await bench.sup.restart_child("slow")

    async with running(log, strategy="one_for_all") as bench, trio.open_nursery() as nursery:
        await bench.sup.start_child(bench.spec("a", backoff=Backoff(10)))
        await bench.sup.start_child(slow.spec())
        await bench.sup.terminate_child("slow")
        slow.seconds = math.inf
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        await bench.fall("a")
        assert {info.status for info in bench.sup.children} == {"restarting"}
        scope.cancel()
        await wait_all_tasks_blocked()
        assert (bench["a"].status, bench["slow"].status) == ("restarting", "stopped")
        await trio.sleep(20)
        assert bench.which() == "a (slow)"
        assert len(slow.starts) == 2


async def test_terminating_while_a_group_waits(autojump_clock, log):
    """A child that is terminated in the delay of its group stays down when the others come back."""
    async with running(log, "x", strategy="one_for_all") as bench:
        await bench.sup.start_child(bench.spec("a", backoff=Backoff(10)))
        await bench.fall("a")
        await bench.sup.terminate_child("x")
        assert (bench["a"].status, bench["x"].status) == ("restarting", "stopped")
        await trio.sleep(20)
        assert bench.which() == "(x) a"
        assert trio.current_time() == 20


async def test_abandoned_start_that_declines(autojump_clock, log):
    """An abandoned start whose child answers the cancellation by declining is forgotten as well."""

    async def declines(*, task_status):
        try:
            await trio.sleep_forever()
        finally:
            raise Ignore

    async with running(log) as bench:
        with trio.move_on_after(1):
            await bench.sup.start_child(declines)
        await wait_all_tasks_blocked()
        assert bench.sup.children == ()


async def test_restart_that_is_timing_out_when_its_group_restarts(autojump_clock, log):
    """A group restart takes along a child whose start is timing out, without a second charge."""
    slow = Slow(0, cleanup=3)
    options = {"strategy": "one_for_all", "max_restarts": 2, "max_seconds": 99}
    async with running(log, "a", **options) as bench:
        await bench.sup.start_child(slow.spec(start_timeout=1))
        slow.seconds = math.inf
        await bench.fall("a")
        await trio.sleep(5)
        assert bench["slow"].status == "stopping"
        slow.seconds = 0
        await bench.fall("a")
        await trio.sleep(5)
        assert bench.which() == "a slow"


async def test_order_when_askers_and_supervisor_are_cancelled_together(autojump_clock, log):
    """A start abandoned by the same cancellation that ends the supervisor is ended in its turn."""
    bench, slow = Bench(log), Slow(0)
    kids = [bench.spec("a"), slow.spec(), bench.spec("z", grace=1)]
    bench.sup = Supervisor(kids, name="SUP")
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.sup.run)
        await bench.sup.terminate_child("slow")
        slow.seconds = math.inf
        nursery.start_soon(bench.sup.restart_child, "slow")
        await wait_all_tasks_blocked()
        log.take()
        nursery.cancel_scope.cancel()
    assert log.take() == "?z -z:shutdown !slow ?a -a:shutdown -SUP:shutdown"


async def test_temporary_child_dropped_while_it_starts(autojump_clock, log):
    """A group restart drops a temporary child that is being started, and its asker is told."""
    async with running(log, "a", strategy="one_for_all") as bench, trio.open_nursery() as nursery:
        ask = partial(raises, StartFailed, bench.sup.start_child)
        nursery.start_soon(ask, Slow(10).spec(restart="temporary"))
        await trio.sleep(4)
        await bench.fall("a")
        assert bench.which() == "a"
    assert trio.current_time() == 4


async def test_terminating_a_restart_that_is_timing_out(autojump_clock, log):
    """A child whose restart took too long can be terminated while it cleans up, without an error."""
    slow = Slow(0, cleanup=3)
    async with running(log) as bench:
        await bench.sup.start_child(slow.spec(start_timeout=1))
        slow.seconds = math.inf
        bench["slow"].kill()
        await trio.sleep(4.5)
        assert (bench["slow"].status, len(slow.starts)) == ("stopping", 2)
        await bench.sup.terminate_child("slow")
        assert trio.current_time() == 7
        assert bench.which() == "(slow)"


async def test_restart_that_took_too_long_is_promised_again(autojump_clock):
    """A child whose restart took too long comes back: who calls it meanwhile waits for that."""
    takes = iter([0, 99, 0])
    agent = Agent(lambda: trio.sleep(next(takes)))
    async with Supervisor([agent.child_spec(start_timeout=1, backoff=Backoff(2))]):
        agent.kill()
        await trio.sleep(4)  # the second life lasts from 2 to 3, the third begins at 7
        assert agent.status == "restarting"
        await agent.get()
        assert trio.current_time() == 7


# --- requests that meet the end ------------------------------------------------------------------


@pytest.mark.conforms("CASE-11")
async def test_start_into_a_supervisor_that_gives_up(autojump_clock):
    """A start that waits for a sibling which crashes ends at once, with a clear error."""
    never = trio.Event()

    async def a():
        await trio.sleep(0.05)
        raise ValueError("a")

    async def b(*, task_status):
        await never.wait()

    answers = []

    async def ask():
        with pytest.raises(NotRunning, match="is stopping") as caught:
            await sup.start_child(b)
        answers.append((caught.value.process, trio.current_time()))

    sup = Supervisor([a], max_restarts=0)
    async with trio.open_nursery() as nursery:
        with pytest.raises(RestartsExhausted) as caught:
            async with sup:
                with trio.CancelScope(shield=True):
                    await ask()
                await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    assert answers == [(sup, 0.05)]
    assert str(caught.value.__cause__) == "a"


@pytest.mark.conforms("CASE-73")
async def test_adding_while_stopping(autojump_clock, log):
    """Who adds children to a supervisor that stops is told at once; all that were added are stopped."""
    bench, refused = Bench(log), []

    async def add():
        try:
            for n in range(1000):
                await bench.sup.start_child(bench.spec(f"c{n}"))
                await trio.sleep(0.01)
        except NotRunning as error:
            refused.append((str(error), trio.current_time()))

    bench.sup = Supervisor([bench.spec("slow", grace=3)], name="SUP")
    async with bench.sup, trio.open_nursery() as nursery:
        nursery.start_soon(add)
        await trio.sleep(0.5)
        log.take()
        await bench.sup.stop()
    ((text, at),) = refused
    assert "is stopping" in text
    assert at < 0.52
    ends = [event for event in log.take().split() if event.startswith("-")]
    added = len(bench.probes) - 2  # without the slow one, and the one that was refused
    assert added in (50, 51)
    assert ends == [f"-c{n}:shutdown" for n in reversed(range(added))] + [
        "-slow:shutdown", "-SUP:shutdown",
    ]  # fmt: skip


async def test_requests_under_way_when_it_stops(autojump_clock, log):
    """A stop answers all: starts with NotRunning, a terminate with the end of the child."""
    answers = []

    async def ask(name, request, *args):
        try:
            await request(*args)
            answers.append(name)
        except NotRunning:
            answers.append(f"{name} refused")

    async with running(log) as bench, trio.open_nursery() as nursery:
        sup = bench.sup
        await sup.start_child(bench.spec("slow", grace=2))
        nursery.start_soon(ask, "terminate", sup.terminate_child, "slow")
        await wait_all_tasks_blocked()
        nursery.start_soon(ask, "queued start", sup.start_child, idle)
        await wait_all_tasks_blocked()
        nursery.start_soon(sup.stop)
        await wait_all_tasks_blocked()
        assert answers == ["queued start refused"]
        await trio.sleep(3)
        assert answers == ["queued start refused", "terminate"]


@pytest.mark.parametrize("kids", ["", "a"])
async def test_asking_in_the_moment_of_a_stop(autojump_clock, log, kids):
    """Who asks in the very moment in which the supervisor is stopped is answered all the same."""
    for _ in range(100):
        answers = []

        async def ask(answers=answers):
            await trio.lowlevel.checkpoint()
            try:
                answers.append(await bench.sup.start_child(bench.spec("x")))
            except NotRunning as error:
                answers.append(error)

        async with running(log, kids) as bench, trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(bench.sup.stop)
        assert len(answers) == 1


@pytest.mark.conforms("CASE-72")
async def test_child_that_ends_itself_while_being_stopped(autojump_clock, caplog):
    """A child that returns in the tick in which it is stopped is no error for anybody."""

    async def child():
        await gate.wait()

    async with Supervisor([], max_restarts=10_000) as sup:
        for n in range(1000):
            gate = trio.Event()
            restart = ("permanent", "transient", "temporary")[n % 3]
            await sup.start_child(ChildSpec(child, id="x", restart=restart))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end_soon, gate)
                try:
                    await sup.terminate_child("x")
                except UnknownChild:
                    assert restart == "temporary"
            if restart != "temporary":
                assert [info.status for info in sup.children] == ["stopped"]
                sup.delete_child("x")
            assert sup.children == ()
    assert {record.levelname for record in caplog.records} <= {"WARNING"}


async def end_soon(gate):
    gate.set()


async def test_subscriber_may_call_back(autojump_clock, log):
    """When a subscriber hears of an end, the tables are right: it may look, kill and ask."""
    seen = []

    def hear(event):
        if isinstance(event, Ended) and event.process.name == "x":
            seen.append([(info.id, info.status) for info in bench.sup.children])
            bench["y"].kill()

    async with running(log, "x y") as bench:
        log.take()
        with subscribe(hear):
            await bench.fall("x")
        assert seen == [[("x", "restarting"), ("y", "running")]]
        assert sorted(log.take().split()) == ["+x", "+y", "-x:crashed", "-y:killed"]


# --- requests at random -------------------------------------------------------------------------

ANSWERS = (StartFailed, UnknownChild, DuplicateChild, AlreadyRunning)


class Crowd:
    """Askers that start, terminate, restart and delete children which fall, fail and dawdle."""

    def __init__(self, seed):
        self.rand = random.Random(seed)
        self.alive = Counter()
        options = {"max_restarts": 10_000, "name": f"crowd{seed}"}
        strategy = self.rand.choice(["one_for_one", "one_for_all", "rest_for_one"])
        together = self.rand.random() < 0.3
        self.sup = Supervisor([], strategy=strategy, stop_together=together, **options)

    async def child(self, id, calm, *, task_status):
        self.alive[id] += 1
        assert self.alive[id] == 1, "two lives at once"
        try:
            if not calm.is_set():
                await trio.sleep(self.rand.choice([0, 0, 1]))
                if self.rand.random() < 0.2:
                    raise Ignore if self.rand.random() < 0.5 else Boom
            task_status.started()
            with trio.move_on_after(self.rand.choice([0.5, 2, 9])):
                await calm.wait()
            if calm.is_set():
                await trio.sleep_forever()
            if self.rand.random() < 0.7:
                raise Boom
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.rand.choice([0, 0, 0.5]))
            self.alive[id] -= 1

    async def ask(self, calm):
        for _ in range(12):
            id = self.rand.choice("abc")
            verb = self.rand.choice(["start", "start", "terminate", "restart", "delete"])
            with trio.move_on_after(self.rand.choice([0, 0.2, math.inf])):
                with suppress(*ANSWERS):
                    await self.request(verb, id, calm)
            await trio.sleep(self.rand.choice([0, 0, 0.3, 1]))

    async def request(self, verb, id, calm):
        if verb == "start":
            restart = self.rand.choice(["permanent", "transient", "temporary"])
            backoff = self.rand.choice([None, Backoff(0.3)])
            timeout = self.rand.choice([None, 0.5])
            await self.sup.start_child(
                ChildSpec(self.child, id, calm, id=id, restart=restart, backoff=backoff,
                          start_timeout=timeout)
            )  # fmt: skip
        elif verb == "delete":
            self.sup.delete_child(id)
        else:
            await getattr(self.sup, f"{verb}_child")(id)


async def test_requests_at_random(autojump_clock, caplog):
    """Whatever is asked while children fall, fail and dawdle: all is answered, and the tables are true."""
    caplog.set_level(logging.CRITICAL, "trio_otp")
    for seed in range(50):
        await one_crowd(seed)


async def one_crowd(seed):
    crowd = Crowd(seed)
    with trio.fail_after(1000):
        async with crowd.sup as sup:
            calm = trio.Event()
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(crowd.ask, calm)
            calm.set()
            await trio.sleep(100)
            for info in sup.children:
                assert info.status in ("running", "stopped"), (seed, info)
                assert crowd.alive[info.id] == (info.status == "running"), (seed, info)
            assert sum(crowd.alive.values()) == sum(i.status == "running" for i in sup.children)
            await sup.start_child(ChildSpec(idle, id="last"))
    assert not +crowd.alive, seed
