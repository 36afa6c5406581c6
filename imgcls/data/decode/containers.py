"""The container formats of videos: their first bytes, and checks of what their headers declare.

The checks come before FFmpeg's, which allocates what a header declares: a file of a few bytes may
state billions of frames.
"""

import mmap
from collections.abc import Iterator

from imgcls.core.errors import DataError
from imgcls.data.decode.structure import check_structure

# Longer videos are refused; ten hours at 29 frames per second.
MAX_FRAMES = 2**20
# FFmpeg's names of the formats, and the extensions of their files.
_EXTENSIONS = {
    "mov": (".mp4", ".m4v", ".mov", ".3gp"),
    "matroska": (".mkv", ".webm"),
    "avi": (".avi",),
    "mpeg": (".mpg", ".mpeg"),
}
VIDEO_EXTENSIONS = tuple(e for extensions in _EXTENSIONS.values() for e in extensions)
GIF_EXTENSION = ".gif"
FORMATS = "MP4, MOV, MKV, WebM, AVI, MPEG, GIF"

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_GIF = (b"GIF87a", b"GIF89a")
# Brands of images in the container of MP4.
_IMAGE_BRANDS = (b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1")
# Boxes that an MP4 starts with.
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# Boxes that contain others, down to the tables of samples.
_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf")
# Position of the number of samples, after the header of a box.
_SAMPLE_COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
_MAX_EDITS = 1024


def find_container(start: bytes) -> str | None:
    """FFmpeg's name of the format of a video, by its first bytes; None for other files.

    A GIF is one too. Formats that name other files, such as playlists, are never recognized.
    """
    if start[4:8] in _FIRST_BOXES:
        return None if start[4:8] == b"ftyp" and start[8:12] in _IMAGE_BRANDS else "mov"
    if start.startswith(_EBML):
        return "matroska"
    if start.startswith(b"RIFF") and start[8:12] == b"AVI ":
        return "avi"
    if start.startswith(b"\0\0\1\xba"):
        return "mpeg"
    return "gif" if start.startswith(_GIF) else None


def is_video(start: bytes) -> bool:
    """Whether a file is a video by its first bytes; a GIF is only one for transforms of videos."""
    return find_container(start) not in (None, "gif")


def check_container(data: bytes | mmap.mmap, container: str, name: str) -> None:
    """Raises a DataError if a file ends early, is damaged, or declares too many frames.

    Args:
      data: bytes | mmap.mmap of the file.
      container: its format, by `find_container`.
      name: name for messages.
    """
    if container == "mov":
        _check_boxes(data, name)
        return
    declared = {"avi": _riff_size, "matroska": _segment_end}.get(container, lambda _: 0)(data)
    if declared > len(data):
        raise _truncated(declared, data, name)
    check_structure(data, container, name)


def _truncated(declared: int, data: bytes | mmap.mmap, name: str) -> DataError:
    return DataError(
        f"{name}: truncated: its header declares {declared:,} bytes, and {len(data):,} are there"
    )


def _check_boxes(data: bytes | mmap.mmap, name: str) -> None:
    samples = edits = 0
    found = set()
    for kind, start, end in _boxes(data, 0, len(data)):
        found.add(kind)
        if end > len(data) and kind in (b"moov", b"mdat", b"moof"):
            raise _truncated(end, data, name)
        if kind in _SAMPLE_COUNTS:
            samples += _integer(data, start + _SAMPLE_COUNTS[kind])
        elif kind in (b"stts", b"ctts"):
            rows = range(start + 8, min(start + 8 + 8 * _integer(data, start + 4), end), 8)
            if sum(_integer(data, row) for row in rows) > MAX_FRAMES:
                raise _too_many(name)
        elif kind == b"elst":
            edits = max(edits, _integer(data, start + 4))
    if b"moov" not in found:
        raise DataError(f"{name}: truncated, or never finished: it has no index of its frames")
    # FFmpeg lists the samples once for each edit.
    if samples > 4 * MAX_FRAMES or edits > _MAX_EDITS or samples * max(edits, 1) > 8 * MAX_FRAMES:
        raise _too_many(name)


def _too_many(name: str) -> DataError:
    return DataError(f"{name}: declares more than the {MAX_FRAMES:,} frames allowed; cut it")


def _boxes(
    data: bytes | mmap.mmap, start: int, end: int, depth: int = 0
) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of boxes of an MP4, and of those inside `_PARENTS`."""
    while start + 8 <= end:
        size, kind, content = _integer(data, start), data[start + 4 : start + 8], start + 8
        if size == 1:
            size, content = int.from_bytes(data[start + 8 : start + 16], "big"), start + 16
        last = end if size == 0 else start + size
        if last < content:
            return
        yield kind, content, last
        if kind in _PARENTS and depth < len(_PARENTS):
            yield from _boxes(data, content, min(last, end), depth + 1)
        start = last


def _integer(data: bytes | mmap.mmap, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _riff_size(data: bytes | mmap.mmap) -> int:
    """The end of an AVI by its header; 0 where the writer never filled it in."""
    size = int.from_bytes(data[4:8], "little")
    return size + 8 if size else 0


def _segment_end(data: bytes | mmap.mmap) -> int:
    """The end of a Matroska file by its header; 0 if it is unknown, as of a live stream."""
    at = data.find(_SEGMENT, 0, 4096)
    if at < 0 or at + 4 >= len(data) or not data[at + 4]:
        return 0
    length = 9 - data[at + 4].bit_length()
    size = int.from_bytes(data[at + 4 : at + 4 + length], "big") & ((1 << 7 * length) - 1)
    return 0 if size == (1 << 7 * length) - 1 else at + 4 + length + size
