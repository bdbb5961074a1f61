"""Where the runs of a job go, if not to the scheduler's own supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from ._core.text import short
from ._task_supervisor import TaskSupervisor

if TYPE_CHECKING:
    from random import Random

Candidates: TypeAlias = tuple[TaskSupervisor, ...]
"""Who may take one run; the first of them that can does."""


class Place:
    """The base of strategies: for each run that a slot brings, who may take it."""

    __slots__ = ()

    def choose(self, random: Random) -> tuple[Candidates, ...]:
        """Give the candidates of each run, the preferred one first."""
        raise NotImplementedError


def _checked(value: tuple[Any, ...]) -> Candidates:
    _check_each("supervisors must be", value)
    if not value:
        raise ValueError("supervisors must be one or more")
    return value


@attrs.frozen(init=False)
class _Several(Place):
    supervisors: Candidates

    def __init__(self, *supervisors: TaskSupervisor) -> None:
        self.__attrs_init__(_checked(supervisors))  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]


class OnOneOf(_Several):
    """Each run on one of several supervisors, chosen at random; on another if that cannot.

    Raises:
        TypeError: One of them is no `TaskSupervisor`.
        ValueError: There is none.
    """

    __slots__ = ()

    def choose(self, random: Random) -> tuple[Candidates, ...]:
        """Give one run, all of them candidates."""
        return (tuple(random.sample(self.supervisors, len(self.supervisors))),)


class OnAllOf(_Several):
    """A run on each of several supervisors; those that cannot take it are left out.

    Raises:
        TypeError: One of them is no `TaskSupervisor`.
        ValueError: There is none.
    """

    __slots__ = ()

    def choose(self, random: Random) -> tuple[Candidates, ...]:
        """Give one run for each."""
        return tuple((supervisor,) for supervisor in self.supervisors)


class On(Place):
    """Each run on one supervisor."""

    __slots__ = ("_choice",)

    def __init__(self, supervisor: TaskSupervisor) -> None:
        self._choice = (_checked((supervisor,)),)

    def choose(self, random: Random) -> tuple[Candidates, ...]:
        """Give that one."""
        return self._choice


def checked_choice(choice: Any) -> tuple[Candidates, ...]:
    """Pass on what a place has chosen."""
    for candidates in choice:
        _check_each("choose() must give", candidates)
    return tuple(choice)


def _check_each(demand: str, supervisors: Any) -> None:
    for supervisor in supervisors:
        if not isinstance(supervisor, TaskSupervisor):
            raise TypeError(f"{demand} TaskSupervisors, got {short(supervisor)}")


def to_place(option: str, value: Any) -> Place:
    """Pass on where to run, made of a supervisor if need be."""
    if isinstance(value, Place):
        return value
    if isinstance(value, TaskSupervisor):
        return On(value)
    raise TypeError(f"{option} must be a TaskSupervisor, OnOneOf or OnAllOf, got {short(value)}")
