"""What an attack on the scheduler has found: each fault, and others of its kind."""

import sys
from datetime import UTC, datetime, timedelta, timezone

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
    MemoryStorage,
    OnAllOf,
    Place,
    Schedule,
    Scheduler,
    StoredJob,
    Supervisor,
    TaskSupervisor,
    subscribe,
)
from trio_otp._job_gate import Gate
from trio_otp._job_text import read_job, write_job
from trio_otp._wall_clock import ClockWatch, Now
from trio_otp.testing import SettableClock

SECONDLY, MINUTELY = Cron("* * * * * *"), Cron("* * * * *")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


async def noop(*_):
    pass


# --- places ----------------------------------------------------------------------------------


async def test_place_that_comes_with_the_cancellation(autojump_clock):
    """Who is cancelled in the moment in which its turn comes passes the place on."""
    gate, inside = Gate(1), []

    async def visit(number):
        await gate.enter((NOON, number))
        inside.append(number)

    await visit(0)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as first:
                first.start_soon(visit, 1)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(visit, 2)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                gate.leave()
    assert inside == [0, 2]
    gate.leave()
    await visit(3)


@pytest.mark.conforms("SCHED-066")
@pytest.mark.parametrize("change", ["delete", "deactivate"])
async def test_limit_is_kept_whatever_is_dropped(autojump_clock, clock, diary, change):
    """A run whose last act drops the next one in the line leaves its place to the one after."""

    async def last_act():
        await diary.work(1)
        await getattr(scheduler, change)("b")

    jobs = [Job("a", MINUTELY, last_act), *(Job(name, MINUTELY, diary.work) for name in "bc")]
    scheduler = Scheduler(jobs, clock=clock, max_concurrency=1)
    async with scheduler:
        await trio.sleep(200)
    assert sum(run.job == "c" for run in diary.runs) == 3


@pytest.mark.conforms("SCHED-043", "SCHED-066")
async def test_lateness_counts_in_the_line(autojump_clock, clock, events, diary):
    """Who waits for its turn longer than it may be late is missed."""
    jobs = [
        Job("long", MINUTELY, diary.work, 20),
        Job("fresh", MINUTELY, diary.work, misfire_grace=5),
    ]
    async with Scheduler(jobs, clock=clock, max_concurrency=1):
        await trio.sleep(100)
    assert [run.job for run in diary.runs] == ["long"]
    assert [(event.job, event.reason) for event in events.of(JobMissed)] == [("fresh", "late")]


# --- the end ----------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-104")
@pytest.mark.parametrize("where", ["in the job", "in a task of the job"])
@pytest.mark.parametrize("grace", [20, None])
async def test_stop_from_a_job_of_one_that_is_stopping(autojump_clock, clock, diary, where, grace):
    """It is not waited for either, however the stop began."""

    async def job():
        await trio.sleep(3)
        if where == "in the job":
            await scheduler.stop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scheduler.stop)

    scheduler = Scheduler([Job("a", SECONDLY, job)], clock=clock, grace=grace)
    async with scheduler:
        await trio.sleep(1.5)
        await scheduler.stop()
        assert trio.current_time() - diary.begun == 4


async def test_stop_that_a_job_starts_elsewhere(autojump_clock, clock, diary):
    """By a task of somebody else's nursery: the job does not wait, and has its grace."""
    async with trio.open_nursery() as nursery:

        async def job():
            nursery.start_soon(scheduler.stop)
            await diary.work(3)

        scheduler = Scheduler([Job("a", SECONDLY, job)], clock=clock, grace=5)
        async with scheduler:
            await scheduler.wait()
    assert diary.ends == [4]


class Slow(MemoryStorage):
    """A storage that takes a second to note something."""

    async def set_last_slot(self, name, last_slot, /):
        await super().set_last_slot(name, last_slot)
        await trio.sleep(1)


@pytest.mark.conforms("SCHED-103", "SCHED-165")
async def test_stop_while_a_slot_is_counted(autojump_clock, clock, events, diary):
    """What is counted as done is done: the run takes place, within the grace."""
    async with Scheduler([Job("a", MINUTELY, diary.work)], clock=clock, storage=Slow()):
        await trio.sleep(60.5)
    assert diary.slots == ["00:01:00"]
    assert not events.of(JobMissed)


async def test_slots_during_a_long_cleanup_are_missed_too(autojump_clock, clock, events, diary):
    """Until the very end."""
    jobs = [
        Job("long", MINUTELY, diary.work, 99, 10),
        Job("beat", Cron("*/3 * * * * *"), diary.work),
    ]
    async with Scheduler(jobs, clock=clock, grace=2):
        await trio.sleep(61)
    (event,) = events.of(JobMissed)
    assert [slot.second for slot in event.slots] == [3, 6, 9, 12]


@pytest.mark.conforms("SCHED-063")
async def test_next_life_waits_for_the_cleanup_of_the_last(autojump_clock, clock, diary):
    """Also where the runs are children of somebody else's supervisor: a job never runs twice."""
    async with TaskSupervisor() as home:
        scheduler = Scheduler([Job("a", SECONDLY, diary.work, 60, 5)], clock=clock, supervisor=home)
        async with Supervisor([scheduler], max_restarts=9):
            for _ in range(3):
                await trio.sleep(1.2)
                scheduler.kill()
                await trio.sleep(8)
    assert diary.most == 1
    assert len(diary.runs) >= 3


@pytest.mark.conforms("SCHED-085")
async def test_reboot_job_that_is_added_while_it_ends(autojump_clock, clock, diary):
    """It is stored, and runs at the next start; not after the end."""

    class SlowPut(MemoryStorage):
        async def put(self, stored, /):
            await trio.sleep(1)
            await super().put(stored)

    async with TaskSupervisor() as home, trio.open_nursery() as nursery:
        scheduler = Scheduler(clock=clock, supervisor=home, storage=SlowPut())
        async with scheduler:
            nursery.start_soon(scheduler.add, Job("boot", Cron("@reboot"), diary.work))
            await trio.sleep(0.5)
        await trio.sleep(2)
        assert diary.runs == []
        async with scheduler:
            await trio.sleep(1)
    assert len(diary.runs) == 1


# --- clocks ------------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-151")
def test_looking_often_is_no_standing_still():
    """However short the longest sleep is."""
    watch = ClockWatch(Now(NOON, 0.0), 0.01)
    for look in range(10_000):
        watch.jump(Now(NOON + timedelta(seconds=look * 0.01), look * 0.01))


@pytest.mark.conforms("SCHED-045", "SCHED-164")
async def test_mark_from_a_future_that_never_was(autojump_clock, diary):
    """A clock was a year ahead, and put right while the program was down: slots count from now on, also in storage."""
    clock, storage = SettableClock(NOON), MemoryStorage()
    job = Job("a", Cron("30 2 * * *"), diary.work)
    await storage.put(StoredJob(name="a", job=None, active=None, last_slot=NOON + 365 * DAY))
    async with Scheduler([job], clock=clock, storage=storage):
        await trio.sleep(3 * 86400)
    assert len(diary.runs) == 3
    (stored,) = await storage.load()
    assert stored.last_slot == datetime(2026, 1, 4, 2, 30, tzinfo=UTC)
    clock.jump(DAY)
    async with Scheduler([job], clock=clock, storage=storage) as scheduler:
        await trio.sleep(1)
        await scheduler.join()
    assert len(diary.runs) == 4


@pytest.mark.conforms("SCHED-045", "SCHED-165")
async def test_run_over_a_correction_does_not_count(autojump_clock, clock, diary):
    """A run that began when the clock was wrong says nothing about slots of the right time."""
    storage = MemoryStorage()
    job = Job("a", Cron("0 1 * * *"), diary.work, 100, ack="after")
    async with Scheduler([job], clock=clock, storage=storage, max_sleep=10):
        await trio.sleep(3650)
        clock.set_to(NOON - 300 * DAY)
        await trio.sleep(200)
    (stored,) = await storage.load()
    assert len(diary.ends) == 1
    assert stored.last_slot == diary.runs[0].slot - timedelta(hours=1)


async def test_check_clock_is_never_lost(autojump_clock, clock, diary):
    """Also while the loop is at work."""

    async def tell():
        if clock.now() < NOON:
            clock.jump(86400)
            scheduler.check_clock()

    jobs = [Job("tell", MINUTELY, tell), *(Job(f"{n}", MINUTELY, noop) for n in range(5))]
    scheduler = Scheduler(
        [*jobs, Job("daily", Cron("@daily"), diary.work)], clock=clock, max_sleep=None
    )
    async with scheduler:
        await trio.sleep(60.5)
    assert len(diary.runs) == 1


# --- guards, places and schedules of one's own ---------------------------------------------------


@pytest.mark.conforms("SCHED-116")
@pytest.mark.parametrize("way", ["exits", "no bool", "hangs"])
async def test_guard_that_goes_wrong(autojump_clock, clock, events, diary, caplog, way):
    """Its job has no run at this slot, and the next slot is asked again."""

    class NoBool:
        def __bool__(self):
            raise KeyError("no bool")

    async def when():
        match way:
            case "exits":
                sys.exit(3)
            case "no bool":
                return NoBool()
            case "hangs":
                await trio.sleep_forever()

    job = Job("a", MINUTELY, diary.work, when=lambda *_: when(), timeout=5)
    async with Scheduler([job.changed(args=())], clock=clock):
        await trio.sleep(130)
    assert diary.runs == []
    assert len(events.of(JobErrored)) == 2
    assert [event.reason for event in events.of(JobSkipped)] == ["when", "when"]


@pytest.mark.conforms("SCHED-093")
@pytest.mark.parametrize("answer", [None, (None,), ((None,),), 5])
async def test_strategy_that_gives_nonsense(autojump_clock, clock, events, diary, caplog, answer):
    """Costs its job the run, and nobody else anything."""

    class Nonsense(Place):
        def choose(self, random):
            return answer

    jobs = [Job("lost", SECONDLY, diary.work, where=Nonsense()), Job("good", SECONDLY, diary.work)]
    async with Scheduler(jobs, clock=clock):
        await trio.sleep(2.5)
    assert [run.job for run in diary.runs] == ["good", "good"]
    assert len(events.of(JobErrored)) == 2


@pytest.mark.conforms("SCHED-062", "SCHED-093")
async def test_runs_of_one_slot_do_not_wait_for_each_other(autojump_clock, clock, events, diary):
    """On several supervisors each slot has all its runs, though each replaces those before; all are the first attempt."""
    async with TaskSupervisor() as one, TaskSupervisor() as two:
        job = Job(
            "a", Cron("*/10 * * * * *"), diary.work, 60, overlap="replace", where=OnAllOf(one, two)
        )
        async with Scheduler([job], clock=clock, grace=0):
            await trio.sleep(35)
    assert [run.slot.second for run in diary.runs] == [10, 10, 20, 20, 30, 30]
    assert {run.attempt for run in diary.runs} == {1}


class LocalBeat(Schedule):
    """Every minute, told by a clock two hours ahead."""

    ZONE = timezone(timedelta(hours=2))

    def next_after(self, moment):
        return MINUTELY.next_after(moment).astimezone(self.ZONE)

    def last_before(self, moment):
        return MINUTELY.last_before(moment).astimezone(self.ZONE)


async def test_schedule_in_local_time(autojump_clock, clock, diary):
    """Slots are in UTC all the same, also those that are made up for."""
    job = Job("a", LocalBeat(), diary.work, catch_up="all")
    async with Scheduler([job], clock=clock, max_sleep=1) as scheduler:
        await trio.sleep(10)
        clock.jump(300)
        await trio.sleep(5)
        assert scheduler.find("a").next_slot.tzinfo is UTC
    assert {run.slot.tzinfo for run in diary.runs} == {UTC}
    assert len(diary.runs) == 5
    assert {slot.tzinfo for slot in LocalBeat().between(NOON, NOON + DAY)} == {UTC}


# --- requests ------------------------------------------------------------------------------------


async def test_run_that_was_asked_for_outlives_a_switch(autojump_clock, clock, diary):
    """Deactivating a job drops what its slots have waiting, and not what somebody asked for."""
    jobs = [Job("busy", MINUTELY, diary.work, 5), Job("a", Cron("@yearly"), diary.work)]
    async with Scheduler(jobs, clock=clock, max_concurrency=1) as scheduler:
        await trio.sleep(61)
        task = await scheduler.run_job("a")
        await scheduler.deactivate("a")
        await task
    assert [run.job for run in diary.runs] == ["busy", "a"]


@pytest.mark.conforms("SCHED-165")
async def test_all_that_has_ended_is_counted(autojump_clock, clock, diary):
    """Though the counting of one run went on when the next one ended."""
    storage = Slow()
    job = Job("a", SECONDLY, diary.work, 0.5, overlap="allow", ack="after")
    async with Scheduler([job], clock=clock, storage=storage) as scheduler:
        await trio.sleep(3.2)
        await scheduler.deactivate("a")
        await scheduler.activate("a")
    async with Scheduler([job], clock=clock, storage=storage):
        await trio.sleep(1.7)
    (stored,) = await storage.load()
    slots = [run.slot for run in diary.runs]
    assert len(slots) == len(set(slots))
    assert stored.last_slot >= slots[-1]


@pytest.mark.conforms("SCHED-118")
async def test_step_is_done_once(autojump_clock, clock, diary):
    """Asked for the same moment again, nothing is due, also with a delay after each run."""
    job = Job("a", Every(60, mode="delay"), diary.work)
    begun = clock.now()
    async with Scheduler([job], clock=clock, manual=True) as scheduler:
        for minutes, runs in [(1, 1), (1, 0), (1.5, 0), (2, 1), (2, 0)]:
            started = await scheduler.run_due(begun + timedelta(minutes=minutes))
            assert len(started) == runs
            await scheduler.join()


@pytest.mark.parametrize("change", ["other parameters", "plain", "a class"])
def test_stored_function_that_has_changed(change, monkeypatch):
    """Its job is there, and says what is wrong when it runs."""
    text = write_job(Job("a", SECONDLY, noop, 1, 2))
    new = {"other parameters": only_one, "plain": plain, "a class": plain}[change]
    monkeypatch.setattr(sys.modules[__name__], "noop", 5 if change == "a class" else new)
    job = read_job("a", text)
    assert job.args == (1, 2)
    with pytest.raises(LookupError, match="of a stored job cannot be used"):
        job.fn(*job.args)
    assert write_job(job) == text


async def only_one(number):
    pass


def plain(*_):
    pass


async def test_books_of_two_places(autojump_clock, clock, events):
    """A run on each supervisor has its start and its end, and a number of its own."""
    starts, ends = [], []

    def note(event):
        if isinstance(event, JobStarted):
            starts.append(event.run.span)
        elif isinstance(event, JobStopped):
            ends.append(event.run.span)

    async with TaskSupervisor() as one, TaskSupervisor() as two:
        with subscribe(note):
            async with Scheduler([Job("a", SECONDLY, noop, where=OnAllOf(one, two))], clock=clock):
                await trio.sleep(5.5)
    assert sorted(starts) == sorted(ends)
    assert len(set(starts)) == 10
