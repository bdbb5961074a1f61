"""The file of a table: rows as lines of JSON below a header, and a checksum at the end.

Types that JSON lacks are written as an object with one key, their name. Pickle would take
more types, but runs what a file tells it to. Everything here is plain and may take long:
it is called in worker threads.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from ._core.errors import BadTableFile
from ._core.text import short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from os import PathLike

_FORMAT: Final = "trio_otp table"
_VERSION: Final = 1
_SEAL_LENGTH: Final = len(b"sha256 \n") + 64
_DEEPEST: Final = 100  # far below what the interpreter's own limit allows, on both ways

_AS_IT_IS: Final[frozenset[type]] = frozenset({type(None), bool, int, float, str})
_OF_PARTS: Final[frozenset[type]] = frozenset({list, tuple, set, frozenset, dict})


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
            yield _line([_packed(part, 0) for part in row])
        except (TypeError, ValueError, RuntimeError) as error:  # the last: it changed meanwhile
            raise TypeError(f"the row of {short(row[0])} cannot be saved: {error}") from error


def _line(value: object) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


def _row(line: bytes) -> tuple[Any, Any]:
    key, value = _unpacked(json.loads(line))
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


def _kind(value: object) -> type[object]:
    return type(value)


def _packed(value: Any, depth: int) -> Any:
    """Write a value in the words of JSON; exact types only, since others would not come back."""
    kind = _kind(value)
    if kind in _AS_IT_IS:
        return value
    if kind is bytes:
        return {"bytes": b64encode(value).decode("ascii")}
    if depth == _DEEPEST:
        raise ValueError(f"it is nested deeper than {_DEEPEST} levels")
    if kind in _OF_PARTS:
        parts = value.items() if kind is dict else value
        inner = [_packed(part, depth + 1) for part in parts]
        return inner if kind is list else {kind.__name__: inner}
    raise TypeError(f"{short(value)} is of type {kind.__qualname__}")


def _unpacked(value: Any) -> Any:
    kind = _kind(value)
    if kind is list:
        return [*map(_unpacked, value)]
    if kind is dict:
        ((name, inner),) = value.items()
        return _MAKERS[name](inner)
    return value


def _made(maker: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    return lambda inner: maker(_unpacked(inner))


_MAKERS: Final[dict[str, Callable[[Any], Any]]] = {
    "bytes": lambda inner: b64decode(inner, validate=True),
    "tuple": _made(tuple),
    "set": _made(set),
    "frozenset": _made(frozenset),
    "dict": _made(dict),
}
