"""Histograms of gradients and colors, against scikit-image and by hand."""

import math

import numpy as np
import pytest

from imgcls.evaluate.hog import color_histogram, hog

# Every 27th value of skimage.feature.hog(waves(), channel_axis=-1, cells_per_block=(2, 2)) in
# scikit-image 0.26.0, rounded to six digits.
SKIMAGE = (
    0.088016,
    0.000000,
    0.000000,
    0.118182,
    0.116102,
    0.000000,
    0.000000,
    0.000000,
    0.000000,
    0.000000,
    0.000000,
    0.000000,
    0.000000,
    0.000000,
    0.073385,
    0.000000,
    0.000000,
    0.081706,
    0.084537,
    0.000000,
)


def waves() -> np.ndarray:
    rows, columns = np.mgrid[:32, :48]
    colors = [128 + 100 * np.sin(rows * 0.3 * c + columns * 0.2 + c) for c in (1, 2, 3)]
    noise = np.random.default_rng(0).normal(0, 25, (32, 48, 3))
    return np.clip(np.stack(colors, -1) + noise, 0, 255).astype(np.uint8)


def test_values_of_scikit_image():
    features = hog(waves()[None])
    assert features.shape == (1, 3 * 5 * 36)
    np.testing.assert_allclose(features[0, ::27], SKIMAGE, atol=2e-6)


def hog_by_pixel(image: np.ndarray) -> list[float]:
    """The paper's steps in plain Python, pixel by pixel."""
    height, width, channels = image.shape
    cells = np.zeros((height // 8, width // 8, 9))
    for y in range(height):
        for x in range(width):
            found = []
            for c in range(channels):
                values = image[..., c].tolist()
                dy = values[y + 1][x] - values[y - 1][x] if 0 < y < height - 1 else 0
                dx = values[y][x + 1] - values[y][x - 1] if 0 < x < width - 1 else 0
                found.append((math.hypot(dy, dx), -c, math.degrees(math.atan2(dy, dx)) % 180))
            strength, _, angle = max(found)
            cells[y // 8, x // 8, min(int(angle // 20), 8)] += strength / 64
    features = []
    for y in range(cells.shape[0] - 1):
        for x in range(cells.shape[1] - 1):
            block = cells[y : y + 2, x : x + 2].ravel()
            block = np.minimum(block / math.sqrt((block**2).sum() + 1e-10), 0.2)
            features += (block / math.sqrt((block**2).sum() + 1e-10)).tolist()
    return features


@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_by_pixel(channels):
    image = waves()[:24, 8:24, :channels]
    np.testing.assert_allclose(hog(image[None])[0], hog_by_pixel(image), atol=2e-6)


def test_an_edge_has_the_direction_of_its_gradient():
    image = np.zeros((1, 16, 16, 1), np.uint8)
    image[:, :, 8:] = 200  # The gradient points to the right: bin 0.
    (vertical,), (horizontal,) = hog(image), hog(image.swapaxes(1, 2))
    assert set(np.flatnonzero(vertical) % 9) == {0}
    assert set(np.flatnonzero(horizontal) % 9) == {4}
    # No gradient, no direction; and every block has length 1 otherwise.
    assert not hog(np.full((1, 16, 16, 3), 7, np.uint8)).any()
    assert np.linalg.norm(vertical) == pytest.approx(1, abs=1e-5)


def test_colors():
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, 0, 0] = (255, 64, 0)  # 3 * 16 + 1 * 4 + 0
    histogram = color_histogram(image)
    assert histogram.shape == (1, 64)
    assert dict(zip(np.flatnonzero(histogram[0]), histogram[0, histogram[0] > 0], strict=True)) == {
        0: pytest.approx(math.sqrt(3 / 4)),
        52: pytest.approx(1 / 2),
    }
