"""Video files -> frames uint8 `[T, H, W, C]`.

A frame is found by the packet that it is decoded from, never by multiplying a frame rate: each
packet carries its number through the decoder. Decoding starts at the last keyframe before a wanted
frame, and ends with it; other groups of pictures are skipped.
"""

import collections
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode.clips import check_clip
from imgcls.data.decode.frame_index import FrameIndex, decode_index, read_index
from imgcls.data.decode.frame_pixels import PIXEL_FORMATS, FrameConverter, FrameSize
from imgcls.data.decode.packets import open_video, read_packets, require_av

# Times that differ by less, in seconds, are the same.
_SAME = 1e-6


class _WrongIndexError(Exception):
    """The decoder has not returned the frames that the index states."""


class EncodedVideo:
    """A video file whose frames are decoded on demand, see `clips.Video`. Thread-safe.

    Args:
      data: bytes of the file, or its path.
      name: name for messages.
      channels: 3 (RGB), 1 (gray) or 4 (RGBA).
      start, end: seconds since the first frame; only frames from `start` to before `end` count.
        None is the start or the end of the file.

    Raises:
      ConfigError: another number of channels.
    """

    def __init__(
        self,
        data: bytes | pathlib.Path,
        name: str,
        *,
        channels: int = 3,
        start: float | None = None,
        end: float | None = None,
    ):
        if channels not in PIXEL_FORMATS:
            raise ConfigError(
                f"config.data.channels={channels}: videos have 1 (gray), 3 (RGB) or 4 (RGBA)"
            )
        self._data, self.name, self._channels = data, name, channels
        self._start, self._end = start, end

    def __len__(self) -> int:
        """The number of frames, at least 1; raises the errors of `frames`."""
        first, last = self._range
        return last - first

    @property
    def times(self) -> np.ndarray | None:
        """When each frame is shown, float64 `[N]` in seconds from 0; None if unknown."""
        times = self._index.times
        if times is None:
            return None
        first, last = self._range
        return times[first:last] - times[first]

    def frames(self, indices: Sequence[int] | np.ndarray, size: FrameSize = None) -> np.ndarray:
        """Decodes some frames, upright by the display matrix of the file.

        Args:
          indices: int `[T]`, 0 to N - 1, in any order, also repeated.
          size: the shorter side or (H, W), to which each frame is scaled (bilinear, antialiased)
            when it is decoded; None: as in the file.

        Returns:
          uint8 `[T, H, W, C]`; alpha is dropped without blending.

        Raises:
          ConfigError: PyAV is not installed.
          DataError: the file is not a video, broken or too large.
        """
        numbers = np.asarray(indices, int)
        if not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"{self.name}: has the frames 0 to {len(self) - 1}, not {indices}")
        numbers = numbers + self._range[0]
        try:
            return self._decode(self._index, numbers, size)
        except _WrongIndexError:
            exact = decode_index(self._data, self.name)
        try:
            return self._decode(exact, _same_times(numbers, self._index, exact), size)
        except _WrongIndexError as e:
            raise DataError(f"{self.name}: corrupted video: {e}") from e

    def clips(self, windows: Sequence[np.ndarray], size: FrameSize = None) -> Iterator[np.ndarray]:
        """Decodes the file once, from start to end, and yields clips as soon as they are complete.

        Only the frames of clips that are not complete are in memory.

        Args:
          windows: int `[T]` each, the frames of each clip; none ends before an earlier one.
          size: see `frames`.

        Yields:
          uint8 `[T, H, W, C]`.

        Raises:
          DataError: see `frames`.
        """
        done, numbers = 0, [self._range[0] + np.asarray(window, int) for window in windows]
        try:
            for clip in self._stream(self._index, numbers, size):
                yield clip
                done += 1
            return
        except _WrongIndexError:
            exact = decode_index(self._data, self.name)
        rest = [_same_times(window, self._index, exact) for window in numbers[done:]]
        try:
            yield from self._stream(exact, rest, size)
        except _WrongIndexError as e:
            raise DataError(f"{self.name}: corrupted video: {e}") from e

    def _stream(
        self, index: FrameIndex, windows: list[np.ndarray], size: FrameSize
    ) -> Iterator[np.ndarray]:
        todo = collections.deque(windows)
        # The first frame that each clip and all later ones need.
        needed = collections.deque(np.minimum.accumulate([w.min() for w in windows[::-1]])[::-1])
        kept: dict[int, np.ndarray] = {}
        with open_video(self._data, self.name, checked=True) as stream:
            codec = stream.codec_context
            convert = FrameConverter(codec.height, codec.width, size, self._channels)
            wanted = np.unique(np.concatenate(windows))
            for number, frame in _find(stream, index, wanted, self.name):
                kept[number] = convert(frame).copy()
                check_clip(len(kept), kept[number].shape, self.name)
                while todo and number >= todo[0].max():
                    yield np.stack([kept[n] for n in todo.popleft()])
                    needed.popleft()
                    first = needed[0] if needed else number + 1
                    kept = {n: pixels for n, pixels in kept.items() if n >= first}

    @functools.cached_property
    def _index(self) -> FrameIndex:
        return read_index(self._data, self.name)

    @functools.cached_property
    def _range(self) -> tuple[int, int]:
        """The first frame of the segment, and the one after its last."""
        count, times = len(self._index.packets), self._index.times
        if self._start is None and self._end is None:
            return 0, count
        if times is None:
            raise DataError(f"{self.name}: states no times, which `start` and `end` need")
        first = 0 if self._start is None else int(np.searchsorted(times, self._start - _SAME))
        last = count if self._end is None else int(np.searchsorted(times, self._end - _SAME))
        if last <= first:
            raise DataError(
                f"{self.name}: has no frame from {self._start} to {self._end} seconds; its last "
                f"one is at {times[-1]:.3f}"
            )
        return first, last

    def _decode(self, index: FrameIndex, numbers: np.ndarray, size: FrameSize) -> np.ndarray:
        """Frames `[T, H, W, C]` by their numbers in an index."""
        clip = np.zeros(0, np.uint8)
        with open_video(self._data, self.name, checked=True) as stream:
            codec = stream.codec_context
            convert = FrameConverter(codec.height, codec.width, size, self._channels)
            for number, frame in _find(stream, index, np.unique(numbers), self.name):
                pixels = convert(frame)
                if not clip.size:
                    check_clip(len(numbers), pixels.shape, self.name)
                    clip = np.empty((len(numbers), *pixels.shape), np.uint8)
                clip[numbers == number] = pixels
        return clip


