"""Supervisor: what it takes, how it starts, and how it restarts."""

import math
import random

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_supervisor import Bench, Boom, held, idle, recording, running
from trio_otp import (
    Agent,
    AlreadyRunning,
    Backoff,
    ChildSpec,
    DuplicateChild,
    Exit,
    ExitProcess,
    MaxChildren,
    Process,
    Restarting,
    RestartsExhausted,
    StartFailed,
    Supervisor,
    Task,
    TaskSupervisor,
    current_process,
    subscribe,
    trap_exit,
)


@pytest.fixture
def log():
    with recording() as log:
        yield log


# --- what it takes -----------------------------------------------------------------------


@pytest.mark.conforms("SUP-032", "SUP-033", "SUP-034", "SUP-035", "SUP-037", "SUP-052")
@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("strategy", "two_for_one", ValueError),
        ("strategy", None, ValueError),
        ("max_restarts", -1, ValueError),
        ("max_restarts", 1.5, TypeError),
        ("max_restarts", True, TypeError),
        ("max_seconds", 0, ValueError),
        ("max_seconds", -1, ValueError),
        ("max_seconds", math.nan, ValueError),
        ("max_seconds", "5", TypeError),
        ("auto_shutdown", "some", ValueError),
        ("name", 5, TypeError),
    ],
)
def test_wrong_option(option, value, error):
    """A wrong option is refused at once, by a message that names it and what was given."""
    with pytest.raises(error, match=rf"(?s){option}.*{value}"):
        Supervisor([idle], **{option: value})


@pytest.mark.conforms(
    "SUP-009", "SUP-011", "SUP-013", "SUP-017", "SUP-020", "SUP-021", "SUP-024", "SUP-025", "SUP-094"
)  # fmt: skip
@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: "other", TypeError, "process, a ChildSpec or an async function, got 'other'"),
        (lambda: 5, TypeError, "process, a ChildSpec or an async function, got 5"),
        (lambda: None, TypeError, "process, a ChildSpec or an async function, got None"),
        (lambda: Task, TypeError, "got the class"),
        (lambda: idle(), TypeError, "got the coroutine object"),
        (lambda: lambda: None, ValueError, "give it an id="),
        (lambda: ChildSpec(idle, id=[]), TypeError, "id must be hashable"),
        (lambda: ChildSpec(5), TypeError, "start must be a function, got 5"),
        (lambda: ChildSpec(Agent(dict), 1), TypeError, "takes no arguments here"),
        (lambda: ChildSpec(idle, restart="sometimes"), ValueError, "restart must be one of"),
        (lambda: ChildSpec(idle, shutdown=-1), ValueError, "shutdown must not be negative"),
        (lambda: ChildSpec(idle, shutdown=math.nan), ValueError, "shutdown must not be negative"),
        (lambda: ChildSpec(idle, shutdown="kill"), ValueError, "'brutal_kill', got 'kill'"),
        (lambda: ChildSpec(idle, significant=1), TypeError, "significant must be True or False"),
        (lambda: ChildSpec(idle, backoff=1), TypeError, "backoff must be a Backoff"),
        (lambda: ChildSpec(idle, start_timeout=-1), ValueError, "start_timeout must not be"),
        (
            lambda: ChildSpec(idle, significant=True, restart="temporary"),
            ValueError,
            "auto_shutdown is 'never'",
        ),
    ],
)
async def test_wrong_child(autojump_clock, make, error, says):
    """What cannot be a child is refused by a message that says why, and harms nothing."""
    with pytest.raises(error, match=says):
        Supervisor([make()])
    async with Supervisor([idle]) as sup:
        with pytest.raises(error, match=says):
            await sup.start_child(make())
        assert [info.status for info in sup.children] == ["running"]


@pytest.mark.conforms("SUP-025")
def test_significant_and_permanent():
    """A permanent child never ends for good, so it cannot be significant."""
    with pytest.raises(ValueError, match="significant and permanent"):
        Supervisor([ChildSpec(idle, significant=True)], auto_shutdown="any_significant")


@pytest.mark.conforms("SUP-015", "PEER-9")
async def test_duplicate_ids(autojump_clock):
    """Two children of one id are refused before any starts."""
    ran = []

    async def child():
        ran.append(1)

    for twice in ([child, child], [ChildSpec(child, id=7), ChildSpec(idle, id=7)]):
        with pytest.raises(DuplicateChild, match="have the id"):
            Supervisor(twice)
    agent = Agent(dict)
    with pytest.raises(DuplicateChild):
        Supervisor([agent, agent])
    assert not ran


