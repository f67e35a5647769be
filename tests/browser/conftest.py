"""A real, headless Chromium, spoken to by the WebDriver protocol (https://www.w3.org/TR/webdriver2/)."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

START_S = 30.0
COMMAND_S = 60.0
FLAGS = [
    "--headless=new",
    "--no-sandbox",  # Chromium refuses to run as root otherwise, and containers have small /dev/shm
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--hide-scrollbars",
]


class Browser:
    """One window of Chromium.

    Args:
        driver: address of chromedriver.
        chromium: the browser's program.
    """

    def __init__(self, driver: str, chromium: str) -> None:
        self._session = driver
        options = {"binary": chromium, "args": FLAGS}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        session = self._command("POST", "/session", {"capabilities": capabilities})
        self._session = f"{driver}/session/{session['sessionId']}"

    def open(self, url: str, *, width: int = 1280, height: int = 1000, dark: bool = False) -> None:
        """Loads a page; a phone is as narrow as `width` says."""
        scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
        self._devtools("Emulation.setEmulatedMedia", scheme)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._devtools("Emulation.setDeviceMetricsOverride", size)
        self._command("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Returns what the body of a JavaScript function returns."""
        return self._command("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, what: str, script: str, *arguments: Any, timeout_s: float = 45.0) -> Any:
        """Runs a script until it returns something true, and returns that."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.run(script, *arguments)):
            if time.monotonic() > deadline:
                text = self.run("return document.body.innerText")[:500]
                pytest.fail(f"{what} did not appear within {timeout_s:.0f} s; the page shows: {text}")
            time.sleep(0.2)
        return found

    def picture(self, path: Path) -> None:
        """Saves what the window shows; for a person who looks for the cause of a failure."""
        path.write_bytes(base64.b64decode(self._command("GET", "/screenshot")))

    def close(self) -> None:
        """Ends the browser."""
        self._command("DELETE", "")

    def _devtools(self, method: str, parameters: dict[str, Any]) -> None:
        self._command("POST", "/goog/cdp/execute", {"cmd": method, "params": parameters})

    def _command(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._session + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with _open(request) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {json.load(error)['value']['message']}") from None


def _open(request: urllib.request.Request | str) -> Any:
    # Never through a proxy: everything is on this machine.
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=COMMAND_S)


def await_line(log: Path, process: subprocess.Popen[bytes], start: str, *, timeout_s: float) -> str:
    """Returns the rest of the line of a server's log after `start`."""
    deadline = time.monotonic() + timeout_s
    while True:
        text = log.read_text(errors="replace")
        for line in text.splitlines(keepends=True):
            if start in line and line.endswith("\n"):
                return line.split(start, 1)[1].strip()
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{process.args} printed no {start!r} within {timeout_s:.0f} s; its output: {text[-1000:]}")
        time.sleep(0.1)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that the tests started."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "chromedriver.log"
        with log.open("wb") as file:
            process = subprocess.Popen([chromedriver, "--port=0"], stdout=file, stderr=subprocess.STDOUT)
        try:
            port = await_line(log, process, "started successfully on port ", timeout_s=START_S).rstrip(".")
            window = Browser(f"http://127.0.0.1:{port}", chromium)
            try:
                yield window
            finally:
                window.close()
        finally:
            stop(process)