def _find(
    stream: Any, index: FrameIndex, wanted: np.ndarray, name: str
) -> Iterator[tuple[int, Any]]:
    """Yields the frames of some numbers, ascending int `[W]`, and decodes what they need alone.

    Raises:
      _WrongIndexError: a frame is broken, or is not the one that the index states.
    """
    todo = collections.deque(wanted.tolist())
    left_out = index.unused.copy()
    left_out[index.packets[wanted]] = False
    start, decoding, last, count = index.start(todo[0]), False, None, 0
    for number, packet in _numbered(stream, name):
        if not decoding and number < start:
            continue
        if not decoding:
            stream.codec_context.flush_buffers()
            decoding, last = True, None
        if packet is not None and left_out[number]:
            continue
        for tag, frame in _decode_packet(stream, packet, number, name, index.rank, start):
            tag = count if index.counted else tag
            count += 1
            # What precedes the keyframe in time may refer to frames before it.
            if tag is not None and index.rank[tag] < index.rank[start]:
                continue
            found = -1 if tag is None else int(index.place[tag])
            expected = _following(last, index, start, left_out)
            _check_frame(frame, found, expected, index.place[start])
            last = found
            if found == todo[0]:
                yield todo.popleft(), frame
            if not todo:
                return
        following = index.start(todo[0])
        if following > number:
            start, decoding = following, False
    raise _WrongIndexError(f"frame {todo[0]} is missing")


def _numbered(stream: Any, name: str) -> Iterator[tuple[int, Any]]:
    """The packets with their numbers, and None at the end, which returns delayed frames."""
    number = -1
    for number, packet in enumerate(read_packets(stream, name)):
        packet.pts, packet.dts = number, None
        yield number, packet
    yield number + 1, None


def _decode_packet(
    stream: Any, packet: Any, number: int, name: str, rank: np.ndarray, start: int
) -> list[tuple[int | None, Any]]:
    """The frames that a packet completes, each with the number of its packet."""
    try:
        return [(frame.pts, frame) for frame in stream.decode(packet)]
    except require_av(name).error.FFmpegError as e:
        if packet is not None and rank[number] < rank[start]:
            return []
        raise _WrongIndexError(e.strerror) from e


def _following(last: int | None, index: FrameIndex, start: int, left_out: np.ndarray) -> int:
    """The number of the frame that the decoder should return next.

    Args:
      last: number of the frame before; None after a keyframe was skipped to.
      index: what the packets state.
      start: packet of that keyframe, which an edit list may hide.
      left_out: bool `[P]`, packets that are not decoded.
    """
    if last is None:
        number = int(np.searchsorted(index.rank[index.packets], index.rank[start]))
    else:
        number = last + 1
    while number < len(index.packets) and left_out[index.packets[number]]:
        number += 1
    return number


def _check_frame(frame: Any, found: int, expected: int, key: int) -> None:
    """Raises a _WrongIndexError if a frame is broken, or is not the expected one.

    Args:
      frame: decoded frame.
      found: its number; -1 if it should not be shown.
      expected: the number that it should have.
      key: number of the keyframe that decoding started from.
    """
    if frame.is_corrupt:
        raise _WrongIndexError(f"frame {found} is broken")
    if found < 0 or found != expected:
        raise _WrongIndexError(f"frame {found} comes instead of frame {expected}")
    if found == key and not frame.key_frame:
        raise _WrongIndexError(f"frame {found} is no keyframe")


def _same_times(numbers: np.ndarray, index: FrameIndex, other: FrameIndex) -> np.ndarray:
    """The frames of another index that are shown at the times of frames, int `[T]`."""
    if index.times is not None and other.times is not None:
        shown = np.searchsorted(other.times, index.times[numbers] + _SAME, side="right")
        numbers = shown - 1
    return np.clip(numbers, 0, len(other.packets) - 1)
