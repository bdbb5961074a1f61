"""Jobs, guards, schedules, storages and subscribers that fail; what is refused before."""

import functools
import math
from datetime import datetime, timedelta

import pytest
import trio

from trio_otp import (
    Cron,
    Every,
    Job,
    JobErrored,
    JobFailed,
    JobSkipped,
    JobStarted,
    JobStopped,
    MemoryStorage,
    NotRunning,
    OnAllOf,
    OnOneOf,
    Place,
    Schedule,
    Scheduler,
    StorageFailed,
    Supervisor,
    subscribe,
)
from trio_otp.testing import SettableClock

SECONDLY = Cron("* * * * * *")


@pytest.fixture(autouse=True)
def quiet(caplog):
    """What the jobs of these tests raise belongs in the log."""
    return caplog


async def noop():
    pass


# --- jobs that fail ---------------------------------------------------------------------------


@pytest.mark.conforms("SCHED-070", "CASE-102")
@pytest.mark.reports("quantum-core#82", "quantum-core#86")
@pytest.mark.parametrize(
    "error",
    [KeyError("no"), ExceptionGroup("two", [KeyError("a"), ValueError("b")]), SystemExit(3)],
    ids=["error", "group", "exit"],
)
async def test_job_that_raises(autojump_clock, clock, events, diary, caplog, error):
    """Nobody else is hurt, the error is told and in the log, and the next slot has its run."""
    jobs = [Job("bad", SECONDLY, diary.fail, error), Job("good", SECONDLY, diary.work)]
    scheduler = Scheduler(jobs, clock=clock)
    async with Supervisor([scheduler]) as root:
        await trio.sleep(3.5)
        assert root.children[0].restarts == 0
        assert scheduler.find("bad").last_outcome == "error"
    failed = events.of(JobFailed)
    assert [event.job for event in failed] == ["bad"] * 3
    told = failed[0].error.__cause__ if isinstance(error, SystemExit) else failed[0].error
    assert type(told) is type(error)
    assert failed[0].error.__traceback__ is not None
    assert failed[0].duration == 0
    assert sum(run.job == "good" for run in diary.runs) == 3
    assert caplog.text.count("Scheduler/runs/bad crashed") == 3


@pytest.mark.conforms("SCHED-070")
async def test_exit_in_a_group(autojump_clock, clock, events):
    """Somebody's task within a job that calls exit() ends the job, not the program."""

    async def leave():
        raise SystemExit(1)

    async def job():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)

    async with Scheduler([Job("a", SECONDLY, job)], clock=clock):
        await trio.sleep(2.5)
    assert [str(event.error) for event in events.of(JobFailed)] == [
        "job 'a' raised SystemExit in a group"
    ] * 2


async def test_interrupt_goes_on(clock, autojump_clock):
    """Ctrl-C in a job ends the program, as anywhere."""

    async def job():
        raise KeyboardInterrupt

    with pytest.raises(BaseExceptionGroup) as caught:
        async with (
            trio.open_nursery() as nursery,
            Scheduler([Job("a", SECONDLY, job)], clock=clock),
        ):
            nursery.start_soon(trio.sleep, 10)
            await trio.sleep(20)
    assert caught.group_contains(KeyboardInterrupt)


@pytest.mark.conforms("SCHED-071")
@pytest.mark.reports("apscheduler#803", "apscheduler#834")
async def test_cancelled_jobs(autojump_clock, clock, events, diary):
    """One that cancels itself is done; one that others cancel is cancelled; neither has failed."""

    async def itself():
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.sleep(1)

    jobs = [
        Job("itself", Cron("@minutely"), itself),
        Job("others", Cron("@minutely"), diary.work, 20),
    ]
    async with Scheduler(jobs, clock=clock) as scheduler:
        task = await scheduler.run_job("others")
        await trio.sleep(1)
        await task.stop()
        await trio.sleep(60)
    outcomes = [(event.job, event.outcome) for event in events.of(JobStopped)]
    assert outcomes == [("others", "cancelled"), ("itself", "ok"), ("others", "cancelled")]
    assert not events.of(JobFailed)


# --- what belongs to others -----------------------------------------------------------------------


@pytest.mark.conforms("SCHED-072")
async def test_subscriber_that_raises(autojump_clock, clock, diary, caplog):
    """It is dropped and logged; all runs go on."""
    heard = []

    def handler(event):
        heard.append(event)
        raise KeyError("handler")

    with subscribe(handler):
        async with Scheduler([Job("a", SECONDLY, diary.work)], clock=clock):
            await trio.sleep(3.5)
    assert len(heard) == 1
    assert len(diary.runs) == 3
    assert "is dropped" in caplog.text


class BrokenStorage(MemoryStorage):
    """A storage that fails when it is told of a run."""

    async def set_last_slot(self, name, last_slot, /):
        raise OSError("disk full")


@pytest.mark.conforms("SCHED-073")
@pytest.mark.parametrize(("policy", "runs"), [("run", 3), ("skip", 0)])
@pytest.mark.parametrize("ack", ["before", "after"])
async def test_storage_that_fails(autojump_clock, clock, events, diary, caplog, policy, runs, ack):
    """It is told and logged, the loop lives, and whether the run takes place is an option."""
    job = Job("a", SECONDLY, diary.work, ack=ack)
    scheduler = Scheduler([job], clock=clock, storage=BrokenStorage(), on_storage_error=policy)
    async with scheduler:
        await trio.sleep(3.5)
    assert len(diary.runs) == (runs if ack == "before" else 3)
    assert [repr(event.error) for event in events.of(StorageFailed)] == ["OSError('disk full')"] * 3
    assert caplog.text.count("storage failed to count a slot of job 'a'") == 3


async def disk_full(*_):
    raise OSError("disk full")


async def test_change_that_cannot_be_stored(autojump_clock, clock, events, diary, monkeypatch):
    """Fails for who wants it, and is not made."""
    storage = MemoryStorage()
    async with Scheduler(
        [Job("a", SECONDLY, diary.work)], clock=clock, storage=storage
    ) as scheduler:
        before = scheduler.jobs
        for method in ("put", "delete", "set_state", "purge"):
            monkeypatch.setattr(MemoryStorage, method, disk_full)
        for ask in (
            scheduler.add(Job("b", SECONDLY, noop)), scheduler.update("a", timeout=1),
            scheduler.delete("a"), scheduler.delete_all(), scheduler.deactivate("a"),
        ):  # fmt: skip
            with pytest.raises(OSError, match="disk full"):
                await ask
        assert scheduler.jobs == before
        await trio.sleep(1.5)
    assert len(diary.runs) == 1
    assert [type(event) for event in events if hasattr(event, "job")] == [JobStarted, JobStopped]


@pytest.mark.conforms("SCHED-163")
async def test_storage_that_cannot_be_read(autojump_clock, clock):
    """Fails the start, with its own error: it is never taken for empty."""

    class Damaged(MemoryStorage):
        async def load(self):
            raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        async with Scheduler(clock=clock, storage=Damaged()):
            raise AssertionError("it must not start")


# --- schedules that fail ------------------------------------------------------------------------


