"""Whether a video file is divided into its parts without gaps, from the first to the last frame.

FFmpeg skips damaged parts of MKV, WebM, AVI, MPEG and GIF, so that frames are missing without a
message. MP4 lists all frames in one place.
"""

import mmap
from collections.abc import Iterator

from imgcls.core.errors import DataError

Data = bytes | mmap.mmap

# Elements whose content is a row of elements.
_SEGMENT, _CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
_PACK, _STREAM_END = 0xBA, 0xB9
_GIF_EXTENSION, _GIF_IMAGE, _GIF_END = 0x21, 0x2C, 0x3B


class _FaultError(Exception):
    """What begins at a position is no part of the file."""


def check_structure(data: Data, container: str, name: str) -> None:
    """Raises a DataError if a part of a file is damaged.

    Args:
      data: bytes of the file.
      container: FFmpeg's name of its format.
      name: name for messages.
    """
    walks = {"matroska": _elements, "avi": _chunks, "mpeg": _packs, "gif": _blocks}
    if container not in walks:
        return
    last = 0
    try:
        for at in walks[container](data):
            last = at
    except (_FaultError, IndexError) as e:
        raise DataError(f"{name}: corrupted or truncated after byte {last:,}") from e


def _elements(data: Data) -> Iterator[int]:
    """The positions of the elements of EBML, down to the blocks of frames (RFC 8794)."""
    at = end = 0
    while at < (end or len(data)):
        yield at
        length = _leading(data[at])
        kind, at = data[at : at + length], at + length
        width = _leading(data[at])
        size = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
        unknown, at = size == (1 << 7 * width) - 1, at + width
        if not unknown and at + size > len(data):
            raise _FaultError
        if kind == _SEGMENT:
            # What follows the segment is no part of the video.
            end = 0 if unknown else at + size
        elif unknown and kind != _CLUSTER:
            raise _FaultError
        elif kind != _CLUSTER:
            at += size


def _leading(first: int) -> int:
    """The length of a number of EBML, by its first byte."""
    if not first:
        raise _FaultError
    return 9 - first.bit_length()


def _chunks(data: Data) -> Iterator[int]:
    """The positions of the chunks of RIFF, inside lists as well."""
    at = 0
    while data[at : at + 4] == b"RIFF":
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size if size else len(data)
        at += 12
        while at + 8 <= end:
            yield at
            kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
            if not _is_name(kind) or at + 8 + size > len(data):
                raise _FaultError
            if kind == b"LIST":
                at += 12
                continue
            at += 8 + size
            # Chunks are padded to an even length; some programs leave that out.
            at += size % 2 and (at + 1 >= end or _is_name(data[at + 1 : at + 5]))


def _is_name(kind: bytes) -> bool:
    return len(kind) == 4 and all(32 <= code < 127 for code in kind)


def _packs(data: Data) -> Iterator[int]:
    """The positions of the packs and packets of an MPEG program stream (ISO 13818-1, 2.5.3)."""
    at = 0
    while at < len(data):
        yield at
        if data[at : at + 3] != b"\0\0\1":
            if data[at : at + 2**16].strip(b"\0"):  # Zeros at the end only fill a sector.
                raise _FaultError
            return
        code = data[at + 3]
        if code == _PACK and data[at + 4] >> 6 == 1:
            at += 14 + (data[at + 13] & 7)
        elif code == _PACK:  # of MPEG-1
            at += 12
        else:
            length = 0 if code == _STREAM_END else 2 + (data[at + 4] << 8) + data[at + 5]
            at += 4 + length
    if at > len(data):
        raise _FaultError


def _blocks(data: Data) -> Iterator[int]:
    """The positions of the blocks of a GIF (specification of GIF89a)."""
    at = 13 + _colors(data[10])
    while data[at] != _GIF_END:
        yield at
        if data[at] == _GIF_EXTENSION:
            at += 2
        elif data[at] == _GIF_IMAGE:
            at += 11 + _colors(data[at + 9])
        else:
            raise _FaultError
        while data[at]:
            at += 1 + data[at]
        at += 1


def _colors(flags: int) -> int:
    """The length of a table of colors, by the byte that says whether there is one."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
