"""Readiness, startup and liveness probes of one run of a container.

httpGet, tcpSocket and exec are what a kubelet's are; a grpc probe is taken as a tcpSocket probe of its port.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from devcluster.node.runtime import RunningContainer

    Manifest = Mapping[str, Any]

_GOOD_STATUSES = range(200, 400)
_SHOWN_BODY_BYTES = 200


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a probe is made and how many results of a kind count; the defaults are the API's."""

    initial_delay_seconds: float = 0
    period_seconds: float = 10
    timeout_seconds: float = 1
    successes: int = 1
    failures: int = 3

    @classmethod
    def of(cls, probe: Manifest) -> Schedule:
        """Read a probe."""
        return cls(
            initial_delay_seconds=float(probe.get("initialDelaySeconds") or 0),
            period_seconds=float(probe.get("periodSeconds") or 10),
            timeout_seconds=float(probe.get("timeoutSeconds") or 1),
            successes=int(probe.get("successThreshold") or 1),
            failures=int(probe.get("failureThreshold") or 3),
        )


class ProbeFailedError(Exception):
    """The probe's answer was no; the message says what it was."""


async def watch_probe(
    probe: Manifest,
    container: Manifest,
    running: RunningContainer,
    address: str,
    on_result: Callable[[bool, str], None],
) -> None:
    """Probe for ever.

    `on_result` hears each time a threshold is reached: whether it is good, and the last message.
    """
    schedule = Schedule.of(probe)
    await asyncio.sleep(schedule.initial_delay_seconds)
    good, in_a_row = False, 0
    while True:
        message = ""
        try:
            async with asyncio.timeout(schedule.timeout_seconds):
                await check(probe, container, running, address, schedule.timeout_seconds)
            is_good = True
        except (ProbeFailedError, OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
            is_good, message = False, str(error) or type(error).__name__
        in_a_row = in_a_row + 1 if is_good == good else 1
        good = is_good
        if in_a_row >= (schedule.successes if good else schedule.failures):
            on_result(good, message)
        await asyncio.sleep(schedule.period_seconds)


async def check(
    probe: Manifest, container: Manifest, running: RunningContainer, address: str, timeout_seconds: float
) -> None:
    """Probe once; raises `ProbeFailedError`, OSError or an error of aiohttp's if the answer isn't good."""
    if "exec" in probe:
        code = await running.execute(probe["exec"]["command"], timeout_seconds)
        if code != 0:
            msg = f"command exited with code {code}"
            raise ProbeFailedError(msg)
    elif "httpGet" in probe:
        await _http_get(probe["httpGet"], container, address)
    else:
        target = probe.get("tcpSocket") or probe.get("grpc") or {}
        _reader, writer = await asyncio.open_connection(
            target.get("host") or address, port_number(target.get("port", 0), container)
        )
        writer.close()


def port_number(port: str | int, container: Manifest) -> int:
    """Return a port given as a number or as the name of one of the container's.

    `ProbeFailedError` if there is none.
    """
    if isinstance(port, int) or port.isdecimal():
        return int(port)
    for each in container.get("ports") or ():
        if each.get("name") == port:
            return int(each["containerPort"])
    msg = f"couldn't find port: {port}"
    raise ProbeFailedError(msg)


async def _http_get(action: Manifest, container: Manifest, address: str) -> None:
    host, port = action.get("host") or address, port_number(action["port"], container)
    path = (action.get("path") or "/").removeprefix("/")
    url = f"{(action.get('scheme') or 'HTTP').lower()}://{host}:{port}/{path}"
    headers = {each["name"]: each["value"] for each in action.get("httpHeaders") or ()}
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    async with (
        aiohttp.ClientSession(headers={"User-Agent": "kube-probe/1.34", **headers}) as session,
        session.get(url, ssl=unchecked) as response,
    ):
        if response.status not in _GOOD_STATUSES:
            body = (await response.content.read(_SHOWN_BODY_BYTES)).decode(errors="replace")
            msg = f"HTTP probe failed with statuscode: {response.status} {body}".rstrip()
            raise ProbeFailedError(msg)
