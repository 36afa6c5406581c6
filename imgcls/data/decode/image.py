"""Decodes image files: JPEG with libjpeg-turbo, which releases the GIL, others with Pillow."""

import contextlib
import functools
import io
import re
import threading
import warnings
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageFile

from imgcls.core.errors import DataError
from imgcls.data.decode import formats, gray
from imgcls.data.decode.bands import count_bands, decode_bands, is_npy_image
from imgcls.data.decode.turbojpeg import Decoder, Header, get_decoder

# (top, left, height, width), in pixels.
Box = tuple[int, int, int, int]

# Larger images are refused as decompression bombs. Pillow's own limit, 256 MiB of RGB.
MAX_PIXELS = 2**28 // 3
# Larger images are decoded one at a time, to limit the memory of several threads.
_LARGE_PIXELS = 50_000_000
# A progressive JPEG usually has about ten scans. Each takes as long as decoding an image, but may
# be only a few bytes of the file.
MAX_SCANS = 500
# Pillow only warns below twice its limit. Set at import: changing filters is not thread-safe.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

_ORIENTATION = 0x0112  # Exif tag
# Sequential with Huffman codes, and progressive; others are rare.
_PROGRESSIVE = 0xC2
_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)
_APP1 = 0xE1
_END_OF_IMAGE = b"\xff\xd9"
# Start of a scan. `re` counts these five times as fast as `bytes.count`.
_SCAN = re.compile(rb"\xff\xda")
# Some programs append a few bytes after the end of the image.
_TAIL = 64
_large_lock = threading.Lock()


class EncodedImage:
    """An image file that is decoded on demand, in full or in part.

    Attributes:
      shape: `(H, W, C)` of the upright image.
    """

    def __init__(self, data: bytes, name: str, *, channels: int = 3, bits: int | None = None):
        """See `decode_image`."""
        self._data, self._name, self._channels, self._bits = data, name, channels, bits
        # Only complete JPEGs that need no rotation are decoded in part.
        self._header = None
        is_color = channels in (1, 3)
        if is_color and data.startswith(b"\xff\xd8") and _END_OF_IMAGE in data[-_TAIL:]:
            segments = _read_segments(data)
            if _read_orientation(segments.exif) == 1 and _can_crop(data, segments):
                self._header = _decoder().read_header(data)

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """The full image, uint8 `[H, W, C]`; raises the errors of `decode_image`."""
        return decode_image(self._data, self._name, channels=self._channels, bits=self._bits)

    @property
    def shape(self) -> tuple[int, int, int]:
        if self._header is None:
            return self.pixels.shape
        _check_size(self._header.width, self._header.height, self._name)
        return self._header.height, self._header.width, self._channels

    def crop(self, box: Box, halvings: int = 0) -> np.ndarray:
        """Returns a crop of the image, without decoding the rest if the format allows it.

        Without halvings the pixels equal `pixels[top : top + height, left : left + width]`, bit for
        bit. A JPEG is halved before its inverse DCT, other formats by averaging.

        Args:
          box: the crop, in multiples of 2^halvings.
          halvings: how often both sides are halved, 0 to 3.

        Returns:
          uint8 `[height / 2^halvings, width / 2^halvings, C]`; it may be overwritten by the next
          call in the same thread.
        """
        if self._header is not None and "pixels" not in self.__dict__:
            with _one_at_a_time(self._header.width, self._header.height):
                pixels = _decoder().crop(self._data, self._header, box, halvings, self._channels)
            if pixels is not None:
                return pixels
        return crop_pixels(self.pixels, box, halvings)


def crop_pixels(pixels: np.ndarray, box: Box, halvings: int = 0) -> np.ndarray:
    """Does the same as `EncodedImage.crop` for a decoded image."""
    top, left, height, width = box
    part = pixels[top : top + height, left : left + width]
    if not halvings:
        return part
    size = (width >> halvings, height >> halvings)
    return resize_pixels(part, size, cv2.INTER_AREA)


