"""run(): the root of a program."""

import logging
import math
import signal
import threading
from functools import partial

import pytest
import trio
import trio.testing

from trio_otp import (
    Agent,
    Backoff,
    ChildSpec,
    RestartsExhausted,
    StartFailed,
    Task,
    current_process,
    run,
    trap_exit,
)


def service(log, name):
    async def serve():
        log.append(f"start {name}")
        try:
            await trio.sleep_forever()
        finally:
            log.append(f"stop {name}")

    return ChildSpec(serve, id=name)


def test_value_of_main():
    """run gives what main returned, and its children were there for it."""
    counts = Agent(dict[str, int])

    async def main(key, value):
        await counts.update(lambda d: {**d, key: value})
        return await counts.get()

    assert run(main, "a", 1, children=[counts]) == {"a": 1}


def test_children_stop_in_reverse_after_main():
    """When main has returned, its children are stopped one by one, the last first."""
    log = []

    async def main():
        await trio.testing.wait_all_tasks_blocked()
        log.append("main")

    run(main, children=[service(log, "a"), service(log, "b")])
    assert sorted(log[:2]) == ["start a", "start b"]
    assert log[2:] == ["main", "stop b", "stop a"]


@pytest.mark.parametrize("error", [ValueError("oops"), SystemExit(3), KeyboardInterrupt()])
def test_error_of_main_is_bare(error):
    """What main raises leaves run as it is, after the stop; an exit keeps its code."""
    log = []

    async def main():
        await trio.testing.wait_all_tasks_blocked()
        raise error

    with pytest.raises(type(error)) as caught:
        run(main, children=[service(log, "a")])
    assert caught.value is error
    assert log == ["start a", "stop a"]


def test_children_alone_until_they_give_up():
    """Without main, the children run until there is a reason to end; theirs leaves run."""
    starts = []

    async def child():
        starts.append(trio.current_time())
        raise ValueError("oops")

    with pytest.raises(RestartsExhausted) as caught:
        run(children=[child], max_restarts=2, max_seconds=7.5)
    assert len(starts) == 3
    assert isinstance(caught.value.__cause__, ValueError)


def test_child_that_does_not_start():
    """A child whose start fails ends the program before main begins."""

    def init():
        raise OSError("no such file")

    with pytest.raises(StartFailed) as caught:
        run(pytest.fail, "main must not run", children=[Agent(init, name="state")])
    assert isinstance(caught.value.__cause__, OSError)


def test_strategy_passes_through():
    """The root supervisor has the strategy that run was given."""
    log = []

    async def fall_once():
        log.append("fall")
        await trio.sleep(1 if log.count("fall") == 1 else 60)

    async def main():
        await trio.sleep(2)

    clock = trio.testing.MockClock(autojump_threshold=0)
    run(main, children=[service(log, "a"), fall_once], strategy="one_for_all", clock=clock)
    assert log.count("start a") == 2


def test_clock_and_instruments_pass_through():
    """They reach trio.run."""

    class Count(trio.abc.Instrument):
        steps = 0

        def before_task_step(self, task):
            self.steps += 1

    async def main():
        await trio.sleep(1000)
        return trio.current_time()

    count = Count()
    clock = trio.testing.MockClock(autojump_threshold=0)
    assert run(main, clock=clock, instruments=[count]) == 1000
    assert count.steps


def test_outside_the_main_thread():
    """There are no signals there, and run works all the same."""
    values = []

    async def main():
        return current_process()

    thread = threading.Thread(target=lambda: values.append(run(main, children=[Agent(dict)])))
    thread.start()
    thread.join()
    assert values == [None]


def test_processes_may_run_again():
    """What one run has let go can be a child of the next."""
    agent = Agent(list)

    async def main():
        return await agent.apply(lambda state: state.append(1) or len(state))

    assert [run(main, children=[agent]) for _ in range(2)] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((), {}, TypeError, "needs a main function, or children"),
        ((), {"children": []}, TypeError, "needs a main function, or children"),
        ((1,), {}, TypeError, "main must be a function, got 1"),
        ((), {"children": [1]}, TypeError, "a child must be a process, a ChildSpec or an async"),
        (
            (),
            {"children": [Task(trio.sleep, 1)], "strategy": "all"},
            ValueError,
            "strategy must be",
        ),
        ((), {"children": [trio.sleep_forever], "max_restarts": -1}, ValueError, "at least 0"),
        ((), {"children": [trio.sleep_forever], "max_seconds": 0}, ValueError, "more than 0"),
        (
            (),
            {"children": [trio.sleep_forever], "max_seconds": math.nan},
            ValueError,
            "max_seconds",
        ),
    ],
)
def test_bad_input(arguments, options, error, message):
    """Wrong arguments are refused before anything runs."""
    with pytest.raises(error, match=message):
        run(*arguments, **options)


