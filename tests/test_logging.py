"""Crash reports: each failure that nobody gets as an exception is in the log, once."""

import logging

import pytest
import trio

from trio_otp import (
    Agent,
    Exited,
    ExitProcess,
    Restarting,
    Supervisor,
    Task,
    TaskSupervisor,
    subscribe,
    trap_exit,
)


async def fail(*_):
    raise ValueError("oops")


async def leave(reason):
    raise ExitProcess(reason, "detail")


async def fine():
    return 1


async def run_in_supervisor(fn, *args, name=None):
    async with TaskSupervisor(name="jobs") as tasks:
        tasks.start_child(fn, *args, name=name)


@pytest.mark.conforms("LOG-001", "LOG-018")
@pytest.mark.parametrize(
    ("fn", "args", "records"),
    [(fail, (), 1), (fine, (), 0), (leave, ("normal",), 0), (leave, ("shutdown",), 0)],
)
async def test_what_is_logged(caplog, fn, args, records):
    """An exception makes one record at error level; a return or a raised exit makes none."""
    await run_in_supervisor(fn, *args)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * records


@pytest.mark.conforms("LOG-002")
@pytest.mark.parametrize("end", ["kill", "stop", "terminate", "block"])
async def test_being_ended_is_silent(autojump_clock, caplog, end):
    """Who is ended from outside leaves no record."""
    async with TaskSupervisor() as tasks:
        process = tasks.start_child(trio.sleep_forever)
        if end == "kill":
            process.kill()
        elif end == "terminate":
            await tasks.terminate_child(process)
        elif end == "stop":
            await process.stop()
        else:
            await tasks.stop()
    assert process.last_exit.reason == ("killed" if end == "kill" else "shutdown")
    assert not caplog.records


@pytest.mark.conforms("LOG-003")
async def test_failure_that_is_awaited_is_not_logged(autojump_clock, caplog):
    """Who awaits a task in the moment it fails has the failure; the log need not repeat it."""
    async with TaskSupervisor() as tasks:
        with pytest.raises(ValueError, match="oops"):
            await tasks.async_nolink(fail)
    assert not caplog.records


@pytest.mark.conforms("CASE-16")
async def test_failure_is_told_once(autojump_clock, caplog):
    """A failure whose waiter handles it is neither logged nor told of twice."""

    async def fail_later():
        await trio.sleep(1)
        await fail()

    seen = []
    with subscribe(seen.append):
        async with TaskSupervisor() as tasks:
            task = tasks.async_nolink(fail_later)
            with pytest.raises(ValueError, match="oops"):
                await task
    assert [type(event).__name__ for event in seen if event.process is task].count("Ended") == 1
    assert not caplog.records


@pytest.mark.conforms("LOG-004")
async def test_report_comes_first(caplog):
    """Who waits for the end of a process finds the report of its crash in the log already."""
    async with TaskSupervisor() as tasks:
        process = tasks.start_child(fail)
        exit = await process.wait()
        assert exit.error is caplog.records[0].exc_info[1]


@pytest.mark.conforms("LOG-005", "LOG-008", "LOG-011")
async def test_fields_of_a_record(caplog):
    """A record has the process, its path, its exit and its error, for handlers that want no text."""
    await run_in_supervisor(fail, 1, 2)
    (record,) = caplog.records
    assert record.name == "trio_otp"
    assert record.otp_path == ("jobs", "fail")
    assert record.otp_process.name == "fail"
    assert record.otp_exit.reason == "crashed"
    kind, error, trace = record.exc_info
    assert (kind, str(error)) == (ValueError, "oops")
    assert trace.tb_frame.f_code is fail.__code__


@pytest.mark.conforms("LOG-006", "LOG-021")
async def test_who_asked_for_it(caplog):
    """The chain of those who asked for the task is in the record, nearest first, and in the text."""

    async def middle(tasks):
        tasks.start_child(fail, name="leaf")

    async with TaskSupervisor() as tasks, trio.open_nursery() as nursery:
        task = Task(middle, tasks, name="middle")
        nursery.start_soon(task.run)
    (record,) = caplog.records
    assert record.otp_asked_by == ("middle",)
    assert "started by middle" in record.getMessage()


