"""Every block of Python in README.md and docs/ is compiled and, unless it says why not, run.

A block is a program of its own. A comment right above it changes that:

    <!-- not run: why -->   it is only compiled
    <!-- continues -->      it runs in the namespace of the block before it
"""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(
    r"(?:^[ ]*<!--[ ]*(?P<comment>[^\n]*?)[ ]*-->\s*?\n\s*?)?"
    r"^[ ]*```python\n(?P<code>.*?)^[ ]*```$",
    re.MULTILINE | re.DOTALL,
)


@attrs.frozen
class Block:
    """One block of Python, with the blocks of its page that it continues."""

    page: str
    line: int
    text: str
    is_run: bool
    before: "Block | None"

    def compile(self, flags: int = 0):
        # Empty lines in front make tracebacks name the line of the page.
        return compile("\n" * (self.line - 1) + self.text, self.page, "exec", flags)

    def run(self, namespace: dict[str, object]) -> None:
        if self.before is not None:
            self.before.run(namespace)
        exec(self.compile(), namespace)


def read_blocks(page: str, text: str) -> Iterator[Block]:
    before = None
    for match in BLOCK.finditer(text):
        comment = match["comment"] or ""
        before = Block(
            page=page,
            line=text.count("\n", 0, match.start("code")) + 1,
            text=textwrap.dedent(match["code"]),
            is_run=not comment.startswith("not run: "),
            before=before if comment == "continues" else None,
        )
        yield before


BLOCKS = [
    block
    for page in PAGES
    for block in read_blocks(str(page.relative_to(ROOT)), page.read_text(encoding="utf-8"))
]


@pytest.fixture
def jumping_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trio.run jump over all waiting, unless it is given a clock."""
    run = trio.run

    def jump(*args, clock=None, **options):
        if clock is None:
            clock = trio.testing.MockClock(autojump_threshold=0)
        return run(*args, clock=clock, **options)

    monkeypatch.setattr(trio, "run", jump)


@pytest.mark.conforms("PROC-046")
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_block(block, jumping_clock):
    """A block of the documentation works as it stands."""
    if block.is_run:
        block.run({"__name__": "__main__"})
    else:
        block.compile(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


TESTS_IN_BLOCKS = [
    block for block in BLOCKS if block.is_run and re.search(r"def test_\w+\(auto", block.text)
]


@pytest.mark.parametrize("block", TESTS_IN_BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_test_in_a_block(block, jumping_clock):
    """What the documentation shows as a test passes."""
    namespace: dict[str, object] = {}
    block.run(namespace)
    tests = [fn for name, fn in namespace.items() if name.startswith("test_")]
    for test in tests:
        trio.run(test, None)
    assert tests


PAGE = """\
```python
first = 1
```

<!-- continues -->
```python
second = first + 1
```

- in a list

  <!-- not run: needs a network -->

  ```python
  await fetch()
  ```

<!-- something else -->

text

```python
1 / 0
```
"""


def test_blocks_are_found_with_their_lines():
    """Each block knows its line, also in a list and below a comment."""
    assert [block.line for block in read_blocks("page.md", PAGE)] == [2, 7, 15, 23]


def test_comments_say_how_a_block_is_run():
    """Only the comment right above a block counts."""
    first, second, in_list, last = read_blocks("page.md", PAGE)
    assert [block.is_run for block in (first, second, in_list, last)] == [True, True, False, True]
    assert [block.before for block in (first, second, in_list, last)] == [None, first, None, None]


def test_continuing_block_sees_the_names_of_the_one_before():
    """A chain of blocks shares one namespace."""
    namespace: dict[str, object] = {}
    [*read_blocks("page.md", PAGE)][1].run(namespace)
    assert namespace["second"] == 2


def test_traceback_names_the_line_of_the_page():
    """An error in a block points into the page."""
    last = [*read_blocks("page.md", PAGE)][-1]
    with pytest.raises(ZeroDivisionError) as caught:
        last.run({})
    assert str(caught.traceback[-1].path) == "page.md"
    assert caught.traceback[-1].lineno + 1 == 23
