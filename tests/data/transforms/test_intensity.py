"""Transforms of the values of volumes, against loops, formulas and their statistics."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from imgcls.core.errors import ConfigError
from tests.data.transforms.test_volume import build, draw

RECIPES = (
    *("noise3d", "noise3d(5.0, p=0.5)", "gamma3d", "gamma3d(0.5, p=0.5)", "bias_field3d"),
    *("bias_field3d(0.5, order=2)", "blur3d", "blur3d(1.5, p=0.5)", "cutout3d(3)"),
    "cutout3d((2, 9, 4), count=3, value=7)",
)


def at(seed: int, skip: int) -> np.random.Generator:
    """The generator of a transform after its first `skip` numbers, such as that for `p`."""
    rng = np.random.default_rng(seed)
    rng.random(skip)
    return rng


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
@pytest.mark.parametrize("recipe", RECIPES)
def test_deterministic_in_the_generator_and_pure(recipe, dtype):
    volume, transform = draw(8, 7, 6, 2).astype(dtype), build(recipe)
    before = volume.copy()
    first, again = (transform(volume, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(volume, before)
    assert first.dtype == dtype and first.shape == volume.shape
    assert (transform(volume, np.random.default_rng(5)) != first).any()
    if "noise" not in recipe:
        alone = transform(volume[..., [1]], np.random.default_rng(3))
        np.testing.assert_array_equal(first[..., [1]], alone)


@pytest.mark.parametrize("recipe", RECIPES)
def test_float_and_8_bits_agree(recipe):
    """Up to rounding; noise of 8 bits is also clipped."""
    volume = 100 + draw(8, 7, 6, 2) // 5
    rounded, exact = (
        build(recipe)(v, np.random.default_rng(3)) for v in (volume, volume.astype(np.float32))
    )
    assert np.abs(rounded - np.clip(exact, 0, 255)).max() <= 0.501


@pytest.mark.parametrize("name", ["noise3d", "gamma3d", "bias_field3d", "blur3d", "cutout3d"])
def test_probability(name):
    volume = draw(5, 5, 5, 1)
    transform = build(f"{name}({'2, ' if name == 'cutout3d' else ''}p=0.3)")
    rng = np.random.default_rng(0)
    changed = [transform(volume, rng) is not volume for _ in range(400)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.08)


def test_noise():
    volume = np.full((32, 32, 32, 1), 128, np.uint8)
    noisy = build("noise3d(12)")(volume, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(128, abs=0.3) and noisy.std() == pytest.approx(12, abs=0.3)


def test_gamma():
    volume = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    for recipe, exponent in (("gamma3d(2.0)", 2.0), ("gamma3d((0.5, 0.5))", 0.5)):
        found = build(recipe)(volume, np.random.default_rng(0))
        expected = [round(255 * (v / 255) ** exponent) for v in range(256)]
        np.testing.assert_array_equal(found.ravel(), expected)
    transform, rng = build("gamma3d((0.5, 4.0))"), np.random.default_rng(0)
    middle = np.full((1, 1, 1, 1), 127.5, np.float32)
    exponents = [-np.log2(transform(middle, rng).item() / 255) for _ in range(500)]
    # Uniform in the logarithm: half of the exponents are below the geometric mean.
    assert 0.5 <= min(exponents) < 0.52 and 3.9 < max(exponents) <= 4.0
    assert np.mean(np.array(exponents) < np.sqrt(2)) == pytest.approx(0.5, abs=0.07)
    below = np.full((1, 1, 1, 1), -0.1, np.float32)
    assert build("gamma3d(0.5)")(below, rng).item() == 0


def test_bias_field_is_a_polynomial():
    volume = np.full((5, 4, 3, 2), 100, np.float32)
    found = build("bias_field3d(0.3, order=2)")(volume, np.random.default_rng(4))
    coefficients = at(4, skip=1).uniform(-0.3, 0.3, (3, 3, 3))
    for d, h, w in itertools.product(range(5), range(4), range(3)):
        x, y, z = (2 * i / (n - 1) - 1 for i, n in ((d, 5), (h, 4), (w, 3)))
        log = sum(
            coefficients[i, j, k] * x**i * y**j * z**k
            for i, j, k in itertools.product(range(3), repeat=3)
            if 0 < i + j + k <= 2
        )
        np.testing.assert_allclose(found[d, h, w], 100 * np.exp(log), rtol=1e-5)
    center = build("bias_field3d(1.0)")(np.full((3, 3, 3, 1), 100, np.uint8), at(0, 0))
    assert center[1, 1, 1, 0] == 100 and np.ptp(center) > 20
    flat = np.full((1, 1, 1, 1), 50, np.uint8)
    np.testing.assert_array_equal(build("bias_field3d(1.0)")(flat, at(0, 0)), flat)


def test_blur_against_scipy():
    volume = draw(9, 8, 7, 2)
    found = build("blur3d((0.5, 2.0))")(volume, np.random.default_rng(1))
    width = at(1, skip=1).uniform(0.5, 2.0)
    for channel in range(2):
        expected = volume[..., channel].astype(float)
        for axis in range(3):
            expected = ndimage.gaussian_filter1d(expected, width, axis, mode="nearest")
        assert np.abs(found[..., channel] - expected).max() <= 0.51
    still = build("blur3d(0.0)")(volume, np.random.default_rng(1))
    np.testing.assert_array_equal(still, volume)


def test_cutout_sets_one_box_inside():
    volume, rng, places = np.full((6, 5, 4, 2), 9, np.uint8), np.random.default_rng(0), []
    transform = build("cutout3d((3, 2, 4), value=200)")
    for _ in range(600):
        found = transform(volume, rng)
        cut = np.argwhere(found[..., 0] == 200)
        first, last = cut.min(0), cut.max(0)
        assert len(cut) == 24 and tuple(last - first) == (2, 1, 3)
        assert (found[..., 0] == found[..., 1]).all() and set(np.unique(found)) == {9, 200}
        places.append(tuple(first))
    counts = np.unique(places, axis=0, return_counts=True)[1]
    assert len(counts) == 4 * 4 and np.abs(counts - 600 / 16).max() < 30
    assert (build("cutout3d(99)")(volume, rng) == 0).all()
    shares = [(build("cutout3d(2, count=3)")(volume, rng) == 0).mean() for _ in range(40)]
    assert 8 / 120 <= min(shares) and max(shares) == 24 / 120


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("noise3d((3, 1))", "std="),
        ("gamma3d(0)", "gamma="),
        ("gamma3d('x')", "gamma="),
        ("bias_field3d(order=7)", "order=7"),
        ("bias_field3d(-1)", "strength=-1"),
        ("blur3d((2, 1))", "sigma="),
        ("cutout3d(0)", "size=0"),
        ("cutout3d(3, value=256)", "value=256"),
        ("cutout3d(3, count=0)", "count=0"),
        ("cutout3d(3, p=2)", "p=2"),
        ("gama3d(1)", "did you mean 'gamma3d'"),
    ],
)
def test_wrong_arguments(recipe, message):
    with pytest.raises(ConfigError, match=message):
        build(recipe)