@pytest.mark.conforms("SUP-014")
@pytest.mark.parametrize("twin", [1.0, True])
def test_equal_ids_are_one_id(twin):
    """Ids that are equal in Python are the same id, whatever their types."""
    with pytest.raises(DuplicateChild):
        Supervisor([ChildSpec(idle, id=1), ChildSpec(idle, id=twin)])


@pytest.mark.conforms("SUP-013")
async def test_any_hashable_is_an_id(autojump_clock):
    """Ids may be tuples, numbers, or the process itself; they are what requests take."""
    nameless, named = Agent(dict), Agent(dict, name="named")
    kids = [ChildSpec(idle, id=("shard", 1)), ChildSpec(idle, id=7), nameless, named, idle]
    async with Supervisor(kids) as sup:
        ids = [info.id for info in sup.children]
        assert ids == [("shard", 1), 7, nameless, "named", "idle"]
        for id in ids:
            await sup.terminate_child(id)


@pytest.mark.conforms("SUP-003", "SUP-004", "SUP-031", "SUP-093")
async def test_forms_of_a_child(autojump_clock):
    """Processes, specs and functions, with arguments or without, may be mixed in one list."""
    got = []

    async def child(*args):
        got.append(args)
        await trio.sleep_forever()

    async def bare():
        await child()

    kids = [bare, ChildSpec(child, 1, 2, id="spec"), Task(child, 3, name="task"), Agent(dict)]
    async with Supervisor(kids) as sup:
        await wait_all_tasks_blocked()
        assert sorted(got) == [(), (1, 2), (3,)]
        restarts = [info.restart for info in sup.children]
        assert restarts == ["permanent", "permanent", "temporary", "permanent"]


@pytest.mark.conforms("SUP-001", "SUP-002", "SUP-006", "SUP-007")
async def test_child_spec_of_a_supervisor(autojump_clock):
    """Its spec leaves open what was not given; changes replace single fields, in a new spec."""

    class Passing(Supervisor, restart="temporary"):
        pass

    sup = Passing([idle], name="inner")
    spec = sup.child_spec()
    assert (spec.id, spec.start, spec.restart, spec.shutdown) == ("inner", sup, None, "inherit")
    changed = sup.child_spec(id="other", shutdown=1)
    assert (changed.id, changed.restart, changed.shutdown) == ("other", None, 1)
    assert spec.id == "inner"
    with pytest.raises(TypeError, match="retsart"):
        sup.child_spec(retsart="permanent")
    async with Supervisor([sup, Supervisor(name="plain").child_spec(restart="transient")]) as outer:
        restarts = {info.id: (info.kind, info.restart) for info in outer.children}
        assert restarts["inner"] == ("supervisor", "temporary")
        assert restarts["plain"] == ("supervisor", "transient")


@pytest.mark.conforms("SUP-009", "SUP-012")
def test_child_spec_of_a_users_class():
    """What a user's child_spec raises comes out as it is; what it returns must be a spec."""

    class Broken(Supervisor):
        def child_spec(self, **changes):
            return self.nothing_of_that_name

    class Wrong(Supervisor):
        def child_spec(self, **changes):
            return {"id": 1}

    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        Supervisor([Broken()])
    with pytest.raises(TypeError, match="must return a ChildSpec"):
        Supervisor([Wrong()])


@pytest.mark.conforms("SUP-005")
def test_specs_are_checked_when_built():
    """A wrong spec is refused where it is written, not where it is used."""
    with pytest.raises(ValueError, match="restart"):
        Agent(dict).child_spec(restart="sometimes")


@pytest.mark.conforms("SUP-028", "SUP-026")
async def test_no_options_are_needed(autojump_clock, log):
    """The strategy is one_for_one unless another is chosen; it may have no children."""
    async with Supervisor() as sup:
        assert sup.children == ()
    async with running(log, "a b c") as bench:
        log.take()
        await bench.fall("b")
        assert log.take() == "-b:crashed +b"


@pytest.mark.conforms("SUP-022", "SUP-112", "SUP-114")
async def test_children_are_frozen_infos(autojump_clock, log):
    """`children` is a snapshot that counts can be taken from: by kind, and by who runs."""
    async with running(log, "w1 w2/transient w3") as bench:
        await bench.sup.start_child(Supervisor(name="sub"))
        await bench.fall("w2", "normal")
        await bench.sup.terminate_child("w3")
        infos = bench.sup.children
        assert len(infos) == 4
        assert sum(info.status == "running" for info in infos) == 2
        assert [info.kind for info in infos] == ["worker"] * 3 + ["supervisor"]
        assert [info.last_exit and info.last_exit.reason for info in infos] == [
            None, "normal", "shutdown", None,
        ]  # fmt: skip
        assert "w2" in repr(infos[1])
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            infos[0].status = "new"
    assert bench.sup.children == ()


