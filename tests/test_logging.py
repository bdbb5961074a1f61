"""What goes to the log, and what does not: each failure once, small, and never a failure of its own."""

import logging
import traceback

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers_task import (
    attempt,
    ended,
    exit_normal,
    exit_shutdown,
    exit_shutdown_detail,
    fate,
    killed,
    later,
    raises,
    returns,
    told,
)
from trio_otp import (
    Agent,
    Ended,
    RestartsExhausted,
    Supervisor,
    Task,
    TaskSupervisor,
    current_process,
    subscribe,
)


@pytest.fixture
async def sup():
    """Give a supervisor whose tasks, if any are left, are stopped at the end."""
    async with TaskSupervisor(name="sup") as supervisor:
        yield supervisor
        await supervisor.stop()


async def crash_of(sup, fn, *args, **options):
    await sup.start_child(fn, *args, **options).wait()


# --- what is logged ------------------------------------------------------------------------------


@pytest.mark.conforms("LOG-001", "LOG-002")
@pytest.mark.parametrize(
    ("body", "records"),
    [
        (returns, 0),
        (exit_normal, 0),
        (exit_shutdown, 0),
        (exit_shutdown_detail, 0),
        (killed, 0),
        (raises, 1),
    ],
)
async def test_which_ends_are_logged(autojump_clock, caplog, sup, body, records):
    """A crash is one error record; a normal end, a shutdown and a kill are none."""
    await crash_of(sup, body)
    await ended(sup.async_nolink(body))
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2 * records


@pytest.mark.conforms("LOG-001")
async def test_group_is_a_crash(autojump_clock, caplog, sup):
    """A group that left the function is one record, with each of its members in the text."""

    async def failing():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raises)
            nursery.start_soon(raises)

    await crash_of(sup, failing, name="task")
    (record,) = caplog.records
    assert record.message.startswith("sup/task crashed: ExceptionGroup: ")
    assert caplog.text.count("ValueError: oops") == 2


@pytest.mark.conforms("LOG-002")
async def test_ends_from_outside_are_silent(autojump_clock, caplog, sup):
    """Stopping, killing, shutting down and giving up on a task leave no record."""
    for end in (Task.stop, Task.shutdown, sup.terminate_child):
        task = sup.async_nolink(trio.sleep_forever)
        await wait_all_tasks_blocked()
        await end(task)
    task = sup.async_nolink(trio.sleep_forever)
    await task.shutdown(timeout="brutal_kill")
    assert told(await attempt(sup.async_nolink(later, 9).await_(timeout=1))).__name__ == "TimedOut"
    with trio.move_on_after(1):
        async with Task(trio.sleep_forever):
            await trio.sleep_forever()
    assert caplog.records == []


@pytest.mark.conforms("LOG-003")
async def test_failure_that_is_looked_at_later(autojump_clock, caplog, sup):
    """A failure that nobody awaited when it happened is logged, also if its owner handles it later."""
    task = sup.async_nolink(raises)
    await task.wait()
    assert len(caplog.records) == 1
    assert told(await task.yield_()) is ValueError
    assert told(await attempt(task.await_())) is ValueError
    assert len(caplog.records) == 1


@pytest.mark.conforms("LOG-004", "LOG-018")
async def test_logged_before_anybody_learns_of_it(autojump_clock, caplog, sup):
    """The record is there before whoever waits for the end goes on, and there is no second one."""
    order = []
    caplog.handler.addFilter(lambda record: order.append("logged") or True)

    async def watcher(task):
        await task.wait()
        order.append("learnt")

    async def failing():
        await trio.sleep(1)
        raise ValueError

    async with trio.open_nursery() as nursery:
        task = sup.async_nolink(failing)
        for _ in range(3):
            nursery.start_soon(watcher, task)
    assert order == ["logged", "learnt", "learnt", "learnt"]


