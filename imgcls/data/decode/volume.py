"""Volume files -> voxels `[D, H, W, C]` with their spacing.

A format is recognized by its first bytes: NIfTI, MRC and `.npy`.
"""

import io

import numpy as np

from imgcls.core.errors import DataError
from imgcls.data.decode.mrc import is_mrc, read_mrc
from imgcls.data.decode.nifti import is_nifti, read_nifti
from imgcls.data.decode.npy import read_npy
from imgcls.data.decode.voxels import START, Stream, Volume, check_channels, count_voxels, to_values

_NPY = b"\x93NUMPY"
_GZIP = b"\x1f\x8b"


def is_volume(data: bytes, name: str) -> bool:
    """Whether a file is a volume, by its first bytes or else by the extension of its name."""
    start = data[:START]
    return start.startswith((_NPY, _GZIP)) or is_nifti(start) or is_mrc(start, name)


def decode_volume(data: bytes, name: str) -> Volume:
    """Decodes a volume.

    Args:
      data: bytes of a file for which `is_volume` is true.
      name: name for messages.

    Raises:
      ConfigError: the package that reads the format is missing.
      DataError: the file is broken, too large, or not a volume.
    """
    if data.startswith(_NPY):
        return as_volume(read_npy(io.BytesIO(data), len(data), name), name)
    stream = Stream(data, name)
    if is_nifti(stream.start):
        return read_nifti(stream)
    if is_mrc(stream.start, name):
        return read_mrc(stream)
    raise DataError(f"{name}: not a volume in one of NIfTI, MRC, .npy")


def as_volume(array: np.ndarray, name: str) -> Volume:
    """Checks an array `[D, H, W]` or `[D, H, W, C]`, and adds the axis of channels.

    Raises:
      DataError: another shape or dtype.
    """
    if array.dtype.kind not in "buif" or array.ndim not in (3, 4) or not array.size:
        raise DataError(
            f"{name}: is a {array.dtype} array {list(array.shape)}; volumes are numbers [D, H, W] "
            "or [D, H, W, C]"
        )
    count_voxels(array.shape, name)
    voxels = array[..., None] if array.ndim == 3 else array
    check_channels(voxels.shape[-1], name)
    return Volume(to_values(voxels))
