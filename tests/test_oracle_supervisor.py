"""Scenarios that were run on the original: the same order of events here.

How events are written: tests/helpers_supervisor.py. Where the original says why a process
ended, ours has four words: a `boom` there is `crashed` here.
"""

import math
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_supervisor import Bench, Boom, Refused, held, recording, running
from trio_otp import (
    AlreadyRunning,
    ChildSpec,
    DuplicateChild,
    ExitProcess,
    Process,
    RestartsExhausted,
    StartFailed,
    Supervisor,
    TimedOut,
    UnknownChild,
)


@pytest.fixture
def log():
    with recording() as log:
        yield log


# --- start and stop order ----------------------------------------------------------------

DOWN_CBA = "?c -c:shutdown ?b -b:shutdown ?a -a:shutdown -SUP:shutdown"


@pytest.mark.conforms("SUP-016", "SUP-039", "SUP-113", "SUP-116", "SUP-117", "SUP-121")
async def test_stop_is_the_reverse_of_the_start(autojump_clock, log):
    """Children start in order and stop in reverse, those added later first; all see a shutdown."""
    async with running(log, "a b c") as bench:
        assert log.take() == "+a +b +c"
        await bench.sup.start_child(bench.spec("d"))
        assert bench.which() == "a b c d"
        log.take()
        await bench.sup.stop()
        assert log.take() == f"?d -d:shutdown {DOWN_CBA}"


@pytest.mark.conforms("SUP-044", "SUP-121", "SUP-142")
async def test_cancelled_outside_stops_in_reverse(autojump_clock, log):
    """Leaving the scope of a supervisor, by cancellation or in peace, is an ordered stop."""
    async with running(log, "a b c"):
        log.take()
    assert log.take() == DOWN_CBA
    async with Supervisor([], name="SUP"), running(log, "a b c", name="inner"):
        log.take()
    assert log.take() == DOWN_CBA.replace("SUP", "inner") + " -SUP:shutdown"


@pytest.mark.conforms("SUP-016", "SUP-039")
async def test_slow_start_holds_back_the_next(autojump_clock, log):
    """The start waits for each child to be ready, and so does the next child."""

    async def slow(*, task_status):
        await trio.sleep(5)
        task_status.started()
        await trio.sleep_forever()

    async with Supervisor([slow, trio.sleep_forever], name="SUP"):
        assert log.take() == f"+{slow.__qualname__} +sleep_forever"
        assert trio.current_time() == 5


# --- strategies --------------------------------------------------------------------------

ALL, REST, ONE = "one_for_all", "rest_for_one", "one_for_one"
MIXED = "a t/temporary c"
DONE = "a job/transient c"

# strategy, children, who falls how, what happens, who is there afterwards
STRATEGIES = [
    (ONE, "a b c d", "b crashed", "-b:crashed +b", "a b c d"),
    (ALL, "a b c d", "b crashed",
     "-b:crashed ?d -d:shutdown ?c -c:shutdown ?a -a:shutdown +a +b +c +d", "a b c d"),
    (REST, "a b c d", "b crashed", "-b:crashed ?d -d:shutdown ?c -c:shutdown +b +c +d", "a b c d"),
    # a temporary child in the middle
    (ONE, MIXED, "t crashed", "-t:crashed", "a c"),
    (ONE, MIXED, "a crashed", "-a:crashed +a", "a t c"),
    (ALL, MIXED, "t crashed", "-t:crashed", "a c"),
    (ALL, MIXED, "a crashed", "-a:crashed ?c -c:shutdown ?t -t:shutdown +a +c", "a c"),
    (REST, MIXED, "t crashed", "-t:crashed", "a c"),
    (REST, MIXED, "a crashed", "-a:crashed ?c -c:shutdown ?t -t:shutdown +a +c", "a c"),
    # a transient child that is done
    (ONE, DONE, "job normal, a crashed", "-job:normal -a:crashed +a", "a (job) c"),
    (ALL, DONE, "job normal, a crashed",
     "-job:normal -a:crashed ?c -c:shutdown +a +job +c", "a job c"),
    (REST, DONE, "job normal, a crashed",
     "-job:normal -a:crashed ?c -c:shutdown +a +job +c", "a job c"),
    # a permanent child that ends normally
    (ALL, "a b", "a normal", "-a:normal ?b -b:shutdown +a +b", "a b"),
]  # fmt: skip


@pytest.mark.conforms(
    "SUP-055", "SUP-056", "SUP-057", "SUP-058", "SUP-059", "SUP-060", "SUP-061", "SUP-069"
)
@pytest.mark.parametrize(("strategy", "kids", "falls", "events", "after"), STRATEGIES)
async def test_strategies(autojump_clock, log, strategy, kids, falls, events, after):
    """A death that calls for a restart stops and starts exactly those its strategy names."""
    async with running(log, kids, strategy=strategy) as bench:
        log.take()
        for fall in falls.split(", "):
            await bench.fall(*fall.split())
        assert log.take() == events
        assert bench.which() == after


