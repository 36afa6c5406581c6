"""Embedded images and charts, and the filters of the templates."""

import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from imgcls.report import html


def decode(uri: str) -> tuple[str, bytes]:
    """Returns media type and data of a data URI."""
    head, _, data = uri.partition(",")
    assert head.startswith("data:") and head.endswith(";base64")
    return head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(data)


@pytest.mark.parametrize("shape", [(40, 30, 3), (40, 30, 1), (40, 30)])
def test_small_images_are_exact(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    kind, data = decode(html.image_uri(image, 160))
    assert kind == "image/png"
    expected = image[..., 0] if shape[2:] == (1,) else image
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), expected)


def test_large_images_are_shrunk():
    kind, data = decode(html.image_uri(np.zeros((300, 600, 3), np.uint8), 160))
    assert kind == "image/jpeg" and Image.open(io.BytesIO(data)).size == (160, 80)


def test_text_of_charts_is_unchanged():
    def draw() -> str:
        figure = Figure()
        figure.add_subplot(title="$x^{$", xlabel="<b>&amp;")
        return html.chart_uri(figure)

    kind, data = decode(draw())
    assert kind == "image/svg+xml" and draw() == draw()
    text = "".join(ET.fromstring(data).itertext())
    assert "$x^{$" in text and "<b>&amp;" in text


def test_filters():
    filters = html._templates().filters
    counted, percent = filters["counted"], filters["percent"]
    assert [counted(n, "image") for n in (0, 1, 1234)] == ["0 images", "1 image", "1,234 images"]
    assert counted(1234567) == "1,234,567"
    assert [percent(x) for x in (0, 0.1236, 1)] == ["0.0%", "12.4%", "100.0%"]
