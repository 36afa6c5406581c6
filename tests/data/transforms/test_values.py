"""Values and spacing of volumes: against formulas, scipy and geometry."""

import numpy as np
import pytest
from scipy import ndimage

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.loading.reader import Reader
from imgcls.data.sources.arrays import ArraySource
from imgcls.data.transforms import batch, spec
from imgcls.data.transforms.transform import TRANSFORMS


def apply(recipe: str, volume: np.ndarray) -> np.ndarray:
    (transform,) = spec.parse(recipe, TRANSFORMS, "test")
    before = volume.copy()
    result = transform(volume, np.random.default_rng(0))
    np.testing.assert_array_equal(volume, before)
    return result


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Hounsfield units; a quarter is 0."""
    rng = np.random.default_rng(seed)
    values = rng.normal(-200, 500, shape).clip(-1024, 3071).astype(np.int16)
    return np.where(rng.random(shape) < 0.25, np.int16(0), values)


@pytest.mark.parametrize(
    ("recipe", "limits"),
    [
        ("window(40, 400)", lambda v: (-160, 240)),
        ("percentiles(1, 99)", lambda v: np.percentile(v, (1, 99))),
        ("percentiles(5, 80, 'nonzero')", lambda v: np.percentile(v[v != 0], (5, 80))),
        (
            "z_score(mask='nonzero')",
            lambda v: v[v != 0].mean() + np.array([-4, 4]) * v[v != 0].std(),
        ),
        ("sigma(3)", lambda v: v.mean() + np.array([-3, 3]) * v.std()),
    ],
)
def test_against_formulas(recipe, limits):
    volume = draw(9, 8, 7, 2)
    found, rounded = apply(recipe.replace(")", ", dtype='float32')"), volume), apply(recipe, volume)
    assert found.dtype == np.float32 and rounded.dtype == np.uint8
    for channel in range(2):
        values = volume[..., channel].astype(np.float64)
        low, high = limits(values)
        expected = np.clip((values - low) / (high - low), 0, 1) * 255
        np.testing.assert_allclose(found[..., channel], expected, atol=1e-3)
        assert np.abs(rounded[..., channel] - expected).max() <= 0.501
    half = apply(recipe.replace(")", ", dtype='float16')"), volume)
    np.testing.assert_array_equal(half, found.astype(np.float16))


def test_z_scores_reach_the_model():
    """With the mean 0.5 and the deviation 1 / 8, normalization gives z-scores."""
    volume = draw(9, 8, 7, 1)
    values = apply("z_score(mask=None, clip=4, dtype='float32')", volume)
    z = (volume - volume.mean()) / volume.std()
    found = batch.normalize(values[None], (0.5,), (1 / 8,))[0]
    np.testing.assert_allclose(found, np.clip(z, -4, 4), atol=1e-4)


def test_what_8_bits_cost():
    """Tissues 0.5 HU apart: lost in a window of 2000 HU as uint8, kept as float16 and float32."""
    rng = np.random.default_rng(0)
    errors = {}
    for dtype in ("uint8", "float16", "float32"):
        a, b = (
            apply(f"window(0, 2000, dtype='{dtype}')", np.full((4, 4, 4, 1), value, np.float32))
            for value in (-900.0, -899.5)
        )
        errors[dtype] = abs(float(b.mean(dtype=float) - a.mean(dtype=float)) / 255 * 2000 - 0.5)
    assert errors["uint8"] == 0.5  # Both are the same value.
    assert errors["float16"] < 0.07 and errors["float32"] < 1e-3
    noisy = rng.uniform(-1000, 1000, (20, 20, 20, 1)).astype(np.float32)
    rms = {}
    for dtype in errors:
        values = apply(f"window(0, 2000, dtype='{dtype}')", noisy).astype(float) / 255
        rms[dtype] = np.sqrt(np.mean((values * 2000 - 1000 - noisy) ** 2))
    # Rounding to steps of 2000 / 255 HU has the error step / sqrt(12).
    assert rms["uint8"] == pytest.approx(2000 / 255 / np.sqrt(12), rel=0.02)
    assert rms["float16"] < rms["uint8"] / 10 and rms["float32"] < 1e-3


@pytest.mark.parametrize("recipe", ["percentiles(1, 99)", "z_score", "sigma(3)", "window(0, 10)"])
def test_values_that_are_not_numbers_and_constants(recipe):
    volume = draw(5, 5, 5, 1).astype(np.float32)
    clean = apply(recipe, volume[:, 1:])
    volume[:, 0] = np.nan
    found = apply(recipe, volume)
    np.testing.assert_array_equal(found[:, 1:], clean)
    assert not found[:, 0].any()
    constant = apply(recipe, np.full((2, 2, 2, 1), -7, np.int16))
    assert not constant.any()
    assert not apply(recipe, np.full((2, 2, 2, 1), np.nan, np.float32)).any()
    extreme = np.array([-3e38, 0, 3e38], np.float32).reshape(3, 1, 1, 1)
    assert apply(recipe, extreme).tolist()[0] == [[[0]]] and apply(recipe, extreme).max() == 255


@pytest.mark.parametrize(
    "recipe",
    [
        *("window(0, 0)", "window(0, -3)", "percentiles(99, 1)", "percentiles(-1, 99)"),
        *("z_score('inside')", "sigma(0)", "window(0, 1, dtype='int16')", "resample(1)"),
        *("resample((1, 1, 0))", "resample((1, 1, 1), order=7)"),
    ],
)
def test_invalid_arguments(recipe):
    with pytest.raises(ConfigError, match="test: "):
        spec.parse(recipe, TRANSFORMS, "test")


def resample(volume, old, new, order=1):
    (transform,) = spec.parse(f"resample({new}, order={order})", TRANSFORMS, "test")
    result, spacing = transform.fn(volume, old)
    assert spacing == new
    return result


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_resample_agrees_with_scipy(dtype, order):
    """Finer by whole factors, where both have the same voxels: `zoom` with grid_mode."""
    volume = draw(6, 5, 4, 2).astype(dtype)
    found = resample(volume, (2.0, 3.0, 1.0), (1.0, 1.0, 1.0), order)
    assert found.shape == (12, 15, 4, 2)
    assert found.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    for channel in range(2):
        values = volume[..., channel].astype(np.float32)
        expected = ndimage.zoom(values, (2, 3, 1), order=order, mode="nearest", grid_mode=True)
        if dtype == np.uint8:
            expected = np.clip(np.rint(expected), 0, 255)
        tolerance = 1 if dtype == np.uint8 else 0.01
        np.testing.assert_allclose(found[..., channel], expected, atol=tolerance)


@pytest.mark.parametrize("new", [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (1.0, 0.7, 1.9)])
def test_the_volume_of_a_sphere(new):
    """A ball of radius 20 mm keeps its volume to 1 %, whatever the spacing."""
    old, radius = (2.5, 0.9, 1.3), 20.0
    grid = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * s for n, s in zip((20, 56, 38), old, strict=True)),
        indexing="ij",
    )
    # Partial voxels at the surface, as a scanner sees them.
    distance = radius - np.sqrt(sum(axis**2 for axis in grid))
    ball = np.clip(distance / 1.5 + 0.5, 0, 1).astype(np.float32)[..., None]
    found = resample(ball, old, new)
    assert found.sum() * np.prod(new) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.01)
    center = ndimage.center_of_mass(found[..., 0])
    np.testing.assert_allclose(center, (np.array(found.shape[:3]) - 1) / 2, atol=1e-3)


def test_resample_is_bounded_and_exact_without_a_change():
    volume = draw(4, 4, 4, 1)
    assert resample(volume, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)) is volume
    with pytest.raises(DataError, match="more than the 268,435,456 voxels allowed"):
        resample(volume, (1.0, 1.0, 1.0), (0.001, 0.001, 0.001))


def test_values_must_be_declared_for_all_but_8_bits():
    for dtype in (np.int16, np.float32):
        volumes = draw(2, 4, 4, 4, 1).astype(dtype)
        source = ArraySource(volumes, np.zeros(2, int), ("a",))
        with pytest.raises(ConfigError, match=f"all/0 has values of type {np.dtype(dtype)} from -"):
            _ = Reader(source, spec.parse("flip3d", TRANSFORMS, "t"), 0, False).spec
        transforms = spec.parse("window(0, 100, dtype='float16')|flip3d", TRANSFORMS, "t")
        assert Reader(source, transforms, 0, False).spec["image"].dtype == np.float16
        resampled = spec.parse("resample((2, 2, 2))|window(0, 100)", TRANSFORMS, "t")
        with pytest.raises(DataError, match="all/0: states no spacing of its voxels"):
            _ = Reader(source, resampled, 0, False).spec
