"""The to-do service as its users meet it: a process, with sockets and signals."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import trio

TODO = Path(__file__).parents[2] / "docs" / "examples" / "todo"
# As `trio-otp run` does with the folder of the file it runs.
sys.path.insert(0, str(TODO))


class Service:
    """A to-do service that runs, or that ended because it could not."""

    def __init__(self, file: Path, *arguments: object, port: int = 0) -> None:
        command = [sys.executable, "-m", "trio_otp", "run", str(TODO / "app.py"), "--"]
        self.process = subprocess.Popen(
            [*command, "--file", str(file), "--port", str(port), *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            # What it downloads in the tests is on this machine.
            env={name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        )
        self.url = ""
        self.log = ""

    def start(self) -> None:
        """Wait until it serves, or has ended."""
        try:
            line = self.wait_for_log("Running on ")
        except AssertionError:
            self.wait()
        else:
            self.url = line.partition("Running on ")[2].split()[0]

    def list(self, name: str) -> str:
        return f"{self.url}/lists/{name}"

    def end(self, number: int) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        self.log += self.process.communicate(timeout=10)[1]
        return self.process.returncode

    def wait_for_log(self, text: str) -> str:
        """The first line of the log to come that holds ``text``."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            if text in line:
                return line
        raise AssertionError(f"no line with {text!r} in:\n{self.log}")


@contextmanager
def running(file: Path, *arguments: object, port: int = 0) -> Iterator[Service]:
    """A service that is there for a block, whatever happens in it."""
    service = Service(file, *arguments, port=port)
    with service.process:
        try:
            service.start()
            yield service
        finally:
            service.process.kill()


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services on a database of the test's own."""
    with ExitStack() as services:

        def start(*arguments: object, file: Path = tmp_path / "todo.db", port: int = 0) -> Service:
            return services.enter_context(running(file, *arguments, port=port))

        yield start


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests of a file; each test uses lists of its own."""
    with running(tmp_path_factory.mktemp("todo") / "todo.db") as service:
        assert service.url, service.log
        yield service
        assert service.end(signal.SIGTERM) == 143, service.log
        # hypercorn logs errors of its own about clients that leave in mid-sentence.
        assert "ERROR trio_otp" not in service.log, service.log


class Website:
    """Another site on the web, which answers as a test tells it to."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, bytes | Callable[[trio.SocketStream], Awaitable[None]]] = {}

    def answer(self, path: str, body: bytes, status: str = "200 OK", headers: str = "") -> str:
        """Answer ``path`` like this from now on; its address."""
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}Connection: close\r\n"
        self.answers[path] = head.encode() + b"\r\n" + body
        return self.url + path

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        task_status.started()
        await trio.serve_listeners(self._handle, listeners)

    async def _handle(self, stream: trio.SocketStream) -> None:
        request = b""
        async with stream:
            while b"\r\n\r\n" not in request:
                request += await stream.receive_some()
            answer = self.answers[request.split()[1].decode()]
            with suppress(trio.BrokenResourceError):  # the other side has had enough
                await (stream.send_all(answer) if isinstance(answer, bytes) else answer(stream))


@pytest.fixture
async def website(nursery: trio.Nursery) -> AsyncIterator[Website]:
    website = Website()
    await nursery.start(website.serve)
    return website
