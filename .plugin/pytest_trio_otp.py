"""The pytest plugin of trio_otp: fixtures, seeds, and a failure told once.

It stands beside the package, and imports it only where a test uses it: pytest loads this file
in every session, also where nobody has asked for Trio or pytest-trio, and before any
measuring of coverage has begun.
"""

from __future__ import annotations

import inspect
import random
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from trio_otp.testing import Events, Supervised

_ORDER = "_trio_otp_order"
_seed = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("trio_otp")
    group.addoption(
        "--trio-otp-seed",
        type=int,
        metavar="N",
        help="run async tests in the order of scheduling that follows from this seed",
    )
    group.addoption(
        "--trio-otp-repeat",
        type=int,
        metavar="N",
        help="run each async test under this many orders of scheduling",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse wrong values before anything runs."""
    seed, times = config.option.trio_otp_seed, config.option.trio_otp_repeat
    if seed is not None and seed < 0:
        raise pytest.UsageError(f"--trio-otp-seed must be 0 or more, got {seed}")
    if times is not None and times < 1:
        raise pytest.UsageError(f"--trio-otp-repeat must be 1 or more, got {times}")


# --- orders of scheduling --------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each order."""
    times = metafunc.config.option.trio_otp_repeat
    if times is not None and inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append(_ORDER)
        ids = [f"order{number}" for number in range(times)]
        metafunc.parametrize(_ORDER, range(times), indirect=True, ids=ids)


@pytest.fixture(name=_ORDER)
def _order(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Choose the seed: the one that was given, or another for each test."""
    if item.get_closest_marker("trio") is not None:
        given = item.config.option.trio_otp_seed
        seed = random.SystemRandom().getrandbits(31) if given is None else given
        callspec = getattr(item, "callspec", None)
        item.stash[_seed] = seed + (callspec.params.get(_ORDER, 0) if callspec else 0)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run an async test in its order, and let what failed twice for one reason fail once."""
    # A test of Hypothesis has its orders from Hypothesis, which repeats them itself.
    if _seed not in item.stash or hasattr(getattr(item, "obj", None), "hypothesis"):
        return (yield)
    from trio_otp.testing import seeded
    from trio_otp.testing._supervised import telling_once

    supervises = "supervised" in getattr(item, "fixturenames", ())
    with seeded(item.stash[_seed]), telling_once() if supervises else nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Say with a failure how to repeat it."""
    report = yield
    if report.when == "call" and report.failed and _seed in item.stash:
        text = f"--trio-otp-seed={item.stash[_seed]} repeats the order of scheduling of this test"
        report.sections.append(("trio_otp", text))
    return report


@pytest.fixture
def trio_otp_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test's order of scheduling, for dice of the test's own."""
    _refuse_outside_trio(request)
    seed: int = request.node.stash[_seed]
    return seed


# --- processes -------------------------------------------------------------------------------


@pytest.fixture
def _in_trio_test(request: pytest.FixtureRequest) -> None:
    _refuse_outside_trio(request)


def _refuse_outside_trio(request: pytest.FixtureRequest) -> None:
    if not request.config.pluginmanager.hasplugin("trio"):
        pytest.fail(
            f"the fixture {request.fixturename!r} of trio_otp needs pytest-trio: "
            "pip install 'trio-otp[testing]'",
            pytrace=False,
        )
    if request.node.get_closest_marker("trio") is None:
        pytest.fail(
            "the fixtures 'supervised' and 'trio_otp_seed' work in async tests that pytest-trio "
            "runs: make the test async and mark it @pytest.mark.trio, or set trio_mode = true",
            pytrace=False,
        )


@pytest.fixture
async def supervised(_in_trio_test: None) -> AsyncIterator[Supervised]:
    """Starts processes that end with the test, and fail it if they crash.

    `agent = await supervised(Agent(dict))`.
    """
    from trio_otp.testing._supervised import supervising

    async with supervising() as starts:
        yield starts


@pytest.fixture
def events() -> Iterator[Events]:
    """Every event of the test's processes, as a list.

    `await events.wait_for(Restarting, agent)`.
    """
    from trio_otp import subscribe
    from trio_otp.testing import Events

    heard = Events()
    with subscribe(heard.hear):
        yield heard
