"""Supervisor: how it ends, what its children can do about it, and what must never hang."""

import logging
import random
import sys
from collections import Counter
from contextlib import suppress
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_supervisor import Bench, Boom, held, idle, recording, running
from trio_otp import (
    Agent,
    Backoff,
    ChildSpec,
    Ended,
    Exited,
    ExitProcess,
    Ignore,
    NotRunning,
    RestartsExhausted,
    StartFailed,
    StopLate,
    Supervisor,
    Task,
    TaskSupervisor,
    format_tree,
    observe,
    subscribe,
    trap_exit,
)
from trio_otp._core.loop import Loop


@pytest.fixture
def log():
    with recording() as log:
        yield log


def stubborn(seconds):
    """A child that cannot be cancelled for some seconds."""

    async def child():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)

    return child


def late(caplog):
    return [r.message for r in caplog.records if "is late" in r.message]


# --- order and completeness ------------------------------------------------------------------


class Service:
    """Children that are open from start to end of cleanup, and need others to clean up."""

    def __init__(self):
        self.open, self.closed = set(), []
        self.fail = trio.Event()

    def spec(self, name, *needs):
        return ChildSpec(self.live, name, {*needs}, id=name)

    async def live(self, name, needs, *, task_status):
        self.open.add(name)
        task_status.started()
        try:
            await self.fail.wait()
            if name == "db":
                raise Boom
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(3):
                    await trio.sleep(0.1)
                    assert needs <= self.open  # else it does not count as closed
            self.open.discard(name)
            self.closed.append(name)


@pytest.mark.conforms("CASE-77", "SUP-121", "SUP-129")
@pytest.mark.parametrize("how", ["stop", "leave", "cancel", "body"])
async def test_each_cleanup_can_use_what_was_started_before(autojump_clock, how):
    """However it ends, web stops before cache and cache before db, each cleanup over before the next."""
    services = Service()
    kids = [services.spec("db"), services.spec("cache", "db"), services.spec("web", "cache")]
    with trio.CancelScope() as scope, suppress(ZeroDivisionError):
        async with Supervisor(kids) as sup:
            await trio.sleep(0.5)
            if how == "stop":
                await sup.stop()
            if how == "cancel":
                scope.cancel()
                await trio.sleep_forever()
            if how == "body":
                raise ZeroDivisionError
    assert services.closed == ["web", "cache", "db"]


@pytest.mark.conforms("CASE-77", "SUP-079")
async def test_each_cleanup_when_the_first_has_failed(autojump_clock):
    """If db fails beyond the budget, those that are left stop in reverse: web, then cache."""
    services = Service()
    kids = [services.spec("db"), services.spec("cache"), services.spec("web", "cache")]
    with pytest.raises(RestartsExhausted):
        async with Supervisor(kids, max_restarts=0):
            services.fail.set()
            await trio.sleep_forever()
    assert services.closed == ["db", "web", "cache"]


@pytest.mark.conforms("CASE-75")
async def test_stop_returns_when_it_has_stopped(autojump_clock):
    """When stop returns, the cleanup of every child is over."""
    flags = []

    async def child():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.2)
            flags.append("done")

    async with Supervisor([child]) as sup:
        await wait_all_tasks_blocked()
        exit = await sup.stop()
        assert flags == ["done"]
        assert (exit.reason, sup.children) == ("shutdown", ())


@pytest.mark.conforms("CASE-68", "SUP-130")
async def test_failing_cleanup(autojump_clock, caplog):
    """A child whose cleanup raises while it is stopped stays down, and is reported once."""

    async def child():
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("cleanup")

    async with Supervisor([ChildSpec(child, id="child")], name="SUP", max_restarts=0) as sup:
        await wait_all_tasks_blocked()
        await sup.terminate_child("child")
        assert [info.status for info in sup.children] == ["stopped"]
    errors = [r.message for r in caplog.records]
    assert errors == ["SUP/child crashed: RuntimeError: cleanup"]


@pytest.mark.conforms("CASE-80", "SUP-047")
async def test_stop_with_a_child_that_never_started(autojump_clock, log):
    """A child that declined to start leaves a gap that a stop steps over."""

    async def declines(*, task_status):
        raise Ignore

    bench = Bench(log)
    async with Supervisor([bench.spec("a"), declines, bench.spec("c")], name="SUP"):
        log.take()
    assert log.take() == "?c -c:shutdown ?a -a:shutdown -SUP:shutdown"


