"""Which files of a folder are one DICOM series, and their bytes in one piece."""

import collections
from collections.abc import Callable, Iterable

from imgcls.core.errors import DataError
from imgcls.data.decode.dicom import HEADER, MAX_FILES, is_dicom, pack_series, read_series
from imgcls.data.decode.voxels import MAX_VOLUME_BYTES

# A table of contents beside series, without voxels.
_DIRECTORY = "DICOMDIR"


def group_series(
    paths: Iterable[str], read_start: Callable[[str], bytes]
) -> dict[str, tuple[str, ...]]:
    """Groups the DICOM files of each folder by series.

    Args:
      paths: files, some of which may be DICOM.
      read_start: returns the first `HEADER` bytes of a file.

    Returns:
      `{path: sorted paths of its series}`, without files of other formats.
    """
    groups = collections.defaultdict(list)
    for path in sorted(paths):
        folder, _, name = path.rpartition("/")
        start = b"" if name.upper() == _DIRECTORY else read_start(path)[:HEADER]
        if is_dicom(start):
            groups[folder, read_series(start, path)].append(path)
    return {path: tuple(files) for files in groups.values() for path in files}


def read_packed(paths: tuple[str, ...], read: Callable[[str], bytes]) -> bytes:
    """Reads the files of a series, packed for `decode_volume`.

    Raises:
      DataError: they are too many or too large.
    """
    if len(paths) > MAX_FILES:
        raise DataError(
            f"{paths[0]}: its series has {len(paths):,} files, more than the {MAX_FILES:,} allowed"
        )
    files, size = [], 0
    for path in paths:
        files.append((path.rpartition("/")[2], read(path)))
        size += len(files[-1][1])
        if size > MAX_VOLUME_BYTES:
            raise DataError(
                f"{paths[0]}: its series has more than the {MAX_VOLUME_BYTES:,} bytes allowed"
            )
    return pack_series(files)
