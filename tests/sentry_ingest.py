"""A small Sentry: takes what the real SDK sends, by the envelope protocol, and checks it as Relay does.

It listens on loopback, at the DSN `http://KEY@127.0.0.1:PORT/PROJECT`. What is malformed is refused with 400
and kept in `refused`, with the reason. It can be told to be slow, away, full, or to limit.

The protocol is Sentry's (develop.sentry.dev: envelopes, event payloads, check-ins); the limits are Relay's.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef0123456789abcdef"


class MalformedError(ValueError):
    """What Relay would refuse."""


@dataclass(frozen=True)
class Item:
    """One item of an envelope."""

    type: str
    headers: dict[str, Any]
    payload: bytes

    @property
    def json(self) -> dict[str, Any]:
        """Return the payload as JSON."""
        value = json.loads(self.payload)
        assert isinstance(value, dict)
        return value


@dataclass(frozen=True)
class Envelope:
    """What came with one request."""

    project: str
    key: str
    headers: dict[str, Any]
    items: tuple[Item, ...]


@dataclass
class Ingest:
    """What arrived, and how to answer."""

    port: int = 0
    envelopes: list[Envelope] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    requests: int = 0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    """Answers wait for it."""
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def dsn(self, project: int = 1, key: str = KEY) -> str:
        """Return the DSN of a project."""
        return f"http://{key}@127.0.0.1:{self.port}/{project}"

    def items(self, kind: str, project: int | None = None) -> list[Item]:
        """Return the items of a type, in the order of their arrival."""
        with self.arrived:
            return [
                item
                for envelope in self.envelopes
                if project is None or envelope.project == str(project)
                for item in envelope.items
                if item.type == kind
            ]

    def events(self, project: int | None = None) -> list[dict[str, Any]]:
        """Return the events, each id once, as Sentry keeps them."""
        found: dict[str, dict[str, Any]] = {}
        for item in self.items("event", project):
            found.setdefault(item.json["event_id"], item.json)
        return list(found.values())

    def check_ins(self) -> list[dict[str, Any]]:
        """Return the check-ins."""
        return [item.json for item in self.items("check_in")]

    def wait_for(self, condition: Any, timeout_seconds: float = 20.0) -> None:
        """Wait until something holds of this server; fails after the timeout."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: bool(condition(self)), timeout_seconds), self.refused

    def take(self, project: str, key: str, body: bytes) -> None:
        """Take one envelope. Raises MalformedError."""
        try:
            envelope = _read_envelope(project, key, body)
        except (MalformedError, KeyError, ValueError, TypeError, AttributeError) as error:
            with self.arrived:
                self.refused.append(f"{type(error).__name__}: {error}")
                self.arrived.notify_all()
            raise MalformedError(str(error)) from error
        with self.arrived:
            self.envelopes.append(envelope)
            self.arrived.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, state: Ingest) -> None:
        self.state = state
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        """A client that gave up is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        state = self.server.state
        with state.arrived:
            state.requests += 1
            state.arrived.notify_all()
        if state.hold is not None:
            state.hold.wait()
        self._answer(*self._take(body))

    def _take(self, body: bytes) -> tuple[int, dict[str, str]]:
        state = self.server.state
        match = re.fullmatch(r"/api/(\d+)/envelope/", self.path)
        key = re.search(r"sentry_key=(\w+)", self.headers.get("X-Sentry-Auth") or "")
        if match is None:
            return 404, {"detail": "not found"}
        if key is None:
            return 403, {"detail": "missing authorization information"}
        if state.status != 200:
            return state.status, {"detail": "told to"}
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        try:
            state.take(match[1], key[1], body)
        except MalformedError as error:
            return 400, {"detail": str(error)}
        return 200, {}

    def _answer(self, status: int, body: dict[str, str]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in self.server.state.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def ingest() -> Iterator[Ingest]:
    """Run a server until the end of the block."""
    state = Ingest()
    server = _Server(state)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        if state.hold is not None:
            state.hold.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


# --- The protocol -----------------------------------------------------------------------------------------


def _read_envelope(project: str, key: str, body: bytes) -> Envelope:
    head, _, rest = body.partition(b"\n")
    headers = json.loads(head)
    if not isinstance(headers, dict):
        raise MalformedError("the envelope's headers are no object")
    items = tuple(_read_items(rest))
    for one in items:
        if one.type == "event":
            _check_event(headers, one.json, len(one.payload))
        elif one.type == "check_in":
            _check_check_in(one.json, len(one.payload))
        elif one.type == "attachment":
            _need(one.headers.get("filename"), "an attachment without a name")
    _need(sum(one.type == "event" for one in items) <= 1, "two events in an envelope")
    return Envelope(project, key, headers, items)


def _read_items(rest: bytes) -> Iterator[Item]:
    while rest:
        line, _, rest = rest.partition(b"\n")
        headers = json.loads(line)
        length = headers.get("length")
        if length is None:
            payload, _, rest = rest.partition(b"\n")
        else:
            _need(len(rest) >= length, "the envelope ends within an item")
            payload, rest = rest[:length], rest[length:]
            _need(not rest or rest.startswith(b"\n"), "an item is longer than it says")
            rest = rest[1:]
        yield Item(str(headers["type"]), headers, payload)


def _check_event(headers: dict[str, Any], event: dict[str, Any], size: int) -> None:
    _need(size <= 1_000_000, "the event is too large")
    _need(re.fullmatch(r"[0-9a-f]{32}", event["event_id"]), "event_id")
    _need(headers.get("event_id") == event["event_id"], "the envelope is of another event")
    _need(event.get("level", "error") in ("fatal", "error", "warning", "info", "debug"), "level")
    _need(event.get("platform") == "python", "platform")
    _need("timestamp" in event, "timestamp")
    for name, value in (event.get("tags") or {}).items():
        _need(re.fullmatch(r"[A-Za-z0-9_.:-]{1,200}", name), f"tag {name!r}")
        _need(isinstance(value, str) and len(value) <= 200 and "\n" not in value, f"tag {name}: {value!r}")
    for name in ("release", "environment"):
        value = event.get(name)
        _need(value is None or (value and len(value) <= 200 and not re.search(r"[\n\r\t/\\]", value)), name)
    _need(all(isinstance(one, str) for one in event.get("fingerprint") or []), "fingerprint")
    exceptions = (event.get("exception") or {}).get("values") or []
    _need(exceptions or (event.get("logentry") or {}).get("message"), "an event that says nothing")
    ids = []
    for value in exceptions:
        _need(value.get("type") or value.get("value"), "an exception without type and value")
        _need("stacktrace" not in value or value["stacktrace"]["frames"], "a stack trace without frames")
        mechanism = value["mechanism"]
        _need(isinstance(mechanism["type"], str), "mechanism")
        if "exception_id" in mechanism:
            ids.append(mechanism["exception_id"])
        for frame in (value.get("stacktrace") or {}).get("frames") or []:
            _need(frame.get("filename") or frame.get("function"), "a frame without a place")
            _need(isinstance(frame.get("in_app"), bool), "in_app")
            _need(frame.get("abs_path", "/").startswith("/"), "abs_path")
    if ids:
        _need(ids == list(range(len(exceptions)))[::-1], f"exception ids {ids}")
        parents = [value["mechanism"].get("parent_id") for value in exceptions]
        _need(parents[-1] is None, "the last exception has a parent")
        _need(
            all(parent in ids and parent < own for own, parent in zip(ids[:-1], parents[:-1], strict=True)),
            "parents",
        )
    for crumb in (event.get("breadcrumbs") or {}).get("values") or []:
        _need("timestamp" in crumb, "a breadcrumb without a time")
    _check_trace(event)


def _check_check_in(check_in: dict[str, Any], size: int) -> None:
    _need(size <= 100_000, "the check-in is too large")
    uuid.UUID(check_in["check_in_id"])
    _need(re.fullmatch(r"[a-z0-9_-]{1,50}", check_in["monitor_slug"]), f"slug {check_in['monitor_slug']!r}")
    _need(not check_in["monitor_slug"].isdecimal(), "a slug of digits alone")
    _need(check_in["status"] in ("in_progress", "ok", "error"), "status")
    _need(isinstance(check_in.get("duration", 0.0), int | float), "duration")
    config = check_in["monitor_config"]
    schedule = config["schedule"]
    if schedule["type"] == "crontab":
        _need(len(schedule["value"].split()) == 5, f"crontab {schedule['value']!r}")
    else:
        _need(schedule["type"] == "interval", "schedule")
        # A number as text makes Relay drop the check-in without a word.
        _need(type(schedule["value"]) is int and schedule["value"] > 0, "interval")
        _need(schedule["unit"] in ("year", "month", "week", "day", "hour", "minute"), "unit")
    _need(isinstance(config["timezone"], str), "timezone")
    for name, most in (
        ("checkin_margin", 40_320),
        ("max_runtime", 10_080),
        ("failure_issue_threshold", 720),
        ("recovery_threshold", 720),
    ):
        _need(type(config[name]) is int and 1 <= config[name] <= most, name)
    _check_trace(check_in)


def _check_trace(payload: dict[str, Any]) -> None:
    trace = (payload.get("contexts") or {}).get("trace")
    if trace is not None:
        _need(re.fullmatch(r"[0-9a-f]{32}", trace["trace_id"]), "trace_id")
        _need(re.fullmatch(r"[0-9a-f]{16}", trace["span_id"]), "span_id")


def _need(holds: object, what: str) -> None:
    if not holds:
        raise MalformedError(what)
