"""Decisions made in the page are kept until the server has them, whatever ends in between."""

import pytest

from tests.studio import browse
from tests.studio.browse import Page, Studio, until

pytestmark = pytest.mark.skipif(
    not (browse.CHROMIUM and browse.DRIVER), reason="needs chromium and chromedriver on the PATH"
)


@pytest.fixture
def studio(shared_data, tmp_path):
    """A data set of 12 images and two classes."""
    server = Studio(tmp_path / "home")
    fill(server, shared_data, tmp_path)
    yield server
    server.stop()


def fill(server: Studio, shared_data, folder, images=6):
    """Makes the data set "Things" with images of cats and dogs."""
    server.call("POST", "/api/datasets", {"name": "Things"})
    names = [{"name": "cat"}, {"name": "dog"}]
    server.call("POST", "/api/datasets/1/classes", {"classes": names})
    wanted = {"cat": images, "dog": images}
    files = browse.unpack_cifar10(shared_data / "cifar10_jpg.zip", folder / "pictures", wanted)
    browse.upload(server, 1, files)


@pytest.fixture
def page(studio):
    with browse.open_browser() as driver:
        yield Page(driver, studio.url)


def labels(studio: Studio) -> dict[int, list[int]]:
    """`{image: its classes}` on the server."""
    ids = studio.call("GET", "/api/datasets/1/ids")["ids"]
    cells = studio.call("POST", "/api/datasets/1/cells", {"ids": ids})
    return {cell["id"]: cell["labels"] for cell in cells}


def tag(page: Page, count: int) -> None:
    """Tags images from the one with the focus on."""
    for _ in range(count):
        page.press("1", "ARROW_RIGHT")


def open_grid(page: Page) -> None:
    page.open("/d/1/images?sort=name")
    until(lambda: len(page.all(".cell .cell-name", "")) == 12, "12 cells")
    page.run("document.querySelector('.grid').focus()")


def test_a_killed_server_loses_no_decision(page, studio):
    open_grid(page)
    tag(page, 2)
    page.saved()
    studio.stop(kill=True)
    tag(page, 3)
    page.find(".save-state[data-state=offline]", "Not connected: 3 kept")
    assert len(page.all(".cell .chip", "cat")) == 5
    studio.start()
    page.saved()
    assert sum(len(each) for each in labels(studio).values()) == 5


def test_a_closed_page_sends_what_it_kept(page, studio):
    open_grid(page)
    studio.stop(kill=True)
    tag(page, 4)
    page.find(".save-state[data-state=offline]")
    page.driver.get("about:blank")
    studio.start()
    assert not any(labels(studio).values())
    page.open("/")
    page.saved()
    assert sum(len(each) for each in labels(studio).values()) == 4


def test_changes_of_others_are_shown_as_they_happen(page, studio):
    open_grid(page)
    first = studio.call("GET", "/api/datasets/1/ids?sort=name")["ids"][0]
    items = [{"image": first, "add": {"2": {}}}]
    studio.call("POST", "/api/datasets/1/answers", {"items": items})
    page.find(".cell .chip", "dog")
    # Also after the server was away.
    studio.stop()
    studio.start()
    items = [{"image": first, "add": {"1": {}}}]
    studio.call("POST", "/api/datasets/1/answers", {"items": items})
    page.find(".cell .chip", "cat")


def test_a_decision_on_a_reviewed_image_is_refused_and_taken_back(page, studio):
    open_grid(page)
    first = studio.call("GET", "/api/datasets/1/ids?sort=name")["ids"][0]
    tag(page, 1)
    page.saved()
    select = {"select": {"ids": [first]}, "action": {"approve": True}}
    page.run("window.EventSource.prototype.addEventListener = () => {}")
    studio.call("POST", "/api/datasets/1/bulk", select)
    page.press("ARROW_LEFT", "2")
    page.find(".toast.error")
    page.find(".cell .chip", "cat")
    assert labels(studio)[first] == [1]
