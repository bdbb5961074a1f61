"""cancel_everywhere and crash_everywhere."""

import re
import socket
from contextlib import suppress
from functools import partial

import pytest
import trio

from trio_otp import Agent, Exited, Supervisor
from trio_otp.testing import InjectedCrash, cancel_everywhere, crash_everywhere, leaks, seeded


async def nothing():
    """Be a scenario without a checkpoint."""


def fine() -> None:
    """Be a check that holds."""


class Steps:
    """A scenario that notes how far it came in each run."""

    def __init__(self) -> None:
        self.runs: list[list[str]] = []

    async def scenario(self) -> None:
        self.note = []
        self.runs.append(self.note)
        self.note.append("begun")
        await trio.sleep(1)
        self.note.append("slept")
        await trio.lowlevel.checkpoint()
        self.note.append("done")


# --- cancelling ----------------------------------------------------------------------------


async def test_each_checkpoint_is_cancelled(autojump_clock):
    """The run that is not cancelled comes first, then one is cut at each place, then none is."""
    steps = Steps()
    assert await cancel_everywhere(steps.scenario, fine) == 4
    whole = ["begun", "slept", "done"]
    before, asleep, awake, at_the_checkpoint = (whole[:last] for last in (1, 1, 1, 2))
    assert steps.runs == [whole, before, asleep, awake, at_the_checkpoint, whole]


@pytest.mark.real
async def test_what_was_waited_for_has_just_come():
    """A cancellation also comes when a wait is over but its task has not gone on yet."""
    ends = set()
    ours, theirs = socket.socketpair()
    theirs.send(b"!")

    async def scenario():
        send, receive = trio.open_memory_channel[int](1)
        send.send_nowait(1)
        end = "asleep"
        try:
            await trio.lowlevel.wait_readable(ours)
            end = "awake"
            await receive.receive()  # looks for a cancellation before it takes anything
            end = "received"
        finally:
            ends.add((end, receive.statistics().current_buffer_used))

    await cancel_everywhere(scenario, fine)
    assert ends == {("asleep", 1), ("awake", 1), ("received", 0)}
    ours.close()
    theirs.close()


async def test_tasks_of_the_scenario_are_cut_too(autojump_clock):
    """The steps of every task count, those of the scenario's children and of others that run."""
    ends = set()

    async def child():
        try:
            await trio.sleep(1)
            await trio.sleep(1)
        finally:
            ends.add(trio.current_time() - began)

    async def scenario():
        nonlocal began
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    began = 0.0
    await cancel_everywhere(scenario, fine)
    assert ends == {0, 1, 2}


async def test_other_tasks_make_points(autojump_clock, nursery):
    """A scenario that waits for another task is cut after each step of that task."""
    send, receive = trio.open_memory_channel[trio.Event](0)
    ends = set()

    async def server():
        async for request in receive:
            busy.append(1)
            await trio.sleep(1)
            busy.clear()
            request.set()

    async def scenario():
        answered = trio.Event()
        try:
            await send.send(answered)
            await answered.wait()
        finally:
            ends.add((bool(busy), answered.is_set()))

    busy: list[int] = []
    nursery.start_soon(server)
    await cancel_everywhere(scenario, partial(trio.sleep, 2))
    assert ends == {(False, False), (True, False), (False, True)}


async def test_runs_are_the_same(autojump_clock):
    """The order of scheduling is the same in each run up to its point, and follows from the seed."""
    orders = []

    async def note(number):
        await trio.sleep(1)
        orders[-1] += str(number)

    async def scenario():
        orders.append("")
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(note, number)

    await cancel_everywhere(scenario, fine)
    assert all(orders[0].startswith(order) for order in orders)
    assert orders[-1] == orders[0]
    other = len(orders)
    await cancel_everywhere(scenario, fine, seed=1)
    assert orders[other] != orders[0]


async def test_failure_says_where_it_was_cut(autojump_clock):
    """A check that fails has a note that names the line, and repeats alone with its point."""
    money = {"a": 1, "b": 0}

    async def transfer():
        money.update(a=1, b=0)
        await trio.lowlevel.checkpoint()
        money["a"] -= 1
        await trio.lowlevel.checkpoint()  # here it may be lost
        money["b"] += 1

    def check():
        assert sum(money.values()) == 1

    with pytest.raises(AssertionError) as caught:
        await cancel_everywhere(transfer, check)
    (note,) = caught.value.__notes__
    line = transfer.__code__.co_firstlineno + 4
    assert f"cancelled at test_everywhere.py:{line} in {transfer.__qualname__}" in note
    point = re.search(r"only=(\d+)", note)
    assert point is not None
    with pytest.raises(AssertionError) as again:
        await cancel_everywhere(transfer, check, only=int(point[1]))
    assert again.value.__notes__ == [note]


