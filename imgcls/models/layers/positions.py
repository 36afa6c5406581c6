"""Position embeddings of a grid of patches."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from imgcls.core.errors import ConfigError


def resample_positions(positions: jax.Array, grid: tuple[int, int], prefix: int) -> jax.Array:
    """Resamples position embeddings of a square grid to another grid by bicubic interpolation.

    Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.2; antialiased, as in timm and big_vision.

    Args:
      positions: `[1, prefix + side * side, D]`.
      grid: (rows, columns) of the result.
      prefix: number of tokens before those of the grid; their embeddings do not change.

    Returns:
      `[1, prefix + rows * columns, D]`.

    Raises:
      ConfigError: the embeddings are not of a square grid.
    """
    _, tokens, width = positions.shape
    side = math.isqrt(max(tokens - prefix, 0))
    if side == 0 or side * side != tokens - prefix:
        raise ConfigError(
            f"ViT: pos_embed has {tokens} tokens, of which {prefix} are not patches: the others "
            "are not a square grid and can't be resampled; use the original image size"
        )
    table = rearrange(positions[:, prefix:], "1 (h w) d -> 1 h w d", h=side)
    table = jax.image.resize(table, (1, *grid, width), "cubic")
    table = rearrange(table, "1 h w d -> 1 (h w) d")
    return jnp.concatenate([positions[:, :prefix], table], axis=1)


def sincos2d(rows: int, columns: int, width: int) -> np.ndarray:
    """Fixed sine-cosine embedding of a grid: float32 `[rows * columns, width]`, row by row.

    A quarter of the channels each for sin(x), cos(x), sin(y), cos(y), with wavelengths in
    geometric progression from 2 pi to 2 pi * 10,000 (Chen et al. 2021, MoCo v3, arXiv:2104.02057;
    the largest wavelength is included, as in big_vision).

    Raises:
      ConfigError: the width is not a multiple of 4.
    """
    if width % 4:
        raise ConfigError(f"ViT: sincos2d needs a width that is a multiple of 4, not {width}")
    frequencies = 10_000.0 ** -np.linspace(0.0, 1.0, width // 4)
    y, x = (grid.reshape(-1, 1) * frequencies for grid in np.mgrid[:rows, :columns])
    table = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)
    return table.astype(np.float32)
