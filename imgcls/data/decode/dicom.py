"""DICOM series: the files of a folder that belong together, as one volume in RAS."""

import io
import math
import warnings
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np

from imgcls.core.errors import ConfigError, DataError, one_line
from imgcls.data.decode.voxels import Volume, count_voxels, require, to_ras, to_values

MAGIC, MAGIC_AT = b"DICM", 128
# Part of a file that is read for its series. Private groups before it are rarely longer.
HEADER = 2**16
MAX_FILES = 4096
_SERIES = ("SeriesInstanceUID", "SOPInstanceUID")
# Slices are a stack if their distances differ by less than this fraction.
_TOLERANCE = 0.05


def is_dicom(start: bytes) -> bool:
    """Whether the first 132 bytes of a file are those of DICOM."""
    return start[MAGIC_AT : MAGIC_AT + 4] == MAGIC


def read_series(start: bytes, name: str) -> str:
    """Returns the series of a file, by its first `HEADER` bytes; the name of a broken one."""
    pydicom = require("pydicom", name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(
                io.BytesIO(start), stop_before_pixels=True, specific_tags=list(_SERIES)
            )
        return str(header.SeriesInstanceUID)
    except Exception:  # Broken files raise errors of many types; decoding names them.
        return f"broken {name}"


def pack_series(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Packs the files of a series as a zip, by name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name), data)
    return packed.getvalue()


def is_series(data: bytes) -> bool:
    """Whether bytes are those of `pack_series`."""
    if not data.startswith(b"PK\3\4"):
        return False
    # The first file starts after the header of its entry and its name.
    start = 30 + int.from_bytes(data[26:28], "little") + int.from_bytes(data[28:30], "little")
    return is_dicom(data[start : start + MAGIC_AT + 4])


def read_dicom(data: bytes, name: str) -> Volume:
    """Reads a series, packed by `pack_series`, or one file of DICOM.

    Slices are ordered by their position along the normal of their plane, whatever their names and
    instance numbers, and rescaled by slope and intercept.

    Raises:
      ConfigError: the decoder of a compressed file is not installed.
      DataError: broken, too large, or not one stack of slices.
    """
    pydicom = require("pydicom", name)
    files = [data]
    if not is_dicom(data):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [archive.read(member) for member in archive.infolist()]
    slices = []
    for file in files:
        try:
            # Values that break rules of DICOM are common, and rarely matter here.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                slices.append(pydicom.dcmread(io.BytesIO(file)))
        except Exception as e:  # Broken files raise errors of many types.
            raise DataError(f"{name}: broken DICOM file ({one_line(e)})") from e
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _stack(slices, name)


def _stack(slices: list[Any], name: str) -> Volume:
    """The volume of datasets, one per slice, or one of several frames."""
    first = slices[0]
    try:
        rows, columns = int(first.Rows), int(first.Columns)
        frames = int(first.get("NumberOfFrames", 1) or 1)
        samples = int(first.get("SamplesPerPixel", 1))
    except Exception as e:  # Missing or broken elements raise errors of many types.
        raise DataError(f"{name}: has no image ({one_line(e)})") from e
    if frames > 1 and len(slices) > 1:
        raise DataError(
            f"{name}: its series has {len(slices)} files of several frames; keep one in the folder"
        )
    count_voxels((len(slices) * frames, rows, columns, samples), name)
    planes = [_plane(dataset, frame, name) for dataset in slices for frame in range(frames)]
    if any((int(s.Rows), int(s.Columns)) != (rows, columns) for s in slices):
        raise DataError(f"{name}: its series has slices of different sizes; keep those of one size")
    order, affine = _geometry(planes, name)
    if frames > 1:
        pixels = _pixels(first, name)
        values = to_values(pixels, *_rescale(first, name))
    else:
        parts = [to_values(_pixels(s, name), *_rescale(s, name)) for s in slices]
        values = np.stack(parts)
    values = values.reshape(len(planes), rows, columns, samples)[order]
    # Indices of the affine are those of column, row and slice.
    return to_ras(to_values(values).transpose(2, 1, 0, 3), affine, name)


