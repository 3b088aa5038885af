"""What the status page's server answers: rows, changes only, and nothing but reading."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3

from crontabber_operator.board import REMEMBERED_DELETIONS, Board
from crontabber_operator.known_figures import KnownFigures
from crontabber_operator.models import LastError, Ongoing, Result, State, Status
from crontabber_operator.page import FILES
from tests.page_scene import HOUR, NOW, SLOT, Scene, ServedPage, history

Answer = dict[str, Any]
SOURCES = Path(__file__).parents[2] / "operator"
FAILED = LastError(
    type="OperationalError", value="gone", traceback="Traceback …\nOperationalError: gone", slot=SLOT
)


class Asked:
    """A board of a scene whose clock the test turns."""

    def __init__(self) -> None:
        self.now = NOW
        self.scene = Scene(lambda: self.now)
        self.board = Board(self.scene.store, KnownFigures(), lambda: self.now, "life")
        self.version = ""

    def ask(self, since: str | None = None) -> Answer:
        """Ask for what changed since the last answer, a second later."""
        self.now += timedelta(seconds=1)
        body = asyncio.run(self.board.changes(self.version if since is None else since, compressed=False))
        answer: Answer = json.loads(body)
        self.version = answer["version"]
        return answer

    def names(self, since: str | None = None) -> list[str]:
        """Return the names of the jobs in the answer."""
        return sorted(one["name"] for one in self.ask(since)["jobs"])


@pytest.fixture
def asked() -> Asked:
    """Return an empty board."""
    return Asked()


# --- Changes ---------------------------------------------------------------------------------------------


def test_who_asks_first_gets_all_and_then_only_what_changed(asked: Asked) -> None:
    """Also where a job was seen again without a change."""
    for name in ("a", "b", "c"):
        asked.scene.put(name, Status(settled_through=NOW))
    first = asked.ask()
    assert (first["whole"], [one["name"] for one in first["jobs"]]) == (True, ["a", "b", "c"])
    assert asked.names() == []
    asked.scene.put("b", Status(settled_through=NOW))
    assert asked.names() == []
    asked.scene.put("b", Status(settled_through=NOW, error_count=1))
    answer = asked.ask()
    assert (answer["whole"], [one["name"] for one in answer["jobs"]], answer["deleted"]) == (False, ["b"], [])


def test_time_alone_changes_what_is_missed(asked: Asked) -> None:
    """A slot fell due, and nobody wrote the status."""
    asked.scene.put("job", Status(settled_through=SLOT))
    asked.scene.put("daily", Status(settled_through=SLOT), schedule="0 0 1 1 *")
    before = {one["name"]: one["missed"] for one in asked.ask()["jobs"]}
    asked.now += HOUR
    after = {one["name"]: one["missed"] for one in asked.ask()["jobs"]}
    assert after == {"job": before["job"] + 1}


def test_deleted_jobs_are_told_to_those_who_knew_them(asked: Asked) -> None:
    """And one of the same name that was made anew comes with the same answer."""
    for name in ("a", "b"):
        asked.scene.put(name)
    old = asked.ask()["version"]
    asked.scene.drop("a")
    assert asked.ask()["deleted"] == [["web", "a"]]
    assert asked.ask()["deleted"] == []
    late = asked.ask(old)
    assert (late["whole"], late["deleted"]) == (False, [["web", "a"]])
    assert asked.names("") == ["b"]


def test_who_was_away_for_too_many_deletions_gets_all(asked: Asked) -> None:
    """What is not remembered any more can't be told."""
    asked.scene.put("stays")
    old = asked.ask()["version"]
    for number in range(REMEMBERED_DELETIONS + 1):
        asked.scene.put(f"job-{number}")
    newer = asked.ask()["version"]
    for number in range(REMEMBERED_DELETIONS + 1):
        asked.scene.drop(f"job-{number}")
    asked.ask()
    assert asked.ask(old)["whole"]
    assert asked.ask(newer)["whole"]
    assert not asked.ask()["whole"]


@pytest.mark.parametrize(
    "since", ["other-1", "life-99", "life--1", "life-x", "life", "-", "\u0663", "life-\u0663"]
)
def test_whoever_knows_another_operator_gets_all(asked: Asked, since: str) -> None:
    """After a restart numbers mean something else; and nonsense means nothing."""
    asked.scene.put("job")
    assert asked.ask(since)["whole"]


