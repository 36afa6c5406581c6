"""RandAugment and TrivialAugment: each operation at known magnitudes, and the draws."""

import zlib

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from imgcls.data.transforms import pixels, policies
from tests.data.transforms.test_image import noise, picture

LEVELS = [0, 0.3, 1.0, 1.5]


def run(table, name, image, m, sign=1, seed=0):
    rng = np.random.default_rng(seed)
    return pixels.to_array(table[name](pixels.to_pil(image), m, sign, rng))


def rand(name, image, m, sign=1, seed=0):
    return run(policies.RAND_OPS, name, image, m, sign, seed)


def shifted(image, dy, dx, fill):
    """The image shifted down and right, pixel by pixel."""
    result = np.full_like(image, fill)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if 0 <= y - dy < image.shape[0] and 0 <= x - dx < image.shape[1]:
                result[y, x] = image[y - dy, x - dx]
    return result


def test_the_sixteen_operations():
    assert len(policies.RAND_OPS) == 16 and len(policies.TRIVIAL_OPS) == 14


@pytest.mark.parametrize("channels", [1, 3])
def test_auto_contrast_and_equalize(channels):
    image = noise(30, 40, channels) // 3 + 60
    stretched, equalized = rand("AutoContrast", image, 0.5), rand("Equalize", image, 0.5)
    for c in range(channels):
        plane = image[..., c].astype(float)
        expected = (plane - plane.min()) * 255 / (plane.max() - plane.min())
        assert np.abs(stretched[..., c] - expected).max() <= 1
        histogram = np.bincount(image[..., c].ravel(), minlength=256)
        step = (histogram.sum() - histogram[histogram > 0][-1]) // 255
        lut = np.minimum((step // 2 + np.cumsum(histogram) - histogram) // step, 255)
        np.testing.assert_array_equal(equalized[..., c], lut[image[..., c]])


@pytest.mark.parametrize("m", LEVELS)
def test_point_operations(m):
    image = noise(20, 25)
    np.testing.assert_array_equal(rand("Invert", image, m), 255 - image)
    bits = {0: 1, 0.3: 1, 1.0: 4, 1.5: 6}[m]
    np.testing.assert_array_equal(rand("Posterize", image, m), image >> (8 - bits) << (8 - bits))
    threshold = {0: 0, 0.3: 76, 1.0: 256, 1.5: 384}[m]
    expected = np.where(image < threshold, image, 255 - image)
    np.testing.assert_array_equal(rand("Solarize", image, m), expected)
    amount = {0: 0, 0.3: 33, 1.0: 110, 1.5: 165}[m]
    expected = np.where(image < 128, np.minimum(image.astype(int) + amount, 255), image)
    np.testing.assert_array_equal(rand("SolarizeAdd", image, m), expected)


@pytest.mark.parametrize("m, factor", [(0, 0.1), (0.5, 1.0), (1.0, 1.9), (1.5, 2.8)])
def test_enhancements(m, factor):
    image = noise(20, 25)
    luma = image @ np.array([0.299, 0.587, 0.114])
    kernel_sum = sum(
        shifted(image, dy, dx, 0).astype(float) * (5 if dy == dx == 0 else 1)
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    )
    smoothed = image.astype(float)
    smoothed[1:-1, 1:-1] = kernel_sum[1:-1, 1:-1] / 13
    degenerates = {
        "Brightness": np.zeros(1),
        "Contrast": luma.mean(),
        "Color": luma[..., None],
        "Sharpness": smoothed,
    }
    for name, degenerate in degenerates.items():
        expected = np.clip(degenerate + factor * (image - degenerate), 0, 255)
        # Pillow rounds the degenerate image; the factor magnifies the error, then it truncates.
        assert np.abs(rand(name, image, m) - expected).max() <= 1 + max(1, abs(1 - factor))
        by_pillow = getattr(ImageEnhance, name)(Image.fromarray(image)).enhance(0.1 + 1.8 * m)
        np.testing.assert_array_equal(rand(name, image, m), np.asarray(by_pillow))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("channels", [1, 3])
def test_translations(sign, channels):
    image = noise(28, 56, channels)
    # At magnitude 10, 100 pixels of 224: an eighth of the side is 12.5, cut to 12.
    move = sign * 12
    np.testing.assert_array_equal(rand("TranslateY", image, 1, sign), shifted(image, move, 0, 128))
    move = sign * 25
    np.testing.assert_array_equal(rand("TranslateX", image, 1, sign), shifted(image, 0, move, 128))


@pytest.mark.parametrize("sign", [1, -1])
def test_shears(sign):
    image = noise(30, 30)
    expected = np.full_like(image, 128)
    for y in range(30):
        for x in range(30):
            source = int(np.floor(x + 0.5 + sign * 0.3 * (y + 0.5)))
            if 0 <= source < 30:
                expected[y, x] = image[y, source]
    np.testing.assert_array_equal(rand("ShearX", image, 1, sign), expected)
    by_rows = rand("ShearY", image.swapaxes(0, 1), 1, sign)
    np.testing.assert_array_equal(by_rows.swapaxes(0, 1), expected)


def test_rotate():
    image = noise(21, 21)
    np.testing.assert_array_equal(rand("Rotate", image, 3, 1), np.rot90(image))
    np.testing.assert_array_equal(rand("Rotate", image, 3, -1), np.rot90(image, -1))
    turned = rand("Rotate", image, 1)  # by 30 degrees
    np.testing.assert_array_equal(turned[0, 0], (128, 128, 128))
    np.testing.assert_array_equal(turned[10, 10], image[10, 10])


@pytest.mark.parametrize("channels", [1, 3])
def test_cutout(channels):
    image = np.zeros((56, 70, channels), np.uint8)
    places = []
    for seed in range(200):
        result = rand("Cutout", image, 1, seed=seed)
        rows, columns = np.nonzero(result[..., 0])
        assert (result[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == 128).all()
        assert 10 <= np.ptp(rows) + 1 <= 20 and 10 <= np.ptp(columns) + 1 <= 20
        places.append((rows.min(), columns.min(), rows.max(), columns.max()))
    assert len({place[:2] for place in places}) > 150
    np.testing.assert_array_equal(np.min(places, 0)[:2], (0, 0))
    np.testing.assert_array_equal(np.max(places, 0)[2:], (55, 69))
    assert not image.any()


@pytest.mark.parametrize(
    "name, strength, sign, expected",
    # CRC-32 of the pixels of torchvision 0.29.1, TrivialAugmentWide's operations at the strengths
    # 0 to 30 of its _augmentation_space(31), on picture(45, 62), nearest, no fill.
    [
        ("Identity", 3, 1, 0x776F01A8),
        ("ShearX", 10, 1, 0xF4271BD5),
        ("ShearX", 10, -1, 0x43B1F715),
        ("ShearY", 22, 1, 0xE719D577),
        ("TranslateX", 8, -1, 0xCF09BEE2),
        ("TranslateX", 30, 1, 0x2BB0401D),
        ("TranslateY", 20, 1, 0x6E73DF87),
        ("Rotate", 30, 1, 0x5C607F93),
        ("Rotate", 7, -1, 0x8C075C71),
        ("Brightness", 25, 1, 0x0F7F8065),
        ("Brightness", 25, -1, 0xBC78DA8B),
        ("Color", 30, -1, 0xBFD39C3A),
        ("Color", 12, 1, 0x18A0D617),
        ("Contrast", 17, -1, 0x1BDBA6B1),
        ("Sharpness", 30, 1, 0x35B43354),
        ("Sharpness", 30, -1, 0x3F3108AE),
        ("Posterize", 11, 1, 0x53932EFC),
        ("Posterize", 30, 1, 0x9B4086AF),
        ("Solarize", 15, 1, 0x441B9460),
        ("Equalize", 0, 1, 0xA13A5D3F),
    ],
)
def test_trivial_augment_equals_torchvision(name, strength, sign, expected):
    result = run(policies.TRIVIAL_OPS, name, picture(45, 62), strength / 30, sign)
    assert zlib.crc32(np.ascontiguousarray(result).tobytes()) == expected


def recorder(table, monkeypatch, calls):
    """Replaces the operations by ones that only record name, magnitude and sign."""
    for name in table:

        def note(image, m, sign, rng, name=name):
            calls.append((name, m, sign))
            return image

        monkeypatch.setitem(table, name, note)


def test_rand_augment_draws_uniformly(monkeypatch):
    calls = []
    recorder(policies.RAND_OPS, monkeypatch, calls)
    transform, rng = policies.rand_augment(3, 15), np.random.default_rng(0)
    for i in range(1, 801):
        transform(noise(2, 2), rng)
        assert len(calls) == 3 * i
    names = [name for name, _, _ in calls]
    for name in policies.RAND_OPS:
        assert 105 < names.count(name) < 195  # 150, with a standard deviation of 12
    assert {m for _, m, _ in calls} == {1.5}
    assert 0.45 < np.mean([sign == 1 for _, _, sign in calls]) < 0.55
    assert any(len(set(names[i : i + 3])) < 3 for i in range(0, 2400, 3))  # with replacement


def test_trivial_augment_draws_uniformly(monkeypatch):
    calls = []
    recorder(policies.TRIVIAL_OPS, monkeypatch, calls)
    transform, rng = policies.trivial_augment(), np.random.default_rng(0)
    for _ in range(1400):
        transform(noise(2, 2), rng)
    assert len(calls) == 1400
    names = [name for name, _, _ in calls]
    for name in policies.TRIVIAL_OPS:
        assert 60 < names.count(name) < 145
    strengths = {round(30 * m, 6) for _, m, _ in calls}
    assert strengths == set(range(31))
    assert 0.45 < np.mean([sign == 1 for _, _, sign in calls]) < 0.55
