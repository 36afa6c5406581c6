"""Volume files -> voxels, uint8 `[D, H, W, C]`.

A format is recognized by its first bytes. So far: `.npy`.
"""

import io

import numpy as np

from imgcls.core.errors import DataError
from imgcls.data.decode.npy import read_npy

_NPY = b"\x93NUMPY"


def is_volume(data: bytes) -> bool:
    """Whether the bytes of a file start like those of a volume format."""
    return data.startswith(_NPY)


def decode_volume(data: bytes, name: str) -> np.ndarray:
    """Decodes a volume.

    Args:
      data: bytes of a file for which `is_volume` is true.
      name: name for messages.

    Returns:
      uint8 `[D, H, W, C]`.

    Raises:
      DataError: the file is broken, or not a volume of uint8.
    """
    return as_volume(read_npy(io.BytesIO(data), len(data), name), name)


def as_volume(array: np.ndarray, name: str) -> np.ndarray:
    """Checks an array `[D, H, W]` or `[D, H, W, C]`, and adds the axis of channels.

    Raises:
      DataError: another shape or dtype.
    """
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or not array.size:
        raise DataError(
            f"{name}: is a {array.dtype} array {list(array.shape)}; volumes are uint8 [D, H, W] or "
            "[D, H, W, C]"
        )
    return array[..., None] if array.ndim == 3 else array
