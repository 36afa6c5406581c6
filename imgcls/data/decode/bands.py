"""Images with alpha or of any number of bands: PNG and others with alpha, TIFF, `.npy`."""

import io

import numpy as np
import tifffile
from PIL import Image, ImageOps

from imgcls.core.errors import DataError, one_line
from imgcls.data.decode import formats
from imgcls.data.decode.npy import read_npy

_NPY = b"\x93NUMPY"
# TIFF and BigTIFF, in both byte orders.
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Pillow's modes with alpha, by their number of channels.
_ALPHA = {2: "LA", 4: "RGBA"}


def is_npy_image(data: bytes, name: str, channels: int) -> bool:
    """Whether a `.npy` file holds an image `[H, W, channels]`, or `[H, W]` if there is one channel.

    A volume `[D, H, W]` is one whose last axis is not the number of channels.
    """
    if not data.startswith(_NPY):
        return False
    shape = read_npy(io.BytesIO(data), len(data), name).shape
    return shape[2:] == (channels,) if channels > 1 else len(shape) == 2


def decode_bands(
    data: bytes, name: str, channels: int, bits: int | None, max_pixels: int
) -> np.ndarray:
    """Decodes an image whose number of channels is neither 1 nor 3, or a `.npy` image.

    Bands keep their values and order, also if the fourth is alpha. An image with fewer channels
    than 4 gets an alpha of 255 if `channels` is 4.

    Args:
      data: bytes of a file.
      name: name of the record, for messages.
      channels: number of channels.
      bits: number of bits that samples of 16 bits use; None: 16.
      max_pixels: larger images are refused.

    Returns:
      uint8 `[H, W, channels]`.

    Raises:
      DataError: the file is broken, or has another number of channels.
    """
    if data.startswith(_NPY):
        bands = read_npy(io.BytesIO(data), len(data), name)
        bands = bands[..., None] if bands.ndim == 2 else bands
    elif data.startswith(_TIFF) and (channels not in _ALPHA or count_bands(data) == channels):
        bands = _read_tiff(data, name, max_pixels)
    else:
        bands = _read_with_alpha(data, name, channels, max_pixels)
    if bands.ndim != 3 or bands.shape[-1] != channels:
        raise DataError(
            f"{name}: has the shape {list(bands.shape)}, but config.data.channels={channels} needs "
            f"[H, W, {channels}]: set data.channels to the number of bands"
        )
    if bands.shape[0] * bands.shape[1] > max_pixels:
        raise DataError(f"{name}: {list(bands.shape[:2])} are more than {max_pixels} pixels")
    return np.ascontiguousarray(_to_8_bits(bands, name, bits))


def _to_8_bits(bands: np.ndarray, name: str, bits: int | None) -> np.ndarray:
    if bands.dtype == np.uint8:
        return bands
    if bands.dtype != np.uint16:
        raise DataError(f"{name}: has samples of type {bands.dtype}; save it as uint8 or uint16")
    bits = bits or 16
    if bands.max(initial=0) >> bits:
        raise DataError(
            f"{name}: has samples up to {bands.max():,}, but config.data.bits={bits} allows "
            f"{(1 << bits) - 1:,}"
        )
    return (bands >> (bits - 8)).astype(np.uint8)


def count_bands(data: bytes) -> int:
    """Returns the number of samples per pixel of a TIFF; 0 for other or corrupted files."""
    if not data.startswith(_TIFF):
        return 0
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return file.pages.first.samplesperpixel
    except Exception:  # Corrupted files raise errors of many types.
        return 0


def _read_tiff(data: bytes, name: str, max_pixels: int) -> np.ndarray:
    """Samples `[H, W, C]`, interleaved, in planes, or one band to a page."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            if page.imagewidth * page.imagelength > max_pixels:
                raise DataError(
                    f"{name}: {page.imagewidth} x {page.imagelength} pixels are more than the "
                    f"{max_pixels} allowed"
                )
            series = file.series[0]
            axes, bands = series.axes, series.asarray()
    except DataError:
        raise
    except Exception as e:  # Corrupted files raise errors of many types.
        raise DataError(f"{name}: can't be decoded as TIFF: {one_line(e)}") from e
    # The other axis, if there is one, is of bands.
    return np.moveaxis(bands, (axes.index("Y"), axes.index("X")), (0, 1))


def _read_with_alpha(data: bytes, name: str, channels: int, max_pixels: int) -> np.ndarray:
    if channels not in _ALPHA:
        raise DataError(
            f"{name}: such files have at most 4 channels, but config.data.channels={channels}: "
            "save it as TIFF or .npy"
        )
    try:
        with Image.open(io.BytesIO(data), formats=formats.decoded_formats()) as image:
            if image.width * image.height > max_pixels:
                raise DataError(f"{name}: is larger than the {max_pixels} pixels allowed")
            return np.asarray(_upright(image).convert(_ALPHA[channels]))
    except DataError:
        raise
    except Exception as e:  # Corrupted files raise errors of many types.
        raise DataError(f"{name}: can't be decoded: {one_line(e)}") from e


def _upright(image: Image.Image) -> Image.Image:
    # Via RGBA, because a palette's transparency is not a channel.
    upright = ImageOps.exif_transpose(image)
    return upright.convert("RGBA") if upright.mode in ("P", "PA") else upright
