"""A folder of numbered frames as one video."""

import re
from collections.abc import Callable, Iterable

from imgcls.core.errors import DataError
from imgcls.data.decode.containers import MAX_FRAMES
from imgcls.data.decode.formats import FRAME_EXTENSIONS
from imgcls.data.decode.frame_files import pack_frames
from imgcls.data.decode.voxels import MAX_VOLUME_BYTES


def frames_in(names: Iterable[str]) -> list[str]:
    """The images among the files of a folder, in natural order: `2.jpg` comes before `10.jpg`."""
    frames = (n for n in names if n.lower().endswith(FRAME_EXTENSIONS) and not n.startswith("."))
    return sorted(frames, key=_natural)


def read_frames(folder: str, names: list[str], read: Callable[[str], bytes]) -> bytes:
    """Reads the frames of a folder, packed for `EncodedFrames`.

    Raises:
      DataError: there are none, they are too many or too large.
    """
    if not names:
        raise DataError(f"{folder}: is a folder without images, which would be frames of a video")
    if len(names) > MAX_FRAMES:
        raise DataError(
            f"{folder}: has {len(names):,} frames, more than the {MAX_FRAMES:,} allowed"
        )
    files, size = [], 0
    for name in names:
        files.append((name, read(name)))
        size += len(files[-1][1])
        if size > MAX_VOLUME_BYTES:
            raise DataError(f"{folder}: has more than the {MAX_VOLUME_BYTES:,} bytes allowed")
    return pack_frames(files)


def _natural(name: str) -> list[tuple[int, str]]:
    """The numbers and texts of a name, where numbers are compared by value."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
