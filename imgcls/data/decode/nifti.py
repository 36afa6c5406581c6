"""NIfTI-1 and NIfTI-2, one file per volume: `.nii`, `.nii.gz`."""

import logging
import struct

import numpy as np

from imgcls.core import log
from imgcls.core.errors import DataError, one_line
from imgcls.data.decode.voxels import (
    Stream,
    Volume,
    check_channels,
    count_voxels,
    require,
    to_ras,
    to_values,
)

# Sizes of the headers, which are also their first four bytes.
_SIZES = {348: "Nifti1Header", 540: "Nifti2Header"}
# Bits 0 to 2 of `xyzt_units`.
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}


def is_nifti(start: bytes) -> bool:
    """Whether the first 348 bytes of a file are those of NIfTI."""
    magic = start[344:348] if _header_size(start) == 348 else start[4:8]
    return _header_size(start) in _SIZES and magic[:2] in (b"n+", b"ni")


def read_nifti(stream: Stream) -> Volume:
    """Reads a volume in the orientation RAS; a fourth axis becomes channels.

    Raises:
      DataError: broken, too large, or not one volume.
    """
    name = stream.name
    nibabel = require("nibabel", name)
    size = _header_size(stream.start)
    if b"ni" in (stream.start[4:6], stream.start[344:346]):
        raise DataError(f"{name}: is half of a pair .hdr and .img; save it as one .nii file")
    flaws = _Flaws()
    try:
        header = getattr(nibabel, _SIZES[size])(stream.start[:size], check=False)
        header.check_fix(logger=flaws.logger)
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        offset, (slope, intercept) = header.get_data_offset(), header.get_slope_inter()
        affine = np.array(header.get_best_affine(), float)
    except Exception as e:  # Broken headers raise errors of many types.
        raise DataError(f"{name}: broken NIfTI header ({one_line(e)})") from e
    if flaws.lines:
        log.warn_once(f"{name}: flawed header: {'; '.join(flaws.lines)}")
    shape = _to_4d(shape, name)
    # RGB is stored as records of three bytes.
    samples = len(dtype.names or "1")
    count_voxels((*shape, samples), name)
    base = dtype[0] if dtype.names else dtype
    if base.kind not in "iuf":
        raise DataError(f"{name}: has voxels of type {dtype}; save it with real numbers")
    stored = stream.array(offset, base, (*shape[::-1], samples))
    stored = np.moveaxis(stored, -1, 0).transpose(4, 3, 2, 1, 0).reshape(*shape[:3], -1)
    affine[:3] *= _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    values = to_values(stored, 1 if slope is None else slope, intercept or 0)
    return to_ras(values, affine, name)


class _Flaws(logging.Handler):
    """Collects what nibabel finds wrong with a header and corrects."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []
        self.logger = logging.Logger("nifti")
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _header_size(start: bytes) -> int:
    """Size of the header in either byte order; 0 if there is none."""
    if len(start) < 348:
        return 0
    sizes = [struct.unpack(order + "i", start[:4])[0] for order in "<>"]
    return next((size for size in sizes if size in _SIZES), 0)


def _to_4d(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """`(X, Y, Z, C)`. Vectors have the shape `(X, Y, Z, 1, C)`."""
    sides = list(shape)
    while len(sides) > 4 and sides[-1] == 1:
        sides.pop()
    if len(sides) == 5 and sides[3] == 1:
        sides.pop(3)
    if not 2 <= len(sides) <= 4:
        raise DataError(
            f"{name}: has the shape {list(shape)}; a volume has 3 axes, or 4 with channels"
        )
    sides += [1] * (4 - len(sides))
    check_channels(sides[3], name)
    return tuple(sides)