def test_many_who_look_cost_one_comparison_a_second(asked: Asked) -> None:
    """The same second, the same answer."""
    asked.scene.put("job")
    version = asked.ask()["version"]
    asked.scene.put("job", Status(error_count=1))

    async def all_ask() -> set[bytes]:
        asks = [asked.board.changes(version, compressed=False) for _ in range(50)]
        return set(await asyncio.gather(*asks))

    (same,) = asyncio.run(all_ask())
    assert json.loads(same)["jobs"] == []
    assert asked.names(version) == ["job"]


def test_a_packed_answer_is_the_same(asked: Asked) -> None:
    """All, and only changes."""
    asked.scene.put("job")
    for since in ("", "life-0"):
        packed = asyncio.run(asked.board.changes(since, compressed=True))
        plain = asyncio.run(asked.board.changes(since, compressed=False))
        assert gzip.decompress(packed) == plain


# --- Rows ------------------------------------------------------------------------------------------------


def test_a_row_has_what_a_person_on_call_looks_for(asked: Asked) -> None:
    """And of the runs the oldest first, as they are drawn."""
    status = Status(
        state=State.RETRYING,
        last_success_time=SLOT - 2 * HOUR,
        settled_through=SLOT - 2 * HOUR,
        next_run_time=NOW + HOUR,
        error_count=1,
        last_error=FAILED,
        history=history(Result.FAILED, Result.SUCCEEDED),
    )
    asked.scene.put("job", status, backfill=True)
    (row,) = asked.ask()["jobs"]
    assert row == {
        "namespace": "web",
        "name": "job",
        "state": "Retrying",
        "schedule": "every 1h",
        "zone": "",
        "command": "work",
        "last": int((SLOT - 2 * HOUR).timestamp()),
        "next": int((NOW + HOUR).timestamp()),
        "missed": 2,
        "errors": 1,
        "note": "OperationalError: gone",
        "runs": [
            ["Succeeded", int((SLOT - HOUR).timestamp()), 90.0, 1],
            ["Failed", int(SLOT.timestamp()), 90.0, 1],
        ],
    }


def condition(kind: str, status: str, message: str) -> dict[str, Any]:
    """Return a condition."""
    return {
        "type": kind,
        "status": status,
        "reason": "Because",
        "message": message,
        "lastTransitionTime": "2026-11-24T11:00:00Z",
    }


@pytest.mark.parametrize(
    ("status", "note"),
    [
        ({}, ""),
        ({"conditions": [condition("Ready", "True", "fine"), condition("CaughtUp", "True", "fine")]}, ""),
        ({"conditions": [condition("CaughtUp", "False", "2 slots are due")]}, "2 slots are due"),
        (
            {
                "conditions": [condition("CaughtUp", "False", "2 slots are due")],
                "errorCount": 1,
                "lastError": {"type": "ValueError", "value": "x"},
            },
            "ValueError: x",
        ),
        (
            {
                "conditions": [
                    condition("Ready", "False", "no such field"),
                    condition("CaughtUp", "False", "due"),
                ]
            },
            "no such field",
        ),
        ({"conditions": [condition("Ready", "False", "long " * 1000)]}, ("long " * 60)),
    ],
    ids=["new", "well", "due", "failed", "not ready", "long"],
)
def test_the_note_is_what_is_to_be_read_first(asked: Asked, status: Answer, note: str) -> None:
    """What is wrong with the spec, the last error, why slots wait; never more than a line or two."""
    asked.scene.put("job", Status.read(status))
    (row,) = asked.ask()["jobs"]
    assert row["note"] == note


def test_an_invalid_job_has_a_row_too(asked: Asked) -> None:
    """Without figures: nothing is known of its slots."""
    asked.scene.put("job", Status(state=State.INVALID), frequency="0x")
    (row,) = asked.ask()["jobs"]
    assert (row["state"], row["missed"], row["command"]) == ("Invalid", None, "")


# --- Over HTTP -------------------------------------------------------------------------------------------

