"""Leaks: what is left of the library when all should be over."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio

from .._core import events
from .._core.life import Life
from .._core.loop import Loop
from .._core.process import Process, _current
from .._core.snapshots import observe
from .._core.text import callable_name, short
from .._core.waiting import Bell, Sleeper
from .._registry import Registry
from ._events import Events
from ._places import is_ours
from ._supervised import Root, _Watch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from .._core.events import Subscription
    from .._core.snapshots import ProcessInfo


def leaks(*expected: Process | Subscription) -> None:
    """Assert that nothing of the library is left: OTP's `:observer`, asked one question.

    Looks for processes that run, Trio tasks of the library, subscriptions, entries of registries,
    waits that nobody waits in, and objects that belong to a life and outlived it. What runs under the fixture
    `supervised` is the test's and does not count, nor does the fixture `events`. Works inside
    a Trio run and after it. The check to hand to `cancel_everywhere`.

    Args:
        *expected: Processes that may be there, with all under them, and open subscriptions.

    Raises:
        AssertionError: Something is left; the text lists it.
        TypeError: One of `expected` is neither a process nor a subscription.
    """
    for one in expected:
        if not isinstance(one, Process | events.Subscription):
            raise TypeError(f"leaks() takes processes and subscriptions, got {short(one)}")
    gc.collect()  # garbage is not left, it is only not collected yet
    roots = observe()
    running = set(_processes(roots))
    allowed = set(_processes(_allowed(roots, expected)))
    left = [
        *_running(roots, allowed),
        *_tasks(running),
        *_subscriptions(expected),
        *_objects(running),
    ]
    if left:
        raise AssertionError("left behind:" + "".join(f"\n  {line}" for line in left))


@contextmanager
def only_new_objects() -> Generator[None]:
    """Keep the garbage collector away from what there is already: looking takes time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _allowed(
    roots: Iterable[ProcessInfo], expected: tuple[Process | Subscription, ...]
) -> Iterator[ProcessInfo]:
    for info in roots:
        if info.process in expected or isinstance(info.process, Root):
            yield info
        else:
            yield from _allowed(info.children, expected)


def _processes(infos: Iterable[ProcessInfo]) -> Iterator[Process]:
    for info in infos:
        yield info.process
        yield from _processes(info.children)


def _running(infos: Iterable[ProcessInfo], allowed: set[Process]) -> Iterator[str]:
    for process in _processes(infos):
        if process not in allowed:
            yield f"process {short(process)}"


def _tasks(running: set[Process]) -> Iterator[str]:
    """Name the Trio tasks that run code of ours and belong to no process that runs."""
    for task in _all_tasks():
        code = getattr(task.coro, "cr_code", None)
        process = task.context.get(_current)
        if code is not None and is_ours(code) and process not in running:
            yield f"Trio task {task.name}"


def _all_tasks() -> Iterator[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task() if trio.lowlevel.in_trio_run() else None
    waiting = [root] if root is not None else []
    while waiting:
        task = waiting.pop()
        yield task
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)


def _subscriptions(expected: tuple[Process | Subscription, ...]) -> Iterator[str]:
    for subscription in events._subscriptions:
        handler = subscription._handler
        of_the_kit = isinstance(getattr(handler, "__self__", None), Events | _Watch)
        if subscription not in expected and not of_the_kit:
            yield f"subscription of {callable_name(handler)}"


def _objects(running: set[Process]) -> Iterator[str]:
    """Name what belongs to a life, and is there though nothing runs that it could belong to."""
    lives = {process._life for process in running}
    loops = {getattr(process, "_loop", None) for process in running}
    for thing in _instances(Life, Loop, Bell, Registry):
        if isinstance(thing, Life):
            if thing.exit is None and thing not in lives:
                yield f"a life that nobody ended, begun at {thing.started_at:g}"
        elif isinstance(thing, Loop):
            # One that has closed may be kept by a traceback, such as that of a logged crash.
            if not thing.closing and thing not in loops:
                yield f"the loop of {short(thing._owner)}"
        elif isinstance(thing, Registry):
            yield from _stale_entries(thing)  # pyright: ignore[reportUnknownArgumentType]
        elif _has_forgotten_sleepers(thing):
            yield f"somebody who has left, and whom {short(thing)} would still wake"


def _stale_entries(registry: Registry[Any, Any, Any]) -> Iterator[str]:
    for owner in registry._by_owner:
        if owner.status in ("new", "stopped"):
            yield f"entry of {short(owner)} in {short(registry)}"


def _has_forgotten_sleepers(bell: Bell) -> bool:
    sleepers = getattr(bell, "_sleepers", None) or ()
    return any(isinstance(one, Sleeper) and not one._parked for one in sleepers)


def _instances(*kinds: type) -> list[Any]:
    # By type(), since isinstance would ask foreign proxies, and wake them.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), kinds)]