@pytest.mark.conforms("SUP-062", "SUP-103")
@pytest.mark.parametrize(
    ("strategy", "events"),
    [
        (ALL, "-b:crashed ?d -d:shutdown ?a -a:shutdown +a +b +c +d"),
        (REST, "-b:crashed ?d -d:shutdown +b +c +d"),
    ],
)
async def test_group_restart_brings_back_who_was_terminated(autojump_clock, log, strategy, events):
    """A child terminated by hand is started again by a group restart that covers it."""
    async with running(log, "a b c d", strategy=strategy) as bench:
        await bench.sup.terminate_child("c")
        log.take()
        await bench.fall("b")
        assert log.take() == events
        assert bench.which() == "a b c d"


@pytest.mark.conforms("SUP-063")
async def test_group_restart_asks_who_declined(autojump_clock, log):
    """A child that declined its first start is asked again by a group restart."""
    async with running(log, "a i c", {"i": "ignore"}, strategy=ALL) as bench:
        assert log.take() == "+a !i +c"
        await bench.fall("a")
        assert log.take() == "-a:crashed ?c -c:shutdown +a +i +c"


@pytest.mark.conforms("SUP-066")
async def test_place_in_the_order(autojump_clock, log):
    """terminate and restart keep a child's place; deleting and adding it moves it to the end."""
    async with running(log, "a b c d", strategy=REST) as bench:
        await bench.sup.terminate_child("b")
        await bench.sup.restart_child("b")
        log.take()
        await bench.fall("c")
        assert log.take() == "-c:crashed ?d -d:shutdown +c +d"
        await bench.sup.terminate_child("b")
        bench.sup.delete_child("b")
        await bench.sup.start_child(bench.spec("b"))
        log.take()
        await bench.fall("c")
        assert log.take() == "-c:crashed ?b -b:shutdown ?d -d:shutdown +c +d +b"


@pytest.mark.conforms("SUP-065")
async def test_added_child_takes_part_in_group_restarts(autojump_clock, log):
    """A child added later is restarted with the group, at the end."""
    async with running(log, "a/plain", strategy=ALL) as bench:
        await bench.sup.start_child(bench.spec("late/plain"))
        log.take()
        await bench.fall("a")
        assert log.take() == "-a:crashed -late:shutdown +a +late"


@pytest.mark.conforms("SUP-064", "SUP-131")
@pytest.mark.parametrize("max_restarts", [1, 2])
async def test_deaths_absorbed_by_a_group_restart(autojump_clock, log, max_restarts):
    """Children that die before the supervisor has looked at the first death cost one restart."""
    kids = "a/plain b/plain c/plain d/plain"
    for _ in range(20):
        async with running(log, kids, strategy=ALL, max_restarts=max_restarts) as bench:
            log.take()
            bench.end("b")
            await bench.fall("c")
            assert {*log.events[:2]} == {"-b:crashed", "-c:crashed"}
            assert " ".join(log.events[2:]) == "-d:shutdown -a:shutdown +a +b +c +d"
        log.take()


@pytest.mark.conforms("SUP-064", "SUP-090")
async def test_deaths_count_one_by_one_without_a_group(autojump_clock, log):
    """With one_for_one each death is a restart of its own."""
    kids = "a/plain b/plain c/plain d/plain"
    async with running(log, kids, max_restarts=2) as bench:
        log.take()
        bench.end("b")
        await bench.fall("c")
        assert sorted(log.take().split()) == ["+b", "+c", "-b:crashed", "-c:crashed"]
    async with running(log, kids, max_restarts=1) as bench:
        log.take()
        bench.end("b")
        await bench.fall("c")
        assert bench.sup.status == "stopped"
        ups = [event for event in log.events if event.startswith("+")]
        assert len(ups) == 1
        assert log.take().endswith("-a:shutdown -SUP:crashed")


# --- restart types -----------------------------------------------------------------------

NORMAL_ENDS = ("normal", "shutdown")
ABNORMAL_ENDS = ("crashed", "killed")


@pytest.mark.conforms("SUP-067", "SUP-068", "SUP-069", "SUP-070")
@pytest.mark.parametrize("reason", [*NORMAL_ENDS, *ABNORMAL_ENDS])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_restart_type_by_reason(autojump_clock, log, restart, reason):
    """Permanent comes back always, transient after a crash or kill, temporary never."""
    back = restart == "permanent" or (restart == "transient" and reason in ABNORMAL_ENDS)
    async with running(log, f"c/{restart}/plain") as bench:
        log.take()
        await bench.fall("c", reason)
        assert log.take() == f"-c:{reason}" + (" +c" if back else "")
        assert bench.which() == ("c" if back else "(c)" if restart == "transient" else "")


