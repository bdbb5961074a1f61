"""How a scheduler ends: what runs, what waits, what comes meanwhile."""

import logging
import threading

import pytest
import trio
import trio.lowlevel

from trio_otp import (
    Cron,
    Every,
    Job,
    JobFailed,
    JobMissed,
    JobStarted,
    JobStopped,
    Scheduler,
    StartFailed,
    StopLate,
    Supervisor,
    TaskSupervisor,
    TimedOut,
)
from trio_otp.testing import leaks

SECONDLY = Cron("* * * * * *")


def outcomes(events):
    return {event.job: event.outcome for event in events.of(JobStopped)}


@pytest.mark.conforms("SCHED-100")
@pytest.mark.reports("quantum-core#14")
async def test_grace(autojump_clock, clock, events, diary):
    """From its first instant nothing starts; who needs 3 s ends, who needs 60 s is cancelled at 5."""
    jobs = [
        Job("short", Cron("@minutely"), diary.work, 3),
        Job("long", Cron("@minutely"), diary.work, 60, 2),
        Job("next", Cron("2 1 * * * *"), diary.work),
    ]
    scheduler = Scheduler(jobs, clock=clock, grace=5)
    async with scheduler:
        await trio.sleep(60.5)
        await scheduler.stop()
        assert diary.ends == [63, 67.5]
        assert trio.current_time() - diary.begun == 67.5
    assert outcomes(events) == {"short": "ok", "long": "cancelled"}
    assert [(event.job, event.reason) for event in events.of(JobMissed)] == [("next", "stopping")]


@pytest.mark.conforms("SCHED-101")
async def test_cancelled_nursery(autojump_clock, clock, events, diary):
    """Everything ends at once; nobody calls it a failure, and nothing is left."""
    jobs = [
        Job("a", SECONDLY, diary.work, 60, overlap="allow"),
        Job("b", SECONDLY, diary.work, 60, overlap="replace"),
    ]
    async with trio.open_nursery() as nursery:
        await nursery.start(Scheduler(jobs, clock=clock, max_concurrency=3).run)
        await trio.sleep(3.5)
        assert diary.alive == 3
        nursery.cancel_scope.cancel()
    assert diary.ends[-3:] == [3.5] * 3
    assert not events.of(JobFailed)
    outcomes = [event.outcome for event in events.of(JobStopped)]
    assert outcomes == ["replaced", "replaced", "cancelled", "cancelled", "cancelled"]
    leaks()


@pytest.mark.conforms("SCHED-101")
async def test_kill(autojump_clock, clock, events, diary):
    """The same by hand; runs on a supervisor of somebody else's end as well."""
    async with TaskSupervisor() as home, Supervisor() as root:
        jobs = [Job("a", SECONDLY, diary.work, 60), Job("b", SECONDLY, diary.work, 60, where=home)]
        scheduler = await root.start_child(
            Scheduler(jobs, clock=clock).child_spec(restart="temporary")
        )
        await trio.sleep(1.5)
        scheduler.kill()
        await scheduler.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert diary.ends == [1.5, 1.5]
        assert home.children == ()
    assert outcomes(events) == {"a": "cancelled", "b": "cancelled"}


@pytest.mark.conforms("SCHED-102")
async def test_run_that_is_late_to_end(autojump_clock, clock, events, diary, caplog):
    """It is named, and waited for, since Trio cannot end a task by force; who stops need not wait."""
    job = Job("stubborn", SECONDLY, diary.work, 60, 10, shutdown=2)
    scheduler = Scheduler([job], clock=clock, grace=1)
    async with scheduler:
        await trio.sleep(1.5)
        with pytest.raises(TimedOut, match="could not stop"):
            await scheduler.stop(timeout=4)
        assert [event.process.name for event in events.of(StopLate)] == ["stubborn"]
        assert "Scheduler/runs/stubborn is late" in caplog.text
    assert diary.ends == [12.5]


@pytest.mark.conforms("SCHED-102")
@pytest.mark.real
async def test_thread_is_waited_for(caplog):
    """A worker thread cannot be cancelled: the stop waits for it, and says for whom."""
    begun, go = trio.Event(), threading.Event()

    def work():
        trio.from_thread.run_sync(begun.set)
        go.wait(10)

    job = Job("in a thread", Every(0.001), work, thread=True, shutdown=0.01)
    scheduler = Scheduler([job], grace=0)
    async with scheduler:
        await begun.wait()
        with pytest.raises(TimedOut):
            await scheduler.stop(timeout=0.1)
        assert "runs/in a thread is late" in caplog.text
        go.set()
        assert str(await scheduler.wait()) == "shutdown"


@pytest.mark.conforms("SCHED-103")
async def test_slots_during_the_end_are_missed(autojump_clock, clock, events, diary):
    """They are told, and a new start makes up for them."""
    jobs = [Job("busy", Cron("@minutely"), diary.work, 4), Job("beat", SECONDLY, diary.work)]
    scheduler = Scheduler(jobs, clock=clock)
    async with scheduler:
        await trio.sleep(60.5)
        diary.runs.clear()
        await scheduler.stop()
    (event,) = events.of(JobMissed)
    assert (event.job, event.reason, [slot.second for slot in event.slots]) == (
        "beat",
        "stopping",
        [1, 2, 3, 4],
    )
    assert diary.runs == []
    async with scheduler:
        await trio.lowlevel.checkpoint()
        await trio.sleep(0.1)
        assert diary.slots == ["00:01:04"]