@pytest.mark.conforms("LOG-007", "LOG-009", "LOG-010", "LOG-017")
@pytest.mark.parametrize("name", [None, "import of Tuesday"])
async def test_text_of_a_report(caplog, name):
    """The text says which task, what happened, and with which arguments, in this order."""
    await run_in_supervisor(fail, "an argument", name=name)
    text = caplog.records[0].getMessage()
    parts = [f"jobs/{name or 'fail'}", "crashed", "ValueError: oops", "('an argument',)"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


async def test_values_are_cut(caplog):
    """Arguments and texts without end do not fill the log."""
    await run_in_supervisor(fail, "x" * 100_000)
    assert len(caplog.records[0].getMessage()) < 500


async def test_long_messages_are_cut(caplog):
    """An error whose text has no end is cut, too."""

    async def fail_at_length():
        raise ValueError("y" * 100_000)

    await run_in_supervisor(fail_at_length)
    assert len(caplog.records[0].getMessage()) < 500


@pytest.mark.parametrize("method", ["__str__", "__repr__"])
async def test_error_that_cannot_be_shown(caplog, method):
    """An error whose text fails is reported all the same."""

    def broken(_):
        raise RuntimeError

    kind = type("Mute", (Exception,), {method: broken})

    async def raise_it():
        raise kind

    await run_in_supervisor(raise_it)
    assert "Mute" in caplog.records[0].getMessage()


async def test_first_and_last_error_of_a_chain(caplog):
    """Of a chain of errors the text names the last and the first, and the record holds the first."""

    async def chained():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("last") from error

    await run_in_supervisor(chained)
    (record,) = caplog.records
    assert "ValueError: last (it began with KeyError: 'first')" in record.getMessage()
    assert record.exc_info[0] is KeyError


@pytest.mark.conforms("LOG-020")
async def test_crash_of_an_agent(autojump_clock, caplog):
    """A crashing agent makes one record with its error, and its caller gets Exited; a stop is silent."""
    agent = Agent(dict, name="state")
    async with Supervisor([agent], name="sup"):
        with pytest.raises(Exited):
            await agent.get(lambda state: state["missing"])
        await agent.get()
    (record,) = caplog.records
    assert "sup/state crashed: KeyError: 'missing'" in record.getMessage()


@pytest.mark.conforms("CASE-70")
async def test_each_restart_can_be_seen(autojump_clock, caplog):
    """A child that falls again and again makes a record and an event each time."""
    messages = iter("abcd")

    async def child():
        await trio.sleep(1)
        if (text := next(messages, None)) is not None:
            raise ValueError(text)
        await trio.sleep_forever()

    seen = []
    with subscribe(seen.append):
        async with Supervisor([child], max_restarts=10, name="sup"):
            await trio.sleep(10)
    restarts = [event for event in seen if isinstance(event, Restarting)]
    assert [(event.path[0], event.count, str(event.exit.error)) for event in restarts] == [
        ("sup", count, text) for count, text in enumerate("abcd", 1)
    ]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 4


async def test_permanent_child_that_returns(autojump_clock, caplog):
    """Its end is no failure, yet it is started again: a warning says so."""
    times = []

    async def once():
        times.append(trio.current_time())
        await trio.sleep(1 if len(times) == 1 else 60)

    async with Supervisor([once], name="sup"):
        await trio.sleep(2)
    (record,) = caplog.records
    assert (record.levelno, times) == (logging.WARNING, [0, 1])
    assert "once ended (normal) and is restarted" in record.getMessage()


async def test_late_one_is_named_once(autojump_clock, caplog):
    """A process that is not done in time is named in one warning, and waited for."""

    async def slow():
        with trap_exit() as exiting:
            await exiting.wait()
            with trio.CancelScope(shield=True):
                await trio.sleep(20)

    async with Supervisor([slow], name="sup"):
        await trio.sleep(1)
    assert trio.current_time() == 21
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "slow is late" in record.getMessage()


async def test_log_handler_that_raises(capsys):
    """A handler that fails is not felt by those that are reported; the text goes to stderr."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise OSError("disk full")

    logger, handler = logging.getLogger("trio_otp"), Broken()
    logger.addHandler(handler)
    try:
        await run_in_supervisor(fail)
    finally:
        logger.removeHandler(handler)
    assert "disk full" in capsys.readouterr().err


async def test_nothing_is_written_below_the_level(caplog):
    """A logger that is set to be silent costs no text."""
    caplog.set_level(logging.CRITICAL, "trio_otp")
    await run_in_supervisor(fail)
    assert not caplog.records
