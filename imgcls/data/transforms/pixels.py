"""Conversion between NumPy and Pillow images."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from imgcls.core.errors import ConfigError


def to_pil(image: np.ndarray) -> Image.Image:
    """Converts uint8 `[H, W, C]` to a Pillow image of mode RGB or, with C=1, L.

    Raises:
      ConfigError: C is neither 1 nor 3.
    """
    check_color(image)
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def to_array(image: Image.Image) -> np.ndarray:
    """Converts a Pillow image to uint8 `[H, W, C]`: the inverse of `to_pil`."""
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def check_color(image: np.ndarray) -> None:
    """Raises a ConfigError if an image `[H, W, C]` is neither gray nor RGB."""
    if image.shape[-1] not in (1, 3):
        raise ConfigError(
            f"config.data: a transform of color takes 1 or 3 channels, but the images have "
            f"{image.shape[-1]}: leave it out; resizing, crops, flips and erasing take any number"
        )


def by_band(image: np.ndarray, fn: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Applies a function of Pillow images to `[H, W, C]`: to all of 1 or 3 channels, else to each.

    Pillow would weight the colors of four channels by the fourth, as alpha.
    """
    if image.shape[-1] in (1, 3):
        return to_array(fn(to_pil(image)))
    bands = np.moveaxis(image, -1, 0)
    return np.stack([np.asarray(fn(Image.fromarray(band))) for band in bands], axis=-1)
