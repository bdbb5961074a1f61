"""Task as a child of a supervisor, and its options as a class."""

import pytest
import trio
import trio.testing

from trio_otp import Agent, Supervisor, Task, trap_exit


async def once(log, error=None):
    log.append("run")
    if error is not None:
        raise error


@pytest.mark.conforms("TASK-029", "TASK-031")
@pytest.mark.parametrize("error", [None, ValueError("oops")])
async def test_task_is_temporary(autojump_clock, caplog, error):
    """A Task child runs once and is forgotten, however it ends; it costs no budget."""
    caplog.set_level("CRITICAL", "trio_otp")
    log = []
    async with Supervisor([Task(once, log, error)], max_restarts=0) as sup:
        await trio.sleep(1)
        assert (log, sup.children) == (["run"], ())


@pytest.mark.conforms("TASK-030")
async def test_start_does_not_wait_for_the_body(autojump_clock):
    """A supervisor has started a task child as soon as it runs."""
    async with Supervisor([Task(trio.sleep, 60), Agent(dict)]) as sup:
        assert trio.current_time() == 0
        assert [info.status for info in sup.children] == ["running", "running"]


async def deaf():
    with trap_exit():
        await trio.sleep(1000)


class Deaf(Task[None], restart="transient", shutdown=2.0):
    async def main(self):
        await deaf()


class Patient(Deaf, shutdown=None):
    """Inherits what it does not say."""


@pytest.mark.conforms("TASK-029", "TASK-032", "TASK-033")
@pytest.mark.parametrize(
    ("make", "changes", "restart", "seconds"),
    [
        (lambda: Task(deaf), {}, "temporary", 5),
        (lambda: Task(deaf, restart="permanent", shutdown=1), {}, "permanent", 1),
        (Deaf, {}, "transient", 2),
        (Patient, {}, "transient", 1000),
        (lambda: Deaf(restart="permanent", shutdown=3), {}, "permanent", 3),
        (Deaf, {"restart": "permanent"}, "permanent", 2),
        (Deaf, {"shutdown": None, "id": "w"}, "transient", 1000),
        (lambda: Deaf(shutdown=3), {"shutdown": "brutal_kill"}, "transient", 0),
    ],
)
async def test_whose_options_hold(autojump_clock, make, changes, restart, seconds):
    """The specification wins over the handle, that over its class, that over the class it is of."""
    task = make()
    async with Supervisor([task.child_spec(**changes)]) as sup:
        await trio.testing.wait_all_tasks_blocked()
        (info,) = sup.children
        assert (info.id, info.process) == (changes.get("id", task), task)
        assert info.restart == restart
    assert trio.current_time() == seconds


@pytest.mark.conforms("TASK-032")
async def test_child_spec_may_be_overridden(autojump_clock):
    """A subclass may describe itself in its own way."""

    class Named(Task[None]):
        def __init__(self, key):
            super().__init__()
            self.key = key

        def child_spec(self, **changes):
            return super().child_spec(**({"id": ("named", self.key)} | changes))

        async def main(self):
            await trio.sleep_forever()

    async with Supervisor([Named(1), Named(2)]) as sup:
        assert [info.id for info in sup.children] == [("named", 1), ("named", 2)]


@pytest.mark.conforms("TASK-033")
@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"restart": "always"}, ValueError, "restart must be one of 'permanent', 'transient'"),
        ({"shutdown": -1}, ValueError, "shutdown must not be negative, got -1"),
        ({"shutdown": "soon"}, ValueError, "shutdown must be seconds, None or 'brutal_kill'"),
        ({"shutdwon": 1}, TypeError, "unexpected keyword|no keyword"),
    ],
)
def test_bad_class_keywords(keywords, error, message):
    """A wrong keyword is refused when the class is made."""
    with pytest.raises(error, match=message):
        type("Bad", (Task,), {}, **keywords)


@pytest.mark.conforms("TASK-005")
@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (3, "fn must be a function, got 3"),
        (len, "takes exactly one argument"),
        (lambda: 3, "must be an async function, but .*lambda.* returned 3"),
        (once, "missing 1 required positional argument: 'log'"),
    ],
)
async def test_what_is_no_task_function(nursery, fn, message):
    """It is refused in the caller, and nothing is started."""
    for start in (Task.async_, Task.start_link):
        with pytest.raises(TypeError, match=message):
            start(nursery, fn)
    assert not nursery.child_tasks
