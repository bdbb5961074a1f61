"""The file of a table: rows as lines of JSON below a header, and a checksum at the end.

Everything here is plain and may take long: it is called in worker threads.
"""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from ._core.errors import BadTableFile
from ._core.text import short
from ._plain import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike

_FORMAT: Final = "trio_otp table"
_VERSION: Final = 1
_SEAL_LENGTH: Final = len(b"sha256 \n") + 64


def write(
    path: str | PathLike[str],
    kind: str,
    head: dict[str, bool],
    rows: Iterable[tuple[Any, Any]],
) -> None:
    """Put a file in the place of the old one, once it is whole and on the disk."""
    target = Path(path).resolve()  # a link keeps pointing to it
    beside = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        with beside.open("xb") as file:
            file.writelines(_sealed(_lines(kind, head, rows)))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def read(path: str | PathLike[str], kind: str) -> tuple[dict[str, Any], list[tuple[Any, Any]]]:
    """Give the header and the rows of a file that is whole."""
    data = Path(path).read_bytes()
    body, seal = data[:-_SEAL_LENGTH], data[-_SEAL_LENGTH:]
    if seal != _seal(sha256(body)):
        raise BadTableFile(f"{short(str(path))} is damaged, or was not written by save()")
    try:
        first, *lines = body.splitlines()
        head = json.loads(first)
        if head["format"] == _FORMAT and head["version"] == _VERSION and head["kind"] == kind:
            return head, [_row(line) for line in lines]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadTableFile(f"{short(str(path))} was not written by save()") from error
    raise BadTableFile(f"{short(str(path))} is no {kind} of version {_VERSION}: {short(head)}")


def _lines(kind: str, head: dict[str, bool], rows: Iterable[tuple[Any, Any]]) -> Iterator[bytes]:
    yield _line({"format": _FORMAT, "version": _VERSION, "kind": kind, **head})
    for row in rows:
        try:
            yield _line([pack(part) for part in row])
        except (TypeError, ValueError, RuntimeError) as error:  # the last: it changed meanwhile
            raise TypeError(f"the row of {short(row[0])} cannot be saved: {error}") from error


def _line(value: object) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


def _row(line: bytes) -> tuple[Any, Any]:
    key, value = unpack(json.loads(line))
    return key, value


def _sealed(lines: Iterable[bytes]) -> Iterator[bytes]:
    digest = sha256()
    for line in lines:
        digest.update(line)
        yield line
    yield _seal(digest)


def _seal(digest: Any) -> bytes:
    return f"sha256 {digest.hexdigest()}\n".encode("ascii")


def _sync_folder(folder: Path) -> None:
    """Make sure that the new name is on the disk as well, where a folder can be opened."""
    if hasattr(os, "O_DIRECTORY"):
        opened = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