async def test_failure_names_the_other_task(autojump_clock):
    """If another task has taken the step, the note says where that one stands, too."""

    async def child():
        await trio.sleep(1)
        await trio.sleep(1)

    async def scenario():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    runs = []
    with pytest.raises(AssertionError) as caught:
        await cancel_everywhere(scenario, lambda: runs.append(1) or len(runs) < 4)
    assert re.search(r"when .*child had come to .*:\d+ in .*child", caught.value.__notes__[0])


@pytest.mark.parametrize("fails", ["scenario", "check"])
async def test_failure_without_a_cut(fails):
    """Scenario and check must hold when nothing is cut, and the note says that they do not."""

    async def scenario():
        await trio.lowlevel.checkpoint()
        if fails == "scenario":
            raise KeyError

    def check():
        raise KeyError

    with pytest.raises(KeyError) as caught:
        await cancel_everywhere(scenario, check)
    assert "not broken off: scenario and check fail by themselves" in caught.value.__notes__[0]


async def test_error_in_cleanup_fails(autojump_clock):
    """An exception that only a cancelled run raises comes out as it is."""

    async def scenario():
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            raise OSError from None

    with pytest.raises(OSError) as caught:
        await cancel_everywhere(scenario, fine)
    assert "point 0, cancelled before its first step" in caught.value.__notes__[0]


async def test_check_may_be_async_and_may_say_no(autojump_clock):
    """A check may wait; one that returns False has failed."""

    async def check():
        await trio.sleep(1)
        return False

    with pytest.raises(AssertionError, match="returned False"):
        await cancel_everywhere(partial(trio.sleep, 1), check)