# --- budget ------------------------------------------------------------------------------


async def crashes_survived(bench, ids):
    """Crash children in turn; give the number of the crash that ends the supervisor."""
    for number in range(1, 12):
        await bench.fall(ids[(number - 1) % len(ids)])
        if bench.sup.status == "stopped":
            return number
    return None


# children, options, who crashes in turn, the crash that is one too many
BUDGETS = [
    ("a", {"max_restarts": 0}, "a", 1),
    ("a", {"max_restarts": 1}, "a", 2),
    ("a", {"max_restarts": 3}, "a", 4),
    ("a", {}, "a", 4),
    ("a b c", {"max_restarts": 2}, "abc", 3),
    ("a b c", {"max_restarts": 2, "strategy": ALL}, "a", 3),
    ("a b c", {"max_restarts": 2, "strategy": REST}, "a", 3),
]


@pytest.mark.conforms("SUP-026", "SUP-027", "SUP-073", "SUP-074", "SUP-075", "SUP-076", "PEER-8")
@pytest.mark.parametrize(("kids", "options", "ids", "fatal"), BUDGETS)
async def test_crash_that_is_one_too_many(autojump_clock, log, kids, options, ids, fatal):
    """A supervisor makes max_restarts restarts for all its children, and ends at the next death."""
    async with running(log, kids, **options) as bench:
        assert await crashes_survived(bench, ids) == fatal


@pytest.mark.conforms("SUP-073", "SUP-079")
async def test_last_victim_is_not_started_again(autojump_clock, log):
    """Over budget the others stop in reverse order and the victim stays down."""
    async with running(log, "a/plain b/plain c/plain", max_restarts=2) as bench:
        log.take()
        assert await crashes_survived(bench, "abc") == 3
        assert log.take() == (
            "-a:crashed +a -b:crashed +b -c:crashed -b:shutdown -a:shutdown -SUP:crashed"
        )
    async with running(log, "a b c", max_restarts=0) as bench:
        log.take()
        await bench.fall("b")
        assert log.take() == "-b:crashed ?c -c:shutdown ?a -a:shutdown -SUP:crashed"


@pytest.mark.conforms("SUP-077")
async def test_normal_ends_of_a_permanent_child_count(autojump_clock, log):
    """A permanent child that keeps returning spends the budget."""
    async with running(log, "a", max_restarts=1) as bench:
        await bench.fall("a", "normal")
        assert bench.which() == "a"
        await bench.fall("a", "normal")
        assert bench.sup.status == "stopped"


@pytest.mark.conforms("SUP-078", "SUP-103")
async def test_what_costs_nothing(autojump_clock, log):
    """Ends of temporary children, clean ends of transient ones and manual bounces are free."""
    async with running(log, "keep job/transient", max_restarts=0) as bench:
        for n in range(3):
            await bench.sup.start_child(bench.spec(f"t{n}/temporary"))
            await bench.fall(f"t{n}")
            await bench.sup.terminate_child("keep")
            await bench.sup.restart_child("keep")
        await bench.fall("job", "normal")
        assert bench.sup.status == "running"
        assert bench.which() == "keep (job)"


@pytest.mark.conforms("SUP-080")
@pytest.mark.parametrize(("apart", "survives"), [(0.3, False), (1.0, False), (1.01, True)])
async def test_window_slides(autojump_clock, log, apart, survives):
    """A restart counts for max_seconds, both ends included."""
    async with running(log, "a", max_restarts=1, max_seconds=1) as bench:
        await bench.fall("a")
        await trio.sleep(apart)
        await bench.fall("a")
        assert (bench.sup.status == "running") == survives


# --- restarts that fail to start -----------------------------------------------------------


@pytest.mark.conforms("SUP-083", "SUP-084")
@pytest.mark.parametrize(
    ("max_restarts", "fates", "events"),
    [
        (0, "ok no", "-a:crashed -SUP:crashed"),
        (1, "ok no", "-a:crashed !a -SUP:crashed"),
        (3, "ok no no no no", "-a:crashed !a !a !a -SUP:crashed"),
        (3, "ok no no", "-a:crashed !a !a +a"),
        (3, "ok no no no", "-a:crashed !a !a !a -SUP:crashed"),
    ],
)
async def test_failing_restart(autojump_clock, log, max_restarts, fates, events):
    """A restart that fails is tried again, each attempt counting one."""
    async with running(log, "a", {"a": fates}, max_restarts=max_restarts) as bench:
        log.take()
        await bench.fall("a")
        assert log.take() == events


