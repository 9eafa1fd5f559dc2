"""Chromium without a window, driven by its DevTools protocol over two pipes; needs no driver and no network.

with Chromium() as browser, browser.page("file:///report.html") as page:
    page.evaluate("document.title")
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find() -> str | None:
    """The browser: what $CHROMIUM names, or the first that is installed."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CHROMIUM"), *NAMES)))), None)


class BrowserError(RuntimeError):
    """The browser refused a command, or went away."""


class Chromium:
    """A browser with a profile of its own, which goes when it goes."""

    def __init__(self) -> None:
        executable = find()
        if executable is None:
            raise BrowserError("no Chromium: install one, or name it in $CHROMIUM")
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        read, self._out = os.pipe()
        self._in, write = os.pipe()
        # The browser reads commands from descriptor 3 and answers on 4.
        words = [executable, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        line = f'exec "$@" 3<&{read} 4>&{write}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, "bash", *words], pass_fds=(read, write), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        self._rest = b""
        self._last = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
        except (BrowserError, OSError):
            self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its result; events that come meanwhile are kept. Raises: BrowserError."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            answer = self._read()
            if answer.get("id") != self._last:
                self.events.append(answer)
            elif "error" in answer:
                raise BrowserError(f"{method}: {answer['error'].get('message')}")
            else:
                result: dict[str, Any] = answer["result"]
                return result

    def wait(self, method: str, session: str) -> dict[str, Any]:
        """The next event of a kind, or one that has come already; it is taken from the kept ones."""
        while True:
            for event in self.events:
                if event.get("method") == method and event.get("sessionId") == session:
                    self.events.remove(event)
                    return event
            self.events.append(self._read())

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._in, 1 << 20)
            if not data:
                raise BrowserError("the browser went away")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def page(self, url: str, **look: Any) -> Page:
        """A page that has loaded; see `Page.look` for how it may look."""
        return Page(self, url, **look)


class Page:
    """One tab. Whatever a page asks of the network or says on its console is in `requests` and `complaints`."""

    def __init__(self, browser: Chromium, url: str, **look: Any) -> None:
        self.browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.look(**look)
        self.call("Page.navigate", url=url)
        browser.wait("Page.loadEventFired", self._session)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.browser.call("Target.closeTarget", targetId=self._target)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command for this page."""
        return self.browser.call(method, self._session, **params)

    def look(self, width: int = 1280, height: int = 900, scheme: str = "light", media: str = "") -> None:
        """Set the window's size in CSS pixels, the colour scheme, and the medium ("print")."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", media=media, features=[feature])

    def evaluate(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise. Raises: BrowserError."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(json.dumps(answer["exceptionDetails"])[:1000])
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Click into the middle of an element with the mouse, as a reader does."""
        place = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{place}.scrollIntoView({{block: 'center', inline: 'center'}})")
        x, y = self.evaluate(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({place}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """The page as PNG, whole or as far as the window shows it."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """The page as it prints."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"]))

    def _events(self, method: str) -> list[dict[str, Any]]:
        mine = [e for e in self.browser.events if e.get("sessionId") == self._session]
        return [e["params"] for e in mine if e.get("method") == method]

    @property
    def complaints(self) -> list[str]:
        """What the console holds: logged lines, uncaught errors, refused resources."""
        self.evaluate("0")  # what is under way arrives first
        logged = [str(e["entry"].get("text")) for e in self._events("Log.entryAdded")]
        called = [json.dumps(e.get("args")) for e in self._events("Runtime.consoleAPICalled")]
        thrown = [json.dumps(e["exceptionDetails"]) for e in self._events("Runtime.exceptionThrown")]
        return [*logged, *called, *thrown]

    @property
    def requests(self) -> list[str]:
        """The address of everything that was asked for."""
        self.evaluate("0")
        return [str(e["request"]["url"]) for e in self._events("Network.requestWillBeSent")]
