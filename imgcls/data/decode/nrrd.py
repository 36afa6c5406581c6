"""NRRD with the voxels in the same file: `.nrrd`."""

import bz2
import gzip
import io
from typing import Any

import numpy as np

from imgcls.core.errors import DataError, one_line
from imgcls.data.decode.voxels import (
    Spacing,
    Volume,
    check_channels,
    count_voxels,
    require,
    to_ras,
    to_values,
)

MAGIC = b"NRRD000"
# teem.sourceforge.net/nrrd/format.html, section 4.
_TYPES = {
    "int8": ("signed char", "int8_t"),
    "uint8": ("uchar", "unsigned char", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16_t"),
    "int32": ("int", "signed int", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32_t"),
    "int64": ("longlong", "long long", "long long int", "signed long long", "int64_t"),
    "uint64": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64_t"),
    "float32": ("float",),
    "float64": ("double",),
}
_DTYPES = {name: dtype for dtype, names in _TYPES.items() for name in (dtype, *names)}
# Signs that turn a space's axes to the right, anterior and superior.
_SPACES = {
    **dict.fromkeys(("right-anterior-superior", "RAS"), (1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "LAS"), (-1, 1, 1)),
    **dict.fromkeys(("left-posterior-superior", "LPS"), (-1, -1, 1)),
}


def read_nrrd(data: bytes, name: str) -> Volume:
    """Reads a volume; one in the space of a patient is turned to RAS.

    Raises:
      DataError: broken, too large, or not one volume.
    """
    nrrd, file = require("nrrd", name), io.BytesIO(data)
    try:
        header = nrrd.read_header(file)
        sizes = [int(size) for size in header["sizes"]]
        kind, encoding = header["type"], header["encoding"].lower()
    except Exception as e:  # Broken headers raise errors of many types.
        raise DataError(f"{name}: broken NRRD header ({one_line(e)})") from e
    if any(key in header for key in ("data file", "datafile")):
        raise DataError(f"{name}: its voxels are in another file; save it as one .nrrd file")
    if any(int(header.get(key, 0)) for key in ("line skip", "lineskip", "byte skip", "byteskip")):
        raise DataError(f"{name}: its header skips bytes; save it again without")
    if kind not in _DTYPES or not 3 <= len(sizes) <= 4:
        raise DataError(f"{name}: has the shape {sizes} of type {kind}; a volume has 3 or 4 axes")
    count = count_voxels(sizes, name)
    order = ">" if header.get("endian", "little") == "big" else "<"
    dtype = np.dtype(_DTYPES[kind]).newbyteorder(order)
    voxels = _read(file, encoding, count * dtype.itemsize, name)
    stored = np.frombuffer(voxels, dtype).reshape(sizes[::-1]).T
    directions, axis = _directions(header, len(sizes), name)
    stored = stored[..., None] if axis is None else np.moveaxis(stored, axis, -1)
    check_channels(stored.shape[-1], name)
    values = to_values(stored)
    signs = _SPACES.get(str(header.get("space")))
    if directions is not None and signs is not None:
        affine = np.eye(4)
        affine[:3, :3] = np.diag(signs) @ directions.T
        origin = np.asarray(header.get("space origin", np.zeros(3)), float)
        if origin.shape == (3,) and np.isfinite(origin).all():
            affine[:3, 3] = origin * signs
        return to_ras(values, affine, name)
    values = np.ascontiguousarray(values.transpose(2, 1, 0, 3))
    return Volume(values, _spacing(header, directions, axis))


def _read(file: io.BytesIO, encoding: str, size: int, name: str) -> bytes:
    """The bytes of the voxels, decompressed as far as they are needed."""
    streams = {
        **dict.fromkeys(("raw",), lambda: file),
        **dict.fromkeys(("gzip", "gz"), lambda: gzip.GzipFile(fileobj=file)),
        **dict.fromkeys(("bzip2", "bz2"), lambda: bz2.BZ2File(file)),
    }
    if encoding not in streams:
        raise DataError(f"{name}: is encoded as {encoding}; save it as raw, gzip or bzip2")
    try:
        voxels = streams[encoding]().read(size)
    except Exception as e:  # Broken streams raise errors of many types.
        raise DataError(f"{name}: broken {encoding} data ({one_line(e)})") from e
    if len(voxels) < size:
        raise DataError(
            f"{name}: truncated: its header declares {size:,} bytes of voxels, and "
            f"{len(voxels):,} are there"
        )
    return voxels


def _directions(
    header: dict[str, Any], axes: int, name: str
) -> tuple[np.ndarray | None, int | None]:
    """Directions `[3, 3]` of the axes of space, if stated, and the axis of channels."""
    directions = header.get("space directions")
    spatial: list[bool] | None = None
    if directions is not None:
        directions = np.array([[np.nan] * 3 if d is None else d for d in directions], float)
        spatial = [bool(np.isfinite(row).all()) for row in directions]
    elif "kinds" in header:
        spatial = [kind in ("domain", "space") for kind in header["kinds"]]
    if axes == 3:
        return directions, None
    if spatial is None or len(spatial) != axes or sum(spatial) != 3:
        raise DataError(
            f"{name}: has 4 axes, and its header states no axis of channels; set `kinds`, such as "
            "`list domain domain domain`"
        )
    chosen = None if directions is None else directions[spatial]
    return chosen, spatial.index(False)


def _spacing(
    header: dict[str, Any], directions: np.ndarray | None, axis: int | None
) -> Spacing | None:
    """Spacing along D, H, W of a volume without a patient."""
    if directions is not None:
        sides = np.linalg.norm(directions, axis=1)
    elif "spacings" in header:
        sides = np.abs(np.array(header["spacings"], float))
        sides = sides if axis is None else np.delete(sides, axis)
    else:
        return None
    if not np.isfinite(sides).all() or (sides <= 0).any():
        return None
    x, y, z = (float(side) for side in sides)
    return z, y, x
