"""Task: starting one, the link to its owner, its context, and completed tasks."""

import contextvars
import random

import pytest
import trio
from outcome import Value
from trio.testing import wait_all_tasks_blocked

from helpers_task import (
    ENDINGS,
    LINKED_FAILURES,
    QUIET,
    attempt,
    fate,
    later,
    raises,
    reaction,
    returns,
    told,
)
from trio_otp import (
    Ended,
    Exited,
    ExitProcess,
    NotRunning,
    Task,
    TaskSupervisor,
    current_process,
    observe,
    subscribe,
)

request_id = contextvars.ContextVar("request_id", default="none")


@pytest.fixture
async def sup():
    async with TaskSupervisor(name="sup") as sup:
        yield sup
        await sup.stop()


# --- the handle ------------------------------------------------------------------------


@pytest.mark.conforms("TASK-001")
async def test_handle(autojump_clock, nursery):
    """A handle names its function, says where it stands, and equals only itself."""
    first, second = Task.async_(nursery, returns), Task.async_(nursery, returns)
    assert (first.name, first.status, first.last_exit) == ("returns", "running", None)
    assert first != second
    assert len({first, second, first}) == 2
    assert repr(first) == "<Task 'returns' running>"
    await first
    assert first.last_exit is not None
    assert (first.status, first.last_exit.reason) == ("stopped", "normal")


@pytest.mark.conforms("TASK-002")
async def test_starting_does_not_wait(autojump_clock, nursery):
    """The handle is there before the body has run its first step."""
    steps = []

    async def body():
        steps.append("body")

    task = Task.async_(nursery, body)
    steps.append("started")
    await task
    assert steps == ["started", "body"]


@pytest.mark.conforms("TASK-004")
async def test_arguments(autojump_clock, nursery):
    """The function gets its arguments, and its qualified name labels the task."""

    class Shop:
        @staticmethod
        async def price(item, count):
            return item, count

    task = Task.async_(nursery, Shop.price, "tea", 2)
    assert task.name.endswith("Shop.price")
    assert Task.async_(nursery, Shop.price, "tea", 2, name="price").name == "price"
    assert await task == ("tea", 2)


@pytest.mark.conforms("TASK-003", "TASK-028")
async def test_result_before_the_news(autojump_clock, nursery):
    """Who hears that a task has ended finds its result, and hears it once."""
    heard = []
    with subscribe(lambda event: isinstance(event, Ended) and heard.append(task.ignore())):
        task = Task.async_(nursery, returns)
        await task
    assert heard == [Value("value")]


@pytest.mark.conforms("TASK-022")
async def test_trio_task_bears_the_name(autojump_clock, nursery):
    """Tools that look at Trio's tasks see the user's function, not the library's."""

    async def own_name():
        return trio.lowlevel.current_task().name

    assert (await Task.async_(nursery, own_name)).endswith("<locals>.own_name")
    assert await Task.async_(nursery, own_name, name="mine") == "mine"


@pytest.mark.conforms("TASK-026")
async def test_memory_is_shared(autojump_clock, nursery):
    """What a task changes is changed for everybody."""
    basket = ["tea"]

    async def shop():
        basket.append("milk")
        return basket

    assert await Task.async_(nursery, shop) is basket
    assert basket == ["tea", "milk"]


# --- the link ----------------------------------------------------------------------------


@pytest.mark.conforms("TASK-006", "TASK-008", "TASK-014", "TASK-034", "TASK-043")
@pytest.mark.parametrize("body", ENDINGS, ids=lambda body: body.__name__)
@pytest.mark.parametrize("careful", [False, True])
async def test_owner_that_awaits(autojump_clock, body, careful):
    """A linked failure ends its owner, bare, and no `try` around the await catches it."""

    async def owner(nursery):
        task = Task.async_(nursery, body)
        answer = await (attempt(task) if careful else task)
        assert body in QUIET
        return answer

    assert told(await fate(owner)) == ENDINGS[body]


