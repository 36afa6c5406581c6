"""Contents of the page, also in a browser."""

import base64
import dataclasses
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from imgcls.audit import checks, page, shortcuts
from imgcls.audit.charts import spread
from tests.audit.planted import tanks
from tests.report.test_browser import browser, check_page  # noqa: F401
from tests.report.test_browser import pytestmark as needs_browser

NAMES = ("<script>alert(1)</script>", "_under $x^{$")


@pytest.fixture(scope="module")
def audit(shared_data):
    """An audit of `tanks` with a copy, a broken file and metadata, under unusual names."""
    source = tanks(shared_data, ("cat", "dog"), 300, 0.9, 0)
    images = [*source.images[:-2], source.images[0], b"\xff\xd8"]
    names = tuple(
        f"/data/{'zoo' if y else '<b>home'}/{i}.jpg" for i, y in enumerate(source.targets)
    )
    places = tuple({"hue&cry": "ab"[y]} for y in source.targets)
    more = dict(images=images, names=names, metadatas=places, class_names=NAMES)
    return checks.run_checks("folder:<i>", {"train": dataclasses.replace(source, **more)})


def test_page_shows_the_findings(audit):
    shown = page.write(audit)
    for section in ("findings", "data", "shortcuts", "duplicates", "label_errors", "reading"):
        assert f'id="{section}"' in shown
    assert "brightness alone predicts the class" in shown
    assert "metadata: hue&amp;cry alone predicts" in shown
    assert "with different labels" in shown
    assert "<script>alert" not in shown and "<i>" not in shown and "<b>home" not in shown
    # A chart, and the images with the lowest and highest values.
    assert shown.count('by class"') >= 2 and "Lowest" in shown and "Highest" in shown


@needs_browser
def test_in_a_browser(audit, browser, tmp_path):  # noqa: F811
    (tmp_path / "audit.html").write_text(page.write(audit), encoding="utf-8")
    check_page(browser, tmp_path / "audit.html", 60)


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_charts(classes):
    rng = np.random.default_rng(0)
    targets = np.eye(classes, dtype=bool)[rng.integers(0, classes, 200)]
    targets[:3] = False
    numbers = rng.normal(size=200)
    numbers[5:9] = np.nan
    names = tuple(f"{NAMES[i % 2]}{i}" for i in range(classes))
    drawn = set()
    for name, values in {
        "brightness": numbers,
        "hue": rng.random(200) * 360,
        "same": np.ones(200),
        "folder": rng.choice(["", "<b>", "$"], 200),
    }.items():
        prop = shortcuts.Property(name, values, binned=None)
        chart = spread(prop, targets, names)
        assert chart.startswith("data:image/svg+xml;base64,")
        assert chart == spread(prop, targets, names)
        drawn.add(chart)
    assert len(drawn) == 4


def test_charts_with_names_that_xml_does_not_allow():
    prop = shortcuts.Property("folder", np.array(["a\x07", "b"] * 4), binned=None)
    chart = spread(prop, np.eye(2, dtype=bool)[[0, 1] * 4], ("nul\x00", "plain"))
    text = "".join(ET.fromstring(base64.b64decode(chart.partition(",")[2])).itertext())
    assert "nul\N{REPLACEMENT CHARACTER}" in text and "a\N{REPLACEMENT CHARACTER}" in text
