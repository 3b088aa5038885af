"""The Kubernetes API over plain HTTP and JSON: requests, and lists that are kept up to date by watches.

No models: at 1,200 pods a second they would be most of the work. Knows nothing of what the objects mean.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import yaml

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"

_REQUEST_TIMEOUT_SECONDS = 30
_WATCH_SECONDS = 300
_PAGE_OBJECTS = 500
_FIRST_RETRY_SECONDS = 0.1
_LONGEST_RETRY_SECONDS = 3.0
_CONNECTIONS = 64
_GONE = 410
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        """Keep the HTTP status code and what the server said."""
        super().__init__(message)
        self.code = code
        self.reason = reason

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.code == _TOO_MANY_REQUESTS or self.code >= _SERVER_ERROR


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach an API server."""

    server: str
    headers: Mapping[str, str]
    tls: ssl.SSLContext | None

    @property
    def host(self) -> str:
        """The server's host name or address."""
        return urlsplit(self.server).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        """The server's port."""
        return urlsplit(self.server).port or 443


def load_kubeconfig(path: Path) -> Access:
    """Read the current context of a kubeconfig. Tokens and client certificates are known, plugins are not.

    Raises OSError, ValueError or LookupError for a file that can't be used.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error

    def named(kind: str, name: str) -> dict[str, Any]:
        return next(dict(each[kind] or {}) for each in config[f"{kind}s"] if each["name"] == name)

    try:
        context = named("context", config["current-context"])
        cluster, user = named("cluster", context["cluster"]), named("user", context["user"])
    except (StopIteration, TypeError) as error:
        msg = f"{path}: no current context with a cluster and a user"
        raise ValueError(msg) from error
    headers = {"Accept": "application/json", "User-Agent": "devcluster-node"}
    if "token" in user:
        headers["Authorization"] = f"Bearer {user['token']}"
    tls = _tls(cluster, user, path.parent) if cluster["server"].startswith("https:") else None
    return Access(cluster["server"].rstrip("/"), headers, tls)


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects that there are."""

    objects: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One object was added, changed or removed."""

    object: Mapping[str, Any]
    is_removed: bool


class Api:
    """A client of one API server; use it as an async context manager."""

    def __init__(self, access: Access) -> None:
        """Connect to nothing yet."""
        self.access = access
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pool of connections."""
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=self.access.tls or True)
        self._session = aiohttp.ClientSession(connector=connector, headers=self.access.headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """Return an object or a page of a list."""
        return await self._request("GET", path, query=query)

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Post an object."""
        return await self._request("POST", path, body)

    async def patch(self, path: str, body: Mapping[str, Any], kind: str = MERGE_PATCH) -> dict[str, Any]:
        """Patch an object."""
        return await self._request("PATCH", path, body, content_type=kind)

    async def delete(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Delete an object; `body` is a DeleteOptions."""
        return await self._request("DELETE", path, body)

    async def follow(self, path: str, **query: str) -> AsyncIterator[Listing | Change]:
        """Yield a `Listing` of the objects, then a `Change` for each change, for ever.

        Another `Listing` comes whenever changes may have been missed: what is not in it no longer exists.
        Outlives every failure of the API server.
        """
        pause = _Pause()
        while True:
            try:
                objects, version = await self._list(path, query)
                yield Listing(tuple(objects))
                pause.reset()
                async for change in self._changes(path, query, version):
                    yield change
            except ApiError as error:
                if error.code != _GONE:
                    _log.warning("watching %s: %s", path, error)
                    await pause.wait()
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                _log.debug("watching %s: %s", path, error)
                await pause.wait()

    async def _list(self, path: str, query: Mapping[str, str]) -> tuple[list[dict[str, Any]], str]:
        objects: list[dict[str, Any]] = []
        following = ""
        while True:
            page_query = {
                **query,
                "limit": str(_PAGE_OBJECTS),
                **({"continue": following} if following else {}),
            }
            page = await self._request("GET", path, query=page_query)
            objects += page.get("items") or ()
            following = page["metadata"].get("continue") or ""
            if not following:
                return objects, page["metadata"]["resourceVersion"]

    async def _changes(self, path: str, query: Mapping[str, str], version: str) -> AsyncIterator[Change]:
        """Yield changes; raises `ApiError` 410 when the server no longer knows the version."""
        pause = _Pause()
        while True:
            # spread, so that many watches don't end in the same moment
            seconds = _WATCH_SECONDS + random.randrange(60)  # noqa: S311 - no secret
            watch = {
                **query,
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": version,
                "timeoutSeconds": str(seconds),
            }
            try:
                async for event in self._watch(path, watch, seconds):
                    kind, changed = event["type"], event["object"]
                    if kind == "ERROR":
                        _raise_error_event(changed)
                    version = changed["metadata"]["resourceVersion"]
                    pause.reset()
                    if kind != "BOOKMARK":
                        yield Change(changed, is_removed=kind == "DELETED")
            except ApiError as error:
                if not error.is_transient:
                    raise
                await pause.wait()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                _log.debug("watching %s: %s; going on from %s", path, error, version)
                await pause.wait()

    async def _watch(
        self, path: str, query: Mapping[str, str], seconds: int
    ) -> AsyncIterator[dict[str, Any]]:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_REQUEST_TIMEOUT_SECONDS, sock_read=seconds + 30
        )
        async with self._open_session.get(
            self.access.server + path, params=query, timeout=timeout
        ) as response:
            await _raise_for_status(response)
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        async with self._open_session.request(
            method,
            self.access.server + path,
            params=query,
            data=None if body is None else json.dumps(body).encode(),
            headers=None if body is None else {"Content-Type": content_type},
            timeout=aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_SECONDS),
        ) as response:
            await _raise_for_status(response)
            result: dict[str, Any] = json.loads(await response.read())
            return result

    @property
    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            msg = "use Api as an async context manager"
            raise RuntimeError(msg)
        return self._session


