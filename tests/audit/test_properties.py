"""Properties of images compared with Pillow, colorsys and known images."""

import colorsys
import io

import numpy as np
import pytest
from PIL import Image

from imgcls.audit.properties import colors, jpeg_quality, sharpness
from imgcls.audit.reading import measure


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 51, 75, 90, 95, 99])
def test_jpeg_quality_equals_that_of_the_encoder(quality):
    data = io.BytesIO()
    Image.new("RGB", (16, 16)).save(data, "jpeg", quality=quality)
    table = Image.open(io.BytesIO(data.getvalue())).quantization[0]
    assert jpeg_quality(table) == quality
    assert measure(data.getvalue(), "x")["values"]["JPEG quality"] == quality


def test_colors_of_plain_images():
    known = [(200, 0, 0), (10, 220, 30), (0, 0, 255), (250, 240, 10), (30, 200, 210)]
    plain = np.array(known, np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    found = colors(plain)
    for i, color in enumerate(known):
        hue, saturation, _ = colorsys.rgb_to_hsv(*(c / 255 for c in color))
        # The two definitions of hue agree at the corners of the hexagon, and within 1.2 degrees.
        assert abs((found["hue"][i] - 360 * hue + 180) % 360 - 180) < 1.2
        np.testing.assert_allclose(found["saturation"][i], saturation, atol=1e-6)
        luma = np.dot(color, (0.299, 0.587, 0.114))
        np.testing.assert_allclose(found["brightness"][i], luma, rtol=1e-5)
        np.testing.assert_allclose(found["border"][i], color)
    np.testing.assert_allclose(found["contrast"], 0, atol=1e-3)


def test_hue_is_circular_and_gray_has_none():
    half = np.zeros((2, 8, 8, 3), np.uint8)
    half[0, :4], half[0, 4:] = (200, 0, 20), (200, 20, 0)  # on both sides of 0 degrees
    half[1] = 77
    hue = colors(half)["hue"]
    assert min(hue[0], 360 - hue[0]) < 1e-6
    assert np.isnan(hue[1])


def test_border_and_contrast():
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 1:-1, 1:-1] = 100
    found = colors(image)
    assert found["border"].tolist() == [[0, 0, 0]]
    share = 30**2 / 32**2
    np.testing.assert_allclose(found["brightness"], 100 * share, rtol=1e-5)
    np.testing.assert_allclose(found["contrast"], 100 * np.sqrt(share * (1 - share)), rtol=1e-4)


def test_sharpness():
    gray = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    p = np.pad(gray.astype(float), 1, mode="reflect")
    laplacian = p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] - 4 * p[1:-1, 1:-1]
    np.testing.assert_allclose(sharpness(gray), np.log1p(laplacian.var()), rtol=1e-5)
    assert sharpness(np.full((5, 5), 9, np.uint8)) == 0
