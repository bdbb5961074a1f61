"""Adding, changing, deleting, switching and running jobs while the scheduler runs."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import attrs
import pytest
import trio
import trio.lowlevel

from trio_otp import (
    At,
    Backoff,
    CalledItself,
    ChildSpec,
    Cron,
    DuplicateChild,
    Every,
    Job,
    JobEvent,
    JobMissed,
    JobStarted,
    JobStopped,
    MemoryStorage,
    NotRunning,
    OnAllOf,
    OnOneOf,
    Scheduler,
    Supervisor,
    SupervisorPassedOver,
    TaskSupervisor,
    UnknownJob,
    current_process,
    current_run,
)
from trio_otp.testing import SettableClock

SECONDLY, MINUTELY = Cron("* * * * * *"), Cron("* * * * *")


def kinds(events, scheduler=None):
    return [(type(event).__name__, event.job) for event in events.of(JobEvent)]


# --- adding, replacing -------------------------------------------------------------------


@pytest.mark.conforms("SCHED-080", "SCHED-063")
@pytest.mark.reports("quantum-core#392", "apscheduler#720")
async def test_job_of_a_known_name_replaces(autojump_clock, clock, events, diary):
    """The old definition is never run again (in Quantum it is), and it is an update."""
    old, new = [], []

    async def first():
        old.append(clock.now())

    async def second():
        new.append(clock.now())

    async with Scheduler(clock=clock) as scheduler:
        assert await scheduler.add(Job("a", SECONDLY, first)) == "a"
        await trio.sleep(3.5)
        await scheduler.add(Job("a", SECONDLY, second))
        await trio.sleep(3)
        assert [job.name for job in scheduler.jobs] == ["a"]
    assert (len(old), len(new)) == (3, 3)
    assert [kind for kind in kinds(events) if kind[0] in ("JobAdded", "JobUpdated")] == [
        ("JobAdded", "a"),
        ("JobUpdated", "a"),
    ]


@pytest.mark.conforms("SCHED-080", "SCHED-081")
async def test_running_instance_is_not_touched(autojump_clock, clock, diary):
    """It ends as it would have, and keeps the runs of the new definition out until then."""
    async with Scheduler([Job("a", SECONDLY, diary.work, 2.7)], clock=clock) as scheduler:
        await trio.sleep(1.5)
        await scheduler.update("a", schedule=Cron("*/2 * * * * *"), args=(0.1,))
        assert scheduler.find("a").next_slot.second == 2
        await trio.sleep(3.5)
    assert diary.ends == [3.7, 4.1]
    assert diary.slots == ["00:00:01", "00:00:04"]


@pytest.mark.conforms("SCHED-081")
async def test_new_schedule_counts_from_now(autojump_clock, clock, diary):
    """The slot that was to come is gone."""
    async with Scheduler([Job("a", MINUTELY, diary.work)], clock=clock) as scheduler:
        await trio.sleep(50)
        await scheduler.update("a", schedule=Cron("30 * * * * *"))
        await trio.sleep(50)
    assert diary.slots == ["00:01:30"]


@pytest.mark.conforms("SCHED-087")
async def test_first_run_is_at_the_next_slot(autojump_clock, diary):
    """Added 0.4 s past the minute: at the next one. Nothing is made up for (quantum-core#413)."""
    clock = SettableClock(datetime(2026, 1, 1, 11, 59, tzinfo=UTC))
    async with Scheduler(clock=clock) as scheduler:
        await trio.sleep(60.4)
        await scheduler.add(Job("a", MINUTELY, diary.work))
        await trio.sleep(70)
    assert diary.slots == ["12:01:00"]


@pytest.mark.conforms("SCHED-088")
async def test_loop_wakes_for_a_job_that_is_added(autojump_clock, clock, diary):
    """It slept until tomorrow, and nothing makes it look before: the job is due in a second."""
    async with Scheduler([Job("a", Cron("@daily"), diary.work)], clock=clock, max_sleep=None) as s:
        await trio.sleep(0.5)
        await s.add(Job("soon", SECONDLY, diary.work))
        await s.add(Job("tick", Every(0.2), diary.work))
        await trio.sleep(0.6)
    assert [run.job for run in diary.runs][:3] == ["tick", "tick", "soon"]
    assert diary.starts[:3] == pytest.approx([0.7, 0.9, 1.0])


@pytest.mark.conforms("SCHED-086")
async def test_job_without_a_name_has_one(autojump_clock, clock, diary):
    """That nobody else has; usable wherever a name is."""
    async with Scheduler(clock=clock) as scheduler:
        one = await scheduler.add(Job(None, SECONDLY, diary.work))
        two = await scheduler.add(Job(None, SECONDLY, diary.work))
        assert one != two
        assert [job.name for job in scheduler.jobs] == [one, two]
        await (await scheduler.run_job(one))
        await scheduler.deactivate(one)
        assert await scheduler.delete(two)
        assert scheduler.find(one).state == "inactive"


# --- deleting, switching -------------------------------------------------------------------


@pytest.mark.conforms("SCHED-082", "CASE-101")
@pytest.mark.reports("quantum-core#416")
async def test_deleted_and_added_again(autojump_clock, clock, diary):
    """Nothing is made up for."""
    job = Job("a", MINUTELY, diary.work)
    async with Scheduler([job], clock=clock) as scheduler:
        await trio.sleep(150)
        assert await scheduler.delete("a") is True
        assert await scheduler.delete("a") is False
        assert scheduler.find("a") is None
        await trio.sleep(180)
        await scheduler.add(job)
        await trio.sleep(35)
    assert diary.slots == ["00:01:00", "00:02:00", "00:06:00"]


@pytest.mark.conforms("SCHED-082")
async def test_deleting_lets_a_run_end(autojump_clock, clock, events, diary):
    """It is told, and no other follows."""
    async with Scheduler([Job("a", SECONDLY, diary.work, 5)], clock=clock) as scheduler:
        await trio.sleep(1.5)
        await scheduler.delete("a")
        await trio.sleep(10)
        assert scheduler.jobs == ()
    assert diary.ends == [6]
    assert kinds(events)[-2:] == [("JobDeleted", "a"), ("JobStopped", "a")]


@pytest.mark.conforms("SCHED-063", "SCHED-082")
async def test_name_that_comes_back_during_a_run(autojump_clock, clock, diary):
    """A job that is added while a run of its deleted namesake goes on waits for the end of that."""
    job = Job("a", SECONDLY, diary.work, 2.5)
    async with Scheduler([job], clock=clock) as scheduler:
        await trio.sleep(1.2)
        await scheduler.delete("a")
        await scheduler.add(job)
        assert scheduler.find("a").running == 1
        await trio.sleep(3.5)
        await scheduler.delete("a")
        await trio.sleep(5)
        await scheduler.add(job)
        assert scheduler.find("a").running == 0
    assert diary.slots == ["00:00:01", "00:00:04"]
    assert diary.most == 1


async def test_delete_all(autojump_clock, clock, events, diary):
    """No job is left, and each is told."""
    async with Scheduler([Job(name, SECONDLY, diary.work) for name in "ab"], clock=clock) as s:
        await s.delete_all()
        await trio.sleep(2)
        assert s.jobs == ()
    assert kinds(events) == [("JobDeleted", "a"), ("JobDeleted", "b")]


@pytest.mark.conforms("SCHED-083")
async def test_slots_of_an_inactive_job_are_lost(autojump_clock, clock, events, diary):
    """Three slots go by; after activation it goes on with the next. Doing so twice does nothing."""
    async with Scheduler([Job("a", MINUTELY, diary.work)], clock=clock) as scheduler:
        await scheduler.deactivate("a")
        await scheduler.deactivate("a")
        assert (scheduler.find("a").state, scheduler.find("a").next_slot) == ("inactive", None)
        await trio.sleep(190)
        await scheduler.activate("a")
        await scheduler.activate("a")
        await trio.sleep(60)
    assert diary.slots == ["00:04:00"]
    assert [kind for kind in kinds(events) if kind[0] == "JobUpdated"] == [("JobUpdated", "a")] * 2
    assert not events.of(JobMissed)


async def test_update_leaves_an_inactive_job_inactive(autojump_clock, clock, diary):
    """Unless that is what is changed."""
    async with Scheduler([Job("a", SECONDLY, diary.work)], clock=clock) as scheduler:
        await scheduler.deactivate("a")
        await scheduler.update("a", timeout=3)
        assert scheduler.find("a").state == "inactive"
        await scheduler.update("a", active=True)
        assert scheduler.find("a").state == "active"


@pytest.mark.parametrize(
    ("what", "options", "stands"),
    [
        ("update", {"overlap": "allow"}, ("active", "allow")),
        ("activate", {}, ("active", "skip")),
        ("deactivate", {}, ("inactive", "skip")),
        ("delete", {}, None),
    ],
)
async def test_changes_at_the_same_time(autojump_clock, clock, what, options, stands):
    """In whatever order Trio runs them, none undoes the other."""
    async with Scheduler(clock=clock) as scheduler:

        async def change(what, **options):
            with suppress(UnknownJob):  # it is deleted
                await getattr(scheduler, what)("a", **options)

        for _ in range(10):
            await scheduler.add(Job("a", Cron("@daily"), trio.sleep, 0, active=what != "activate"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(change, "update", timeout=5))
                nursery.start_soon(partial(change, what, **options))
            job = scheduler.find("a")
            assert (job and (job.state, job.job.overlap)) == stands
            assert job is None or job.job.timeout == 5


class SlowStorage(MemoryStorage):
    """Takes its time for changes, as disks do."""

    seconds = 0

    async def put(self, stored, /):
        await trio.sleep(self.seconds)
        await super().put(stored)

    async def delete(self, name, /):
        await trio.sleep(self.seconds)
        await super().delete(name)

    async def set_state(self, *state):
        await trio.sleep(self.seconds)
        await super().set_state(*state)


@pytest.mark.conforms("SCHED-074", "SCHED-085")
@pytest.mark.parametrize(
    ("what", "argument", "stands"),
    [
        ("add", Job("new", Cron("@daily"), trio.sleep, 0), {"old": "active", "new": "active"}),
        ("add", Job("new", Cron("@reboot"), trio.sleep, 0), {"old": "active", "new": "finished"}),
        ("delete", "old", {}),
        ("deactivate", "old", {"old": "inactive"}),
    ],
)
async def test_crash_during_a_change(autojump_clock, clock, events, what, argument, stands):
    """What was being stored counts in the next life, which waits for it."""
    storage = SlowStorage()
    scheduler = Scheduler([], clock=clock, storage=storage)
    async with Supervisor([scheduler]), trio.open_nursery() as nursery:
        await scheduler.add(Job("old", Cron("@daily"), trio.sleep, 0))
        storage.seconds = 5
        nursery.start_soon(getattr(scheduler, what), argument)
        await trio.sleep(1)
        scheduler.kill()
        await trio.sleep(5)
        assert {job.name: job.state for job in scheduler.jobs} == stands
        reboots = ["new"] * (stands.get("new") == "finished")
        assert [event.job for event in events.of(JobStarted)] == reboots


@pytest.mark.conforms("SCHED-100", "SCHED-085")
async def test_stop_while_a_job_is_stored(autojump_clock, clock, events, diary):
    """Nothing new starts, a job for the start of its scheduler neither; the next start has it."""
    storage = SlowStorage()
    scheduler = Scheduler([Job("a", SECONDLY, diary.work, 3)], clock=clock, storage=storage)
    async with scheduler, trio.open_nursery() as nursery:
        await trio.sleep(1.5)
        storage.seconds = 1
        nursery.start_soon(scheduler.add, Job("new", Cron("@reboot"), diary.work))
        await trio.sleep(0.1)
        await scheduler.stop()
    assert [run.job for run in diary.runs] == ["a"]
    async with scheduler:
        await trio.sleep(0.1)
    assert [run.job for run in diary.runs][1:] == ["new", "a"]


# --- running now -----------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-084", "SCHED-133")
@pytest.mark.reports("systemd#42337")
async def test_run_job(autojump_clock, clock, events):
    """Now, once, also an inactive one; its schedule goes on as before. The result can be awaited."""

    async def answer():
        return 42

    job = Job("a", Cron("@hourly", jitter=600), answer, active=False)
    async with Scheduler([job], clock=clock) as scheduler:
        before = scheduler.find("a").next_slot
        assert await (await scheduler.run_job("a")) == 42
        await scheduler.activate("a")
        await trio.sleep(1)
        assert await (await scheduler.run_job("a")) == 42
        assert scheduler.find("a").next_slot == datetime(2026, 1, 1, 1, tzinfo=UTC)
        assert before is None
    assert [(event.run.manual, event.run.lateness) for event in events.of(JobStarted)] == [
        (True, 0)
    ] * 2
    assert [event.result for event in events.of(JobStopped)] == [42, 42]


@pytest.mark.conforms("SCHED-084")
async def test_run_job_fails_for_who_awaits_it(autojump_clock, clock):
    """And for nobody else."""

    async def fail():
        raise KeyError("no")

    async with Scheduler([Job("a", Cron("@hourly"), fail)], clock=clock) as scheduler:
        task = await scheduler.run_job("a")
        with pytest.raises(KeyError, match="no"):
            await task
        assert scheduler.find("a").last_outcome == "error"


async def test_run_job_for_a_slot(autojump_clock, clock, diary):
    """Yesterday's work is done again today, and knows that it is yesterday's."""
    yesterday = clock.now() - timedelta(days=1)
    async with Scheduler([Job("report", Cron("@daily"), diary.work)], clock=clock) as scheduler:
        await (await scheduler.run_job("report", slot=yesterday))
        with pytest.raises(ValueError, match="slot must be an aware datetime"):
            await scheduler.run_job("report", slot=datetime(2026, 1, 1))
    (run,) = diary.runs
    assert (run.slot, run.lateness, run.manual) == (yesterday, 0, True)


async def test_join(autojump_clock, clock, diary):
    """Waits for the runs that go on and those that wait; a run cannot wait for its own end."""

    async def job():
        with pytest.raises(CalledItself, match="would wait for its own end"):
            await scheduler.join()
        await diary.work(5)

    scheduler = Scheduler(
        [Job(name, MINUTELY, job) for name in "ab"], clock=clock, max_concurrency=1
    )
    async with scheduler:
        await scheduler.join()
        await trio.sleep(61)
        await scheduler.join()
        assert diary.ends == [65, 70]
        assert trio.current_time() - diary.begun == 70


@pytest.mark.conforms("SCHED-084")
@pytest.mark.parametrize("what", ["run_job", "activate", "deactivate", "update"])
async def test_unknown_job(autojump_clock, clock, what):
    """Is an error (in Quantum nothing happens); to find and to delete is to ask."""
    async with Scheduler(clock=clock, name="nightly") as scheduler:
        with pytest.raises(UnknownJob, match=r"<Scheduler 'nightly' running> has no job 'x'"):
            await getattr(scheduler, what)("x")
        assert scheduler.find("x") is None
        assert await scheduler.delete("x") is False


async def test_updates_at_the_same_time(autojump_clock, clock, diary):
    """Each finds what the other has made; none is lost."""
    async with Scheduler([Job("a", MINUTELY, diary.work)], clock=clock) as scheduler:
        async with trio.open_nursery() as nursery:
            for changes in (
                {"timeout": 5},
                {"args": (1,)},
                {"overlap": "allow"},
                {"active": False},
            ):
                nursery.start_soon(partial(scheduler.update, "a", **changes))
        job = scheduler.find("a").job
    assert (job.timeout, job.args, job.overlap, job.active) == (5, (1,), "allow", False)


async def test_name_cannot_be_changed(autojump_clock, clock, diary):
    """Nor can an option that is not there."""
    async with Scheduler([Job("a", SECONDLY, diary.work)], clock=clock) as scheduler:
        with pytest.raises(TypeError, match="name cannot be changed"):
            await scheduler.update("a", name="b")
        with pytest.raises(
            TypeError, match="a Job has no option 'overlaps': it has name, schedule"
        ):
            await scheduler.update("a", overlaps=True)


# --- @reboot ---------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-085")
@pytest.mark.reports("quantum-core#57")
async def test_reboot(autojump_clock, clock, diary):
    """Once in each start: not for a switch, a change, or a crash of the scheduler; a new one at once."""
    reboot = Cron("@reboot")
    scheduler = Scheduler([Job("old", reboot, diary.work)], clock=clock)
    async with Supervisor([scheduler]) as root:
        await trio.sleep(1)
        await scheduler.deactivate("old")
        await scheduler.activate("old")
        await scheduler.update("old", timeout=5)
        await scheduler.add(Job("new", reboot, diary.work))
        await trio.sleep(1)
        assert [run.job for run in diary.runs] == ["old", "new"]
        crash(scheduler)
        await trio.sleep(1)
        assert root.children[0].restarts == 1
        assert [run.job for run in diary.runs] == ["old", "new"]
        await root.terminate_child(scheduler)
        await root.restart_child(scheduler)
        await trio.sleep(1)
    assert [run.job for run in diary.runs] == ["old", "new", "old", "new"]
    assert {run.slot for run in diary.runs[:1]} == {datetime(2026, 1, 1, tzinfo=UTC)}


@pytest.mark.conforms("SCHED-085", "SCHED-082")
async def test_reboot_job_that_another_deletes(autojump_clock, clock, diary):
    """Before its turn has come: it does not run, and runs if it is added again."""

    async def first():
        await scheduler.delete("c")

    reboot = Cron("@reboot")
    jobs = [Job("a", reboot, first), *(Job(name, reboot, diary.work) for name in "bdefghc")]
    scheduler = Scheduler(jobs, clock=clock)
    async with scheduler:
        await trio.sleep(1)
        assert "c" not in [run.job for run in diary.runs]
        await scheduler.add(Job("c", reboot, diary.work))
        await trio.sleep(1)
    assert [run.job for run in diary.runs] == [*"bdefgh", "c"]


def crash(scheduler):
    """Let the loop of a scheduler fail, which nobody can but from inside."""

    async def fail(*_):
        raise RuntimeError("the loop has failed")

    scheduler._loop.start_due = fail
    scheduler.check_clock()


@pytest.mark.conforms("SCHED-074")
async def test_scheduler_that_crashes(autojump_clock, clock, events, diary):
    """Its next life has every active job again, also those added since, and runs no slot twice (Quantum forgets all)."""
    scheduler = Scheduler([Job("listed", SECONDLY, diary.work)], clock=clock)
    async with Supervisor([scheduler]):
        await scheduler.add(Job("added", SECONDLY, diary.work))
        await scheduler.add(Job("inactive", SECONDLY, diary.work))
        await scheduler.deactivate("inactive")
        await trio.sleep(2.1)
        crash(scheduler)
        await trio.sleep(0.1)
        assert [(job.name, job.state) for job in scheduler.jobs] == [
            ("listed", "active"), ("added", "active"), ("inactive", "inactive"),
        ]  # fmt: skip
        await trio.sleep(2)
    assert sorted((run.job, run.slot.second) for run in diary.runs) == [
        (name, second) for name in ("added", "listed") for second in (1, 2, 3, 4)
    ]


@pytest.mark.conforms("SCHED-074")
async def test_asking_between_two_lives(autojump_clock, clock, diary):
    """Requests wait for the life that was promised; what is being added when it begins is there."""

    class Slow(MemoryStorage):
        async def put(self, stored, /):
            await trio.sleep(3)
            await super().put(stored)

    scheduler = Scheduler(clock=clock, storage=Slow())
    spec = scheduler.child_spec(backoff=Backoff(1))
    async with Supervisor([spec]), trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.add, Job("early", MINUTELY, diary.work))
        await trio.sleep(2)
        crash(scheduler)
        await trio.sleep(0.5)
        assert scheduler.status == "restarting"
        await scheduler.add(Job("late", MINUTELY, diary.work))
        assert [job.name for job in scheduler.jobs] == ["early", "late"]
        await (await scheduler.run_job("early"))


# --- from inside a job, order, snapshots ---------------------------------------------------------


@pytest.mark.conforms("SCHED-089")
@pytest.mark.parametrize("what", ["add", "delete", "deactivate", "update", "stop"])
async def test_control_from_inside_a_job(autojump_clock, clock, events, diary, what):
    """Nothing waits for itself, and no event is lost."""

    async def job():
        match what:
            case "add":
                await scheduler.add(Job("more", SECONDLY, diary.work))
            case "delete":
                await scheduler.delete("a")
            case "deactivate":
                await scheduler.deactivate("a")
            case "update":
                await scheduler.update("a", timeout=9)
            case "stop":
                await scheduler.stop()

    scheduler = Scheduler([Job("a", SECONDLY, job)], clock=clock)
    async with scheduler:
        await trio.sleep(1.5)
        told = {"add": "JobAdded", "delete": "JobDeleted", "stop": None}.get(what, "JobUpdated")
        assert told is None or told in [kind for kind, _ in kinds(events)]
        assert scheduler.status == ("stopped" if what == "stop" else "running")
        assert events.of(JobStopped)[0].outcome == ("cancelled" if what == "stop" else "ok")


@pytest.mark.conforms("SCHED-090")
async def test_jobs_due_together_begin_in_order(autojump_clock, clock):
    """Of their slots, then of their age; every time."""
    begun = []

    async def note(name):
        begun.append(name)

    names = [f"job {number}" for number in range(20)]
    jobs = [Job(name, Cron("*/10 * * * * *"), note, name) for name in names]
    tick = Job("tick", Every(10), note, "tick")
    async with Scheduler([*jobs, tick], clock=clock):
        await trio.sleep(5)
        autojump_clock.jump(6)  # late, so that slots of different times are due together
        await trio.sleep(90)
    assert begun == [*names, "tick"] * 10


async def test_those_that_are_late_begin_by_slot(autojump_clock, clock, diary):
    """However they were added."""
    jobs = [Job(str(second), Cron(f"{second} * * * * *"), diary.work) for second in (5, 3, 9, 4)]
    async with Scheduler(jobs, clock=clock):
        await trio.sleep(1)
        autojump_clock.jump(10)
        await trio.sleep(1)
    assert [run.job for run in diary.runs] == ["3", "4", "5", "9"]


@pytest.mark.conforms("SCHED-091")
async def test_snapshots(autojump_clock, clock, diary):
    """Say how a job stands, and cannot be changed."""
    async with Scheduler([Job("a", MINUTELY, diary.work, 5)], clock=clock) as scheduler:
        before = scheduler.find("a")
        assert (before.last_slot, before.last_outcome, before.running) == (None, None, 0)
        await trio.sleep(62)
        during = scheduler.find("a")
        await trio.sleep(10)
        after = scheduler.find("a")
        assert scheduler.jobs == (after,)
    minute = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert (during.last_slot, during.last_outcome, during.running) == (minute, None, 1)
    assert (after.last_outcome, after.running, after.state) == ("ok", 0, "active")
    assert after.next_slot == minute + timedelta(minutes=1)
    assert before.last_slot is None
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        after.running = 5
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        after.job.overlap = "allow"


async def test_job_without_slots_left_is_finished(autojump_clock, clock, diary):
    """It stays on the list."""
    job = Job("once", At(datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)), diary.work)
    async with Scheduler([job], clock=clock) as scheduler:
        assert scheduler.find("once").state == "active"
        await trio.sleep(100)
        assert (scheduler.find("once").state, scheduler.find("once").next_slot) == (
            "finished",
            None,
        )
    assert diary.slots == ["00:00:05"]