@pytest.mark.conforms("LOG-004")
async def test_linked_failure_is_an_exception_only(autojump_clock, caplog, sup):
    """A failure that goes on as an exception through a scope is not logged as well."""
    for start in (
        lambda nursery: Task.async_(nursery, raises),
        lambda nursery: Task.start_link(nursery, raises),
        lambda nursery: sup.async_(nursery, raises),
    ):

        async def owner(nursery, start=start):
            start(nursery)
            await trio.sleep_forever()

        assert told(await fate(owner)) is ValueError
    with pytest.raises(ValueError, match="oops"):
        async with Task(raises):
            await trio.sleep_forever()
    assert caplog.records == []


@pytest.mark.conforms("LOG-018", "LOG-019", "TSUP-059")
async def test_supervisors_add_no_report(autojump_clock, caplog):
    """One record for each crash, from the process itself: neither restarts nor giving up add another."""
    with pytest.raises(RestartsExhausted):
        async with TaskSupervisor(name="sup", max_restarts=2) as sup:
            await crash_of(sup, raises)
            sup.start_child(raises, restart="transient")
            await trio.sleep_forever()
    assert caplog.messages == ["sup/raises crashed: ValueError: oops"] * 4


@pytest.mark.conforms("LOG-019", "TSUP-059")
async def test_failure_during_a_stop(autojump_clock, caplog):
    """An error in a cleanup while its supervisor stops is logged once, and stops nobody's stop."""

    async def failing():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    async with TaskSupervisor(name="sup") as sup:
        task = sup.start_child(failing, name="task")
        other = sup.start_child(trio.sleep_forever)
        await wait_all_tasks_blocked()
        await sup.stop()
    assert [p.last_exit.reason for p in (task, other, sup)] == ["crashed", "shutdown", "shutdown"]
    assert caplog.messages == ["sup/task crashed: ValueError: in cleanup"]


@pytest.mark.conforms("CASE-16")
async def test_handled_failure_is_told_once(autojump_clock, caplog, sup):
    """A failure that its waiter handles makes one event, one exception and no record."""

    async def failing():
        await trio.sleep(1)
        raise ValueError("oops")

    ends = []
    with subscribe(lambda event: ends.append(event) if isinstance(event, Ended) else None):
        task = sup.async_nolink(failing)
        with pytest.raises(ValueError, match="oops"):
            await task
    assert [event.process for event in ends] == [task]
    assert caplog.records == []


async def test_restart_of_what_did_not_fail(autojump_clock, caplog):
    """A permanent child that returns is no failure, yet it is restarted: a warning says so."""
    times = []

    async def once():
        times.append(trio.current_time())
        await trio.sleep(1 if len(times) == 1 else 60)

    async with TaskSupervisor(name="sup") as sup:
        sup.start_child(once, name="task", restart="permanent")
        await trio.sleep(2)
        await sup.stop()
    (record,) = caplog.records
    assert (record.levelname, times) == ("WARNING", [0, 1])
    assert record.message == "sup/task ended (normal) and is restarted"


# --- what a record holds -------------------------------------------------------------------------


@pytest.mark.conforms("LOG-005", "LOG-007", "LOG-008", "LOG-011", "LOG-021")
async def test_contents(autojump_clock, caplog, sup):
    """A record has the process, its path, its exit, who asked for it, and the traceback as fields."""
    started = []

    async def asker():
        started.append(sup.start_child(failing, 1, "two"))

    async def failing(*args):
        raise ValueError("oops")

    await crash_of(sup, asker, name="asker")
    await sup.join()
    (record,) = caplog.records
    (process,) = started
    assert (record.name, record.levelname) == ("trio_otp", "ERROR")
    assert record.otp_process is process
    assert record.otp_path == ("sup", failing.__qualname__)
    assert record.otp_asked_by == ("asker",)
    assert record.otp_exit.error is record.exc_info[1]
    assert record.exc_info[0] is ValueError
    frames = [frame.f_code for frame, _ in traceback.walk_tb(record.exc_info[2])]
    assert frames == [failing.__code__]


