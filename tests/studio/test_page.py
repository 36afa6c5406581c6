"""The page as a person uses it: upload, classes, tags one by one and in bulk, undo, redo."""

import pathlib

import pytest

from tests.studio import browse
from tests.studio.browse import Page, Studio, until

pytestmark = pytest.mark.skipif(
    not (browse.CHROMIUM and browse.DRIVER), reason="needs chromium and chromedriver on the PATH"
)
CLASSES = {"airplane": 100, "cat": 100, "ship": 60, "truck": 40}


@pytest.fixture(scope="module")
def pictures(shared_data, tmp_path_factory) -> pathlib.Path:
    """300 images of CIFAR-10, whose names begin with their class."""
    folder = tmp_path_factory.mktemp("pictures")
    browse.unpack_cifar10(shared_data / "cifar10_jpg.zip", folder, CLASSES)
    return folder


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    server = Studio(tmp_path_factory.mktemp("studio") / "home")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def page(studio):
    with browse.open_browser() as driver:
        yield Page(driver, studio.url)


def upload(page: Page, files: list[pathlib.Path]) -> None:
    """Chooses files in the dialog of the browser and waits until they are there."""
    page.driver.execute_cdp_cmd("Page.setInterceptFileChooserDialog", {"enabled": True})
    page.click(".images-list header .button", "Upload")
    page.click(".menu-item", "Files")
    field = until(
        lambda: page.driver.find_elements("css selector", "input[type=file]"), "a file field"
    )[-1]
    field.send_keys("\n".join(map(str, files)))
    page.find(".upload strong", "Uploaded", 120)


def counts(studio: Studio) -> dict:
    """`{class name: images}` of the data set, and "untagged"."""
    info = studio.call("GET", "/api/datasets/1")
    names = {str(c["id"]): c["name"] for c in studio.call("GET", "/api/datasets/1/classes")}
    found = {names[key]: count for key, count in info["by_class"].items()}
    return found | {"untagged": info["untagged"]}


def image_named(studio: Studio, name: str) -> dict:
    """The image of a name, with all that is said of it."""
    (number,) = studio.call("GET", f"/api/datasets/1/ids?text={name}")["ids"]
    return studio.call("GET", f"/api/images/{number}")


def test_the_story(page, studio, pictures):
    """Upload 300 images, four classes, ten tags by key, the rest in bulk, undo and redo."""
    page.size(1280)
    page.open("/")
    page.click(".button", "New data set")
    page.type("dialog input[name=name]", "Things")
    page.press("ENTER")
    page.find(".empty h2", "No images yet")
    upload(page, sorted(pictures.iterdir()))
    page.find(".images-list .count", "300 images")
    until(lambda: len(page.all(".cell img.loaded")) > 20, "pictures in the grid")
    create_classes(page, studio)
    tag_at_the_image(page, studio)
    tag_by_keyboard(page, studio)
    tag_in_bulk(page, studio)
    undo_and_redo(page, studio)
    assert page.errors() == []


def create_classes(page: Page, studio: Studio) -> None:
    """Three at once from a pasted list, one of them with an attribute."""
    page.click(".tab", "Classes")
    page.click("header .button", "Add classes")
    page.type("dialog textarea", "airplane\ncat: small ones\nship\n")
    page.click("dialog .button", "Create")
    page.find(".table .link", "airplane")
    classes = studio.call("GET", "/api/datasets/1/classes")
    assert [(c["name"], c["hotkey"], c["description"]) for c in classes] == [
        ("airplane", "1", ""),
        ("cat", "2", "small ones"),
        ("ship", "3", ""),
    ]
    page.click(".table .link", "cat")
    page.click("dialog .button", "Add an attribute")
    page.type(".attribute-title", "looks")
    page.type(".attribute-options", "left, right")
    page.click("dialog footer .button", "Save")
    page.find(".table td", "looks (one of left, right)")


def tag_at_the_image(page: Page, studio: Studio) -> None:
    """A class is created at an image; an attribute and a text are given."""
    page.click(".tab", "Images")
    page.type(".search input", "truck_0000")
    page.find(".images-list .count", "1 image")
    page.press("ESCAPE")
    page.run("document.querySelector('.grid').focus()")
    page.press("ENTER")
    page.find(".view .stage-picture.ready")
    page.type(".panel-find input", "truck")
    page.press("ENTER")
    page.find(".class-row[aria-pressed=true]", "truck")
    page.saved()
    truck = image_named(studio, "truck_0000")
    assert len(truck["labels"]) == 1 and truck["status"] == "done"
    page.press("ESCAPE", "ESCAPE")
    page.type(".search input", "cat_0000")
    until(lambda: "cat_0000" in page.text(".cell"), "the cat")
    page.press("ESCAPE")
    page.run("document.querySelector('.grid').focus()")
    page.press("ENTER", "2")
    page.click(".option", "left")
    page.find(".option[aria-pressed=true]", "left")
    page.type(".attributes textarea", "a kitten")
    page.press("TAB")
    page.saved()
    (tag,) = image_named(studio, "cat_0000")["mine"]["tags"].values()
    assert tag["text"] == "a kitten" and list(tag["attributes"].values()) == ["left"]


def tag_by_keyboard(page: Page, studio: Studio) -> None:
    """Ten images by key, each of which brings the next."""
    page.open("/d/1/images?sort=name&untagged=1")
    page.find(".images-list .count", "298 images")
    page.run("document.querySelector('.grid').focus()")
    page.press("ENTER")
    page.find(".view .stage-picture.ready")
    page.click(".view .check")
    for place in range(10):
        until(lambda n=place: f"airplane_{n:04d}" in page.text(".view-name"), "the next")
        page.press("1")
    page.saved()
    assert counts(studio)["airplane"] == 10
    page.press("ESCAPE")
    assert page.all(".view") == []


def tag_in_bulk(page: Page, studio: Studio) -> None:
    """All that match a text and are untagged get a class by its key."""
    for key, name in enumerate(CLASSES, 1):
        page.open(f"/d/1/images?untagged=1&text={name}_")
        left = CLASSES[name] - {"airplane": 10, "cat": 1, "truck": 1}.get(name, 0)
        page.find(".images-list .count", f"{left} images")
        page.press("CONTROL+a")
        page.find(".bulk-count", f"All {left} selected")
        page.press(str(key))
        page.find(".toast", f"Tagged as {name}: {left} images")
    page.saved()
    assert counts(studio) == {**CLASSES, "untagged": 0}


def undo_and_redo(page: Page, studio: Studio) -> None:
    """The last action was on 39 images."""
    page.find(".empty h2", "No image matches")
    page.press("CONTROL+z")
    page.find(".toast", "Undid")
    assert counts(studio) == {**CLASSES, "truck": 1, "untagged": 39}
    page.find(".images-list .count", "39 images")
    page.press("CONTROL+SHIFT+z")
    page.find(".toast", "Did again")
    assert counts(studio) == {**CLASSES, "untagged": 0}
