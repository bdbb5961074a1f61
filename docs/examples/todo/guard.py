"""Who may talk to the service.

It has no passwords: whoever reaches it may change everything. By default that
is this machine alone, but "this machine" includes the browser, and a browser
runs the scripts of every site its user visits. Two checks keep those out.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose


class Guard:
    """Lets a request through if a page of ours can have sent it, or no page at all."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._names = {"localhost", host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] in ("http", "websocket"):
            reason = self._refusal(Headers(scope=scope))
            if reason:
                app = _refused(scope, reason)
        await app(scope, receive, send)

    def _refusal(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return "this Host is not served here"
        # Browsers name the page's site with everything that can change something,
        # WebSockets included, and no script can leave it out.
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return "pages of another site may not use this service"
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a request to this host was meant for us.

        A name may not be: its owner can let it point at this machine, and then
        the browser takes his page and our service for the same site (DNS
        rebinding). An address cannot be redirected like that.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self._names or ip_address(name) is not None
        except ValueError:
            return False


def _refused(scope: Scope, reason: str) -> ASGIApp:
    # A WebSocket is closed before it opened (the client is told 403) and not given
    # an answer with a text: hypercorn keeps such a connection open, and falls over
    # what the client sends next.
    if scope["type"] == "websocket":
        return WebSocketClose()
    return PlainTextResponse(reason, status_code=403)
