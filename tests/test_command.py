"""The command trio-otp run."""

import logging
import sys
from pathlib import Path

import pytest

from trio_otp.__main__ import main

PROGRAM = """
import sys
import trio
import trio_otp as otp

seen = []

async def main():
    seen.append(sys.argv[1:])

async def once():
    seen.append("child")
    raise SystemExit(0)

child = otp.ChildSpec(once)
children = [child]
tree = otp.Supervisor([once], name="tree")
job = otp.Task(once)
nothing = 3
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """Give back what the command changes: the arguments, the path, the modules, the logging."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
    monkeypatch.chdir(tmp_path)
    yield
    for name in ("program", "services", "broken"):
        sys.modules.pop(name, None)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def seen():
    return sys.modules["program"].seen


@pytest.mark.parametrize("by", ["file", "path", "module", "name"])
def test_main_of_a_program(program, by):
    """A file or a module is run by its main; ARGS become sys.argv."""
    target = {
        "file": "program.py",
        "path": str(program),
        "module": "program",
        "name": "program:main",
    }[by]
    assert main(["run", target, "--", "--port", "80", "x"]) == 0
    assert seen() == [["--port", "80", "x"]]
    assert sys.argv[0] == target


@pytest.mark.parametrize("name", ["child", "children", "tree", "job"])
def test_what_a_name_may_be(program, name):
    """A name may be a child, a list of children, a supervisor or a task."""
    with pytest.raises(SystemExit) as caught:
        main(["run", f"program.py:{name}"])
    assert caught.value.code == 0
    assert seen() == ["child"]


def test_children_if_there_is_no_main(program):
    """Without a main, children is what is run."""
    program.write_text(PROGRAM.replace("async def main", "async def other"))
    with pytest.raises(SystemExit):
        main(["run", "program"])
    assert seen() == ["child"]


def test_folder_of_a_file_is_on_the_path(program):
    """A file finds its neighbours, wherever it is run from."""
    Path("services.py").write_text("number = 7\n")
    program.write_text(
        "from services import number\nseen = []\n" + PROGRAM.replace("seen = []", "")
    )
    assert main(["run", str(program)]) == 0


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("missing.py", "there is no file 'missing.py'"),
        ("notes.txt", "'notes.txt' is not a Python file"),
        ("missing", "there is no file or module 'missing'"),
        ("missing.deeper", "there is no file or module 'missing.deeper'"),
        ("program:gone", "program has no 'gone'"),
        ("program.py:gone", "program.py has no 'gone'"),
        ("program:nothing", "cannot run 3"),
        ("services", "services has neither 'main' nor 'children'"),
    ],
)
def test_what_cannot_be_run(program, target, text):
    """One line says what is wrong."""
    Path("services.py").write_text("number = 7\n")
    Path("notes.txt").write_text("to do\n")
    with pytest.raises(SystemExit) as caught:
        main(["run", target])
    assert text in str(caught.value.code)
    assert "\n" not in str(caught.value.code)


def test_import_that_fails_is_the_programs(program):
    """An import that fails inside the program is shown as it is."""
    Path("broken.py").write_text("import no_such_module_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        main(["run", "broken"])


def test_interrupted(program):
    """An interrupt makes the exit code of one."""
    program.write_text("async def main():\n    raise KeyboardInterrupt\n")
    assert main(["run", "program.py"]) == 130


def test_log_goes_to_standard_error(program, monkeypatch, capsys):
    """What is logged is seen on standard error, from the level that was chosen."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    program.write_text(
        "import logging\n"
        "async def main():\n"
        "    logging.getLogger('x').info('quiet')\n"
        "    logging.getLogger('x').warning('loud')\n"
    )
    assert main(["run", "--log-level", "warning", "program.py"]) == 0
    shown = capsys.readouterr().err
    assert "WARNING x: loud" in shown
    assert "quiet" not in shown


@pytest.mark.parametrize(
    "arguments", [[], ["run"], ["walk"], ["run", "x", "--log-level", "shrill"]]
)
def test_usage(arguments, capsys):
    """Wrong words are answered with the usage and exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: trio-otp" in capsys.readouterr().err