@pytest.mark.conforms("SUP-021")
@pytest.mark.parametrize(("wrap", "took"), [(False, 5), (True, 60)])
async def test_default_shutdown(autojump_clock, wrap, took):
    """A worker has five seconds to stop, a supervisor as long as its children need."""

    async def slow():
        with trap_exit() as exiting:
            await exiting.wait()
            await trio.sleep(60)

    child = Supervisor([ChildSpec(slow, shutdown=None)]) if wrap else slow
    async with Supervisor([child]):
        await wait_all_tasks_blocked()
    assert trio.current_time() == took


@pytest.mark.conforms("SUP-036", "SUP-038")
async def test_names_are_labels(autojump_clock):
    """Two supervisors may bear one name; what is refused is running one handle twice."""
    sup = Supervisor(name="same")
    async with sup, Supervisor(name="same"):
        with pytest.raises(AlreadyRunning):
            await sup.run()
        with pytest.raises(AlreadyRunning):
            async with sup:
                raise AssertionError
        assert sup.status == "running"


# --- starting --------------------------------------------------------------------------------


@pytest.mark.conforms("SUP-039", "OBS-03")
async def test_ready_means_that_all_children_are(autojump_clock):
    """Nobody is told that it has started before its last child is ready."""
    order = []

    def child(name, seconds):
        async def live(*, task_status):
            await trio.sleep(seconds)
            order.append(name)
            task_status.started()
            await trio.sleep_forever()

        return ChildSpec(live, id=name)

    sup = Supervisor([child("slow", 3), child("quick", 0), child("medium", 1)])
    async with trio.open_nursery() as nursery:
        assert await nursery.start(sup.run) is sup
        assert order == ["slow", "quick", "medium"]
        assert trio.current_time() == 4
        nursery.cancel_scope.cancel()


@pytest.mark.conforms("OBS-04")
async def test_it_can_run_again(autojump_clock):
    """A supervisor that has ended can be started again, with its first children."""
    sup = Supervisor([idle])
    for _ in range(3):
        async with sup:
            await sup.start_child(Agent(dict))
            assert len(sup.children) == 2
        assert (sup.status, sup.children) == ("stopped", ())


@pytest.mark.conforms("CASE-13")
async def test_failure_is_not_hidden_by_a_start_that_it_ended(autojump_clock):
    """If a crash ends a start under way, the crash comes out and not the complaint about the start."""

    async def dies():
        await trio.sleep(1)
        raise ValueError("this caused it all")

    async def returns_unready(*, task_status):
        with trap_exit() as exiting:
            await exiting.wait()

    with pytest.raises(RestartsExhausted) as caught:
        async with Supervisor([dies, returns_unready], max_restarts=0):
            raise AssertionError
    assert isinstance(caught.value.__cause__, ValueError)
    assert trio.current_time() == 1


@pytest.mark.conforms("SUP-018")
async def test_returning_before_ready(autojump_clock):
    """A child with a task_status that returns without using it has failed to start."""

    async def forgot(*, task_status):
        await trio.lowlevel.checkpoint()

    with pytest.raises(StartFailed, match="ended before it was ready: normal"):
        async with Supervisor([forgot]):
            raise AssertionError


async def test_start_timeout_in_the_first_start(autojump_clock, log):
    """A child that is not ready in time fails the start; its cleanup is waited for."""
    cleaned = []

    async def never(*, task_status):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            cleaned.append(trio.current_time())

    with pytest.raises(StartFailed, match=r"SUP/never was not ready within 0.5 s") as caught:
        async with Supervisor([ChildSpec(never, id="never", start_timeout=0.5)], name="SUP"):
            raise AssertionError
    assert caught.value.id == "never"
    assert cleaned == [1.5]


async def test_start_timeout_of_a_restart(autojump_clock):
    """A restart that is not ready in time is one more restart in the budget."""
    starts = []

    async def once(*, task_status):
        starts.append(trio.current_time())
        if len(starts) == 1:
            task_status.started()
            raise Boom
        await trio.sleep_forever()

    spec = ChildSpec(once, id="once", start_timeout=2)
    with pytest.raises(RestartsExhausted, match="'once' 4x"):
        async with Supervisor([spec], max_seconds=60):
            await trio.sleep_forever()
    assert starts == [0, 0, 2, 4]