@pytest.mark.conforms("SUP-082")
async def test_no_delay_between_attempts(autojump_clock, log):
    """Without a backoff, neither restarts nor failed attempts take time."""
    async with running(log, "a", {"a": "ok" + " no" * 200}, max_restarts=100) as bench:
        await bench.fall("a")
        assert bench.sup.status == "stopped"
        assert bench.probes["a"].attempts == 101
        assert trio.current_time() == 0


BAC = "-c:shutdown -b:shutdown"
AGAIN = "+a +b !c -b:shutdown -a:shutdown"


# strategy, children, who falls, the fates of c, budget, what happens
FAILING_GROUPS = [
    (ALL, "a b c", "a", "ok no no", 3, f"-a:crashed {BAC} {AGAIN} {AGAIN} +a +b +c"),
    (REST, "a b c d", "b", "ok no no", 3,
     "-b:crashed -d:shutdown -c:shutdown +b !c !c +c +d"),
    (ALL, "a b c", "a", "ok no no no", 2, f"-a:crashed {BAC} {AGAIN} {AGAIN} -SUP:crashed"),
]  # fmt: skip


@pytest.mark.conforms("SUP-088", "SUP-089", "SUP-090")
@pytest.mark.parametrize(("strategy", "kids", "falls", "fates", "budget", "events"), FAILING_GROUPS)
async def test_group_member_that_fails_to_start(
    autojump_clock, log, strategy, kids, falls, fates, budget, events
):
    """If a member fails to start, the group restart is made anew on behalf of that one."""
    plain = " ".join(f"{kid}/plain" for kid in kids.split())
    options = {"strategy": strategy, "max_restarts": budget}
    async with running(log, plain, {"c": fates}, **options) as bench:
        log.take()
        await bench.fall(falls)
        assert log.take() == events


@pytest.mark.conforms("SUP-091", "SUP-108")
async def test_restart_that_declines(autojump_clock, log):
    """A restart answered by Ignore leaves the child down and its supervisor running."""
    async with running(log, "a b", {"a": "ok ignore ignore"}) as bench:
        await bench.fall("a")
        assert bench.which() == "(a) b"
        a = bench["a"]
        assert await bench.sup.restart_child("a") is a
        assert a.status == "stopped"
        assert bench.which() == "(a) b"


@pytest.mark.conforms("SUP-092")
async def test_dead_on_arrival(autojump_clock, log):
    """A child that is ready and then dies at once is a death, not a failed start."""

    async def stillborn(*, task_status):
        task_status.started()
        raise ZeroDivisionError

    async with running(log, max_restarts=2) as bench:
        await bench.sup.start_child(stillborn)
        await wait_all_tasks_blocked()
        name = stillborn.__qualname__
        assert log.take() == " ".join([f"+{name} -{name}:crashed"] * 3) + " -SUP:crashed"


# --- a first start that fails ----------------------------------------------------------------


@pytest.mark.conforms("SUP-018", "SUP-049", "SUP-050", "SUP-051", "SUP-053", "CASE-79")
@pytest.mark.parametrize("start", ["raises", "returns", "exits"])
async def test_first_start_fails(autojump_clock, log, start):
    """If a child fails to start, those running stop in reverse, and one error says who and why."""
    error = ValueError("no")

    async def bad(*, task_status):
        if start == "raises":
            raise error
        if start == "exits":
            raise ExitProcess("shutdown")

    bench = Bench(log)
    kids = [bench.spec("a"), bench.spec("b"), ChildSpec(bad, id="bad"), bench.spec("d")]
    with pytest.raises(StartFailed, match="SUP/bad") as caught:
        async with Supervisor(kids, name="SUP"):
            raise AssertionError
    assert log.take() == "+a +b !bad ?b -b:shutdown ?a -a:shutdown !SUP"
    assert caught.value.id == "bad"
    assert caught.value.__cause__ is (error if start == "raises" else None)


@pytest.mark.conforms("SUP-047", "SUP-048", "SUP-106", "SUP-107")
async def test_declining_is_no_failure(autojump_clock, log):
    """A child that declines is kept for later, a temporary one forgotten; the others run."""
    starts = {"i": "ignore", "t": "ignore"}
    async with running(log, "a i t/temporary d", starts) as bench:
        assert log.take() == "+a !i !t +d"
        assert bench.which() == "a (i) d"
        assert await bench.sup.restart_child("i") is bench["i"]
        assert bench.which() == "a i d"
        with pytest.raises(UnknownChild):
            await bench.sup.restart_child("t")


