"""Public bug reports about the calendars of other schedulers, each named where it is told.

Moments are in UTC unless an offset is shown.
"""

from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from helpers_schedules import at, slots, slots_from
from trio_otp import Cron, Every

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
HOUR = timedelta(hours=1)


REPORTS = [
    # the clock is put forward
    ("quantum-core#321", "America/Chicago", "0,20,40 2 * * *", "2026-03-07 12:00", "2026-03-08 08:00, 2026-03-09 07:00, 07:20"),
    ("quantum-core#322", NEW_YORK, "30 2 * * *", "2026-03-07 12:00", "2026-03-08 07:00, 2026-03-09 06:30"),
    ("apscheduler#606", NEW_YORK, "0 0 * * *", "2021-03-13 05:00", "2021-03-14 05:00, 2021-03-15 04:00"),
    ("apscheduler#529", NEW_YORK, "0 0 * * *", "2021-03-14 05:00", "2021-03-15 04:00, 2021-03-16 04:00"),
    ("apscheduler#1059", "US/Eastern", "* 2 * * *", "2013-03-10 05:00", "2013-03-11 06:00, 06:01"),
    ("django-celery-beat#134", NEW_YORK, "4 16 * * *", "2026-03-07 22:00", "2026-03-08 20:04, 2026-03-09 20:04"),
    ("croniter#91", NEW_YORK, "0 6 * * *", "2019-03-09 12:00", "2019-03-10 10:00, 2019-03-11 10:00"),
    ("sentry#66868", NEW_YORK, "0 5 * * *", "2026-03-07 12:00", "2026-03-08 09:00, 2026-03-09 09:00"),
    ("systemd#5595", BERLIN, "0 2 * * *", "2026-03-28 12:00", "2026-03-29 01:00, 2026-03-30 00:00"),
    # it is put back
    ("quantum-core#407", "Australia/Adelaide", "30 2 * * *", "2019-04-06 12:00", "2019-04-06 16:00, 2019-04-07 17:00"),
    ("apscheduler#980", BERLIN, "30 2 * * *", "2026-10-25 00:45", "2026-10-26 01:30"),
    ("celery#10107", BERLIN, "0 * * * *", "2026-10-25 00:00", "2026-10-25 01:00, 02:00"),
    ("celery#1604", BERLIN, "0 12 * * 1", "2026-10-24 12:00", "2026-10-26 11:00, 2026-11-02 11:00"),
    ("croniter#56", "Europe/Zurich", "*/5 * * * *", "2026-10-25 00:55", "2026-10-25 01:00, 01:05"),
    ("sentry#80208", NEW_YORK, "0 5 * * *", "2026-10-31 12:00", "2026-11-01 10:00, 2026-11-02 10:00"),
    ("parse-crontab#31", BERLIN, "15 3 * * *", "2026-10-25 01:10", "2026-10-25 02:15"),
    ("systemd#8647", BERLIN, "* * * * *", "2026-10-25 00:58", "2026-10-25 00:59, 01:00, 01:01"),
    # no zone, or any
    ("quantum-core#248", "Asia/Kolkata", "0 9 * * *", "2026-01-01 00:00", "2026-01-01 03:30"),
    ("aiocron#39", "UTC", "*/10 0 12 * * *", "2026-01-01 00:00", "2026-01-01 12:00, 12:00:10, 12:00:20"),
    ("pycron#29", "UTC", "0 0 22 * 4", "2026-07-22 12:00", "2026-07-23 00:00"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("zone", "text", "after", "expected"),
    [pytest.param(*case, id=report) for report, *case in REPORTS],
)
def test_report(zone, text, after, expected):
    """What others got wrong around a change of clocks is right here."""
    assert slots(text, after, expected.count(",") + 1, timezone=zone) == expected


@pytest.mark.parametrize("zone", ["Europe/London", "Europe/Dublin", "Africa/Casablanca", "GMT"])
@pytest.mark.parametrize("night", ["2026-03-29 00:59:59", "2026-10-25 00:59:59"])
def test_always_in_the_future(zone, night):
    """systemd#32039, node-cron#492, #517: around a change, the next slot is later than the question, always."""
    cron = Cron("*/30 * * * * *", timezone=zone)
    found = [at(night), *slots_from(cron, night, 300)]
    assert {after - before for before, after in pairwise(found[1:])} == {timedelta(seconds=30)}
    assert found[0] < found[1]


def test_every_seven_seconds():
    """apscheduler#1036: a job every seven seconds goes on through both changes."""
    for night in ("2026-03-29 00:59", "2026-10-25 00:59"):
        found = slots_from(Cron("*/7 * * * * *", timezone=BERLIN), night, 600)
        assert max(after - before for before, after in pairwise(found)) == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("text", "hours", "number"),
    [("* * * * *", 3, 180), ("*/5 * * * * *", 1, 720)],
    ids=["kubernetes#42649, k3d#523", "robfig/cron#26"],
)
def test_many_missed(text, hours, number):
    """However many slots were missed, the newest is found at once, and all can be counted up to a limit."""
    cron, now = Cron(text), at("2026-01-01 12:00")
    assert cron.between(now - hours * HOUR, now, limit=1) == (now,)
    assert len(cron.between(now - hours * HOUR, now, limit=1000)) == number
    assert len(cron.between(now - hours * HOUR, now, limit=101)) == 101