async def test_start_timeout_is_over_once_ready(autojump_clock):
    """The limit on a start does not touch a child that became ready in time."""

    async def child(*, task_status):
        await trio.sleep(0.4)
        task_status.started()
        await trio.sleep_forever()

    async with Supervisor([ChildSpec(child, id="child", start_timeout=0.5)]) as sup:
        await trio.sleep(10)
        assert [info.restarts for info in sup.children] == [0]


async def test_said_twice_that_it_started(autojump_clock):
    """Calling started() twice is a crash of the child that does it."""

    async def twice(*, task_status):
        task_status.started()
        task_status.started()

    with pytest.raises(RestartsExhausted) as caught:
        async with Supervisor([ChildSpec(twice, id="twice")], max_restarts=0):
            await trio.sleep_forever()
    assert "said twice" in str(caught.value.__cause__)


# --- restarting ------------------------------------------------------------------------------


@pytest.mark.conforms("SUP-040", "CASE-65")
async def test_restart_with_the_same_arguments_and_fresh_state(autojump_clock):
    """A restart calls the same function with the same arguments; other children are untouched."""
    got = []

    async def worker(shared, own):
        state = []
        state.append(own)
        got.append((shared, own, tuple(state)))
        await trio.sleep_forever()

    kids = [ChildSpec(worker, "shared", n, id=n) for n in range(3)]
    async with Supervisor(kids) as sup:
        await wait_all_tasks_blocked()
        sup.children[1].process.kill()
        await wait_all_tasks_blocked()
        assert sorted(got) == [("shared", n, (n,)) for n in (0, 1, 1, 2)]
        assert [info.restarts for info in sup.children] == [0, 1, 0]


async def test_new_life_waits_for_the_old_cleanup(autojump_clock):
    """The new life begins only when the cleanup of the old one has ended, and is the same handle."""
    events = []

    async def child():
        events.append(("start", trio.current_time()))
        try:
            await trio.sleep(1)
            raise Boom
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            events.append(("cleaned", trio.current_time()))

    async with Supervisor([child]) as sup:
        handle = sup.children[0].process
        await trio.sleep(4)
        assert events == [("start", 0), ("cleaned", 3), ("start", 3)]
        assert sup.children[0].process is handle


@pytest.mark.conforms("PEER-7")
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
async def test_interrupts_are_no_crashes(autojump_clock, log, restart, stop):
    """An interrupt or exit raised in a child passes out alone, and restarts nobody."""
    starts = []

    async def child():
        starts.append(1)
        await trio.sleep(1)
        raise stop

    bench = Bench(log)
    kids = [bench.spec("a"), ChildSpec(child, id="child", restart=restart), bench.spec("z")]
    with pytest.raises(type(stop)) as caught:
        async with Supervisor([Supervisor(kids, name="inner")], name="SUP"):
            await trio.sleep_forever()
    assert caught.value is stop
    assert len(starts) == 1
    text = log.take()
    assert text.index("-z:shutdown") < text.index("-a:shutdown") < text.index("-SUP")


@pytest.mark.conforms("SUP-067", "CASE-67")
async def test_own_time_limit_is_a_crash(autojump_clock):
    """A TooSlowError that a child lets out is a crash; an inner scope that was cancelled is nothing."""
    ends = []

    async def too_slow():
        await trio.sleep(1)
        with trio.fail_after(1):
            await trio.sleep_forever()

    async def gives_up_inside():
        with trio.move_on_after(1):
            await trio.sleep_forever()

    with subscribe(lambda event: ends.append(getattr(event, "exit", None))):
        kids = [ChildSpec(too_slow, restart="transient"), Task(gives_up_inside)]
        async with Supervisor(kids) as sup:
            await trio.sleep(2.5)
            assert [info.restarts for info in sup.children] == [1]
            assert sup.children[0].process.status == "running"
    reasons = [(end.reason, type(end.error)) for end in ends if end is not None]
    assert reasons[0] == ("normal", type(None))
    assert reasons[1] == ("crashed", trio.TooSlowError)


async def test_kept_cancelled_is_a_crash(autojump_clock):
    """A Cancelled that leaves a child nobody had cancelled is a crash, not a silent end."""

    async def keeps():
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept = error
        raise kept

    with pytest.raises(RestartsExhausted) as caught:
        async with Supervisor([ChildSpec(keeps, id="keeps")], max_restarts=0):
            await trio.sleep_forever()
    assert "kept and raised later" in str(caught.value.__cause__)
    assert isinstance(caught.value.__cause__.__cause__, trio.Cancelled)


