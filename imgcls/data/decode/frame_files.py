"""A video that is stored as one image per frame, all in one piece."""

import functools
import io
import zipfile
from collections.abc import Iterable, Sequence

import numpy as np

from imgcls.core.errors import DataError, one_line
from imgcls.data.decode.clips import check_clip, scale
from imgcls.data.decode.frame_pixels import FrameSize
from imgcls.data.decode.image import decode_image

_ZIP = b"PK\3\4"


def pack_frames(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Packs the images of a video as a zip, by name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name), data)
    return packed.getvalue()


def is_packed(data: bytes) -> bool:
    """Whether bytes are those of `pack_frames`."""
    return data.startswith(_ZIP)


class EncodedFrames:
    """Frames that are decoded on demand, without times; see `clips.Video`. Thread-safe.

    Args:
      data: bytes of `pack_frames`.
      name: name for messages.
      channels: 3 (RGB), 1 (gray) or 4 (RGBA).
    """

    times = None

    def __init__(self, data: bytes, name: str, *, channels: int = 3):
        self._data, self.name, self._channels = data, name, channels

    def __len__(self) -> int:
        return len(self._files)

    @functools.cached_property
    def _files(self) -> list[zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(io.BytesIO(self._data)) as archive:
                files = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError) as e:
            raise DataError(f"{self.name}: frames can't be read ({one_line(e)})") from e
        if not files or any(file.compress_type != zipfile.ZIP_STORED for file in files):
            raise DataError(f"{self.name}: is a zip, but not of the frames of a video")
        return files

    def frames(self, indices: Sequence[int] | np.ndarray, size: FrameSize = None) -> np.ndarray:
        """Decodes some frames, see `clips.Video.frames`.

        Raises:
          DataError: a frame can't be decoded, or has another size.
        """
        numbers = np.asarray(indices, int)
        clip = np.zeros(0, np.uint8)
        with zipfile.ZipFile(io.BytesIO(self._data)) as archive:
            for number in np.unique(numbers):
                file = self._files[number]
                name = f"{self.name}/{file.filename}"
                try:
                    data = archive.read(file)
                except (zipfile.BadZipFile, OSError, EOFError) as e:
                    raise DataError(f"{name}: can't be read ({one_line(e)})") from e
                pixels = scale(decode_image(data, name, channels=self._channels), size)
                if not clip.size:
                    check_clip(len(numbers), pixels.shape, self.name)
                    clip = np.empty((len(numbers), *pixels.shape), np.uint8)
                if pixels.shape != clip.shape[1:]:
                    raise DataError(
                        f"{name}: has the shape {list(pixels.shape)}, and other frames have "
                        f"{list(clip.shape[1:])}"
                    )
                clip[numbers == number] = pixels
        return clip
