"""TaskSupervisor: tasks that are stopped while something else happens, and places that run out."""

import gc
import logging
import weakref
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_task import attempt, fate, told
from trio_otp import (
    CalledItself,
    Ended,
    Exited,
    MaxChildren,
    Supervisor,
    TaskSupervisor,
    UnknownChild,
    current_process,
    subscribe,
)

idle = trio.sleep_forever

LATE = "sup/late is late: asked to stop, and not done after 1 s; its end is waited for"


async def cleaning_for_three_seconds():
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(3)


async def crash_after(event, ticks):
    await event.wait()
    for _ in range(ticks):
        await trio.lowlevel.checkpoint()
    raise ValueError("oops")


def isolated(sup, **options):
    """Give each way to start a task without a link."""
    return [
        partial(sup.start_child, **options),
        partial(sup.async_nolink, **options),
        partial(sup.start_child, restart="permanent", **options),
    ]


@pytest.fixture
async def sup():
    """Give a supervisor whose tasks, if any are left, are stopped at the end."""
    async with TaskSupervisor(name="sup", max_restarts=10_000) as supervisor:
        yield supervisor
        await supervisor.stop()


# --- races ---------------------------------------------------------------------------------------


@pytest.mark.conforms("TSUP-051", "TSUP-049")
async def test_terminate_in_the_moment_of_a_crash(autojump_clock, sup):
    """A permanent child that falls just as it is terminated stays down all the same."""
    seen = set()
    for number in range(120):
        go = trio.Event()
        process = sup.start_child(crash_after, go, number % 6, restart="permanent")
        await wait_all_tasks_blocked()
        go.set()
        await sup.terminate_child(process)
        seen.add(process.last_exit.reason)
        await wait_all_tasks_blocked()
        assert (process.status, sup.children) == ("stopped", ())
        with pytest.raises(UnknownChild):
            await sup.terminate_child(process)
    assert seen == {"crashed", "shutdown"}


@pytest.mark.conforms("TSUP-053", "TSUP-054")
async def test_stop_in_the_moment_of_a_crash(autojump_clock):
    """A permanent child that falls just as its supervisor is stopped is down with it, in one stop."""
    seen = set()
    for number in range(120):
        go = trio.Event()
        async with TaskSupervisor(max_restarts=10_000) as sup:
            process = sup.start_child(crash_after, go, number % 6, restart="permanent")
            await wait_all_tasks_blocked()
            go.set()
            assert (await sup.stop()).reason == "shutdown"
            assert (process.status, sup.children) == ("stopped", ())
        seen.add(process.last_exit.reason)
    assert seen == {"crashed", "shutdown"}


@pytest.mark.conforms("TSUP-049")
async def test_two_terminate_the_same_task(autojump_clock, sup):
    """Two may terminate one task at once: both wait for its end, and it ends once."""
    for start in isolated(sup):
        process, began = start(cleaning_for_three_seconds), trio.current_time()
        await wait_all_tasks_blocked()
        answers = []

        async def terminate(process=process, answers=answers):
            answers.append(told(await attempt(sup.terminate_child(process))))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminate)
            nursery.start_soon(terminate)
        assert trio.current_time() - began == 3
        assert set(answers) <= {None, UnknownChild}
        assert None in answers


@pytest.mark.conforms("TSUP-053", "TSUP-050")
async def test_stop_overtakes_a_terminate(autojump_clock, sup):
    """Whoever waits for a terminate when the supervisor is stopped is answered, by the end or a refusal."""
    processes = [start(cleaning_for_three_seconds) for start in isolated(sup)]
    await wait_all_tasks_blocked()
    answers = []

    async def terminate(process):
        answers.append(told(await attempt(sup.terminate_child(process))))

    async with trio.open_nursery() as nursery:
        for process in processes:
            nursery.start_soon(terminate, process)
        await trio.sleep(1)
        await sup.stop()
    assert trio.current_time() == 3
    assert answers == [None] * 3
    assert [process.last_exit.reason for process in processes] == ["shutdown"] * 3


# --- who is late, who waits for himself -----------------------------------------------------------


@pytest.mark.conforms("TSUP-050", "COMMON-008")
@pytest.mark.parametrize("form", range(3))
async def test_late_after_the_terminator_left(autojump_clock, caplog, sup, form):
    """Who is late is named also when the one who had it terminated no longer waits."""
    process = isolated(sup, shutdown=1, name="late")[form](cleaning_for_three_seconds)
    await wait_all_tasks_blocked()
    with trio.move_on_after(0.5):
        await sup.terminate_child(process)
    assert (await process.wait()).reason == "killed"
    assert trio.current_time() == 3
    assert [record.message for record in caplog.records] == [LATE]


@pytest.mark.parametrize("restart", ["temporary", "permanent"])
async def test_task_that_joins_its_own_supervisor(autojump_clock, sup, restart):
    """A task that joins its own supervisor would wait for its own end, and is told so."""
    seen = []

    async def joining():
        seen.append(await attempt(sup.join()))
        await sup.terminate_child(current_process())

    sup.start_child(joining, name="joining", restart=restart)
    await sup.join()
    assert isinstance(seen[0], CalledItself)
    assert "'joining' is one of the tasks of <TaskSupervisor 'sup' running>" in str(seen[0])


