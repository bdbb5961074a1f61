"""run(): the root of a program."""

import math
import threading

import pytest
import trio
import trio.testing

from trio_otp import Agent, ChildSpec, RestartsExhausted, StartFailed, Task, current_process, run


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