@pytest.mark.conforms("SCHED-103")
async def test_what_waits_is_missed(autojump_clock, clock, events, diary):
    """A run that waits its turn never begins after a stop."""
    jobs = [Job(name, Cron("@minutely"), diary.work, 3) for name in "ab"]
    async with Scheduler(jobs, clock=clock, max_concurrency=1):
        await trio.sleep(61)
    assert [run.job for run in diary.runs] == ["a"]
    assert [(event.job, event.reason) for event in events.of(JobMissed)] == [("b", "stopping")]


@pytest.mark.conforms("SCHED-104")
async def test_stop_twice(autojump_clock, clock, diary):
    """Both come back when it has ended."""
    scheduler = Scheduler([Job("a", SECONDLY, diary.work, 3)], clock=clock)
    ends = []

    async def stop():
        await scheduler.stop()
        ends.append(trio.current_time() - diary.begun)

    async with scheduler, trio.open_nursery() as nursery:
        await trio.sleep(1.5)
        nursery.start_soon(stop)
        await trio.sleep(1)
        nursery.start_soon(stop)
    assert ends == [4, 4]


@pytest.mark.conforms("SCHED-104")
async def test_stop_from_a_job(autojump_clock, clock, events, diary):
    """The one that stops is ended at once, since it waits; the others have their grace."""

    async def stop():
        await scheduler.stop()

    scheduler = Scheduler(
        [Job("a", SECONDLY, diary.work, 3), Job("stop", Cron("2 * * * * *"), stop)], clock=clock
    )
    async with scheduler:
        await scheduler.wait()
        assert trio.current_time() - diary.begun == 4
    assert outcomes(events) == {"a": "ok", "stop": "cancelled"}


@pytest.mark.conforms("SCHED-104")
async def test_stop_from_the_only_job(autojump_clock, clock):
    """Nobody else is waited for."""

    async def stop():
        await scheduler.stop()

    scheduler = Scheduler([Job("stop", SECONDLY, stop)], clock=clock)
    async with scheduler:
        begun = trio.current_time()
        await scheduler.wait()
        assert trio.current_time() - begun == 1


class SlowStorage:
    """A storage that takes its time to load."""

    async def load(self):
        await trio.sleep(100)
        return ()

    put = delete = set_state = set_last_slot = purge = load


@pytest.mark.conforms("SCHED-104")
async def test_stop_during_the_start(autojump_clock, clock):
    """It comes back, and the scheduler never ran."""
    scheduler = Scheduler(clock=clock, storage=SlowStorage())
    async with Supervisor() as root, trio.open_nursery() as nursery:

        async def start():
            with pytest.raises(StartFailed, match="ended before it was ready: shutdown"):
                await root.start_child(scheduler)

        nursery.start_soon(start)
        await trio.sleep(1)
        assert str(await scheduler.stop()) == "shutdown"
        assert trio.current_time() < 50


async def test_stop_and_changes_while_many_are_due(autojump_clock, clock, events, diary):
    """The first of many that are due deletes one, changes one, and stops: what is left is missed."""

    async def first():
        await scheduler.delete("b")
        await scheduler.update("c", timeout=5)
        await scheduler.stop()

    at_one = Cron("1 * * * * *")
    jobs = [Job("a", at_one, first), *(Job(name, at_one, diary.work) for name in "bcdefgh")]
    scheduler = Scheduler(jobs, clock=clock)
    async with scheduler:
        assert str(await scheduler.wait()) == "shutdown"
    missed = [event.job for event in events.of(JobMissed) if event.reason == "stopping"]
    assert {run.job for run in diary.runs} | set(missed) <= set("bcdefgh")
    assert not {run.job for run in diary.runs} & set(missed)
    assert set(missed) >= set("fgh")


@pytest.mark.parametrize("late", [True, False])
async def test_catching_up_while_the_job_is_deleted(autojump_clock, clock, events, diary, late):
    """What is left of its slots is dropped, and told; with the stop they are missed."""

    async def work():
        if not diary.runs:
            await (scheduler.delete("a") if late else scheduler.stop())
        await diary.work()

    job = Job("a", SECONDLY, work, catch_up="all", overlap="allow")
    scheduler = Scheduler([job], clock=clock, max_sleep=1)
    async with scheduler:
        await trio.sleep(0.5)
        clock.jump(20)
        await trio.sleep(5)
    told = [
        (event.reason, getattr(event, "slots", [0])) for event in events if hasattr(event, "reason")
    ]
    assert {reason for reason, _ in told} == {"deleted" if late else "stopping"}
    begun = len(events.of(JobStarted))
    assert begun < 10
    assert begun + sum(len(slots) for _, slots in told) in (20, 21)


async def test_grace_has_no_limit_if_so_wanted(autojump_clock, clock, diary):
    """`grace=None` waits for all runs."""
    async with Scheduler([Job("a", SECONDLY, diary.work, 1000)], clock=clock, grace=None):
        await trio.sleep(1.5)
    assert diary.ends == [1001]


async def test_end_under_a_supervisor(autojump_clock, clock, events, diary):
    """A supervisor leaves it the time that its runs need."""
    async with Supervisor([Scheduler([Job("a", SECONDLY, diary.work, 4)], clock=clock)]):
        await trio.sleep(1.5)
    assert diary.ends == [5]
    assert not events.of(StopLate)
    assert len(events.of(JobStarted)) == 1


async def test_end_says_nothing_of_errors(autojump_clock, clock, diary, caplog):
    """Ends that were asked for are none."""
    with caplog.at_level(logging.DEBUG):
        async with Scheduler([Job("a", SECONDLY, diary.work, 1000)], clock=clock, grace=0):
            await trio.sleep(1.5)
    assert caplog.text == ""
