"""Conversion between NumPy and Pillow images."""

import numpy as np
from PIL import Image


def to_pil(image: np.ndarray) -> Image.Image:
    """Converts uint8 `[H, W, C]` to a Pillow image of mode RGB or, with C=1, L."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def to_array(image: Image.Image) -> np.ndarray:
    """Converts a Pillow image to uint8 `[H, W, C]`: the inverse of `to_pil`."""
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels
