"""Pages opened from disk in a browser: no broken images or links, no overflow, no requests."""

import json
import pathlib
import shutil

import pytest

from tests import reports
from tests.conftest import exit_code

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on the PATH"
)
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium that logs its requests."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # As root in a container there is no sandbox, and little shared memory.
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def open_page(browser, path: pathlib.Path, width: int) -> set[str]:
    """Opens a page in a window of the given width; returns the URL schemes that it requested."""
    size = dict(width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())
    events = (json.loads(line["message"])["message"] for line in browser.get_log("performance"))
    urls = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    return {url.partition(":")[0] for url in urls}


def check_page(browser, path: pathlib.Path, images: int) -> None:
    """Checks a page at several widths."""
    for width in WIDTHS:
        schemes = open_page(browser, path, width)
        # If a name ran as a script, its alert would raise an error here.
        found = browser.execute_async_script(
            """const done = arguments[0], images = [...document.images];
            // Those further down need not be loaded yet.
            images.forEach(i => { i.loading = 'eager'; });
            const root = document.scrollingElement;
            const links = [...document.querySelectorAll('a[href^="#"]')];
            Promise.allSettled(images.map(i => i.decode())).then(() => done({
              images: images.length,
              broken: images.filter(i => !(i.naturalWidth > 0)).map(i => i.alt),
              width: innerWidth, needed: root.scrollWidth,
              dead: links.map(a => a.hash).filter(h => !document.getElementById(h.slice(1))),
            }));"""
        )
        assert found["images"] >= images and found["broken"] == []
        assert found["width"] == width and found["needed"] <= width, found
        assert found["dead"] == []
        assert schemes <= {"file", "data"} and "file" in schemes
        assert browser.get_log("browser") == []


def test_report(browser, workdir, tmp_path_factory):
    check_page(browser, reports.digits_page(workdir, tmp_path_factory.getbasetemp()), 25)


def test_report_with_unusual_names(browser, tmp_path_factory):
    check_page(browser, reports.strange_page(tmp_path_factory.getbasetemp()), 25)


def test_clips_play_unless_motion_is_reduced(browser, tmp_path_factory):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    page = reports.clips_page(tmp_path_factory.getbasetemp())
    check_page(browser, page, 16)

    def open_first(preference: str) -> tuple:
        features = [{"name": "prefers-reduced-motion", "value": preference}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        assert open_page(browser, page, 1280) <= {"file", "data"}
        image = browser.find_element(By.CSS_SELECTOR, "picture img")
        browser.execute_script("arguments[0].scrollIntoView()", image)
        source = browser.execute_script("return arguments[0].currentSrc", image)
        return image, source.partition(";")[0]

    image, kind = open_first("no-preference")
    first = image.screenshot_as_png
    assert kind == "data:image/webp"
    WebDriverWait(browser, 30).until(lambda _: image.screenshot_as_png != first)
    assert open_first("reduce")[1] == "data:image/png"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_audit(browser, tmp_path, tmp_path_factory):
    """An audit of data with unusual names."""
    from imgcls.audit.__main__ import main

    data = reports.strange_data(tmp_path_factory.getbasetemp())
    assert exit_code(lambda: main([f"--data={data}", f"--out={tmp_path}"])) == 1
    check_page(browser, tmp_path / "audit.html", 10)


def write_bad_page(folder: pathlib.Path) -> pathlib.Path:
    path = folder / "bad.html"
    path.write_text(
        '<!doctype html><meta name="viewport" content="width=device-width"><img alt="gone" '
        'src="gone.png"><a href="#none">x</a><div style="width: 2000px">wide</div>'
        "<script>console.error(1)</script>"
    )
    return path


def test_bad_page_fails(browser, tmp_path):
    """The checks above can fail."""
    page = write_bad_page(tmp_path)
    with pytest.raises(AssertionError, match="gone"):
        check_page(browser, page, 1)
    assert open_page(browser, page, 390) == {"file"}
    assert len(browser.get_log("browser")) == 2
    assert browser.execute_script("return document.scrollingElement.scrollWidth") > 390
