"""Volume files -> voxels `[D, H, W, C]` with their spacing.

A format is recognized by its first bytes: NIfTI, MRC, NRRD, DICOM, `.npy`, `.npz`, stacks of TIFF.
"""

import io

from imgcls.core.errors import DataError
from imgcls.data.decode.dicom import is_dicom, is_series, read_dicom
from imgcls.data.decode.mrc import is_mrc, read_mrc
from imgcls.data.decode.nifti import is_nifti, read_nifti
from imgcls.data.decode.npy import read_npy
from imgcls.data.decode.npz import as_volume, read_npz, write_npz
from imgcls.data.decode.nrrd import MAGIC as _NRRD
from imgcls.data.decode.nrrd import read_nrrd
from imgcls.data.decode.tiff import MAGICS as _TIFF
from imgcls.data.decode.tiff import read_tiff
from imgcls.data.decode.voxels import START, Stream, Volume

_NPY = b"\x93NUMPY"
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\3\4"


def is_volume(data: bytes, name: str, stacks: bool = False) -> bool:
    """Whether a file is a volume, by its first bytes or else by the extension of its name.

    Args:
      data: bytes of the file.
      name: name of the record.
      stacks: whether a TIFF is a stack of slices; otherwise it is an image.
    """
    start = data[:START]
    if start.startswith(_TIFF):
        return stacks
    known = start.startswith((_NPY, _GZIP, _ZIP, _NRRD))
    return known or is_dicom(start) or is_nifti(start) or is_mrc(start, name)


def name_format(data: bytes, name: str) -> str:
    """The format of a file for which `is_volume` is true, for people."""
    if is_dicom(data) or is_series(data):
        return "DICOM"
    if data.startswith((_NPY, _ZIP)):
        return "NumPy"
    if data.startswith(_TIFF):
        return "TIFF"
    if data.startswith(_NRRD):
        return "NRRD"
    return "NIfTI" if is_nifti(Stream(data, name).start) else "MRC"


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
    if is_dicom(data) or is_series(data):
        return read_dicom(data, name)
    if data.startswith(_ZIP):
        return read_npz(data, name)
    if data.startswith(_TIFF):
        return read_tiff(data, name)
    if data.startswith(_NRRD):
        return read_nrrd(data, name)
    stream = Stream(data, name)
    if is_nifti(stream.start):
        return read_nifti(stream)
    if is_mrc(stream.start, name):
        return read_mrc(stream)
    raise DataError(f"{name}: not a volume in one of NIfTI, MRC, NRRD, DICOM, TIFF, .npy, .npz")


def encode_volume(data: bytes, name: str) -> bytes:
    """Encodes a volume as `.npz`: its voxels and spacing, and no field that may name a person."""
    return data if data.startswith(_NPY) else write_npz(decode_volume(data, name))
