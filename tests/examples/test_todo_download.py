"""Downloads: what cannot be had, or should not be, fails with a reason."""

import pytest
import trio

import download
from download import DownloadFailed, check_url
from item import BadInput

pytestmark = pytest.mark.real


@pytest.mark.parametrize("url", ["http://example.org/a.csv", " https://example.org "])
def test_web_addresses_are_accepted(url):
    assert check_url(url) == url.strip()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "milk",
        "file:///etc/passwd",
        "ftp://example.org/a",
        "http://",
        "//example.org",
        "http://a:b",
        "data:,x",
    ],
)
def test_other_addresses_are_refused(url):
    with pytest.raises(BadInput, match="address"):
        check_url(url)


async def test_content_arrives_as_it_is(website):
    url = website.answer("/a.csv", b"2026-01-01,milk\n")
    assert await download.download(url) == b"2026-01-01,milk\n"


async def test_redirects_are_followed(website):
    website.answer("/here", b"found")
    url = website.answer("/moved", b"", "302 Found", "Location: /here\r\n")
    assert await download.download(url) == b"found"


async def test_redirects_to_files_are_not_followed(website):
    url = website.answer("/file", b"", "302 Found", "Location: file:///etc/passwd\r\n")
    with pytest.raises(DownloadFailed, match="protocol"):
        await download.download(url)


async def test_redirects_end(website):
    url = website.answer("/round", b"", "302 Found", "Location: /round\r\n")
    with pytest.raises(DownloadFailed, match="redirects"):
        await download.download(url)


async def test_too_large(website, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    with pytest.raises(DownloadFailed, match="larger than 1,000 bytes"):
        await download.download(website.answer("/large", b"x" * 1001))
    assert len(await download.download(website.answer("/just", b"x" * 1000))) == 1000


async def test_too_slow(website, monkeypatch):
    """A site that sends now and then, but never comes to an end, has one limit in all."""

    async def drip(stream):
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.02)

    monkeypatch.setattr(download, "MAX_SECONDS", 0.2)
    website.answers["/drip"] = drip
    with pytest.raises(DownloadFailed, match=r"longer than 0\.2 seconds"):
        await download.download(website.url + "/drip")


async def test_errors_of_the_site_are_named(website):
    with pytest.raises(DownloadFailed, match="answered 404"):
        await download.download(website.answer("/gone", b"", "404 Not Found"))


async def test_nobody_there():
    """The port is one that is free: taken for a moment, then left."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(DownloadFailed, match="connect"):
        await download.download(f"http://127.0.0.1:{port}/")