def _pixels(dataset: Any, name: str) -> np.ndarray:
    """Stored values of a file.

    Raises:
      ConfigError: no installed decoder reads its compression.
    """
    try:
        return dataset.pixel_array
    except Exception as e:  # Broken files raise errors of many types.
        syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
        if syntax is not None and syntax.is_compressed and "missing" in str(e):
            raise ConfigError(
                f"{name}: is compressed as {syntax.name}: run `pip install pylibjpeg[all]`, or "
                "save it uncompressed"
            ) from e
        raise DataError(f"{name}: its pixels can't be decoded ({one_line(e)})") from e


def _rescale(dataset: Any, name: str) -> tuple[float, float]:
    """Slope and intercept of a file."""
    groups = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    shared = groups[0].get("PixelValueTransformationSequence") if groups else None
    holder = shared[0] if shared else dataset
    try:
        slope = holder.get("RescaleSlope")
        intercept = holder.get("RescaleIntercept")
        slope, intercept = float(1 if slope is None else slope), float(intercept or 0)
    except (TypeError, ValueError) as e:
        raise DataError(f"{name}: broken rescale slope or intercept ({one_line(e)})") from e
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
        raise DataError(f"{name}: rescale slope {slope} and intercept {intercept}")
    return slope, intercept


def _plane(dataset: Any, frame: int, name: str) -> np.ndarray | None:
    """Position, directions along a row and a column, and spacing `[3 + 6 + 2]`; None if not stated.

    In mm to the left, posterior and superior.
    """
    sources = [dataset]
    parts = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
    for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        items = dataset.get(sequence) or []
        index = frame if sequence.startswith("Per") else 0
        if index < len(items):
            for part in parts:
                sources += list(items[index].get(part) or [])[:1]
    values = []
    for key, count in (
        ("ImagePositionPatient", 3),
        ("ImageOrientationPatient", 6),
        ("PixelSpacing", 2),
    ):
        value = next((s.get(key) for s in reversed(sources) if s.get(key) is not None), None)
        if value is None or len(value) != count:
            return None
        try:
            values += [float(x) for x in value]
        except (TypeError, ValueError) as e:
            raise DataError(f"{name}: broken {key} ({one_line(e)})") from e
    return np.array(values)


def _geometry(planes: list[np.ndarray | None], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Order of the slices along their normal, and the affine `[4, 4]` of RAS.

    Raises:
      DataError: the planes are not a stack.
    """
    stated = [plane for plane in planes if plane is not None]
    if not stated and len(planes) == 1:
        return np.zeros(1, int), np.diag([-1.0, -1.0, 1.0, 1.0])
    if len(stated) < len(planes):
        raise DataError(
            f"{name}: {len(planes) - len(stated)} of {len(planes)} slices state no position, "
            "orientation or spacing, so their order is not known"
        )
    table = np.array(stated)
    positions, directions, sides = np.split(table, (3, 9), axis=1)
    if np.abs(directions - directions[0]).max() > 1e-3 or np.ptp(sides, axis=0).max() > 1e-3:
        raise DataError(
            f"{name}: its series has slices of different orientations or spacings, such as a "
            "scout; keep those of one stack in the folder"
        )
    along_row, along_column = directions[0, :3], directions[0, 3:]
    normal = np.cross(along_row, along_column)
    depths = positions @ normal
    order = np.argsort(depths, kind="stable")
    step = normal * _step(depths[order], name)
    affine = np.eye(4)
    # The spacing is that of rows, then of columns.
    affine[:3, 0], affine[:3, 1] = along_row * sides[0, 1], along_column * sides[0, 0]
    affine[:3, 2], affine[:3, 3] = step, positions[order[0]]
    return order, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _step(depths: np.ndarray, name: str) -> float:
    """Distance of the slices, whose positions along the normal are sorted."""
    steps = np.diff(depths)
    if not len(steps):
        return 1.0
    typical = float(np.median(steps))
    if steps.min() <= 1e-3 * max(typical, 1e-3):
        raise DataError(
            f"{name}: two of its {len(depths)} slices have the same position, as in time series "
            "and repeated exports; keep one stack in the folder"
        )
    if np.abs(steps - typical).max() > _TOLERANCE * typical:
        raise DataError(
            f"{name}: its {len(depths)} slices have distances from {steps.min():.3g} to "
            f"{steps.max():.3g} mm: slices are missing, or there are two stacks"
        )
    return float(depths[-1] - depths[0]) / len(steps)
