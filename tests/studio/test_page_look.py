"""Each view of the page at two widths, light and dark: it fits, without an error, for axe-core."""

import functools
import itertools
import pathlib
import shutil
import subprocess
import tarfile

import pytest

from tests.studio import browse
from tests.studio.browse import Page, Studio
from tests.studio.test_page_outbox import fill

pytestmark = pytest.mark.skipif(
    not (browse.CHROMIUM and browse.DRIVER), reason="needs chromium and chromedriver on the PATH"
)
AXE = "axe-core@4.10.3"
# Each view: its address, and what is clicked there.
VIEWS = {
    "data sets": ("/", []),
    "new data set": ("/", [(".button", "New data set")]),
    "grid": ("/d/1/images", []),
    "filters": ("/d/1/images?class=1&status=done", [(".filters .button", "Filter")]),
    "selection": ("/d/1/images", [(".cell", "")]),
    "nothing": ("/d/1/images?text=none", []),
    "image": ("/d/1/images/1", []),
    "classes": ("/d/1/classes", []),
    "class": ("/d/1/classes", [(".table .link", "cat")]),
    "members": ("/d/1/members", []),
    "exchange": ("/d/1/exchange", []),
    "train": ("/d/1/train/new", []),
    "docs": ("/docs", [(".call summary", "")]),
}
LOOKS = list(itertools.product((1280, 390), (False, True)))


@pytest.fixture(scope="module")
def studio(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("look")
    server = Studio(folder / "home")
    fill(server, shared_data, folder, 30)
    attributes = [{"name": "looks", "kind": "choice", "options": ["left", "right"]}]
    server.call("PATCH", "/api/classes/1", {"attributes": attributes})
    items = [{"image": n, "add": {str(1 + n // 31): {}}, "comment": "nice"} for n in range(1, 50)]
    server.call("POST", "/api/datasets/1/answers", {"items": items})
    yield server
    server.stop()


@pytest.fixture(scope="module")
def page(studio):
    with browse.open_browser() as driver:
        yield Page(driver, studio.url)


@functools.cache
def axe_core(folder: pathlib.Path) -> str:
    """The source of axe-core, fetched by npm once."""
    script = folder / f"{AXE}.js"
    if not script.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("needs npm on the PATH, to fetch axe-core")
        run = subprocess.run(
            [npm, "pack", AXE, "--silent"], cwd=folder, capture_output=True, text=True, timeout=120
        )
        if run.returncode:
            pytest.skip(f"needs the npm registry, to fetch {AXE}: {run.stderr.strip()[-200:]}")
        with tarfile.open(folder / run.stdout.strip().splitlines()[-1]) as archive:
            source = archive.extractfile("package/axe.min.js")
            assert source is not None
            script.write_bytes(source.read())
    return script.read_text()


def show(page: Page, view: str, width: int, dark: bool) -> None:
    """Opens a view and waits until it is drawn."""
    address, clicks = VIEWS[view]
    page.size(width, dark=dark)
    page.open(address)
    page.find("h1, h2")
    for css, text in clicks:
        page.click(css, text)
    page.run("return new Promise(done => setTimeout(done, 400))")


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_views_fit_and_say_nothing_to_the_console(page, width, dark):
    for view in VIEWS:
        show(page, view, width, dark)
        assert page.overflow() <= 0, view
        assert page.errors() == [], view


@pytest.mark.parametrize(("width", "dark"), LOOKS[::3])
def test_axe_finds_no_serious_violation(page, pytestconfig, width, dark):
    source = axe_core(pytestconfig.cache.mkdir("axe-core"))
    script = source + "; return axe.run({resultTypes: ['violations']})"
    found = []
    for view in VIEWS:
        show(page, view, width, dark)
        for each in page.run(script)["violations"]:
            if each["impact"] in ("serious", "critical"):
                nodes = [f"{n['html'][:160]}: {n['any'][0]['message']}" for n in each["nodes"]]
                found.append((view, each["id"], nodes[:3]))
    assert found == [], found
