"""The status page in a real browser: what is seen, hostile texts, keys, light and dark, and what changes meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from crontabber_operator.models import LastError, Result, State, Status
from tests.browser import Browser
from tests.page_scene import HOUR, Scene, ServedPage, history, last_slot, utc_now

Box = dict[str, Any]
pytestmark = pytest.mark.timeout(900)  # Chromium may have to be installed first

TRACEBACK = (
    'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nOperationalError: gone away'
)
ERROR = LastError(
    type="OperationalError", value="gone away", traceback=TRACEBACK, slot=last_slot(), job="job-1"
)
PHONE, DESK = (390, 844), (1280, 800)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a browser for all tests here."""
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def scene() -> Scene:
    """Return a page's jobs."""
    return Scene()


@pytest.fixture
def page(scene: Scene) -> Iterator[ServedPage]:
    """Return the page of the scene."""
    with ServedPage(scene) as served:
        yield served


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """Return the browser; the page must not have complained at the end."""
    chromium.told.clear()
    chromium.look()
    yield chromium
    complaints = [
        one for one in chromium.complaints if "net::ERR_" not in one
    ]  # the server is stopped in one test
    assert complaints == []
    chromium.open("about:blank#")


def shown(browser: Browser, page: ServedPage, count: int, address: str = "") -> None:
    """Open the page and wait for so many rows."""
    browser.open(page.url + address)
    browser.wait(f"document.querySelectorAll('#rows > tr').length === {count}")


def names(browser: Browser) -> list[str]:
    """Return the jobs in the table, from top to bottom."""
    found: list[str] = browser.js(
        "[...document.querySelectorAll('#rows button.name')].map(e => e.textContent)"
    )
    return found


def all_states(scene: Scene) -> None:
    """One job in each state."""
    for state in State:
        failing = state in (State.RETRYING, State.RETRIES_EXHAUSTED)
        scene.put(
            f"job-{state.value.lower()}",
            Status(
                state=state,
                settled_through=last_slot() - 2 * HOUR if state is State.CATCHING_UP else last_slot(),
                last_success_time=None if state is State.INVALID else last_slot() - 3 * HOUR,
                next_run_time=utc_now() + 2 * HOUR,
                error_count=2 if failing else 0,
                last_error=ERROR if failing else None,
                history=history(*Result) if failing else history(Result.SUCCEEDED),
            ),
            backfill=state is State.CATCHING_UP,
        )


def test_every_job_is_there_with_what_matters(scene: Scene, page: ServedPage, browser: Browser) -> None:
    """State, last success, next run, missed, the runs: in words, and the worst first."""
    all_states(scene)
    shown(browser, page, len(State))
    assert names(browser)[:3] == ["job-retriesexhausted", "job-invalid", "job-retrying"]
    assert browser.js("document.title") == "(3) Crontabber"
    rows = browser.js(
        "Object.fromEntries([...document.querySelectorAll('#rows > tr')]"
        ".map(e => [e.cells[0].firstChild.textContent, [...e.cells].map(c => c.innerText)]))"
    )
    about, state, last, following, missed, _ = rows["job-retrying"]
    assert "web · every 1h" in about
    assert state == "retrying\nOperationalError: gone away"
    assert last.startswith("3 h")
    assert last.endswith("ago")
    assert following.startswith(("in 1 h 59", "in 2 h"))
    assert rows["job-catchingup"][4] == "2"
    assert missed == "0"
    assert rows["job-invalid"][2] == "never"
    assert browser.js("document.querySelector('#connection-text').textContent") == "Live"


def test_runs_differ_by_shape_and_are_told_in_words(scene: Scene, page: ServedPage, browser: Browser) -> None:
    """So colour isn't needed, nor sight."""
    scene.put("job", Status(history=history(*Result)))
    shown(browser, page, 1)
    shapes = browser.js(
        "[...document.querySelectorAll('.runs svg path')].map(e => [e.getAttribute('d'), e.textContent])"
    )
    assert len({one for one, _ in shapes}) == len(Result)
    newest, oldest = shapes[-1][1], shapes[0][1]
    assert newest.endswith("UTC: succeeded, 1 min 30 s")
    assert "lost" in oldest
    label = browser.js("document.querySelector('.runs svg').getAttribute('aria-label')")
    assert label == (
        "Last 6 runs: 1 lost, 1 evicted, 1 out of memory, 1 timed out, 1 failed, 1 succeeded; the newest succeeded"
    )
    signs = browser.js("[...document.querySelectorAll('#legend path')].map(e => [e.getAttribute('d'), ''])")
    assert {drawn for drawn, _ in signs} == {drawn for drawn, _ in shapes}


HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\"'`&amp;${alert(3)}\u202e\u0000"


def test_what_users_wrote_is_text(scene: Scene, page: ServedPage, browser: Browser) -> None:
    """Wherever it comes from: nothing of it is markup, nothing runs, nothing is fetched."""
    error = LastError(type=HOSTILE, value=HOSTILE, traceback=HOSTILE * 3, job=HOSTILE)
    condition = {
        "type": HOSTILE,
        "status": "True",
        "reason": "X",
        "message": HOSTILE,
        "lastTransitionTime": "2026-11-24T11:00:00Z",
    }
    command = {"id": "1", "name": HOSTILE, "result": HOSTILE}
    told = Status(
        last_error=error, error_count=1, history=history(Result.FAILED, message=HOSTILE), schedule=HOSTILE
    )
    status = Status.read({**told.write(), "conditions": [condition], "lastCommands": [command]})
    scene.put("bad", status, namespace="<b>web</b>", frequency=HOSTILE)
    scene.put("<img src=y>", status, namespace="__proto__")
    scene.put("constructor", status, namespace="web")
    shown(browser, page, 3)
    browser.press("Tab")
    for row in range(3):
        browser.js(f"document.querySelectorAll('#rows button.name')[{row}].click()")
    browser.wait("document.querySelectorAll('pre').length === 3")
    assert browser.js("document.querySelectorAll('main img, main script, main b:not(li > b)').length") == 0
    assert browser.js(
        "[...document.querySelectorAll('pre')].every(e => e.textContent.includes('<script>alert(1)</script>'))"
    )
    assert "<b>web</b>" in browser.text()
    assert sorted(names(browser)) == ["<img src=y>", "bad", "constructor"]
    assert {url for url in browser.asked_for if not url.startswith(page.url)} == set()
    browser.js("filters.namespace.value = '__proto__'; filters.namespace.dispatchEvent(new Event('change'))")
    assert names(browser) == ["<img src=y>"]


def test_text_can_not_become_markup_even_by_mistake(scene: Scene, page: ServedPage, browser: Browser) -> None:
    """The policy takes that away from the script itself."""
    scene.put("job")
    shown(browser, page, 1)
    tried = browser.js(
        "(() => { try { document.body.innerHTML = 'x'; return 'done' } catch (e) { return e.name } })()"
    )
    assert tried == "TypeError"
    assert browser.js("document.querySelectorAll('#rows > tr').length") == 1
    browser.told.clear()  # the policy has told of it


