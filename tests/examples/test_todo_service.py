"""The to-do service over HTTP and WebSockets."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

pytestmark = pytest.mark.real

FILE = b"date,title\n2026-01-01,milk\nnonsense\n2026-01-02,bread\n2026-13-01,eggs\n"
BAD = [
    {"line": 3, "reason": "expected two fields, date and title, but found 1"},
    {"line": 5, "reason": "not a date like 2026-05-31: '2026-13-01'"},
]

# How a browser asks for a WebSocket.
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Page:
    """What a page hears."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket

    async def message(self) -> dict[str, Any]:
        with trio.fail_after(5):
            return json.loads(await self._socket.get_message())

    async def titles(self) -> list[str]:
        return [item["title"] for item in (await self.message())["items"]]

    async def life(self) -> int:
        return (await self.message())["life"]

    async def import_ended(self) -> dict[str, Any]:
        """How the import ended that runs."""
        while True:
            news = (await self.message()).get("import", {"state": "running"})
            if news["state"] != "running":
                return news


@asynccontextmanager
async def open_page(url: str) -> AsyncIterator[Page]:
    async with open_websocket_url(f"{url.replace('http', 'ws', 1)}/live") as socket:
        yield Page(socket)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        yield client


async def add(http: httpx.AsyncClient, url: str, title: str) -> dict[str, Any]:
    response = await http.post(f"{url}/items", json={"title": title})
    assert response.status_code == 201, response.text
    return response.json()


async def titles(http: httpx.AsyncClient, url: str) -> list[str]:
    return [item["title"] for item in (await http.get(f"{url}/items")).json()]


# ---- lists


async def test_items_are_added_marked_and_deleted(service, http):
    """The answers of the service and the list agree."""
    url = service.list("basics")
    milk = await add(http, url, "  milk ")
    bread = (await http.post(f"{url}/items", json={"title": "bread", "date": "2026-01-02"})).json()
    assert (milk["title"], bread["date"]) == ("milk", "2026-01-02")
    assert (await http.patch(f"{url}/items/{milk['id']}", json={"done": True})).status_code == 204
    assert (await http.get(f"{url}/items")).json() == [milk | {"done": True}, bread]
    assert (await http.delete(f"{url}/items/{milk['id']}")).status_code == 204
    assert (await http.get(f"{url}/items")).json() == [bread]
    assert "basics" in (await http.get(f"{service.url}/lists")).json()


async def test_page_is_sent_the_list_at_once_and_after_each_change(service, http):
    """And it does not matter who changed it."""
    url = service.list("live")
    milk = await add(http, url, "milk")
    async with open_page(url) as page, open_page(url) as other:
        for each in (page, other):
            assert await each.titles() == ["milk"]
        await add(http, url, "bread")
        for each in (page, other):
            assert await each.titles() == ["milk", "bread"]
        await http.delete(f"{url}/items/{milk['id']}")
        for each in (page, other):
            assert await each.titles() == ["bread"]


async def test_first_users_at_the_same_moment_share_one_agent(service, http):
    """No item of theirs is lost, and the agent was started once."""
    url = service.list("rush")
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(add, http, url, f"item {number}")
    assert sorted(await titles(http, url)) == [f"item {number}" for number in range(10)]
    async with open_page(url) as page:
        assert await page.life() == 1


# ---- killing agents


async def test_killing_an_agent_loses_nothing(service, http):
    """It lives again, with the list as it was, and pages stay connected."""
    url = service.list("killed")
    async with open_page(url) as page:
        assert await page.life() == 1
        await add(http, url, "milk")
        assert await page.life() == 1
        assert (await http.post(f"{url}/kill")).status_code == 202
        message = await page.message()
        assert message["life"] == 2
        assert [item["title"] for item in message["items"]] == ["milk"]
        await add(http, url, "bread")
        assert await page.titles() == ["milk", "bread"]


async def test_killing_an_agent_under_changes_loses_none_and_doubles_none(service, http):
    """Everything that was answered with "created" is there, once."""
    url = service.list("storm")
    assert await titles(http, url) == []
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(add, http, url, f"item {number:02}")
            if number % 4 == 0:
                nursery.start_soon(http.post, f"{url}/kill")
    assert sorted(await titles(http, url)) == [f"item {number:02}" for number in range(20)]


# ---- imports


@pytest.mark.parametrize(
    ("request_", "label"),
    [
        ({"content": FILE, "headers": {"Content-Type": "text/csv"}}, "the file"),
        ({"files": {"file": ("shop.csv", FILE)}}, "shop.csv"),
    ],
    ids=["body", "form"],
)
async def test_import_of_a_file(service, http, request_, label):
    """Answered at once; the page hears which lines were bad. The others are on the list."""
    url = service.list(f"import-{label.partition('.')[0].replace(' ', '-')}")
    async with open_page(url) as page:
        response = await http.post(f"{url}/import", **request_)
        assert response.status_code == 202
        assert await page.import_ended() == {
            "id": response.json()["id"],
            "source": label,
            "state": "done",
            "imported": 2,
            "bad": BAD,
        }
    assert await titles(http, url) == ["milk", "bread"]


