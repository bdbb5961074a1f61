"""Jobs in a file: what comes back, what is refused, what a crash leaves."""

import functools
import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_otp import (
    At,
    BadJobFile,
    Cron,
    Every,
    Jitter,
    Job,
    MemoryStorage,
    Schedule,
    Scheduler,
    SQLiteStorage,
    StoredJob,
    TaskSupervisor,
)
from trio_otp.testing import SettableClock, cancel_everywhere

pytestmark = pytest.mark.real  # worker threads write and read

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


async def work(*args):
    """Be a function that can be found by its name."""


def agree(*args):
    return True


def plain(*args):
    pass


class Holder:
    """Where a function may stand as well."""

    @staticmethod
    async def work(*args):
        pass

    async def method(self):
        pass


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.db"


def stored(job=None, name="a", active=None, last_slot=NOON):
    return StoredJob(name=job.name if job else name, job=job, active=active, last_slot=last_slot)


def fields(job):
    return attrs.asdict(job, recurse=False)


# --- there and back -----------------------------------------------------------------------


JOBS = [
    Job("plain", Cron("*/5 * * * *"), work),
    Job("cron", Cron("0 2 * * MON#2", timezone="Europe/Berlin", dst="wall", day_rule="and", jitter=5), work),
    Job("utc", Cron("@daily", timezone="UTC", jitter=Jitter(5, stable=True)), work),
    Job("offset", Cron("@daily", timezone=timezone(timedelta(hours=2, minutes=30))), work),
    Job("reboot", Cron("@reboot"), work),
    Job("every", Every(90, mode="delay", initial_delay=0, jitter=3), work),
    Job("at", At(NOON + timedelta(microseconds=1)), work),
    Job("args", Every(1), work, 1, 2.5, "ü", None, b"\x00", [1, (2, {3})], {"k": frozenset({1})}),
    Job("holder", Every(1), Holder.work),
    Job("thread", Every(1), plain, thread=True),
    Job(
        "options", Every(1), work, when=agree, overlap="replace", timeout=5, catch_up="all", catch_up_limit=7,
        misfire_grace=60, ack="after", active=False, shutdown="brutal_kill",
    ),
    Job("no limits", Every(1), work, shutdown=None),
]  # fmt: skip


@pytest.mark.conforms("SCHED-163")
async def test_there_and_back(path):
    """Every option of a job comes back, in the order in which they were stored."""
    storage = SQLiteStorage(path)
    for job in JOBS:
        await storage.put(stored(job))
    loaded = await SQLiteStorage(str(path)).load()
    assert [one.name for one in loaded] == [job.name for job in JOBS]
    for one, job in zip(loaded, JOBS, strict=True):
        assert fields(one.job) == fields(job)
        assert (one.active, one.last_slot) == (None, NOON)
        assert one.last_slot.tzinfo is UTC


MOMENTS = st.datetimes(timezones=st.just(UTC))
NAMES = st.sampled_from(["a", "b", "ü\n"])
STEPS = st.one_of(
    st.tuples(
        st.just("put"),
        st.builds(
            lambda name, job, active, last: StoredJob(
                name=name, job=job and Job(name, Every(1), work, job), active=active, last_slot=last
            ),
            NAMES,
            st.none() | st.integers(1, 3),
            st.none() | st.booleans(),
            st.none() | MOMENTS,
        ),
    ),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("set_state"), NAMES, st.booleans(), MOMENTS),
    st.tuples(st.just("set_last_slot"), NAMES, MOMENTS),
    st.tuples(st.just("purge")),
)


@pytest.mark.conforms("SCHED-163")
@given(steps=st.lists(STEPS, max_size=8))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_file_and_memory_agree(tmp_path_factory, steps):
    """Whatever is done, both remember the same."""

    async def both():
        file, memory = SQLiteStorage(tmp_path_factory.mktemp("jobs") / "jobs.db"), MemoryStorage()
        for method, *args in steps:
            for storage in (file, memory):
                await getattr(storage, method)(*args)
        return [[plainly(one) for one in await storage.load()] for storage in (file, memory)]

    on_file, in_memory = trio.run(both)
    assert on_file == in_memory


def plainly(one):
    return (one.name, one.job and fields(one.job), one.active, one.last_slot)


# --- refused ------------------------------------------------------------------------------


class Mine(Schedule):
    def next_after(self, moment):
        return moment + MINUTE

    def last_before(self, moment):
        return moment - MINUTE


async def inner():
    async def local():
        pass

    return local


