"""The pytest plugin: each test is a small session of pytest inside pytest."""

from pathlib import Path

import pytest
import pytest_trio_otp
import trio

from trio_otp import Agent

pytest_plugins = ["pytester"]

INI = """
    [pytest]
    trio_mode = true
    filterwarnings =
        error
        default::trio_otp.testing.UnfinishedWork
"""

PLUGINS = ("-p", "pytest_trio_otp", "-p", "no:xdist", "-p", "no:anyio")

HEAD = """
from pathlib import Path

import pytest
import trio
from trio_otp import *
from trio_otp.testing import *
"""


@pytest.fixture
def session(pytester):
    """Run tests, given as text, in a session of their own; gives its result and its output."""
    pytester.makeini(INI)

    def run(tests: str, *options: str):
        pytester.makepyfile(HEAD + tests)
        result = pytester.runpytest_inprocess(*PLUGINS, *options)
        return result, result.stdout.str()

    return run


CRASHES = {
    "during the test": (
        """
async def falls():
    await trio.sleep(1)
    raise KeyError("its own error")

async def test_it(supervised, autojump_clock):
    await supervised(falls)
    await trio.sleep_forever()
""",
        "KeyError",
    ),
    "in teardown": (
        """
async def falls(*, task_status):
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        raise OSError("its own error")

async def test_it(supervised):
    await supervised(falls)
""",
        "OSError",
    ),
    "in teardown, under a supervisor of the test": (
        """
async def falls(*, task_status):
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        raise OSError("its own error")

async def test_it(supervised):
    await supervised(Supervisor([falls]))
""",
        "OSError",
    ),
    "while the test waits for it": (
        """
async def test_it(supervised):
    agent = await supervised(Agent(dict))
    await agent.get(lambda state: state["its own error"])
""",
        "KeyError",
    ),
    "while the test awaits it": (
        """
async def falls():
    await trio.lowlevel.checkpoint()
    raise KeyError("its own error")

async def test_it(supervised):
    await (await supervised(falls))
""",
        "KeyError",
    ),
}


@pytest.mark.conforms("CASE-106")
@pytest.mark.parametrize("when", CRASHES)
def test_crash_fails_the_test(session, when):
    """A process that crashes, whenever it does, fails the test with its own error, told once."""
    tests, error = CRASHES[when]
    result, output = session(tests)
    result.assert_outcomes(failed=1)
    assert f"::test_it - {error}: " in output  # bare: the summary would say ExceptionGroup


@pytest.mark.conforms("CASE-106")
def test_restarted_crash_is_no_failure(session):
    """A crash that a supervisor of the test's own handles does not fail the test."""
    result, _ = session("""
async def test_it(supervised, events, autojump_clock):
    agent = Agent(dict)
    await supervised(Supervisor([agent]))
    with pytest.raises(Exited):
        await agent.get(lambda state: state["x"])
    await events.wait_for(Ready, agent, count=2)
    assert await agent.get() == {}
""")
    result.assert_outcomes(passed=1)


def test_several_crashes(session):
    """Several processes that crash come out together, in one flat group."""
    _, output = session("""
async def falls(*, task_status):
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        raise OSError

async def test_it(supervised):
    await supervised(falls)
    await supervised(falls)
""")
    assert "ExceptionGroup" in output
    assert "(2 sub-exceptions)" in output


def test_failing_start_is_the_business_of_whoever_asked(session):
    """A start that fails raises StartFailed in the test, and fails it only if it is not caught."""
    result, _ = session("""
def broken():
    raise KeyError("x")

async def test_it(supervised):
    with pytest.raises(StartFailed) as caught:
        await supervised(Agent(broken))
    assert isinstance(caught.value.__cause__, KeyError)
""")
    result.assert_outcomes(passed=1)


def test_unfinished_work_is_reported(session):
    """Tasks that were cancelled, casts not done and late stops are one warning, with their names."""
    result, output = session("""
async def late(*, task_status):
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)

async def busy(state):
    await trio.sleep_forever()

async def test_it(supervised, autojump_clock):
    await supervised(ChildSpec(late, shutdown=1))
    tasks = await supervised(TaskSupervisor(name="tasks"))
    tasks.start_child(trio.sleep_forever, name="import")
    agent = await supervised(Agent(dict, name="counts"))
    agent.cast(busy)
    agent.cast(dict)
    await trio.testing.wait_all_tasks_blocked()
""")
    result.assert_outcomes(passed=1, warnings=1)
    assert "import, a task of tasks, was still running" in output
    assert "counts had a cast to do" in output
    assert "late had not stopped after 1 s" in output


def test_unfinished_work_can_be_made_a_failure(session):
    """The warning obeys pytest's filters."""
    result, _ = session(
        """
async def test_it(supervised):
    tasks = await supervised(TaskSupervisor())
    tasks.start_child(trio.sleep_forever)
""",
        "-W", "error::trio_otp.testing.UnfinishedWork",
    )  # fmt: skip
    result.assert_outcomes(failed=1)


# --- outside a Trio test -------------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["supervised", "trio_otp_seed"])
def test_fixture_outside_a_trio_test(session, fixture):
    """A fixture that needs Trio says so in a test without it, and what to do."""
    result, output = session(f"def test_it({fixture}): pass")
    result.assert_outcomes(errors=1)
    assert "make the test async and mark it @pytest.mark.trio, or set trio_mode = true" in output


