"""What happens at a slot while a run of the job goes on, and how many run at once."""

import time

import pytest
import trio

from trio_otp import (
    AlreadyRunning,
    Cron,
    Every,
    Job,
    JobSkipped,
    JobStarted,
    JobStopped,
    Scheduler,
    TimedOut,
)

EVERY_SECOND = Cron("* * * * * *")


def skipped(events):
    return [(event.job, f"{event.slot:%H:%M:%S}", event.reason) for event in events.of(JobSkipped)]


def outcomes(events, job=None):
    return [event.outcome for event in events.of(JobStopped) if job in (None, event.job)]


@pytest.mark.conforms("SCHED-060")
async def test_runs_overlap_if_allowed(autojump_clock, clock, diary):
    """A minute job of 150 s has three runs at a time."""
    job = Job("slow", Cron("* * * * *"), diary.work, 150, overlap="allow")
    async with Scheduler([job], clock=clock, grace=0) as scheduler:
        await trio.sleep(190)
        assert diary.alive == 3
        assert scheduler.find("slow").running == 3
    assert diary.alive == 0


@pytest.mark.conforms("SCHED-061")
@pytest.mark.reports("quantum-core#66")
async def test_slots_are_skipped_while_a_run_goes_on(autojump_clock, clock, diary, events):
    """By default; each skipped slot is told, with the reason."""
    async with Scheduler([Job("slow", EVERY_SECOND, diary.work, 3.5)], clock=clock):
        await trio.sleep(9.2)
    assert diary.starts == [1, 5, 9]
    assert skipped(events) == [
        ("slow", f"00:00:0{second}", "running") for second in (2, 3, 4, 6, 7, 8)
    ]


@pytest.mark.conforms("SCHED-062")
async def test_next_run_replaces_the_old_one(autojump_clock, clock, diary, events):
    """Once its cleanup is over."""
    job = Job("fresh", Cron("*/10 * * * * *"), diary.work, 60, 2, overlap="replace")
    async with Scheduler([job], clock=clock, grace=0):
        await trio.sleep(35)
    assert diary.starts == [10, 22, 32]
    assert diary.ends[:2] == [22, 32]
    assert outcomes(events) == ["replaced", "replaced", "cancelled"]
    assert diary.most == 1


@pytest.mark.conforms("SCHED-062")
async def test_waiting_run_is_replaced_too(autojump_clock, clock, diary, events):
    """Of many slots during a long cleanup only the newest has a run after it; the others are told."""
    job = Job("fresh", EVERY_SECOND, diary.work, 60, 3.5, overlap="replace")
    async with Scheduler([job], clock=clock, grace=0):
        await trio.sleep(5.7)
    assert diary.slots == ["00:00:01", "00:00:05"]
    assert skipped(events) == [("fresh", f"00:00:0{second}", "replaced") for second in (2, 3, 4)]


def ends_of_a_run(diary):
    """Functions that end in each way that there is."""

    async def cancels_itself():
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.sleep(1)

    async def fails_in_a_group():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(diary.fail, KeyError("one"))
            nursery.start_soon(diary.fail, KeyError("two"))

    return [
        (diary.work,),
        (diary.fail, ValueError("no")),
        (fails_in_a_group,),
        (cancels_itself,),
        (diary.work, 50),  # over its time
    ]


@pytest.mark.conforms("SCHED-063")
@pytest.mark.parametrize("way", range(5))
async def test_next_run_comes_however_the_last_one_ended(autojump_clock, clock, diary, events, way):
    """What kept others out goes with the run: after a return, an error, a group, a cancellation, a timeout."""
    fn, *args = ends_of_a_run(diary)[way]
    job = Job("any", Cron("*/10 * * * * *"), fn, *args, timeout=5)
    async with Scheduler([job], clock=clock) as scheduler:
        await trio.sleep(39)
        assert scheduler.find("any").running == 0
    assert len(events.of(JobStarted)) == 3
    assert not events.of(JobSkipped)


@pytest.mark.conforms("SCHED-063", "SCHED-064")
async def test_run_job_respects_overlap(autojump_clock, clock, diary, events):
    """Its caller hears that the job is running; the mark is one for both kinds of run."""
    async with Scheduler([Job("slow", Cron("@hourly"), diary.work, 5)], clock=clock) as scheduler:
        task = await scheduler.run_job("slow")
        with pytest.raises(AlreadyRunning, match="job 'slow' is running, and skips what overlaps"):
            await scheduler.run_job("slow")
        await task
        await (await scheduler.run_job("slow"))
    assert diary.starts == [0, 5]
    assert [reason for *_, reason in skipped(events)] == ["running"]


async def test_run_job_keeps_slots_out(autojump_clock, clock, diary, events):
    """A slot during a run that somebody asked for is skipped."""
    async with Scheduler([Job("slow", EVERY_SECOND, diary.work, 1.5)], clock=clock) as scheduler:
        await trio.sleep(0.5)
        await scheduler.run_job("slow")
        await trio.sleep(1)
    assert diary.starts == [0.5]
    assert skipped(events) == [("slow", "00:00:01", "running")]


@pytest.mark.conforms("SCHED-065", "SCHED-074")
async def test_hung_jobs_delay_nobody(autojump_clock, clock, diary):
    """60 jobs that hang, and one of every second beside them (in Quantum, 59 stop all others)."""
    hung = [Job(f"hung {number}", EVERY_SECOND, trio.sleep_forever) for number in range(60)]
    jobs = [*hung, Job("alive", EVERY_SECOND, diary.work)]
    async with Scheduler(jobs, clock=clock, grace=0):
        await trio.sleep(10.5)
    assert diary.starts == [*range(1, 11)]


