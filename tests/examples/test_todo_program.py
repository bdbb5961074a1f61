"""The to-do service as a program: what it needs, how it ends, what it leaves."""

import signal
import socket
import sqlite3
from contextlib import closing

import httpx
import pytest

pytestmark = pytest.mark.real


def add(service, title):
    response = httpx.post(f"{service.list('x')}/items", json={"title": title}, trust_env=False)
    assert response.status_code == 201


def titles(service):
    response = httpx.get(f"{service.list('x')}/items", trust_env=False)
    return [item["title"] for item in response.json()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_it_in_order(start_service, number, code):
    """The exit code tells which; nothing is said about errors; the lists are there next time."""
    service = start_service()
    add(service, "milk")
    assert service.end(number) == code, service.log
    assert "Error" not in service.log
    assert titles(start_service()) == ["milk"]


def test_kill_loses_nothing(start_service):
    """What was answered with "created" is in the file, whatever happens next."""
    service = start_service()
    add(service, "milk")
    service.end(signal.SIGKILL)
    assert titles(start_service()) == ["milk"]


def test_stop_does_not_wait_for_other_sites(start_service):
    """An import that waits for an answer is cancelled."""
    service = start_service()
    with socket.create_server(("127.0.0.1", 0)) as site:
        url = f"http://127.0.0.1:{site.getsockname()[1]}/"
        httpx.post(f"{service.list('x')}/import", json={"url": url}, trust_env=False)
        connection, _ = site.accept()
        with connection:
            assert service.end(signal.SIGTERM) == 143, service.log


def test_reporter_reports_again_and_again(start_service):
    service = start_service("--report-every", "0.1")
    add(service, "milk")
    for _ in range(2):
        service.wait_for_log("1 lists in use, 1 items to do, 0 imports running")


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
    service = start_service()
    for number in range(200):
        add(service, f"{number} " + "x" * 150)
    service.end(signal.SIGTERM)
    file = tmp_path / "todo.db"
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 8192) + content[-4096:])
    assert_refuses(start_service(), f"todo: cannot use {file}: ")


def test_folder_is_no_database(start_service, tmp_path):
    assert_refuses(start_service(file=tmp_path), f"todo: cannot use {tmp_path}: unable to open")


def test_database_with_other_tables(start_service, tmp_path):
    """A table of the same name that somebody else made is left alone."""
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE items (price INTEGER)")
    assert_refuses(start_service(file=file), f"todo: cannot use {file}: no such column")


@pytest.mark.parametrize(
    "arguments",
    [["--port", "http"], ["--port", "65536"], ["--report-every", "0"], ["--colour"], ["milk"]],
)
def test_bad_options_are_refused_with_the_usage(start_service, arguments):
    service = start_service(*arguments)
    assert service.wait() == 2
    assert service.log.startswith("usage: todo ")
    assert "Traceback" not in service.log
