"""The forms of a stream. What holds for all of them is tested with each."""

import pytest

from helpers_stream import Watch
from trio_otp import Task, TaskSupervisor


@pytest.fixture
async def sup():
    """A supervisor under which no stream leaves an item."""
    async with TaskSupervisor(name="sup") as sup:
        yield sup
        assert sup.children == ()


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def nolink(sup):
    return sup.async_stream_nolink


@pytest.fixture(params=["Task", "TaskSupervisor"])
def linked(request, sup):
    """Both forms in which a failing item fails the block."""
    return Task.async_stream if request.param == "Task" else sup.async_stream


@pytest.fixture(params=["Task", "TaskSupervisor", "nolink"])
def stream(request, sup):
    """All forms."""
    forms = {"Task": Task.async_stream, "TaskSupervisor": sup.async_stream}
    return forms.get(request.param, sup.async_stream_nolink)