@pytest.mark.parametrize("form", ["json", "data", "files"])
async def test_requests_go_on_while_an_import_is_slow(service, http, website, form):
    """The import waits for another site; nobody waits for the import."""
    url = service.list(f"slow-{form}")
    asked, may_answer = trio.Event(), trio.Event()

    async def slow(stream: trio.SocketStream) -> None:
        asked.set()
        await may_answer.wait()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(FILE)
        await stream.send_all(head + FILE)

    website.answers["/slow.csv"] = slow
    source = f"{website.url}/slow.csv"
    field = {"url": (None, source) if form == "files" else source}
    async with open_page(url) as page:
        assert (await http.post(f"{url}/import", **{form: field})).status_code == 202
        await asked.wait()
        await add(http, url, "eggs")
        assert await titles(http, url) == ["eggs"]
        may_answer.set()
        ended = await page.import_ended()
        assert (ended["source"], ended["imported"], ended["bad"]) == (source, 2, BAD)
    assert await titles(http, url) == ["eggs", "milk", "bread"]


async def test_import_that_fails_says_why(service, http, website):
    url = service.list("failing")
    source = website.answer("/gone.csv", b"", "404 Not Found")
    async with open_page(url) as page:
        assert (await http.post(f"{url}/import", json={"url": source})).status_code == 202
        ended = await page.import_ended()
        assert (ended["state"], ended["reason"]) == ("failed", "the server answered 404")


async def test_import_whose_agent_is_killed_still_ends(service, http):
    """Its items are on the list, once each."""
    url = service.list("big")
    file = b"".join(b"2026-01-01,item %d\n" % number for number in range(5000))
    async with open_page(url) as page:
        await http.post(f"{url}/import", content=file)
        await http.post(f"{url}/kill")
        assert (await page.import_ended())["imported"] == 5000
    assert len(set(await titles(http, url))) == len(await titles(http, url)) == 5000


# ---- what is refused


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("items", b"", "the body is not JSON"),
        ("items", b"[" * 100_000, "the body is not JSON"),
        ("items", b"[]", "the body is not a JSON object"),
        ("items", b"{}", "the title is empty"),
        ("items", b'{"title": 5}', "title must be text"),
        ("items", b'{"title": "\\ud800"}', "the title holds control characters or is not UTF-8"),
        ("items", b'{"title": "milk", "date": "soon"}', "not a date like 2026-05-31: 'soon'"),
        (
            "import",
            b'{"url": "file:///etc/passwd"}',
            "only http:// and https:// addresses can be imported",
        ),
    ],
)
async def test_bad_input_is_refused_with_a_reason(service, http, path, body, reason):
    headers = {"Content-Type": "application/json"}
    response = await http.post(f"{service.list('bad')}/{path}", content=body, headers=headers)
    assert (response.status_code, response.text) == (400, reason)


async def test_bad_marks_are_refused(service, http):
    url = service.list("marks")
    assert (await http.patch(f"{url}/items/none", json={"done": "yes"})).status_code == 400
    assert (await http.patch(f"{url}/items/none", json={"done": True})).status_code == 404
    assert (await http.delete(f"{url}/items/none")).status_code == 204  # as it should be


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 1000001\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nf4241\r\n" + b"x" * 1_000_001,
    ],
    ids=["announced", "not announced"],
)
async def test_large_bodies_are_refused(service, body):
    """Before all of it has been sent, so it need not be kept anywhere."""
    address = httpx.URL(service.list("large"))
    head = f"POST {address.path}/import HTTP/1.1\r\nHost: {address.host}\r\n".encode()
    async with await trio.open_tcp_stream(address.host, address.port or 80) as stream:
        await stream.send_all(head + body)
        answer = b""
        while b"Content Too Large" not in answer:
            answer += await stream.receive_some()
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("name", ["Today", "a%20b", "..%2f", "-a", "a" * 41, "%3Cb%3E"])
async def test_names_that_are_none_are_not_found(service, http, name):
    assert (await http.get(service.list(name))).status_code == 404
    assert (await http.get(f"{service.list(name)}/items")).status_code == 404


@pytest.mark.parametrize("path", ["import", "kill"])
async def test_get_changes_nothing(service, http, path):
    url = service.list("get")
    async with open_page(url) as page:
        assert await page.life() == 1
        assert (await http.get(f"{url}/{path}")).status_code == 405
        await add(http, url, "milk")
        assert await page.life() == 1


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "["]
)
async def test_other_hosts_are_refused(service, http, host):
    """A name that points at this machine does not make its owner's page ours."""
    response = await http.get(f"{service.list('host')}/items", headers={"Host": host})
    assert response.status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1", "[::1]:8000"])
async def test_own_hosts_are_served(service, http, host):
    response = await http.get(f"{service.list('host')}/items", headers={"Host": host})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://["]
)
async def test_other_sites_are_refused(service, http, origin):
    """They can neither change a list nor listen to it."""
    url = service.list("origin")
    for path in ("items", "import", "kill"):
        # No body: it would not be read, and who sends one may miss the answer.
        response = await http.post(f"{url}/{path}", headers={"Origin": origin})
        assert response.status_code == 403
    response = await http.get(f"{url}/live", headers=HANDSHAKE | {"Origin": origin})
    assert response.status_code == 403
    assert await titles(http, url) == []


async def test_own_page_is_served(service, http):
    """With its own origin it may do everything."""
    response = await http.post(
        f"{service.list('own')}/items", json={"title": "milk"}, headers={"Origin": service.url}
    )
    assert response.status_code == 201
