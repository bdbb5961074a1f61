"""Deadlines by key: values in, values out."""

import math
import random

from trio_otp._core.timers import Timers


def test_earliest_first():
    """Due keys come out by time, in the order they were set if the times are equal."""
    timers = Timers()
    for key, at in [("c", 3), ("a", 1), ("b", 1), ("d", 9)]:
        timers.set(key, at)
    assert timers.next_at() == 1
    assert timers.take_due(0.9) == []
    assert timers.take_due(3) == ["a", "b", "c"]
    assert timers.take_due(3) == []
    assert timers.next_at() == 9


def test_setting_again_moves():
    """A key has one deadline, the last that was set."""
    timers = Timers()
    timers.set("a", 1)
    timers.set("a", 5)
    assert timers.next_at() == 5
    timers.set("a", 2)
    assert timers.take_due(10) == ["a"]


def test_dropped():
    """A dropped key is not due any more; dropping an unknown one does nothing."""
    timers = Timers()
    timers.set("a", 1)
    timers.set("b", 2)
    timers.drop("a")
    timers.drop("unknown")
    assert timers.next_at() == 2
    assert timers.take_due(1e9) == ["b"]


def test_infinity_is_no_deadline():
    """A deadline at infinity is none, and takes an earlier one away."""
    timers = Timers()
    timers.set("a", 1)
    timers.set("a", math.inf)
    assert timers.next_at() == math.inf
    assert timers.take_due(1e9) == []


def test_keys_need_no_order():
    """Keys that cannot be compared may share a moment."""
    timers = Timers()
    keys = [None, object(), object(), "x"]
    for key in keys:
        timers.set(key, 1)
    assert timers.take_due(1) == keys


def test_stale_ones_are_few():
    """Whatever is dropped or moved, few stale keys are kept for each that counts; at last none."""
    timers = Timers()
    timers.set("soon", 1)
    for number in range(1000):
        timers.set(number, 1e9)
        timers.set(number, 2e9)
    assert len(timers._heap) <= 2 * 1001 + 16
    for number in range(1000):
        timers.drop(number)
        assert len(timers._heap) <= 2 * (1000 - number) + 16
    timers.drop("soon")
    assert timers.next_at() == math.inf
    assert timers._heap == []


def test_against_a_dictionary():
    """On random operations, timers agree with a plain dictionary, and stay as small."""
    rand = random.Random(7)
    timers, plain, now = Timers(), {}, 0.0
    for _ in range(5000):
        key, at = rand.randrange(20), now + rand.choice([0, 1, 2, 5, 1e9, math.inf])
        if rand.random() < 0.6:
            timers.set(key, at)
            plain.pop(key, None)
            if at < math.inf:
                plain[key] = at
        elif rand.random() < 0.5:
            timers.drop(key)
            plain.pop(key, None)
        else:
            now += rand.choice([0, 1])
            due = {key for key, at in plain.items() if at <= now}
            assert {*timers.take_due(now)} == due
            plain = {key: at for key, at in plain.items() if key not in due}
        assert timers.next_at() == min(plain.values(), default=math.inf)
        assert len(timers._heap) <= 2 * len(plain) + 16


def test_ranks():
    """Of keys with one deadline the lower rank is first, however they were set; one at a time, if so wanted."""
    timers = Timers()
    for key, rank in [("c", 3), ("a", 1), ("b", 2), ("later", 0)]:
        timers.set(key, 5 if key == "later" else 1, rank)
    timers.set("b", 1, 4)
    assert timers.next() == (1, 1)
    assert timers.take_due(1, most=1) == ["a"]
    assert timers.take_due(9, most=2) == ["c", "b"]
    assert timers.take_due(9) == ["later"]
    assert timers.next() == (math.inf, 0)
