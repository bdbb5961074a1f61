"""The page of the to-do service, in a browser."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

pytestmark = pytest.mark.real

CHROMIUM = "/usr/bin/chromium"
# No window, no sandbox (which root cannot have), and nothing that calls home.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if shutil.which(CHROMIUM) is None:
        if "CI" in os.environ:
            pytest.fail(f"no {CHROMIUM}")
        pytest.skip(f"no {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, service) -> Iterator[Callable[[str], Page]]:
    """Opens a list as a user would, each time in a browser of its own; no error may show up."""
    errors: list[str] = []
    contexts = []

    def open_page(name: str) -> Page:
        context = browser.new_context()
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.on("dialog", lambda dialog: errors.append(f"dialog {dialog.message}"))
        page.goto(service.list(name))
        expect(page.locator("#connection")).to_have_text("live")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors


def add(page: Page, title: str) -> None:
    page.get_by_label("Title").fill(title)
    page.get_by_role("button", name="Add").click()


def expect_titles(page: Page, *titles: str) -> None:
    expect(page.locator("#items .title")).to_have_text(list(titles))


def test_two_pages_show_every_change_live(open_page):
    """Whoever adds, marks or deletes: the other page shows it without being touched."""
    mine, yours = open_page("shared"), open_page("shared")
    expect(yours.locator("#nothing")).to_be_visible()
    add(mine, "milk")
    add(yours, "bread")
    for page in (mine, yours):
        expect_titles(page, "milk", "bread")
        expect(page.locator("#count")).to_have_text("2 to do, 0 done")
    mine.get_by_label("milk").check()
    expect(yours.get_by_label("milk")).to_be_checked()
    yours.get_by_label("milk").uncheck()
    expect(mine.get_by_label("milk")).not_to_be_checked()
    mine.get_by_role("listitem").filter(has_text="milk").get_by_label("Delete").click()
    for page in (mine, yours):
        expect_titles(page, "bread")


def test_import_of_a_file_shows_the_bad_lines(open_page):
    page = open_page("shop")
    content = b"date,title\n2026-01-01,milk\nnonsense\n2026-01-02,bread\n"
    page.get_by_label("CSV file").set_input_files(
        {"name": "shop.csv", "mimeType": "text/csv", "buffer": content}
    )
    page.locator("#import-file button").click()
    notice = page.locator("#notices article")
    expect(notice.locator("p")).to_have_text(
        "Imported 2 of 3 items from shop.csv, but 1 could not be read:"
    )
    expect(notice.locator("li")).to_have_text(
        ["line 3: expected two fields, date and title, but found 1"]
    )
    expect_titles(page, "milk", "bread")
    notice.get_by_label("Dismiss").click()
    expect(notice).to_have_count(0)


def test_import_that_fails_says_why(open_page, service):
    page = open_page("failing")
    page.get_by_label("Address of a file").fill(f"{service.url}/nothing.csv")
    page.locator("#import-url button").click()
    expect(page.locator("#notices p")).to_have_text(
        f"Could not import {service.url}/nothing.csv: the server answered 404."
    )


def test_kill_button_loses_nothing(open_page):
    """The next life of the agent shows the same list."""
    page = open_page("killed")
    add(page, "milk")
    expect_titles(page, "milk")
    page.get_by_role("button", name="Kill").click()
    expect(page.locator("#life")).to_have_text("2")
    expect_titles(page, "milk")
    add(page, "bread")
    expect_titles(page, "milk", "bread")


def test_hostile_titles_are_shown_as_text(open_page):
    """No part of a title, or of a file's name, becomes an element or runs."""
    titles = [
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        '"><b onmouseover="alert(1)">bold</b>',
        "&lt;b&gt; {{7*7}} ${7*7}",
    ]
    page = open_page("hostile")
    for title in titles:
        add(page, title)
    expect_titles(page, *titles)
    file = {"name": "<b>.csv", "mimeType": "text/csv", "buffer": b"<b>soon</b>,milk\n"}
    page.get_by_label("CSV file").set_input_files(file)
    page.locator("#import-file button").click()
    expect(page.locator("#notices p")).to_contain_text("from <b>.csv, but 1 could")
    expect(page.locator("#notices li")).to_contain_text("<b>soon</b>")
    assert page.locator(":is(#items .title, #notices li, #notices p) *").count() == 0


def test_page_connects_again(browser, start_service):
    """A page outlives the service, and shows the list once it is back."""
    service = start_service()
    page = browser.new_page()
    page.goto(service.list("again"))
    add(page, "milk")
    expect_titles(page, "milk")
    assert service.end(signal.SIGTERM) == 143
    expect(page.locator("#connection")).to_have_text("reconnecting")
    start_service(port=int(service.url.rpartition(":")[2]))
    expect(page.locator("#connection")).to_have_text("live")
    add(page, "bread")
    expect_titles(page, "milk", "bread")
    page.close()


def test_another_list_is_opened(open_page, service):
    page = open_page("first")
    page.get_by_label("Open another list").fill("My second list!")
    page.get_by_role("button", name="Open").click()
    expect(page).to_have_url(service.list("my-second-list"))
    expect(page.locator("h1")).to_have_text("my-second-list")