@pytest.mark.conforms("SUP-070")
@pytest.mark.parametrize("grouped", [False, True])
async def test_exit_process_with_detail(autojump_clock, grouped):
    """`ExitProcess` ends a child with its reason and detail, also out of a nursery of its own."""

    async def child():
        if not grouped:
            raise ExitProcess("shutdown", "why")
        async with trio.open_nursery():
            raise ExitProcess("shutdown", "why")

    async with Supervisor([ChildSpec(child, restart="transient")]) as sup:
        exit = await sup.children[0].process.wait()
        await wait_all_tasks_blocked()
        assert (exit.reason, exit.detail) == ("shutdown", "why")
        assert sup.children[0].restarts == 0


async def test_exit_process_beside_a_crash(autojump_clock):
    """Of a group that mixes ExitProcess with errors, the errors are the crash."""

    async def child():
        raise BaseExceptionGroup("both", [ExitProcess("normal"), Boom("real")])

    with pytest.raises(RestartsExhausted) as caught:
        async with Supervisor([ChildSpec(child, id="c", restart="transient")], max_restarts=0):
            await trio.sleep_forever()
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert [str(error) for error in caught.value.__cause__.exceptions] == ["real"]


@pytest.mark.conforms("CASE-60", "SUP-075")
async def test_report_says_who_used_the_budget_up(autojump_clock):
    """The error of a spent budget names the limit and who spent it."""

    async def fails_once(name):
        if name not in failed:
            failed.add(name)
            raise Boom(name)
        await trio.sleep_forever()

    failed = set()
    kids = [ChildSpec(fails_once, n, id=f"child{n}") for n in range(5)]
    with pytest.raises(RestartsExhausted) as caught:
        async with Supervisor(kids, max_restarts=2, max_seconds=10, name="root"):
            await trio.sleep_forever()
    assert str(caught.value).startswith("'root' gave up: more than 2 restarts within 10 s: ")
    assert sum(f"'child{n}' 1x" in str(caught.value) for n in range(5)) == 3
    assert isinstance(caught.value.__cause__, Boom)


@pytest.mark.conforms("SUP-077", "OBS-02")
async def test_permanent_child_that_keeps_returning_fails_loudly(autojump_clock):
    """Spending the budget without a crash is an error that says so, never a peaceful end."""

    async def returns():
        pass

    with pytest.raises(RestartsExhausted, match="returns' 4x") as caught:
        async with Supervisor([returns]):
            await trio.sleep_forever()
    assert caught.value.__cause__ is None


@pytest.mark.conforms("CASE-61")
async def test_slow_loop_can_be_seen(autojump_clock):
    """A loop too slow for the budget goes on, and shows in events and in the restarts counted."""
    seen = []

    async def child():
        try:
            raise Boom
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)

    def hear(event):
        if isinstance(event, Restarting):
            seen.append((event.at, event.count))

    with subscribe(hear):
        async with Supervisor([child]) as sup:
            await trio.sleep(41)
            assert sup.children[0].restarts == 20
            assert seen == [(2.0 * n, n) for n in range(1, 21)]


@pytest.mark.conforms("CASE-63", "SUP-060", "SUP-065")
async def test_temporary_and_added_children_in_a_group(autojump_clock, log):
    """A temporary child's crash moves nobody; an added child's crash restarts the group without it."""
    async with running(log, "p t/temporary", strategy="one_for_all") as bench:
        await bench.sup.start_child(bench.spec("d"))
        log.take()
        await bench.fall("t")
        assert log.take() == "-t:crashed"
        await bench.fall("d")
        assert log.take() == "-d:crashed ?p -p:shutdown +p +d"


@pytest.mark.conforms("CASE-64")
async def test_count_does_not_drift(autojump_clock):
    """A child that crashed a hundred times still takes one place."""
    crash = trio.Semaphore(0)

    async def child():
        await crash.acquire()
        raise Boom

    async with TaskSupervisor(max_children=1, max_restarts=1000) as sup:
        process = sup.start_child(child, restart="permanent")
        for _ in range(100):
            crash.release()
            await wait_all_tasks_blocked()
            with pytest.raises(MaxChildren):
                sup.start_child(idle)
            assert len(sup.children) == 1
        await sup.terminate_child(process)