@pytest.mark.conforms("CASE-81")
async def test_cleanup_of_children_whose_parent_crashed(autojump_clock, log):
    """If the parent gives up, its children are asked to stop like in any stop, with their limits."""
    inner = Bench(log, name="inner", max_restarts=0)
    kids = [inner.spec("quick"), inner.spec("slow", grace=9, shutdown=2), inner.spec("falls")]
    inner.sup = Supervisor(kids, name="inner", max_restarts=0)
    async with Supervisor([inner.sup.child_spec(restart="temporary")], name="SUP"):
        log.take()
        await inner.fall("falls")
        await trio.sleep(3)
        assert (
            log.take() == "-falls:crashed ?slow -slow:killed ?quick -quick:shutdown -inner:crashed"
        )


@pytest.mark.conforms("SUP-118")
async def test_stop_of_one_that_does_not_run(autojump_clock):
    """Stopping one that never ran is an error, one that has ended answers with its last exit."""
    sup = Supervisor([])
    with pytest.raises(NotRunning):
        await sup.stop()
    async with sup:
        exit = await sup.stop()
    assert (await sup.stop(), exit.reason) == (exit, "shutdown")


async def test_many_may_stop_and_wait(autojump_clock, log):
    """Several that stop or wait at once all get the same exit."""
    bench = Bench(log)
    ends = []

    async def ask(request):
        ends.append(await request())

    async with Supervisor([bench.spec("a", grace=1)]) as sup, trio.open_nursery() as nursery:
        for request in (sup.stop, sup.wait, sup.stop):
            nursery.start_soon(ask, request)
    assert ends == [sup.last_exit] * 3


async def test_child_may_stop_its_supervisor(autojump_clock, log):
    """A child that stops its own supervisor is stopped with it, and hangs nobody."""

    async def child():
        await trio.sleep(1)
        await sup.stop()
        raise AssertionError

    bench = Bench(log)
    async with Supervisor([bench.spec("a"), ChildSpec(child, id="c")], name="SUP") as sup:
        await sup.wait()
    assert log.take() == "+a +c -c:shutdown ?a -a:shutdown -SUP:shutdown"


@pytest.mark.conforms("SUP-132")
async def test_stop_overtakes_the_backlog(autojump_clock):
    """An agent that is stopped with its supervisor does not work off its queue first."""
    agent, done = Agent(lambda: 0), []

    async def work(state, n):
        await trio.sleep(1)
        done.append(n)

    async with Supervisor([agent]):
        for n in range(5):
            agent.cast(work, n)
        await trio.sleep(1.5)
    assert done in ([0], [0, 1])
    assert trio.current_time() <= 2


async def test_together_does_not_wait(autojump_clock, log):
    """With stop_together all are told at once, and the end waits for all."""
    bench = Bench(log)
    kids = [bench.spec("a", grace=3), bench.spec("b", grace=1), bench.spec("c", grace=2)]
    async with Supervisor(kids, name="SUP", stop_together=True):
        log.take()
    assert trio.current_time() == 3
    events = log.take().split()
    assert {*events[:3]} == {"?a", "?b", "?c"}
    assert events[3:] == ["-b:shutdown", "-c:shutdown", "-a:shutdown", "-SUP:shutdown"]


async def test_group_restart_together(autojump_clock, log):
    """stop_together also stops a group together; it starts in order as ever."""
    async with running(log, strategy="one_for_all", stop_together=True) as bench:
        for id in "abc":
            await bench.sup.start_child(bench.spec(id, grace=1))
        log.take()
        await bench.fall("b")
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        assert trio.current_time() == 1
        assert log.take().endswith("+a +b +c")


async def test_stop_is_linear(autojump_clock):
    """Twice the children take twice the work to stop in turn, not four times."""

    async def calls_to_stop(count):
        calls = Counter()
        async with Supervisor([ChildSpec(idle, id=number) for number in range(count)]) as sup:
            before = sys.getprofile()
            sys.setprofile(lambda _frame, event, _arg: calls.update([event == "call"]))
            try:
                await sup.stop()
            finally:
                sys.setprofile(before)
        return calls[True]

    assert await calls_to_stop(400) < 2.6 * await calls_to_stop(200)


# --- who is late -----------------------------------------------------------------------------