@pytest.mark.conforms("LOG-006", "LOG-007", "LOG-009", "LOG-010", "LOG-017")
async def test_text(autojump_clock, caplog, sup):
    """The text says who, by label, with what error, who started it, and with which arguments."""

    async def outer():
        sup.start_child(inner, name="inner")

    async def inner():
        sup.start_child(failing, 7, "x" * 1000, name="label")

    async def failing(*args):
        raise ValueError("oops")

    sup.start_child(outer, name="outer")
    await sup.join()
    shown = f"'{'x' * 37}...{'x' * 38}'"  # cut, since values may be of any size
    assert caplog.messages == [
        f"sup/label crashed: ValueError: oops; started by outer/inner; arguments (7, {shown})"
    ]


@pytest.mark.conforms("LOG-007")
@pytest.mark.parametrize("restart", ["temporary", "transient"])
async def test_function_and_arguments(autojump_clock, caplog, sup, restart):
    """Without a label it is called as its function is, whether or not it can be restarted."""
    process = sup.start_child(_fails_at, 0, restart=restart)
    await trio.sleep(0.5)
    await sup.terminate_child(process) if restart == "transient" else None
    assert caplog.messages == [
        "sup/_fails_at crashed: ZeroDivisionError: division by zero; arguments (0,)"
    ]


async def _fails_at(number):
    if current_process().last_exit is not None:
        await trio.sleep_forever()
    return 1 / number


@pytest.mark.conforms("LOG-007")
async def test_arguments_of_a_stream_item(autojump_clock, caplog, sup):
    """The item of a stream that failed is shown as an argument of its function."""
    async with sup.async_stream_nolink([0], _fails_at, ordered=False) as outcomes:
        await wait_all_tasks_blocked()
        seen = [told(outcome) async for outcome in outcomes]
    assert seen == [ZeroDivisionError]


@pytest.mark.conforms("LOG-008")
async def test_first_and_last_error(autojump_clock, caplog, sup):
    """Of a chain of errors the text names the last and the first, and the traceback is the first's."""

    async def failing():
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            try:
                raise KeyError("middle")
            except KeyError as error:
                raise ValueError("last") from error

    await crash_of(sup, failing, name="task")
    (record,) = caplog.records
    assert record.message == (
        "sup/task crashed: ValueError: last (it began with ZeroDivisionError: division by zero)"
    )
    assert record.exc_info[0] is ZeroDivisionError


async def test_error_without_text(autojump_clock, caplog, sup):
    """An error without a message is called by its type."""

    async def failing():
        raise ValueError

    await crash_of(sup, failing, name="task")
    assert caplog.messages == ["sup/task crashed: ValueError"]


@pytest.mark.conforms("LOG-020")
@pytest.mark.parametrize("how", ["at once", "in turn", "cast"])
async def test_crash_of_an_agent(autojump_clock, caplog, how):
    """A crashing agent is one record, with its path, its error, and how many requests were left."""
    agent = Agent(int, name="agent", restart="temporary")

    def failing(state):
        raise ValueError("oops")

    async with Supervisor([agent], name="root"):
        if how != "at once":
            agent.cast(abs)
        if how == "cast":
            agent.cast(failing)
        else:
            await attempt(agent.get(failing))
        await wait_all_tasks_blocked()
    (record,) = caplog.records
    assert record.message == "root/agent crashed: ValueError: oops"
    assert record.otp_process is agent


@pytest.mark.conforms("LOG-020")
async def test_stopped_agent_is_silent(autojump_clock, caplog):
    """An agent that was stopped, killed, or left idle, leaves no record."""
    async with Supervisor() as root:
        for end in (Agent.stop, root.terminate_child, _kill, Agent.wait):
            agent = Agent(int, restart="temporary", idle_timeout=1)
            await root.start_child(agent)
            await end(agent)
            assert agent.status == "stopped"
    assert caplog.records == []


