"""Image files -> pixels: JPEG by libjpeg-turbo, which releases the GIL, all else by Pillow."""

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
from PIL import Image

from imgcls.core.errors import DataError
from imgcls.data.decode.turbojpeg import Decoder, Header, get_decoder

# (top, left, height, width), in pixels.
Box = tuple[int, int, int, int]

# A named list: Pillow would also try formats that start other programs (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
# A larger picture is taken for a decompression bomb; Pillow's own bound, 256 MiB of RGB.
MAX_PIXELS = 2**28 // 3
# Larger ones are decoded one at a time, so that a few threads don't take gigabytes.
LARGE = 50_000_000
# A progressive JPEG has some ten; each costs the time of a picture, and next to no bytes.
MAX_SCANS = 500
# Pillow only warns below twice its bound. Set once: changing filters is not safe among threads.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

_ORIENTATION = 0x0112  # Exif tag
# Sequential with Huffman codes, and progressive: what there is in practice.
_PROGRESSIVE = 0xC2
_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)
_APP1 = 0xE1
_END_OF_IMAGE = b"\xff\xd9"
# An expression, since it is found five times as fast as bytes.
_SCAN = re.compile(rb"\xff\xda")
# Some writers append a few bytes to the end of the image.
_TAIL = 64
_large = threading.Lock()


class EncodedImage:
    """A picture's file, decoded as far as it is asked for.

    Attributes:
      shape: `(H, W, C)` of the upright picture.
    """

    def __init__(self, data: bytes, name: str, *, channels: int = 3):
        """See `decode_image`."""
        self._data, self._name, self._channels = data, name, channels
        # Only of a JPEG that stands upright and is whole are parts decoded.
        self._header = None
        if data.startswith(b"\xff\xd8") and _END_OF_IMAGE in data[-_TAIL:]:
            segments = _read_segments(data)
            if _read_orientation(segments.exif) == 1 and _has_parts(data, segments):
                self._header = _decoder().read_header(data)

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """The whole picture, uint8 `[H, W, C]`; raises what `decode_image` raises."""
        return decode_image(self._data, self._name, channels=self._channels)

    @property
    def shape(self) -> tuple[int, int, int]:
        if self._header is None:
            return self.pixels.shape
        _check_size(self._header.width, self._header.height, self._name)
        return self._header.height, self._header.width, self._channels

    def crop(self, box: Box, halvings: int = 0) -> np.ndarray:
        """A part of the picture, of which only that part is decoded where the format allows it.

        Without halvings the pixels are those of `pixels[top : top + height, left : left + width]`,
        bit for bit. Halving a JPEG is done before its inverse DCT, halving others by averages.

        Args:
          box: the part, of multiples of 2^halvings.
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
    """`EncodedImage.crop` of a picture that is decoded already."""
    top, left, height, width = box
    part = pixels[top : top + height, left : left + width]
    if not halvings:
        return part
    size = (width >> halvings, height >> halvings)
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], -1)


class _WholeDecoder:
    """`turbojpeg.Decoder` without that library: decodes everything, and keeps a part."""

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
        least = {"min_height": -(-header.height // factor), "min_width": -(-header.width // factor)}
        colorspace = "GRAY" if channels == 1 else "RGB"
        try:
            pixels = simplejpeg.decode_jpeg(data, colorspace, min_factor=factor, **least)
        except ValueError:
            return None
        return pixels[top : top + height, left : left + width]


_WHOLE = _WholeDecoder()


def _decoder() -> Decoder | _WholeDecoder:
    return get_decoder() or _WHOLE


def decode_image(data: bytes, name: str, *, channels: int = 3) -> np.ndarray:
    """Decodes one picture, upright by its Exif orientation.

    JPEGs come out as Pillow decodes them: both use libjpeg-turbo's accurate integer IDCT and smooth
    chroma upsampling (exactly equal where both link the same release). Grey from a colour JPEG is
    its luma channel, within 1 of Pillow's conversion from RGB. Alpha is dropped, the colours below
    it kept; of 16 bits a channel the upper 8 are kept; of animations the first frame.

    Args:
      data: the file's bytes; see `FORMATS`.
      name: of the record, for messages.
      channels: 3 (RGB) or 1 (grey).

    Returns:
      uint8 `[H, W, channels]`.

    Raises:
      DataError: not an image, truncated, broken, or larger than `MAX_PIXELS`.
    """
    if not data:
        raise DataError(f"{name}: empty file")
    if data.startswith(b"\xff\xd8"):
        if len(_SCAN.findall(data)) > MAX_SCANS:
            raise DataError(f"{name}: a JPEG of more than {MAX_SCANS} scans")
        pixels = _decode_jpeg(data, name, channels)
        if pixels is not None:
            return pixels
    return _decode_pillow(data, name, channels)


def _decode_jpeg(data: bytes, name: str, channels: int) -> np.ndarray | None:
    """Pixels `[H, W, C]`, or None where Pillow must judge."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        height, width = int(height), int(width)
        if colorspace == "CMYK":
            return None
        _check_size(width, height, name)
        with _one_at_a_time(width, height):
            pixels = simplejpeg.decode_jpeg(data, "GRAY" if channels == 1 else "RGB")
    except ValueError as e:
        # Pillow accepts harmless flaws that this strict decoder doesn't, but no missing end.
        if "Premature end" in str(e):
            raise DataError(f"{name}: truncated JPEG") from e
        return None
    return _upright(pixels, _read_orientation(_read_segments(data).exif))