@pytest.mark.conforms("SUP-054")
@pytest.mark.parametrize("max_restarts", [0, 1])
async def test_death_while_a_later_sibling_starts(autojump_clock, log, max_restarts):
    """A death during the first start is acted on at once: a restart, or the end of the start."""
    bench = Bench(log, "a/plain", max_restarts=max_restarts)

    async def slow(*, task_status):
        bench.end("a")
        await trio.sleep(5)
        task_status.started()
        await trio.sleep_forever()

    first = bench.spec("a/plain")
    sup = bench.sup = Supervisor(
        [first, ChildSpec(slow, id="slow")], name="SUP", max_restarts=max_restarts
    )
    if max_restarts:
        async with sup:
            assert log.take() == "+a -a:crashed +a +slow"
        return
    with pytest.raises(RestartsExhausted) as caught:
        async with sup:
            raise AssertionError
    assert isinstance(caught.value.__cause__, Boom)
    assert trio.current_time() == 0
    assert log.take() == "+a -a:crashed !slow !SUP"


# --- adding, stopping, restarting and deleting by hand ------------------------------------------

RUNNING, TERMINATED, FINISHED = "x", "x terminated", "x/transient finished"

# how the child stands; start_child, restart_child, delete_child, terminate_child: what
# each gives and who is there afterwards
VERBS = [
    ("unknown", ("ok", "x"), (UnknownChild, ""), (UnknownChild, ""), (UnknownChild, "")),
    (RUNNING, (DuplicateChild, "x"), (AlreadyRunning, "x"), (AlreadyRunning, "x"), ("ok", "(x)")),
    (TERMINATED, (DuplicateChild, "(x)"), ("ok", "x"), ("ok", ""), ("ok", "(x)")),
    (FINISHED, (DuplicateChild, "(x)"), ("ok", "x"), ("ok", ""), ("ok", "(x)")),
    ("x/temporary terminated", ("ok", "x"), *[(UnknownChild, "")] * 3),
]


@pytest.mark.conforms(
    "SUP-093", "SUP-095", "SUP-101", "SUP-102", "SUP-106", "SUP-107", "SUP-110", "SUP-112"
)
@pytest.mark.parametrize("verb", [0, 1, 2, 3], ids=["start", "restart", "delete", "terminate"])
@pytest.mark.parametrize("row", VERBS, ids=lambda row: row[0])
async def test_verbs_by_state(autojump_clock, log, row, verb):
    """Each request is granted or refused by how the child stands, and a refusal changes nothing."""
    stands, *answers = row
    wanted, after = answers[verb]
    async with running(log) as bench:
        await bring_to(stands, bench)
        got = await answer_of(bench, verb, stands.split()[0])
        assert got is wanted if isinstance(wanted, type) else got == wanted
        assert bench.which() == after


async def bring_to(stands, bench):
    if stands == "unknown":
        return
    kid, *became = stands.split()
    await bench.sup.start_child(bench.spec(kid))
    if became == ["terminated"]:
        await bench.sup.terminate_child("x")
    if became == ["finished"]:
        await bench.fall("x", "normal")


async def answer_of(bench, verb, kid):
    kid = "x" if kid == "unknown" else kid
    try:
        if verb == 0:
            await bench.sup.start_child(bench.spec(kid))
        elif verb == 2:
            bench.sup.delete_child("x")
        else:
            await (bench.sup.restart_child("x") if verb == 1 else bench.sup.terminate_child("x"))
    except (UnknownChild, DuplicateChild, AlreadyRunning) as error:
        return type(error)
    return "ok"


@pytest.mark.conforms("SUP-018", "SUP-046", "SUP-096", "SUP-097", "SUP-098")
async def test_answers_of_start_child(autojump_clock, log):
    """start_child gives the process, also of a child that declined; one that fails is forgotten."""
    starts = {"i": "ignore", "t": "ignore", "bad": "no"}
    async with running(log, "", starts, max_restarts=0) as bench:
        good = await bench.sup.start_child(bench.spec("good"))
        declined = await bench.sup.start_child(bench.spec("i"))
        await bench.sup.start_child(bench.spec("t/temporary"))
        with pytest.raises(StartFailed) as caught:
            await bench.sup.start_child(bench.spec("bad"))
        assert isinstance(caught.value.__cause__, Refused)
        assert (good.status, declined.status) == ("running", "stopped")
        assert bench.which() == "good (i)"


@pytest.mark.conforms("SUP-109")
async def test_failed_restart_child_keeps_the_child(autojump_clock, log):
    """A restart_child that fails leaves the child down, untried and uncounted; it may be asked again."""
    async with running(log, "r", {"r": "ok no"}, max_restarts=0) as bench:
        await bench.sup.terminate_child("r")
        with pytest.raises(StartFailed):
            await bench.sup.restart_child("r")
        await wait_all_tasks_blocked()
        assert bench.which() == "(r)"
        await bench.sup.restart_child("r")
        assert bench.which() == "r"


