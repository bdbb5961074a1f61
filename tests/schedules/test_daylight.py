"""The nights on which clocks are changed. Moments are in UTC unless an offset is shown."""

import calendar
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from helpers_schedules import at, slots, slots_from
from trio_otp import Cron
from trio_otp._cron import _Calendar
from trio_otp._daylight import LocalClock, RealTime

INSTANT, HOUR = datetime.resolution, timedelta(hours=1)
BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"

NIGHTS = [
    pytest.param(*case, marks=pytest.mark.conforms(id), id=f"{id} {case[0]} {case[1]}")
    for id, *case in [
        ("SCHED-020", BERLIN, "30 2 * * *", "2026-03-28 01:30", "2026-03-29 01:00, 2026-03-30 00:30"),
        ("SCHED-020", NEW_YORK, "30 2 * * *", "2026-03-07 12:00", "2026-03-08 07:00, 2026-03-09 06:30"),
        ("SCHED-021", BERLIN, "0,15 2 * * *", "2026-03-28 12:00", "2026-03-29 01:00, 2026-03-30 00:00"),
        ("SCHED-021", BERLIN, "30 2,8 * * *", "2026-03-28 12:00", "2026-03-29 01:00, 06:30"),
        ("SCHED-021", BERLIN, "0 2,3 * * *", "2026-03-28 12:00", "2026-03-29 01:00, 2026-03-30 00:00"),
        ("SCHED-022", BERLIN, "30 2 * * *", "2026-10-24 12:00", "2026-10-25 00:30, 2026-10-26 01:30"),
        ("SCHED-022", NEW_YORK, "30 1 * * *", "2026-10-31 12:00", "2026-11-01 05:30, 2026-11-02 06:30"),
        ("SCHED-022", BERLIN, "30 2 25 10 *", "2026-06-01 00:00", "2026-10-25 00:30, 2027-10-25 00:30"),
        ("SCHED-023", BERLIN, "*/30 * * * *", "2026-10-24 23:00", "2026-10-24 23:30, 2026-10-25 00:00, 00:30, 01:00, 01:30, 02:00"),
        ("SCHED-024", BERLIN, "*/15 * * * *", "2026-03-29 00:30", "2026-03-29 00:45, 01:00, 01:15"),
        ("SCHED-024", BERLIN, "0 */2 * * *", "2026-03-29 00:00+01:00", "2026-03-29 02:00, 04:00"),
        ("SCHED-025", BERLIN, "*/5 * * * *", "2026-10-25 01:10", "2026-10-25 01:15, 01:20"),
        ("SCHED-026", "Africa/Cairo", "0 0 * * *", "2026-04-23 12:00", "2026-04-23 22:00, 2026-04-24 21:00"),
        ("SCHED-026", "America/Santiago", "0 0 * * *", "2026-09-05 12:00", "2026-09-06 04:00, 2026-09-07 03:00"),
        ("SCHED-027", BERLIN, "0 0 * * *", "2026-03-28 23:00", "2026-03-29 22:00, 2026-03-30 22:00"),
        ("SCHED-028", LORD_HOWE, "0 */2 * * *", "2026-04-05 00:00+11:00", "2026-04-04 15:30, 17:30"),
        ("SCHED-028", LORD_HOWE, "30 * * * *", "2026-10-04 01:30+10:30", "2026-10-03 15:30, 16:30"),
        ("SCHED-029", "Pacific/Apia", "0 12 30 12 *", "2011-12-01 00:00", "2011-12-30 10:00, 2012-12-29 22:00"),
        ("SCHED-029", "Antarctica/Troll", "30 1,2 * * *", "2026-03-28 12:00", "2026-03-29 01:00, 23:30"),
        ("SCHED-030", BERLIN, "0 30 2 * * *", "2026-03-28 12:00", "2026-03-29 01:00, 2026-03-30 00:30"),
        ("SCHED-030", BERLIN, "0 30 2 * * *", "2026-10-24 12:00", "2026-10-25 00:30, 2026-10-26 01:30"),
    ]
]  # fmt: skip


@pytest.mark.parametrize(("zone", "text", "after", "expected"), NIGHTS)
def test_night(zone, text, after, expected):
    """Named times happen once each day, at the change if they are left out; starred ones follow real time."""
    assert slots(text, after, expected.count(",") + 1, timezone=zone) == expected