@pytest.mark.parametrize("form", range(3))
async def test_task_that_stops_its_own_supervisor(autojump_clock, form):
    """A task may have its supervisor stopped: it ends with the others, and nothing hangs."""
    came_back = []
    async with TaskSupervisor() as sup:

        async def stopping():
            await sup.stop()
            came_back.append(1)

        other = sup.start_child(idle, restart="permanent")
        process = isolated(sup)[form](stopping)
    reasons = [p.last_exit.reason for p in (sup, other, process)]
    assert (reasons, came_back) == (["shutdown"] * 3, [])


@pytest.mark.conforms("TSUP-055")
@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_linked_scope_when_a_supervised_one_goes(autojump_clock, how):
    """A linked scope learns of the end also when a parent stops or restarts the supervisor."""
    fates = []
    sup = TaskSupervisor()

    async def owner():
        fates.append(await fate(lambda nursery: sup.async_(nursery, idle).await_(timeout=None)))

    async with trio.open_nursery() as nursery, Supervisor([sup]):
        nursery.start_soon(owner)
        await wait_all_tasks_blocked()
        if how == "killed":
            sup.kill()
            await wait_all_tasks_blocked()
            assert (sup.status, sup.children) == ("running", ())
    (error,) = fates
    assert isinstance(error, Exited)
    assert error.exit.reason == {"stopped": "shutdown", "killed": "killed"}[how]


# --- what an error may not hide -------------------------------------------------------------------


@pytest.mark.conforms("TSUP-045", "LOG-019")
async def test_cleanup_that_fails_while_stopping(autojump_clock, caplog):
    """The error of the body leaves, bare; those of cleanups are reported once each, and hurt nobody."""

    async def failing():
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("cleanup")

    with pytest.raises(RuntimeError, match="body"):
        async with TaskSupervisor(name="sup") as sup:
            started = [start(failing) for start in isolated(sup)]
            await wait_all_tasks_blocked()
            raise RuntimeError("body")
    assert [type(process.last_exit.error) for process in started] == [KeyError] * 3
    assert len(caplog.records) == 3


@pytest.mark.parametrize("nursery", [None, "nursery", TaskSupervisor()])
async def test_no_nursery(autojump_clock, sup, nursery):
    """What is no nursery is refused by name, and nothing is left over."""
    with pytest.raises(TypeError, match=r"nursery must be a trio\.Nursery, got"):
        sup.async_(nursery, idle)
    gc.collect()  # a coroutine that was never awaited would warn now
    assert sup.children == ()


# --- places ---------------------------------------------------------------------------------------


@pytest.mark.conforms("CASE-19")
async def test_places_are_handed_on(autojump_clock):
    """Two hundred tasks through ten places: never more than ten at once, and no place is ever idle."""
    running, most = 0, 0

    async def work():
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(5)
        running -= 1

    async with TaskSupervisor(max_children=10) as sup:
        started = []
        while len(started) < 200:
            try:
                started.append(sup.start_child(work))
            except MaxChildren:
                await started[-10].wait()
        await sup.join()
    assert (most, trio.current_time()) == (10, 100)


@pytest.mark.conforms("CASE-19")
async def test_places_one_after_another(autojump_clock):
    """With a single place, who starts the next task when the last has ended is never refused."""
    ends = []

    async def work(number):
        await trio.sleep(2)
        ends.append((number, trio.current_time()))

    async with TaskSupervisor(max_children=1) as sup:
        for number in range(3):
            await sup.start_child(work, number).wait()
    assert ends == [(0, 2), (1, 4), (2, 6)]


@pytest.mark.conforms("CASE-64", "TSUP-043")
async def test_count_after_many_restarts(autojump_clock):
    """A child that fell a hundred times still has one place, and every other task is refused."""
    lives = []

    async def child():
        lives.append(1)
        await trio.sleep(0.5)
        raise ValueError

    async with TaskSupervisor(max_children=1, max_restarts=100) as sup:
        process = sup.start_child(child, restart="permanent")
        while len(lives) <= 100:
            with pytest.raises(MaxChildren):
                sup.start_child(idle)
            assert [info.process for info in sup.children] == [process]
            await trio.sleep(0.25)
        assert sup.children[0].restarts == 100
        await sup.stop()


@pytest.mark.conforms("TSUP-048", "TSUP-043")
async def test_listed_between_two_lives(autojump_clock, sup):
    """A task that is being restarted is listed as such, under the same handle."""
    event, seen = trio.Event(), []

    def look(news):
        if isinstance(news, Ended):  # the loop has not had its turn yet
            seen.extend((info.process, info.status) for info in sup.children)

    event.set()
    with subscribe(look):
        process = sup.start_child(crash_after, event, 0, restart="transient")
        await process.wait()
    assert seen[:1] == [(process, "restarting")]
    await sup.terminate_child(process)
    assert (sup.children, process.status) == ((), "stopped")


# --- memory ---------------------------------------------------------------------------------------


async def test_terminated_tasks_are_not_kept(autojump_clock, monkeypatch, sup):
    """With the collector off, a terminated task that nobody holds is gone at once."""
    monkeypatch.setattr(logging.getLogger("trio_otp"), "disabled", True)
    gone = []
    gc.collect()
    gc.disable()
    try:
        for start in isolated(sup):
            for _ in range(5):
                process = start(idle)
                gone.append(weakref.ref(process))
                await wait_all_tasks_blocked()
                await sup.terminate_child(process)
                del process
        await wait_all_tasks_blocked()
        assert [ref() for ref in gone] == [None] * 15
    finally:
        gc.enable()
