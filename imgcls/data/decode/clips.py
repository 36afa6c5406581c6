"""Videos as a sequence of frames, whatever they are stored as."""

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode.frame_pixels import FrameSize
from imgcls.data.decode.image import resize_pixels, shorter_side

# Largest clip in bytes.
MAX_CLIP = 2**30


class Video(Protocol):
    """N frames that are read on demand.

    Attributes:
      name: name for messages.
    """

    name: str

    def __len__(self) -> int:
        """N, at least 1."""
        ...

    @property
    def times(self) -> np.ndarray | None:
        """When each frame is shown first, in seconds, float64 `[N]` from 0; None if unknown."""
        ...

    def frames(self, indices: Sequence[int] | np.ndarray, size: FrameSize = None) -> np.ndarray:
        """Frames by their numbers int `[T]`, uint8 `[T, H, W, C]`.

        Args:
          indices: 0 to N - 1, in any order, also repeated.
          size: the shorter side or (H, W) to which frames are scaled; None: as they are.
        """
        ...


class ArrayVideo:
    """Frames in memory, uint8 `[N, H, W, C]`, without times; see `Video`."""

    times = None

    def __init__(self, array: np.ndarray, name: str):
        self._array, self.name = array, name

    def __len__(self) -> int:
        return len(self._array)

    def frames(self, indices: Sequence[int] | np.ndarray, size: FrameSize = None) -> np.ndarray:
        frames = self._array[np.asarray(indices, int)]
        return frames if size is None else np.stack([scale(frame, size) for frame in frames])


def scale(frame: np.ndarray, size: FrameSize) -> np.ndarray:
    """Resizes a frame `[H, W, C]`, antialiased."""
    height, width = frame.shape[:2]
    sides = shorter_side(height, width, size) if isinstance(size, int) else size
    if sides is None or tuple(sides) == (height, width):
        return frame
    shrinks = sides[0] * sides[1] < height * width
    return resize_pixels(
        frame, (sides[1], sides[0]), cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def check_clip(length: int, shape: tuple[int, ...], name: str) -> None:
    """Raises a DataError if frames `[H, W, C]` take more than `MAX_CLIP` bytes."""
    if length * int(np.prod(shape)) > MAX_CLIP:
        raise DataError(
            f"{name}: {length} frames of {shape[1]} x {shape[0]} pixels are more than the "
            f"{MAX_CLIP:,} bytes allowed; scale them while they are decoded, with the argument size"
        )


def duration(video: Video) -> float | None:
    """The length of a video in seconds; None if it states no times, or has a single frame."""
    times = video.times
    if times is None or len(times) < 2:
        return None
    # The last frame is shown as long as the others are on average.
    return float(times[-1]) * len(times) / (len(times) - 1)


def stated_times(video: Video) -> np.ndarray:
    """The times of the frames of a video; raises a ConfigError if it states none."""
    if video.times is None:
        raise ConfigError(
            f"config.data: {video.name} states no times, which sample_frames(fps=...) needs: write "
            "stride instead of fps"
        )
    return video.times