@pytest.mark.conforms("TASK-006", "TASK-007", "TASK-008", "TASK-014")
@pytest.mark.parametrize("body", ENDINGS, ids=lambda body: body.__name__)
async def test_owner_that_is_busy(autojump_clock, body):
    """A linked failure reaches an owner that is busy elsewhere; a normal end does not."""

    async def owner(nursery):
        Task.async_(nursery, body)
        await trio.sleep(1)
        return "got here"

    assert told(await fate(owner)) == (LINKED_FAILURES.get(body) or "got here")
    assert trio.current_time() == (0 if body in LINKED_FAILURES else 1)


@pytest.mark.conforms("TASK-018", "TASK-019")
@pytest.mark.parametrize("body", ENDINGS, ids=lambda body: body.__name__)
async def test_start_link(autojump_clock, body):
    """A task without a result ends its owner by failing, not by returning."""

    async def owner(nursery):
        process = Task.start_link(nursery, body)
        assert not isinstance(process, Task)
        assert not hasattr(process, "__await__")
        await trio.sleep(1)
        return "survived"

    assert told(await fate(owner)) == (LINKED_FAILURES.get(body) or "survived")


@pytest.mark.conforms("TASK-019")
async def test_start_link_with_arguments(autojump_clock, nursery):
    """`start_link` passes the arguments on and takes a name."""
    got = []

    async def note(*values):
        got.extend(values)

    process = Task.start_link(nursery, note, 1, 2, name="note")
    await process.wait()
    assert (process.name, got) == ("note", [1, 2])


@pytest.mark.conforms("TASK-006", "TASK-067")
async def test_no_race_lets_a_linked_failure_be_swallowed(autojump_clock):
    """Whatever order Trio picks, a waiter inside the failing scope never catches the failure."""
    ways = [
        lambda task: task,
        lambda task: task.await_(timeout=9),
        lambda task: Task.await_many([task]),
        lambda task: task.yield_(timeout=9),
        lambda task: Task.yield_many([task]),
    ]
    swallowed = []
    for seed in range(500):
        dice = random.Random(seed)
        way, naps = dice.choice(ways), [dice.randrange(3), dice.randrange(3)]

        async def body():
            for _ in range(naps[0]):
                await trio.lowlevel.checkpoint()
            raise ValueError

        async def owner(nursery):
            task = Task.async_(nursery, body)
            for _ in range(naps[1]):
                await trio.lowlevel.checkpoint()
            swallowed.append((seed, await attempt(way(task))))

        assert told(await fate(owner)) is ValueError, seed
    assert swallowed == []


@pytest.mark.conforms("TASK-006")
async def test_waiter_outside_gets_the_error(autojump_clock):
    """Who waits outside the failing scope is told, as often as it asks, and lives on."""
    handles, heard = [], []

    async def outsider():
        while not handles:
            await trio.lowlevel.checkpoint()
        heard.extend([await attempt(handles[0]), await attempt(handles[0])])

    async def owner(nursery):
        handles.append(Task.async_(nursery, raises))
        await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outsider)
        assert told(await fate(owner)) is ValueError
    assert [told(error) for error in heard] == [ValueError, ValueError]


async def test_shielded_waiter_inside_gets_the_error(autojump_clock):
    """A waiter that shields itself asked not to be cancelled: it gets the exception."""

    async def owner(nursery):
        task = Task.async_(nursery, raises)
        with trio.CancelScope(shield=True):
            heard.append(await attempt(task))
        await trio.lowlevel.checkpoint()

    heard = []
    assert told(await fate(owner)) is ValueError
    assert [told(error) for error in heard] == [ValueError]


async def test_nested_tasks(autojump_clock):
    """A linked failure climbs through two levels of tasks and stays one error."""

    async def middle():
        async with trio.open_nursery() as nursery:
            await Task.async_(nursery, raises)

    async def owner(nursery):
        await Task.async_(nursery, middle)

    group = await fate(owner)
    assert [type(error) for error in group.exceptions] == [ValueError]


async def test_nested_task_that_recovers(autojump_clock, nursery, sup):
    """An isolated inner failure is a value for the middle one, which may go on."""

    async def middle():
        return told(await attempt(sup.async_nolink(raises)))

    assert await Task.async_(nursery, middle) is ValueError


