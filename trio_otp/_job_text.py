"""Jobs as text, for a file: a schedule by its options, a function by its name. Pure.

What such a text names is imported when it is read: it deserves the trust that code does.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn
from zoneinfo import ZoneInfo

import attrs

from ._core.text import callable_name, short
from ._cron import Cron
from ._jobs import Job
from ._plain import pack, unpack
from ._schedules import At, Every, Jitter

if TYPE_CHECKING:
    from collections.abc import Callable

_SCHEDULES: Final[dict[str, type[Cron | Every | At]]] = {"cron": Cron, "every": Every, "at": At}
_WITH_WORDS_OF_THEIR_OWN: Final = frozenset(
    {"name", "schedule", "fn", "args", "when", "timeout", "where", "shutdown"}
)
_AS_THEY_ARE: Final = tuple(
    field.name for field in attrs.fields(Job) if field.name not in _WITH_WORDS_OF_THEIR_OWN
)


def write_job(job: Job) -> str:
    """Give the text of a job.

    Raises:
        TypeError: It has something that has no text: a schedule of one's own, a function
            that cannot be imported, arguments that are not plain, a supervisor.
    """
    try:
        return json.dumps(_words(job))
    except (TypeError, ValueError) as error:
        raise TypeError(f"job {short(job.name)} cannot be stored: {error}") from error


def read_job(name: str, text: str) -> Job:
    """Give the job of a text.

    If its function is not there any more, or cannot be called so, the job is all the same, and
    fails when it is run.

    Raises:
        Exception: It is no such text.
    """
    words = json.loads(text)
    fn, when = words["fn"], words["when"]
    schedule, args = _schedule(words["schedule"]), unpack(words["args"])
    options: dict[str, Any] = {option: words[option] for option in _AS_THEY_ARE}
    options |= {"timeout": words["timeout"], "shutdown": words["shutdown"]}
    try:
        return Job(name, schedule, _function(fn), *args, when=when and _function(when), **options)
    except TypeError as error:  # their parameters are others now
        why = f"it has changed: {error}"
        options["when"] = when and MissingFunction(when, why)
        return Job(name, schedule, MissingFunction(fn, why), *args, **options)


def _words(job: Job) -> dict[str, Any]:
    if job.where is not None:
        raise TypeError("where must be None: a supervisor cannot be stored")
    return {
        "schedule": _schedule_words(job.schedule),
        "fn": _path("fn", job.fn),
        "args": pack(list(job.args)),
        "when": None if job.when is None else _path("when", job.when),
        "timeout": _limit(job.timeout),
        "shutdown": _limit(job.shutdown),
        **{option: getattr(job, option) for option in _AS_THEY_ARE},
    }


def _limit(value: Any) -> Any:
    return None if value == math.inf else value


# --- schedules -----------------------------------------------------------------------------


def _schedule_words(schedule: object) -> dict[str, Any]:
    for word, kind in _SCHEDULES.items():
        if type(schedule) is kind:
            public = attrs.asdict(schedule, filter=lambda field, _: field.init)
            return {word: {option: _option_word(value) for option, value in public.items()}}
    raise TypeError(f"schedule must be a Cron, an Every or an At, got {short(schedule)}")


def _option_word(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if value is UTC:
        return "UTC"
    if isinstance(value, timezone):
        return value.utcoffset(None).total_seconds()
    if isinstance(value, ZoneInfo):
        return _key(value)
    return value


def _key(zone: ZoneInfo) -> str:
    if zone.key is None:  # pyright: ignore[reportUnnecessaryComparison]  # it was read from a file
        raise TypeError("timezone must be one that has a name")
    return zone.key


def _schedule(words: dict[str, Any]) -> Any:
    ((word, given),) = words.items()
    options = dict(given)
    if "jitter" in options:
        options["jitter"] = Jitter(**options["jitter"])
    if isinstance(options.get("timezone"), int | float):
        options["timezone"] = timezone(timedelta(seconds=options["timezone"]))
    if word == "at":
        return At(datetime.fromisoformat(options["moment"]))
    first = options.pop("text" if word == "cron" else "seconds")
    return _SCHEDULES[word](first, **options)


# --- functions -------------------------------------------------------------------------------


@attrs.frozen
class MissingFunction:
    """Stands for a function that a text names and that is not there; fails when it is called."""

    path: str
    why: str

    def __call__(self, *_: object) -> NoReturn:
        """Say what is missing.

        Raises:
            LookupError: Always.
        """
        raise LookupError(
            f"the function {self.path} of a stored job cannot be used ({self.why}): "
            "update the job with another fn, or delete it"
        )


def _path(option: str, fn: Callable[..., Any]) -> str:
    if isinstance(fn, MissingFunction):
        return fn.path
    path = f"{getattr(fn, '__module__', None)}:{getattr(fn, '__qualname__', None)}"
    if path.startswith("__main__:"):
        raise TypeError(
            f"{option} must be a function that can be imported by its name: "
            f"move {callable_name(fn)} from the main file to a module of its own"
        )
    if _find(path) is not fn:
        raise TypeError(
            f"{option} must be a function that can be imported by its name, got {callable_name(fn)}"
        )
    return path


def _function(path: str) -> Callable[..., Any]:
    found = _find(path)
    return found if callable(found) else MissingFunction(path, f"{short(found)} is there")


def _find(path: str) -> Any:
    """Give what is at a path, or what stands for it."""
    module, _, name = path.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever its module raises
        return MissingFunction(path, f"{type(error).__name__}: {error}")
    return found