UNSTORABLE = [
    (lambda: Job("a", Mine(), work), "schedule must be a Cron, an Every or an At"),
    (
        lambda: Job("a", Every(1), functools.partial(work, 1)),
        "fn must be a function that can be imported by its name",
    ),
    (
        lambda: Job("a", Every(1), Holder().method),
        "fn must be a function that can be imported by its name, got Holder.method",
    ),
    (
        lambda: Job("a", Every(1), trio.run(inner)),
        "fn must be a function that can be imported by its name",
    ),
    (
        lambda: Job("a", Every(1), work, when=lambda: True),
        "when must be a function that can be imported",
    ),
    (lambda: Job("a", Every(1), work, object()), "is of type object"),
    (lambda: Job("a", Every(1), work, where=TaskSupervisor()), "where must be None"),
    (
        lambda: Job("a", Cron("@daily", timezone=nameless()), work),
        "timezone must be one that has a name",
    ),
]


def nameless():
    with Path("/usr/share/zoneinfo/Europe/Berlin").open("rb") as file:
        return ZoneInfo.from_file(file)


@pytest.mark.parametrize(("make", "words"), UNSTORABLE, ids=[words for _, words in UNSTORABLE])
def test_unstorable(path, make, words):
    """What has no text is refused before anything is written."""
    if "timezone" in words and not Path("/usr/share/zoneinfo/Europe/Berlin").exists():
        pytest.skip("this system has no files of zones")
    job = make()

    async def put():
        storage = SQLiteStorage(path)
        with pytest.raises(TypeError, match="job 'a' cannot be stored: ") as caught:
            await storage.put(stored(job))
        assert words in str(caught.value)

    trio.run(put)
    assert not path.exists()


async def test_unstorable_job_is_not_added(path):
    """One that the program lists may be anything."""

    async def local():
        pass

    async with Scheduler([Job("listed", Mine(), local)], storage=SQLiteStorage(path)) as scheduler:
        with pytest.raises(TypeError, match="job 'more' cannot be stored"):
            await scheduler.add(Job("more", Every(5), local))
        assert [job.name for job in scheduler.jobs] == ["listed"]
    async with Scheduler([Job("listed", Mine(), local)], storage=SQLiteStorage(path)):
        pass


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (5, TypeError, "path must be a string or a path of one, got 5"),
        (b"jobs.db", TypeError, "path must be a string"),
        ("", ValueError, "path must name a file, got ''"),
        (":memory:", ValueError, "got ':memory:': see MemoryStorage"),
    ],
)
def test_bad_path(bad, error, words):
    """Is refused at once."""
    with pytest.raises(error) as caught:
        SQLiteStorage(bad)
    assert words in str(caught.value)


# --- damaged --------------------------------------------------------------------------------


async def written(path):
    storage = SQLiteStorage(path)
    for number in range(200):
        await storage.put(stored(Job(f"job {number}", Every(1), work)))
    return storage


def change(path, sql, *values):
    with sqlite3.connect(path) as db:
        db.execute(sql, values)
    db.close()


DAMAGES = {
    "no database": lambda path: path.write_bytes(b"jobs? " * 1000),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "overwritten": lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(16_384)),
    "another version": lambda path: change(path, "PRAGMA user_version = 2"),
    "another's": lambda path: change(path, "PRAGMA application_id = 0"),
    "no JSON": lambda path: change(path, "UPDATE jobs SET job = '{' WHERE name = 'job 7'"),
    "no job": lambda path: change(path, "UPDATE jobs SET job = '{}' WHERE name = 'job 7'"),
    "no date": lambda path: change(path, "UPDATE jobs SET last_slot = 'noon' WHERE name = 'job 7'"),
    "no table": lambda path: change(path, "ALTER TABLE jobs RENAME TO old"),
}


@pytest.mark.conforms("SCHED-163")
@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_file(path, damage):
    """Is reported by its name, and never taken for empty; the scheduler does not start."""
    storage = await written(path)
    DAMAGES[damage](path)
    before = path.read_bytes()
    with pytest.raises((BadJobFile, sqlite3.OperationalError)) as caught:
        async with Scheduler(storage=storage):
            raise AssertionError("it must not start")
    text = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert "jobs.db" in text
    assert path.read_bytes() == before


async def test_folder_that_is_not_there(tmp_path):
    """The error names the file."""
    storage = SQLiteStorage(tmp_path / "nowhere" / "jobs.db")
    with pytest.raises(sqlite3.OperationalError) as caught:
        await storage.load()
    assert "nowhere/jobs.db" in caught.value.__notes__[0]