@pytest.mark.conforms("CASE-70", "SUP-071")
async def test_each_restart_leaves_a_trace(autojump_clock, caplog):
    """Each restart makes an event with path, error and count, and a log record one sees by default."""
    seen = []

    async def child():
        await trio.sleep(1)
        raise Boom(f"at {trio.current_time():g}")

    def hear(event):
        if isinstance(event, Restarting):
            seen.append(("/".join(event.path), str(event.exit.error), event.count))

    with subscribe(hear):
        async with Supervisor([ChildSpec(child, id="child")], name="root", max_seconds=0.5):
            await trio.sleep(5.5)
    assert seen == [("root/child", f"at {n}", n) for n in range(1, 6)]
    messages = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert messages == [f"root/child crashed: Boom: at {n}" for n in range(1, 6)]


@pytest.mark.conforms("SUP-071")
async def test_ends_that_are_logged(autojump_clock, log, caplog):
    """Abnormal ends and the restart of a child that merely ended are logged; clean ends are not."""
    kids = "p/permanent t/transient u/temporary v/temporary"
    async with running(log, kids) as bench:
        await bench.fall("t", "normal")
        await bench.fall("u", "shutdown")
        assert not caplog.records
        await bench.fall("v")
        await bench.fall("p", "normal")
    levels = [(record.levelname, record.message) for record in caplog.records]
    assert levels == [
        ("ERROR", "SUP/v crashed: Boom: v"),
        ("WARNING", "SUP/p ended (normal) and is restarted"),
    ]


@pytest.mark.conforms("SUP-072")
async def test_giving_up_leaves_bare_through_any_depth(autojump_clock):
    """The error of a supervisor that gave up leaves its block bare, from the last crash."""
    error = Boom("bottom")

    async def child():
        raise error

    with pytest.raises(RestartsExhausted) as caught:
        async with Supervisor([ChildSpec(child, id="c")], max_restarts=0, name="root"):
            await trio.sleep_forever()
    assert caught.value.__cause__ is error
    assert caught.value.__context__ is None


@pytest.mark.conforms("CASE-84")
async def test_thousand_nested_supervisors(autojump_clock, caplog):
    """A thousand levels fail one after the other into one short bare error, and leave nothing."""

    async def leaf():
        await trio.sleep(1)
        raise Boom("leaf")

    tree = ChildSpec(leaf, id="leaf")
    for level in range(1000):
        tree = Supervisor([tree], max_restarts=0, name=f"s{level}").child_spec()
    with pytest.raises(RestartsExhausted) as caught:
        async with tree.start:
            await trio.sleep_forever()
    assert len(str(caught.value)) < 200
    depth, error = 0, caught.value
    while error is not None and error.__cause__ is not None:
        depth, error = depth + 1, error.__cause__
    assert depth == 1000
    assert repr(error) == "Boom('leaf')"
    assert max(len(record.message) for record in caplog.records) < 20_000


# --- backoff ---------------------------------------------------------------------------------


@pytest.mark.conforms("CASE-57")
@pytest.mark.parametrize("jitter", [0.0, 0.2])
async def test_backoff_rides_out_a_storm(autojump_clock, log, jitter):
    """A child that fails for a while comes back after a few starts; its siblings are untouched."""
    starts = []

    async def flaky():
        starts.append(trio.current_time())
        if trio.current_time() < 3:
            raise Boom
        await trio.sleep_forever()

    bench = Bench(log, max_restarts=10)
    backoff = Backoff(0.1, factor=2, maximum=1, jitter=jitter)
    kids = [bench.spec("a"), ChildSpec(flaky, id="flaky", backoff=backoff), bench.spec("b")]
    async with Supervisor(kids, max_restarts=10, name="SUP") as sup:
        await trio.sleep(60)
        assert 5 <= len(starts) <= 8
        assert [info.restarts for info in sup.children] == [0, len(starts) - 1, 0]
    if not jitter:
        assert starts == pytest.approx([0, 0.1, 0.3, 0.7, 1.5, 2.5, 3.5])


@pytest.mark.conforms("CASE-58")
@pytest.mark.parametrize("how", ["stop", "leave", "cancel", "terminate"])
async def test_stop_ends_a_delay_at_once(autojump_clock, log, how):
    """A child that waits out its delay is never started again, and the stop does not wait for it."""
    async with running(log, "a", child={"backoff": Backoff(60)}) as bench:
        await bench.fall("a")
        assert bench["a"].status == "restarting"
        log.take()
        if how == "stop":
            await bench.sup.stop()
        elif how == "terminate":
            a = bench["a"]
            await bench.sup.terminate_child("a")
            assert (a.status, bench.which()) == ("stopped", "(a)")
            await trio.sleep(100)
    assert log.take() == "-SUP:shutdown"
    assert trio.current_time() == (100 if how == "terminate" else 0)