# --- before, after, two of them ------------------------------------------------------------


@pytest.mark.conforms("SCHED-092")
async def test_control_of_one_that_does_not_run(autojump_clock, clock, diary):
    """Before the start and after the stop every request says so."""
    scheduler = Scheduler([Job("a", SECONDLY, diary.work)], clock=clock, name="nightly")
    for word in ("new", "stopped"):
        expected = pytest.raises(NotRunning, match=f"<Scheduler 'nightly' {word}> is not running")
        with expected:
            scheduler.find("a")
        with expected:
            print(scheduler.jobs)
        for ask in (
            scheduler.add(Job("b", SECONDLY, diary.work)), scheduler.delete("a"),
            scheduler.delete_all(), scheduler.activate("a"), scheduler.deactivate("a"),
            scheduler.update("a", timeout=1), scheduler.run_job("a"),
        ):  # fmt: skip
            with expected:
                await ask
        async with scheduler:
            await trio.lowlevel.checkpoint()


@pytest.mark.conforms("SCHED-092")
async def test_two_schedulers(autojump_clock, clock, diary):
    """Share nothing; of one name they cannot be children of one supervisor."""
    one, two = Scheduler(clock=clock, name="jobs"), Scheduler(clock=clock, name="jobs")
    async with one, two:
        await one.add(Job("a", SECONDLY, diary.work))
        assert (len(one.jobs), len(two.jobs)) == (1, 0)
    with pytest.raises(DuplicateChild, match="'jobs'"):
        Supervisor([ChildSpec(one), ChildSpec(two)])


