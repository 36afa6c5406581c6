"""Values of volumes on the host: from Hounsfield units, signals or densities to 0 to 255.

A file holds int16 or float32 of any range. One of these transforms maps the values that matter to
0 to 255 and clips the others, so that `data.mean` and `data.std`, in units of 0 to 1, and all other
transforms mean the same as for images. The result is uint8; with `dtype='float16'` or `'float32'`
it is not rounded, which takes two or four times the memory and transfer. Voxels that are not a
number become 0, and count in no statistic. A channel whose range is empty becomes 0.
"""

import math
from collections.abc import Iterator

import numpy as np

from imgcls.data.transforms import resampling, spec
from imgcls.data.transforms.transform import (
    SpacingTransform,
    Transform,
    ValueTransform,
    register_volume_transform,
)

_DTYPES = ("uint8", "float16", "float32")
# Limits beyond these would overflow float32.
_LARGEST = 1e38
_SMALLEST = 1e-30


@register_volume_transform("window", ValueTransform)
def window(center: float, width: float, dtype: str = "uint8") -> Transform:
    """Maps center - width / 2 to 0 and center + width / 2 to 255: a window of CT.

    Usual windows in Hounsfield units: lung (-600, 1500), soft tissue (40, 400), bone (400, 1800),
    brain (40, 80).

    Args:
      center: value in the middle.
      width: range of values, above 0.
      dtype: dtype of the result: uint8, float16 or float32.
    """
    spec.check_number("center", center, -math.inf)
    spec.check_number("width", width, _SMALLEST)
    return _create(lambda values: (center - width / 2, center + width / 2), dtype)


@register_volume_transform("percentiles", ValueTransform)
def percentiles(
    low: float = 1.0, high: float = 99.0, mask: str | None = None, dtype: str = "uint8"
) -> Transform:
    """Maps two percentiles of each channel to 0 and 255.

    Args:
      low, high: percentiles, 0 to 100.
      mask: 'nonzero' leaves voxels of the value 0 out; None takes all.
      dtype: dtype of the result: uint8, float16 or float32.
    """
    spec.check_range("(low, high)", (low, high), 0, 100)
    _check_mask(mask)
    return _create(lambda values: np.percentile(_masked(values, mask), (low, high)), dtype)


@register_volume_transform("z_score", ValueTransform)
def z_score(mask: str | None = "nonzero", clip: float = 4.0, dtype: str = "uint8") -> Transform:
    """Maps mean ± clip * standard deviation of each channel to 0 and 255.

    `data.mean=(0.5,)` and `data.std=(1 / (2 * clip),)` then give the model z-scores.

    Args:
      mask: 'nonzero' takes mean and standard deviation of the voxels other than 0, as for MRI with
        the skull removed; None takes all.
      clip: z-scores beyond ± clip are clipped.
      dtype: dtype of the result: uint8, float16 or float32.
    """
    _check_mask(mask)
    spec.check_number("clip", clip, 0.01)

    def limits(values):
        mean, deviation = _moments(values, mask)
        return mean - clip * deviation, mean + clip * deviation

    return _create(limits, dtype)


@register_volume_transform("sigma", ValueTransform)
def sigma(count: float = 3.0, dtype: str = "uint8") -> Transform:
    """Maps mean ± count * standard deviation of all voxels to 0 and 255, as for densities.

    Args:
      count: number of standard deviations.
      dtype: dtype of the result: uint8, float16 or float32.
    """
    return z_score(mask=None, clip=count, dtype=dtype)


@register_volume_transform("resample", SpacingTransform)
def resample(spacing: tuple[float, float, float] = (1, 1, 1), order: int = 1):
    """Interpolates to another distance of the voxels, with the center in its place.

    It reads the spacing of the file, so it comes before transforms that move voxels.

    Args:
      spacing: along D, H and W, in the unit of the file: mm, or Å for densities.
      order: order of the spline, 0 (nearest) to 3 (cubic).
    """
    if not (isinstance(spacing, tuple | list) and len(spacing) == 3):
        raise ValueError(f"spacing={spacing!r} must be a triple (depth, height, width)")
    for side in spacing:
        spec.check_number("spacing", side, 1e-6, 1e6)
    resampling.check_order(order)
    return lambda volume, old: (resampling.resample(volume, old, spacing, order), tuple(spacing))


def _create(limits, dtype: str) -> Transform:
    """A transform that maps `limits(channel)` to 0 and 255."""
    spec.check_choice("dtype", dtype, _DTYPES)

    def transform(volume, rng):
        result = np.empty(volume.shape, dtype)
        for channel in range(volume.shape[-1]):
            values = volume[..., channel]
            low, high = (float(limit) for limit in limits(values))
            # By slice, because float32 takes twice the memory of int16.
            for slice_, out in zip(values, result[..., channel], strict=True):
                _scale(slice_.astype(np.float32), low, high, out)
        return result

    return transform


def _scale(values: np.ndarray, low: float, high: float, out: np.ndarray) -> None:
    """Writes `values`, which are overwritten, to `out`, with [low, high] mapped to [0, 255]."""
    first, last = np.clip((low, high), -_LARGEST, _LARGEST).astype(np.float32)
    np.clip(values, first, last, out=values)
    values -= first
    values *= np.float32(255) / (last - first) if last > first else np.float32(0)
    np.nan_to_num(values, copy=False, nan=0.0)
    np.minimum(values, 255, out=values)
    out[...] = np.rint(values, out=values) if out.dtype == np.uint8 else values


def _moments(values: np.ndarray, mask: str | None) -> tuple[float, float]:
    """Mean and standard deviation of the voxels that count, a plane at a time to save memory."""
    count = sum(inside.size for inside in _planes(values, mask))
    if not count:
        return _moments(values, None) if mask else (0.0, 0.0)
    mean = sum(float(x.sum(dtype=np.float64)) for x in _planes(values, mask)) / count
    squares = sum(float(np.square(x - np.float64(mean)).sum()) for x in _planes(values, mask))
    return mean, math.sqrt(squares / count)


def _planes(values: np.ndarray, mask: str | None) -> Iterator[np.ndarray]:
    """The finite values `[N]` of each plane that count."""
    for plane in values:
        yield plane[_counts(plane, mask)]


def _counts(values: np.ndarray, mask: str | None) -> np.ndarray:
    """Which values count: those that are finite, and not 0 if the mask is 'nonzero'."""
    inside = np.isfinite(values)
    return inside & (values != 0) if mask else inside


def _check_mask(mask: str | None) -> None:
    if mask not in (None, "nonzero"):
        raise ValueError(f"mask={mask!r} must be 'nonzero' or None")


def _masked(values: np.ndarray, mask: str | None) -> np.ndarray:
    """The values `[N]` that count; all zeros if there are none."""
    if not mask and values.dtype.kind != "f":
        return values.reshape(-1)
    inside = values[_counts(values, mask)]
    if mask and not inside.size:
        return _masked(values, None)
    return inside if inside.size else np.zeros(1, np.float32)