def test_the_keyboard_is_enough(scene: Scene, page: ServedPage, browser: Browser) -> None:
    """One stop for the table, arrows within it, Enter opens, Escape closes, a slash finds."""
    all_states(scene)
    shown(browser, page, len(State))
    stops = []
    for _ in range(20):
        browser.press("Tab")
        here = browser.js(
            "document.activeElement.className === 'name' ? 'table'"
            " : document.activeElement.textContent.trim() || document.activeElement.id"
        )
        stops.append(here)
        if here == "table":
            break
    assert stops[0] == "To the jobs"
    assert stops[-1] == "table"
    assert any("retrying" in stop for stop in stops)
    active = "document.activeElement.textContent"
    assert browser.js(active) == names(browser)[0]
    browser.press("ArrowDown", "ArrowDown")
    assert browser.js(active) == "job-retrying"
    browser.press("End")
    assert browser.js(active) == names(browser)[-1]
    browser.press("Home", "ArrowUp", "ArrowDown", "ArrowDown", "Enter")
    browser.wait("!!document.querySelector('pre')")
    assert browser.js("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert browser.js("!!document.getElementById(document.activeElement.getAttribute('aria-controls'))")
    assert browser.js("document.querySelector('pre').textContent") == TRACEBACK
    browser.press("Tab")
    assert browser.js("document.activeElement.tagName") == "PRE", "a long error can be scrolled"
    browser.press("Escape")
    assert browser.js("document.querySelectorAll('.details').length") == 0
    assert browser.js(active) == "job-retrying"
    browser.press("/")
    browser.type("SUSP")
    assert names(browser) == ["job-suspended"]
    assert browser.js("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_everything_has_a_name_and_a_role(scene: Scene, page: ServedPage, browser: Browser) -> None:
    """As a screen reader is told, on the phone's cards too."""
    all_states(scene)
    for width, height in (DESK, PHONE):
        browser.look(width=width, height=height)
        shown(browser, page, len(State))
        tree = browser.do("Accessibility.getFullAXTree")["nodes"]
        nodes = [
            (one["role"]["value"], one.get("name", {}).get("value", "")) for one in tree if not one["ignored"]
        ]
        roles = [role for role, _ in nodes]
        assert roles.count("table") == 1
        assert roles.count("row") == 1 + len(State)
        assert roles.count("columnheader") == 6
        assert roles.count("rowheader") == len(State)
        named = ("button", "textbox", "searchbox", "combobox", "image", "table", "link", "search")
        assert [node for node in nodes if node[0] in named and not node[1].strip()] == []


def test_filters_and_their_address(scene: Scene, page: ServedPage, browser: Browser) -> None:
    """By namespace, state and text; the address can be sent to somebody."""
    all_states(scene)
    scene.put("other", Status(state=State.RETRYING, error_count=1), namespace="shop")
    shown(browser, page, len(State) + 1)
    browser.click("#states button.warn:not([hidden])")
    assert set(names(browser)) == {"job-retrying", "other"}
    browser.js("filters.namespace.value = 'shop'; filters.namespace.dispatchEvent(new Event('change'))")
    assert names(browser) == ["other"]
    assert browser.js("document.querySelector('#count').textContent") == f"1 of {len(State) + 1} jobs"
    address = browser.js("location.hash")
    browser.open("about:blank#")
    shown(browser, page, 1, address)
    assert names(browser) == ["other"]
    assert browser.js("document.querySelectorAll('#states button[aria-pressed=true]').length") == 1
    assert browser.js("filters.namespace.value") == "shop"
    browser.open("about:blank#")
    browser.open(page.url + "#namespace=nowhere&state=nonsense&sort=nonsense")
    browser.wait("document.querySelector('#empty').textContent === 'No job matches the filters.'")
    assert browser.js("filters.namespace.value") == "nowhere"


def test_changes_come_without_a_reload(scene: Scene, page: ServedPage, browser: Browser) -> None:
    """What is open stays open and is told anew; the cursor stays where it is."""
    for name in ("a", "b", "c"):
        scene.put(name, Status(state=State.WAITING, settled_through=last_slot()))
    shown(browser, page, 3, "#sort=name")
    browser.js(
        "window.stays = true; const b = document.querySelectorAll('#rows button.name')[1]; b.focus(); b.click()"
    )
    browser.wait("!!document.querySelector('.details p')")
    failing = Status(
        state=State.RETRYING,
        settled_through=last_slot() - HOUR,
        error_count=1,
        last_error=ERROR,
        history=history(Result.FAILED),
    )
    scene.put("b", failing)
    scene.put("d")
    scene.drop("a")
    browser.wait(
        "document.querySelector('pre') && document.querySelector('pre').textContent.includes('gone away')"
    )
    browser.wait(
        "[...document.querySelectorAll('#rows button.name')].map(b => b.textContent).join() === 'b,c,d'"
    )
    assert "OperationalError: gone away" in browser.js("document.querySelector('#rows > tr').innerText")
    assert browser.js("document.activeElement.textContent") == "b"
    assert browser.js("window.stays") is True
    scene.drop("b")
    browser.wait("document.querySelectorAll('#rows > tr').length === 2")
    assert browser.js("document.activeElement.id") == "jobs", "the cursor is not lost"
    scene.drop("c")
    scene.drop("d")
    browser.wait("document.querySelector('#empty').textContent === 'There are no CrontabberJobs.'")


def test_an_operator_that_is_away_is_told_and_its_return_too(scene: Scene, browser: Browser) -> None:
    """What was known stays to be seen; the next operator's jobs come by themselves."""
    with ServedPage(scene) as page:
        scene.put("old")
        shown(browser, page, 1)
    browser.wait("document.querySelector('#connection-text').textContent.startsWith('No answer since')")
    assert names(browser) == ["old"]
    scene.drop("old")
    scene.put("new")
    with ServedPage(scene, page.port):
        browser.wait("document.querySelector('#connection-text').textContent === 'Live'")
        assert names(browser) == ["new"]


CONTRAST = """
(() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((one) => {
      const c = one / 255;
      return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
    });
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (c !== 'rgba(0, 0, 0, 0)') return c;
    }
    return 'rgb(255, 255, 255)';
  };
  const weak = [];
  for (const e of document.querySelectorAll('body *')) {
    const says = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const draws = e.tagName === 'path';
    if (!says && !draws || e.closest('[hidden], option, noscript')) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(draws ? style.fill : style.color), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < (draws ? 3 : 4.5)) weak.push([e.outerHTML.slice(0, 80), ratio]);
  }
  return weak;
})()
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_it_can_be_read_in_light_and_dark_on_phone_and_desk(
    scene: Scene, page: ServedPage, browser: Browser, dark: bool, size: tuple[int, int]
) -> None:
    """Enough contrast for all text and signs, nothing wider than the screen, also with long names."""
    all_states(scene)
    scene.put(
        "a-name-of-fortyeight-characters-is-the-longest-1",
        Status(error_count=1, last_error=ERROR),
        namespace="n" * 63,
    )
    browser.look(width=size[0], height=size[1], dark=dark)
    shown(browser, page, len(State) + 1)
    browser.js("document.querySelectorAll('#rows button.name').forEach(e => e.click())")
    browser.wait("document.querySelectorAll('pre').length === 3")
    assert browser.js("getComputedStyle(document.body).backgroundColor") == (
        "rgb(18, 21, 19)" if dark else "rgb(246, 247, 246)"
    )
    assert browser.js(CONTRAST) == []
    assert browser.js("document.documentElement.scrollWidth <= innerWidth")
    cut = browser.js(
        "[...document.querySelectorAll('#rows td, #rows th, #rows .name, #rows .about')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')"
        ".map(e => e.className + e.textContent)"
    )
    assert cut == []


def test_a_thousand_jobs(scene: Scene, page: ServedPage, browser: Browser, tmp_path: Path) -> None:
    """All in one table; one change is one row's worth of bytes; typing finds one of them."""
    for number in range(1000):
        scene.put(
            f"job-{number}",
            Status(
                state=State.WAITING, settled_through=last_slot(), history=history(*[Result.SUCCEEDED] * 10)
            ),
        )
    shown(browser, page, 1000)
    pool = urllib3.PoolManager()
    version = json.loads(pool.request("GET", f"{page.url}jobs").data)["version"]
    scene.put("job-500", Status(state=State.RETRYING, error_count=1))
    browser.wait("document.querySelector('#rows button.name').textContent === 'job-500'")
    change = pool.request("GET", f"{page.url}jobs?since={version}").data
    assert [one["name"] for one in json.loads(change)["jobs"]] == ["job-500"]
    assert len(change) < 1000
    browser.press("/")
    browser.type("job-77")
    assert sorted(names(browser)) == sorted(["job-77", *(f"job-77{digit}" for digit in range(10))])


def test_more_than_a_thousand_are_shown_in_steps(scene: Scene, page: ServedPage, browser: Browser) -> None:
    """So that ten thousand don't stop the browser; filters find in all of them."""
    for number in range(1005):
        scene.put(f"job-{number:04}")
    shown(browser, page, 1000, "#sort=name")
    assert browser.js("document.querySelector('#empty button').textContent") == "Show 5 more"
    browser.click("#empty button")
    browser.wait("document.querySelectorAll('#rows > tr').length === 1005")
    assert browser.js("document.querySelector('#empty').hidden")