@pytest.mark.conforms("SUP-085", "SUP-086", "SUP-087")
async def test_requests_between_attempts(autojump_clock, log):
    """While a restart is attempted again and again, requests are served, and one can end it."""
    starts = {"g": "ok" + " no" * 10_000}
    async with running(log, "a g", starts, max_restarts=20_000) as bench:
        bench.end("g")
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        assert bench.which() == "a (g)"
        assert bench["g"].status in ("restarting", "starting")
        for refused in (bench.sup.restart_child("g"), as_async(bench.sup.delete_child, "g")):
            with pytest.raises(AlreadyRunning):
                await refused
        with pytest.raises(DuplicateChild):
            await bench.sup.start_child(bench.spec("g"))
        await bench.sup.terminate_child("g")
        assert bench["g"].status == "stopped"
        await trio.sleep(1)
        bench.sup.delete_child("g")
        assert bench.which() == "a"


async def as_async(fn, *args):
    return fn(*args)


# --- how each is stopped ------------------------------------------------------------------------

# kind of child, its options, what happens when it is terminated, and how long that takes
STOPS = [
    ("c/plain", {"shutdown": "brutal_kill"}, "-c:killed", 0),
    ("c", {"shutdown": "brutal_kill"}, "-c:killed", 0),
    ("c/plain", {"shutdown": 0.1}, "-c:shutdown", 0),
    ("c/plain", {"shutdown": None}, "-c:shutdown", 0),
    ("c", {"shutdown": 0.1}, "?c -c:shutdown", 0),
    ("c", {"shutdown": 0.1, "grace": 1}, "?c -c:killed", 0.1),
    ("c", {"shutdown": None, "grace": 0.2}, "?c -c:shutdown", 0.2),
    ("c", {"shutdown": math.inf, "grace": 0.2}, "?c -c:shutdown", 0.2),
    ("c", {"shutdown": 0, "grace": 0.05}, "-c:killed", 0),
    ("c/plain", {"shutdown": 0}, "-c:shutdown", 0),
    ("c", {"shutdown": 0.1, "leaves": "crashed"}, "?c -c:crashed", 0),
]


@pytest.mark.conforms(
    "SUP-021", "SUP-099", "SUP-101", "SUP-123", "SUP-124", "SUP-125", "SUP-126", "SUP-127",
    "SUP-128", "SUP-130",
)  # fmt: skip
@pytest.mark.parametrize(("kid", "options", "events", "took"), STOPS)
async def test_shutdown_values(autojump_clock, log, kid, options, events, took):
    """Its shutdown says how long a child that traps exits has, and what it ends as."""
    async with running(log, max_restarts=0) as bench:
        await bench.sup.start_child(bench.spec(kid, **options))
        log.take()
        await bench.sup.terminate_child("c")
        assert log.take() == events
        assert trio.current_time() == pytest.approx(took)
        assert bench.which() == "(c)"


@pytest.mark.conforms("SUP-122")
@pytest.mark.parametrize(("together", "took"), [(False, 0.21), (True, 0.07)])
async def test_limits_add_up(autojump_clock, log, together, took):
    """Children stop one after another, each with its own limit; or, on demand, all at once."""
    bench = Bench(log)
    kids = [bench.spec(id, grace=1, shutdown=0.07) for id in "abc"]
    async with Supervisor(kids, name="SUP", stop_together=together) as sup:
        log.take()
        await sup.stop()
        assert trio.current_time() == pytest.approx(took)
    if not together:
        assert log.take() == "?c -c:killed ?b -b:killed ?a -a:killed -SUP:shutdown"


@pytest.mark.conforms("SUP-119")
async def test_stop_with_too_short_a_limit(autojump_clock, log):
    """A stop whose asker gives up goes on."""
    bench = Bench(log)
    async with Supervisor([bench.spec("c", grace=0.2)], name="SUP") as sup:
        log.take()
        with pytest.raises(TimedOut):
            await sup.stop(timeout=0.05)
        assert (sup.status, log.take()) == ("stopping", "?c")
        assert (await sup.wait()).reason == "shutdown"
        assert log.take() == "-c:shutdown -SUP:shutdown"


@pytest.mark.conforms("SUP-130", "SUP-131")
async def test_crashes_while_stopping(autojump_clock, log):
    """Who crashes during a stop, asked or on its own, is not restarted, and the stop goes on."""
    bench = Bench(log)
    kids = [bench.spec("a"), bench.spec("b", leaves="crashed")]
    async with Supervisor(kids, name="SUP", max_restarts=0) as sup:
        log.take()
        await sup.stop()
    assert log.take() == "?b -b:crashed ?a -a:shutdown -SUP:shutdown"
    kids = [bench.spec("a"), bench.spec("slow", grace=0.08)]
    bench.sup = sup = Supervisor(kids, name="SUP")
    async with sup, trio.open_nursery() as nursery:
        log.take()
        nursery.start_soon(sup.stop)
        await trio.sleep(0.03)
        bench.end("a")
    assert log.take() == "?slow -a:crashed -slow:shutdown -SUP:shutdown"


