"""Decoding against Pillow, and of lossless formats against the original pixels."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from imgcls.core.errors import DataError
from imgcls.data.decode import image as decode
from imgcls.data.decode.image import decode_image


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def make_image(height=61, width=83):
    """A smooth image without symmetry, uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    planes = [127 + 100 * np.sin(x / 9), 127 + 90 * np.cos(y / 7 + x / 30), (2 * x + y) % 256]
    return np.stack(planes, -1).astype(np.uint8)


def encode(image, format, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def by_pillow(data, mode):
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert(mode))
    return pixels.reshape(*pixels.shape[:2], -1)


def max_difference(a, b):
    assert a.shape == b.shape
    return np.abs(a.astype(int) - b.astype(int)).max()


@pytest.mark.parametrize("quality", [50, 95])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_matches_pillow(quality, subsampling, progressive):
    options = {"quality": quality, "subsampling": subsampling, "progressive": progressive}
    data = encode(make_image(), "JPEG", **options)
    # Equal if both link the same libjpeg-turbo; some pixels differ by 1 between releases.
    assert max_difference(decode_image(data, "a"), by_pillow(data, "RGB")) <= 2
    assert max_difference(decode_image(data, "a", channels=1), by_pillow(data, "L")) <= 2


@pytest.mark.parametrize("format", ["PNG", "BMP", "WEBP", "TIFF", "PPM"])
def test_lossless_formats_are_exact(format):
    data = encode(make_image(), format, **({"lossless": True} if format == "WEBP" else {}))
    pixels = decode_image(data, "a")
    np.testing.assert_array_equal(pixels, make_image())
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_gray_files(format, channels):
    gray = make_image()[..., 0]
    data = encode(gray, format, **({"lossless": True} if format == "WEBP" else {}))
    pixels = decode_image(data, "a", channels=channels)
    assert pixels.shape == (61, 83, channels)
    for c in range(channels):
        assert max_difference(pixels[..., c], gray) <= (8 if format == "JPEG" else 1)


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("kind", ["LA", "RGBA", "P", "P transparent", "1", "GIF", "CMYK", "YCCK"])
def test_other_modes_match_pillow(kind, channels, mode):
    image = Image.fromarray(make_image())
    if kind == "RGBA":
        alpha = np.arange(61 * 83).reshape(61, 83, 1) % 256
        data = encode(np.concatenate([make_image(), alpha.astype(np.uint8)], -1), "PNG")
    elif kind == "P transparent":
        data = encode(image.quantize(16), "PNG", transparency=bytes(range(0, 256, 16)))
    elif kind == "GIF":
        data = encode(image.quantize(16), "GIF", transparency=3)
    elif kind == "P":
        data = encode(image.quantize(16), "PNG")
    elif kind in ("CMYK", "YCCK"):
        data = encode(image.convert("CMYK"), "JPEG", keep_rgb=kind == "CMYK")
    else:
        data = encode(image.convert(kind), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = by_pillow(data, mode)
    np.testing.assert_array_equal(decode_image(data, "a", channels=channels), expected)


def test_alpha_is_dropped_not_blended():
    transparent = np.concatenate([make_image(), np.zeros((61, 83, 1), np.uint8)], -1)
    np.testing.assert_array_equal(decode_image(encode(transparent, "PNG"), "a"), make_image())


def test_gif_decodes_its_first_frame():
    first, second = (Image.new("RGB", (9, 5), color) for color in ("red", "blue"))
    data = encode(first, "GIF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode_image(data, "a")[2, 3], (255, 0, 0))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_clipped(format):
    deep = (np.arange(61 * 83).reshape(61, 83) * 13).astype(np.uint16)
    for channels in (1, 3):
        pixels = decode_image(encode(deep, format), "a", channels=channels)
        np.testing.assert_array_equal(pixels, np.repeat(deep[..., None] // 256, channels, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_undone(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(make_image(), format, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert expected.shape == ((61, 83, 3) if orientation < 5 else (83, 61, 3))
    pixels = decode_image(data, "a")
    assert max_difference(pixels, expected) <= 2 and pixels.flags.c_contiguous


def test_exif_after_other_segments():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(make_image(), "JPEG", exif=exif)
    bodies = {b"\xe1": b"http://ns.adobe.com/xap/1.0/\0" + b"Exif\0\0" * 20, b"\xed": b"Exif\0\0II"}
    other = b"".join(
        b"\xff" + marker + struct.pack(">H", len(body) + 2) + body
        for marker, body in bodies.items()
    )
    pixels = decode_image(data[:2] + other + b"\xff" + data[2:], "a")
    assert pixels.shape == (83, 61, 3)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff"]
)
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_corrupted_exif_is_ignored(format, exif):
    data = encode(make_image(), format, exif=exif)
    assert decode_image(data, "a").shape == (61, 83, 3)


def test_jpeg_with_a_harmless_error_decodes():
    data = encode(make_image(), "JPEG", quality=90)
    flawed = data[:-2] + b"\0\1\2\3" + data[-2:] + b"trailing"
    assert max_difference(decode_image(flawed, "a"), by_pillow(data, "RGB")) <= 2


JPEG = encode(make_image(), "JPEG", quality=90)
PROGRESSIVE = encode(make_image(), "JPEG", quality=90, progressive=True)
CMYK = encode(Image.fromarray(make_image()).convert("CMYK"), "JPEG")
PNG = encode(make_image(), "PNG")
GIF = encode(Image.fromarray(make_image()).quantize(16), "GIF")
WEBP = encode(make_image(), "WEBP")


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty file"),
        (b"<html>not found</html>", "not an image in one of JPEG, PNG"),
        (JPEG[:1], "not an image"),
        (JPEG[:40], "truncated|corrupted"),
        (JPEG[: len(JPEG) // 2], "truncated JPEG"),
        (JPEG[:-20], "truncated JPEG"),
        (JPEG[:-2], "truncated JPEG"),
        (PROGRESSIVE[: len(PROGRESSIVE) // 2], "truncated JPEG|corrupted image: .*truncated"),
        (PROGRESSIVE[:-20], "truncated JPEG"),
        (CMYK[: len(CMYK) // 2], "corrupted image: .*truncated"),
        (PNG[: len(PNG) // 2], "corrupted image: .*truncated"),
        (PNG[:30], "corrupted|not an image"),
        (GIF[: len(GIF) // 2], "corrupted image: .*truncated"),
        (WEBP[: len(WEBP) // 2], "corrupted|not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (
            encode(Image.fromarray(make_image()[..., 0] / np.float32(9)), "TIFF"),
            "corrupted image: floating-p",
        ),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_unreadable_records_are_named_in_one_line(data, reason, channels):
    with pytest.raises(DataError, match=rf"\Atrain/n01/x\.jpg: ({reason})") as error:
        decode_image(data, "train/n01/x.jpg", channels=channels)
    assert "\n" not in str(error.value) and "object at 0x" not in str(error.value)


@pytest.mark.parametrize("data", [JPEG, CMYK, PNG, GIF])
def test_too_many_pixels(data, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 61 * 83 - 1)
    with pytest.raises(DataError, match="x: 83 x 61 pixels are more than the 5062 allowed"):
        decode_image(data, "x")
    monkeypatch.setattr(decode, "MAX_PIXELS", 61 * 83)
    assert decode_image(data, "x").shape == (61, 83, 3)


@pytest.mark.parametrize("side", [10_000, 100_000])
@pytest.mark.parametrize("warning_filter", ["error", "ignore"])
def test_decompression_bombs_are_refused(side, warning_filter):
    """A file of 60 bytes with a huge size in its header; Pillow only warns of the smaller one."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    warnings.simplefilter(warning_filter, Image.DecompressionBombWarning)
    with pytest.raises(DataError, match="x: .* pixels"):
        decode_image(data, "x")
