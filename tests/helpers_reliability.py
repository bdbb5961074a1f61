"""Which async functions the library offers, and which of them a scenario calls."""

import inspect
import sys
from contextlib import contextmanager
from typing import Protocol

import trio
from trio.testing import MockClock

import trio_otp
from trio_otp import JobFailed, JobStarted, JobStopped, subscribe

DEFINED_BY_USERS = {"Task.main", "Starter.start_child"}
OF_BLOCKS_AND_ITERATORS = ("__aenter__", "__aexit__", "__anext__")


def offered():
    """Give the code of each public async function, block and iterator, with its name."""
    found = {}
    for owner, name, fn in (*_of_the_door(), *_of_blocks_and_iterators()):
        label = f"{owner}.{name}" if owner else name
        if _is_async(fn) and label not in DEFINED_BY_USERS:
            found.setdefault(inspect.unwrap(fn).__code__, label)
    return found


def _of_the_door():
    for name in trio_otp.__all__:
        value = getattr(trio_otp, name)
        yield "", name, value
        if inspect.isclass(value) and Protocol not in value.__bases__:  # those users define
            yield from ((name, key, one) for key, one in _members(value) if key[0] != "_")


def _of_blocks_and_iterators():
    """Those of classes that are not named in public, but given by what is."""
    for module in [m for name, m in sys.modules.items() if name.startswith("trio_otp._")]:
        for cls in vars(module).values():
            if inspect.isclass(cls) and cls.__module__.startswith("trio_otp"):
                for key in OF_BLOCKS_AND_ITERATORS:
                    if key in vars(cls):
                        yield cls.__name__, key, vars(cls)[key]


def _members(cls):
    return [(name, getattr(cls, name)) for name in dir(cls)]


def _is_async(fn):
    fn = inspect.unwrap(fn) if callable(fn) else fn
    return inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn)


def never_called(scenarios, with_threads=()):
    """Run scenarios, and name what the library offers that none of them has called.

    Those with worker threads run in real time: a clock that jumps has no rest beside them.
    """
    called = set()
    before = sys.getprofile()
    sys.setprofile(lambda frame, _event, _arg: called.add(frame.f_code))
    try:
        for scenario in scenarios:
            trio.run(scenario, clock=MockClock(autojump_threshold=0))
        for scenario in with_threads:
            trio.run(scenario)
    finally:
        sys.setprofile(before)
    return {name for code, name in offered().items() if code not in called}


@contextmanager
def whole_runs():
    """See that each run of a job that begins in the block has one end by the end of it."""
    begun, ended = [], []

    def note(event):
        if isinstance(event, JobStarted):
            begun.append(event.run)
        elif isinstance(event, JobStopped | JobFailed):
            ended.append(event.run)

    with subscribe(note):
        try:
            yield begun
        finally:
            assert sorted(run.span for run in begun) == sorted(run.span for run in ended)