def test_main_that_is_no_async_function():
    """A main that returns no coroutine is told so plainly."""
    with pytest.raises(TypeError, match="must be an async function"):
        run(lambda: 1)


# --- signals -----------------------------------------------------------------------------

LEAVING = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]


async def press(*times, number=signal.SIGINT):
    for time in times:
        await trio.sleep(time - trio.current_time())
        signal.raise_signal(number)
    await trio.sleep_forever()


def by(*times, number):
    """Describe a child that sends signals; the first child, so that it is the last to stop."""
    return ChildSpec(partial(press, *times, number=number), id="by")


def ends_at(children, leaves=KeyboardInterrupt, main=None):
    """Run until a signal has its effect, and give the time of that."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    with pytest.raises(leaves) as caught:
        run(*filter(None, [main]), children=children, clock=clock)
    assert getattr(caught.value, "code", 143) == 143
    return clock.current_time()


async def falls_late():
    await trio.sleep(3)
    raise ValueError("falls late")


async def never_ready(*, task_status):
    await trio.sleep_forever()


@pytest.mark.real
@pytest.mark.conforms("CASE-83")
@pytest.mark.parametrize(("number", "leaves"), LEAVING)
@pytest.mark.parametrize("last", [falls_late, never_ready])
def test_signal_stops_in_order(number, leaves, last):
    """A signal while a child waits to be restarted, or starts, stops the others at once, in reverse."""
    log = []
    last = ChildSpec(last, id="last", backoff=Backoff(60))
    children = [by(5, number=number), service(log, "a"), service(log, "b"), last]
    assert ends_at(children, leaves) == 5
    assert sorted(log[:2]) == ["start a", "start b"]
    assert log[2:] == ["stop b", "stop a"]


def slow(log, name, seconds):
    """Describe a child that takes its time when it is asked to stop."""

    async def serve():
        with trap_exit() as exiting:
            try:
                await exiting.wait()
                log.append(f"asked {name}")
                await trio.sleep(seconds)
            finally:
                log.append(f"stop {name}")

    return ChildSpec(serve, id=name, shutdown=None)


@pytest.mark.real
@pytest.mark.conforms("CASE-83", "REVIEW-3")
@pytest.mark.parametrize(("number", "leaves"), LEAVING)
def test_second_signal_kills(number, leaves):
    """One signal waits for the cleanup of each; a second one ends what is left at once."""
    log = []
    services = [slow(log, "a", 5), slow(log, "b", 5)]
    assert ends_at([by(1, number=number), *services], leaves) == 11
    assert log == ["asked b", "stop b", "asked a", "stop a"]
    log.clear()
    assert ends_at([by(1, 3, number=number), *services], leaves) == 3
    assert log[0] == "asked b"
    assert sorted(log[1:]) == ["stop a", "stop b"]


@pytest.mark.real
@pytest.mark.conforms("CASE-83")
@pytest.mark.parametrize("how", ["returns", "raises"])
def test_main_that_ends_otherwise_after_a_signal(how, caplog):
    """The signal has the last word; an error of the cleanup is in the log."""

    async def main():
        try:
            await press(1)
        except trio.Cancelled:
            if how == "raises":
                raise ValueError("in the cleanup") from None

    caplog.set_level(logging.ERROR, "trio_otp")
    assert ends_at([], main=main) == 1
    assert ("ValueError: in the cleanup was not raised" in caplog.text) == (how == "raises")


@pytest.mark.real
def test_exit_after_a_signal():
    """A SystemExit of the program's own keeps its code, also when a signal came before."""

    async def main():
        try:
            await press(1, number=signal.SIGTERM)
        finally:
            raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert caught.value.code == 3


@pytest.mark.real
def test_handlers_are_given_back():
    """After a run, signals do what they did before."""
    before = [signal.getsignal(number) for number, _ in LEAVING]
    ends_at([], main=partial(press, 1))
    assert [signal.getsignal(number) for number, _ in LEAVING] == before