@pytest.mark.conforms("SCHED-066")
async def test_limit_on_all_runs(autojump_clock, clock, diary):
    """The third waits, and starts when one ends; it says how late it is."""
    jobs = [Job(name, Cron("@minutely"), diary.work, 5) for name in "abc"]
    async with Scheduler(jobs, clock=clock, max_concurrency=2) as scheduler:
        await trio.sleep(62)
        assert [(job.running, job.waiting) for job in scheduler.jobs] == [(1, 0), (1, 0), (0, 1)]
        await trio.sleep(10)
    assert [(run.job, run.lateness) for run in diary.runs] == [("a", 0), ("b", 0), ("c", 5)]


@pytest.mark.conforms("SCHED-066")
async def test_waiting_runs_begin_in_the_order_in_which_they_are_due(autojump_clock, clock, diary):
    """Whatever the order in which they were added."""
    seconds = [5, 3, 4, 2, 1]
    jobs = [Job(f"at {s}", Cron(f"{s} * * * * *"), diary.work, 10) for s in seconds]
    async with Scheduler(jobs, clock=clock, max_concurrency=1):
        await trio.sleep(55)
    assert [run.job for run in diary.runs] == ["at 1", "at 2", "at 3", "at 4", "at 5"]


@pytest.mark.conforms("SCHED-066")
@pytest.mark.parametrize("change", ["delete", "deactivate", "update"])
async def test_waiting_run_goes_with_its_job(autojump_clock, clock, diary, events, change):
    """Deleting, deactivating or changing a job drops what it has waiting, and its place in the line."""
    jobs = [Job(name, Cron("@minutely"), diary.work, 5) for name in "abc"]
    async with Scheduler(jobs, clock=clock, max_concurrency=1) as scheduler:
        await trio.sleep(61)
        match change:
            case "delete":
                await scheduler.delete("b")
            case "deactivate":
                await scheduler.deactivate("b")
            case "update":
                await scheduler.update("b", timeout=9)
        await trio.sleep(20)
    assert [run.job for run in diary.runs] == ["a", "c"]
    assert skipped(events) == [("b", "00:01:00", "deleted")]


@pytest.mark.conforms("SCHED-067")
@pytest.mark.reports("quantum-core#66")
async def test_run_over_its_time_is_cancelled(autojump_clock, clock, diary, events, caplog):
    """At that very moment, with an outcome of its own; the next slot has its run."""
    job = Job("slow", Cron("*/10 * * * * *"), diary.work, 60, timeout=5)
    async with Scheduler([job], clock=clock):
        await trio.sleep(29)
    assert diary.ends == [15, 25]
    assert outcomes(events) == ["timeout", "timeout"]
    assert caplog.text.count("TimedOut: job 'slow' has not ended within 5 s") >= 2


@pytest.mark.conforms("SCHED-067")
async def test_who_awaits_a_run_over_its_time_hears_of_it(autojump_clock, clock, diary):
    """No result is made up."""
    job = Job("slow", Cron("@hourly"), diary.work, 60, timeout=5)
    async with Scheduler([job], clock=clock) as scheduler:
        with pytest.raises(TimedOut, match="job 'slow' has not ended within 5 s"):
            await (await scheduler.run_job("slow"))
        assert scheduler.find("slow").last_outcome == "timeout"


@pytest.mark.conforms("SCHED-067")
@pytest.mark.real
async def test_thread_over_its_time(events):
    """It cannot be cancelled; what it gives comes too late."""
    async with Scheduler(
        [Job("slow", Cron("@yearly"), time.sleep, 0.1, thread=True, timeout=0.01)]
    ) as s:
        with pytest.raises(TimedOut):
            await (await s.run_job("slow"))
    assert outcomes(events) == ["timeout"]


@pytest.mark.conforms("SCHED-041")
async def test_slots_during_catching_up_queue(autojump_clock, clock, events, diary):
    """A job that makes up for all slots leaves none out that come meanwhile."""
    job = Job("each", Cron("*/10 * * * * *"), diary.work, 6, catch_up="all")
    async with Scheduler([job], clock=clock, max_sleep=1) as scheduler:
        await trio.sleep(5)
        clock.jump(60)
        await trio.sleep(100)
        assert scheduler.find("each").waiting == 0
    seconds = [(run.slot.minute * 60 + run.slot.second) for run in diary.runs]
    assert seconds == [*range(10, 170, 10)][: len(seconds)]
    assert len(seconds) >= 15
    assert diary.most == 1
    assert not skipped(events)


@pytest.mark.conforms("CASE-100")
async def test_crash_during_overlap(autojump_clock, clock, events, diary):
    """Every second, 2.5 s each, the third run crashes: never two at once, and it goes on."""

    async def job():
        await diary.work(2.5)
        if len(diary.runs) == 3:
            raise ValueError("third")

    async with Scheduler([Job("odd", Every(1), job)]):
        await trio.sleep(13.2)
    assert diary.starts == [1, 4, 7, 10, 13]
    assert diary.most == 1
    assert len(skipped(events)) == 8


@pytest.mark.conforms("CASE-105")
async def test_slot_lost_while_everything_is_blocked(autojump_clock, clock, events, diary):
    """A job of 6 s, and everything blocked for 6 s right after its start: one run, and one at the next slot."""
    async with Scheduler([Job("a", Cron("*/5 * * * * *"), diary.work, 6)], clock=clock):
        await trio.sleep(5.001)
        assert diary.alive == 1
        autojump_clock.jump(6)
        await trio.sleep(2)
        assert diary.most == 1
        await trio.sleep(3)
    assert diary.slots == ["00:00:05", "00:00:15"]