# --- auto_shutdown ---------------------------------------------------------------------------

ANY, EVERY = "any_significant", "all_significant"
SOME = "a b/transient/significant c/temporary/significant d/transient"
ONLY = "a b/transient/significant"
END = "-SUP:shutdown"

# rule, children, what happens (`stop b` is by hand), the events, who is there (None: it ended)
AUTO = [
    (ANY, SOME, ["d normal"], "-d:normal", "a b c (d)"),
    (ANY, SOME, ["b normal"],
     f"-b:normal ?d -d:shutdown ?c -c:shutdown ?a -a:shutdown {END}", None),
    (ANY, SOME, ["b shutdown"],
     f"-b:shutdown ?d -d:shutdown ?c -c:shutdown ?a -a:shutdown {END}", None),
    (ANY, SOME, ["b crashed"], "-b:crashed +b", "a b c d"),
    (ANY, SOME, ["c crashed"],
     f"-c:crashed ?d -d:shutdown ?b -b:shutdown ?a -a:shutdown {END}", None),
    (ANY, SOME, ["stop b"], "?b -b:shutdown", "a (b) c d"),
    (ANY, ONLY, ["stop b"], "?b -b:shutdown", "a (b)"),
    (EVERY, SOME, ["d normal"], "-d:normal", "a b c (d)"),
    (EVERY, SOME, ["b normal"], "-b:normal", "a (b) c d"),
    (EVERY, SOME, ["b normal", "c normal"],
     f"-b:normal -c:normal ?d -d:shutdown ?a -a:shutdown {END}", None),
    (EVERY, SOME, ["b shutdown"], "-b:shutdown", "a (b) c d"),
    (EVERY, SOME, ["b crashed"], "-b:crashed +b", "a b c d"),
    (EVERY, SOME, ["c crashed"], "-c:crashed", "a b d"),
    (EVERY, SOME, ["stop b", "c normal"],
     f"?b -b:shutdown -c:normal ?d -d:shutdown ?a -a:shutdown {END}", None),
    (EVERY, ONLY, ["stop b"], "?b -b:shutdown", "a (b)"),
    (EVERY, "a d/transient", ["d normal"], "-d:normal", "a (d)"),
    ("never", "a d/transient", ["d normal"], "-d:normal", "a (d)"),
]  # fmt: skip


@pytest.mark.conforms("SUP-134", "SUP-135", "SUP-136", "SUP-137", "SUP-138", "SUP-139")
@pytest.mark.parametrize(("rule", "kids", "steps", "events", "after"), AUTO)
async def test_auto_shutdown(autojump_clock, log, rule, kids, steps, events, after):
    """The end for good of significant children, and only that, ends their supervisor."""
    async with running(log, kids, auto_shutdown=rule) as bench:
        log.take()
        for first, second in map(str.split, steps):
            await (
                bench.sup.terminate_child(second) if first == "stop" else bench.fall(first, second)
            )
        assert log.take() == events
        assert (bench.sup.status == "stopped") == (after is None)
        assert bench.which() == (after or "")


@pytest.mark.conforms("SUP-140")
async def test_significant_child_dropped_by_a_group_restart(autojump_clock, log):
    """A significant temporary child that a group restart drops does not end the supervisor."""
    kids = "a c/temporary/significant"
    async with running(log, kids, strategy=ALL, auto_shutdown=ANY) as bench:
        log.take()
        await bench.fall("a")
        assert log.take() == "-a:crashed ?c -c:shutdown +a"
        assert bench.which() == "a"


@pytest.mark.conforms("SUP-141")
@pytest.mark.parametrize(
    ("restart", "events", "after"),
    [
        ("permanent", "+job +inner", "inner"),
        ("transient", "", "(inner)"),
        ("temporary", "", ""),
    ],
)
async def test_parent_of_one_that_shut_itself_down(autojump_clock, log, restart, events, after):
    """To its parent an auto_shutdown is a shutdown: only a permanent one is started again."""
    inner = Bench(log, "job/transient/significant", auto_shutdown=ANY, name="inner")
    async with running(log) as outer:
        await outer.sup.start_child(inner.sup.child_spec(restart=restart))
        log.take()
        await inner.fall("job", "normal")
        assert log.take() == f"-job:normal -inner:shutdown {events}".strip()
        assert outer.which() == after


# --- supervisors under supervisors -------------------------------------------------------------


