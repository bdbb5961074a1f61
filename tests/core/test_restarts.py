"""Who is restarted, when, and when to give up: values in, values out."""

import math
import random

import pytest

from trio_otp import Backoff, Exit
from trio_otp._core.restarts import Budget, bounced, shuts_down, wants_restart


@pytest.mark.parametrize("reason", ["normal", "shutdown", "crashed", "killed"])
def test_wants_restart(reason):
    """Permanent always, transient after a failure, temporary never."""
    exit = Exit(reason)
    assert wants_restart("permanent", exit)
    assert wants_restart("transient", exit) == (reason in ("crashed", "killed"))
    assert not wants_restart("temporary", exit)


def test_bounced():
    """The fallen one alone, all, or the fallen one and those behind it."""
    for size in range(1, 6):
        for fallen in range(size):
            assert [*bounced("one_for_one", size, fallen)] == [fallen]
            assert [*bounced("one_for_all", size, fallen)] == [*range(size)]
            assert [*bounced("rest_for_one", size, fallen)] == [*range(fallen, size)]


@pytest.mark.parametrize(
    ("rule", "significant", "others_up", "ends"),
    [
        ("never", True, [], False),
        ("any_significant", False, [], False),
        ("any_significant", True, [True], True),
        ("all_significant", False, [], False),
        ("all_significant", True, [], True),
        ("all_significant", True, [False, False], True),
        ("all_significant", True, [False, True], False),
    ],
)
def test_shuts_down(rule, significant, others_up, ends):
    """Only the end of a significant child counts: any one, or the last that ran."""
    assert shuts_down(rule, significant, others_up) is ends


# --- budget ------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 1, 3])
def test_budget_allows_so_many(most):
    """`max_restarts` restarts are granted, the next is not."""
    budget = Budget(most, 5)
    assert [budget.spend(0, "a") for _ in range(most + 2)] == [True] * most + [False] * 2


def test_budget_window_includes_both_ends():
    """A restart counts for exactly `max_seconds`."""
    budget = Budget(1, 5)
    assert budget.spend(10, "a")
    assert not budget.spend(15, "a")
    assert budget.spend(20.001, "a")


def test_budget_against_a_count_by_hand():
    """On random times, the budget agrees with counting those in the window."""
    rand = random.Random(1)
    for most in range(5):
        budget, spent, now = Budget(most, 3), [], 0.0
        for _ in range(500):
            now += rand.choice([0, 0.1, 0.5, 1, 2, 4])
            spent.append(now)
            assert budget.spend(now, "x") == (sum(now - at <= 3 for at in spent) <= most)


def test_budget_says_who_spent_it():
    """The account names the limits and the users, the heaviest first, five at most."""
    budget = Budget(2, 0.5)
    for child in ["a", "b", "b"]:
        budget.spend(0, child)
    assert budget.account() == "more than 2 restarts within 0.5 s: 'b' 2x, 'a' 1x"
    for child in range(20):
        budget.spend(0, child)
    assert budget.account().count("x, ") == 4


# --- backoff -----------------------------------------------------------------------------


def test_delays_grow_to_their_maximum():
    """Each delay is the one before times the factor, up to the maximum."""
    backoff = Backoff(0.1, factor=2, maximum=1)
    assert [backoff.delay(n) for n in range(1, 7)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1, 1])
    assert [Backoff(3, factor=1).delay(n) for n in (1, 2, 50)] == [3, 3, 3]
    assert Backoff(0).delay(9) == 0


def test_endless_growth():
    """Without a maximum a delay may grow beyond all bounds, but never fails."""
    assert Backoff(1).delay(100_000) == math.inf
    assert Backoff(1, maximum=60).delay(100_000) == 60
    assert Backoff(1, maximum=None).maximum == math.inf
    assert Backoff(1, jitter=0.5).delay(100_000) == math.inf
    assert Backoff(0).delay(100_000) == 0


def test_jitter_stays_in_its_share():
    """Jitter varies a delay by at most its share, both ways."""
    delays = [Backoff(10, jitter=0.2).delay(1) for _ in range(2000)]
    assert 8 <= min(delays) < 8.3
    assert 11.7 < max(delays) <= 12


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"initial": -1}, ValueError, "initial must not be negative"),
        ({"initial": "1"}, TypeError, "initial must be a number of seconds"),
        ({"initial": None}, TypeError, "initial must be a number of seconds"),
        ({"initial": math.nan}, ValueError, "initial"),
        ({"initial": 1, "factor": 0.5}, ValueError, "factor must be from 1 to inf, got 0.5"),
        ({"initial": 1, "jitter": 1.5}, ValueError, "jitter must be from 0 to 1, got 1.5"),
        ({"initial": 1, "jitter": -0.1}, ValueError, "jitter must not be negative"),
        ({"initial": 1, "maximum": -1}, ValueError, "maximum must not be negative"),
        ({"initial": 1, "maximum": "1"}, TypeError, "maximum must be a number of seconds"),
    ],
)
def test_wrong_backoff(options, error, says):
    """A wrong value is refused by a message that names it."""
    with pytest.raises(error, match=says):
        Backoff(**options)


def test_options_of_a_backoff_are_words():
    """All but the first delay must be named."""
    with pytest.raises(TypeError):
        Backoff(1, 2)