# --- where -------------------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-093")
@pytest.mark.reports("quantum-core#478", "quantum-core#543", "quantum-core#624")
async def test_where_a_run_goes(autojump_clock, clock):
    """To the scheduler's supervisor, that of the job, one of several at random, or all; once is once."""
    homes = []

    async def note():
        homes.append((current_process().name, current_process()._path()[-2]))

    one, two, three = (TaskSupervisor(name=name) for name in ("one", "two", "three"))
    jobs = [
        Job("default", MINUTELY, note),
        Job("its own", MINUTELY, note, where=two),
        Job("random", MINUTELY, note, where=OnOneOf(one, two, three)),
        Job("all", MINUTELY, note, where=OnAllOf(one, two, three)),
    ]
    async with one, two, three, Scheduler(jobs, clock=clock, supervisor=one):
        await trio.sleep(30 * 60 + 1)
    places = {name: [home for job, home in homes if job == name] for name, _ in homes}
    assert places["default"] == ["one"] * 30
    assert places["its own"] == ["two"] * 30
    assert len(places["random"]) == 30
    assert set(places["random"]) == {"one", "two", "three"}
    assert sorted(places["all"]) == sorted(["one", "two", "three"] * 30)


@pytest.mark.conforms("SCHED-093")
async def test_supervisor_that_cannot_take_a_run(autojump_clock, clock, events, diary):
    """One that is dead or full is passed over, which is told; if none is left the slot is skipped."""
    alive, dead, full = TaskSupervisor(), TaskSupervisor(), TaskSupervisor(max_children=1)
    jobs = [
        Job("one", MINUTELY, diary.work, where=OnOneOf(dead, full, alive)),
        Job("all", MINUTELY, diary.work, where=OnAllOf(dead, alive)),
        Job("none", MINUTELY, diary.work, where=dead),
    ]
    async with alive, full, Scheduler(jobs, clock=clock) as scheduler:
        full.start_child(trio.sleep, 10_000)
        await trio.sleep(20 * 60 + 1)
        with pytest.raises(NotRunning, match="job 'none' has no supervisor that can take a run"):
            await scheduler.run_job("none")
        await full.stop()
    passed = {(event.job, event.supervisor) for event in events.of(SupervisorPassedOver)}
    assert passed == {("one", dead), ("one", full), ("all", dead), ("none", dead)}
    counts = {name: sum(run.job == name for run in diary.runs) for name in ("one", "all", "none")}
    assert counts == {"one": 20, "all": 20, "none": 0}
    assert [event.reason for event in events if getattr(event, "reason", None)] == [
        "no_supervisor"
    ] * 21


