"""A volume in a `.npz` file: an array, and `spacing` if it is known."""

import io
import zipfile

import numpy as np

from imgcls.core.errors import DataError, one_line
from imgcls.data.decode.npy import read_npy
from imgcls.data.decode.voxels import (
    MAX_VOXELS,
    Spacing,
    Volume,
    check_channels,
    count_voxels,
    to_values,
)

_SPACING = "spacing"
_MAX_BYTES = 8 * MAX_VOXELS


def read_npz(data: bytes, name: str) -> Volume:
    """Reads the only array but `spacing`, `[D, H, W]` or `[D, H, W, C]`; never a pickle.

    Raises:
      DataError: broken, too large, or not one volume.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [member.filename.removesuffix(".npy") for member in archive.infolist()]
            others = [key for key in names if key != _SPACING]
            if len(others) != 1:
                raise DataError(
                    f"{name}: has the arrays {', '.join(names[:8]) or 'none'}; a volume is one "
                    "array, and optionally `spacing`"
                )
            voxels = _read(archive, others[0], name)
            spacing = _read(archive, _SPACING, name) if _SPACING in names else None
    except DataError:
        raise
    except Exception as e:  # A broken zip raises errors of many types.
        raise DataError(f"{name}: can't be read ({one_line(e)})") from e
    return as_volume(voxels, name, None if spacing is None else _check_spacing(spacing, name))


def write_npz(volume: Volume) -> bytes:
    """Encodes a volume, always in the same bytes: no time, no other field."""
    file = io.BytesIO()
    arrays = {"voxels": volume.voxels}
    if volume.spacing is not None:
        arrays[_SPACING] = np.array(volume.spacing)
    with zipfile.ZipFile(file, "w") as archive:
        for key, array in arrays.items():
            encoded = io.BytesIO()
            np.save(encoded, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{key}.npy"), encoded.getbuffer())
    return file.getvalue()


def as_volume(array: np.ndarray, name: str, spacing: Spacing | None = None) -> Volume:
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
    return Volume(to_values(voxels), spacing)


def _read(archive: zipfile.ZipFile, key: str, name: str) -> np.ndarray:
    member = archive.getinfo(f"{key}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{name}: unsupported compression; write it with NumPy's savez")
    if member.file_size > _MAX_BYTES:
        raise DataError(
            f"{name}: its array {key} takes {member.file_size:,} bytes, more than the "
            f"{_MAX_BYTES:,} allowed"
        )
    with archive.open(member) as file:
        return read_npy(file, member.file_size, f"{name}: {key}")


def _check_spacing(spacing: np.ndarray, name: str) -> Spacing:
    if spacing.shape != (3,) or not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise DataError(f"{name}: its spacing {spacing.tolist()} is not three positive numbers")
    z, y, x = (float(side) for side in spacing)
    return z, y, x