class Odd(Schedule):
    """A schedule that goes wrong at the third question."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = 0

    def next_after(self, moment):
        self.asked += 1
        if self.asked < 3:
            return moment + timedelta(seconds=1)
        return self.answer(moment)

    def last_before(self, moment):
        return moment - timedelta(seconds=1)


def raise_error(moment):
    raise KeyError("schedule")


@pytest.mark.conforms("SCHED-075")
@pytest.mark.reports("node-cron#492")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (raise_error, "KeyError: 'schedule'"),
        (lambda moment: moment - timedelta(hours=1), "not later"),
        (lambda moment: moment, "not later"),
        (
            lambda moment: moment.replace(tzinfo=None) + timedelta(hours=1),
            "must be an aware datetime",
        ),
        (lambda moment: 5, "must be an aware datetime"),
    ],
    ids=["raises", "past", "same", "naive", "number"],
)
async def test_schedule_that_goes_wrong(
    autojump_clock, clock, events, diary, caplog, answer, words
):
    """Its job rests, and says so; nobody is kept busy, and all others go on."""
    jobs = [Job("odd", Odd(answer), diary.work), Job("good", SECONDLY, diary.work)]
    async with Scheduler(jobs, clock=clock) as scheduler:
        await trio.sleep(5.5)
        assert scheduler.find("odd").state == "errored"
        assert isinstance(scheduler.find("odd").error, Exception)
        assert scheduler.find("odd").next_slot is None
        assert jobs[0].schedule.asked == 3
        with pytest.raises((KeyError, ValueError, TypeError)):
            await scheduler.activate("odd")
        await scheduler.update("odd", schedule=Cron("@hourly"))
        assert scheduler.find("odd").state == "active"
    assert sum(run.job == "good" for run in diary.runs) == 5
    assert [event.job for event in events.of(JobErrored)] == ["odd"]
    assert "the schedule of job 'odd' has failed; it rests" in caplog.text
    assert words in caplog.text


@pytest.mark.conforms("SCHED-075")
async def test_schedule_that_contradicts_itself(autojump_clock, clock, events, diary):
    """What it says of the past must fit what it said of the future, when slots went by."""

    class Contradicting(Odd):
        def last_before(self, moment):
            return moment

    job = Job("odd", Contradicting(lambda moment: moment + timedelta(seconds=1)), diary.work)
    async with Scheduler([job], clock=clock, max_sleep=1) as scheduler:
        await trio.sleep(0.5)
        clock.jump(100)
        await trio.sleep(2)
        assert scheduler.find("odd").state == "errored"
    assert "does not agree with its next_after" in str(events.of(JobErrored)[0].error)


@pytest.mark.conforms("SCHED-075", "SCHED-013")
async def test_schedule_that_fails_at_once(autojump_clock, clock):
    """Is refused when it is added, and nothing has changed."""
    schedule = Odd(raise_error)
    schedule.asked = 9
    async with Scheduler(clock=clock) as scheduler:
        with pytest.raises(KeyError, match="schedule"):
            await scheduler.add(Job("odd", schedule, noop))
        assert scheduler.jobs == ()


class Lost(Place):
    """A strategy that does not know where to go."""

    def choose(self, random):
        raise KeyError("where")


@pytest.mark.conforms("SCHED-093")
async def test_strategy_that_fails(autojump_clock, clock, events, diary, caplog):
    """Costs its job this run, which is told; the scheduler goes on."""
    jobs = [Job("lost", SECONDLY, diary.work, where=Lost()), Job("good", SECONDLY, diary.work)]
    async with Scheduler(jobs, clock=clock) as scheduler:
        await trio.sleep(2.5)
        with pytest.raises(NotRunning, match="job 'lost' has no supervisor that can take a run"):
            await scheduler.run_job("lost")
        assert scheduler.find("lost").state == "active"
    assert {run.job for run in diary.runs} == {"good"}
    assert [repr(event.error) for event in events.of(JobErrored)] == ["KeyError('where')"] * 3
    assert [event.reason for event in events.of(JobSkipped)] == ["no_supervisor"] * 3
    assert "the choice of a supervisor for job 'lost' has failed" in caplog.text


async def test_times_beyond_all_calendars(autojump_clock, clock, diary):
    """An interval of millions of years is due once, at its beginning, and can be looked at."""
    job = Job("a", Every(1e15, initial_delay=0), diary.work)
    async with Scheduler([job], clock=clock) as scheduler:
        await trio.sleep(1)
        assert (scheduler.find("a").state, scheduler.find("a").next_slot) == ("active", None)
    assert len(diary.runs) == 1


async def test_jitter_of_a_schedule_of_ones_own(autojump_clock, clock, diary):
    """May be a number; what is none is refused when the job is added."""
    schedule = Odd(raise_error)
    schedule.asked, schedule.jitter = -10, 0.5
    async with Scheduler([Job("a", schedule, diary.work)], clock=clock) as scheduler:
        await trio.sleep(1.6)
        schedule.jitter = "much"
        with pytest.raises(TypeError, match="jitter must be a number of seconds"):
            await scheduler.add(Job("b", schedule, diary.work))
    assert len(diary.runs) == 1


class NaiveClock:
    """A clock that does not say where it is."""

    def now(self):
        return datetime(2026, 1, 1)


async def test_clock_without_a_zone(autojump_clock):
    """Is refused at the start."""
    with pytest.raises(ValueError, match=r"clock\.now\(\) must be an aware datetime"):
        async with Scheduler(clock=NaiveClock()):
            raise AssertionError("it must not start")


# --- refused ------------------------------------------------------------------------------------


def plain():
    pass


BAD_JOBS = [
    (
        ("a", None, noop),
        {},
        "schedule must be a Cron, an Every, an At or another Schedule, got None",
    ),
    (("a", "* * * * *", noop), {}, "got '* * * * *': try Cron(...)"),
    (("a", 60, noop), {}, "got 60: try Every(...)"),
    (("a", SECONDLY, None), {}, "fn must be a function, got None"),
    (
        ("a", SECONDLY, plain),
        {},
        "fn must be an async function, plain is none: write async def, or pass thread=True",
    ),
    (("a", SECONDLY, lambda: noop()), {}, "fn must be an async function"),
    (("a", SECONDLY, noop, 5), {}, "noop cannot be called so: too many positional arguments"),
    (
        ("a", SECONDLY, noop),
        {"thread": True},
        "with thread=True fn must be a plain function, noop is async",
    ),
    (("", SECONDLY, noop), {}, "name must not be empty"),
    ((5, SECONDLY, noop), {}, "name must be a string or None, got 5"),
    (
        ("a", SECONDLY, noop),
        {"overlap": False},
        "overlap must be one of 'allow', 'skip', 'replace', got False",
    ),
    (("a", SECONDLY, noop), {"timeout": 0}, "timeout must be more than 0 seconds, got 0"),
    (
        ("a", SECONDLY, noop),
        {"timeout": "5"},
        "timeout must be a number of seconds or None, got '5'",
    ),
    (("a", SECONDLY, noop), {"timeout": math.nan}, "timeout must not be negative, got nan"),
    (
        ("a", SECONDLY, noop),
        {"catch_up": "once"},
        "catch_up must be one of 'latest', 'all', 'none', got 'once'",
    ),
    (("a", SECONDLY, noop), {"catch_up_limit": 0}, "catch_up_limit must be at least 1, got 0"),
    (("a", SECONDLY, noop), {"misfire_grace": -1}, "misfire_grace must not be negative, got -1"),
    (("a", SECONDLY, noop), {"ack": "never"}, "ack must be one of 'before', 'after', got 'never'"),
    (("a", SECONDLY, noop), {"active": 1}, "active must be True or False, got 1"),
    (("a", SECONDLY, noop), {"when": 5}, "when must be a function, got 5"),
    (
        ("a", SECONDLY, noop),
        {"when": lambda x: True},
        "when is asked with the arguments of fn: ",
    ),
    (
        ("a", SECONDLY, noop),
        {"where": "here"},
        "where must be a TaskSupervisor, OnOneOf or OnAllOf, got 'here'",
    ),
    (
        ("a", SECONDLY, noop),
        {"shutdown": "never"},
        "shutdown must be seconds, None or 'brutal_kill', got 'never'",
    ),
]


@pytest.mark.conforms("SCHED-076")
@pytest.mark.parametrize(
    ("args", "options", "words"), BAD_JOBS, ids=[words for *_, words in BAD_JOBS]
)
def test_bad_job(args, options, words):
    """Is refused when it is made; the message names the option, what it takes and what it got."""
    with pytest.raises((TypeError, ValueError)) as caught:
        Job(*args, **options)
    assert words in str(caught.value)


@pytest.mark.conforms("SCHED-076")
def test_coroutine_object():
    """The common mistake has a message of its own."""
    with pytest.raises(TypeError, match="fn must be a function, got the coroutine object"):
        Job("a", SECONDLY, noop())


@pytest.mark.parametrize(
    "fn",
    [functools.partial(trio.sleep, 1), noop, trio.sleep_forever, type("C", (), {"__call__": noop})],
    ids=["partial", "function", "trio's", "callable"],
)
def test_async_in_disguise(fn):
    """What may well give a coroutine is taken."""
    assert Job("a", SECONDLY, fn).fn is fn


@pytest.mark.conforms("SCHED-076")
async def test_bad_job_leaves_nothing(autojump_clock, clock, diary):
    """Quantum's timeline dies of a job without schedule (Q3); here the scheduler never sees it."""
    async with Scheduler([Job("good", SECONDLY, diary.work)], clock=clock) as scheduler:
        with pytest.raises(TypeError, match="a job must be a Job"):
            await scheduler.add(noop)
        with pytest.raises(TypeError, match="schedule must be"):
            await scheduler.update("good", schedule=None)
        await trio.sleep(2.5)
        assert [job.name for job in scheduler.jobs] == ["good"]
    assert len(diary.runs) == 2


