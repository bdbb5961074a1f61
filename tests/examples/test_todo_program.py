"""The to-do service as a program: what it needs, how it ends, what it leaves."""

import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from item import new_item
from store import Store

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


def add(http, service, title):
    response = http.post(f"{service.list('x')}/items", json={"title": title})
    assert response.status_code == 201


def titles(http, service):
    return [item["title"] for item in http.get(f"{service.list('x')}/items").json()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_it_in_order(start_service, http, number, code):
    """The exit code tells which one it was; nothing is said about errors."""
    service = start_service()
    add(http, service, "milk")
    assert service.end(number) == code, service.log
    assert "Error" not in service.log


def test_kill_loses_nothing(start_service, http):
    """What was answered with "created" is in the file, whatever happens next."""
    service = start_service()
    add(http, service, "milk")
    service.end(signal.SIGKILL)
    assert titles(http, start_service()) == ["milk"]


def test_stop_does_not_wait_for_other_sites(start_service, http):
    """An import that waits for an answer is cancelled."""
    service = start_service()
    with socket.create_server(("127.0.0.1", 0)) as site:
        url = f"http://127.0.0.1:{site.getsockname()[1]}/"
        http.post(f"{service.list('x')}/import", json={"url": url})
        connection, _ = site.accept()
        with connection:
            assert service.end(signal.SIGTERM) == 143, service.log


def test_reporter_reports_again_and_again(start_service, http):
    service = start_service("--report-every", "0.1")
    add(http, service, "milk")
    for _ in range(2):
        service.wait_for_log("lists in use: 1, items to do: 1, imports running: 0")


def test_database_that_cannot_be_read_for_a_while(start_service, http, tmp_path):
    """Requests are refused meanwhile. Once it can be, the list comes back by itself."""
    service = start_service()
    add(http, service, "milk")
    with closing(sqlite3.connect(tmp_path / "todo.db")) as db:
        db.execute("ALTER TABLE items RENAME TO away")
        response = http.post(f"{service.list('x')}/items", json={"title": "bread"})
        assert response.status_code == 503
        db.execute("ALTER TABLE away RENAME TO items")
    assert titles(http, service) == ["milk"]


def assert_refuses(service, line):
    """One clear line and exit code 1."""
    assert not service.url
    assert service.wait() == 1, service.log
    assert service.log.splitlines()[-1].startswith(line), service.log
    assert "Traceback" not in service.log


def test_port_in_use(start_service):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refuses(start_service(port=port), f"todo: cannot listen on port {port}: Address")


def test_file_that_is_no_database(start_service, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("This is not a database, but it is quite long." * 100)
    assert_refuses(start_service(file=file), f"todo: cannot use {file}: file is not a database")
    assert file.read_text().startswith("This is not")


def test_database_that_is_broken_further_down(start_service, tmp_path):
    file = tmp_path / "todo.db"
    start_service().end(signal.SIGTERM)
    Store(str(file)).add("x", [new_item("x" * 150) for _ in range(200)])
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 8192) + content[-4096:])
    assert_refuses(start_service(), f"todo: cannot use {file}: the database is damaged")


def test_folder_is_no_database(start_service, tmp_path):
    assert_refuses(start_service(file=tmp_path), f"todo: cannot use {tmp_path}: unable to open")


def test_database_with_other_tables(start_service, tmp_path):
    """A table of the same name that somebody else made is left alone."""
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE items (price INTEGER)")
    assert_refuses(start_service(file=file), f"todo: cannot use {file}: no such column")


def test_bad_option_ends_it_with_the_usage(start_service):
    service = start_service("--colour", "red")
    assert service.wait() == 2
    assert service.log.startswith("usage: todo ")
    assert "Traceback" not in service.log


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "http"], "argument --port: invalid"),
        (["--port", "65536"], "argument --port: invalid"),
        (["--report-every", "0"], "argument --report-every: invalid"),
        (["milk"], "unrecognized arguments: milk"),
    ],
)
def test_bad_options_are_named(arguments, reason, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["app.py"])
    import app

    with pytest.raises(SystemExit):
        app.options(arguments)
    assert reason in capsys.readouterr().err
