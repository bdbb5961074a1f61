"""The page, and what it may ask for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import trio
from attrs import asdict
from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from bodies import read_done, read_item, read_source
from guard import Guard
from importing import import_into
from item import BadInput
from lists import Lists
from store import Store
from todo_list import TodoList
from trio_otp import CallFailed, StartFailed, TaskSupervisor

PAGE = Path(__file__).parent / "page"
MAX_BODY_BYTES = 1_000_000

# Titles come from anybody. So the page may run and load nothing but its own
# files, and no other page may frame it (its buttons could be clicked unseen).
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}


class ListName(StringConvertor):
    """What a list may be called; no other address is found."""

    regex = "[a-z0-9][a-z0-9-]{0,39}"


register_url_convertor("list", ListName())


class Web:
    """Answers requests by asking the agent of their list."""

    def __init__(self, store: Store, lists: Lists, imports: TaskSupervisor) -> None:
        self._store = store
        self._lists = lists
        self._imports = imports

    def app(self, host: str) -> Starlette:
        """The application, for a server that listens on ``host``."""
        return Starlette(
            routes=self._routes(),
            middleware=[Middleware(Guard, host=host)],
            exception_handlers={
                BadInput: _bad_request,
                CallFailed: _unavailable,
                StartFailed: _unavailable,
                sqlite3.Error: _unavailable,
            },
            max_body_size=MAX_BODY_BYTES,
        )

    def _routes(self) -> list[BaseRoute]:
        one = "/lists/{name:list}"
        return [
            Route("/", _home),
            Route("/favicon.ico", _favicon),
            Mount("/page", StaticFiles(directory=PAGE)),
            Route("/lists", self._names),
            Route(one, _page),
            WebSocketRoute(f"{one}/live", self._live),
            Route(f"{one}/items", self._items),
            Route(f"{one}/items", self._add, methods=["POST"]),
            Route(f"{one}/items/{{id}}", self._mark, methods=["PATCH"]),
            Route(f"{one}/items/{{id}}", self._delete, methods=["DELETE"]),
            Route(f"{one}/import", self._import, methods=["POST"]),
            Route(f"{one}/kill", self._kill, methods=["POST"]),
        ]

    async def _names(self, request: Request) -> Response:
        return JSONResponse(await trio.to_thread.run_sync(self._store.names))

    async def _items(self, request: Request) -> Response:
        todo = await self._list(request)
        return JSONResponse([asdict(item) for item in await todo.items()])

    async def _add(self, request: Request) -> Response:
        item = await read_item(request)
        todo = await self._list(request)
        await todo.add(item)
        return JSONResponse(asdict(item), status_code=201)

    async def _mark(self, request: Request) -> Response:
        done = await read_done(request)
        todo = await self._list(request)
        found = await todo.mark(request.path_params["id"], done)
        return Response(status_code=204 if found else 404)

    async def _delete(self, request: Request) -> Response:
        todo = await self._list(request)
        await todo.delete(request.path_params["id"])
        return Response(status_code=204)

    async def _import(self, request: Request) -> Response:
        source = await read_source(request)
        todo = await self._list(request)
        # From here on it is a task of the supervisor's: answered at once, and how
        # it goes is told to the viewers.
        self._imports.start_child(import_into, todo, source, name=f"import {source.label}")
        return JSONResponse({"id": source.id, "source": source.label}, status_code=202)

    async def _kill(self, request: Request) -> Response:
        todo = await self._list(request)
        todo.kill()  # its supervisor starts it again
        return Response(status_code=202)

    async def _live(self, websocket: WebSocket) -> None:
        """Send the list, and again after each change, until the page is closed."""
        todo = await self._list(websocket)
        await websocket.accept()
        async with todo.watch() as messages, trio.open_nursery() as nursery:
            nursery.start_soon(_wait_closed, websocket, nursery.cancel_scope)
            async for message in messages:
                await websocket.send_text(message)
            nursery.cancel_scope.cancel()

    async def _list(self, request: Request | WebSocket) -> TodoList:
        return await self._lists.open(request.path_params["name"])


async def _home(request: Request) -> Response:
    return RedirectResponse("/lists/today", status_code=303)


async def _page(request: Request) -> Response:
    return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)


async def _favicon(request: Request) -> Response:
    return FileResponse(PAGE / "favicon.svg")


async def _bad_request(request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), status_code=400)


async def _unavailable(request: Request, error: Exception) -> Response:
    """The agent or the database could not answer; next time they may."""
    return PlainTextResponse(str(error), status_code=503)


async def _wait_closed(websocket: WebSocket, scope: trio.CancelScope) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass  # pages send nothing; if one does, nobody listens
    scope.cancel()