BAD = {
    "no checkpoint": (nothing, fine, {}, ValueError, "no checkpoint, so it cannot be cancelled"),
    "a coroutine": (1, fine, {}, TypeError, "scenario must be a function, got 1"),
    "no check": (nothing, None, {}, TypeError, "check must be a function, got None"),
    "a wrong seed": (nothing, fine, {"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    "a wrong point": (nothing, fine, {"only": "x"}, TypeError, "only must be a whole number"),
}


@pytest.mark.parametrize("what", BAD)
async def test_bad_input_of_cancel_everywhere(what):
    """What cannot be tried is refused, with what to do."""
    scenario, check, options, error, text = BAD[what]
    with pytest.raises(error, match=text):
        await cancel_everywhere(scenario, check, **options)


async def test_scenario_without_end(autojump_clock, monkeypatch):
    """A scenario that takes more steps in each run is given up."""
    monkeypatch.setattr("trio_otp.testing._everywhere.MOST_POINTS", 20)
    steps = 0

    async def scenario():
        nonlocal steps
        steps += 1
        for _ in range(steps):
            await trio.lowlevel.checkpoint()

    with pytest.raises(ValueError, match="no end after 21 points"):
        await cancel_everywhere(scenario, fine)


async def test_cancellation_of_the_test_passes(autojump_clock):
    """A limit around it ends the run under way, and no instrument stays behind."""
    with trio.move_on_after(2.5) as scope:
        await cancel_everywhere(partial(trio.sleep, 1), partial(trio.sleep, 1))
    assert scope.cancelled_caught
    await cancel_everywhere(partial(trio.sleep, 1), fine)


async def test_calls_of_an_agent_are_whole(supervised):
    """A worked case: a cancelled update is there or is not, and the agent stays usable."""
    agent = await supervised(Agent(list[int]))

    async def scenario():
        await agent.update(lambda numbers: [*numbers, 1])
        await agent.update(lambda numbers: [*numbers, 2])

    async def check():
        assert await agent.get_and_update(lambda numbers: (numbers, [])) in ([], [1], [1, 2])
        leaks()

    assert await cancel_everywhere(scenario, check) >= 3


# --- crashing ------------------------------------------------------------------------------


async def test_each_call_and_checkpoint_crashes(autojump_clock):
    """The error comes out of every call of a wrapped function and every checkpoint in it."""
    runs = []

    async def work(note):
        note.append("begun")
        try:
            await trio.sleep(1)
            await trio.lowlevel.cancel_shielded_checkpoint()  # never raises
            await trio.lowlevel.checkpoint()
            note.append("slept")
        except InjectedCrash:
            note.append("crashed")
            raise

    async def scenario(crashing):
        note = []
        runs.append(note)
        await crashing(work)(note)
        crashing(note.append)("done")

    assert await crash_everywhere(scenario, fine) == 4
    whole = ["begun", "slept", "done"]
    cut = [[], ["begun", "crashed"], ["begun", "crashed"], ["begun", "slept"]]
    assert runs == [whole, *cut, whole]


async def test_crash_undoes_the_wait(autojump_clock):
    """What a checkpoint has set up is undone, so that locks and channels stay usable."""
    lock = trio.Lock()

    async def hold(crashing_too):
        async with lock:
            await trio.sleep(1)

    async def scenario(crashing):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crashing(hold), 1)
            nursery.start_soon(crashing(hold), 2)

    def check():
        assert not lock.locked()
        assert lock.statistics().tasks_waiting == 0

    assert await crash_everywhere(scenario, check) == 5  # two calls, one lock, two sleeps


@pytest.mark.real
async def test_crash_waits_for_a_thread():
    """What cannot be broken off is waited for, then the error comes."""
    ends = []

    async def work():
        try:
            await trio.to_thread.run_sync(ends.append, "thread")
        except InjectedCrash:
            ends.append("crash")
            raise

    async def scenario(crashing):
        await crashing(work)()

    assert await crash_everywhere(scenario, fine) == 2
    assert ends == ["thread", "thread", "crash", "thread"]


async def test_supervised_functions_crash(autojump_clock):
    """A worked case: whatever its function does, an agent is there again, and its caller is told."""

    async def add(numbers, one):
        await trio.sleep(1)
        return [*numbers, one]

    async def scenario(crashing):
        agent = Agent(crashing(list))
        async with Supervisor([agent]):
            with suppress(Exited):
                await agent.update(crashing(add), 1)
            answers.append(await agent.get())

    answers = []
    assert await crash_everywhere(scenario, leaks) == 3
    assert answers == [[1], [], [], [1]]  # in the second run, no agent came to be


async def test_error_of_ones_own(autojump_clock):
    """The error may be chosen; others that it causes are no failure, what else comes out is one."""

    async def scenario(crashing):
        try:
            await crashing(trio.sleep)(1)
        except OSError as error:
            raise RuntimeError("told") from error

    assert await crash_everywhere(scenario, fine, error=OSError) == 2

    async def clumsy(crashing):
        try:
            await crashing(trio.sleep)(1)
        except InjectedCrash:
            raise KeyError from None

    with pytest.raises(KeyError) as caught:
        await crash_everywhere(clumsy, fine)
    (note,) = caught.value.__notes__
    assert note.startswith("crash_everywhere: point 0, crashed when it was called: _timeouts.py:")
    with pytest.raises(KeyError) as caught:
        await crash_everywhere(clumsy, fine, only=1)
    assert "crashed at _timeouts.py" in caught.value.__notes__[0]


async def test_wrapping_keeps_the_function():
    """A wrapped function has its name and gives what it gave."""

    async def scenario(crashing):
        assert crashing(nothing).__qualname__ == nothing.__qualname__
        assert crashing(len)("abc") == 3
        with pytest.raises(TypeError, match="function must be a function, got 1"):
            crashing(1)

    assert await crash_everywhere(scenario, fine) == 1


async def test_bad_input_of_crash_everywhere():
    """A scenario that wraps nothing is refused, with what to do."""

    async def scenario(crashing):
        await trio.lowlevel.checkpoint()

    with pytest.raises(ValueError, match="called no function that may crash: wrap some"):
        await crash_everywhere(scenario, fine)
    with pytest.raises(TypeError, match="error must be a function, got 1"):
        await crash_everywhere(scenario, fine, error=1)


# --- seeds ---------------------------------------------------------------------------------


def shuffled(seed: int) -> str:
    """Run eight tasks that wake at once; the order in which they do."""
    order = ""

    async def note(number):
        nonlocal order
        await trio.sleep(1)
        order += str(number)

    async def main():
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(note, number)

    with seeded(seed):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return order


def test_seed_decides_the_order():
    """One seed is one order, and another seed another."""
    assert shuffled(1) == shuffled(1)
    assert len({shuffled(seed) for seed in range(5)}) == 5


def test_seeding_puts_back_what_was_before():
    """Afterwards Trio's dice go on as if nothing had been."""
    dice, scheduling = trio._core._run._r, trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING
    state = dice.getstate()
    shuffled(1)
    assert dice.getstate() == state
    assert scheduling == trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING


def test_unknown_trio(monkeypatch):
    """If Trio's dice are not where they were, the kit says so instead of guessing."""
    monkeypatch.delattr("trio._core._run._r")
    with pytest.raises(RuntimeError, match="run without a seed, or with an older Trio"), seeded(1):
        pass
