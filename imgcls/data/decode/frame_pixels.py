"""Decoded frames of a video -> uint8 `[H, W, C]`, scaled and upright."""

from typing import Any

import numpy as np

from imgcls.data.decode.image import shorter_side

# A length of the shorter side, or (H, W); None: as it is.
FrameSize = int | tuple[int, int] | None

# FFmpeg's names by number of channels.
PIXEL_FORMATS = {1: "gray", 3: "rgb24", 4: "rgba"}


class FrameConverter:
    """Converts decoded frames to arrays of one size, also where the size changes in a file.

    Args:
      height, width: size of the video, before it is turned upright.
      size: size of the upright frames.
      channels: 1, 3 or 4.
    """

    def __init__(self, height: int, width: int, size: FrameSize, channels: int):
        from av.video.reformatter import VideoReformatter

        self._sides, self._size, self._channels = (height, width), size, channels
        # It keeps its tables from one frame to the next.
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> np.ndarray:
        """Converts an `av.VideoFrame`; colors by the matrix and range that it states."""
        transposed, flipped = _orientation(frame)
        height, width = self._sides[::-1] if transposed else self._sides
        if isinstance(self._size, int):
            height, width = shorter_side(height, width, self._size)
        elif self._size is not None:
            height, width = self._size
        if transposed:
            height, width = width, height
        pixel_format = PIXEL_FORMATS[self._channels]
        frame = self._reformatter.reformat(frame, width, height, format=pixel_format, threads=1)
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8)[: height * plane.line_size].reshape(height, -1)
        pixels = rows[:, : width * self._channels].reshape(height, width, self._channels)
        return np.flip(pixels.swapaxes(0, 1) if transposed else pixels, flipped)


def _orientation(frame: Any) -> tuple[bool, tuple[int, ...]]:
    """How a frame is turned upright: whether it is transposed, and the axes that are then flipped.

    The display matrix moves the pixel at column x and row y to (a x + c y, b x + d y).
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, ()
    (a, b, _), (c, d, _), _ = np.frombuffer(data, "<i4", 9).reshape(3, 3).tolist()
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    signs = (b, c) if transposed else (d, a)
    return transposed, tuple(axis for axis in (0, 1) if signs[axis] < 0)