@asynccontextmanager
async def tree(log, restart="permanent", **options):
    """a, a supervisor of x and y that survives one crash, and z."""
    inner = Bench(log, "x y", name="inner", max_restarts=1)
    bench = Bench(log)
    kids = [bench.spec("a"), inner.sup.child_spec(restart=restart), bench.spec("z")]
    bench.sup = Supervisor(kids, name="SUP", **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(held, bench.sup)
        yield bench, inner
        nursery.cancel_scope.cancel()


STOP_INNER = "?y -y:shutdown ?x -x:shutdown -inner:shutdown"


@pytest.mark.conforms("SUP-142", "SUP-117")
async def test_order_in_a_tree(autojump_clock, log):
    """A tree starts depth first and stops in exactly the reverse order."""
    async with tree(log) as (bench, _):
        assert log.take() == "+a +x +y +inner +z"
        await bench.sup.stop()
        assert log.take() == f"?z -z:shutdown {STOP_INNER} ?a -a:shutdown -SUP:shutdown"


FALLS = "-x:crashed +x -x:crashed ?y -y:shutdown -inner:crashed"


@pytest.mark.conforms("SUP-072", "SUP-143", "SUP-144")
@pytest.mark.parametrize(
    ("strategy", "restart", "then", "after"),
    [
        (ONE, "permanent", " +x +y +inner", "a inner z"),
        (ONE, "transient", " +x +y +inner", "a inner z"),
        (ONE, "temporary", "", "a z"),
        (REST, "permanent", " ?z -z:shutdown +x +y +inner +z", "a inner z"),
    ],
)
async def test_inner_supervisor_over_budget(autojump_clock, log, strategy, restart, then, after):
    """A spent budget is a crash to the parent, which goes by its own strategy and restart types."""
    async with tree(log, restart, strategy=strategy) as (bench, inner):
        log.take()
        await inner.fall("x")
        await inner.fall("x")
        assert log.take() == FALLS + then
        assert bench.which() == after


@pytest.mark.conforms("SUP-081", "SUP-145")
async def test_budgets_multiply(autojump_clock, log):
    """A restarted supervisor has a fresh budget; its parent's goes on: with 1 and 2, crash 6 ends all."""
    async with tree(log, max_restarts=2) as (bench, inner):
        crashes = 0
        while bench.sup.status == "running":
            await inner.fall("x")
            crashes += 1
        assert crashes == 6


@pytest.mark.conforms("SUP-146")
async def test_inner_supervisor_that_cannot_start(autojump_clock, log):
    """A failed start is rolled back at every level, and the errors name the whole path."""
    inner = Bench(log, "x bad", {"bad": "no"}, name="inner")
    outer = Bench(log)
    with pytest.raises(StartFailed, match="SUP/inner ") as caught:
        async with Supervisor([outer.spec("a"), inner.sup, outer.spec("z")], name="SUP"):
            raise AssertionError
    assert log.take() == "+a +x !bad ?x -x:shutdown !inner ?a -a:shutdown !SUP"
    assert isinstance(caught.value.__cause__, StartFailed)
    assert caught.value.__cause__.id == "bad"
    assert isinstance(caught.value.__cause__.__cause__, Refused)


@pytest.mark.conforms("SUP-120", "SUP-117")
async def test_stopping_an_inner_supervisor(autojump_clock, log):
    """A permanent one stopped through its own handle comes back; terminate_child keeps it down."""
    async with tree(log) as (bench, inner):
        log.take()
        await inner.sup.stop()
        await wait_all_tasks_blocked()
        assert log.take() == f"{STOP_INNER} +x +y +inner"
        await bench.sup.terminate_child(inner.sup)
        assert log.take() == STOP_INNER
        assert bench.which() == "a (inner) z"


# --- who may end whom ----------------------------------------------------------------------------

# child, how it is ended from outside, how it ends; the last two are what a kill and a stop mean
ENDS = [
    ("c/plain", Process.stop, "-c:shutdown"),
    ("c/plain", Process.kill, "-c:killed"),
    ("c", Process.stop, "?c -c:shutdown"),
    ("c", Process.kill, "-c:killed"),
]


@pytest.mark.parametrize(("kid", "end", "events"), ENDS)
async def test_ending_a_process_from_outside(autojump_clock, log, kid, end, events):
    """A stop can be trapped, a kill cannot; both say in the exit what they were."""
    async with running(log, f"{kid}/temporary") as bench:
        child = bench["c"]
        log.take()
        asked = end(child)
        if asked is not None:
            await asked
        await wait_all_tasks_blocked()
        assert log.take() == events
        assert child.last_exit.reason == events.rpartition(":")[2]


async def test_waiting_for_the_dead(autojump_clock, log):
    """Waiting for a process that is down answers at once, to as many as ask; stopping it too."""
    async with running(log, "c/temporary/plain") as bench:
        child, ends = bench["c"], []

        async def watch():
            ends.append(await child.wait())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            nursery.start_soon(watch)
            await bench.fall("c")
        assert [end.reason for end in ends] == ["crashed", "crashed"]
        assert await child.wait() is await child.stop() is ends[0]
        child.kill()
        assert child.last_exit is ends[0]