@pytest.mark.parametrize("fixture", ["supervised", "trio_otp_seed"])
def test_fixture_without_pytest_trio(pytester, fixture):
    """Without pytest-trio, the fixture says what to install."""
    pytester.makepyfile(f"def test_it({fixture}): pass")
    result = pytester.runpytest_inprocess("-p", "pytest_trio_otp", "-p", "no:trio")
    result.assert_outcomes(errors=1)
    assert "pip install 'trio-otp[testing]'" in result.stdout.str()


def test_plugin_does_no_harm(pytester, monkeypatch):
    """Where nobody uses it, the plugin imports neither Trio nor the library, and changes nothing."""
    pytester.makepyfile("""
import sys

def test_it():
    assert "trio" not in sys.modules
    assert "trio_otp" not in sys.modules
""")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(pytest_trio_otp.__file__).parent))
    result = pytester.runpytest_subprocess("-p", "pytest_trio_otp")
    result.assert_outcomes(passed=1)
    assert "trio_otp" not in result.stdout.str().partition("collected")[2]


def test_events_work_in_sync_tests(session):
    """The fixture `events` hears every run of a test that runs Trio by itself."""
    result, _ = session("""
def test_it(events):
    agent = Agent(dict)
    async def main():
        async with agent:
            pass
    run(main)
    assert events.kinds(agent) == [Started, Ready, Ended]
""")
    result.assert_outcomes(passed=1)


# --- from test to test ---------------------------------------------------------------------


@pytest.mark.conforms("CASE-108")
def test_nothing_is_left_from_the_last_test(session):
    """Names and handles are free again in the next test, also when the last one failed."""
    result, _ = session("""
from trio_otp.testing import leaks

shared = Agent(dict, name="shared")

@pytest.mark.parametrize("number", range(4))
async def test_it(supervised, events, number):
    leaks()
    assert events == []
    await supervised(shared)
    await supervised(Agent(dict, name="shared"))
    assert await shared.get() == {}
    await shared.update(lambda state: {"left": number})
    assert number != 1
""")
    result.assert_outcomes(passed=3, failed=1)


@pytest.mark.conforms("CASE-108")
async def test_stopping_what_is_gone_and_starting_it_again(supervised, autojump_clock):
    """A process that has ended can be stopped once more, and started again, in one test."""
    agent = await supervised(Agent(dict, name="again", idle_timeout=1))
    await trio.sleep(2)
    assert (await agent.stop()).reason == "normal"
    assert await supervised(agent) is agent
    assert (await agent.stop()).reason == "shutdown"
    await supervised(agent)
    assert await agent.get() == {}


# --- orders of scheduling ------------------------------------------------------------------

ORDERS = """
async def test_order(autojump_clock, trio_otp_seed):
    order = []
    async def noting(number):
        await trio.sleep(1)
        order.append(number)
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(noting, number)
    print("ORDER", trio_otp_seed, order)
    assert False
"""


def orders(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("ORDER")]


def test_failure_says_the_seed_that_repeats_it(session):
    """A failing async test prints the option that gives it the same order once more."""
    _, first = session(ORDERS)
    (option,) = [word for word in first.split() if word.startswith("--trio-otp-seed=")]
    (order,) = orders(first)
    assert order.split()[1] == option.partition("=")[2]
    _, second = session(ORDERS, option)
    assert orders(second) == [order]


def test_other_seeds_are_other_orders(session):
    """Without the option each test has an order of its own."""
    assert len({orders(session(ORDERS)[1])[0] for _ in range(3)}) == 3


def test_repeating(session):
    """Each async test runs under as many orders as was asked for, each with a seed of its own."""
    tests = ORDERS + "\ndef test_sync(): pass\n"
    result, output = session(tests, "--trio-otp-repeat=3", "--trio-otp-seed=10")
    result.assert_outcomes(failed=3, passed=1)
    assert [line.split()[1] for line in orders(output)] == ["10", "11", "12"]
    assert len({line.partition("[")[2] for line in orders(output)}) == 3
    assert orders(session(ORDERS, "--trio-otp-seed=11")[1]) == [orders(output)[1]]


def test_repeating_a_parametrized_test(session):
    """Repeating multiplies with the parameters of a test."""
    tests = "@pytest.mark.parametrize('x', [1, 2])\nasync def test_it(x): pass\n"
    result, _ = session(tests, "--trio-otp-repeat=3")
    result.assert_outcomes(passed=6)


def test_test_of_hypothesis_keeps_its_orders(session):
    """A test of Hypothesis is left to Hypothesis."""
    result, _ = session("""
from hypothesis import given, strategies as st

@given(st.integers())
async def test_it(number):
    await trio.sleep(0)
""")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--trio-otp-seed=-1", "must be 0 or more, got -1"),
        ("--trio-otp-repeat=0", "must be 1 or more, got 0"),
    ],
)
def test_wrong_options(session, option, text):
    """A value that cannot be is refused before any test runs."""
    pytester_result, _ = session("def test_it(): pass", option)
    assert pytester_result.ret == pytest.ExitCode.USAGE_ERROR
    assert text in pytester_result.stderr.str()
