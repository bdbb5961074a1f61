"""The program of docs/testing.md and its tests."""

from contextlib import suppress
from pathlib import Path

import pytest

from test_docs import ROOT, read_blocks
from trio_otp import Ended, Exited, Ready, Restarting, Started
from trio_otp.testing import cancel_everywhere, chaos, crash_everywhere, leaks

PAGE = Path(ROOT / "docs" / "testing.md")
program, *examples = read_blocks("docs/testing.md", PAGE.read_text(encoding="utf-8"))
names: dict[str, object] = {"__name__": "bank"}
program.run(names)
Bank, moved = names["Bank"], names["moved"]


async def test_unknown_account(supervised, events):
    """A transfer that fails fails whoever asked, and the accounts begin again."""
    bank = Bank()
    await supervised(bank.tree())
    with pytest.raises(Exited):
        await bank.transfer("ann", "eve", 1)
    await events.wait_for(Ready, bank.accounts, count=2)
    assert await bank.total() == 10
    assert events.kinds(bank.accounts) == [Started, Ready, Ended, Restarting, Started, Ready]


async def test_money_is_never_lost(supervised):
    """However far two transfers come, no money is lost or made."""
    bank = Bank()
    await supervised(bank.tree())

    async def scenario():
        await bank.transfer("ann", "bob", 1)
        await bank.transfer("bob", "ann", 1)

    async def check():
        assert await bank.total() == 10

    assert await cancel_everywhere(scenario, check) >= 4


async def test_journal_may_miss_what_was_cancelled(supervised):
    """The kit finds that a transfer and its entry are two steps, and at which line they part."""
    bank = Bank()
    await supervised(bank.tree())

    async def check():
        moves = await bank.journal.get(len)
        assert (await bank.accounts.get())["bob"] == moves

    async def scenario():
        await bank.transfer("ann", "bob", 1)

    with pytest.raises(AssertionError) as caught:
        await cancel_everywhere(scenario, check)
    line = program.line + program.text.splitlines().index(
        "        await self.journal.update(lambda entries: [*entries, (source, target, amount)])"
    )
    assert f"testing.md:{line - 1} in Bank.transfer" in caught.value.__notes__[0]


async def test_crashing_transfer(autojump_clock):
    """A transfer that crashes anywhere leaves the accounts as a new life makes them."""

    async def scenario(crashing):
        bank = Bank()
        async with bank.tree():
            with suppress(Exited):
                await bank.accounts.update(crashing(moved), "ann", "bob", 1)
            assert await bank.total() == 10

    assert await crash_everywhere(scenario, leaks) == 1


async def test_bank_survives(supervised, autojump_clock):
    """Ten minutes of chaos leave the bank whole."""
    tree = await supervised(Bank().tree())
    assert len(await chaos(tree, seconds=600, rate=1.0)) > 500
    leaks()


def test_page_shows_what_is_tested():
    """Each test that the page shows is one of this file."""
    shown = [line for block in examples for line in block.text.splitlines() if "def test_" in line]
    here = Path(__file__).read_text(encoding="utf-8")
    assert len(shown) == 4
    assert all(line in here for line in shown)
