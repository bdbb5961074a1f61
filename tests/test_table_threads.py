"""Tables under real worker threads."""

import random
import sys
import threading

import pytest
import trio

from trio_otp import BagTable, Table, TableGone

pytestmark = pytest.mark.real

WORKERS = 6
ROUNDS = 400


@pytest.fixture(autouse=True)
def switch_often():
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


async def in_threads(fn, workers=WORKERS):
    """Call fn(number) in as many threads at once, and give what they return."""
    results = {}
    start = threading.Barrier(workers)

    def work(number):
        start.wait()
        return fn(number)

    async def one(number):
        results[number] = await trio.to_thread.run_sync(
            work, number, limiter=trio.CapacityLimiter(1)
        )

    async with trio.open_nursery() as nursery:
        for number in range(workers):
            nursery.start_soon(one, number)
    return [results[number] for number in range(workers)]


BOTH = pytest.mark.parametrize("ordered", [False, True], ids=["plain", "ordered"])


@BOTH
@pytest.mark.conforms("ETS-059", "ETS-062")
async def test_counting(ordered):
    """No step of any thread is lost, whichever safe way it counts."""
    table = Table(ordered=ordered)
    table.update(a=0, b=0, c=0)

    def count(_):
        for _ in range(ROUNDS):
            table.update_counter("a")
            table.update_value("b", lambda n: n + 1)
            while not table.compare_and_set("c", n := table["c"], n + 1):
                pass

    await in_threads(count)
    assert dict(table) == dict.fromkeys("abc", WORKERS * ROUNDS)


@BOTH
@pytest.mark.conforms("ETS-020", "ETS-031", "ETS-059")
async def test_one_winner_for_each_key(ordered):
    """Of all threads one inserts each key, one gets each default in, and one takes it."""
    table = Table(ordered=ordered)

    def insert(number):
        return {key for key in range(ROUNDS) if table.insert_new(key, number)}

    def default(number):
        return {key for key in range(ROUNDS) if table.setdefault(key, number) == number}

    def take(number):
        return {key for key in range(ROUNDS) if table.take(key) is not None}

    for race in (insert, take, default, take):
        won = await in_threads(race)
        assert sum(map(len, won)) == len(set().union(*won)) == ROUNDS
    assert len(table) == 0


@BOTH
@pytest.mark.conforms("ETS-050", "ETS-051", "ETS-059")
async def test_looking_while_others_change(ordered):
    """Iterations never fail, and rows that were put in together are seen together."""
    table = Table(ordered=ordered)
    done = threading.Event()

    def look():
        while not done.is_set():
            for rows in ([*table.items()], table.select(lambda key, value: True)):
                assert sum(key for key, value in rows) == 0
                assert all(abs(key) == value for key, value in rows)
            assert sum(table) == sum(reversed(table)) == 0

    def put_in(number):
        for turn in range(1, ROUNDS):
            key = turn * WORKERS + number
            table.update({key: key, -key: key})
            if turn % 3 == 0:
                table.delete_where(lambda k, value: value == key)
        if number == 1:
            done.set()

    await in_threads(lambda number: put_in(number) if number else look())
    assert len(table) == 2 * (WORKERS - 1) * (ROUNDS - 1 - (ROUNDS - 1) // 3)


async def test_ordered_table_stays_whole():
    """After any changes by many threads, keys and rows of an ordered table agree."""
    table = Table(ordered=True)

    def change(number):
        dice = random.Random(number)
        for _ in range(ROUNDS):
            key = dice.randrange(50)
            dice.choice([table.take, table.next, lambda k: table.insert_new(k, k), table.prev])(key)

    await in_threads(change)
    assert [*table] == sorted(dict(table.items())) == [key for key, _ in table.range()]


@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.conforms("ETS-059")
async def test_bag(unique):
    """A bag loses and doubles no row, and its length is right."""
    bag = BagTable(unique=unique)

    def change(number):
        for turn in range(ROUNDS):
            bag.insert("shared", turn)
            bag.insert("own", (number, turn))
            bag.lookup("shared")
            bag.delete_value("own", (number, turn - 1))

    await in_threads(change)
    assert sorted(bag.lookup("shared")) == sorted([*range(ROUNDS)] * (1 if unique else WORKERS))
    assert sorted(bag.lookup("own")) == [(number, ROUNDS - 1) for number in range(WORKERS)]
    assert len(bag) == len(bag.items()) == len(bag.lookup("shared")) + WORKERS


async def test_end_while_others_work():
    """Threads that are at work when a table ends are told, and nothing is put in after the end."""
    table = Table()

    def work(number):
        if number == 0:
            return table.close()
        with pytest.raises(TableGone):
            while True:
                table.insert_new(number, number)
                table.take(number)
        return None

    await in_threads(work)
    assert table.closed


async def test_slow_function_holds_up_nobody():
    """While a thread is in its slow function, the Trio thread changes the same row, and wins no loss."""
    table = Table()
    table["k"] = 0
    inside, go_on = threading.Event(), threading.Event()

    def slow(n):
        inside.set()
        go_on.wait()
        return n + 10

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, table.update_value, "k", slow)
        await trio.to_thread.run_sync(inside.wait)
        assert table.update_counter("k") == 1
        go_on.set()
    assert table["k"] == 11