async def test_function_that_is_gone(path, clock_at_noon, caplog):
    """Its job is not lost, and keeps nobody else from running: it fails at its slots until it is updated."""
    storage = SQLiteStorage(path)
    for name in ("gone", "there"):
        await storage.put(stored(Job(name, Cron("@hourly"), work)))
    renamed = (
        f"UPDATE jobs SET job = replace(job, '{__name__}:work', 'no_such:work') WHERE name = 'gone'"
    )
    change(path, renamed)
    async with Scheduler(storage=storage, clock=clock_at_noon) as scheduler:
        assert {job.name: job.state for job in scheduler.jobs} == {
            "gone": "active",
            "there": "active",
        }
        with pytest.raises(
            LookupError, match="the function no_such:work of a stored job cannot be used"
        ):
            await (await scheduler.run_job("gone"))
        await (await scheduler.run_job("there"))
        await scheduler.update("gone", timeout=5)  # what is not known about it stays
        await scheduler.update("gone", fn=work)
        await (await scheduler.run_job("gone"))
    (again, _) = await storage.load()
    assert (again.job.fn, again.job.timeout) == (work, 5)


# --- with a scheduler ------------------------------------------------------------------------


@pytest.fixture
def clock_at_noon():
    return SettableClock(NOON)


@attrs.define
class Program:
    """A program that can die and be started again: a clock, a file, and what its jobs did."""

    storage: object
    clock: SettableClock
    ran: list = attrs.Factory(list)
    began: trio.Event = attrs.Factory(trio.Event)

    async def job(self):
        self.ran.append(self.clock.now())
        self.began.set()

    def scheduler(self, jobs=()):
        return Scheduler(jobs, clock=self.clock, storage=self.storage)


@pytest.fixture(params=["file", "memory"])
def program(request, path, clock_at_noon):
    storage = SQLiteStorage(path) if request.param == "file" else MemoryStorage()
    return Program(storage, clock_at_noon)


async def settled():
    """Let worker threads and loops come to rest."""
    for _ in range(3):
        await trio.sleep(0.02)


@pytest.mark.conforms("SCHED-164", "SCHED-048")
@pytest.mark.reports("quantum-core#441", "quantum-core#413", "fcron#31")
async def test_three_days_down(program):
    """One run for each job, not thousands (Quantum replays all); a restart after that makes none."""
    minutely = Job("old", Cron("* * * * *"), program.job)
    async with program.scheduler([minutely]):
        pass
    program.clock.jump(timedelta(days=3))
    new = Job("new", Cron("* * * * *"), program.job)
    async with program.scheduler([minutely, new]) as scheduler:
        await settled()
        assert len(program.ran) == 1
        assert scheduler.find("new").last_slot is None
    async with program.scheduler([minutely, new]):
        await settled()
    assert len(program.ran) == 1


class Crash(BaseException):
    """The program dies."""


@pytest.mark.conforms("SCHED-165")
@pytest.mark.parametrize(("ack", "runs"), [("before", 0), ("after", 1)])
async def test_crash_between_the_mark_and_the_run(program, ack, runs, monkeypatch):
    """At most once: the slot is over. At least once: it is run after the restart."""
    job = Job("a", Cron("@hourly"), program.job, ack=ack)
    storage = program.storage
    async with program.scheduler([job]):
        pass
    program.clock.jump(3600)
    kind = type(storage)
    real = kind.set_last_slot

    async def dies(self, name, last_slot, /):
        await real(self, name, last_slot)
        raise Crash

    async def dies_before(*_):
        raise Crash

    if ack == "before":
        monkeypatch.setattr(kind, "set_last_slot", dies)
    else:
        job = job.changed(fn=dies_before)
    with pytest.raises(Crash):
        async with program.scheduler([job]):
            await trio.sleep(5)
    monkeypatch.undo()
    async with program.scheduler([job.changed(fn=program.job)]):
        await settled()
    assert len(program.ran) == runs


@pytest.mark.conforms("SCHED-165")
@pytest.mark.parametrize(("ack", "runs"), [("before", 1), ("after", 2)])
async def test_crash_between_the_run_and_its_end(program, ack, runs):
    """The other side of the same: what has begun counts, or only what has ended."""

    async def job():
        await program.job()
        if len(program.ran) == 1:
            await trio.sleep_forever()

    listed = [Job("a", Cron("@hourly"), job, ack=ack)]
    async with program.scheduler(listed):
        pass
    program.clock.jump(3600)
    async with trio.open_nursery() as nursery:
        await nursery.start(program.scheduler(listed).run)
        await program.began.wait()
        nursery.cancel_scope.cancel()
    async with program.scheduler(listed):
        await settled()
    assert len(program.ran) == runs


@pytest.mark.conforms("SCHED-103")
async def test_slot_during_the_end_is_made_up_for(program):
    """After the restart."""
    job = Job("a", Cron("@hourly"), program.job)
    scheduler = program.scheduler([job])
    async with scheduler:
        program.clock.jump(3600)  # nobody has looked yet
        await scheduler.stop()
    assert program.ran == []
    async with program.scheduler([job]):
        await settled()
    assert len(program.ran) == 1


