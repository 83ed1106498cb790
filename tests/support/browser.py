"""A headless Chromium, spoken to over a pipe in the DevTools protocol: what a page fetches, says and looks like.

https://chromedevtools.github.io/devtools-protocol/. The pipe is file descriptors 3 and 4 of the browser; messages are
JSON, each ended by a zero byte.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# An answer that takes longer never comes, seconds.
_PATIENCE = 120
_LISTENED_TO = ("Page", "Runtime", "Network", "Log")


class Browser:
    """A running Chromium with a profile of its own in `profile`; ends with the `with` block."""

    def __init__(self, profile: Path) -> None:
        command = next(filter(None, map(shutil.which, COMMANDS)), None)
        assert command, f"none of {', '.join(COMMANDS)} is installed"
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        # A shell puts the pipe's ends where the browser looks for them.
        self._process = subprocess.Popen(
            [
                "bash",
                "-c",
                f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}',
                "bash",
                command,
                *options,
                "--remote-debugging-pipe",
            ],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._received = b""
        self._sent = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):
            self.call("Browser.close")
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; what else is said in the meantime goes to `events`."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        os.write(self._out, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self._sent:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
            self.events.append(answer)

    def receive(self) -> dict[str, Any]:
        """Return the next message."""
        while b"\0" not in self._received:
            assert select.select([self._in], [], [], _PATIENCE)[0], f"no answer within {_PATIENCE} s"
            read = os.read(self._in, 1 << 20)
            assert read, "the browser has gone"
            self._received += read
        message, self._received = self._received.split(b"\0", 1)
        return dict(json.loads(message))


class Page:
    """A tab that has opened `file`, `width` pixels wide; `scheme` is light or dark, `scripts` says whether they run."""

    def __init__(
        self, browser: Browser, file: Path, *, width: int = 1200, scheme: str = "light", scripts: bool = True
    ) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in _LISTENED_TO:
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.emulate(scheme)
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Page.navigate", url=file.absolute().as_uri())
        self.wait(lambda: bool(self._said("Page.loadEventFired")))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to this tab."""
        return self._browser.call(method, self._session, **parameters)

    def emulate(self, scheme: str, media: str = "") -> None:
        """Let the page believe in a colour scheme, and in a medium such as "print"."""
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited; raise AssertionError where it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, happened: Callable[[], bool]) -> None:
        """Wait until something has happened in the page."""
        end = time.monotonic() + _PATIENCE
        while not happened():
            assert time.monotonic() < end, f"it did not happen within {_PATIENCE} s"
            time.sleep(0.02)
            # Takes in what was said in the meantime.
            self._browser.call("Browser.getVersion")

    def press(self, key: str) -> None:
        """Press and release a key, such as "Tab" or "Enter"."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        common = {"key": key, "windowsVirtualKeyCode": codes[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def point(self, selector: str, number: int = 0) -> None:
        """Move the pointer to the middle of one of the elements that `selector` finds."""
        place = self.evaluate(
            f"(() => {{ const found = document.querySelectorAll({json.dumps(selector)})[{number}];"
            " found.scrollIntoView({block: 'center'}); const box = found.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])

    def requests(self) -> list[str]:
        """Return the addresses that were asked for, but for the page itself and what it holds (data:)."""
        urls = [event["request"]["url"] for event in self._said("Network.requestWillBeSent")]
        return [url for url in urls[1:] if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """Return every error and warning of the console, every exception, every breach of the page's policy."""
        grave = ("error", "warning")
        thrown = [event["exceptionDetails"] for event in self._said("Runtime.exceptionThrown")]
        called = [event["args"] for event in self._said("Runtime.consoleAPICalled") if event["type"] in grave]
        entries = [event["entry"] for event in self._said("Log.entryAdded")]
        return list(map(str, [*thrown, *called, *(entry for entry in entries if entry["level"] in grave)]))

    def screenshot(self) -> bytes:
        """Return the whole page as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def pdf(self) -> bytes:
        """Return the page as it is printed on A4."""
        return base64.b64decode(
            self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True)["data"]
        )

    def _said(self, method: str) -> list[dict[str, Any]]:
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] == method
        ]
