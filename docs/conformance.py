"""Write docs/conformance.md: which promises of the original have a test.

    python docs/conformance.py            write the page
    python docs/conformance.py --check    exit 1 and say why, if the page is out of date,
                                          a mark names no promise, or too little is tested

The promises are the ids of tests/conformance.toml. Tests carry them as
`@pytest.mark.conforms("TASK-006")`; what is different on purpose stands in docs/differences.toml.
"""

import contextlib
import inspect
import io
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "conformance.md"
LEAST_TESTED_PERCENT = 80

State = Literal["tested", "difference", "no counterpart", "missing"]
STATES: tuple[State, ...] = ("tested", "difference", "no counterpart", "missing")

HEAD = """\
# Conformance

<!-- Written by `python docs/conformance.py`; changes by hand are lost. -->

The promises below were read from the original and from what others learnt, and have an id each.
A promise is *tested*, or it is a deliberate *difference*, or it has *no counterpart* in Trio and Python.
One that is tested and has a reason as well is a difference whose test shows what happens instead.
"""


@attrs.frozen
class Family:
    """Ids that begin with the same word."""

    name: str
    title: str
    part: str
    digits: int
    required: bool
    numbers: tuple[int, ...] | None
    """None: the family is open, any number may be carried."""

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.id_of(number) for number in self.numbers or ())

    def id_of(self, number: int) -> str:
        return f"{self.name}-{number:0{self.digits}}"

    def knows(self, id: str) -> bool:
        name, _, number = id.rpartition("-")
        if name != self.name or not number.isdecimal() or id != self.id_of(int(number)):
            return False
        return self.numbers is None or int(number) in self.numbers


@attrs.frozen(order=True)
class Carrier:
    """A test function that carries ids, however many parameters it is run with."""

    name: str
    promise: str
    """The first line of its docstring."""


@attrs.frozen
class Ledger:
    """All promises and what became of them."""

    families: Sequence[Family]
    tests: Mapping[str, Sequence[Carrier]]
    difference: Mapping[str, str]
    no_counterpart: Mapping[str, str]

    def ids(self, family: Family) -> Sequence[str]:
        return family.ids if family.numbers is not None else self._carried(family)

    def _carried(self, family: Family) -> Sequence[str]:
        carried = (id for id in self.tests if family.knows(id))
        return sorted(carried, key=lambda id: int(id.rpartition("-")[2]))

    def state(self, id: str) -> State:
        if id in self.tests:
            return "tested"
        if id in self.difference:
            return "difference"
        return "no counterpart" if id in self.no_counterpart else "missing"

    def counts(self, families: Iterable[Family]) -> Counter[State]:
        return Counter(self.state(id) for family in families for id in self.ids(family))

    def parts(self) -> Mapping[str, Sequence[Family]]:
        parts: defaultdict[str, list[Family]] = defaultdict(list)
        for family in self.families:
            parts[family.part].append(family)
        return parts


# --- Reading


def read_families(table: Mapping[str, Any]) -> list[Family]:
    return [
        Family(
            name=name,
            title=entry["title"],
            part=entry["part"],
            digits=entry["digits"],
            required=entry["required"],
            numbers=_numbers(entry),
        )
        for name, entry in table.items()
    ]


def _numbers(entry: Mapping[str, Any]) -> tuple[int, ...] | None:
    if "numbers" in entry:
        return tuple(entry["numbers"])
    if "count" not in entry:
        return None
    left_out = entry.get("left_out", ())
    return tuple(n for n in range(1, entry["count"] + 1) if n not in left_out)


class Collector:
    """A pytest plugin that keeps the tests by the ids they carry."""

    def __init__(self) -> None:
        self.tests: defaultdict[str, set[Carrier]] = defaultdict(set)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for mark in item.iter_markers("conforms"):
                for id in mark.args:
                    self.tests[id].add(_describe(item))


def _describe(item: pytest.Item) -> Carrier:
    assert isinstance(item, pytest.Function)
    file = item.path.relative_to(TESTS).as_posix()
    promise, _, _ = (inspect.getdoc(item.obj) or "").partition("\n")
    return Carrier(f"{file}::{item.originalname}", promise)


