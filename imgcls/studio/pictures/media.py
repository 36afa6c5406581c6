"""What a file is, by its content, and the pictures that stand for it."""

import functools
import os
import pathlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from imgcls.core.errors import DataError
from imgcls.data.decode.bands import is_npy_image
from imgcls.data.decode.containers import is_video
from imgcls.data.decode.formats import START, VOLUME_EXTENSIONS, extensions, find_format
from imgcls.data.decode.image import decode_image
from imgcls.data.decode.video import EncodedVideo
from imgcls.data.decode.volume import decode_volume, is_volume

MEDIA = ("image", "video", "volume")
# Larger images and volumes are not read into memory.
MAX_BYTES = 2**30
# A decoded volume of at most this many bytes is kept.
_MOST_KEPT = 128 << 20
_newest: tuple[tuple[int, ...], tuple[np.ndarray, tuple[float, float]]] | None = None
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "AVIF": "avif"}
_VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
_MORE = (".npz", ".dcm", ".dicom", ".ima")


class Poster(NamedTuple):
    """The picture that stands for a file: itself, a frame, or the middle slice.

    Attributes:
      pixels: uint8 `[H, W, 3]`.
      frames: of a video its frames, of a volume its slices, of an image 1.
    """

    pixels: np.ndarray
    frames: int


class Opened:
    """A stored file, opened for the page.

    Args:
      file: open for reading; it is closed with this object.
      path: where it is; videos are read from there.
      name: for messages.
    """

    def __init__(self, file: BinaryIO, path: pathlib.Path, name: str):
        self._file, self._path, self.name = file, path, name

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @functools.cached_property
    def start(self) -> bytes:
        """The first bytes."""
        self._file.seek(0)
        return self._file.read(START)

    @functools.cached_property
    def data(self) -> bytes:
        """All bytes; raises DataError if there are too many."""
        self._file.seek(0)
        data = self._file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise DataError(f"{self.name}: larger than {MAX_BYTES >> 20} MB")
        return data

    @functools.cached_property
    def media(self) -> str:
        """One of `MEDIA`, by the content."""
        if is_video(self.start):
            return "video"
        if is_volume(self.start, self.name) and not is_npy_image(self.data, self.name, 3):
            return "volume"
        return "image"

    def blocks(self) -> Iterator[bytes]:
        """The bytes of the file, which is closed at the end."""
        with self:
            self._file.seek(0)
            while block := self._file.read(2**18):
                yield block

    @property
    def extension(self) -> str:
        """Of the stored file, by its content, without a dot."""
        known = find_format(self.start)
        if known in _EXTENSIONS:
            return _EXTENSIONS[known]
        lower = self.name.lower()
        for extension in sorted((*VOLUME_EXTENSIONS, *extensions(), *_VIDEOS, *_MORE), key=len)[
            ::-1
        ]:
            if lower.endswith(extension):
                return extension[1:]
        return "bin"

    def poster(self) -> Poster:
        """The picture that stands for the file.

        Raises:
          DataError: it can't be read.
        """
        if self.media == "video":
            video = self._video
            return Poster(video.frames([len(video) // 3])[0], len(video))
        if self.media == "volume":
            return Poster(self.slice(0, len(self._voxels) // 2), len(self._voxels))
        return Poster(decode_image(self.data, self.name), 1)

    def frame(self, number: int) -> np.ndarray:
        """A frame of a video by its number, clipped to those that there are: uint8 `[H, W, 3]`."""
        return self._video.frames([min(max(number, 0), len(self._video) - 1)])[0]

    def slice(self, axis: int, number: int) -> np.ndarray:
        """A slice of a volume across axis 0, 1 or 2 by its number, clipped: uint8 `[H, W, 3]`."""
        number = min(max(number, 0), self._voxels.shape[axis] - 1)
        return _visible(self._voxels.take(number, axis=axis), *self._window)

    @functools.cached_property
    def _video(self) -> EncodedVideo:
        return EncodedVideo(self._path, self.name)

    @property
    def _voxels(self) -> np.ndarray:
        return self._volume[0]

    @property
    def _window(self) -> tuple[float, float]:
        return self._volume[1]

    @functools.cached_property
    def _volume(self) -> tuple[np.ndarray, tuple[float, float]]:
        """Voxels and window; those of the newest volume stay decoded, for the next slice."""
        stat = os.fstat(self._file.fileno())
        key = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
        global _newest
        kept = _newest
        if kept is not None and kept[0] == key:
            return kept[1]
        voxels = decode_volume(self.data, self.name).voxels
        found = voxels, _find_window(voxels)
        if voxels.nbytes <= _MOST_KEPT:
            _newest = (key, found)
        return found


def _find_window(voxels: np.ndarray) -> tuple[float, float]:
    """The values that are black and white: all but the outermost 0.5 percent."""
    values = voxels[..., 0].ravel()
    values = values[:: max(1, values.size // 1_000_000)].astype(np.float32)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, (0.5, 99.5))
    if low == high:
        low, high = values.min(), values.max()
    return float(low), float(high)


def _visible(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    """A slice `[H, W, C]` as uint8 `[H, W, 3]`."""
    if plane.dtype == np.uint8 and plane.shape[-1] == 3:
        return plane
    values = np.nan_to_num(plane[..., :1].astype(np.float32), nan=low, posinf=high, neginf=low)
    values = (values - low) / max(high - low, 1e-12)
    return np.repeat((values.clip(0, 1) * 255 + 0.5).astype(np.uint8), 3, axis=-1)
