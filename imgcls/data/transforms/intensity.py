"""Transforms of the values of a volume on the host: `fn(volume, rng) -> volume`, `[D, H, W, C]`.

They take values from 0 to 255, as the transforms of `values.py` give them. The dtype is kept, with
rounding if it is uint8; int16 becomes float32. No transform moves a voxel or modifies its input.
"""

import numpy as np

from imgcls.data.transforms import spec
from imgcls.data.transforms.resampling import by_channel, cast
from imgcls.data.transforms.transform import Transform, register_volume_transform
from imgcls.data.transforms.volume import Size3D, check_sides


@register_volume_transform("noise3d")
def noise3d(std: float | tuple[float, float] = (0.0, 10.0), p: float = 1.0) -> Transform:
    """Adds Gaussian noise.

    Args:
      std: standard deviation in units of 0 to 255, or a range from which it is drawn uniformly.
      p: probability.
    """
    low, high = _range("std", std, 0)
    spec.check_number("p", p, 0, 1)

    def transform(volume, rng):
        if rng.random() >= p:
            return volume
        noise = rng.standard_normal(volume.shape, np.float32) * np.float32(rng.uniform(low, high))
        return cast(volume + noise, volume.dtype)

    return transform


@register_volume_transform("brightness3d")
def brightness3d(factor: float | tuple[float, float] = (0.8, 1.2)) -> Transform:
    """Multiplies all values by a factor, or by one drawn uniformly from a range."""
    low, high = _range("factor", factor, 0)

    def transform(volume, rng):
        return cast(volume * np.float32(rng.uniform(low, high)), volume.dtype)

    return transform


@register_volume_transform("gamma3d")
def gamma3d(gamma: float | tuple[float, float] = (0.7, 1.5), p: float = 1.0) -> Transform:
    """Maps each value v to 255 (v / 255)^gamma: below 1 brighter, above 1 darker.

    Args:
      gamma: exponent, or a range from which it is drawn uniformly in the logarithm.
      p: probability.
    """
    limits = np.log(_range("gamma", gamma, 0.01, 100))
    spec.check_number("p", p, 0, 1)

    def transform(volume, rng):
        if rng.random() >= p:
            return volume
        exponent = np.float32(np.exp(rng.uniform(*limits)))
        if volume.dtype == np.uint8:
            return _power(np.arange(256), exponent, volume.dtype)[volume]
        return _power(volume, exponent, volume.dtype)

    return transform


def _power(values: np.ndarray, exponent: np.float32, dtype: np.dtype) -> np.ndarray:
    # Values a little below 0, as of cubic interpolation, have no power.
    scaled = np.maximum(values.astype(np.float32) / 255, 0)
    return cast(255 * scaled**exponent, dtype)


@register_volume_transform("bias_field3d")
def bias_field3d(strength: float = 0.3, order: int = 3, p: float = 1.0) -> Transform:
    """Multiplies by a smooth field, as the coils of an MRI scanner do.

    The field is exp(P), with a polynomial P of the position, -1 to 1 along each axis (Van Leemput
    et al. 1999, IEEE TMI 18(10)). Its channels have the same field.

    Args:
      strength: the coefficient of each term is uniform in [-strength, strength]. There is no
        constant term: values at the center stay.
      order: largest degree of a term, 1 to 6.
      p: probability.
    """
    spec.check_number("strength", strength, 0, 10)
    spec.check_choice("order", order, range(1, 7))
    spec.check_number("p", p, 0, 1)
    degrees = np.indices((order + 1,) * 3).sum(0)
    terms = (degrees > 0) & (degrees <= order)

    def transform(volume, rng):
        if rng.random() >= p:
            return volume
        coefficients = rng.uniform(-strength, strength, terms.shape) * terms
        x, y, z = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in volume.shape[:3])
        field = np.exp(np.polynomial.polynomial.polygrid3d(x, y, z, coefficients))
        return cast(volume * field[..., None].astype(np.float32), volume.dtype)

    return transform


@register_volume_transform("blur3d")
def blur3d(sigma: float | tuple[float, float] = (0.0, 1.0), p: float = 1.0) -> Transform:
    """Blurs by a Gaussian; edges are repeated.

    Args:
      sigma: standard deviation in voxels, or a range from which it is drawn uniformly.
      p: probability.
    """
    low, high = _range("sigma", sigma, 0, 100)
    spec.check_number("p", p, 0, 1)

    def transform(volume, rng):
        from scipy import ndimage

        if rng.random() >= p:
            return volume
        width = rng.uniform(low, high)
        return by_channel(volume, lambda x: ndimage.gaussian_filter(x, width, mode="nearest"))

    return transform


@register_volume_transform("cutout3d")
def cutout3d(size: Size3D, count: int = 1, value: int = 0, p: float = 1.0) -> Transform:
    """Sets boxes of the volume to one value.

    DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552, but the boxes are always completely
    inside the volume. They may overlap.

    Args:
      size: side, or (D, H, W), of each box; a longer one is cut to the volume.
      count: number of boxes.
      value: the value, 0 to 255.
      p: probability.
    """
    sides = check_sides(size)
    spec.check_integer("count", count, 1)
    spec.check_number("value", value, 0, 255)
    spec.check_number("p", p, 0, 1)

    def transform(volume, rng):
        if rng.random() >= p:
            return volume
        volume = volume.copy()
        for _ in range(count):
            rooms = [max(0, n - side) for n, side in zip(volume.shape, sides, strict=False)]
            first = [int(rng.integers(room + 1)) for room in rooms]
            volume[tuple(slice(i, i + side) for i, side in zip(first, sides, strict=True))] = value
        return volume

    return transform


def _range(name: str, value, low: float, high: float = np.inf) -> tuple[float, float]:
    """A number as a range of one value, or the range itself, checked."""
    pair = (value, value) if isinstance(value, int | float) else value
    spec.check_range(name, pair, low, high)
    return pair
