"""A real server of a home, and a browser that uses its page, for tests of the page."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import httpx

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
REPO = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 20.0  # seconds: for a machine that is busy with other tests


class Studio:
    """`imgcls studio` as a process of its own; `url` ends without a slash."""

    def __init__(self, home: pathlib.Path, port: int = 0):
        self.home, self._port, self._process = home, port, None
        self.start()

    def start(self) -> None:
        """Starts it, at the port it had before."""
        command = [sys.executable, "-m", "imgcls.studio", f"--home={self.home}"]
        # stdout is a file: a pipe that nobody reads would stop it one day.
        self._out = self.home.with_name(f"{self.home.name}.{uuid.uuid4().hex[:6]}.txt")
        with self._out.open("w") as out:
            self._process = subprocess.Popen(
                [*command, f"--port={self._port}", "--no_browser"],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=REPO,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self.url = until(self._address, "the address of the server", 60)
        self._port = int(self.url.rpartition(":")[2])

    def _address(self) -> str | None:
        assert self._process is not None
        text = self._out.read_text()
        if self._process.poll() is not None:
            raise AssertionError(f"the server ended: {text[-2000:]}")
        return next((w.rstrip("/") for w in text.split() if w.startswith("http://")), None)

    def stop(self, kill: bool = False) -> None:
        """Ends it, in order or by SIGKILL."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        self._process.wait(30)

    def call(self, method: str, path: str, body: dict | None = None) -> Any:
        """Calls the API; a body gets a request id, but to `/cells`, which only reads."""
        given = {} if path.endswith("/cells") else {"request_id": str(uuid.uuid4())}
        data = None if body is None else json.dumps({**given, **body})
        request = urllib.request.Request(
            self.url + path,
            data and data.encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()}") from error


def upload(studio: Studio, dataset: int, files: list[pathlib.Path]) -> dict:
    """Uploads files by the API; its answer."""
    named = [("files", (path.name, path.read_bytes())) for path in files]
    answer = httpx.post(f"{studio.url}/api/datasets/{dataset}/upload", files=named, timeout=60)
    assert answer.is_success, answer.text
    return answer.json()


def until(ask: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Asks until the answer is true; returns it."""
    end = time.monotonic() + seconds
    while True:
        if answer := ask():
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not seen in {seconds:g} s: {what}")
        time.sleep(0.05)


def unpack_cifar10(
    archive: pathlib.Path, folder: pathlib.Path, classes: dict[str, int], start: int = 0
) -> list[pathlib.Path]:
    """Writes training images of CIFAR-10, `{class: number}`, as `CLASS_0001.jpg`."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with zipfile.ZipFile(archive) as source:
        for name, count in classes.items():
            begin = f"cifar10/train/{name}/"
            members = sorted(m for m in source.namelist() if m.startswith(begin) and m[-1] != "/")
            for number, member in enumerate(members[start : start + count], start):
                path = folder / f"{name}_{number:04d}.jpg"
                path.write_bytes(source.read(member))
                written.append(path)
    return written


@contextlib.contextmanager
def open_browser() -> Iterator[Any]:
    """Headless Chromium; its profile is new."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    assert CHROMIUM and DRIVER
    options.binary_location = CHROMIUM
    # As root in a container there is no sandbox, and little shared memory.
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.add_argument("--window-size=1280,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page of a studio in a browser, used as a person uses it."""

    def __init__(self, driver: Any, url: str):
        self.driver, self.url = driver, url

    def open(self, path: str) -> None:
        """Opens an address of the studio."""
        self.driver.get(self.url + path)

    def size(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Changes the window, and light to dark."""
        mobile = width < 500
        metrics = dict(width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def run(self, script: str, *args: Any) -> Any:
        """Runs JavaScript; its `return` value."""
        return self.driver.execute_script(script, *args)

    def all(self, css: str, text: str = "") -> list[Any]:
        """The visible elements of a selector whose text, label or title begins with `text`."""
        script = """
            const named = e => [e.innerText, e.ariaLabel, e.title].some(
              t => t && t.trim().toLowerCase().startsWith(arguments[1].toLowerCase()));
            return [...document.querySelectorAll(arguments[0])].filter(
              e => e.checkVisibility({visibilityProperty: true}) && (!arguments[1] || named(e)));"""
        return self.run(script, css, text)

    def find(self, css: str, text: str = "", seconds: float = PATIENCE) -> Any:
        """The first of `all`, waited for."""
        return until(lambda: self.all(css, text), f"{css} {text!r}", seconds)[0]

    def click(self, css: str, text: str = "") -> None:
        """Clicks an element, waited for."""
        self._steadily(lambda: self.find(css, text).click())

    def text(self, css: str) -> str:
        """The text of an element, waited for."""
        return self._steadily(lambda: self.find(css).text)

    def type(self, css: str, text: str, clear: bool = True) -> None:
        """Types into a field."""

        def fill() -> None:
            field = self.find(css)
            if clear:
                field.clear()
            field.send_keys(text)

        self._steadily(fill)

    def _steadily(self, act: Callable[[], Any]) -> Any:
        """Acts again if the page drew the element anew, or moves it, in the meantime."""
        from selenium.common.exceptions import (
            ElementNotInteractableException,
            StaleElementReferenceException,
        )

        passing = StaleElementReferenceException, ElementNotInteractableException
        for _ in range(5):
            with contextlib.suppress(*passing):
                return act()
            time.sleep(0.2)
        return act()

    def press(self, *keys: str) -> None:
        """Presses keys, wherever the focus is: `"a"`, `"ENTER"`, `"CONTROL+z"`."""
        from selenium.webdriver import ActionChains, Keys

        for name in keys:
            chain, held = ActionChains(self.driver), []
            *modifiers, key = name.split("+") if len(name) > 1 else [name]
            for modifier in modifiers:
                held.append(getattr(Keys, modifier))
                chain.key_down(held[-1])
            chain.send_keys(getattr(Keys, key) if len(key) > 1 else key)
            for modifier in reversed(held):
                chain.key_up(modifier)
            chain.perform()

    def saved(self) -> None:
        """Waits until the server has everything."""
        state = "return document.querySelector('.save-state')?.dataset.state"
        until(lambda: self.run(state) == "saved", "All changes saved")

    def errors(self) -> list[str]:
        """What the console complained of since the last look."""
        return [f"{line['level']}: {line['message']}" for line in self.driver.get_log("browser")]

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return self.run(
            "const r = document.scrollingElement;"
            "return Math.max(r.scrollWidth, document.body.scrollWidth) - r.clientWidth"
        )
