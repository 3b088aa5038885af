"""The node's HTTPS server: what the API server asks for ``kubectl logs``. Reads, never changes anything.

The certificate is made anew at each start; the API server doesn't check it. Whoever can reach the address can
read the logs, so it should be a loopback address.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import logging
import os
import ssl
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from devcluster.node.logs import LogQuery, read_log
from devcluster.node.status import ContainerRecord, Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devcluster.node.logs import ContainerLog

_log = logging.getLogger(__name__)
_VALID = dt.timedelta(days=3650)


class NoLogError(Exception):
    """There is no log to read; the message is the kubelet's."""


class LogSource(Protocol):
    """Knows the containers' records and where their logs are."""

    def container(self, namespace: str, pod: str, container: str) -> ContainerRecord:
        """Return a container's record; raises `NoLogError`."""

    def log(
        self, namespace: str, pod: str, container: str, attempt: int
    ) -> tuple[Path, ContainerLog | None] | None:
        """Return the log file of a run, and what still writes to it; None where runs have no logs."""


def attempt_to_read(record: ContainerRecord, container: str, pod: str, *, previous: bool) -> int:
    """Return the run of a container whose log is meant, counted from 0.

    Raises `NoLogError` as a kubelet would.
    """
    if previous:
        if record.last is None or not record.last.container_id:
            msg = f'previous terminated container "{container}" in pod "{pod}" not found'
            raise NoLogError(msg)
        # while it waits to be started again, the run that ended last is the current one's number
        waits = isinstance(record.state, Waiting)
        return record.restart_count if waits and not _is_counted(record) else record.restart_count - 1
    if isinstance(record.state, Waiting):
        if record.last is not None:
            return record.restart_count - 1 if _is_counted(record) else record.restart_count
        why = {
            "ErrImagePull": "image can't be pulled",
            "ImagePullBackOff": "trying and failing to pull image",
        }.get(record.state.reason, record.state.reason)
        msg = f'container "{container}" in pod "{pod}" is waiting to start: {why}'
        raise NoLogError(msg)
    return record.restart_count


def _is_counted(record: ContainerRecord) -> bool:
    """Whether the restart that a waiting container waits for is already in its count."""
    return not (isinstance(record.state, Waiting) and record.state.reason == "CrashLoopBackOff")


class LogServer:
    """Serves ``/containerLogs/<namespace>/<pod>/<container>`` and ``/healthz`` over TLS."""

    def __init__(self, source: LogSource, address: str, port: int, directory: Path) -> None:
        """`directory` takes the key and certificate; port 0 is a free one."""
        self._source = source
        self._address = address
        self._port = port
        self._directory = directory
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Serve from now on; returns the port. Raises OSError if it is taken."""
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        application.router.add_get("/healthz", _healthy)
        for kind in ("exec", "attach", "run", "portForward"):
            application.router.add_route("*", f"/{kind}/{{tail:.*}}", _unsupported)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,  # who follows a log and leaves must not be waited for
            shutdown_timeout=1,
        )
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, self._address, self._port, ssl_context=_tls(self._address, self._directory)
        )
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Serve no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        namespace, pod, container = (request.match_info[key] for key in ("namespace", "pod", "container"))
        try:
            query = parse_query(request.query)
            record = self._source.container(namespace, pod, container)
            previous = request.query.get("previous") == "true"
            attempt = attempt_to_read(record, container, pod, previous=previous)
        except (NoLogError, ValueError) as error:
            return web.Response(status=400, text=str(error))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        found = self._source.log(namespace, pod, container, attempt)
        if found is not None:
            try:
                async for chunk in read_log(found[0], query, found[1]):
                    await response.write(chunk)
            except ConnectionError:
                return response  # the reader has gone
        await response.write_eof()
        return response


def parse_query(query: Mapping[str, str]) -> LogQuery:
    """Read the options of a log request; raises ValueError for wrong ones."""
    since = None
    if query.get("sinceTime"):
        since = dt.datetime.fromisoformat(query["sinceTime"])
    elif query.get("sinceSeconds"):
        since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=int(query["sinceSeconds"]))
    return LogQuery(
        follow=query.get("follow") == "true",
        tail_lines=int(query["tailLines"]) if query.get("tailLines") else None,
        since=since.astimezone(dt.UTC) if since else None,
        timestamps=query.get("timestamps") == "true",
        limit_bytes=int(query["limitBytes"]) if query.get("limitBytes") else None,
    )


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _unsupported(_request: web.Request) -> web.Response:
    return web.Response(
        status=501, text="a devcluster's pods are local processes: no exec, attach or port-forward\n"
    )


def _tls(address: str, directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "devcluster-node")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + _VALID)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # ssl reads certificates from files only
    path = directory / "server.pem"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