@pytest.mark.conforms("CASE-76", "SUP-125")
@pytest.mark.parametrize("count", [5, 1])
async def test_everyone_late_is_named(autojump_clock, caplog, count):
    """Each child that is not done in time is named once, in the log and by an event, and waited for."""
    events = []
    with subscribe(lambda event: events.append(event) if isinstance(event, StopLate) else None):
        kids = [ChildSpec(stubborn(3), id=f"c{n}", shutdown=0.5) for n in range(count)]
        async with Supervisor(kids, name="SUP"):
            await wait_all_tasks_blocked()
    assert trio.current_time() == 3 * count
    names = [f"SUP/c{n}" for n in reversed(range(count))]
    assert ["/".join(event.path) for event in events] == names
    assert [event.limit for event in events] == [0.5] * count
    text = "is late: asked to stop, and not done after 0.5 s; its end is waited for"
    assert late(caplog) == [f"{name} {text}" for name in names]


@pytest.mark.parametrize("shutdown", [0, "brutal_kill"])
async def test_late_without_any_time(autojump_clock, caplog, shutdown):
    """With no time to stop, one that ends at its next checkpoint is not late; one that shields is."""
    kids = [
        ChildSpec(idle, id="prompt", shutdown=shutdown),
        ChildSpec(stubborn(3), id="shields", shutdown=shutdown),
    ]
    async with Supervisor(kids, name="SUP") as sup:
        await wait_all_tasks_blocked()
        reasons = sup.children
    assert [message.split()[0] for message in late(caplog)] == ["SUP/shields"]
    exits = [info.process.last_exit.reason for info in reasons]
    assert exits[0] == ("killed" if shutdown == "brutal_kill" else "shutdown")


@pytest.mark.conforms("CASE-71")
async def test_late_grandchild_is_waited_for(autojump_clock, caplog):
    """A limit on an inner supervisor names it, and the block still waits for all under it."""
    inner = Supervisor([ChildSpec(stubborn(5), id="deep")], name="inner")
    async with Supervisor([inner.child_spec(shutdown=0.2)], name="root"):
        await wait_all_tasks_blocked()
        deep = inner.children[0].process
    assert trio.current_time() == 5
    assert deep.status == inner.status == "stopped"
    assert (
        "root/inner is late: asked to stop, and not done after 0.2 s; its end is waited for"
        in late(caplog)
    )


async def test_done_at_the_limit_is_not_late(autojump_clock, caplog):
    """A child that ends in the very moment of its limit is not named."""
    async with Supervisor([ChildSpec(stubborn(2), id="c", shutdown=2)]):
        await wait_all_tasks_blocked()
    assert trio.current_time() == 2
    assert not late(caplog)


# --- trapping exits ---------------------------------------------------------------------------


async def stopped(fn, *, shutdown=5.0):
    """Run a child for a second, stop it, and give how it ended and how long that took."""
    task = Task(fn)
    async with Supervisor([task.child_spec(shutdown=shutdown)]) as sup:
        await trio.sleep(1)
        before = trio.current_time()
        await sup.terminate_child(task)
        return task.last_exit.reason, trio.current_time() - before


@pytest.mark.conforms("SUP-124")
async def test_trapping_child_obeys(autojump_clock):
    """A child that traps exits is told, and has its limit to leave as it likes."""

    async def child():
        with trap_exit() as exiting:
            assert not exiting.is_set()
            await exiting.wait()
            assert exiting.is_set()
            await trio.sleep(3)

    assert await stopped(child) == ("shutdown", 3)


@pytest.mark.conforms("SUP-125")
@pytest.mark.parametrize("shutdown", [0.5, 2])
async def test_trapping_child_ignores(autojump_clock, shutdown):
    """One that does not care is cancelled when its limit has passed."""

    async def child():
        with trap_exit():
            await trio.sleep_forever()

    assert await stopped(child, shutdown=shutdown) == ("killed", shutdown)


async def test_leaving_the_block_with_a_request_pending(autojump_clock):
    """Whoever leaves trap_exit() after the request is cancelled at the next checkpoint."""
    steps = []

    async def child():
        with trap_exit() as exiting:
            await exiting.wait()
        steps.append("left")
        await trio.sleep_forever()

    assert await stopped(child) == ("shutdown", 0)
    assert steps == ["left"]