@pytest.mark.parametrize("seconds", [5, 60])
def test_no_drift(seconds):
    """kelektiv/node-cron#279, meclaw#626, schedule#355, #307: late wake-ups do not move the grid."""
    every, moment = Every(seconds), 0.0
    for number in range(1, 1000):
        moment = every.next_after(moment, start=0)
        assert moment == number * seconds
        moment += 0.3


# --- cases that came from several of them ------------------------------------------------


@pytest.mark.conforms("CASE-91")
@pytest.mark.parametrize(
    ("zone", "text", "after", "expected"),
    [
        ("Europe/Amsterdam", "30 2 * * *", "2023-03-25 12:00", "2023-03-26 01:00, 2023-03-27 00:30"),
        ("US/Eastern", "0 2 * * *", "2013-03-09 12:00", "2013-03-10 07:00, 2013-03-11 06:00"),
    ],
)  # fmt: skip
def test_spring_forward(zone, text, after, expected):
    """A time that is left out happens at the change, and the next day is as always."""
    assert slots(text, after, 2, timezone=zone) == expected


@pytest.mark.conforms("CASE-92")
def test_fall_back():
    """Through the repeated hour slots increase, without a hole or a burst."""
    helsinki = Cron("30 * * * *", timezone="Europe/Helsinki")
    second_pass = datetime(2017, 10, 29, 3, 45, fold=1, tzinfo=ZoneInfo("Europe/Helsinki"))
    assert helsinki.next_after(second_pass) == at("2017-10-29 02:30")
    odd = slots("0 1-23/2 * * *", "2024-10-26 23:00", 3, timezone="Europe/London")
    assert odd == "2024-10-27 00:00, 03:00, 05:00"
    vienna = Cron("*/30 * * * * *", timezone="Europe/Vienna")
    found = slots_from(vienna, "2025-10-25 23:00", 480)
    assert {after - before for before, after in pairwise(found)} == {timedelta(seconds=30)}


@pytest.mark.conforms("CASE-95")
def test_days_that_never_come():
    """A weekday 8 and 30 February are refused; just after 29 February comes that of four years later."""
    with pytest.raises(ValueError, match="day-of-week"):
        Cron("0 0 * * 8")
    with pytest.raises(ValueError, match="never meet"):
        Cron("0 0 30 2 *")
    leap_day = Cron("0 0 29 2 *")
    assert leap_day.next_after(at("2020-02-29 00:00:01")) == at("2024-02-29 00:00")