@pytest.mark.conforms("SCHED-093")
@pytest.mark.real
async def test_thread():
    """A plain function is called in a worker thread, and knows its run there."""
    clock = SettableClock()
    ids = []

    def plain(number):
        ids.append((number, current_run().job))
        return number

    async with Scheduler([Job("t", Cron("@hourly"), plain, 5, thread=True)], clock=clock) as s:
        assert await (await s.run_job("t")) == 5
    assert ids == [(5, "t")]


# --- what is added to a storage of one's own ----------------------------------------------------


async def test_jobs_by_default_are_remembered_by_the_handle(autojump_clock, clock, diary):
    """After a stop and a new start, jobs that were added are there, and what went by is made up for once."""
    scheduler = Scheduler(clock=clock)
    async with scheduler:
        await scheduler.add(Job("a", MINUTELY, diary.work))
        await trio.sleep(61)
    await trio.sleep(300)
    async with scheduler:
        await trio.sleep(1)
        await scheduler.delete_all()
    assert diary.slots == ["00:01:00", "00:06:00"]
    async with scheduler:
        assert scheduler.jobs == ()


async def test_storage_is_shared(autojump_clock, clock, diary):
    """Another handle with the same storage has the same jobs."""
    storage = MemoryStorage()
    async with Scheduler(clock=clock, storage=storage) as scheduler:
        await scheduler.add(Job("a", MINUTELY, diary.work))
    async with Scheduler(clock=clock, storage=storage) as scheduler:
        assert [job.name for job in scheduler.jobs] == ["a"]
