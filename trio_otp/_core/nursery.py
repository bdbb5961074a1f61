"""A nursery whose failures leave bare; everything of ours that holds children uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from . import failures, reports

if TYPE_CHECKING:
    from types import TracebackType


class OwnNursery:
    """Trio's nursery, except that one failure leaves as itself, not in a group.

    A class, not a generator: it is entered and left from different functions of a block.
    """

    __slots__ = ("_manager", "nursery")

    nursery: trio.Nursery

    def __init__(self) -> None:
        self._manager: Final = trio.open_nursery()

    async def __aenter__(self) -> trio.Nursery:
        self.nursery = await self._manager.__aenter__()
        return self.nursery

    async def leave(self, error: BaseException | None) -> bool:
        """Do what the end of an `async with` does, with the error that left its body."""
        if error is None:
            return await self.__aexit__(None, None, None)
        try:
            return await self.__aexit__(type(error), error, error.__traceback__)
        finally:
            del error

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        try:
            return bool(await self._manager.__aexit__(kind, error, trace))
        except BaseExceptionGroup as group:
            leaving, lost = failures.merged(group.exceptions)
        for one in lost:
            reports.lost(one, "an interrupt or exit left in its place")
        if leaving is error:
            return False
        assert leaving is not None  # a group has members, and merging keeps one
        try:
            failures.raised(leaving)
        finally:
            del leaving, error, trace, lost
        raise AssertionError  # not reached
