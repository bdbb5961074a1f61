"""What requests bring along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from download import check_url
from importing import Source
from item import BadInput, Item, new_item

FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


async def read_item(request: Request) -> Item:
    """The item in ``{"title": ..., "date": ...}``; the date may be missing."""
    fields = await _json(request)
    return new_item(_text(fields, "title"), _text(fields, "date"))


async def read_done(request: Request) -> bool:
    """The flag in ``{"done": ...}``."""
    done = (await _json(request)).get("done")
    if not isinstance(done, bool):
        raise BadInput("done must be true or false")
    return done


async def read_source(request: Request) -> Source:
    """What to import: a form with ``file`` or ``url``, JSON with ``url``, or the bare CSV."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in FORMS:
        return await _form_source(request)
    if kind == "application/json":
        return Source(check_url(_text(await _json(request), "url")))
    return Source("the file", await request.body())


async def _form_source(request: Request) -> Source:
    async with request.form() as form:
        file = form.get("file")
        if isinstance(file, UploadFile):
            return Source(file.filename or "the file", await file.read())
        return Source(check_url(_text(form, "url")))


async def _json(request: Request) -> dict[str, Any]:
    try:
        fields = await request.json()
    except (ValueError, RecursionError):
        raise BadInput("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise BadInput("the body is not a JSON object")
    return fields


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key) or ""
    if not isinstance(value, str):
        raise BadInput(f"{key} must be text")
    return value
