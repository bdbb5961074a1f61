"""docs/conformance.py on small tables."""

import pytest

import conformance
from conformance import Carrier, Ledger, problems, read_families, render

TABLE = {
    "TASK": {"title": "Task", "part": "Ours", "digits": 3, "count": 4, "required": True},
    "CASE": {"title": "Cases", "part": "Other", "digits": 2, "numbers": [1, 7], "required": False},
    "REVIEW": {"title": "Review", "part": "Other", "digits": 1, "required": False},
}
WORKS = Carrier("test_task.py::test_works", "It works.")
ALL_TASKS = {f"TASK-00{n}": [WORKS] for n in range(1, 5)}


def ledger(tests=ALL_TASKS, difference=(), no_counterpart=()):
    return Ledger(read_families(TABLE), tests, dict(difference), dict(no_counterpart))


def test_ids_of_each_kind_of_family():
    """Ids are counted, listed one by one, or open."""
    task, case, review = read_families(TABLE)
    assert task.ids == ("TASK-001", "TASK-002", "TASK-003", "TASK-004")
    assert case.ids == ("CASE-01", "CASE-07")
    assert review.numbers is None


def test_left_out_numbers_are_no_ids():
    """A number that is left out is neither asked for nor known."""
    (family,) = read_families({"TASK": TABLE["TASK"] | {"left_out": [2]}})
    assert family.ids == ("TASK-001", "TASK-003", "TASK-004")
    assert not family.knows("TASK-002")


@pytest.mark.parametrize("id", ["TASK-1", "TASK-005", "TASK-000", "TASK", "TASK-x", "XTASK-001"])
def test_mistyped_ids_are_unknown(id):
    """An id counts only as it is written in the tables."""
    assert not any(family.knows(id) for family in read_families(TABLE))


def test_all_is_well():
    """A part whose ids all have a test gives no complaint."""
    assert not [*problems(ledger())]


def test_typo_in_a_mark():
    """The complaint about an unknown id names the test that carries it."""
    (complaint,) = problems(ledger(ALL_TASKS | {"TASK-01": [WORKS]}))
    assert complaint == "TASK-01 is no known id (test_task.py::test_works)"


def test_typo_in_the_differences():
    """A reason for an unknown id is a complaint as well."""
    (complaint,) = problems(ledger(difference={"TSK-001": "why"}))
    assert complaint == "TSK-001 is no known id (docs/differences.toml)"


def test_one_id_two_explanations():
    """An id is a difference or without counterpart, never both."""
    (complaint,) = problems(ledger(difference={"TASK-001": "a"}, no_counterpart={"TASK-001": "b"}))
    assert complaint == "TASK-001 is both a difference and without counterpart"


def test_tests_say_what_they_promise():
    """A test without a docstring would leave an empty line on the page."""
    (complaint,) = problems(ledger(ALL_TASKS | {"CASE-01": [Carrier("test_a.py::test_b", "")]}))
    assert complaint == "test_a.py::test_b carries ids and has no docstring"


def test_required_ids_are_accounted_for():
    """A required id without test or reason is named; a family that is not required may miss some."""
    tests = {id: [WORKS] for id in ALL_TASKS if id != "TASK-003"}
    missing, too_few = problems(ledger(tests))
    assert missing == "1 of Task without test or reason: TASK-003"
    assert too_few == "Ours: 75.0 % tested, 80 % are needed"


def test_reasons_do_not_replace_tests():
    """Four in five of the required ids need a test, whatever the reasons for the rest."""
    tests = {id: [WORKS] for id in ALL_TASKS if id != "TASK-003"}
    (complaint,) = problems(ledger(tests, no_counterpart={"TASK-003": "no nodes"}))
    assert complaint == "Ours: 75.0 % tested, 80 % are needed"


@pytest.mark.parametrize("arguments", [["--chekc"], ["--check", "--check"], ["page.md"]])
def test_unknown_arguments(monkeypatch, capsys, arguments):
    """What it does not know it refuses, says what there is, and leaves the page as it was."""
    monkeypatch.setattr(conformance, "read_ledger", None)  # neither reads nor writes
    assert conformance.main(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"unknown arguments: {' '.join(arguments)}\n")
    assert "python docs/conformance.py --check" in errors


def test_lessons_are_required():
    """A public bug report without test or reason is a complaint, and so is a fault of a peer."""
    families = {family.name: family for family in read_families(conformance.families())}
    for lessons in (families["CASE"], families["PEER"]):
        missing, *_ = problems(Ledger([lessons], {}, {}, {}))
        assert missing.startswith(f"{len(lessons.ids)} of {lessons.title} without test or reason")


def test_page():
    """The page counts each family and accounts for each id."""
    page = render(
        ledger(
            {
                "TASK-001": [Carrier("test_task.py::test_a", "One | two."), WORKS],
                "REVIEW-3": [WORKS],
            },
            difference={"TASK-001": "Ours is kinder.", "TASK-002": "Ours is quicker."},
            no_counterpart={"TASK-003": "No nodes."},
        )
    )
    assert "| TASK | Task | 4 | 1 (25 %) | 1 (25 %) | 1 (25 %) | 1 (25 %) |" in page
    assert "|  | **Other** | 3 | 1 (33 %) | 0 (0 %) | 0 (0 %) | 2 (67 %) |" in page
    assert (
        "| TASK-001 | tested | Ours is kinder.<br>`test_task.py::test_a`: One \\| two.<br>"
        "`test_task.py::test_works`: It works. |"
    ) in page
    assert "| TASK-002 | difference | Ours is quicker. |" in page
    assert "| TASK-003 | no counterpart | No nodes. |" in page
    assert "| TASK-004 | missing |  |" in page
    assert "| REVIEW-3 | tested | `test_task.py::test_works`: It works. |" in page
