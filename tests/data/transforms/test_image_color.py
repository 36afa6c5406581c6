"""Color transforms against Pillow, NumPy and the color circle."""

import colorsys

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from imgcls.data.transforms import image as image_transforms
from tests.data.transforms.test_image import Top, apply, checksum, noise

ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


class Bottom(Top):
    def uniform(self, low, high):
        return low


@pytest.mark.parametrize("name", ENHANCERS)
@pytest.mark.parametrize("strength", [0.4, 1.5])
def test_color_jitter_equals_pillow(name, strength):
    image = noise(20, 25)
    expected = ENHANCERS[name](Image.fromarray(image)).enhance(1 + strength)
    result = image_transforms.color_jitter(**{name: strength})(image, Top())
    np.testing.assert_array_equal(result, np.asarray(expected))


def test_color_jitter_factors_end_at_zero():
    image = noise(20, 25)
    flat = image_transforms.color_jitter(contrast=1.5)(image, Bottom())
    assert len(np.unique(flat)) == 1  # not the negative that a factor of -0.5 would give


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 1, 3)])
def test_color_jitter_applies_all_in_the_drawn_order(order):
    image = noise(20, 25)
    expected = Image.fromarray(image)
    for i in order[:3]:
        expected = list(ENHANCERS.values())[i](expected).enhance(1.5)
    result = image_transforms.color_jitter(0.5, 0.5, 0.5)(image, Top(order))
    np.testing.assert_array_equal(result, np.asarray(expected))


def test_color_jitter_draws_factors_and_probability():
    image = np.full((4, 4, 3), 100, np.uint8)
    levels = np.array([apply("color_jitter(0.4)", image, seed)[0, 0, 0] for seed in range(300)])
    assert 60 <= levels.min() < 64 and 136 < levels.max() <= 140 and abs(levels.mean() - 100) < 4
    kept = sum((apply("color_jitter(0.4, p=0.25)", image, s) == image).all() for s in range(300))
    assert 200 < kept < 255


@pytest.mark.parametrize("shift", [0.05, 0.25, 0.5])
def test_hue_rotates_the_color_circle(shift):
    image = noise(20, 20)
    result = image_transforms.color_jitter(hue=shift)(image, Top())
    expected = []
    for rgb in image.reshape(-1, 3) / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
        expected.append(colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value))
    error = np.abs(result.reshape(-1, 3) - 255 * np.array(expected))
    assert error.mean() < 1 and error.max() < 12  # 8-bit HSV


def test_grayscale_equals_pillow():
    image = noise(20, 25)
    luma = np.asarray(Image.fromarray(image).convert("L"))
    np.testing.assert_array_equal(apply("grayscale(1)", image), np.stack([luma] * 3, -1))
    grey = noise(20, 25, 1)
    np.testing.assert_array_equal(apply("grayscale(1)", grey), grey)
    greyed = sum((apply("grayscale(0.2)", image, seed) != image).any() for seed in range(300))
    assert 40 < greyed < 80


def blurred(image, sigma):
    """Separable Gaussian blur up to 3 sigma, with borders reflected without repeating the edge."""
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    result = image.astype(float)
    for axis in (0, 1):
        pad = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(result, pad, mode="reflect")
        length = image.shape[axis]
        result = sum(
            w * np.take(padded, np.arange(i, i + length), axis) for i, w in enumerate(weights)
        )
    return result


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_gaussian_blur(sigma, channels):
    image = noise(30, 25, channels)
    result = apply(f"gaussian_blur(1, sigma=({sigma}, {sigma}))", image)
    assert np.abs(result - blurred(image, sigma)).max() < 2


def test_gaussian_blur_draws_sigma_and_probability():
    image = noise(30, 30)
    strength = [apply("gaussian_blur(1)", image, seed).std() for seed in range(50)]
    weakest, strongest = blurred(image, 2.0).std(), image.std()
    assert weakest - 1 < min(strength) < weakest + 3
    assert max(strength) > strongest - 2
    kept = sum((apply("gaussian_blur(0.5)", image, s) == image).all() for s in range(200))
    assert 80 < kept < 150  # a small sigma does not change the image either


@pytest.mark.parametrize("threshold", [0, 100, 128, 256])
def test_solarize(threshold):
    image = noise(20, 25)
    expected = np.where(image < threshold, image, 255 - image)
    np.testing.assert_array_equal(apply(f"solarize(1, {threshold})", image), expected)
    np.testing.assert_array_equal(apply(f"solarize(0, {threshold})", image), image)


def test_three_augment_draws_one_of_three():
    image = noise(20, 25)
    known = {checksum(apply(call, image)): call for call in ("grayscale(1)", "solarize(1)")}
    drawn = [known.get(checksum(apply("three_augment", image, s)), "blur") for s in range(300)]
    for call in ("grayscale(1)", "solarize(1)", "blur"):
        assert 75 < drawn.count(call) < 125