async def _kill(process):
    process.kill()
    await process.wait()


# --- size, and things that break -----------------------------------------------------------------


class Huge:
    """A value whose text is large."""

    def __repr__(self):
        return "huge" * 100_000


@pytest.mark.conforms("CASE-42")
@pytest.mark.parametrize(
    "error",
    [
        ValueError("long" * 100_000),
        KeyError(Huge()),
        ExceptionGroup("group", [ValueError("long" * 100_000), ValueError("long" * 100_000)]),
    ],
    ids=["text", "key", "group"],
)
async def test_report_stays_small(autojump_clock, caplog, sup, error):
    """Whatever the error's own text, the arguments or the result hold, a report is a few kilobytes."""

    async def failing(big):
        raise error

    await crash_of(sup, failing, Huge())
    (record,) = caplog.records
    assert len(record.message) < 1000
    assert len(caplog.text) < 8000
    assert record.exc_info[1] is error
    assert "in failing" in caplog.text


class Broken(Exception):
    """An error that cannot say what it is."""

    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __repr__


async def test_broken_repr(autojump_clock, caplog, sup):
    """Values and errors that cannot say what they are do not hurt their report."""

    class Value:
        def __repr__(self):
            raise RuntimeError("no repr")

    async def failing(value):
        raise Broken

    await crash_of(sup, failing, Value(), name="task")
    (record,) = caplog.records
    assert record.message.startswith("sup/task crashed: Broken: <Broken instance at")
    assert "; arguments (<Value instance at " in record.message


async def test_deep_chain(autojump_clock, caplog, sup):
    """A chain of a thousand errors is told by its ends."""

    async def failing():
        error = ValueError("0")
        for number in range(1, 2000):
            last, error = error, ValueError(str(number))
            error.__cause__ = last
        raise error

    await crash_of(sup, failing, name="task")
    assert caplog.messages == ["sup/task crashed: ValueError: 1999 (it began with ValueError: 0)"]
    assert len(caplog.text) < 4000


async def test_chain_in_a_circle(autojump_clock, caplog, sup):
    """A chain that bites its tail is told, and hangs nobody."""

    async def failing():
        one, two = ValueError("one"), ValueError("two")
        one.__cause__, two.__cause__ = two, one
        raise one

    await crash_of(sup, failing, name="task")
    assert caplog.messages == ["sup/task crashed: ValueError: one (it began with ValueError: two)"]


class BrokenHandler(logging.Handler):
    def emit(self, record):
        raise RuntimeError("disk full")


async def test_logging_that_fails(autojump_clock, capsys, sup):
    """A log handler that raises hurts nobody; the report goes to standard error instead."""
    log, handler = logging.getLogger("trio_otp"), BrokenHandler()
    log.addHandler(handler)
    try:
        await crash_of(sup, raises)
    finally:
        log.removeHandler(handler)
    assert sup.status == "running"
    assert (
        "logging failed with RuntimeError('disk full'): sup/raises crashed"
        in capsys.readouterr().err
    )


async def test_level(autojump_clock, caplog, sup):
    """What the logger's level leaves out is not even made."""
    log = logging.getLogger("trio_otp")
    log.setLevel(logging.CRITICAL)
    try:
        await crash_of(sup, raises)
    finally:
        log.setLevel(logging.NOTSET)
    assert caplog.records == []


def test_configures_nothing():
    """The library adds no handler and sets no level."""
    log = logging.getLogger("trio_otp")
    assert (log.handlers, log.level, log.propagate) == ([], logging.NOTSET, True)


async def test_event_and_record(autojump_clock, caplog, sup):
    """A subscriber hears of a crash once, and there is one record of it."""
    seen = []
    with subscribe(lambda event: seen.append(event) if isinstance(event, Ended) else None):
        await crash_of(sup, raises)
    (event,) = seen
    (record,) = caplog.records
    assert event.exit is record.otp_exit
