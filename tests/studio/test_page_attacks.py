"""Code in names, texts and comments, in a browser: it is shown as text, and nothing of it runs."""

import pathlib

import pytest

from tests.studio import browse
from tests.studio.browse import Page, Studio
from tests.studio.pictures.test_uploads import png

pytestmark = pytest.mark.skipif(
    not (browse.CHROMIUM and browse.DRIVER), reason="needs chromium and chromedriver on the PATH"
)
XSS = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
WORDS = """return document.body.innerText
    + [...document.querySelectorAll('input,textarea')].map(e => e.value).join()"""
MARKUP = "return document.querySelectorAll('[onerror],script:not([src]),img[src=x]').length"


@pytest.fixture
def studio(tmp_path):
    server = Studio(tmp_path / "home")
    yield server
    server.stop()


def fill(studio: Studio, folder: pathlib.Path) -> int:
    """Puts code into every text; returns the image."""
    studio.call("POST", "/api/datasets", {"name": XSS})
    attribute = {"name": XSS, "kind": "choice", "options": [XSS, "other"]}
    new = {"name": XSS, "description": XSS, "attributes": [attribute]}
    (c,) = studio.call("POST", "/api/datasets/1/classes", {"classes": [new]})["ids"]
    file = folder / XSS.replace("/", "")
    file.write_bytes(png(3, 64))
    (image,) = browse.upload(studio, 1, [file])["added"]
    tag = {str(c): {"text": XSS, "attributes": {}}}
    items = [{"image": image, "add": tag, "comment": XSS}]
    studio.call("POST", "/api/datasets/1/answers", {"items": items})
    studio.call("POST", "/api/datasets/1/versions", {"name": XSS})
    return image


def test_code_in_texts_is_shown_as_text(studio, tmp_path):
    image = fill(studio, tmp_path)
    with browse.open_browser() as driver:
        page = Page(driver, studio.url)
        for path, css in (
            ("/", "main"),
            ("/d/1/images", ".cell img.loaded"),
            (f"/d/1/images/{image}", "main"),
            ("/d/1/classes", "main"),
            ("/d/1/train", "main"),
            (f"/d/1/{XSS}?text={XSS}", "body"),
        ):
            page.open(path)
            page.find(css)
            page.run("return new Promise(done => setTimeout(done, 300))")
            assert page.run("return document.title") != "owned", path
            assert page.run(MARKUP) == 0, path
            if css == "main":
                assert "<img src=x onerror=" in page.run(WORDS), path
            # A policy that had to stop something would have said so.
            assert not [line for line in page.errors() if "Content Security" in line], path
