"""What the header of a scan says about its origin, without the fields that may name a person.

Only the fields below are read. Names of institutions and stations, which may be those of a doctor,
and patients are replaced by digests, which the audit compares and never writes.
"""

import hashlib
import io
import warnings
import zipfile

import numpy as np

from imgcls.data.decode.dicom import is_dicom, is_series
from imgcls.data.decode.voxels import require

# Property by field of DICOM; values are shown as they are.
_SHOWN = {
    "Modality": "modality",
    "Manufacturer": "scanner",
    "ManufacturerModelName": "scanner model",
    "MagneticFieldStrength": "field strength",
    "KVP": "tube voltage",
    "ConvolutionKernel": "kernel",
    "SliceThickness": "slice thickness",
}
# Those of which only a number is shown.
_HIDDEN = {"InstitutionName": "site", "StationName": "station", "PatientID": "patient"}
PSEUDONYMS = tuple(_HIDDEN.values())
_LONGEST = 40


def read_origin(data: bytes, name: str) -> dict[str, str]:
    """Returns properties of a DICOM file or series by name; none for other formats.

    Values of `PSEUDONYMS` are digests. Fields that are missing or broken are left out.
    """
    if is_dicom(data) or is_series(data):
        return _read_dicom(data, name)
    return {}


def _read_dicom(data: bytes, name: str) -> dict[str, str]:
    pydicom = require("pydicom", name)
    if not is_dicom(data):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read(archive.infolist()[0])
    tags = [*_SHOWN, *_HIDDEN, "ImageOrientationPatient"]
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=tags)
        except Exception:  # Broken files raise errors of many types; decoding names them.
            return {}
        for field, key in (_SHOWN | _HIDDEN).items():
            try:
                value = str(header.get(field) or "").strip()
            except Exception:
                continue
            if value:
                found[key] = _digest(value) if field in _HIDDEN else value[:_LONGEST]
        try:
            directions = np.array(header.ImageOrientationPatient, float)
            normal = np.abs(np.cross(directions[:3], directions[3:]))
            found["plane"] = ("sagittal", "coronal", "axial")[int(normal.argmax())]
        except Exception:
            pass
    return found


def number_pseudonyms(key: str, digests: np.ndarray) -> np.ndarray:
    """Replaces digests, text `[N]`, by `site 1`, `site 2` in the order in which they occur."""
    names = dict.fromkeys(digest for digest in digests if digest)
    number = {digest: f"{key} {i}" for i, digest in enumerate(names, start=1)}
    return np.array([number.get(digest, "") for digest in digests])


def _digest(value: str) -> str:
    return hashlib.blake2b(value.encode(errors="replace"), digest_size=12).hexdigest()