@pytest.mark.conforms("SCHED-031")
@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("2026-03-28 01:30", "2026-03-30 00:30"),
        ("2026-10-24 12:00", "2026-10-25 00:30, 01:30, 2026-10-26 01:30"),
    ],
)
def test_real_time_for_named_times(after, expected):
    """With dst="wall" what is left out does not happen, and what is repeated happens twice."""
    number = expected.count(",") + 1
    assert slots("30 2 * * *", after, number, timezone=BERLIN, dst="wall") == expected


@pytest.mark.conforms("SCHED-031")
@pytest.mark.parametrize(
    ("text", "dst", "spring", "autumn"),
    [
        ("30 2 * * *", "cron", ["03:00"], ["02:30+2"]),
        ("30 2 * * *", "wall", [], ["02:30+2", "02:30+1"]),
        ("0,15 2 * * *", "cron", ["03:00"], ["02:00+2", "02:15+2"]),
        ("*/30 2 * * *", "cron", [], ["02:00+2", "02:30+2", "02:00+1", "02:30+1"]),
        ("0 */2 * * *", "cron", ["00:00", "04:00"], ["00:00+2", "02:00+2", "02:00+1", "04:00+1"]),
        ("0 0 * * *", "cron", ["00:00"], ["00:00+2"]),
    ],
)
def test_table_of_both_nights(text, dst, spring, autumn):
    """The table of the documentation, from midnight to five in Berlin."""
    cron, zone = Cron(text, timezone=BERLIN, dst=dst), ZoneInfo(BERLIN)
    nights = [("2026-03-29 00:00+01:00", "05:00+02:00"), ("2026-10-25 00:00+02:00", "05:00+01:00")]
    march, october = (
        [slot.astimezone(zone) for slot in cron.between(at(start) - INSTANT, at(start[:11] + end))]
        for start, end in nights
    )
    assert [f"{slot:%H:%M}" for slot in march] == spring
    assert [f"{slot:%H:%M}+{slot.utcoffset() // HOUR}" for slot in october] == autumn


@pytest.mark.parametrize("micro", [0, 1, 3600, 999_999])
def test_question_right_after_a_change(micro):
    """A fraction of a second in the question does not shift the change that came before it."""
    cron = Cron("0 0 * * 5,7", timezone="Asia/Beirut")  # midnight becomes 23:00
    asked = at("2026-10-24 21:00") + timedelta(microseconds=micro)
    assert cron.last_before(asked) == at("2026-10-22 21:00")
    assert cron.next_after(asked) == at("2026-10-24 22:00")


@pytest.mark.conforms("SCHED-013")
def test_never_shown():
    """A time that is left out whenever it would come is refused; with the rule of cron it happens."""
    with pytest.raises(ValueError, match="never meet by the clocks of Europe/Berlin"):
        Cron("30 2 * 3 7L", timezone=BERLIN, dst="wall")
    lost = slots("30 2 * 3 7L", "2026-01-01 00:00", 2, timezone=BERLIN)
    assert lost == "2026-03-29 01:00, 2027-03-28 01:00"


def test_search_ends():
    """The search for readings that are always left out is given up after fifty years, both ways."""
    last_sundays = _Calendar("0 30 2 * 3 7L", "or")
    slots_in_berlin = RealTime(LocalClock(ZoneInfo(BERLIN)), last_sundays)
    assert slots_in_berlin.next_after(at("2026-01-01 00:00")) is None
    assert slots_in_berlin.last_before(at("2080-01-01 00:00")) is None


@pytest.mark.conforms("SCHED-029")
@pytest.mark.parametrize("text", ["*/10 * * * *", "30 1,2 * * *", "0 0 * * *", "15 */3 * * *"])
@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("Europe/Dublin", "2026-03-28 12:00"),
        ("Europe/Dublin", "2026-10-24 12:00"),
        ("Antarctica/Troll", "2026-03-28 12:00"),
        ("Antarctica/Troll", "2026-10-24 12:00"),
        ("Pacific/Apia", "2011-12-28 12:00"),
    ],
)
def test_odd_changes(zone, start, text):
    """Winter time that is the exception, two hours at once, a day that never was: slots only increase."""
    found = slots_from(Cron(text, timezone=zone), start, 300 if "*/10" in text else 10)
    assert all(before < after for before, after in pairwise(found))


# --- against brute force -----------------------------------------------------------------

