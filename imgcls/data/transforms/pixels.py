"""Between NumPy images and Pillow's."""

import numpy as np
from PIL import Image


def to_pil(image: np.ndarray) -> Image.Image:
    """uint8 `[H, W, C]` as a Pillow image of mode RGB or, with C=1, L."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def to_array(image: Image.Image) -> np.ndarray:
    """The inverse of `to_pil`."""
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels
