"""A CSV file of things to do: ``date,title``, one a line.

Everything here is plain code without a wait; it knows neither files nor tasks.
"""

from __future__ import annotations

import csv
import io

from attrs import Factory, frozen

from item import BadInput, Item, new_item

# A quoted title may go over several lines. A quote that is never closed does so
# too, to the end of the file; the limit keeps that from being looked for again
# and again.
MAX_LINES_OF_ONE_ITEM = 20


@frozen
class BadLine:
    """A line that could not be read, and why."""

    line: int
    reason: str


@frozen
class Sheet:
    """What a file held: the items, and the lines that are none."""

    items: list[Item] = Factory(list)
    bad: list[BadLine] = Factory(list)


def read_sheet(data: bytes) -> Sheet:
    """Read all of a file. A bad line costs nothing but itself."""
    # A byte that is not UTF-8 is carried along as a lone surrogate, which `Item`
    # refuses: so it spoils its own line and not the file.
    text = data.decode("utf-8-sig", "surrogateescape")
    lines = io.StringIO(text, newline=None).readlines()
    sheet = Sheet()
    at = 1 if _is_header(lines) else 0
    while at < len(lines):
        at += _read_item(lines, at, sheet)
    return sheet


def _read_item(lines: list[str], at: int, sheet: Sheet) -> int:
    """Read the item that starts at index ``at``; the answer is how many lines it took."""
    if not lines[at].strip():
        return 1
    reader = csv.reader(lines[at : at + MAX_LINES_OF_ONE_ITEM], strict=True)
    try:
        sheet.items.append(_item(next(reader)))
    except (csv.Error, BadInput) as error:
        # Perhaps a quote swallowed the lines below it: they get a chance of their own.
        sheet.bad.append(BadLine(at + 1, str(error)))
        return 1
    return reader.line_num


def _item(row: list[str]) -> Item:
    if len(row) != 2:
        raise BadInput(f"expected two fields, date and title, but found {len(row)}")
    date, title = row
    if not date.strip():
        raise BadInput("the date is missing")
    return new_item(title, date)


def _is_header(lines: list[str]) -> bool:
    first = lines[0] if lines else ""
    return [word.strip(' "\n').lower() for word in first.split(",")] == ["date", "title"]
