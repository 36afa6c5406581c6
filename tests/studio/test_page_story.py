"""From tags to a model and back, in the page; the first half is `test_page.py`.

It takes minutes: `pytest -m slow tests/studio/test_page_story.py`.
"""

import io
import json
import pathlib
import shutil
import zipfile

import httpx
import numpy as np
import pytest

from tests.end_to_end.test_resume import final_state
from tests.studio import browse
from tests.studio.browse import Page, Studio, until
from tests.studio.test_page import upload

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (browse.CHROMIUM and browse.DRIVER),
        reason="needs chromium and chromedriver on the PATH",
    ),
]
CLASSES = {"airplane": 100, "cat": 100, "ship": 100}
KEYS = {"size": "16", "epochs": "24", "width": "16"}


@pytest.fixture
def studio(shared_data, tmp_path):
    """A data set of 300 images of three classes, all of them tagged."""
    server = Studio(tmp_path / "home")
    server.call("POST", "/api/datasets", {"name": "Things"})
    names = [{"name": name} for name in CLASSES]
    server.call("POST", "/api/datasets/1/classes", {"classes": names})
    archive = shared_data / "cifar10_jpg.zip"
    browse.upload(server, 1, browse.unpack_cifar10(archive, tmp_path / "tagged", CLASSES))
    for number, name in enumerate(CLASSES, 1):
        select = {"filter": {"text": f"{name}_"}}
        server.call("POST", "/api/datasets/1/bulk", {"select": select, "action": {"tag": [number]}})
    yield server
    server.stop()


def test_train_look_suggest_export(studio, shared_data, tmp_path, command):
    with browse.open_browser() as driver:
        page = Page(driver, studio.url)
        page.size(1280)
        train(page)
        workdir = look_at_the_run(page, studio)
        accept_suggestions(page, studio, shared_data, tmp_path)
        exported = export(page, studio, tmp_path)
        assert page.errors() == []
    train_from(exported, workdir, command, tmp_path / "again")


def train(page: Page) -> None:
    """Starts a run and watches its curve move."""
    page.open("/d/1/train/new")
    page.find("select[name=recipe]")
    for key, value in KEYS.items():
        page.type(f"input[name='argument:{key}']", value)
    page.click(".form-foot .button", "Start")
    page.find(".state.running", seconds=120)

    def points() -> int:
        drawn = "[...document.querySelectorAll('svg path')].map(p => p.getAttribute('d'))"
        paths = page.run(f"return {drawn}")
        return max((path.count("L") for path in paths if path), default=0)

    few = until(points, "a curve", 180)
    until(lambda: points() > few, "the curve moves", 180)
    page.find(".state.done", seconds=300)


def look_at_the_run(page: Page, studio: Studio) -> pathlib.Path:
    """Opens the report, and the images of a cell of the confusion matrix."""
    report = page.find(".run-actions a", "Report").get_attribute("href")
    answer = httpx.get(report)
    assert answer.is_success and "confusion" in answer.text.lower()
    driver = page.driver
    page.click(".run-actions a", "Report")
    until(lambda: len(driver.window_handles) == 2, "a tab with the report")
    driver.switch_to.window(driver.window_handles[1])
    page.find("h1")
    driver.close()
    driver.switch_to.window(driver.window_handles[0])

    matrix = studio.call("GET", "/api/runs/1/confusion")
    cell = page.find(".confusion td a")
    count = int(cell.text)
    cell.click()
    page.find(".images-list .count", f"{count} image")
    until(lambda: len(page.all(".cell")) == count, "the images of the cell")
    assert count == next(c for row in matrix["counts"] for c in row if c)
    audit_and_order(page, studio)
    page.open("/d/1/train/1")
    page.click(".run-actions .button", "Use for suggestions")
    page.find(".run-actions .button", "Suggest")
    return studio.home / "runs" / "1"


def audit_and_order(page: Page, studio: Studio) -> None:
    """The audit's page, and the order that asks for features and comes by itself."""
    page.open("/d/1/train")
    page.click("header .button", "Audit")
    page.find("h2", "Audit 2")
    page.find(".state.done", seconds=180)
    report = page.find(".run-actions a", "Report").get_attribute("href")
    assert "duplicates" in httpx.get(report).text.lower()
    page.open("/d/1/images?sort=diverse")
    page.click(".toast .button", "Compute them")
    page.find(".images-list .count", "300 images", seconds=180)
    diverse = studio.call("GET", "/api/datasets/1/ids?sort=diverse")["ids"]
    assert sorted(diverse) == studio.call("GET", "/api/datasets/1/ids")["ids"] != diverse
    # The first answer was refused, and the console says so.
    assert all("409" in line for line in page.errors())


def accept_suggestions(page: Page, studio: Studio, shared_data, folder) -> None:
    """100 new images are suggested classes, which stay suggestions until they are accepted."""
    new = {"airplane": 34, "cat": 33, "ship": 33}
    files = browse.unpack_cifar10(shared_data / "cifar10_jpg.zip", folder / "new", new, start=200)
    page.open("/d/1/images?untagged=1")
    page.find(".empty")
    upload(page, files)
    page.find(".images-list .count", "100 images")
    page.open("/d/1/train/1")
    page.click(".run-actions .button", "Suggest")
    page.click("dialog .button", "Suggest")
    until(
        lambda: (
            len(studio.call("GET", "/api/datasets/1/ids?untagged=1&confidence_min=0")["ids"]) == 100
        ),
        "suggestions",
        180,
    )
    page.open("/d/1/images?untagged=1")
    page.find(".images-list .count", "100 images")
    before = studio.call("GET", "/api/datasets/1")["untagged"]
    assert before == 100
    page.run("document.querySelector('.grid').focus()")
    page.press("CONTROL+a")
    page.click(".bulk .button, .bulk-bar .button", "Accept")
    page.type("dialog input[type=number]", "50")
    page.click("dialog footer .button", "Accept")
    page.saved()
    until(lambda: studio.call("GET", "/api/datasets/1")["untagged"] < 100, "accepted suggestions")


def export(page: Page, studio: Studio, folder: pathlib.Path) -> pathlib.Path:
    """The version of the run, as a folder with a manifest and the images."""
    page.open("/d/1/exchange")
    page.find(".table .button", "Export")
    version = studio.call("GET", "/api/runs/1")["version_id"]
    answer = httpx.get(f"{studio.url}/api/versions/{version}/export?format=manifest", timeout=60)
    assert answer.is_success
    target = folder / "exported"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(target)
    return target


def train_from(exported: pathlib.Path, workdir: pathlib.Path, command, again) -> None:
    """The command on the export, with the same arguments, ends in the same bits."""
    config = json.loads((workdir / "config.json").read_text())
    manifest = next(exported.rglob("*.csv"))
    recipe = ",".join([f"data=manifest:{manifest}", *(f"{k}={v}" for k, v in KEYS.items())])
    shutil.rmtree(again, ignore_errors=True)
    same = [f"--config.log.every={config['log']['every']}", "--config.log.tensorboard=False"]
    done = command("main", f"--config=own:{recipe}", f"--workdir={again}", *same, devices=8)
    assert done.returncode == 0, done.stderr
    arrays, expected = final_state(again), final_state(workdir)
    assert arrays.keys() == expected.keys()
    for path, array in arrays.items():
        np.testing.assert_array_equal(array, expected[path], err_msg=path)
