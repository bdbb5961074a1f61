"""The web server, as a child of the tree."""

from __future__ import annotations

import logging
import socket
from typing import Any

import hypercorn.trio
import trio
from hypercorn.config import Config

from trio_otp import trap_exit

logger = logging.getLogger("todo")

# Pages keep their WebSocket open for ever; a stop need not wait for them.
GRACE_SECONDS = 0.2


async def serve(
    app: Any,
    host: str,
    port: int,
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app``, any ASGI application, until asked to stop; ready once the port answers.

    When the tree stops, requests under way are answered and no new ones taken:
    hence `trap_exit`, without which they would be cancelled.
    """
    config = Config()
    config.errorlog = logger
    config.graceful_timeout = GRACE_SECONDS
    config.bind = f"fd://{_listen(host, port)}"
    with trap_exit() as exiting:
        await hypercorn.trio.serve(
            app, config, shutdown_trigger=exiting.wait, task_status=task_status
        )


def _listen(host: str, port: int) -> int:
    """Take the port, or end the program with one clear line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family).detach()
    except OSError as error:
        raise SystemExit(f"todo: cannot listen on port {port}: {error.strerror}") from error
