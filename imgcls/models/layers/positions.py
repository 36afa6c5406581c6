"""Position embeddings of a grid of patches, or of a row of images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from imgcls.core.errors import ConfigError

# Shape of a grid whose sides are equal, by its number of axes.
_EQUAL_SIDES = {1: "row", 2: "square grid", 3: "cube"}


def resample_positions(positions: jax.Array, grid: Sequence[int], prefix: int) -> jax.Array:
    """Resamples position embeddings of a square or cube to another grid by cubic interpolation.

    Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.2; antialiased, as in timm and big_vision.

    Args:
      positions: `[1, prefix + side ** len(grid), D]`.
      grid: shape of the result, such as (rows, columns).
      prefix: number of tokens before those of the grid; their embeddings do not change.

    Returns:
      `[1, prefix + prod(grid), D]`.

    Raises:
      ConfigError: the embeddings are not of a square or cube.
    """
    _, tokens, width = positions.shape
    side = equal_side(tokens - prefix, len(grid))
    if side is None:
        raise ConfigError(
            f"ViT: pos_embed has {tokens} tokens, of which {prefix} are not patches: the others "
            f"are not a {_EQUAL_SIDES[len(grid)]} and can't be resampled; use the original image "
            "size"
        )
    table = positions[:, prefix:].reshape(1, *(side,) * len(grid), width)
    table = jax.image.resize(table, (1, *grid, width), "cubic").reshape(1, -1, width)
    return jnp.concatenate([positions[:, :prefix], table], axis=1)


def equal_side(number: int, axes: int) -> int | None:
    """The side of a square (two axes) or cube (three) of `number` patches; None: there is none."""
    side = round(max(number, 0) ** (1 / axes))
    return side if side and side**axes == number else None


def sincos_positions(grid: Sequence[int], width: int) -> np.ndarray:
    """Fixed sine-cosine embedding of a grid: float32 `[prod(grid), width]`, row by row.

    The channels are divided among the axes, the last axis first: sines, then cosines, with
    wavelengths in geometric progression from 2 pi to 2 pi * 10,000. For images these are sin(x),
    cos(x), sin(y), cos(y) of Chen et al. 2021, MoCo v3, arXiv:2104.02057; the largest wavelength is
    included, as in big_vision. Channels that are left over, such as the last 4 of 1024 over three
    axes, are zero.

    Raises:
      ConfigError: the width of an image's embedding is no multiple of 4.
    """
    parts = 2 * len(grid)
    if len(grid) == 2 and width % parts:
        raise ConfigError(f"ViT pos_embed='sincos2d': width must be a multiple of 4, not {width}")
    frequencies = 10_000.0 ** -np.linspace(0.0, 1.0, width // parts)
    angles = [axis.reshape(-1, 1) * frequencies for axis in reversed(np.indices(grid))]
    table = np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1)
    return np.pad(table, ((0, 0), (0, width % parts))).astype(np.float32)
