"""The API client against a server that pages, forgets, breaks off and comes back."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from devcluster.node.api import Access, Api, ApiError, Change, Listing, insist, load_kubeconfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

PODS = "/api/v1/pods"


def pod(name: str, version: int) -> dict[str, Any]:
    """Return an object."""
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def event(kind: str, name: str, version: int) -> dict[str, Any]:
    """Return a watch event."""
    return {"type": kind, "object": pod(name, version)}


GONE = {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}


class Server:
    """Answers lists and watches from a script, and notes what was asked."""

    def __init__(self, lists: list[Any], watches: list[list[dict[str, Any]] | int]) -> None:
        """`lists`: pages or codes; `watches`: events or codes; a watch for which nothing is left hangs."""
        self.lists = lists
        self.watches = watches
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a list or a watch."""
        if "watch" not in request.query:
            self.asked.append(f"list {request.query.get('continue', '')}".strip())
            page = self.lists.pop(0)
            if isinstance(page, int):
                return web.json_response({"message": "no", "reason": "No"}, status=page)
            return web.json_response(page)
        self.asked.append(f"watch {request.query['resourceVersion']}")
        events = self.watches.pop(0) if self.watches else None
        if isinstance(events, int):
            return web.json_response({"message": "no", "reason": "No"}, status=events)
        response = web.StreamResponse()
        await response.prepare(request)
        for each in events or ():
            # cut in the middle of a line, as a network may
            line = json.dumps(each).encode() + b"\n"
            await response.write(line[:10])
            await response.write(line[10:])
        if events is None:
            await asyncio.Event().wait()
        return response


@asynccontextmanager
async def served(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[Api]:
    """Serve on a free port, and connect to it."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with Api(Access(f"http://127.0.0.1:{runner.addresses[0][1]}", {}, None)) as api:
            yield api
    finally:
        await runner.cleanup()


def followed(server: Server, count: int) -> list[Listing | Change]:
    """Return the first so many news."""

    async def run() -> list[Listing | Change]:
        found: list[Listing | Change] = []
        async with served(server.answer) as api:
            async for news in api.follow(PODS, fieldSelector="x=y"):
                found.append(news)
                if len(found) == count:
                    return found
        return found

    return asyncio.run(asyncio.wait_for(run(), 20))


def page(*pods: dict[str, Any], version: int = 0, following: str = "") -> dict[str, Any]:
    """Return a page of a list."""
    return {"metadata": {"resourceVersion": str(version), "continue": following}, "items": list(pods)}


def test_a_list_is_followed_by_its_changes() -> None:
    """All pages first; then what was added, changed and removed."""
    server = Server(
        [page(pod("a", 1), following="more"), page(pod("b", 2), version=5)],
        [[event("ADDED", "c", 6), event("MODIFIED", "a", 7), event("DELETED", "b", 8)]],
    )
    assert followed(server, 4) == [
        Listing((pod("a", 1), pod("b", 2))),
        Change(pod("c", 6), is_removed=False),
        Change(pod("a", 7), is_removed=False),
        Change(pod("b", 8), is_removed=True),
    ]
    assert server.asked[:3] == ["list", "list more", "watch 5"]


def test_a_watch_that_ends_goes_on_where_it_was() -> None:
    """From the last event's version, or a bookmark's; nothing is listed again; refusals are repeated."""
    server = Server(
        [page(version=5)],
        [[event("ADDED", "a", 6), event("BOOKMARK", "", 9)], 503, 429, [event("ADDED", "b", 10)]],
    )
    assert [type(news) for news in followed(server, 3)] == [Listing, Change, Change]
    assert server.asked == ["list", "watch 5", "watch 9", "watch 9", "watch 9"]


@pytest.mark.parametrize("gone", [[GONE], 410])
def test_what_was_forgotten_is_listed_again(gone: Any) -> None:
    """Whether the server says so at once or in the stream."""
    server = Server(
        [page(pod("a", 1), version=5), page(pod("b", 8), version=9)], [gone, [event("ADDED", "c", 10)]]
    )
    assert followed(server, 3) == [
        Listing((pod("a", 1),)),
        Listing((pod("b", 8),)),
        Change(pod("c", 10), is_removed=False),
    ]
    assert server.asked == ["list", "watch 5", "list", "watch 9"]


def test_lists_that_fail_are_repeated() -> None:
    """An API server that starts answers 403, 500 and 503 for a while."""
    server = Server([403, 500, 503, page(pod("a", 1), version=5)], [])
    assert followed(server, 1) == [Listing((pod("a", 1),))]


def test_insisting_outlasts_failures_but_no_refusal() -> None:
    """429 and 5xx are tried again; the rest is the caller's to judge."""
    codes = [500, 429, 201, 409]

    async def answer(_request: web.Request) -> web.Response:
        code = codes.pop(0)
        return web.json_response({"reason": "Conflict", "message": f"answer {code}"}, status=code)

    async def run() -> None:
        async with served(answer) as api:
            assert (await insist(lambda: api.create(PODS, {})))["message"] == "answer 201"
            with pytest.raises(ApiError, match="answer 409") as caught:
                await insist(lambda: api.create(PODS, {}))
            assert (caught.value.code, caught.value.reason, caught.value.is_transient) == (
                409,
                "Conflict",
                False,
            )

    asyncio.run(asyncio.wait_for(run(), 20))


def test_an_error_that_is_no_status_is_told_too() -> None:
    """A proxy may answer in plain text."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=418, text="a teapot")

    async def run() -> None:
        async with served(answer) as api:
            with pytest.raises(ApiError, match="a teapot"):
                await api.get("/")

    asyncio.run(asyncio.wait_for(run(), 20))


def kubeconfig(directory: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Path:
    """Write a kubeconfig."""
    path = directory / "kubeconfig"
    config = {
        "current-context": "c",
        "contexts": [
            {"name": "other", "context": {}},
            {"name": "c", "context": {"cluster": "k", "user": "u"}},
        ],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(config))
    return path


def test_a_kubeconfig_gives_server_and_token(tmp_path: Path) -> None:
    """Of its current context."""
    cluster = {"server": "https://127.0.0.1:6443/", "insecure-skip-tls-verify": True}
    access = load_kubeconfig(kubeconfig(tmp_path, cluster, {"token": "secret"}))
    assert (access.server, access.host, access.port) == ("https://127.0.0.1:6443", "127.0.0.1", 6443)
    assert access.headers["Authorization"] == "Bearer secret"
    assert access.tls is not None


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"current-context": "c", "contexts": [], "clusters": [], "users": []}', "\t:"],
)
def test_a_kubeconfig_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    """With an error that the command line can tell."""
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises((ValueError, LookupError)):
        load_kubeconfig(path)


def test_a_wrong_authority_is_refused(tmp_path: Path) -> None:
    """Rather than trusted."""
    cluster = {
        "server": "https://127.0.0.1:6443",
        "certificate-authority-data": base64.b64encode(b"nothing").decode(),
    }
    with pytest.raises(OSError, match=r"PEM|NO_START|not enough data|no start line"):
        load_kubeconfig(kubeconfig(tmp_path, cluster, {}))
