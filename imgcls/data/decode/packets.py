"""The packets of a video file, read by PyAV (FFmpeg's libraries) from memory or from a path."""

import contextlib
import functools
import io
import mmap
import os
import pathlib
import stat
from collections.abc import Iterator
from types import ModuleType
from typing import Any, BinaryIO

from imgcls.core.errors import ConfigError, DataError, one_line
from imgcls.data.decode.containers import FORMATS, MAX_FRAMES, check_container, find_container

INSTALL = "run `pip install -r requirements-video.txt`"
# Larger frames are refused; 8K has 33 million pixels. A decoder keeps up to 17 of them.
MAX_FRAME_PIXELS = 36_000_000
# Bytes that identify a format.
_START = 64
# Bytes that FFmpeg reads at once.
_BUFFER = 2**18


@contextlib.contextmanager
def open_video(data: bytes | pathlib.Path, name: str, *, checked: bool = False) -> Iterator[Any]:
    """Opens the largest video stream of a file, in a container of its own.

    Args:
      data: bytes of the file, or its path, from which it is read piece by piece.
      name: name for messages.
      checked: whether the file has been opened before without an error.

    Yields:
      `av.VideoStream`.

    Raises:
      ConfigError: PyAV is not installed.
      DataError: the file is not a video, is broken, or has frames that are too large.
    """
    av = require_av(name)
    with contextlib.ExitStack() as opened:
        file, view = _open_file(data, name)
        opened.enter_context(file)
        kind = find_container(view[:_START])
        if kind is None:
            what = f"not a video in one of {FORMATS}" if len(view) else "empty file"
            raise DataError(f"{name}: {what}")
        if not checked:
            check_container(view, kind, name)
        try:
            # With a format, FFmpeg does not probe for others, such as playlists of other files.
            container = av.open(
                file,
                format=kind,
                buffer_size=_BUFFER,
                io_open=functools.partial(_refuse, name),
                options={"max_pixels": str(MAX_FRAME_PIXELS)},
            )
        except av.error.FFmpegError as e:
            raise corrupted(name, e) from e
        opened.enter_context(container)
        yield _find_stream(container, name)


def _open_file(data: bytes | pathlib.Path, name: str) -> tuple[BinaryIO, bytes | mmap.mmap]:
    """A file, and its bytes, which of a file on disk are read when they are used."""
    if isinstance(data, bytes):
        return io.BytesIO(data), data
    try:
        # O_NONBLOCK: opening a pipe would otherwise wait for a writer.
        file = open(os.open(data, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{name}: can't be read: not a regular file")
        if not status.st_size:
            return file, b""
        return file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as e:
        raise DataError(f"{name}: can't be read: {one_line(e)}") from e


def _find_stream(container: Any, name: str) -> Any:
    """The largest video stream of a container."""
    stream = container.streams.best("video")
    if stream is None:
        others = ", ".join(sorted({stream.type for stream in container.streams}))
        raise DataError(f"{name}: has no video, only {others or 'empty streams'}")
    codec = stream.codec_context
    if codec is None:
        raise DataError(f"{name}: its codec is not known; convert it to H.264")
    if not 0 < codec.width * codec.height <= MAX_FRAME_PIXELS:
        # FFmpeg states 0 for frames that it refuses.
        size = f"{codec.width} x {codec.height}" if codec.width else "no or too many"
        raise DataError(f"{name}: its header declares {size} pixels, not 1 to {MAX_FRAME_PIXELS:,}")
    # The threads of the loader already use all cores.
    codec.thread_count = 1
    return stream


def read_packets(stream: Any, name: str) -> Iterator[Any]:
    """Yields the packets of a stream in the order of the file, without decoding them.

    Raises:
      DataError: the file is broken or truncated, or has more than `MAX_FRAMES` packets.
    """
    count = 0
    try:
        for packet in stream.container.demux(stream):
            if not packet.size:
                continue
            if packet.is_corrupt:
                raise DataError(f"{name}: truncated or corrupted at packet {count}")
            count += 1
            if count > MAX_FRAMES:
                raise DataError(f"{name}: has more than the {MAX_FRAMES:,} frames allowed; cut it")
            yield packet
    except require_av(name).error.FFmpegError as e:
        raise corrupted(name, e) from e


def corrupted(name: str, error: Exception) -> DataError:
    """The error of a file that FFmpeg can't read."""
    reason = getattr(error, "strerror", None) or one_line(error)
    return DataError(f"{name}: corrupted video: {reason}")


def require_av(name: str) -> ModuleType:
    """Imports PyAV; raises a ConfigError if it is not installed."""
    try:
        import av
        import av.error
    except ImportError as e:
        raise ConfigError(f"{name}: is read by PyAV: {INSTALL}") from e
    return av


def _refuse(name: str, url: str, flags: int, options: dict) -> None:
    raise DataError(f"{name}: refers to another file, which is never opened")
