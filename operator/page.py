"""The status page: what a browser asks for, and what it may do with the answers. Read-only.

Nothing that users wrote is put into markup, here or in the browser, and the browser is told to load and to send nothing
that is not from here (Content-Security-Policy). There is no login: whoever reaches the port may look.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from aiohttp import web

from crontabber_operator.board import Board
from crontabber_operator.known_figures import KnownFigures
from crontabber_operator.page_rows import details
from crontabber_operator.store import Key, Store

FILES: Final = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.svg": ("page.svg", "image/svg+xml"),
}
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script';"
        " trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Server": "crontabber",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def page_application(store: Store, figures: KnownFigures, clock: Callable[[], datetime]) -> web.Application:
    """Serve the page of a store's jobs."""
    board = Board(store, figures, clock, life=secrets.token_hex(4))

    async def jobs(request: web.Request) -> web.StreamResponse:
        compressed = "gzip" in request.headers.get("Accept-Encoding", "")
        body = await board.changes(request.query.get("since", ""), compressed=compressed)
        headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"} if compressed else {}
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def job(request: web.Request) -> web.StreamResponse:
        resource = store.resource(Key(request.match_info["namespace"], request.match_info["name"]))
        if resource is None:
            raise web.HTTPNotFound
        return web.Response(body=json.dumps(details(resource)).encode(), content_type="application/json")

    application = web.Application()
    for path, (name, kind) in FILES.items():
        application.router.add_get(path, _file(name, kind))
    application.router.add_get("/jobs", jobs)
    application.router.add_get("/jobs/{namespace}/{name}", job)
    application.on_response_prepare.append(_protect)
    return application


def _file(name: str, kind: str) -> Handler:
    body = Path(__file__).with_name(name).read_bytes()
    tag = hashlib.sha256(body).hexdigest()[:16]

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=body, content_type=kind, charset="utf-8")
        response.etag = tag
        if any(one.value == tag for one in request.if_none_match or ()):
            return web.Response(status=304, headers={"ETag": f'"{tag}"'})
        return response

    return answer


async def _protect(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
