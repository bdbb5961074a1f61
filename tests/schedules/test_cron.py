"""Cron expressions: what they mean and what is refused. All times are UTC."""

import pickle
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trio_otp
from helpers_schedules import at, slots
from trio_otp import Cron

NEW_YEAR = "2026-01-01 00:00"  # a Thursday


@pytest.mark.conforms("SCHED-001")
@pytest.mark.parametrize(
    ("after", "slot"),
    [
        ("2026-01-01 12:05:00.000000", "2026-01-01 12:10"),
        ("2026-01-01 12:04:59.999999", "2026-01-01 12:05"),
    ],
)
def test_strictly_after(after, slot):
    """A slot is not after itself, but after any moment before it."""
    assert Cron("*/5 * * * *").next_after(at(after)) == at(slot)


@pytest.mark.conforms("SCHED-002")
def test_whole_seconds():
    """Slots have no fraction of a second, and none is lost to that of the question."""
    cron, slot = Cron("* * * * * *"), at(NEW_YEAR)
    for number in range(1, 1001):
        slot = cron.next_after(slot + timedelta(seconds=0.0137))
        assert slot == at(NEW_YEAR) + number * timedelta(seconds=1)


MEANINGS = [
    pytest.param(*case, marks=pytest.mark.conforms(id), id=f"{id} {case[0]}")
    for id, *case in [
        ("SCHED-003", "*/20 * * * * *", NEW_YEAR, "2026-01-01 00:00:20, 00:00:40, 00:01"),
        ("SCHED-003", "5 4 * * *", NEW_YEAR, "2026-01-01 04:05"),
        ("SCHED-004", "0 0 13 * 5", NEW_YEAR, "2026-01-02 00:00, 2026-01-09 00:00, 2026-01-13 00:00, 2026-01-16 00:00"),
        ("SCHED-005", "0 0 */2 * 1", NEW_YEAR, "2026-01-05 00:00, 2026-01-19 00:00, 2026-02-09 00:00"),
        ("SCHED-005", "0 0 1-31 * 1", NEW_YEAR, "2026-01-02 00:00, 2026-01-03 00:00"),
        ("SCHED-006", "0 0 * * 0", NEW_YEAR, "2026-01-04 00:00, 2026-01-11 00:00"),
        ("SCHED-006", "0 0 * * 7", NEW_YEAR, "2026-01-04 00:00, 2026-01-11 00:00"),
        ("SCHED-006", "0 0 * * 5-7", NEW_YEAR, "2026-01-02 00:00, 2026-01-03 00:00, 2026-01-04 00:00, 2026-01-09 00:00"),
        ("SCHED-006", "0 0 * fEb wed", NEW_YEAR, "2026-02-04 00:00, 2026-02-11 00:00"),
        ("SCHED-006", "0 0 * * SAT-SUN", NEW_YEAR, "2026-01-03 00:00, 2026-01-04 00:00, 2026-01-10 00:00"),
        ("SCHED-007", "0 18-6/2 * * *", "2026-01-01 17:00", "2026-01-01 18:00, 20:00, 22:00, 2026-01-02 00:00, 02:00, 04:00, 06:00, 18:00"),
        ("SCHED-007", "58-1 0 * * *", "2026-01-01 00:01", "2026-01-01 00:58, 00:59, 2026-01-02 00:00, 00:01"),
        ("SCHED-007", "0 0 1 nov-FEB *", NEW_YEAR, "2026-02-01 00:00, 2026-11-01 00:00, 2026-12-01 00:00, 2027-01-01 00:00"),
        ("SCHED-007", "0 0 * * 6-2/2", NEW_YEAR, "2026-01-03 00:00, 2026-01-05 00:00, 2026-01-10 00:00"),
        ("SCHED-007", "0 0 * * 7-1", NEW_YEAR, "2026-01-04 00:00, 2026-01-05 00:00, 2026-01-11 00:00"),
        ("SCHED-009", "0 0 29 2 *", NEW_YEAR, "2028-02-29 00:00, 2032-02-29 00:00"),
        ("SCHED-009", "0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00"),
        ("SCHED-009", "0 0 31 * *", "2026-01-31 00:00", "2026-03-31 00:00, 2026-05-31 00:00"),
        ("SCHED-010", "0 0 L * *", NEW_YEAR, "2026-01-31 00:00, 2026-02-28 00:00"),
        ("SCHED-010", "0 0 LW * *", NEW_YEAR, "2026-01-30 00:00, 2026-02-27 00:00"),
        ("SCHED-010", "0 0 * * MON#2", NEW_YEAR, "2026-01-12 00:00, 2026-02-09 00:00"),
        ("SCHED-010", "0 0 * * 1#5", NEW_YEAR, "2026-03-30 00:00"),
        ("SCHED-010", "0 0 * * 5L", NEW_YEAR, "2026-01-30 00:00"),
        ("SCHED-010", "0 0 * * friL", NEW_YEAR, "2026-01-30 00:00"),
        ("SCHED-010", "0 0 15,L * *", NEW_YEAR, "2026-01-15 00:00, 2026-01-31 00:00"),
        ("SCHED-010", "0 0 13 * ?", NEW_YEAR, "2026-01-13 00:00, 2026-02-13 00:00"),
        ("SCHED-010", "0 0 ? * MON", NEW_YEAR, "2026-01-05 00:00, 2026-01-12 00:00"),
        ("SCHED-011", "59/15 * * * *", NEW_YEAR, "2026-01-01 00:59, 01:59"),
        ("SCHED-011", "5/15 * * * *", NEW_YEAR, "2026-01-01 00:05, 00:20, 00:35, 00:50, 01:05"),
        ("SCHED-011", "5-5/2 * * * *", NEW_YEAR, "2026-01-01 00:05, 01:05"),
        ("SCHED-011", "*/60 * * * *", NEW_YEAR, "2026-01-01 01:00, 02:00"),
        ("SCHED-013", "0 0 31 2 1", NEW_YEAR, "2026-02-02 00:00, 2026-02-09 00:00"),
    ]
]  # fmt: skip


@pytest.mark.parametrize(("text", "after", "expected"), MEANINGS)
def test_meaning(text, after, expected):
    """Fields, steps, names, wrapping ranges and special days mean what cron means by them."""
    assert slots(text, after, expected.count(",") + 1) == expected


@pytest.mark.conforms("SCHED-004")
def test_both_day_fields():
    """With the day rule "and", a day must be in both fields."""
    thirteenth = slots("0 0 13 * 5", NEW_YEAR, 3, day_rule="and")
    assert thirteenth == "2026-02-13 00:00, 2026-03-13 00:00, 2026-11-13 00:00"


@pytest.mark.conforms("SCHED-008")
@pytest.mark.parametrize(
    ("macro", "fields"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@Midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
        ("@minutely", "* * * * *"),
        (" @SECONDLY ", "* * * * * *"),
    ],
)
def test_macros(macro, fields):
    """A macro has the slots of its fields."""
    assert slots(macro, NEW_YEAR, 20) == slots(fields, NEW_YEAR, 20)


@pytest.mark.conforms("SCHED-008")
def test_reboot():
    """@reboot is marked as such, and has no slots."""
    cron = Cron("@Reboot")
    assert cron.at_start
    assert not Cron("@daily").at_start
    assert cron.next_after(at(NEW_YEAR)) is None
    assert cron.last_before(at(NEW_YEAR)) is None
    assert cron.between(at("2020-01-01"), at(NEW_YEAR)) == ()


@pytest.mark.conforms("SCHED-008")
def test_unknown_macro():
    """An unknown macro is refused by a message that lists the known ones."""
    with pytest.raises(ValueError, match=r"@yearly, .* @reboot, got '@fortnightly'"):
        Cron("@fortnightly")


WRONG = [
    pytest.param(text, says, marks=pytest.mark.conforms(id), id=f"{id} {text[:20]}")
    for id, text, says in [
        ("SCHED-003", "* * * * * * *", "five fields .* has 7"),
        ("SCHED-007", "0 0 20-10 * *", "day-of-month takes ranges that ascend; got '20-10'"),
        ("SCHED-010", "0 0 15W * *", "day-of-month takes .*; got '15W'"),
        ("SCHED-010", "0 0 L-3 * *", "day-of-month takes .*; got 'L-3'"),
        ("SCHED-010", "0 0 L/2 * *", "day-of-month takes .*; got 'L/2'"),
        ("SCHED-010", "0 L * * *", "hour takes .*; got 'L'"),
        ("SCHED-010", "0 ? * * *", "hour takes .*; got '?'"),
        ("SCHED-010", "0 0 * * L", "day-of-week takes .*; got 'L'"),
        ("SCHED-010", "0 0 * * MON#6", "day-of-week takes .*; got 'MON#6'"),
        ("SCHED-010", "0 0 * * MON#2/2", "day-of-week takes .*; got"),
        ("SCHED-010", "0 0 * * MON-FRI#2", "day-of-week takes .*; got"),
        ("SCHED-012", "60 * * * *", "minute takes numbers from 0 to 59.*; got '60'"),
        ("SCHED-012", "60 * * * * *", "second takes numbers from 0 to 59.*; got '60'"),
        ("SCHED-012", "* 24 * * *", "hour takes numbers from 0 to 23.*; got '24'"),
        ("SCHED-012", "* * 0 * *", "day-of-month takes numbers from 1 to 31.*; got '0'"),
        ("SCHED-012", "* * * 13 *", "month takes numbers from 1 to 12.*; got '13'"),
        ("SCHED-012", "* * * MON *", "month takes .*; got 'MON'"),
        ("SCHED-012", "* * * * 8", "day-of-week takes numbers from 0 to 7.*; got '8'"),
        ("SCHED-012", "*/0 * * * *", "minute takes a step from 1 to 60; got '\\*/0'"),
        ("SCHED-012", "*/90 * * * *", "minute takes a step from 1 to 60; got '\\*/90'"),
        ("SCHED-012", "*/-5 * * * *", "minute takes .*; got '\\*/-5'"),
        ("SCHED-012", "*-5 * * * *", "minute takes .*; got '\\*-5'"),
        ("SCHED-012", "-1 * * * *", "minute takes .*; got '-1'"),
        ("SCHED-012", "1, * * * *", "minute takes .*; got '1,'"),
        ("SCHED-012", "1.5 * * * *", "minute takes .*; got '1.5'"),
        ("SCHED-012", "foo * * * *", "minute takes .*; got 'FOO'"),
        ("SCHED-012", "* * * *", "five fields .* has 4"),
        ("SCHED-012", "", "five fields .* has 0"),
        ("SCHED-012", "\u0663 * * * *", "written in ASCII"),
        ("SCHED-012", "* * * * \u017fun", "written in ASCII"),
        ("SCHED-012", "1,2" * 100, "at most 256 characters, got 300"),
        ("SCHED-013", "0 0 31 2 *", "'0 0 31 2 \\*' never meet"),
        ("SCHED-013", "0 0 30 2 *", "day-of-month, month and day-of-week"),
        ("SCHED-013", "0 0 31 2,4,6 *", "never meet"),
    ]
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_refused(text, says):
    """What is no expression of ours, or never comes, is refused with the field, what it takes and what it got."""
    with pytest.raises(ValueError, match=says):
        Cron(text)


@pytest.mark.parametrize("text", [None, b"* * * * *", 5, ["*"] * 5])
def test_only_texts(text):
    """An expression that is no string is refused by type."""
    with pytest.raises(TypeError, match="a cron expression must be a string, got"):
        Cron(text)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"dst": "skip"}, ValueError, "dst must be one of 'cron', 'wall', got 'skip'"),
        ({"day_rule": "xor"}, ValueError, "day_rule must be one of 'or', 'and', got 'xor'"),
        ({"jitter": -1}, ValueError, "jitter must not be negative, got -1"),
        ({"jitter": "1"}, TypeError, "jitter must be a number of seconds"),
    ],
)
def test_wrong_options(options, error, says):
    """A wrong option is refused by a message that names it."""
    with pytest.raises(error, match=says):
        Cron("* * * * *", **options)


@pytest.mark.real
@pytest.mark.conforms("SCHED-013", "SCHED-014")
def test_bounded_search():
    """Neither the rarest day nor one that never comes takes long to look for."""
    began = time.process_time()
    assert Cron("0 0 * 2 MON#5").next_after(at(NEW_YEAR)) == at("2044-02-29 00:00")
    with pytest.raises(ValueError, match="never meet"):
        Cron("0 0 1-7 * MON#2", day_rule="and")
    assert time.process_time() - began < 0.3


@pytest.mark.conforms("SCHED-015")
@pytest.mark.parametrize(
    "text", ["*/7 9-17 * * *", "0 0 29 2 *", "59 23 LW * *", "0 0 * * 1#5", "7 3,4 1 */5 3"]
)
def test_last_before(text):
    """Going back from a slot and forward again ends at the slot."""
    cron = Cron(text)
    slot = cron.next_after(at("2019-05-05 05:05:05.5"))
    for _ in range(20):
        before = cron.last_before(slot)
        assert before < slot
        assert cron.next_after(before) == slot
        assert cron.last_before(slot + timedelta(microseconds=1)) == slot
        slot = before


@pytest.mark.conforms("SCHED-016")
def test_values():
    """Equal text, zone and options make equal schedules that hash, pickle, and print as their text."""
    cron = Cron("*/5 * * * *", timezone="Europe/Berlin", dst="wall", day_rule="and", jitter=5)
    same = Cron(
        "*/5 * * * *", timezone=ZoneInfo("Europe/Berlin"), dst="wall", day_rule="and", jitter=5
    )
    copied = pickle.loads(pickle.dumps(cron))
    assert {cron, same, copied} == {cron}
    assert copied.next_after(at(NEW_YEAR)) == at("2026-01-01 00:05")
    assert str(cron) == "*/5 * * * *"
    assert str(Cron(" @daily")) == " @daily"
    others = [
        Cron("*/6 * * * *", timezone="Europe/Berlin"),
        Cron("*/5 * * * *", timezone="Europe/Paris"),
        Cron("*/5 * * * *"),
        Cron("*/5 * * * *", jitter=1),
    ]
    assert len({cron, *others}) == 5


@pytest.mark.conforms("SCHED-016")
def test_frozen():
    """A schedule does not change."""
    with pytest.raises(AttributeError):
        Cron("* * * * *").text = "0 * * * *"


# --- zones -------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", [None, "UTC", UTC, ZoneInfo("UTC"), timezone(timedelta(0))])
def test_utc(zone):
    """UTC is the default, and has many names."""
    assert Cron("0 3 * * *", timezone=zone).next_after(at(NEW_YEAR)) == at("2026-01-01 03:00")


def test_fixed_offset():
    """A fixed distance to UTC is a zone as well."""
    cron = Cron("0 3 * * *", timezone=timezone(timedelta(hours=5, minutes=30)))
    assert cron.next_after(at(NEW_YEAR)) == at("2026-01-01 21:30")


