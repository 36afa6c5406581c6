"""Functions of the commands in Python, and how their results show themselves in a notebook."""

import html.parser
import json

import numpy as np
import pytest
from PIL import Image

import imgcls
from imgcls.core.errors import ConfigError
from tests.make import draw_pictures, save_run

CLASSES = ("<b>dark</b>", "light & blue")


class Texts(html.parser.HTMLParser):
    """The texts and the tags of a page; fails on a tag that is not closed."""

    def __init__(self, page: str):
        super().__init__()
        self.texts, self.tags, self._open = [], [], []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag != "img":
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i, pixels in enumerate(draw_pictures(30)):
        split, name = ("train", "test")[i % 2], CLASSES[i % 3 == 0].replace("/", "_")
        path = folder / split / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, pictures):
    classes = tuple(sorted(name.replace("/", "_") for name in CLASSES))
    return imgcls.load(save_run(tmp_path_factory.mktemp("run"), classes).workdir)


def test_predictions_show_their_pictures(run):
    """Cards with the picture and a bar for each class; arrays and unreadable images too."""
    images = [*draw_pictures(3), b"no image"]
    predictions = run.predict(images, on_error="skip")
    assert [p is None for p in predictions] == [False, False, False, True]
    page = Texts(predictions._repr_html_())
    assert page.tags.count("img") == 3 and "can't be read" in page.texts
    first = predictions[0]
    assert f"{100 * first.scores[first.labels[0]]:.1f}% {first.labels[0]}" in page.texts
    many = run.predict(np.repeat(draw_pictures(1), 30, axis=0))
    page = Texts(many._repr_html_())
    assert page.tags.count("img") == 24 and "and 6 more" in page.texts


def test_evaluate_gives_what_the_command_prints(run, pictures, command):
    """The numbers of the JSON, and a table with the confusion matrix."""
    data = {"data.source": f"folder:{pictures}", "evaluators.test.split": "test"}
    found = imgcls.evaluate(run.workdir, bootstrap=50, **data)
    flags = [f"--config.{key}={value}" for key, value in data.items()]
    done = command("evaluate", f"--workdir={run.workdir}", "--bootstrap=50", *flags, devices=8)
    assert found.metrics == json.loads(done.stdout)
    page = Texts(found._repr_html_())
    assert {"test", "macro_f1", "<b>dark<_b>"} <= set(page.texts)
    cells = [str(count) for row in found.summaries["test"].confusion.tolist() for count in row]
    assert all(cell in page.texts for cell in cells if cell != "0")
    with pytest.raises(ConfigError, match="config.model.name: belongs to the checkpoint"):
        imgcls.evaluate(run.workdir, **{"model.name": "vit"})


def test_report_audit_and_export(run, pictures, tmp_path):
    """Each writes the command's files, and says what it found."""
    report = run.report(out=tmp_path / "r.html", **{"data.source": f"folder:{pictures}"})
    assert report.path.read_text().startswith("<!doctype html>")
    assert report._repr_html_().startswith("<iframe sandbox")
    with pytest.raises(ConfigError, match="config.seed: is fixed by the checkpoint"):
        imgcls.report(run.workdir, seed=3)

    audit = imgcls.audit(f"folder:{pictures}", tmp_path / "audit", splits=["train"])
    assert (tmp_path / "audit" / "audit.html").is_file() and len(audit.images) == 15
    assert {f.text for f in audit.findings} <= set(Texts(audit._repr_html_()).texts)
    file = imgcls.export(run.workdir, tmp_path / "export", "stablehlo")
    assert file.name == "model.stablehlo" and file.stat().st_size > 1000
    with pytest.raises(ConfigError, match="format='stablehl': unknown; did you mean 'stablehlo'"):
        imgcls.export(run.workdir, tmp_path / "export", "stablehl")


def test_packages_are_functions_and_packages():
    """`imgcls.train` is called, and modules are still imported from it."""
    from imgcls.train.loop import train

    assert imgcls.train.loop.train is train  # pyright: ignore[reportFunctionMemberAccess]
    assert all(callable(getattr(imgcls, name)) for name in imgcls.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        getattr(imgcls, "trian")  # noqa: B009