async def test_delays_grow_and_begin_anew(autojump_clock):
    """Delays grow from fall to fall, up to their maximum, until a life lasts max_seconds."""
    lives = [0, 0, 0, 0, 5, 0, 100]
    starts = []

    async def child():
        starts.append(trio.current_time())
        await trio.sleep(lives[len(starts) - 1])
        raise Boom

    spec = ChildSpec(child, id="c", backoff=Backoff(1, factor=3, maximum=5))
    async with Supervisor([spec], max_restarts=100, max_seconds=5):
        await trio.sleep(40)
    assert starts == [0, 1, 4, 9, 14, 20, 23]


async def test_group_waits_for_the_delay_of_the_one_that_fell(autojump_clock, log):
    """A group is stopped at once, and started after the delay of the child that fell."""
    async with running(log, strategy="one_for_all", max_restarts=9) as bench:
        for name, delay in [("a", 10), ("b", 3), ("c", 20)]:
            await bench.sup.start_child(bench.spec(name, backoff=Backoff(delay)))
        log.take()
        await bench.fall("b")
        assert log.take() == "-b:crashed ?c -c:shutdown ?a -a:shutdown"
        assert bench.which() == "(a) (b) (c)"
        assert {bench[name].status for name in "abc"} == {"restarting"}
        await trio.sleep(2.9)
        assert log.take() == ""
        await trio.sleep(0.2)
        assert log.take() == "+a +b +c"


async def test_group_of_a_second_fall_goes_by_its_own_delay(autojump_clock, log):
    """If one before a waiting group falls, its whole group starts by its delay; one behind waits too."""
    async with running(log, "a", strategy="rest_for_one", max_restarts=9) as bench:
        await bench.sup.start_child(bench.spec("c", backoff=Backoff(10)))
        log.take()
        await bench.fall("c")
        await bench.fall("a")
        assert log.take() == "-c:crashed -a:crashed +a +c"
        await bench.fall("c")
        await bench.sup.start_child(bench.spec("z"))
        log.take()
        await bench.fall("z")
        await trio.sleep(19)
        assert log.take() == "-z:crashed"
        await trio.sleep(2)
        assert log.take() == "+c +z"


@pytest.mark.conforms("OBS-12")
async def test_fall_during_another_ones_delay(autojump_clock, log):
    """A delay belongs to one child: others fall and come back meanwhile, and do not prolong it."""
    async with running(log, max_restarts=9) as bench:
        await bench.sup.start_child(bench.spec("slow", backoff=Backoff(10)))
        await bench.sup.start_child(bench.spec("quick"))
        await bench.fall("slow")
        log.take()
        await trio.sleep(6)
        await bench.fall("quick")
        assert log.take() == "-quick:crashed +quick"
        await trio.sleep(4.1)
        assert log.take() == "+slow"


async def test_first_start_is_not_retried(autojump_clock, log):
    """A backoff is for restarts: a first start that fails is not tried again."""
    bench = Bench(log, "a", {"a": "no"}, child={"backoff": Backoff(1)})
    with pytest.raises(StartFailed):
        async with bench.sup:
            raise AssertionError
    assert bench.probes["a"].attempts == 1


async def test_delay_of_a_restart_that_fails(autojump_clock, log):
    """A failed attempt is one more fall: the next delay is longer."""
    starts = {"a": "ok no no"}
    async with running(log, "a", starts, child={"backoff": Backoff(1)}, max_seconds=99) as bench:
        await bench.fall("a")
        log.take()
        await trio.sleep(1.1)
        assert log.take() == "!a"
        await trio.sleep(2)
        assert log.take() == "!a"
        await trio.sleep(4)
        assert log.take() == "+a"


async def test_restart_by_hand_during_a_delay(autojump_clock, log):
    """A child that waits for its delay is promised already: restart_child refuses."""
    async with running(log, "a", child={"backoff": Backoff(60)}) as bench:
        await bench.fall("a")
        with pytest.raises(AlreadyRunning, match="restarting"):
            await bench.sup.restart_child("a")
        with pytest.raises(AlreadyRunning, match="restarting"):
            bench.sup.delete_child("a")
        with pytest.raises(AlreadyRunning):
            await bench["a"].run()


