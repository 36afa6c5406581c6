"""Interpolation of volumes by `scipy.ndimage`, one channel at a time."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from imgcls.core.errors import DataError
from imgcls.data.decode.voxels import MAX_VOXELS

# Voxels that are interpolated at a time: 32 MiB as float32.
SLAB = 2**23


def resample(
    volume: np.ndarray, old: Sequence[float], new: Sequence[float], order: int
) -> np.ndarray:
    """Interpolates `[D, H, W, C]` from one spacing to another; the center stays in its place.

    Axes that become coarser are smoothed first, see `resize`.

    Raises:
      DataError: the result has more than `MAX_VOXELS` voxels.
    """
    if tuple(old) == tuple(new):
        return volume
    factors = np.divide(new, old)
    sides = tuple(int(side) for side in np.maximum(1, np.rint(volume.shape[:3] / factors)))
    if sides[0] * sides[1] * sides[2] * volume.shape[3] > MAX_VOXELS:
        raise DataError(
            f"resample: a volume {list(volume.shape)} with the spacing {list(old)} has the shape "
            f"{list(sides)} with {list(new)}, more than the {MAX_VOXELS:,} voxels allowed"
        )
    offset = (np.array(volume.shape[:3]) - 1) / 2 - factors * (np.array(sides) - 1) / 2
    return resize(volume, sides, factors, offset, order)


def resize(
    volume: np.ndarray,
    sides: tuple[int, ...],
    factors: np.ndarray,
    offset: np.ndarray,
    order: int,
    smooth: bool = True,
) -> np.ndarray:
    """Interpolates `[D, H, W, C]` on a grid.

    Args:
      volume: voxels.
      sides: new D, H and W.
      factors: distance of the new voxels in units of the old, per axis.
      offset: position of the first new voxel.
      order: order of the spline, 0 to 3.
      smooth: whether axes with a factor above 1 are smoothed first, by a Gaussian with a standard
        deviation of (factor - 1) / 2 voxels, as in scikit-image; not for order 0.
    """
    from scipy import ndimage

    sigmas = np.maximum(0, (factors - 1) / 2) if smooth and order else np.zeros(3)
    # Planes beyond a slab that its values depend on: a Gaussian ends at 4 standard deviations, and
    # splines of higher order decay by a factor of 3.7 (order 3) or 5.8 (order 2) a plane.
    margin = int(4 * sigmas[0] + 0.5) + (1 if order < 2 else 24)

    def interpolate(channel, first, planes):
        start = offset[0] + factors[0] * first
        stop = start + factors[0] * (planes - 1)
        low = max(0, math.floor(start) - margin)
        slab = channel[min(low, len(channel) - 1) : max(1, math.ceil(stop) + 1 + margin)]
        slab = slab.astype(np.float32)
        if sigmas.any():
            slab = ndimage.gaussian_filter(slab, sigmas, mode="nearest")
        return ndimage.affine_transform(
            slab,
            factors,
            # The stubs of scipy take a number only.
            (start - low, *offset[1:]),  # pyright: ignore[reportArgumentType]
            (planes, *sides[1:]),
            order=order,
            mode="nearest",
        )

    return by_slab(volume, sides, interpolate)


def by_slab(
    volume: np.ndarray,
    sides: tuple[int, ...],
    function: Callable[[np.ndarray, int, int], np.ndarray],
) -> np.ndarray:
    """Makes a volume some planes at a time, which takes less memory than float32 of all of it.

    Args:
      volume: voxels `[D, H, W, C]`.
      sides: D, H and W of the result.
      function: `(channel [D, H, W], first, planes) -> float32`, these planes of the result.

    Returns:
      `[*sides, C]`; for the dtype see `cast`.
    """
    channels = volume.shape[3]
    result = np.empty((*sides, channels), cast(np.empty(0, np.float32), volume.dtype).dtype)
    # Where a volume shrinks, the planes that are read are larger than those that are written.
    plane = max(sides[1] * sides[2], math.prod(volume.shape[:3]) // sides[0])
    step = max(1, SLAB // plane)
    for channel in range(channels):
        for first in range(0, sides[0], step):
            planes = min(step, sides[0] - first)
            values = function(volume[..., channel], first, planes)
            result[first : first + planes, ..., channel] = cast(values, volume.dtype)
    return result


def by_channel(volume: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Applies a function of float32 `[D, H, W]` to each channel; for the dtype see `cast`."""
    channels = [function(channel.astype(np.float32)) for channel in np.moveaxis(volume, -1, 0)]
    return cast(np.stack(channels, axis=-1), volume.dtype)


def cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Converts float32 to the dtype of a volume, rounded for uint8.

    Values of a file that are int16 stay float32: its dtype says how the file stores them.
    """
    if dtype == np.uint8:
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return values.astype(dtype if dtype.kind == "f" else np.float32, copy=False)


def check_order(order: int) -> None:
    """Raises a ValueError unless `order` is one of a spline."""
    if order not in (0, 1, 2, 3):
        raise ValueError(f"order={order!r} must be 0, 1, 2 or 3")