async def test_leaving_the_block_without_a_request(autojump_clock):
    """Outside the block a stop cancels again."""

    async def child():
        with trap_exit():
            await trio.sleep(0.5)
        await trio.sleep_forever()

    assert await stopped(child) == ("shutdown", 0)


async def test_nested_blocks_share_the_request(autojump_clock):
    """Inner blocks may be left with a request pending; the outermost one decides."""
    steps = []

    async def child():
        with trap_exit() as outer:
            with trap_exit() as inner:
                assert inner is outer
                await inner.wait()
            await trio.sleep(1)
            steps.append("inner left")
            with trap_exit() as again:
                assert again.is_set()
        steps.append("outer left")
        await trio.sleep_forever()

    assert await stopped(child) == ("shutdown", 1)
    assert steps == ["inner left", "outer left"]


async def test_interrupts(autojump_clock):
    """A request cuts short what stands in interrupts(), at once if it came before, and nothing else."""
    steps = []

    async def child():
        with trap_exit() as exiting:
            with exiting.interrupts() as scope:
                await trio.sleep_forever()
            assert scope.cancelled_caught
            await trio.sleep(1)
            steps.append("work done")
            with exiting.interrupts():
                await trio.sleep_forever()
            steps.append("again")

    assert await stopped(child) == ("shutdown", 1)
    assert steps == ["work done", "again"]


async def test_until_loses_no_message(autojump_clock):
    """Over many races, a message is either handled or still in the channel."""
    for seed in range(60):
        rand = random.Random(seed)
        send, receive = trio.open_memory_channel(100)
        handled = []

        async def child(receive=receive, handled=handled, rand=rand):
            with trap_exit() as exiting:
                async for message in exiting.until(receive):
                    await trio.sleep(rand.choice([0, 0, 0.1]))
                    handled.append(message)
            handled.append("left")

        sent = 0
        async with Supervisor([ChildSpec(child, id="c")]) as sup, trio.open_nursery() as nursery:
            nursery.start_soon(stop_after, sup, rand.randrange(12))
            for sent in range(1, rand.randrange(2, 20)):
                send.send_nowait(sent)
                for _ in range(rand.randrange(3)):
                    await trio.lowlevel.checkpoint()
        left = []
        while len(left) + len(handled) <= sent:
            left.append(receive.receive_nowait())
        assert [*handled[:-1], *left] == [*range(1, sent + 1)], seed
        assert handled[-1] == "left"


async def stop_after(sup, checkpoints):
    for _ in range(checkpoints):
        await trio.lowlevel.checkpoint()
    await sup.terminate_child("c")


async def test_until_ends_with_the_channel(autojump_clock):
    """until() ends when the channel does."""
    got = []

    async def child():
        with trap_exit() as exiting:
            got.extend([message async for message in exiting.until(receive)])

    send, receive = trio.open_memory_channel(2)
    send.send_nowait(1)
    send.close()
    async with Supervisor([ChildSpec(child, restart="transient")]):
        await wait_all_tasks_blocked()
    assert got == [1]


async def test_trap_exit_in_a_spawned_task(autojump_clock):
    """The Trio tasks that a child spawns trap for its life."""

    async def watch(done):
        with trap_exit() as exiting:
            await exiting.wait()
            await trio.sleep(2)
            done.set()

    async def child():
        done = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, done)
            await done.wait()

    assert await stopped(child) == ("shutdown", 2)


async def test_trap_exit_outside_a_life(autojump_clock):
    """Outside a process, or in a function that an agent runs in its caller, trap_exit() is refused."""
    with pytest.raises(RuntimeError, match="trap_exit"), trap_exit():
        raise AssertionError

    def look(state):
        with trap_exit():
            return state

    with pytest.raises(RuntimeError, match="trap_exit"):
        async with Agent(dict) as agent:
            await agent.get(look)


