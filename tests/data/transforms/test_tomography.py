"""Noise and the missing wedge of electron tomography, and the factor of brightness."""

import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import TRANSFORMS


def apply(recipe: str, volume: np.ndarray, seed: int = 0) -> np.ndarray:
    (transform,) = spec.parse(recipe, TRANSFORMS, "test")
    before = volume.copy()
    result = transform(volume, np.random.default_rng(seed))
    np.testing.assert_array_equal(volume, before)
    return result


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).normal(50, 20, (16, 18, 20, 2)).astype(np.float32)


def wave(depth: int, height: int, width: int) -> np.ndarray:
    """A plane wave with so many periods along each axis of 32 voxels."""
    d, h, w = np.mgrid[:32, :32, :32] * (2 * np.pi / 32)
    return np.cos(depth * d + height * h + width * w).astype(np.float32)[..., None]


def test_missing_wedge_of_waves():
    """Waves within 30 degrees of the plane of the beam and the tilt axis are lost."""
    for periods, kept in (
        ((0, 0, 5), 1),
        ((0, 5, 0), 1),
        ((5, 0, 0), 0),
        ((5, 3, 0), 0),
        ((5, 0, 3), 1),
        ((-5, 2, 3), 1),
        ((6, 0, 3), 0),
        ((6, 7, -3), 0),
    ):
        volume = wave(*periods)
        np.testing.assert_allclose(
            apply("missing_wedge(60)", volume), kept * volume, atol=1e-5, err_msg=str(periods)
        )


def test_missing_wedge_is_a_projection(volume):
    once = apply("missing_wedge(50)", volume)
    assert once.dtype == np.float32 and once.shape == volume.shape
    np.testing.assert_allclose(apply("missing_wedge(50)", once), once, atol=1e-3)
    np.testing.assert_allclose(once.mean((0, 1, 2)), volume.mean((0, 1, 2)), rtol=1e-5)
    # The wedge has (90 - 50) / 90 of the directions of a slice, which is a square.
    lost = 1 - once.var() / volume.var()
    assert 0.3 < lost < 0.55
    np.testing.assert_allclose(apply("missing_wedge(90)", volume), volume, atol=1e-3)
    assert apply("missing_wedge", volume.astype(np.uint8)).dtype == np.uint8


@pytest.mark.parametrize("snr", [0.1, 4])
def test_noise_has_its_ratio(volume, snr):
    noise = apply(f"snr_noise3d({snr})", volume).astype(float) - volume
    assert volume.var() / noise.var() == pytest.approx(snr, rel=0.05)
    assert abs(noise.mean()) < 4 * noise.std() / np.sqrt(noise.size)
    larger = apply(f"snr_noise3d({snr})", 1000 * volume)
    np.testing.assert_allclose(larger, 1000 * (volume + noise), rtol=1e-3, atol=1)


def test_ratio_is_drawn_from_a_range(volume):
    ratios = []
    for seed in range(40):
        noise = apply("snr_noise3d((0.01, 1))", volume, seed).astype(float) - volume
        ratios.append(volume.var() / noise.var())
    assert 0.009 < min(ratios) < 0.05 and 0.3 < max(ratios) < 1.1
    assert 0.04 < np.median(ratios) < 0.25


def test_brightness(volume):
    np.testing.assert_allclose(apply("brightness3d(0.5)", volume), volume / 2, rtol=1e-6)
    found = {float((apply("brightness3d((0, 1))", volume, s) / volume).mean()) for s in range(9)}
    assert len(found) == 9 and min(found) >= 0 and max(found) <= 1
    bright = apply("brightness3d(9)", volume.astype(np.uint8))
    assert bright.dtype == np.uint8 and bright.max() == 255


@pytest.mark.parametrize(
    "recipe", ["missing_wedge(0)", "missing_wedge(91)", "snr_noise3d(0)", "brightness3d((1, 0))"]
)
def test_mistakes(recipe):
    with pytest.raises(ConfigError, match="must be"):
        spec.parse(recipe, TRANSFORMS, "test")
