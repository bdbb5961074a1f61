"""A to-do service whose lists survive crashes and are shown live.

    trio-otp run docs/examples/todo/app.py -- --port 8000 --file todo.db

The command looks for the name ``children`` in this file and runs what it finds.
"""

from __future__ import annotations

import argparse
import math
import sys
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jobs import Housekeeping
from lists import Lists
from reporter import Reporter
from server import serve
from store import Store
from trio_otp import ChildSpec, Supervisor, TaskSupervisor
from web import Web


def service(options: argparse.Namespace) -> Supervisor:
    """The whole program as a tree.

    Started from top to bottom, stopped from bottom to top: the web server comes
    last and goes first, so no request ever finds something missing. For the same
    reason the strategy is "rest_for_one": what falls takes with it what is below.
    """
    store = Store(options.file)
    lists = Lists(store)
    imports = TaskSupervisor(name="imports")
    reporter = Reporter(lists, imports, options.report_every)
    jobs = Housekeeping(store, lists, options.timezone).scheduler()
    app = Web(store, lists, imports).app(options.host)
    return Supervisor(
        [
            # Makes the file ready and is done: "transient" is right for that.
            ChildSpec(store.prepare, id="store", restart="transient"),
            lists.supervisor,
            imports,
            reporter,
            jobs,
            ChildSpec(serve, app, options.host, options.port, id="web"),
        ],
        strategy="rest_for_one",
        name="todo",
    )


def options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line, or end the program with a usage line."""
    parser = argparse.ArgumentParser(prog="todo", description="To-do lists, live in the browser.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", default=8000, type=port, help="port, 0 for a free one")
    parser.add_argument("--file", default="todo.db", help="SQLite file (%(default)s)")
    parser.add_argument("--report-every", default=60.0, type=seconds, metavar="SECONDS")
    parser.add_argument("--timezone", default="UTC", type=zone, help="of the jobs (%(default)s)")
    return parser.parse_args(arguments)


def port(text: str) -> int:
    """Read the number of a port; argparse names this function when it fails."""
    number = int(text)
    if number not in range(2**16):
        raise ValueError
    return number


def seconds(text: str) -> float:
    """Read a duration."""
    duration = float(text)
    if not 0 < duration < math.inf:
        raise ValueError
    return duration


def zone(name: str) -> ZoneInfo:
    """Find a time zone."""
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError as error:
        raise ValueError from error


children = service(options(sys.argv[1:]))
