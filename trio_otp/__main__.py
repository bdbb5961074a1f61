"""The command `trio-otp`: run a program of processes from a file or a module."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._application import run
from ._core.process import Process
from ._core.specs import ChildSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; give the exit code."""
    options = _parser().parse_args(argv)
    sys.argv = [options.target, *options.args]
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        _run(_find(options.target))
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trio-otp", description="Run programs of processes.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("run", help="run a program until it ends or is told to stop")
    command.add_argument(
        "target",
        metavar="TARGET",
        help="a file or a module, with :NAME for an async function, a child, a list of children "
        "or a supervisor in it; by default main, else children",
    )
    command.add_argument("args", nargs="*", metavar="ARGS", help="behind --: its sys.argv")
    command.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error")
    )
    return parser


def _run(found: Any) -> None:
    if inspect.iscoroutinefunction(found):
        run(found)
    elif isinstance(found, Process | ChildSpec):
        run(children=[found])
    elif isinstance(found, list | tuple):
        children: Any = found  # pyright: ignore[reportUnknownVariableType]
        run(children=children)
    else:
        raise SystemExit(
            f"trio-otp: cannot run {found!r}: it is neither an async function, a process, "
            "a ChildSpec nor a list of children"
        )


def _find(target: str) -> Any:
    place, _, name = target.rpartition(":") if _names_something(target) else (target, "", "")
    module = _load(place)
    for candidate in (name,) if name else ("main", "children"):
        if hasattr(module, candidate):
            return getattr(module, candidate)
    wanted = repr(name) if name else "neither 'main' nor 'children'"
    raise SystemExit(f"trio-otp: {place} has {'no ' if name else ''}{wanted}")


def _names_something(target: str) -> bool:
    return target.rpartition(":")[2].isidentifier() and ":" in target


def _load(place: str) -> ModuleType:
    path = Path(place)
    if path.suffix == ".py" or path.is_file():
        return _load_file(path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise
        raise SystemExit(f"trio-otp: there is no file or module {place!r}") from None


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SystemExit(f"trio-otp: there is no file {str(path)!r}")
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"trio-otp: {str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
