"""Jobs at intervals, by Trio's clock; guards; and a scheduler that is stepped by hand."""

from datetime import timedelta

import pytest
import trio
import trio.testing

from trio_otp import (
    Cron,
    Every,
    Job,
    JobErrored,
    JobMissed,
    JobSkipped,
    JobStarted,
    JobStopped,
    Scheduler,
    Supervisor,
    TaskSupervisor,
    subscribe,
)

HOUR = 3600


def skipped(events):
    return [(event.reason, event.slot) for event in events.of(JobSkipped)]


@pytest.mark.conforms("SCHED-110", "CASE-99")
@pytest.mark.reports("schedule#355", "schedule#307", "node-cron#279", "meclaw#626")
async def test_rate(autojump_clock, clock, diary):
    """From start to start, whatever a run takes: the grid stays."""
    async with Scheduler([Job("a", Every(60), diary.work, 20)], clock=clock):
        await trio.sleep(190)
    assert diary.starts == [60, 120, 180]


@pytest.mark.conforms("SCHED-110")
async def test_rate_does_not_drift(autojump_clock, clock, diary):
    """10,000 runs of a third of a second's beat are where the multiplication says."""
    async with Scheduler([Job("a", Every(1 / 3), diary.work, 0.1)], clock=clock):
        await trio.sleep(10_000 / 3 + 0.01)
    assert len(diary.starts) == 10_000
    assert diary.starts[-1] == pytest.approx(10_000 / 3, abs=1e-6)


@pytest.mark.conforms("SCHED-111", "CASE-99")
async def test_delay(autojump_clock, clock, diary):
    """From the end of a run to the start of the next."""
    job = Job("a", Every(60, mode="delay"), diary.work, 20)
    async with Scheduler([job], clock=clock):
        await trio.sleep(230)
    assert diary.starts == [60, 140, 220]


async def test_delay_after_whatever_ended(autojump_clock, clock, diary):
    """After a crash, a timeout or a guard that said no, the next comes all the same."""
    turn = iter([True, False, True, True, True])
    job = Job("a", Every(10, mode="delay"), diary.work, 60, timeout=5, when=lambda _: next(turn))
    crash = Job("b", Every(10, mode="delay"), diary.fail, KeyError("b"))
    async with Scheduler([job, crash], clock=clock):
        await trio.sleep(51)
    starts = {
        name: [s for s, run in zip(diary.starts, diary.runs, strict=True) if run.job == name]
        for name in "ab"
    }
    assert starts == {"a": [10, 35, 50], "b": [10, 20, 30, 40, 50]}


async def test_delay_after_no_run(autojump_clock, clock, diary, events):
    """Where a run was skipped, since one that somebody asked for went on, the next tick comes as well."""
    job = Job("a", Every(10, mode="delay"), diary.work, 5)
    nowhere = Job("b", Every(10, mode="delay"), diary.work, 5, where=TaskSupervisor())
    async with Scheduler([job, nowhere], clock=clock) as scheduler:
        await trio.sleep(8)
        await scheduler.run_job("a")
        await trio.sleep(33)
    assert diary.starts == [8, 20, 35]
    slots = [event.slot.second for event in events.of(JobSkipped) if event.job == "b"]
    assert slots == [10, 20, 30, 40]


@pytest.mark.conforms("SCHED-112")
@pytest.mark.parametrize(
    ("delay", "starts"),
    [(None, [60, 120]), (0, [0, 60, 120]), (timedelta(seconds=5), [5, 65, 125])],
)
async def test_first_tick(autojump_clock, clock, diary, delay, starts):
    """After one period, or when one says; 0 is at once."""
    async with Scheduler([Job("a", Every(60, initial_delay=delay), diary.work)], clock=clock):
        await trio.sleep(126)
    assert diary.starts == starts


@pytest.mark.conforms("SCHED-113")
@pytest.mark.parametrize(
    ("overlap", "starts", "skips", "most"),
    [
        ("skip", [10, 40, 70], [20, 30, 50, 60], 1),
        ("allow", [10, 20, 30, 40, 50, 60, 70], [], 3),
        ("replace", [10, 21, 31, 41, 51, 61, 71], [], 1),
    ],
)
async def test_overrun(autojump_clock, clock, events, diary, overlap, starts, skips, most):
    """A run that takes more than a period: the grid stays, and what overlaps is the job's choice."""
    job = Job("a", Every(10), diary.work, 25, 1 if overlap == "replace" else 0, overlap=overlap)
    begun = clock.now()
    async with Scheduler([job], clock=clock, grace=0):
        await trio.sleep(72)
    assert diary.starts == starts
    assert diary.most == most
    slots = [(slot - begun).total_seconds() for _, slot in skipped(events)]
    assert slots == skips


@pytest.mark.conforms("SCHED-114")
async def test_stall(autojump_clock, clock, events, diary):
    """Of 95 s: one run, one word about the others, then the old grid (Erlang's timers send a burst)."""
    async with Scheduler([Job("a", Every(10), diary.work)], clock=clock):
        await trio.sleep(5)
        autojump_clock.jump(95)
        await trio.sleep(15)
    assert diary.starts == [100, 110]
    assert [event.count for event in events.of(JobMissed)] == [9]