def test_slots_are_in_utc():
    """Slots come back in UTC, whatever the zone of the question or of the schedule."""
    cron = Cron("0 3 * * *", timezone="Asia/Tokyo")
    question = datetime(2026, 1, 1, tzinfo=ZoneInfo("America/New_York"))
    for slot in [
        cron.next_after(question),
        cron.last_before(question),
        *cron.between(question, question),
    ]:
        assert slot.tzinfo is UTC
    assert cron.next_after(question) == at("2026-01-01 18:00")


@pytest.mark.conforms("SCHED-033")
@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe", "../etc/passwd", "", "Europe/Berlin\0"])
def test_unknown_zone(zone):
    """An unknown zone is refused by name, so no job can be in it."""
    with pytest.raises(ValueError, match=r"timezone must be a known zone, got .*Europe/Berlin"):
        Cron("* * * * *", timezone=zone)


@pytest.mark.conforms("SCHED-033")
def test_no_zones_on_this_system(monkeypatch):
    """Where the system has no time zones, the message says what to install; UTC works all the same."""
    monkeypatch.setattr("trio_otp._daylight.available_timezones", set)
    with pytest.raises(ValueError, match="install tzdata"):
        Cron("* * * * *", timezone="Mars/Olympus")


@pytest.mark.parametrize("zone", [3, ZoneInfo, object()])
def test_wrong_zone(zone):
    """What is no zone is refused by type, as are classes of zones that know no repeated hour."""
    with pytest.raises(TypeError, match="timezone must be a name like 'Europe/Berlin'"):
        Cron("* * * * *", timezone=zone)


@pytest.mark.conforms("SCHED-033")
@pytest.mark.parametrize("ask", ["next_after", "last_before"])
@pytest.mark.parametrize(
    ("moment", "error"), [(datetime(2026, 1, 1), ValueError), ("2026-01-01", TypeError)]
)
def test_naive_moments(ask, moment, error):
    """A moment without a zone could mean anything, and is refused."""
    with pytest.raises(error, match="moment must be an aware datetime"):
        getattr(Cron("* * * * *"), ask)(moment)


HOST_ZONE = """
import os, time
from datetime import UTC, datetime
from trio_otp import Cron

cron, asked = Cron("0 3 * * *"), datetime(2026, 1, 1, tzinfo=UTC)
print(cron.next_after(asked))
os.environ["TZ"] = "America/New_York"
time.tzset()
print(cron.next_after(asked), Cron("0 3 * * *").next_after(asked))
"""


@pytest.mark.real
@pytest.mark.conforms("SCHED-034")
def test_zone_of_the_machine():
    """The zone of the machine is never used, and changing it changes nothing."""
    done = subprocess.run(
        [sys.executable, "-c", HOST_ZONE],
        env={"TZ": "Asia/Tokyo", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["2026-01-01", "03:00:00+00:00"] * 3


# --- the engine --------------------------------------------------------------------------


@pytest.mark.real
def test_engine_is_imported_when_needed():
    """Importing the library, and intervals, do without the extra; an expression says what is missing."""
    program = (
        "import sys; sys.modules['cronsim'] = None\n"
        "from trio_otp import Cron, Every\n"
        "Every(5)\n"
        "try: Cron('@reboot')\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "Cron needs cronsim: pip install 'trio-otp[cron]'\n"


def test_last_years():
    """At both ends of the calendar there is nothing more, and no error."""
    cron = Cron("0 0 1 1 *")
    assert cron.next_after(at("9999-06-01 00:00")) is None
    assert cron.last_before(at("0001-01-01 00:00")) is None


@given(st.text("0123456789*/-,#?LWMONFRI @", max_size=20))
def test_any_text(text):
    """Whatever is typed is an expression with slots, or refused as a wrong value."""
    with suppress(ValueError):
        cron = Cron(text)
        assert cron.at_start or cron.next_after(at(NEW_YEAR)) is not None


def test_typing_names_are_public():
    """The words that options take have names for annotations."""
    assert {"Dst", "DayRule", "EveryMode"} <= set(trio_otp.__all__)