Get = Callable[..., urllib3.BaseHTTPResponse]


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Return one job that fails, with arguments that nobody should see."""
    made = Scene()
    claim = Ongoing(slot=SLOT, through=SLOT, job="job-2", uid="u", since=NOW)
    status = Status(last_error=FAILED, error_count=1, history=history(Result.FAILED), ongoing=claim)
    command = {"id": "1", "name": "run-now", "value": "--password=hidden", "time": "2026-11-24T11:00:00Z"}
    status = Status.read({**status.write(), "lastCommands": [{**command, "result": "Done"}]})
    made.put("job", status, args=["--password=hidden"])
    return made


@pytest.fixture(scope="module")
def get(scene: Scene) -> Iterator[Get]:
    """Return what asks the page's server."""
    with ServedPage(scene) as page:
        pool = urllib3.PoolManager(retries=False)

        def ask(path: str, method: str = "GET", **headers: str) -> urllib3.BaseHTTPResponse:
            return pool.request(
                method, page.url.rstrip("/") + path, headers=headers, timeout=30, decode_content=False
            )

        yield ask


@pytest.mark.parametrize("path", [*FILES, "/jobs", "/jobs/web/job", "/nothing"])
def test_every_answer_forbids_what_is_not_from_here(get: Get, path: str) -> None:
    """Scripts, styles, frames and requests of others; and guessing what a file might be."""
    headers = get(path).headers
    policy = dict(one.strip().split(" ", 1) for one in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in headers or "/" not in headers["Server"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/web/job"])
def test_nothing_can_be_done_but_reading(get: Get, method: str, path: str) -> None:
    """There is no other method."""
    assert get(path, method).status == 405


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/page.svg", "image/svg+xml; charset=utf-8"),
    ],
)
def test_files_are_served_and_asked_for_again_only_if_they_changed(get: Get, path: str, kind: str) -> None:
    """By their ETag, so an upgraded operator's page is there at once."""
    answer = get(path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert answer.headers["Cache-Control"] == "no-cache"
    again = get(path, **{"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.data) == (304, b"")
    assert get(path, **{"If-None-Match": '"other"'}).status == 200


def test_jobs_are_packed_for_those_who_can_unpack(get: Get) -> None:
    """A thousand jobs are a few kilobytes then."""
    packed, plain = get("/jobs", **{"Accept-Encoding": "gzip, br"}), get("/jobs")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert json.loads(gzip.decompress(packed.data)) == json.loads(plain.data)
    assert plain.headers["Content-Type"].startswith("application/json")


def test_what_a_click_opens(get: Get) -> None:
    """The traceback, the history, the run that goes on."""
    told = json.loads(get("/jobs/web/job").data)
    assert told["error"]["text"] == FAILED.traceback
    assert told["ongoing"] == {"slot": int(SLOT.timestamp()), "since": int(NOW.timestamp()), "attempt": 1}
    assert [one["result"] for one in told["history"]] == ["Failed"]
    assert [one["name"] for one in told["commands"]] == ["run-now"]
    assert get("/jobs/web/other").status == 404
    assert get("/jobs/..%2f..%2fetc/passwd").status == 404


def test_arguments_are_not_shown(get: Get) -> None:
    """People put secrets there, and whoever reaches the port may look."""
    for path in ("/jobs", "/jobs/web/job"):
        assert b"hidden" not in get(path).data


def test_the_page_holds_no_markup_from_data_and_nothing_inline() -> None:
    """No script or style within the page, no address elsewhere, and no call that reads text as markup."""
    html, script, style = (
        (SOURCES / name).read_text(encoding="utf-8") for name in ("page.html", "page.js", "page.css")
    )
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    for text in (html, script.replace("http://www.w3.org/2000/svg", ""), style):
        assert not re.search(r"https?:|//\w+\.\w|@import|url\(", text)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|new Function|\.style\b", script
    )


def test_a_status_that_somebody_wrote_by_hand_stops_nobody(asked: Asked) -> None:
    """Not even with times from another age."""
    far = datetime.fromisoformat("9999-12-31T23:59:59+00:00")
    long_ago = datetime.fromisoformat("0001-01-01T00:00:00+00:00")
    asked.scene.put("job", Status(next_run_time=far, last_success_time=long_ago, settled_through=long_ago))
    (row,) = asked.ask()["jobs"]
    assert row["last"] < NOW.timestamp() < row["next"]
