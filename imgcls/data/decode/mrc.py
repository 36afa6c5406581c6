"""MRC2014 and CCP4 maps, also compressed by gzip: `.mrc`, `.map`, `.ccp4`, `.map.gz`.

Cheng et al. 2015, doi:10.1016/j.jsb.2015.04.002, is the source of the format.
"""

from typing import Literal

import numpy as np

from imgcls.core import log
from imgcls.core.errors import DataError, one_line
from imgcls.data.decode.voxels import Spacing, Stream, Volume, count_voxels, require, to_values

EXTENSIONS = (".mrc", ".mrc.gz", ".map", ".map.gz", ".ccp4", ".ccp4.gz")
_HEADER = 1024
_ID = b"MAP"
# Groups of crystals, and those of volume stacks.
_SPACE_GROUPS, _STACKS = range(0, 231), range(401, 631)
_LARGEST_SIDE = 2**24


def is_mrc(start: bytes, name: str) -> bool:
    """Whether a file is MRC, by its first 212 bytes or else by its extension."""
    return start[208:211] == _ID or name.lower().endswith(EXTENSIONS)


def read_mrc(stream: Stream) -> Volume:
    """Reads a density with the axes z, y, x, in the order that the header states.

    Flaws of the header that leave the density readable are warnings, one line per file.

    Raises:
      DataError: broken, too large, or not one density.
    """
    name = stream.name
    utils, dtypes = (require(f"mrcfile.{part}", name) for part in ("utils", "dtypes"))
    if len(stream.start) < _HEADER:
        raise DataError(f"{name}: not an MRC file: {len(stream.start):,} bytes")
    flaws: list[str] = []
    order = _byte_order(stream.start, flaws)
    layout = dtypes.HEADER_DTYPE.newbyteorder(order)
    header = np.frombuffer(stream.start, layout, 1)[0]
    shape = tuple(int(header[key]) for key in ("nz", "ny", "nx"))
    if not all(0 < side < _LARGEST_SIDE for side in shape):
        raise DataError(f"{name}: not an MRC file, or broken: its header declares {list(shape)}")
    count_voxels(shape, name)
    try:
        dtype = np.dtype(utils.dtype_from_mode(header["mode"])).newbyteorder(order)
    except ValueError as e:
        raise DataError(f"{name}: broken MRC header ({one_line(e)})") from e
    if dtype.kind not in "iuf":
        raise DataError(f"{name}: has values of type {dtype}, not densities")
    extended = int(header["nsymbt"])
    if extended < 0:
        raise DataError(f"{name}: its header declares an extended header of {extended:,} bytes")
    _check_single(header, shape, name, flaws)
    stored = stream.array(_HEADER + extended, dtype, shape)
    axes = _axes(header, flaws)
    spacing = _spacing(header, flaws)
    if flaws:
        log.warn_once(f"{name}: flawed header: {'; '.join(flaws)}")
    voxels = to_values(stored.transpose([axes.index(axis) for axis in (3, 2, 1)]))
    return Volume(np.ascontiguousarray(voxels)[..., None], spacing)


def _byte_order(start: bytes, flaws: list[str]) -> Literal["<", ">"]:
    """`<` or `>`: of the machine stamp, or by the size of the numbers."""
    if start[208:212] not in (b"MAP ", b"MAP\0"):
        flaws.append(f"no identifier 'MAP ' but {start[208:212]!r}")
    if start[212] in (0x44, 0x11):
        return "<" if start[212] == 0x44 else ">"
    # Sides and mode are small numbers in the right order.
    little, big = (int(np.frombuffer(start[:16], f"{o}u4").max()) for o in "<>")
    order = "<" if little <= big else ">"
    flaws.append(f"machine stamp {start[212:216].hex(' ')}, read as {order}")
    return order


def _check_single(header: np.void, shape: tuple[int, ...], name: str, flaws: list[str]) -> None:
    """Raises a DataError for a stack of volumes."""
    group, sections = int(header["ispg"]), int(header["mz"])
    if group in _STACKS and 0 < sections < shape[0]:
        raise DataError(
            f"{name}: is a stack of {shape[0] // sections:,} volumes; write one file per volume"
        )
    if group not in _SPACE_GROUPS and group not in _STACKS:
        flaws.append(f"space group {group}")


def _axes(header: np.void, flaws: list[str]) -> list[int]:
    """The axes of sections, rows and columns: 1, 2, 3 for x, y, z."""
    axes = [int(header[key]) for key in ("maps", "mapr", "mapc")]
    if sorted(axes) != [1, 2, 3]:
        flaws.append(f"axis order {axes[::-1]}, read as [1, 2, 3]")
        return [3, 2, 1]
    return axes


def _spacing(header: np.void, flaws: list[str]) -> Spacing | None:
    """Voxel size along z, y and x in Å; None if the header has none."""
    cell = [float(header["cella"][axis]) for axis in "zyx"]
    intervals = [int(header[key]) for key in ("mz", "my", "mx")]
    if not all(np.isfinite(cell)) or min(cell) <= 0 or min(intervals) <= 0:
        flaws.append(f"cell {cell[::-1]} Å of {intervals[::-1]} voxels, so no voxel size")
        return None
    z, y, x = (side / count for side, count in zip(cell, intervals, strict=True))
    return z, y, x