def resize_pixels(pixels: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """Resizes `[H, W, C]` to (width, height) with OpenCV, which takes only 4 channels at once."""
    # OpenCV drops the axis of a single channel.
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    parts = [pixels[..., first : first + 4] for first in range(0, pixels.shape[-1], 4)]
    parts = [cv2.resize(part, size, interpolation=interpolation) for part in parts]
    parts = [part.reshape(*size[::-1], -1) for part in parts]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def shorter_side(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) after resizing the shorter side to `size`, as in torchvision."""
    if height <= width:
        return size, max(1, int(size * width / height))
    return max(1, int(size * height / width)), size


class _FullDecoder:
    """Replaces `turbojpeg.Decoder` without that library: decodes the full image, then crops."""

    def read_header(self, data: bytes) -> Header | None:
        try:
            height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            return None
        return None if colorspace in ("CMYK", "YCCK") else Header(int(height), int(width), 0)

    def crop(self, data, header, box, halvings, channels) -> np.ndarray | None:
        """See `turbojpeg.Decoder.crop`."""
        top, left, height, width = (side >> halvings for side in box)
        factor = 1 << halvings
        sides = {"min_height": -(-header.height // factor), "min_width": -(-header.width // factor)}
        colorspace = "GRAY" if channels == 1 else "RGB"
        try:
            pixels = simplejpeg.decode_jpeg(data, colorspace, min_factor=factor, **sides)
        except ValueError:
            return None
        return pixels[top : top + height, left : left + width]


_FULL_DECODER = _FullDecoder()


def _decoder() -> Decoder | _FullDecoder:
    return get_decoder() or _FULL_DECODER


def decode_image(
    data: bytes, name: str, *, channels: int = 3, bits: int | None = None
) -> np.ndarray:
    """Decodes an image file, upright by its Exif orientation.

    JPEGs are decoded as by Pillow: both use libjpeg-turbo's accurate integer IDCT and smooth chroma
    upsampling (exactly equal if both link the same release). The gray of a color JPEG is its luma
    channel, within 1 of Pillow's conversion from RGB. Alpha is dropped without blending; images of
    16 bits per channel keep the upper 8; animations give their first frame.

    Args:
      data: bytes of the file, in one of `formats.decoded_formats()`.
      name: name of the record, for messages.
      channels: 3 (RGB), 1 (gray), 4 (RGBA), or the number of bands of TIFF or `.npy` files, see
        `bands.decode_bands`.
      bits: number of bits that gray samples of more than 8 bits use, see `gray.to_8_bits`.

    Returns:
      uint8 `[H, W, channels]`.

    Raises:
      DataError: the data is not an image, truncated, corrupted, or larger than `MAX_PIXELS`; or
        the range of its samples is not known.
    """
    if not data:
        raise DataError(f"{name}: empty file")
    if channels not in (1, 3) or is_npy_image(data, name, channels):
        return decode_bands(data, name, channels, bits, MAX_PIXELS)
    if data.startswith(b"\xff\xd8"):
        if len(_SCAN.findall(data)) > MAX_SCANS:
            raise DataError(f"{name}: JPEG with more than {MAX_SCANS} scans")
        pixels = _decode_jpeg(data, name, channels)
        if pixels is not None:
            return pixels
    return _decode_pillow(data, name, channels, bits)


def _decode_jpeg(data: bytes, name: str, channels: int) -> np.ndarray | None:
    """Pixels `[H, W, C]`, or None if Pillow has to decode the file."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        height, width = int(height), int(width)
        if colorspace == "CMYK":
            return None
        _check_size(width, height, name)
        with _one_at_a_time(width, height):
            pixels = simplejpeg.decode_jpeg(data, "GRAY" if channels == 1 else "RGB")
    except ValueError as e:
        # Pillow tolerates harmless errors that this strict decoder does not, but no missing end.
        if "Premature end" in str(e):
            raise DataError(f"{name}: truncated JPEG") from e
        return None
    return _undo_orientation(pixels, _read_orientation(_read_segments(data).exif))


class _Segments(NamedTuple):
    """Segments of a JPEG up to its frame header.

    Attributes:
      exif: the Exif segment.
      progressive: whether the frame is progressive; None if there is no frame.
    """

    exif: bytes = b""
    progressive: bool | None = None


def _read_segments(data: bytes) -> _Segments:
    """Reads a JPEG's segments up to its frame, in a few microseconds."""
    exif, at = b"", 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _FRAMES:
            return _Segments(exif, marker == _PROGRESSIVE)
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _APP1 and not exif and data.startswith(b"Exif\0\0", at + 4):
            exif = data[at + 4 : at + 2 + length]
        at += 2 + length
    return _Segments(exif)


def _can_crop(data: bytes, segments: _Segments) -> bool:
    """Whether a crop of a JPEG may be decoded without the rest.

    A sequential JPEG is read only down to the crop, so the rest may be corrupted. A progressive
    JPEG is read completely, scan by scan.
    """
    if segments.progressive is None:
        return False
    return not segments.progressive or len(_SCAN.findall(data)) <= MAX_SCANS


def _one_at_a_time(width: int, height: int) -> contextlib.AbstractContextManager:
    return _large_lock if width * height > _LARGE_PIXELS else contextlib.nullcontext()


def _read_orientation(exif: bytes) -> int:
    if not exif:
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
        return tags.get(_ORIENTATION, 1)
    except Exception:  # Corrupted Exif raises errors of many types; the pixels are still good.
        return 1


def _undo_orientation(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an Exif orientation (1 to 8; others count as 1) of `[H, W, ...]`."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _decode_pillow(data: bytes, name: str, channels: int, bits: int | None) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=formats.decoded_formats()) as image:
            _check_size(*image.size, name)
            with _one_at_a_time(*image.size):
                if bits is not None:
                    _check_color_depth(image, name)
                image.load()
                orientation = _read_orientation(image.info.get("exif", b""))
                pixels = _to_uint8(image, name, channels, bits)
    except DataError:
        raise
    except Image.UnidentifiedImageError as e:
        if formats.find_format(data[: formats.START]) == "HEIF":
            raise DataError(f"{name}: is a HEIC image; {formats.INSTALL_HEIF}") from e
        bands = count_bands(data)
        if bands > 4:
            raise DataError(
                f"{name}: is a TIFF of {bands} bands; set config.data.channels={bands}, and mean "
                "and std of each"
            ) from e
        known = ", ".join(formats.decoded_formats())
        raise DataError(f"{name}: not an image in one of {known}") from e
    except Exception as e:  # Corrupted files raise errors of many types, such as struct.error.
        reason = " ".join(str(e).split()) or type(e).__name__
        raise DataError(f"{name}: corrupted image: {reason}") from e
    return _undo_orientation(pixels.reshape(*pixels.shape[:2], channels), orientation)


def _check_color_depth(image: ImageFile.ImageFile, name: str) -> None:
    """Raises a DataError for color of 16 bits per sample, of which Pillow reads the upper 8."""
    if not gray.is_deep(image) and any(";16" in str(tile[3]) for tile in image.tile):
        raise DataError(
            f"{name}: is a color image of 16 bits per sample, but config.data.bits is for gray "
            "images; save it with 8 bits"
        )


def _to_uint8(image: Image.Image, name: str, channels: int, bits: int | None) -> np.ndarray:
    """uint8 `[H, W]` or `[H, W, 3]`; closes the image early to save memory."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save it with 8 or 16 bits")
    mode = "RGB" if channels == 3 else "L"
    if gray.is_deep(image):  # convert() would clip at 255
        pixels = gray.to_8_bits(image, name, bits)
        return pixels if channels == 1 else np.repeat(pixels[..., None], 3, axis=2)
    if image.mode in ("P", "PA"):
        # Via RGBA, because converting a palette with transparency to RGB warns.
        image = _convert_and_close(image, "RGBA")
    return np.array(image if image.mode == mode else _convert_and_close(image, mode))


def _convert_and_close(image: Image.Image, mode: str) -> Image.Image:
    converted = image.convert(mode)
    image.close()
    return converted


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"{name}: {width} x {height} pixels are more than the {MAX_PIXELS} allowed")