@pytest.mark.conforms("TASK-009", "TASK-122")
@pytest.mark.parametrize("start", [Task.async_, Task.start_link])
async def test_failing_owner_takes_its_tasks_along(autojump_clock, start):
    """An owner that fails ends its linked tasks, and theirs, and they say shutdown."""
    tasks = []

    async def parent():
        async with trio.open_nursery() as nursery:
            tasks.append(start(nursery, trio.sleep_forever))
            await trio.sleep_forever()

    async def owner(nursery):
        tasks.append(start(nursery, parent))
        await wait_all_tasks_blocked()
        raise KeyError

    assert told(await fate(owner)) is KeyError
    assert [task.last_exit.reason for task in tasks] == ["shutdown", "shutdown"]


@pytest.mark.conforms("TASK-010", "TASK-122")
async def test_owner_that_returns_waits(autojump_clock):
    """Leaving a nursery in peace waits for tasks that nobody awaited; shutdown avoids it."""
    async with trio.open_nursery() as nursery:
        task, other = Task.async_(nursery, later, 3), Task.async_(nursery, later, 9)
        await other.shutdown()
    assert trio.current_time() == 3
    assert await task == "late"


@pytest.mark.conforms("TASK-011", "TASK-039")
async def test_trapping_task_ends_with_its_home(autojump_clock):
    """A task that traps exits gets its time from a block, and no more than that."""
    async with Task(reaction(lambda: trio.sleep(2))) as polite:
        await wait_all_tasks_blocked()
    assert polite.last_exit is not None
    assert (polite.last_exit.reason, trio.current_time()) == ("shutdown", 2)
    async with Task(reaction(), shutdown=3) as deaf:
        await wait_all_tasks_blocked()
    assert deaf.last_exit is not None
    assert (deaf.last_exit.reason, trio.current_time()) == ("killed", 5)


@pytest.mark.conforms("TASK-012")
@pytest.mark.parametrize("how", ["shutdown", "brutal_kill", "kill", "link"])
async def test_cleanup_runs(autojump_clock, how):
    """However a task is ended from outside, its cleanup runs before anybody goes on."""
    steps = []

    async def body():
        try:
            await trio.sleep_forever()
        finally:
            steps.append("cleaned up")

    async def owner(nursery):
        task = Task.async_(nursery, body)
        await wait_all_tasks_blocked()
        match how:
            case "shutdown":
                await task.shutdown()
            case "brutal_kill":
                await task.shutdown(timeout="brutal_kill")
            case "kill":
                task.kill()
                await task.wait()
            case "link":
                raise KeyError
        steps.append("went on")

    await fate(owner)
    assert steps[0] == "cleaned up"


@pytest.mark.conforms("TASK-008", "TASK-014")
@pytest.mark.parametrize(("how", "reason"), [("stop", "shutdown"), ("kill", "killed")])
async def test_ending_a_linked_task_from_outside(autojump_clock, how, reason):
    """A linked task that somebody stops or kills fails its scope with `Exited`."""

    async def owner(nursery):
        task = Task.async_(nursery, trio.sleep_forever)
        await wait_all_tasks_blocked()
        await task.stop() if how == "stop" else task.kill()
        await trio.sleep(1)

    assert told(await fate(owner)) == (reason, None)


# --- how it ended --------------------------------------------------------------------------


@pytest.mark.conforms("TASK-013")
async def test_forms_of_the_reason(autojump_clock, sup):
    """A crash is kept as the exception itself; `ExitProcess` as its reason and detail."""
    crashed = sup.async_nolink(raises)
    asked = sup.async_nolink(request_exit, "normal", ["detail"])
    await crashed.wait(), await asked.wait()
    assert crashed.last_exit.reason == "crashed"
    assert repr(crashed.last_exit.error) == "ValueError('oops')"
    assert crashed.last_exit.error.__traceback__.tb_frame.f_code.co_name == "raises"
    assert (asked.last_exit.reason, asked.last_exit.detail) == ("normal", ["detail"])


async def request_exit(reason, detail):
    raise ExitProcess(reason, detail)


@pytest.mark.conforms("TASK-013")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_what_no_task_keeps(autojump_clock, kind):
    """An interrupt or exit passes through a task; it is never stored as its reason."""

    async def body():
        raise kind(3)

    with pytest.raises(kind) as caught:
        async with Task(body) as task:
            await trio.sleep_forever()
    assert caught.value.args == (3,)
    assert (task.last_exit.reason, task.last_exit.error) == ("shutdown", None)


