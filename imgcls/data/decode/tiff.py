"""TIFF files of several pages as stacks of slices, with the spacing that ImageJ writes."""

import io

import numpy as np
from PIL import Image

from imgcls.core.errors import DataError, one_line
from imgcls.data.decode.voxels import Spacing, Volume, check_channels, count_voxels, to_values

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION = 270, 282, 283
_MODES = ("1", "L", "I", "F", "RGB")


def read_tiff(data: bytes, name: str) -> Volume:
    """Reads the pages as slices along D, in order; the channels of ImageJ are channels.

    Raises:
      DataError: broken, too large, or pages of different sizes or types.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            about = _describe(image)
            spacing = _spacing(image, about)
            slices = _read_pages(image, name)
    except DataError:
        raise
    except Exception as e:  # Broken files raise errors of many types.
        raise DataError(f"{name}: broken TIFF ({one_line(e)})") from e
    if int(about.get("frames", 1)) > 1:
        raise DataError(f"{name}: has {about['frames']} points in time; save one file per volume")
    channels = int(about.get("channels", 1))
    if channels > 1:
        check_channels(channels, name)
        if slices.shape[-1] > 1 or len(slices) % channels:
            raise DataError(f"{name}: {len(slices)} pages are not slices of {channels} channels")
        slices = slices[..., 0].reshape(-1, channels, *slices.shape[1:3]).transpose(0, 2, 3, 1)
    return Volume(np.ascontiguousarray(to_values(slices)), spacing)


def _read_pages(image: Image.Image, name: str) -> np.ndarray:
    """All pages `[D, H, W, C]`."""
    count, size, mode = getattr(image, "n_frames", 1), image.size, image.mode
    if not mode.startswith("I;16") and mode not in _MODES:
        raise DataError(f"{name}: has pages of mode {mode}; save them as gray or RGB")
    samples = len(image.getbands())
    count_voxels((count, *size[::-1], samples), name)
    pages = None
    for page in range(count):
        image.seek(page)
        if (image.size, image.mode) != (size, mode):
            raise DataError(
                f"{name}: page {page + 1} is {image.size} of mode {image.mode}, and the first "
                f"{size} of mode {mode}; a stack has pages of one size and type"
            )
        pixels = np.asarray(image)
        if pages is None:
            pages = np.empty((count, *size[::-1], samples), pixels.dtype.newbyteorder("="))
        pages[page] = pixels.reshape(pages.shape[1:])
    assert pages is not None
    return pages


def _describe(image: Image.Image) -> dict[str, str]:
    """The description by ImageJ, `{key: value}`; empty of other programs."""
    text = str(getattr(image, "tag_v2", {}).get(_DESCRIPTION, ""))
    if not text.startswith("ImageJ="):
        return {}
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _spacing(image: Image.Image, about: dict[str, str]) -> Spacing | None:
    """Spacing in the unit of the file; None without that between slices."""
    tags = getattr(image, "tag_v2", {})
    try:
        x, y = (1 / float(tags[tag]) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
        z = abs(float(about["spacing"]))
    except (KeyError, ValueError, ZeroDivisionError):
        return None
    return (z, y, x) if min(x, y, z) > 0 and np.isfinite([x, y, z]).all() else None
