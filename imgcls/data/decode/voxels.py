"""A decoded volume, and the streams that volumes are read from."""

import gzip
import importlib
import io
import zlib
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from imgcls.core.errors import ConfigError, DataError, one_line

# Depth, height and width of a voxel, in the unit of the format: mm, or Å for densities.
Spacing = tuple[float, float, float]

# Largest volume, with all channels: 1 GiB as float32. A larger one is refused before it is read.
MAX_VOXELS = 2**28
MAX_CHANNELS = 16
# Largest file of a volume: as many bytes as its voxels may take, and a header.
MAX_VOLUME_BYTES = 2**30 + 2**26
INSTALL = "run `pip install -r requirements-volumes.txt`"
# Bytes of a stream that are read ahead; no binary header is longer.
START = 1024
_GZIP = b"\x1f\x8b"
# Extensions between header and voxels are shorter.
_MAX_OFFSET = 2**26
_PART = 2**22


class Volume(NamedTuple):
    """A decoded volume.

    Attributes:
      voxels: uint8, int16 or float32 `[D, H, W, C]`. Where the format states an orientation, D
        grows to superior, H to anterior and W to the right of the patient.
      spacing: distance of neighboring voxels along D, H and W; None if unknown.
      affine: `[4, 4]`, maps (w, h, d, 1) to mm to the right, anterior and superior; None if the
        format does not state it.
    """

    voxels: np.ndarray
    spacing: Spacing | None = None
    affine: np.ndarray | None = None


class Stream:
    """The bytes of a file, decompressed by gzip only as far as they are needed.

    Args:
      data: bytes of the file.
      name: name for messages.

    Attributes:
      start: the first `START` bytes, or all of a shorter file.
    """

    def __init__(self, data: bytes, name: str):
        self._data, self.name = data, name
        self._gzip = None
        if data.startswith(_GZIP):
            self._gzip = gzip.GzipFile(fileobj=io.BytesIO(data))
        self.start = data[:START] if self._gzip is None else self._read(START)

    def array(self, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """Returns an array of a shape that `count_voxels` has checked; called once.

        Args:
          offset: position of its first byte.
          dtype: dtype of the elements.
          shape: number of elements along each axis, in C order.

        Raises:
          DataError: the file ends before.
        """
        if not 0 <= offset <= _MAX_OFFSET:
            raise DataError(f"{self.name}: its header places the voxels at byte {offset:,}")
        count = int(np.prod(shape, dtype=object))
        size = count * dtype.itemsize
        if self._gzip is None:
            there = len(self._data) - offset
            data = memoryview(self._data)[offset : offset + size]
        else:
            data, there = self._decompress(offset, size)
        if there < size:
            raise DataError(
                f"{self.name}: truncated: its header declares {size:,} bytes of voxels, and "
                f"{max(there, 0):,} are there"
            )
        return np.frombuffer(data, dtype, count).reshape(shape)

    def _decompress(self, offset: int, size: int) -> tuple[np.ndarray, int]:
        """`size` bytes from an offset, and how many of them are there."""
        skipped = (self.start + self._read(offset - len(self.start)))[offset : offset + size]
        # Memory is taken when it is written, so a header alone can't take it.
        data = np.empty(size, np.uint8)
        data[: len(skipped)] = np.frombuffer(skipped, np.uint8)
        there = len(skipped)
        while there < size:
            part = self._read(min(_PART, size - there))
            if not part:
                break
            data[there : there + len(part)] = np.frombuffer(part, np.uint8)
            there += len(part)
        return data, there

    def _read(self, count: int) -> bytes:
        """The next bytes, fewer at the end of the file."""
        assert self._gzip is not None
        parts = bytearray()
        try:
            while len(parts) < count:
                part = self._gzip.read(min(_PART, count - len(parts)))
                if not part:
                    break
                parts += part
        except (OSError, EOFError, zlib.error) as e:
            raise DataError(f"{self.name}: broken gzip file ({one_line(e)})") from e
        return bytes(parts)


def count_voxels(shape: Any, name: str) -> int:
    """Returns the number of voxels of a shape `[D, H, W, C]`, in any order of the axes.

    Raises:
      DataError: it is not positive, or larger than `MAX_VOXELS`.
    """
    sides = [int(side) for side in shape]
    count = 1
    for side in sides:
        count *= side
    if min(sides) < 1:
        raise DataError(f"{name}: its header declares the shape {sides}")
    if count > MAX_VOXELS:
        raise DataError(
            f"{name}: its shape {sides} is {count:,} voxels, more than the {MAX_VOXELS:,} allowed; "
            "crop or resample the file"
        )
    return count


def to_values(stored: np.ndarray, slope: float = 1, intercept: float = 0) -> np.ndarray:
    """Returns `stored * slope + intercept`.

    Args:
      stored: array of integers, floating-point numbers or booleans.
      slope, intercept: rescaling of the format.

    Returns:
      uint8 if it is stored so and not rescaled, int16 if all values are integers that fit, and
      float32 otherwise.
    """
    same = slope == 1 and intercept == 0
    if stored.dtype.kind == "b" or (stored.dtype == np.uint8 and same):
        return stored.astype(np.uint8, copy=False)
    if stored.dtype.kind in "iu" and slope == round(slope) and intercept == round(intercept):
        ends = [int(end) * round(slope) + round(intercept) for end in (stored.min(), stored.max())]
        if -(2**15) <= min(ends) and max(ends) < 2**15:
            values = stored.astype(np.int16 if same else np.int64, copy=False)
            return values if same else (values * round(slope) + round(intercept)).astype(np.int16)
    values = stored.astype(np.float32)
    if not same:
        values *= np.float32(slope)
        values += np.float32(intercept)
    return values


def check_channels(count: int, name: str) -> None:
    """Raises a DataError if a file has more than `MAX_CHANNELS` volumes."""
    if count > MAX_CHANNELS:
        raise DataError(
            f"{name}: has {count:,} volumes, and at most {MAX_CHANNELS} are read as channels; "
            "write one file per volume, or their mean"
        )


def to_ras(stored: np.ndarray, affine: np.ndarray, name: str) -> Volume:
    """Turns voxels to the axes of the patient that are closest, without interpolation.

    Args:
      stored: voxels `[I, J, K, C]`.
      affine: `[4, 4]`, maps an index `(i, j, k, 1)` to mm to the right, anterior and superior.
      name: name for messages.

    Raises:
      DataError: the affine is singular.
    """
    orientations = require("nibabel", name).orientations
    axes = np.full((3, 2), np.nan)
    if np.isfinite(affine).all():
        axes = orientations.io_orientation(affine)
    if np.isnan(axes).any():
        raise DataError(
            f"{name}: its header states no orientation: the affine "
            f"{np.asarray(affine)[:3].tolist()} is singular"
        )
    voxels = orientations.apply_orientation(stored, axes)
    lengths = np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)
    x, y, z = (float(lengths[axes[:, 0] == axis][0]) for axis in range(3))
    turned = np.asarray(affine, float) @ orientations.inv_ornt_aff(axes, stored.shape[:3])
    return Volume(np.ascontiguousarray(voxels.transpose(2, 1, 0, 3)), (z, y, x), turned)


def require(package: str, name: str) -> ModuleType:
    """Imports a package that reads volumes.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as e:
        raise ConfigError(f"{name}: is read by {package.split('.')[0]}: {INSTALL}") from e
