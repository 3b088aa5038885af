"""A headless Chromium for the tests, driven over its own protocol (CDP): what the page is, keys, clicks, pictures.

The protocol is JSON over a WebSocket, and aiohttp is there anyway: no driver program, no further dependency.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp

T = TypeVar("T")
Message = dict[str, Any]

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
VARIABLE = "CRONTABBER_CHROMIUM"
STARTS_WITHIN_SECONDS = 60.0
ANSWERS_WITHIN_SECONDS = 60.0
INSTALLS_WITHIN_SECONDS = 600
KEYS = {"Enter": ("\r", 13), "Tab": ("\t", 9), "Escape": ("", 27), "/": ("/", 191)}
KEYS |= {name: ("", code) for name, code in {"ArrowUp": 38, "ArrowDown": 40, "Home": 36, "End": 35}.items()}


class NoBrowserError(RuntimeError):
    """There is no Chromium, and it can't be installed here."""


def find_chromium() -> str:
    """Return Chromium's program; installed, as root on Debian and its like. Raises NoBrowserError."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        options = ("--option=DPkg::Lock::Timeout=300", "--yes", "--quiet")
        for command in (("update",), ("install", "--no-install-recommends", "chromium")):
            subprocess.run(
                ["apt-get", *options, *command],
                check=True,
                env=environment,
                stdout=subprocess.DEVNULL,
                timeout=INSTALLS_WITHIN_SECONDS,
            )
        found = shutil.which("chromium")
    if found is None:
        message = (
            f"The tests of the status page need Chromium: install it (on Debian: apt install chromium), or name the"
            f" program of a Chrome in {VARIABLE}."
        )
        raise NoBrowserError(message)
    return found


class Browser:
    """One page of a browser. Use it as a context manager, in one thread."""

    def __init__(self, folder: Path) -> None:
        """Start; `folder` is for what the browser writes. Raises NoBrowserError."""
        self._process = subprocess.Popen(
            [
                *(find_chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0"),
                *(
                    "--disable-background-networking",
                    "--disable-component-update",
                    f"--user-data-dir={folder}",
                ),
                *("--lang=en-GB", "about:blank"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TZ": "UTC"},
        )
        self._runner = asyncio.Runner()
        self._numbers = itertools.count(1)
        self.told: list[Message] = []
        """What the page did that was not asked for: exceptions, what the console or the policy says."""
        try:
            self._session, self._socket = self._runner.run(
                self._connect(self._port(folder / "DevToolsActivePort"))
            )
        except BaseException:
            self._process.kill()
            raise
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def _port(self, file: Path) -> int:
        """Return the port that it listens at, as soon as it has said so."""
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        while not (file.exists() and file.read_text(encoding="utf-8").count("\n")):
            if time.monotonic() > deadline or self._process.poll() is not None:
                message = f"Chromium did not start (exit code {self._process.poll()})"
                raise NoBrowserError(message)
            time.sleep(0.05)
        return int(file.read_text(encoding="utf-8").split("\n", 1)[0])

    @staticmethod
    async def _connect(port: int) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
        session = aiohttp.ClientSession()
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            (page,) = (one for one in await answer.json() if one["type"] == "page")
        return session, await session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)

    def __enter__(self) -> Self:
        """Return the browser."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._runner.run(self._session.close())
        self._runner.close()
        self._process.terminate()
        self._process.wait(STARTS_WITHIN_SECONDS)

    # --- The protocol ------------------------------------------------------------------------------------

    def do(self, method: str, **parameters: Any) -> Message:
        """Do one thing of the protocol; return what it answers."""
        return self._run(lambda: self._answer(method, parameters))

    def _run(self, what: Callable[[], Awaitable[T]]) -> T:
        async def soon() -> T:
            async with asyncio.timeout(ANSWERS_WITHIN_SECONDS):
                return await what()

        return self._runner.run(soon())

    async def _answer(self, method: str, parameters: Message) -> Message:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message: Message = json.loads(await self._socket.receive_str())
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: Message = message["result"]
                return result
            self._hear(message)

    def _hear(self, message: Message) -> None:
        kinds = (
            "Runtime.exceptionThrown",
            "Runtime.consoleAPICalled",
            "Log.entryAdded",
            "Page.javascriptDialogOpening",
        )
        if message.get("method") in (*kinds, "Network.requestWillBeSent"):
            self.told.append(message)

    # --- What tests do -----------------------------------------------------------------------------------

    @property
    def complaints(self) -> list[str]:
        """Return what went wrong in the page so far."""
        self.js("0")  # whatever was told before this has arrived then
        return [json.dumps(one) for one in self.told if one["method"] != "Network.requestWillBeSent"]

    @property
    def asked_for(self) -> set[str]:
        """Return the addresses that the page has asked for."""
        requests = [one for one in self.told if one["method"] == "Network.requestWillBeSent"]
        return {one["params"]["request"]["url"] for one in requests}

    def open(self, url: str) -> None:
        """Go to a page."""
        self.do("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Return the expression's value as soon as it is true."""
        deadline = time.monotonic() + ANSWERS_WITHIN_SECONDS
        while True:
            value = self.js(expression)
            if value:
                return value
            assert time.monotonic() < deadline, f"never true: {expression}\n{self.text()}"
            time.sleep(0.05)

    def text(self) -> str:
        """Return the page's text, as it is seen."""
        return str(self.js("document.body ? document.body.innerText : ''"))

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            text, code = KEYS[key]
            common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
            self.do("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
            self.do("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Type text where the cursor is."""
        self.do("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        place = self.js(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            " found.scrollIntoView({block: 'center'}); const at = found.getBoundingClientRect();"
            " return [at.x + at.width / 2, at.y + at.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.do(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def look(self, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Choose the size of the window, and light or dark."""
        self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """Write what is seen as a PNG."""
        path.write_bytes(base64.b64decode(self.do("Page.captureScreenshot", format="png")["data"]))