async def test_call_waits_for_the_next_life(autojump_clock):
    """A call to an agent that waits out its delay is answered by the next life."""
    agent = Agent(lambda: 7)
    async with Supervisor([agent.child_spec(backoff=Backoff(2))]):
        agent.kill()
        await wait_all_tasks_blocked()
        assert agent.status == "restarting"
        assert await agent.get() == 7
        assert trio.current_time() == 2


# --- every option acts ------------------------------------------------------------------------


def kinds():
    """One child of each kind, named x, that can crash: how to build it, how to crash it."""
    gate = {}

    async def function():
        gate["event"] = trio.Event()
        await gate["event"].wait()
        raise Boom

    async def process():
        await function()

    def fall():
        gate["event"].set()

    inner = Supervisor([ChildSpec(function, id="inner")], max_restarts=0)
    return {
        "function": (ChildSpec, function, fall),
        "process": (ChildSpec, Task(process), fall),
        "supervisor": (ChildSpec, inner, fall),
    }


@pytest.mark.conforms("OBS-13")
@pytest.mark.parametrize("kind", ["function", "process", "supervisor"])
async def test_every_option_acts_for_every_kind_of_child(autojump_clock, kind):
    """restart, backoff, id and significant mean the same for functions, processes and supervisors."""
    make, start, fall = kinds()[kind]
    spec = make(start, id="x", restart="permanent", backoff=Backoff(7))
    async with Supervisor([spec]) as sup:
        await wait_all_tasks_blocked()
        fall()
        await wait_all_tasks_blocked()
        assert [(info.id, info.status) for info in sup.children] == [("x", "restarting")]
        await trio.sleep(7.1)
        assert [(info.status, info.restarts) for info in sup.children] == [("running", 1)]
    make, start, fall = kinds()[kind]
    spec = make(start, id="x", restart="temporary", significant=True)
    async with Supervisor([spec], auto_shutdown="any_significant") as sup:
        await wait_all_tasks_blocked()
        fall()
        assert (await sup.wait()).reason == "shutdown"


# --- where it runs ----------------------------------------------------------------------------


async def test_children_know_themselves(autojump_clock):
    """current_process() is the child inside it, and nothing outside."""
    seen = []

    async def child():
        seen.append(current_process())
        await trio.sleep_forever()

    async with Supervisor([child]) as sup:
        await wait_all_tasks_blocked()
        assert seen == [sup.children[0].process]
        assert current_process() is None


async def test_a_handle_has_one_supervisor(autojump_clock):
    """A child that has a home already fails the start of a second supervisor, which touches nothing."""
    agent = Agent(lambda: 1)
    other = Agent(lambda: 2)
    async with Supervisor([agent]):
        with pytest.raises(AlreadyRunning):
            async with Supervisor([other, agent]):
                raise AssertionError
        assert await agent.get() == 1
    async with Supervisor([other, agent]):
        assert await agent.get() == 1


async def test_restart_storm_lets_others_run(autojump_clock):
    """A child that fails at once for ever does not starve the rest of the program."""

    async def fails():
        raise Boom

    turns = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held, Supervisor([fails], max_restarts=500))
        while turns < 100:
            await trio.lowlevel.checkpoint()
            turns += 1
    assert turns == 100


async def test_exits_say_how_each_life_ended(autojump_clock, log):
    """The exit of a life is kept with the handle: reason, and the error if it crashed."""
    async with running(log, "a/plain") as bench:
        a = bench["a"]
        await bench.fall("a")
        assert isinstance(a.last_exit, Exit)
        assert (a.last_exit.reason, type(a.last_exit.error)) == ("crashed", Boom)
        assert isinstance(a, Process)
        await bench.fall("a", "killed")
        assert (a.last_exit.reason, a.last_exit.error) == ("killed", None)


@pytest.mark.conforms("SUP-075")
async def test_budget_under_random_falls(autojump_clock, log):
    """However falls are spread over children and time, the budget counts those in the window."""
    for seed in range(30):
        rand = random.Random(seed)
        async with running(log, "a b c", max_restarts=3, max_seconds=5) as bench:
            falls = []
            while bench.sup.status == "running":
                await trio.sleep(rand.choice([0, 0.4, 1.1, 2.3]))
                falls.append(trio.current_time())
                await bench.fall(rand.choice("abc"))
                recent = [at for at in falls if falls[-1] - at <= 5]
                assert (bench.sup.status == "running") == (len(recent) <= 3), seed
                if len(falls) > 40:
                    break
