"""Fetching a small file from the web, within limits."""

from __future__ import annotations

import httpx
import trio

from item import BadInput

MAX_BYTES = 1_000_000
MAX_SECONDS = 10.0
MAX_REDIRECTS = 3


class DownloadFailed(Exception):
    """The file could not be had; the message says why, for the person who asked."""


def check_url(text: str) -> str:
    """Give ``text`` back if it can be downloaded from.

    Raises:
        BadInput: if it is no address, or not one of the web.
    """
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL as error:
        raise BadInput(f"not an address: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise BadInput("only http:// and https:// addresses can be imported")
    return str(url)


async def download(url: str) -> bytes:
    """The content of ``url``.

    Raises:
        DownloadFailed: if it is too large, takes too long, or cannot be had.
    """
    try:
        with trio.fail_after(MAX_SECONDS):
            return await _get(url)
    except trio.TooSlowError:
        raise DownloadFailed(f"it took longer than {MAX_SECONDS:g} seconds") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadFailed(str(error) or type(error).__name__) from error


async def _get(url: str) -> bytes:
    # One limit for everything (above) and not httpx's own, which start anew with
    # each byte. httpx follows redirects to http and https only.
    async with (
        httpx.AsyncClient(
            follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=None
        ) as client,
        # Not compressed: a kilobyte that unpacks to a gigabyte would pass the limit.
        client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise DownloadFailed(f"the server answered {response.status_code}")
        return await _read(response)


async def _read(response: httpx.Response) -> bytes:
    data = bytearray()
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > MAX_BYTES:
                # Ends the generators within httpx from inside. An exception from
                # out here would leave them to the garbage collector.
                scope.cancel()
    if len(data) > MAX_BYTES:
        raise DownloadFailed(f"it is larger than {MAX_BYTES:,} bytes")
    return bytes(data)
