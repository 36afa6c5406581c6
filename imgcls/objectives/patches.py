"""Cuts images and volumes into patches."""

import math
from collections.abc import Sequence

import jax


def to_patches(x: jax.Array, sides: Sequence[int]) -> jax.Array:
    """Cuts `[B, ..., C]` into patches `[B, N, values]`, the last spatial axis fastest.

    Args:
      x: images `[B, H, W, C]` or volumes `[B, D, H, W, C]`.
      sides: side of a patch along each spatial axis; divides the axis.
    """
    batch, *spatial, channels = x.shape
    axes = len(spatial)
    grid = [length // side for length, side in zip(spatial, sides, strict=True)]
    cells = [number for pair in zip(grid, sides, strict=True) for number in pair]
    x = x.reshape(batch, *cells, channels)
    x = x.transpose(0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
    return x.reshape(batch, math.prod(grid), -1)


def from_patches(patches: jax.Array, sides: Sequence[int], shape: tuple[int, ...]) -> jax.Array:
    """Inverse of `to_patches` for images or volumes of this shape `[B, ..., C]`."""
    batch, *spatial, channels = shape
    axes = len(spatial)
    grid = [length // side for length, side in zip(spatial, sides, strict=True)]
    x = patches.reshape(batch, *grid, *sides, channels)
    order = [axis for first in range(1, axes + 1) for axis in (first, first + axes)]
    return x.transpose(0, *order, 2 * axes + 1).reshape(shape)
