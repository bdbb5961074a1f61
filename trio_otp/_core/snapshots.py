"""Looking at what runs: frozen snapshots, taken without waiting, that cost nothing before.

There is no register of processes. A snapshot walks Trio's own tree of tasks and asks each
task's context whose life it is; supervisors add the children in their tables, among them
those that are down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import attrs
import trio

from .process import Process, _current
from .text import short

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from .exits import Exit
    from .process import Status


@attrs.frozen(kw_only=True)
class ProcessInfo:
    """One process as it stood when `observe` looked.

    Attributes:
        process: Its handle.
        id: Its id as a child, else its name.
        name: Its name.
        kind: `"agent"`, `"task"`, `"supervisor"`, `"task_supervisor"`, ...
        status: Where it stood.
        restarts: How often its supervisor has started it again.
        started_at: When its last life began, in seconds of Trio's clock; None if never.
        mailbox_length: How many requests wait.
        dropped_casts: How many casts were never done, in all its lives.
        current: What it runs, and since when; None if nothing that waits.
        waiting_for: The process that its own code is calling, if any.
        asked_by: Who asked for it, and who asked for that one: names, nearest first.
        last_exit: How its last life ended, if one has.
        children: What runs under it.
    """

    process: Process = attrs.field(repr=False)
    id: Hashable
    name: str
    kind: str
    status: Status
    restarts: int
    started_at: float | None
    mailbox_length: int
    dropped_casts: int
    current: tuple[str, float] | None
    waiting_for: Process | None
    asked_by: tuple[str, ...]
    last_exit: Exit | None
    children: tuple[ProcessInfo, ...] = attrs.field(repr=False)


@overload
def observe(process: None = None) -> tuple[ProcessInfo, ...]: ...
@overload
def observe(process: Process) -> ProcessInfo: ...
def observe(process: Process | None = None) -> tuple[ProcessInfo, ...] | ProcessInfo:
    """Look at one process and all under it, or at all the roots; OTP's Observer.

    Never waits, whatever the processes are doing. Without a process, the roots of this
    Trio run in no set order; none outside a run.

    Args:
        process: Whom to look at; None for all.

    Raises:
        TypeError: That is not a process.
    """
    if process is not None and not isinstance(process, Process):
        raise TypeError(f"process must be a Process or None, got {short(process)}")
    below = _trees()
    roots = below[None] if process is None else [process]
    infos = _infos(roots, below)
    return tuple(infos[root] for root in roots) if process is None else infos[process]


def format_tree(process: Process | None = None) -> str:
    """Draw one process, or all, as lines of text: name, kind, status and what stands out."""
    roots = observe() if process is None else (observe(process),)
    lines: list[str] = []
    waiting = [(root, 0) for root in reversed(roots)]
    while waiting:
        info, depth = waiting.pop()
        lines.append("    " * depth + _line(info))
        waiting.extend((child, depth + 1) for child in reversed(info.children))
    return "\n".join(lines)


def _line(info: ProcessInfo) -> str:
    notes = [f"{info.kind}, {info.status}"]
    if info.restarts:
        notes.append(f"restarts {info.restarts}")
    if info.mailbox_length:
        notes.append(f"mailbox {info.mailbox_length}")
    if info.dropped_casts:
        notes.append(f"casts dropped {info.dropped_casts}")
    if info.waiting_for is not None:
        notes.append(f"calling {info.waiting_for.name}")
    if info.last_exit is not None and info.status != "stopped":
        notes.append(f"last life {info.last_exit}")
    return f"{info.name} ({', '.join(notes)})"


def _trees() -> dict[Process | None, list[Process]]:
    """Map each process to those that run under it; None to the roots.

    That is so in Trio's tree, except for those in a supervisor's tables: a task that is
    linked to its asker runs in the asker's nursery, and is the supervisor's all the same.
    """
    seen: list[tuple[Process, Process | None]] = []
    keepers: dict[Process, Process] = {}
    root = trio.lowlevel.current_root_task() if trio.lowlevel.in_trio_run() else None
    waiting: list[tuple[trio.lowlevel.Task, Process | None]] = []
    if root is not None:
        waiting.append((root, None))
    while waiting:
        task, above = waiting.pop()
        found = _whose(task)
        if found is not None:
            seen.append((found, above))
            keepers.update(dict.fromkeys(found._under(), found))
        waiting.extend((child, found or above) for child in _tasks_under(task))
    below: dict[Process | None, list[Process]] = {None: []}
    for found, above in seen:
        below.setdefault(keepers.get(found, above), []).append(found)
    return below


def _whose(task: trio.lowlevel.Task) -> Process | None:
    process = task.context.get(_current)
    return process if process is not None and _owns(process, task) else None


def _owns(process: Process, task: trio.lowlevel.Task) -> bool:
    return process._life is not None and process._life.task is task


def _tasks_under(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    for nursery in task.child_nurseries:
        yield from nursery.child_tasks


def _infos(
    roots: list[Process], below: dict[Process | None, list[Process]]
) -> dict[Process, ProcessInfo]:
    """Make the snapshots from the leaves up: trees may be deeper than the stack."""
    order: list[tuple[Process, Hashable, int]] = []
    children: dict[Process, list[Process]] = {}
    waiting: list[tuple[Process, Hashable, int]] = [(root, root.name, 0) for root in roots]
    while waiting:
        process, id, restarts = waiting.pop()
        order.append((process, id, restarts))
        known = process._under()
        for found in below.get(process, ()):
            known.setdefault(found, (found.name, 0))
        children[process] = list(known)
        waiting.extend((child, *about) for child, about in known.items())
    infos: dict[Process, ProcessInfo] = {}
    for process, id, restarts in reversed(order):
        under = tuple(infos[child] for child in children[process] if child in infos)
        infos[process] = _info(process, id, restarts, under)
    return infos


def _info(
    process: Process, id: Hashable, restarts: int, children: tuple[ProcessInfo, ...]
) -> ProcessInfo:
    life = process._life
    looks = process._looked_at(life)
    calling = life.waiting_for if life is not None else None
    return ProcessInfo(
        process=process,
        id=id,
        name=process.name,
        kind=process._kind,
        status=process.status,
        restarts=restarts,
        started_at=life.started_at if life is not None else None,
        mailbox_length=looks.mailbox_length,
        dropped_casts=looks.dropped_casts,
        current=looks.current,
        waiting_for=calling[0] if calling else None,
        asked_by=process._asked_by,
        last_exit=process.last_exit,
        children=children,
    )