JOB = Job("a", SECONDLY, noop)
BAD_SCHEDULERS = [
    ({"jobs": [JOB, JOB]}, "jobs must have different names, got 'a' twice"),
    ({"jobs": [noop]}, "a job must be a Job, got"),
    ({"timezone": None}, "timezone must be a name, a ZoneInfo or a datetime.timezone, got None"),
    ({"timezone": "Mars/Base"}, "timezone must be a known zone, got 'Mars/Base'"),
    ({"clock": 5}, "clock must have a method now(), got 5"),
    ({"clock": SettableClock}, "clock must have a method now(), got"),
    ({"supervisor": Supervisor()}, "supervisor must be a TaskSupervisor, OnOneOf or OnAllOf"),
    ({"storage": {}}, "storage must have the methods of JobStorage, got {}"),
    ({"storage": "jobs.db"}, "got 'jobs.db': for a file, SQLiteStorage(path)"),
    ({"jobs": JOB}, "jobs must be an iterable of Jobs, got Job('a', Cron('* * * * * *'), noop)"),
    ({"on_conflict": "mine"}, "on_conflict must be one of 'stored', 'config', 'error', got 'mine'"),
    ({"on_storage_error": "raise"}, "on_storage_error must be one of 'run', 'skip', got 'raise'"),
    ({"max_concurrency": 0}, "max_concurrency must be at least 1, got 0"),
    ({"max_sleep": 0}, "max_sleep must be more than 0 seconds"),
    ({"grace": -1}, "grace must not be negative, got -1"),
    ({"manual": "yes"}, "manual must be True or False, got 'yes'"),
    ({"random": 5}, "random must be a random.Random, got 5"),
    ({"name": 5}, "name must be a string or None, got 5"),
]


@pytest.mark.conforms("SCHED-033")
@pytest.mark.parametrize(
    ("options", "words"), BAD_SCHEDULERS, ids=[words for _, words in BAD_SCHEDULERS]
)
def test_bad_scheduler(options, words):
    """Is refused when it is made."""
    with pytest.raises((TypeError, ValueError)) as caught:
        Scheduler(**options)
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", [OnOneOf, OnAllOf])
def test_bad_places(kind):
    """One supervisor at least, and nothing else."""
    with pytest.raises(ValueError, match="supervisors must be one or more"):
        kind()
    with pytest.raises(TypeError, match="supervisors must be TaskSupervisors, got"):
        kind(Supervisor())


def test_every_is_not_stored_as_a_shorthand():
    """A period is no schedule by itself."""
    with pytest.raises(TypeError, match="schedule must be a Cron"):
        Job("a", 60, noop)
    assert Job("a", Every(60), noop).schedule.seconds == 60
