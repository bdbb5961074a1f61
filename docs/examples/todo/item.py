"""What stands on a list."""

from __future__ import annotations

import reprlib
import unicodedata
from datetime import date as Date
from uuid import uuid4

from attrs import frozen

MAX_TITLE = 200


class BadInput(ValueError):
    """What somebody sent cannot be used; the message says why, in words for them."""


@frozen
class Item:
    """One thing to do.

    The id is made here and not by the database. So an item may be written twice
    (an agent was killed, and nobody knows whether its last write got through),
    and it is still one item.
    """

    id: str
    title: str
    date: str | None = None
    done: bool = False


def new_item(title: str, date: str = "") -> Item:
    """Make an item of what somebody typed.

    Raises:
        BadInput: if it cannot stand on a list.
    """
    return Item(uuid4().hex, _clean_title(title), _clean_date(date))


def _clean_title(title: str) -> str:
    title = " ".join(title.split())
    if not title:
        raise BadInput("the title is empty")
    if len(title) > MAX_TITLE:
        raise BadInput(f"the title is longer than {MAX_TITLE} characters")
    # Cc is a control character, Cs what is left of a byte that was not UTF-8.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in title):
        raise BadInput("the title holds control characters or is not UTF-8")
    return title


def _clean_date(date: str) -> str | None:
    if not date.strip():
        return None
    try:
        return Date.fromisoformat(date.strip()).isoformat()
    except ValueError:
        raise BadInput(f"not a date like 2026-05-31: {reprlib.repr(date)}") from None
