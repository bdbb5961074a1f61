"""Reading CSV files: a bad line costs nothing but itself."""

import pytest

from item import MAX_TITLE
from sheet import BadLine, read_sheet


def found(data: bytes) -> list[tuple[str | None, str]]:
    return [(item.date, item.title) for item in read_sheet(data).items]


def bad_lines(data: bytes) -> list[int]:
    return [line.line for line in read_sheet(data).bad]


def test_every_line_is_an_item():
    """Dates and titles arrive as they stand, in order; nothing is done yet."""
    sheet = read_sheet(b'2026-01-01,milk\n2026-01-02,"bread, white"\n')
    assert [item.title for item in sheet.items] == ["milk", "bread, white"]
    assert not sheet.bad
    assert not any(item.done for item in sheet.items)


@pytest.mark.parametrize(
    "data",
    [
        b"date,title\n2026-01-01,milk\n",
        b'"Date", "Title"\r\n2026-01-01,milk\r\n',
        b"\xef\xbb\xbfDATE,TITLE\r2026-01-01,milk",
        b"\n\n2026-01-01 ,  milk  \n  \n",
    ],
    ids=["header", "quoted header, Windows", "byte order mark, old Mac", "blank lines"],
)
def test_files_as_programs_write_them(data):
    """Headers, line ends, byte order marks and blank lines make no difference."""
    assert found(data) == [("2026-01-01", "milk")]
    assert bad_lines(data) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"milk", "expected two fields, date and title, but found 1"),
        (b"2026-01-01,milk,2", "expected two fields, date and title, but found 3"),
        (b",milk", "the date is missing"),
        (b"2026-02-30,milk", "not a date like 2026-05-31: '2026-02-30'"),
        (b"soon,milk", "not a date like 2026-05-31: 'soon'"),
        (b"2026-01-01,  ", "the title is empty"),
        (b"2026-01-01," + b"x" * (MAX_TITLE + 1), "the title is longer than 200 characters"),
        (b"2026-01-01,caf\xe9", "the title holds control characters or is not UTF-8"),
        (b"2026-01-01,mi\0lk", "the title holds control characters or is not UTF-8"),
        (b'2026-01-01,"milk', "',' expected after '\"'"),
    ],
)
def test_bad_line_is_named_and_the_rest_is_read(line, reason):
    """Its number and the reason are reported; the lines round it are items."""
    sheet = read_sheet(b'2026-01-01,before\n%b\n2026-01-03,"after"\n' % line)
    assert [item.title for item in sheet.items] == ["before", "after"]
    assert sheet.bad == [BadLine(2, reason)]


def test_quoted_title_over_two_lines_is_one_item():
    """Line ends inside quotes belong to the title; line numbers go on counting lines."""
    data = b'2026-01-01,"water\nthe plants"\nbad\n2026-01-02,milk'
    assert found(data) == [("2026-01-01", "water the plants"), ("2026-01-02", "milk")]
    assert bad_lines(data) == [3]


def test_quote_that_is_never_closed_swallows_nothing():
    """The lines below it are read on their own, however many there are."""
    data = b'2026-01-01,"open\n' + b"2026-01-02,milk\n" * 50
    assert found(data) == [("2026-01-02", "milk")] * 50
    assert bad_lines(data) == [1]


def test_empty_file_holds_nothing():
    assert found(b"") == []
    assert found(b"date,title\n") == []