class _Segments(NamedTuple):
    """What a JPEG says before its frame's header: its Exif segment; and whether it is progressive,
    None if there is no frame."""

    exif: bytes = b""
    progressive: bool | None = None


def _read_segments(data: bytes) -> _Segments:
    """Walks a JPEG's markers, a few microseconds, up to its frame."""
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


def _has_parts(data: bytes, segments: _Segments) -> bool:
    """Whether a part of a JPEG may be decoded by itself.

    Of a sequential one nothing below the part is read, so a part can be had though the rest is
    damaged. Of a progressive one everything is read, scan by scan.
    """
    if segments.progressive is None:
        return False
    return not segments.progressive or len(_SCAN.findall(data)) <= MAX_SCANS


def _one_at_a_time(width: int, height: int) -> contextlib.AbstractContextManager:
    return _large if width * height > LARGE else contextlib.nullcontext()


def _read_orientation(exif: bytes) -> int:
    if not exif:
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
        return tags.get(_ORIENTATION, 1)
    except Exception:  # Broken metadata, for which Pillow has no one type, leaves good pixels.
        return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an Exif orientation (1 to 8; others count as 1) of `[H, W, ...]`."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _decode_pillow(data: bytes, name: str, channels: int) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size, name)
            with _one_at_a_time(*image.size):
                image.load()
                orientation = _read_orientation(image.info.get("exif", b""))
                pixels = _to_uint8(image, channels)
    except DataError:
        raise
    except Image.UnidentifiedImageError as e:
        raise DataError(f"{name}: not an image in one of {', '.join(FORMATS)}") from e
    except Exception as e:  # Pillow raises many types on broken files, struct.error among them.
        reason = " ".join(str(e).split()) or type(e).__name__
        raise DataError(f"{name}: broken image: {reason}") from e
    return _upright(pixels.reshape(*pixels.shape[:2], channels), orientation)


def _to_uint8(image: Image.Image, channels: int) -> np.ndarray:
    """uint8 `[H, W]` or `[H, W, 3]`; closes the image, as of large ones little may be held."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; save it with 8 or 16 bits")
    mode = "RGB" if channels == 3 else "L"
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip at 255
        grey = _upper_bits(np.asarray(image))
        return grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("P", "PA"):
        # By way of RGBA: a palette with transparency warns when it is converted to RGB.
        image = _converted(image, "RGBA")
    return np.array(image if image.mode == mode else _converted(image, mode))


def _converted(image: Image.Image, mode: str) -> Image.Image:
    converted = image.convert(mode)
    image.close()
    return converted


def _upper_bits(values: np.ndarray) -> np.ndarray:
    """uint8 of 16 bits, in little memory."""
    shifted = values >> 8
    return np.clip(shifted, 0, 255, out=shifted).astype(np.uint8)


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"{name}: {width} x {height} pixels are more than the {MAX_PIXELS} allowed")