@pytest.mark.parametrize("ack", ["before", "after"])
async def test_skipped_slots_are_settled(autojump_clock, ack):
    """A slot that was skipped during a run is not made up for after a restart in peace."""
    program = Program(MemoryStorage(), SettableClock(NOON))

    async def job():
        await program.job()
        await trio.sleep(150)

    listed = [Job("a", Cron("* * * * *"), job, ack=ack, catch_up="all")]
    async with program.scheduler(listed):
        await trio.sleep(215)  # a run from the first minute on; the second and third are skipped
    (stored_one,) = await program.storage.load()
    assert stored_one.last_slot == NOON + 3 * MINUTE
    async with program.scheduler(listed):
        await trio.sleep(1)
    assert len(program.ran) == 1


@pytest.mark.conforms("SCHED-166")
@pytest.mark.parametrize(("policy", "seconds"), [("stored", 20), ("config", 10), ("error", None)])
async def test_listed_and_stored(path, clock_at_noon, policy, seconds, caplog):
    """Which definition counts is a matter of a policy, and is logged; a job that was only listed is no conflict."""
    listed = [Job("a", Every(10), work), Job("only listed", Every(10), work)]
    options = {"storage": SQLiteStorage(path), "clock": clock_at_noon, "on_conflict": policy}
    async with Scheduler(listed, **options) as scheduler:
        await scheduler.update("a", schedule=Every(20))
        await scheduler.deactivate("only listed")
    if policy == "error":
        with pytest.raises(ValueError, match="job 'a' is listed in code, and stored"):
            async with Scheduler(listed, **options):
                raise AssertionError("it must not start")
        return
    with caplog.at_level("INFO"):
        for _ in range(2):
            async with Scheduler(listed, **options) as scheduler:
                assert scheduler.find("a").job.schedule.seconds == seconds
                assert scheduler.find("only listed").state == "inactive"
    assert caplog.text.count(f"job 'a': the definition counts that is {policy}") == (
        2 if policy == "stored" else 1
    )


async def test_added_jobs_outlive_the_program(path, clock_at_noon):
    """As they were, switched off or not; those that are not listed any more are forgotten."""
    options = {"storage": SQLiteStorage(path), "clock": clock_at_noon}
    async with Scheduler([Job("listed", Every(9), work)], **options) as scheduler:
        await scheduler.add(Job("added", Cron("@daily"), work, 5))
        name = await scheduler.add(Job(None, Cron("@hourly"), work))
        await scheduler.deactivate(name)
    async with Scheduler(**options) as scheduler:
        assert [(job.name, job.state) for job in scheduler.jobs] == [
            ("added", "active"),
            (name, "inactive"),
        ]
        assert scheduler.find("added").job.args == (5,)
        await scheduler.delete("added")
    async with Scheduler(**options) as scheduler:
        assert [job.name for job in scheduler.jobs] == [name]
        await scheduler.delete_all()
    async with Scheduler(**options) as scheduler:
        assert scheduler.jobs == ()


@pytest.mark.reports("systemd#21166")
async def test_frequent_restarts_do_not_put_a_job_off(path, clock_at_noon):
    """A stable delay is the same after each start, so the start comes nearer and is reached."""
    job = Job("weekly", Cron("@hourly", jitter=Jitter(3000, stable=True)), work)
    starts = set()
    for _ in range(5):
        async with Scheduler([job], storage=SQLiteStorage(path), clock=clock_at_noon) as scheduler:
            track = scheduler._loop.held["weekly"].track
            starts.add(track.start)
            clock_at_noon.jump(600)
    assert len(starts) == 1


async def test_operations_that_are_cancelled(path):
    """Are done or not, never half, wherever that comes."""
    storage = SQLiteStorage(path)
    job = Job("a", Every(1), work)

    async def scenario():
        await storage.put(stored(job))
        await storage.set_state("a", False, NOON + MINUTE)
        await storage.set_last_slot("a", NOON + 2 * MINUTE)
        await storage.delete("a")

    async def check():
        states = [(one.active, one.last_slot) for one in await storage.load()]
        whole = [(None, NOON)], [(False, NOON + MINUTE)], [(False, NOON + 2 * MINUTE)], []
        assert states in whole
        await storage.purge()

    assert await cancel_everywhere(scenario, check) > 3


async def test_many_at_the_same_time(path):
    """Runs that begin together are all counted."""
    storage = SQLiteStorage(path)
    for number in range(20):
        await storage.put(stored(name=str(number)))
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(storage.set_last_slot, str(number), NOON + number * MINUTE)
    assert [one.last_slot for one in await storage.load()] == [NOON + n * MINUTE for n in range(20)]