async def test_plain_nursery_cannot_be_trapped(autojump_clock):
    """In a plain nursery an outer cancellation reaches the process at once; a stop can be trapped."""
    steps = []

    async def child():
        with trap_exit() as exiting:
            await exiting.wait()
            steps.append("told")

    async with trio.open_nursery() as nursery:
        task = await nursery.start(Task(child).run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (steps, task.last_exit.reason) == ([], "shutdown")
    async with trio.open_nursery() as nursery:
        task = await nursery.start(Task(child).run)
        await wait_all_tasks_blocked()
        await task.stop()
    assert (steps, task.last_exit.reason) == (["told"], "shutdown")


async def test_trap_does_not_outlive_its_life(autojump_clock):
    """A new life begins untrapped and unasked."""
    lives = []

    async def child():
        lives.append(1)
        if len(lives) == 1:
            with trap_exit() as exiting:
                await exiting.wait()
                return
        with trap_exit() as exiting:
            assert not exiting.is_set()
        await trio.sleep_forever()

    async with Supervisor([child]) as sup:
        await wait_all_tasks_blocked()
        await sup.children[0].process.stop()
        await wait_all_tasks_blocked()
        assert (len(lives), sup.children[0].status) == (2, "running")


# --- killing -----------------------------------------------------------------------------------


@pytest.mark.conforms("SUP-133")
async def test_killing_a_supervisor(autojump_clock, log):
    """A kill cancels all under it at once, without asking or order."""
    bench = Bench(log)
    inner = Supervisor([bench.spec("x", grace=9), bench.spec("y", grace=9)], name="inner")
    bench.sup = Supervisor([bench.spec("a", grace=9), inner], name="SUP")
    with pytest.raises(Exited) as caught:
        async with bench.sup:
            log.take()
            bench.sup.kill()
            await trio.sleep_forever()
    assert caught.value.exit.reason == "killed"
    assert trio.current_time() == 0
    events = log.take().split()
    assert sorted(events[:4]) == ["-a:killed", "-inner:killed", "-x:killed", "-y:killed"]
    assert events[4:] == ["-SUP:killed"]


@pytest.mark.conforms("REVIEW-3", "REVIEW-15")
@pytest.mark.parametrize("which", ["child", "inner", "root"])
async def test_kill_hurries_a_stop(autojump_clock, log, which):
    """A kill during a stop ends the wait for those it names, and the stop goes on."""
    bench = Bench(log)
    inner = Supervisor([bench.spec("x", grace=50, shutdown=None)], name="inner")
    root = Supervisor([bench.spec("a"), inner], name="SUP")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(held, root))
        log.take()
        nursery.start_soon(root.stop)
        await trio.sleep(3)
        {"child": inner.children[0].process, "inner": inner, "root": root}[which].kill()
        await root.wait()
        assert trio.current_time() == 3
    ends = log.take()
    assert ends.startswith("?x ")
    assert ends.index("-x:killed") < ends.index("-inner") < ends.index("-SUP")


async def test_killed_child_comes_back(autojump_clock, log):
    """A kill of one child is a fall of that child; the supervisor restarts it."""
    async with running(log, "a/transient b") as bench:
        log.take()
        await bench.fall("a", "killed")
        assert log.take() == "-a:killed +a"


# --- nothing may hang --------------------------------------------------------------------------


@pytest.mark.conforms("REVIEW-1")
class Broken(logging.Handler):
    def emit(self, record):
        raise RuntimeError("this handler is broken")


@pytest.mark.conforms("REVIEW-1")
async def test_broken_log_handler(autojump_clock, log, capsys):
    """A log handler that raises is noted on standard error; restarts and stops go on."""
    handler = Broken()
    logging.getLogger("trio_otp").addHandler(handler)
    try:
        bench = Bench(log)
        kids = [bench.spec("a"), ChildSpec(stubborn(2), id="late", shutdown=1)]
        bench.sup = Supervisor(kids, name="SUP")
        async with bench.sup:
            await bench.fall("a")
            log.take()
        assert log.take() == "-late:shutdown ?a -a:shutdown -SUP:shutdown".replace(
            "-late:shutdown", "-late:killed"
        )
    finally:
        logging.getLogger("trio_otp").removeHandler(handler)
    noted = capsys.readouterr().err
    assert "SUP/a crashed" in noted
    assert "SUP/late is late" in noted


async def test_broken_subscriber(autojump_clock, log, caplog):
    """A subscriber that raises during a stop is logged and dropped; the stop keeps its order."""
    calls = []

    def broken(event):
        if isinstance(event, Ended):
            calls.append(event)
            raise RuntimeError("this subscriber is broken")

    async with running(log, "a b c"):
        log.take()
        subscribe(broken)
    assert len(calls) == 1
    assert log.take() == "?c -c:shutdown ?b -b:shutdown ?a -a:shutdown -SUP:shutdown"
    assert "this subscriber is broken" in caplog.text


