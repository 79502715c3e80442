"""A headless Chromium, spoken to by its own protocol (CDP): enough to open a page, wait for what it shows, picture it.

What is shown is asked of the page again and again until a deadline; nothing sleeps for a guessed time.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from iot_platform.errors import PlatformError
from iot_platform.local.owned import owned
from iot_platform.local.process import LOOPBACK, wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_SECONDS = 120


@dataclass
class Browser:
    """One page of the browser."""

    connection: ClientConnection
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol; events that come in between are not looked at."""
        number = next(self.numbers)
        self.connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.connection.recv(timeout=PATIENCE_SECONDS))
            if answer.get("id") == number:
                if "error" in answer:
                    raise PlatformError(f"Chromium: {method}: {answer['error']['message']}", "See deploy/browser.py")
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            said = answer["exceptionDetails"].get("exception", {}).get("description")
            raise PlatformError(f"the page: {said}", expression)
        return answer["result"].get("value")

    def open(self, address: str, width: int, height: int) -> None:
        """Load the page in a window of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=address)

    def wait_for(self, condition: str, what: str) -> None:
        """Return once the JavaScript condition holds; ``PlatformError`` with what the page says when it never does."""

        def holds() -> bool:
            with suppress(PlatformError):  # while it navigates there may be no page
                return bool(self.evaluate(condition))
            return False

        if not wait_until(holds, PATIENCE_SECONDS):
            shown = str(self.evaluate("document.body.innerText"))[:600]
            raise PlatformError(f"the page does not show {what} within {PATIENCE_SECONDS} s: {shown!r}", "Look at it")

    def wait_for_texts(self, *texts: str) -> None:
        condition = " && ".join(f"document.body.innerText.includes({json.dumps(text)})" for text in texts)
        self.wait_for(condition, ", ".join(texts))

    def settle(self) -> None:
        """Return once the page looks the same twice in a row: fonts are there, nothing loads or moves any more."""
        before: list[str] = [""]

        def is_still() -> bool:
            now = self.call("Page.captureScreenshot", format="jpeg", quality=20)["data"]
            is_same = before[0] == now
            before[0] = now
            return is_same

        self.wait_for("document.fonts.status === 'loaded'", "its fonts")
        wait_until(is_still, 20)

    def picture(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser of its own profile for the time of the block; ``PlatformError`` when none is installed."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if not program:
        raise PlatformError("no Chromium is installed", "Install it, e.g. apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        profile = Path(folder)
        command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
            "--force-color-profile=srgb", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        with owned(command, profile / "chromium.log", patience_seconds=5):
            told = profile / "DevToolsActivePort"
            if not wait_until(lambda: told.exists() and bool(told.read_text().strip()), PATIENCE_SECONDS):
                raise PlatformError("Chromium does not start", (profile / "chromium.log").read_text()[-500:])
            port = told.read_text().split()[0]
            with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/json/list", timeout=20) as answer:
                page = next(one for one in json.load(answer) if one["type"] == "page")
            with connect(page["webSocketDebuggerUrl"], max_size=None) as connection:
                yield Browser(connection)