@pytest.mark.conforms("TASK-013")
async def test_stray_cancellation_is_a_crash(autojump_clock, sup):
    """A `Cancelled` that was kept and raised later does not vanish in silence."""

    async def body():
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept = error
        raise kept

    with pytest.raises(RuntimeError, match="kept and raised later"):
        await sup.async_nolink(body)


@pytest.mark.conforms("CASE-14")
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
async def test_body_that_lets_an_iteration_end_escape(autojump_clock, sup, kind):
    """An escaped StopIteration is a crash that names it, not a result and not a hang."""

    async def body():
        raise kind("end")

    with pytest.raises(Exception) as caught:
        await sup.async_nolink(body)
    assert kind in (type(caught.value), type(caught.value.__cause__))
    assert trio.current_time() == 0


# --- context ---------------------------------------------------------------------------------


async def test_runs_in_the_context_of_who_asked(autojump_clock, nursery, sup):
    """A task sees the context variables of its asker, not those of its home."""

    async def whose():
        seen = request_id.get()
        request_id.set("task's own")
        return seen

    request_id.set("A")
    tasks = [Task.async_(nursery, whose), sup.async_nolink(whose)]
    request_id.set("B")
    tasks.append(sup.async_nolink(whose))
    assert await Task.await_many(tasks) == ["A", "A", "B"]
    assert request_id.get() == "B"


async def test_run_leaves_no_trace_in_the_caller(autojump_clock):
    """`run` in one's own Trio task makes the task current for as long as it runs."""
    seen = []

    async def body():
        seen.append(current_process())

    task = Task(body)
    await task.run()
    assert (seen, current_process()) == ([task], None)


@pytest.mark.conforms("TASK-023", "TASK-024")
@pytest.mark.parametrize("start", [Task.async_, Task.start_link])
async def test_who_asked_for_it(autojump_clock, nursery, start):
    """A task knows the chain of those who asked for it, nearest first."""
    chains = []

    async def child():
        chains.append(observe(current_process()).asked_by)

    async def parent():
        async with trio.open_nursery() as inner:
            start(inner, child, name="child")

    async def grandparent():
        async with trio.open_nursery() as inner:
            start(inner, parent, name="parent")

    await start(nursery, grandparent, name="grandparent").wait()
    assert chains == [("parent", "grandparent")]


# --- completed -------------------------------------------------------------------------------


@pytest.mark.conforms("TASK-020", "TASK-021", "TASK-103", "TASK-116")
async def test_completed(autojump_clock):
    """A completed task has its value from the start, and gives it in every form, again and again."""
    task = Task.completed([1])
    assert (task.status, task.last_exit.reason) == ("stopped", "normal")
    for _ in range(2):
        assert await task is await task.await_(timeout=0)
        assert await task.yield_(timeout=0) == Value([1])
        assert await task.shutdown() == Value([1])
        assert await task.shutdown(timeout="brutal_kill") == Value([1])
        assert task.ignore() == Value([1])
    assert (await task.stop()).reason == (await task.wait()).reason == "normal"


@pytest.mark.conforms("TASK-020")
async def test_completed_never_runs(autojump_clock, nursery):
    """A completed task, like one that was started by `async_`, cannot be run once more."""
    task = Task.completed(1)
    for spent in (task, Task.async_(nursery, returns)):
        with pytest.raises(RuntimeError, match="only life"):
            await spent.run()
    assert await task == 1


async def test_never_started():
    """A task that was only described has no result, and says so at once."""
    task = Task(returns)
    assert task.status == "new"
    for ask in (task.await_, task.yield_, task.shutdown, task.wait, task.stop):
        with pytest.raises(NotRunning, match="never"):
            await ask()
    for many in (Task.await_many, Task.yield_many):
        with pytest.raises(NotRunning):
            await many([Task.completed(1), task])
    with pytest.raises(NotRunning):
        task.ignore()


async def test_exited_says_who_and_how(autojump_clock, sup):
    """`Exited` carries the task and its exit."""
    task = sup.async_nolink(trio.sleep_forever, name="sleeper")
    await wait_all_tasks_blocked()
    task.kill()
    with pytest.raises(Exited, match=r"sleeper.*killed") as caught:
        await task
    assert caught.value.process is task
    assert caught.value.exit is task.last_exit