@pytest.mark.conforms("REVIEW-1")
@pytest.mark.parametrize("method", ["_stop_next", "_on_end", "_close", "_next"])
@pytest.mark.parametrize("nested", [False, True])
async def test_bug_in_the_stopping_code(autojump_clock, log, monkeypatch, method, nested):
    """An error in the library's own stopping code cancels everything, and comes out; nothing hangs."""
    bench = Bench(log)
    sup = Supervisor([bench.spec("a", grace=1), bench.spec("b", grace=1)], name="SUP")

    def broken(self, *args):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with Supervisor([sup], max_restarts=0) if nested else sup:
            await wait_all_tasks_blocked()
            monkeypatch.setattr(Loop, method, broken)
    assert sup.status == "stopped"
    assert "-a" in log.take()


async def test_bug_in_the_stopping_code_answers_askers(autojump_clock, log, monkeypatch):
    """Who waits for a child to be terminated is answered even if the stop breaks off."""
    bench = Bench(log)
    bench.sup = Supervisor([bench.spec("a", grace=9)], name="SUP")

    def broken(self, *args):
        raise ZeroDivisionError

    async def ask():
        with pytest.raises(NotRunning):
            await bench.sup.terminate_child("a")

    async with trio.open_nursery() as nursery:
        with pytest.raises(ZeroDivisionError):
            async with bench.sup:
                nursery.start_soon(ask)
                await wait_all_tasks_blocked()
                monkeypatch.setattr(Loop, "_stop_next", broken)


async def test_bug_in_the_loop_itself(autojump_clock, log, monkeypatch):
    """An error in the loop while it runs is an ordered stop that raises it."""
    bench = Bench(log)
    bench.sup = Supervisor([bench.spec(id) for id in "abc"], name="SUP")

    def broken(self, *args, **kwargs):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with bench.sup:
            log.take()
            monkeypatch.setattr(Loop, "_restart", broken)
            bench.end("b")
            await trio.sleep_forever()
    assert log.take() == "-b:crashed ?c -c:shutdown ?a -a:shutdown -SUP:crashed"


async def test_looking_while_stopping(autojump_clock, log):
    """Snapshots can be taken at any moment, also in the middle of a stop."""
    looks = []

    def look(event):
        looks.append((format_tree(), observe(), bench.sup.children))

    async with running(log, "a b t/temporary", strategy="one_for_all") as bench:
        subscription = subscribe(look)
        await bench.fall("b")
        await bench.sup.stop()
        subscription.close()
    assert len(looks) > 8


# --- cancelled at any moment ----------------------------------------------------------------------


class Zoo:
    """Random trees of children that start slowly, fall at random, and clean up slowly."""

    def __init__(self, seed):
        self.rand = random.Random(seed)
        self.alive, self.asked, self.cancelled = {}, [], False
        self.names = 0

    async def beast(self, name, home, start, life, cleanup, traps, *, task_status):
        self.alive[name] = home
        own = False
        try:
            await trio.sleep(start)
            task_status.started()
            if traps:
                with trap_exit() as exiting:
                    with exiting.interrupts():
                        await trio.sleep(life)
                    if not exiting.is_set():
                        own = True
                        raise Boom
            else:
                await trio.sleep(life)
                own = True
                raise Boom
        finally:
            if not own and self.cancelled:
                # Nobody that was started after it in its home may be there still.
                self.asked.append((name, [n for n in self.alive if self.alive[n] is home]))
            with trio.CancelScope(shield=True):
                await trio.sleep(cleanup)
            del self.alive[name]

    def spec(self, home):
        self.names += 1
        rand = self.rand
        traits = (
            rand.choice([0, 0, 0.3, 2]),
            rand.choice([0.2, 1, 4, 50]),
            rand.choice([0, 0, 0.5, 3]),
            rand.random() < 0.5,
        )
        return ChildSpec(
            self.beast, self.names, home, *traits,
            id=self.names,
            restart=rand.choice(["permanent", "permanent", "transient", "temporary"]),
            shutdown=rand.choice([5, 1, 0, None, "brutal_kill"]),
            backoff=rand.choice([None, None, Backoff(0.5)]),
        )  # fmt: skip

    def tree(self, depth):
        home = object()
        kids = [self.spec(home) for _ in range(self.rand.randrange(1, 5))]
        if depth:
            kids.insert(self.rand.randrange(len(kids) + 1), self.tree(depth - 1))
        return Supervisor(
            kids,
            strategy=self.rand.choice(["one_for_one", "one_for_all", "rest_for_one"]),
            max_restarts=self.rand.choice([1, 50]),
            name=f"depth{depth}",
        )