CHANGES = [
    ("Europe/Berlin", "2026-03-29 01:00"),
    ("Europe/Berlin", "2026-10-25 01:00"),
    ("America/New_York", "2026-03-08 07:00"),
    ("America/New_York", "2026-11-01 06:00"),
    ("Europe/Dublin", "2026-03-29 01:00"),
    ("Europe/Dublin", "2026-10-25 01:00"),
    ("Australia/Lord_Howe", "2026-04-04 15:00"),
    ("Australia/Lord_Howe", "2026-10-03 15:30"),
    ("Africa/Cairo", "2026-04-23 22:00"),
    ("Africa/Cairo", "2026-10-29 21:00"),
    ("America/Santiago", "2026-04-05 03:00"),
    ("America/Santiago", "2026-09-06 04:00"),
    ("America/Sao_Paulo", "2018-02-18 02:00"),
    ("America/Sao_Paulo", "2018-11-04 03:00"),
    ("Asia/Beirut", "2026-03-28 22:00"),
    ("Asia/Beirut", "2026-10-24 21:00"),
    ("Antarctica/Troll", "2026-03-29 01:00"),
    ("Antarctica/Troll", "2026-10-25 01:00"),
    ("Pacific/Apia", "2011-12-30 10:00"),
]
MINUTE, TICK = timedelta(minutes=1), timedelta(seconds=1)


@attrs.frozen
class Window:
    """All moments around a change of clocks, a step apart, each with what clocks show."""

    step: timedelta
    shown: list[tuple[datetime, datetime]]

    def real_time(self, matches):
        return [moment for moment, reading in self.shown if matches(reading)]

    def once_each(self, matches):
        """The first moment of each reading; what is left out counts for the moment after."""
        found, seen = set(), set()
        for (_, before), (moment, reading) in pairwise(self.shown):
            left_out = (before + self.step * n for n in range(1, (reading - before) // self.step))
            if (matches(reading) and reading not in seen) or any(map(matches, left_out)):
                found.add(moment)
            seen.add(reading)
        return sorted(found)


@cache
def window(zone: str, change: str, step: timedelta, hours: int) -> Window:
    start, zone = at(change) - timedelta(hours=hours), ZoneInfo(zone)
    moments = (start + n * step for n in range(2 * hours * 3600 // (step // TICK)))
    return Window(step, [(m, m.astimezone(zone).replace(tzinfo=None, fold=0)) for m in moments])


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_window(zone, change):
    """The moments around which we compare are changes of clocks."""
    offset = {(m - r.replace(tzinfo=UTC)) for m, r in window(zone, change, MINUTE, 30).shown}
    assert len(offset) == 2


@st.composite
def fields(draw, low, high, size, often):
    """One field: its text, and the numbers that it means, found without our parser."""
    number = st.one_of(often, st.integers(low, high))
    parts = [
        draw(st.sampled_from([star, one, tail, span]))(draw, number, low, high, size)
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3])))
    ]
    return ",".join(text for text, _ in parts), frozenset().union(*(means for _, means in parts))


def star(draw, number, low, high, size):
    step = draw(st.integers(1, size))
    return f"*/{step}" if step > 1 else "*", set(range(low, high + 1, step))


def one(draw, number, low, high, size):
    value = draw(number)
    return str(value), {value}


def tail(draw, number, low, high, size):
    value, step = draw(number), draw(st.integers(1, size))
    return f"{value}/{step}", set(range(value, high + 1, step))


def span(draw, number, low, high, size):
    first, last, step = draw(number), draw(number), draw(st.integers(1, size))
    if size == 31:
        first, last = sorted([first, last])
    values = [0 if (size, first) == (7, 7) and last < 7 else first]  # Sunday is 0 and 7
    while values[-1] != last:
        values.append(follower(values[-1], last, low, high, size))
    return f"{first}-{last}/{step}", set(values[::step])


def follower(value, last, low, high, size):
    if size == 7:
        return 7 if (value, last) == (6, 7) else (value + 1) % 7
    return value + 1 if value < high else low


EVERY_DAY = st.just(("*", frozenset(range(32))))
SPECIAL_DAYS = st.sampled_from([("L", "last"), ("LW", "last weekday"), ("?", frozenset(range(32)))])
SPECIAL_WEEKDAYS = st.builds(
    lambda day, which: (f"{day}{which}", (day % 7, which)),
    st.integers(0, 7),
    st.sampled_from(["#1", "#2", "#3", "#4", "#5", "L"]),
)


