"""Pooling layers."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def max_pool(
    x: jax.Array,
    side: int | tuple[int, ...],
    stride: int | tuple[int, ...],
    *,
    padding: int | tuple[int, ...] = 0,
    ceil: bool = False,
) -> jax.Array:
    """Max-pooling of `[B, ..., C]`; with `ceil` the last window may extend beyond the edge.

    A tuple has one number for each axis before the channels.
    """
    axes = x.ndim - 2
    sides, strides, paddings = (
        (number,) * axes if isinstance(number, int) else number
        for number in (side, stride, padding)
    )
    pads = []
    for size, one, step, zeros in zip(x.shape[1:-1], sides, strides, paddings, strict=True):
        rest = (size + 2 * zeros - one) % step
        pads.append((zeros, zeros + (step - rest if ceil and rest else 0)))
    return nn.max_pool(x, sides, strides=strides, padding=pads)  # pyright: ignore[reportArgumentType] (flax declares str alone)


def avg_pool(x: jax.Array, side: int, stride: int, *, padding: int = 0) -> jax.Array:
    """Average pooling of `[B, ..., C]`; padding zeros are included."""
    axes = x.ndim - 2
    pads = ((padding, padding),) * axes
    return nn.avg_pool(x, (side,) * axes, strides=(stride,) * axes, padding=pads)  # pyright: ignore[reportArgumentType] (flax declares str alone)


def halve(x: jax.Array) -> jax.Array:
    """Mean over 2x2 pixels of `[B, ..., C]`, without padding pixels at odd edges."""
    sides = (2,) * (x.ndim - 2)
    pads = [(0, size % 2) for size in x.shape[1:-1]]
    return nn.avg_pool(x, sides, strides=sides, padding=pads, count_include_pad=False)  # pyright: ignore[reportArgumentType] (flax declares str alone)


def adaptive_avg_pool(x: jax.Array, side: int) -> jax.Array:
    """Average pooling of x `[B, ..., C]` of any size to `side` along each axis.

    Window i spans floor(i * size / side) to ceil((i + 1) * size / side), as in torch.
    """
    for axis in range(1, x.ndim - 1):
        size = x.shape[axis]
        if size == side:
            continue
        weights = np.zeros((side, size), np.float32)
        for i in range(side):
            window = slice(i * size // side, -(-(i + 1) * size // side))
            weights[i, window] = 1 / (window.stop - window.start)
        x = jnp.moveaxis(jnp.tensordot(weights.astype(x.dtype), x, (1, axis)), 0, axis)
    return x


def mean_of_windows(x: jax.Array, window: Sequence[int]) -> jax.Array:
    """Mean of the means over all windows of x `[B, ..., C]`: `[B, C]`.

    A window that is longer than an axis has its length. Where x is larger than the window, values
    near the edges are in fewer windows than others, and count less.
    """
    for length in window:
        size = x.shape[1]
        length = min(length, size)
        counts = np.convolve(np.ones(size - length + 1), np.ones(length))
        weights = (counts / counts.sum()).astype(np.float32)
        x = jnp.tensordot(weights.astype(x.dtype), x, (0, 1))
    return x