@pytest.mark.conforms("SCHED-112", "SCHED-114")
async def test_stall_at_the_first_tick(autojump_clock, clock, diary):
    """A tick that is at once is not lost, however late it becomes."""
    job = Job("a", Every(10, initial_delay=0), diary.work, catch_up="all")
    async with Scheduler(clock=clock) as scheduler:
        await scheduler.add(job)
        autojump_clock.jump(25)  # before the scheduler has had a turn
        await trio.sleep(6)
    assert [run.lateness for run in diary.runs] == [25, 15, 5, 0]


# --- guards ------------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-116")
async def test_guard(autojump_clock, clock, events, diary):
    """No: no run, and the beat goes on. An error: the same, and it is told. It may be async, and slow."""
    asked = []

    def refuse():
        asked.append("refuse")
        return False

    def fail():
        raise KeyError("guard")

    async def think():
        await trio.sleep(4)
        return True

    jobs = [Job(fn.__name__, Every(10), diary.work, when=fn) for fn in (refuse, fail, think)]
    async with Scheduler(jobs, clock=clock) as scheduler:
        await trio.sleep(35)
        assert {job.state for job in scheduler.jobs} == {"active"}
    assert diary.starts == [14, 24, 34]
    assert {run.lateness for run in diary.runs} == {4}
    assert len(asked) == 3
    assert [reason for reason, _ in skipped(events)] == ["when"] * 6
    assert [repr(event.error) for event in events.of(JobErrored)] == ["KeyError('guard')"] * 3


async def test_guard_is_asked_with_the_arguments(autojump_clock, clock, diary):
    """Those of the function."""
    job = Job("a", Every(1), diary.work, 0.5, 0, when=lambda seconds, cleanup: seconds > cleanup)
    async with Scheduler([job], clock=clock):
        await trio.sleep(1.7)
    assert diary.starts == [1]


@pytest.mark.conforms("SCHED-117")
async def test_restart_begins_a_new_grid(autojump_clock, clock, diary):
    """A scheduler that is started again counts from there."""
    scheduler = Scheduler([Job("a", Every(10), diary.work)], clock=clock)
    async with Supervisor([scheduler]):
        await trio.sleep(25)
        scheduler.kill()
        await trio.sleep(20)
    assert diary.starts == [10, 20, 35, 45]


@pytest.mark.conforms("SCHED-117")
async def test_failing_runs_do_not_end_the_beat(autojump_clock, clock, events, diary):
    """Nor do those over their time."""
    jobs = [
        Job("fails", Every(10), diary.fail, ValueError("no")),
        Job("slow", Every(10), diary.work, 60, timeout=5),
    ]
    async with Scheduler(jobs, clock=clock):
        await trio.sleep(36)
    assert len(diary.starts) == 6
    assert [event.outcome for event in events.of(JobStopped)] == ["timeout"] * 3


# --- by hand -------------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-118", "SCHED-154")
async def test_stepping(autojump_clock, clock, diary):
    """A manual scheduler starts nothing by itself; a step starts what is due, and its runs can be awaited."""
    jobs = [Job("cron", Cron("@hourly"), diary.work, 5), Job("every", Every(60), diary.work)]
    async with Scheduler(jobs, clock=clock, manual=True) as scheduler:
        await trio.sleep(2 * HOUR)
        assert diary.runs == []
        runs = await scheduler.run_due()
        assert sorted(run.name for run in runs) == ["cron", "every"]
        assert trio.current_time() - diary.begun == 2 * HOUR
        for run in runs:
            assert str(await run.wait()) == "normal"
        assert await scheduler.run_due() == ()


@pytest.mark.conforms("SCHED-154")
async def test_stepping_needs_no_clock(autojump_clock, clock, diary):
    """A moment may be named; it counts for intervals as well."""
    jobs = [Job("cron", Cron("@hourly"), diary.work), Job("every", Every(60), diary.work)]
    begun = clock.now()
    async with Scheduler(jobs, clock=clock, manual=True) as scheduler:
        for minutes, due in [
            (0, []),
            (1, ["every"]),
            (1.5, []),
            (2, ["every"]),
            (60, ["every", "cron"]),
        ]:
            runs = await scheduler.run_due(begun + timedelta(minutes=minutes))
            assert sorted(run.name for run in runs) == sorted(due)
            await trio.testing.wait_all_tasks_blocked()


@pytest.mark.conforms("SCHED-154")
async def test_stepping_that_is_cancelled(autojump_clock, clock, events, diary):
    """What has not been started is due as before."""
    jobs = [Job(str(number), Cron("@minutely"), diary.work) for number in range(5)]
    async with Scheduler(jobs, clock=clock, manual=True) as scheduler:
        await trio.sleep(60)
        scope = trio.CancelScope()
        with scope, subscribe(lambda event: isinstance(event, JobStarted) and scope.cancel()):
            await scheduler.run_due()
        assert scope.cancelled_caught
        begun = len(diary.runs)
        await scheduler.run_due()
        await trio.testing.wait_all_tasks_blocked()
    assert 0 < begun < 5
    assert [run.job for run in diary.runs] == ["0", "1", "2", "3", "4"]


@pytest.mark.conforms("SCHED-118")
async def test_stepping_is_refused_if_it_steps_itself(autojump_clock, clock, diary):
    """Two hands on one wheel."""
    async with Scheduler(clock=clock) as scheduler:
        with pytest.raises(RuntimeError, match="runs its jobs itself: run_due needs manual=True"):
            await scheduler.run_due()
    async with Scheduler(clock=clock, manual=True) as scheduler:
        with pytest.raises(ValueError, match="moment must be an aware datetime"):
            await scheduler.run_due(clock.now().replace(tzinfo=None))