def last_day(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def is_in_month(means, day: date) -> bool:
    if means == "last":
        return day.day == last_day(day)
    if means == "last weekday":
        weekdays = [n for n in range(1, last_day(day) + 1) if day.replace(day=n).weekday() < 5]
        return day.day == weekdays[-1]
    return day.day in means


def is_in_week(means, day: date) -> bool:
    weekday = day.isoweekday()
    if isinstance(means, tuple):
        wanted, which = means
        nth = f"#{(day.day - 1) // 7 + 1}"
        return weekday % 7 == wanted and (
            day.day + 7 > last_day(day) if which == "L" else nth == which
        )
    return weekday in means or weekday % 7 in means


@st.composite
def expressions(draw, with_seconds):
    """A cron text, whether its minute and hour are named, and a function that knows its readings."""
    second_text, seconds = draw(fields(0, 59, 60, st.just(0))) if with_seconds else ("", {0})
    minute_text, minutes = draw(fields(0, 59, 60, st.sampled_from([0, 15, 30, 59])))
    hour_text, hours = draw(fields(0, 23, 24, st.integers(0, 4)))
    day_text, days = draw(
        st.one_of(EVERY_DAY, EVERY_DAY, SPECIAL_DAYS, fields(1, 31, 31, st.integers(24, 31)))
    )
    month_text, months = draw(st.one_of(EVERY_DAY, fields(1, 12, 12, st.integers(1, 12))))
    weekday_text, weekdays = draw(
        st.one_of(EVERY_DAY, EVERY_DAY, SPECIAL_WEEKDAYS, fields(0, 7, 7, st.integers(5, 7)))
    )
    both = day_text[0] in "*?" or weekday_text[0] in "*?" or draw(st.booleans())

    @cache
    def is_day(day: date) -> bool:
        matched = is_in_month(days, day), is_in_week(weekdays, day)
        return day.month in months and (all(matched) if both else any(matched))

    def matches(reading: datetime) -> bool:
        return (
            reading.minute in minutes
            and reading.hour in hours
            and reading.second in seconds
            and is_day(reading.date())
        )

    text = f"{second_text} {minute_text} {hour_text} {day_text} {month_text} {weekday_text}".strip()
    named = minute_text[0] != "*" and hour_text[0] != "*"
    return text, "and" if both else "or", named, matches


def compare(around: Window, expression, zone: str, dst: str, asked: datetime) -> None:
    text, day_rule, named, matches = expression
    cron = None
    with suppress(ValueError):
        cron = Cron(text, timezone=zone, dst=dst, day_rule=day_rule)
    if cron is None:
        reject()  # these fields never meet
    once = named and dst == "cron"
    expected = around.once_each(matches) if once else around.real_time(matches)
    # The first hours are there for what is repeated in the rest.
    first, last = around.shown[len(around.shown) // 10][0], around.shown[-1][0]
    after = [slot for slot in expected if asked < slot][:30]
    before = [slot for slot in expected if first <= slot < asked][-30:]
    assert chain(cron.next_after, asked, first, last) == after
    assert chain(cron.last_before, asked, first, last) == before[::-1]
    assert [*cron.between(first - INSTANT, asked - INSTANT, limit=30)] == before


def chain(step, moment: datetime, first: datetime, last: datetime) -> list[datetime]:
    """Up to thirty slots, each asked for from the one before, inside the window."""
    found = []
    while len(found) < 30 and (moment := step(moment)) and first <= moment <= last:
        found.append(moment)
    return found


@pytest.mark.conforms("SCHED-015", "SCHED-032")
@given(
    st.sampled_from(CHANGES),
    expressions(with_seconds=False),
    st.sampled_from(["cron", "wall"]),
    st.one_of(st.floats(-6, 6), st.floats(-23, 29)),
)
def test_against_brute_force(change, expression, dst, hours):
    """Around changes in ten zones, slots are what a search through all minutes finds, both ways."""
    asked = at(change[1]) + timedelta(hours=hours)
    compare(window(*change, MINUTE, 30), expression, change[0], dst, asked)


@pytest.mark.conforms("SCHED-015", "SCHED-030", "SCHED-032")
@settings(max_examples=40)
@given(
    st.sampled_from([change for change in CHANGES if change[0] != "Pacific/Apia"]),
    expressions(with_seconds=True),
    st.sampled_from(["cron", "wall"]),
    st.floats(-2.2, 2.8),
)
def test_seconds_against_brute_force(change, expression, dst, hours):
    """With a field for seconds, slots are what a search through all seconds finds, both ways."""
    asked = at(change[1]) + timedelta(hours=hours)
    compare(window(*change, TICK, 3), expression, change[0], dst, asked)
