"""Imports inside trio_otp go downwards only."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "trio_otp"
DOOR = "trio_otp"
COMMAND = "trio_otp.__main__"
APPLICATION = "trio_otp._application"

# The modules from the bottom up, each without the leading "trio_otp.". A module imports from the
# lines above its own and from nothing else of the package, annotations included.
LAYERS: tuple[str, ...] = (
    "_core _core.text _core.timers _core.waiting",
    "_core.options _cron_text _daylight",
    "_core.exits _schedules _plain",
    "_core.errors _cron",
    "_core.restarts _core.failures",
    "_core.reports _core.specs _core.life",
    "_core.children _core.events _core.nursery",
    "_core.homes",
    "_core.process _core.guests",
    "_core.trapping _core.job _core.server _core.snapshots _core.loop",
    "_agent _registry _stream _replies _table_file",
    "_gen_server _rows",
    "_table _bag_table",
    "_task",
    "_supervision",
    "_supervisor _task_supervisor _dynamic_supervisor _partition_supervisor",
    "_job_places _job_runs _job_gate _wall_clock",
    "_jobs",
    "_job_events _agenda _job_storage _job_text",
    "_job_sqlite",
    "_held_jobs",
    "_runner",
    "_scheduler_loop",
    "_scheduler",
    "_application",
    "testing._inside testing._places testing._supervised testing._clock",
    "testing._events",
    "testing._leaks",
    "testing._everywhere",
    "testing._cancelling testing._crashing",
    "testing._chaos",
    "testing",
    "trio_otp __main__",
)

# What everything speaks of: annotations may name the handle, and what it can hold, from below.
NAMED_FROM_BELOW = {"trio_otp._core.process", "trio_otp._core.trapping"}


def module_name(file: Path, package: Path) -> str:
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported_names(file: Path, package: Path) -> Iterator[str]:
    """What a file imports, as full dotted names of modules or of things in them."""
    folder = ".".join(file.relative_to(package.parent).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(node, folder)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def absolute(node: ast.ImportFrom, folder: str) -> str:
    """The full name of the module that a `from ... import` names."""
    if not node.level:
        return node.module or ""
    parents = folder.split(".")
    above = parents[: len(parents) - node.level + 1]
    return ".".join([*above, node.module] if node.module else above)


def names_for_annotations(file: Path, package: Path) -> set[str]:
    """The modules that may be named from below and that a file imports for annotations only."""
    blocks = (
        ast.unparse(ast.Module(block.body, []))
        for block in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
    )
    folder = ".".join(file.relative_to(package.parent).parent.parts)
    return {
        absolute(node, folder)
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom)
    } & NAMED_FROM_BELOW


def read_imports(package: Path) -> dict[str, set[str]]:
    """The modules of the package, each with those it imports."""
    files = {module_name(file, package): file for file in sorted(package.rglob("*.py"))}
    return {
        module: {
            found if found in files else found.rpartition(".")[0]
            for found in imported_names(file, package)
            if found in files or found.rpartition(".")[0] in files
        }
        - names_for_annotations(file, package)
        for module, file in files.items()
    }


def imports_in_functions(package: Path) -> Iterator[str]:
    for file in sorted(package.rglob("*.py")):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import | ast.ImportFrom):
                        yield f"{module_name(file, package)}:{node.lineno}"


def not_downwards(imports: dict[str, set[str]], layers: tuple[str, ...]) -> Iterator[str]:
    heights = {
        full_name(module): height for height, line in enumerate(layers) for module in line.split()
    }
    for module, others in sorted(imports.items()):
        for other in sorted(others):
            if heights.get(module, -1) <= heights.get(other, len(layers)):
                yield f"{module} imports {other}"


def full_name(module: str) -> str:
    return module if module == DOOR else f"{DOOR}.{module}"


IMPORTS = read_imports(PACKAGE)


def importers_of(module: str) -> set[str]:
    return {importer for importer, others in IMPORTS.items() if module in others}


def test_imports_go_downwards():
    """Each module imports from lower layers only, and the table knows every module."""
    listed = {full_name(module) for line in LAYERS for module in line.split()}
    assert listed == set(IMPORTS)
    assert not [*not_downwards(IMPORTS, LAYERS)]


def test_no_cycles():
    """No module needs itself, however far around."""
    TopologicalSorter(IMPORTS).prepare()


def test_core_knows_no_noun():
    """The machinery imports nothing of what is built on it."""
    core = f"{DOOR}._core"
    for module, others in IMPORTS.items():
        if module.startswith(core):
            assert not {other for other in others if not other.startswith(core)}, module


def test_door_is_for_users():
    """Inside the package only the command comes in through the front door."""
    assert importers_of(DOOR) <= {COMMAND}


def test_application_is_the_root():
    """Nothing is built on the root of a program but the door and the command."""
    assert importers_of(APPLICATION) <= {DOOR, COMMAND}


def test_no_imports_in_functions():
    """What a module needs stands at its top."""
    assert not [*imports_in_functions(PACKAGE)]


@pytest.fixture
def small_package(tmp_path: Path) -> Path:
    package = tmp_path / "trio_otp"
    (package / "_core").mkdir(parents=True)
    sources = {
        "__init__.py": "from ._task import Task as Task\n",
        "_task.py": "import trio\nfrom ._core import life\nfrom ._core.errors import Gone\n",
        "_core/__init__.py": "",
        "_core/life.py": "if TYPE_CHECKING:\n    from .. import Task\n",
        "_core/errors.py": "def late():\n    import trio_otp._core.life\n",
    }
    for name, source in sources.items():
        (package / name).write_text(source)
    return package


def test_reading_imports(small_package):
    """Relative and absolute imports are found wherever they stand."""
    assert read_imports(small_package) == {
        "trio_otp": {"trio_otp._task"},
        "trio_otp._task": {"trio_otp._core.life", "trio_otp._core.errors"},
        "trio_otp._core": set(),
        "trio_otp._core.life": {"trio_otp"},
        "trio_otp._core.errors": {"trio_otp._core.life"},
    }
    assert [*imports_in_functions(small_package)] == ["trio_otp._core.errors:2"]


def test_finding_what_goes_up(small_package):
    """Imports upwards, sideways and of unlisted modules are found."""
    layers = ("_core.life _core.errors", "_task", "trio_otp")
    assert [*not_downwards(read_imports(small_package), layers)] == [
        "trio_otp._core.errors imports trio_otp._core.life",
        "trio_otp._core.life imports trio_otp",
    ]