TRANSIENT = (aiohttp.ClientError, OSError, TimeoutError)
"""What a request raises when the API server can't be reached; worth another try."""


class _Pause:
    """Waits longer each time, until something worked."""

    def __init__(self) -> None:
        self._seconds = _FIRST_RETRY_SECONDS

    def reset(self) -> None:
        self._seconds = _FIRST_RETRY_SECONDS

    async def wait(self) -> None:
        await asyncio.sleep(self._seconds * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
        self._seconds = min(self._seconds * 2, _LONGEST_RETRY_SECONDS)


async def insist(call: Callable[[], Awaitable[_T]]) -> _T:
    """Repeat a request until the API server answers it, with success or a refusal (`ApiError`)."""
    pause = _Pause()
    while True:
        try:
            return await call()
        except ApiError as error:
            if not error.is_transient:
                raise
        except TRANSIENT as error:
            _log.debug("the API server can't be reached: %s", error)
        await pause.wait()


def _raise_error_event(status: Mapping[str, Any]) -> NoReturn:
    raise ApiError(status.get("code", 0), status.get("reason", ""), status.get("message", ""))


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    text = await response.text(errors="replace")
    try:
        status = json.loads(text)
        raise ApiError(response.status, status.get("reason", ""), status.get("message", text))
    except (ValueError, AttributeError):
        raise ApiError(response.status, "", text.strip() or str(response.reason)) from None


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], base: Path) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif "certificate-authority-data" in cluster:
        context.load_verify_locations(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    elif "certificate-authority" in cluster:
        context.load_verify_locations(base / cluster["certificate-authority"])
    if "client-certificate-data" in user:
        # ssl reads client certificates from files only
        with tempfile.TemporaryDirectory() as directory:
            certificate, key = Path(directory, "certificate"), Path(directory, "key")
            certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
            key.write_bytes(base64.b64decode(user["client-key-data"]))
            context.load_cert_chain(certificate, key)
    elif "client-certificate" in user:
        context.load_cert_chain(base / user["client-certificate"], base / user["client-key"])
    return context
