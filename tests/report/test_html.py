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


def frames_of(uri: str) -> tuple[list[np.ndarray], dict]:
    kind, data = decode(uri)
    image = Image.open(io.BytesIO(data))
    assert kind == "image/webp" and image.is_animated and image.info["loop"] == 0
    frames, shown = [], []
    for number in range(image.n_frames):
        image.seek(number)
        frames.append(np.asarray(image.convert("RGB")))
        shown.append(image.info["duration"])
    return frames, {"size": image.size, "durations": shown}


def test_animations():
    """Twelve of 30 frames, from the first to the last; each shows its brightness."""
    levels = np.arange(30, dtype=np.uint8) * 8
    clip = np.broadcast_to(levels[:, None, None, None], (30, 40, 60, 3))
    uri = html.animation_uri(clip, 160, 100_000)
    assert uri is not None
    frames, info = frames_of(uri)
    assert info == {"size": (60, 40), "durations": [160] * 12}
    chosen = np.linspace(0, 29, 12).round().astype(int)
    np.testing.assert_allclose([f.mean() for f in frames], levels[chosen], atol=4)
    # Of one channel, and of more than three.
    for channels in (1, 5):
        assert html.animation_uri(clip[..., :1].repeat(channels, -1), 160, 100_000)


def test_animations_are_bounded():
    noise = np.random.default_rng(0).integers(0, 256, (20, 300, 400, 3)).astype(np.uint8)
    sizes = []
    for largest in (10**7, 80_000, 20_000):
        uri = html.animation_uri(noise, 160, largest)
        assert uri is not None
        frames, info = frames_of(uri)
        sizes.append((len(frames), len(decode(uri)[1])))
        assert info["size"] == (160, 120) and sizes[-1][1] <= largest
    assert sizes[0][0] == 12 and sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3
    # Too large in any case; one frame; nothing moves.
    assert html.animation_uri(noise, 160, 1_000) is None
    assert html.animation_uri(noise[:1], 160, 10**7) is None
    assert html.animation_uri(noise[:1].repeat(9, 0), 160, 10**7) is None


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
