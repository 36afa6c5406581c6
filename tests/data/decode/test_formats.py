"""The formats that are decoded: by extension, by first bytes, and HEIC where it is installed."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from imgcls.core.errors import DataError
from imgcls.data.decode import formats
from imgcls.data.decode.image import decode_image

PIXELS = np.repeat(np.arange(0, 240, 5, dtype=np.uint8).reshape(6, 8, 1), 3, axis=2)
# The first bytes of an image by an iPhone.
HEIC = b"\x00\x00\x00\x24ftypheic\x00\x00\x00\x00mif1heic" + bytes(100)


def encode(name: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, name, **options)
    return file.getvalue()


@pytest.fixture
def without_heif(monkeypatch):
    """Python finds no module pillow_heif."""
    monkeypatch.setattr(sys, "path_hooks", [])
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "pillow_heif", raising=False)
    for cached in (formats.decoded_formats, formats.extensions):
        cached.cache_clear()
    yield
    for cached in (formats.decoded_formats, formats.extensions):
        cached.cache_clear()


@pytest.mark.parametrize("name", ["PNG", "GIF", "WEBP", "AVIF", "JPEG"])
def test_formats_are_found_by_their_first_bytes(name):
    assert formats.find_format(encode(name)[: formats.START]) == name
    assert name in formats.decoded_formats()


@pytest.mark.parametrize(
    "start", [b"", b"BM", b"P6 is text", b"II*\0", b"\0\0\0\x18ftypmp42", b"%PDF"]
)
def test_other_first_bytes(start):
    assert formats.find_format(start.ljust(formats.START)) is None


@pytest.mark.parametrize("name", ["AVIF", "PPM", "BMP", "WEBP"])
def test_pixels(name):
    data = encode(name, **({"lossless": True} if name == "WEBP" else {"quality": 100}))
    tolerance = 4 if name == "AVIF" else 0
    found = decode_image(data, "a").astype(int)
    assert found.shape == PIXELS.shape and np.abs(found - PIXELS).max() <= tolerance


def test_gray_of_a_pgm():
    data = b"P5 2 2 255\n" + bytes([0, 50, 200, 255])
    np.testing.assert_array_equal(
        decode_image(data, "a", channels=1)[..., 0], [[0, 50], [200, 255]]
    )


def test_heic_is_named_where_it_is_not_installed(without_heif):
    assert "HEIF" not in formats.decoded_formats() and ".heic" not in formats.extensions()
    message = "a.heic: is a HEIC image; run `pip install -r requirements-heif.txt`"
    with pytest.raises(DataError, match=message):
        decode_image(HEIC, "a.heic")


def test_heic():
    pytest.importorskip("pillow_heif", reason="needs requirements-heif.txt")
    assert ".heic" in formats.extensions()
    formats.decoded_formats()
    pixels = np.kron(PIXELS, np.ones((8, 8, 1), np.uint8))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "HEIF", quality=95)
    assert formats.find_format(file.getvalue()[: formats.START]) == "HEIF"
    found = decode_image(file.getvalue(), "a").astype(int)
    assert found.shape == pixels.shape and np.abs(found - pixels).mean() < 2