def collect() -> Mapping[str, Sequence[Carrier]]:
    """The tests by the ids they carry, without running one."""
    collector, output = Collector(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = pytest.main(
            ["--collect-only", "-qq", "-p", "no:cacheprovider", str(TESTS)], [collector]
        )
    if status != pytest.ExitCode.OK:
        sys.exit(f"the tests cannot be collected:\n{output.getvalue()}")
    return {id: sorted(tests) for id, tests in collector.tests.items()}


def read_ledger() -> Ledger:
    reasons = _read_toml(ROOT / "docs" / "differences.toml")
    return Ledger(
        families=read_families(families()),
        tests=collect(),
        difference=reasons["difference"],
        no_counterpart=reasons["no-counterpart"],
    )


def families() -> Mapping[str, Any]:
    """The table of families, as it is written."""
    return _read_toml(TESTS / "conformance.toml")


def _read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


# --- Judging


def problems(ledger: Ledger) -> Iterator[str]:
    """What is wrong with the ledger, one sentence each."""
    yield from _unknown(ledger)
    yield from _contradictions(ledger)
    yield from _undescribed(ledger)
    yield from _missing(ledger)
    yield from _too_few(ledger)


def _unknown(ledger: Ledger) -> Iterator[str]:
    for where in (ledger.tests, ledger.difference, ledger.no_counterpart):
        for id in sorted(where):
            if not any(family.knows(id) for family in ledger.families):
                tests = ", ".join(test.name for test in ledger.tests.get(id, ()))
                yield f"{id} is no known id ({tests or 'docs/differences.toml'})"


def _contradictions(ledger: Ledger) -> Iterator[str]:
    for id in sorted(ledger.difference.keys() & ledger.no_counterpart.keys()):
        yield f"{id} is both a difference and without counterpart"


def _undescribed(ledger: Ledger) -> Iterator[str]:
    silent = {test.name for tests in ledger.tests.values() for test in tests if not test.promise}
    for name in sorted(silent):
        yield f"{name} carries ids and has no docstring"


def _missing(ledger: Ledger) -> Iterator[str]:
    for family in ledger.families:
        missing = [id for id in family.ids if ledger.state(id) == "missing"]
        if family.required and missing:
            yield f"{len(missing)} of {family.title} without test or reason: {', '.join(missing)}"


def _too_few(ledger: Ledger) -> Iterator[str]:
    for part, families in ledger.parts().items():
        counts = ledger.counts(family for family in families if family.required)
        share = _percent(counts["tested"], counts.total())
        if counts and share < LEAST_TESTED_PERCENT:
            yield f"{part}: {share:.1f} % tested, {LEAST_TESTED_PERCENT} % are needed"


# --- Writing


def render(ledger: Ledger) -> str:
    sections = [HEAD, _table(SUMMARY_HEAD, _summary(ledger))]
    sections += (_section(ledger, family) for family in ledger.families)
    return "\n".join(sections)


SUMMARY_HEAD = ("Ids", "About", "All", "Tested", "Difference", "No counterpart", "Missing")


def _summary(ledger: Ledger) -> Iterator[Sequence[str]]:
    for part, families in ledger.parts().items():
        for family in families:
            yield family.name, family.title, *_figures(ledger.counts([family]))
        if len(families) > 1:
            yield "", f"**{part}**", *_figures(ledger.counts(families))


def _figures(counts: Counter[State]) -> Iterator[str]:
    yield str(counts.total())
    for state in STATES:
        yield f"{counts[state]} ({_percent(counts[state], counts.total()):.0f} %)"


def _percent(some: int, total: int) -> float:
    return 100 * some / total if total else 0.0


def _section(ledger: Ledger, family: Family) -> str:
    rows = ((id, ledger.state(id), _account(ledger, id)) for id in ledger.ids(family))
    return f"## {family.name}: {family.title}\n\n{_table(('Id', 'State', 'By'), rows)}"


def _account(ledger: Ledger, id: str) -> str:
    reason = ledger.difference.get(id) or ledger.no_counterpart.get(id)
    tests = (f"`{test.name}`: {test.promise}" for test in ledger.tests.get(id, ()))
    return "<br>".join(_cell(text) for text in ([reason] if reason else []) + [*tests])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))
    return "".join(lines)


def main(arguments: Sequence[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(f"unknown arguments: {' '.join(arguments)}\n\n{__doc__}", file=sys.stderr)
        return 2
    ledger = read_ledger()
    page = render(ledger)
    if arguments != ["--check"]:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    complaints = [*problems(ledger)]
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        complaints.append("docs/conformance.md is out of date: run python docs/conformance.py")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