@pytest.mark.parametrize("block", [True, False])
async def test_cancelled_at_any_moment(autojump_clock, caplog, block):
    """Cancelled while it starts, restarts, delays or stops: all ends, in order, and nothing is left."""
    caplog.set_level(logging.CRITICAL, "trio_otp")
    checked = 0
    for seed in range(120):
        zoo = Zoo(seed)
        sup = zoo.tree(zoo.rand.randrange(3))
        with trio.CancelScope() as scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel_later, zoo, scope)
                    await (in_block(sup) if block else held(sup))
            except* (RestartsExhausted, StartFailed):
                pass
        assert not zoo.alive, seed
        assert sup.status == "stopped"
        assert {process.status for process in all_under(sup)} <= {"new", "stopped"}, seed
        for name, same_home in zoo.asked:
            assert max(same_home) == name, (seed, name, same_home)
        checked += len(zoo.asked)
    assert checked > 150
    assert observe() == ()


async def cancel_later(zoo, scope):
    await trio.sleep(zoo.rand.choice([0, 0.1, 0.3, 0.5, 1, 1.5, 2, 3, 6]))
    for _ in range(zoo.rand.randrange(6)):
        await trio.lowlevel.checkpoint()
    zoo.cancelled = True
    scope.cancel()


async def in_block(sup):
    async with sup:
        await trio.sleep_forever()


def all_under(sup):
    for _, process in sup._specs:
        yield process
        if isinstance(process, Supervisor):
            yield from all_under(process)


@pytest.mark.conforms("REVIEW-3")
async def test_cancelled_at_every_checkpoint_of_a_start(autojump_clock, log):
    """A start that is cancelled after any number of steps leaves nothing and reports nothing."""
    for steps in range(40):
        bench = Bench(log)
        inner = Supervisor([bench.spec("x"), bench.spec("y")], name="inner")
        sup = Supervisor([bench.spec("a"), inner, bench.spec("b")], name="SUP")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sup.run)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        events = log.take().split()
        ups = [event[1:] for event in events if event.startswith("+") and event != "+inner"]
        downs = [event[1:].split(":")[0] for event in events if event.startswith("-")]
        downs = [name for name in downs if name in "abxy"]
        assert downs == ups[::-1], (steps, events)
        assert {process.status for process in all_under(sup)} <= {"new", "stopped"}


async def test_outer_deadline_does_not_hurry_a_stop(autojump_clock, log):
    """A second cancellation outside changes nothing: shutdown limits bound a stop."""
    bench = Bench(log)
    with trio.move_on_after(1), trio.move_on_after(2):
        async with Supervisor([bench.spec("a", grace=4)], name="SUP"):
            await trio.sleep_forever()
    assert trio.current_time() == 5
    assert log.take() == "+a ?a -a:shutdown -SUP:shutdown"


async def test_body_error_and_failing_cleanup(autojump_clock, caplog):
    """The error of a body comes out bare, whatever the children raise while they are stopped."""

    async def child():
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("cleanup")

    with pytest.raises(ZeroDivisionError):
        async with Supervisor([child]):
            await wait_all_tasks_blocked()
            raise ZeroDivisionError
    assert "RuntimeError: cleanup" in caplog.text


async def test_tasks_under_a_task_supervisor_in_the_tree(autojump_clock):
    """A TaskSupervisor among the children is stopped in its turn, with all that it holds."""
    order = []

    async def work(name):
        try:
            await trio.sleep_forever()
        finally:
            order.append(name)

    tasks = TaskSupervisor()
    kids = [ChildSpec(work, "before", id="b"), tasks, ChildSpec(work, "after", id="a")]
    async with Supervisor(kids):
        tasks.start_child(work, "task")
        await wait_all_tasks_blocked()
    assert order == ["after", "task", "before"]


async def test_exit_process_while_stopping(autojump_clock):
    """A child may say how it ends while it is stopped; that is what its exit says."""

    async def child():
        with trap_exit() as exiting:
            await exiting.wait()
            raise ExitProcess("normal", "saved")

    task = Task(child)
    async with Supervisor([task]):
        await wait_all_tasks_blocked()
    assert (task.last_exit.reason, task.last_exit.detail) == ("normal", "saved")
