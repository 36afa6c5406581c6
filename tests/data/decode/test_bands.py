"""Images with alpha and of any number of bands."""

import concurrent.futures
import gc
import io
import sys
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode.image import EncodedImage, decode_image
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import TRANSFORMS

RNG = np.random.default_rng(0)


def draw(channels: int, dtype=np.uint8, sides=(20, 24)) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, (*sides, channels), dtype, endpoint=True)


def tiff(bands: np.ndarray, layout: str = "contig", **options) -> bytes:
    data = io.BytesIO()
    if layout == "contig":
        options |= {"planarconfig": "contig", "photometric": "minisblack"}
    else:
        bands = np.ascontiguousarray(np.moveaxis(bands, -1, 0))
        pages = {"planarconfig": "separate"} if layout == "separate" else {}
        options |= {"photometric": "minisblack", **pages}
    tifffile.imwrite(data, bands, **options)
    return data.getvalue()


def npy(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


LAYOUTS = [(channels, at) for channels in (2, 4, 5, 6, 13) for at in ("contig", "separate", "npy")]
# A file of 2 or 4 pages can't be distinguished from one with alpha.
LAYOUTS += [(channels, "pages") for channels in (5, 6, 13)]


@pytest.mark.parametrize(("channels", "layout"), LAYOUTS)
def test_bands_are_unchanged(channels, layout):
    bands = draw(channels)
    data = npy(bands) if layout == "npy" else tiff(bands, layout)
    np.testing.assert_array_equal(decode_image(data, "x", channels=channels), bands)
    image = EncodedImage(data, "x", channels=channels)
    assert image.shape == bands.shape
    np.testing.assert_array_equal(image.crop((2, 3, 4, 5)), bands[2:6, 3:8])


def test_compressed_and_color_tiff():
    bands = draw(4)
    for options in ({"compression": "deflate"}, {"photometric": "rgb", "extrasamples": [2]}):
        data = io.BytesIO()
        tifffile.imwrite(
            data, bands, **{"photometric": "minisblack", "planarconfig": "contig"} | options
        )
        found = decode_image(data.getvalue(), "x", channels=4)
        np.testing.assert_array_equal(found, bands)


def test_alpha_is_kept_by_option():
    pixels = draw(4)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "png")
    np.testing.assert_array_equal(decode_image(data.getvalue(), "x", channels=4), pixels)
    np.testing.assert_array_equal(decode_image(data.getvalue(), "x"), pixels[..., :3])
    # An image without alpha is opaque.
    data = io.BytesIO()
    Image.fromarray(pixels[..., :3]).save(data, "png")
    found = decode_image(data.getvalue(), "x", channels=4)
    np.testing.assert_array_equal(found[..., :3], pixels[..., :3])
    assert (found[..., 3] == 255).all()


@pytest.mark.parametrize("kind", [npy, tiff])
def test_16_bits(kind):
    bands = draw(6, np.uint16)
    found = decode_image(kind(bands), "x", channels=6)
    np.testing.assert_array_equal(found, bands >> 8)
    found = decode_image(kind(bands >> 4), "x", channels=6, bits=12)
    np.testing.assert_array_equal(found, bands >> 8)
    with pytest.raises(DataError, match="x: has samples up to .* but config.data.bits=12 allows"):
        decode_image(kind(bands), "x", channels=6, bits=12)


def test_npy_in_threads():
    """On Python 3.11 `ast`, which parses the header, fails if a thread is interrupted in it."""
    data, threshold, interval = npy(draw(6)), gc.get_threshold(), sys.getswitchinterval()

    def pause(*_):
        time.sleep(0)

    gc.callbacks.append(pause)
    gc.set_threshold(5)
    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            images = list(pool.map(lambda _: decode_image(data, "x", channels=6), range(2000)))
    finally:
        gc.callbacks.remove(pause)
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
    assert {image.shape for image in images} == {(20, 24, 6)}


def test_npy_of_rgb_and_gray():
    for channels in (1, 3):
        pixels = draw(channels)
        array = pixels[..., 0] if channels == 1 else pixels
        np.testing.assert_array_equal(decode_image(npy(array), "x", channels=channels), pixels)


@pytest.mark.parametrize(
    ("data", "channels", "message"),
    [
        (tiff(draw(6)), 5, r"x: has the shape \[20, 24, 6\], but config.data.channels=5 needs"),
        (tiff(draw(6)), 3, "x: is a TIFF of 6 bands; set config.data.channels=6"),
        (npy(draw(6)), 4, "config.data.channels=4 needs"),
        (npy(np.zeros((4, 5, 6))), 6, "samples of type float64; save it as uint8"),
        (tiff(draw(6))[:500], 6, "x: can't be decoded as TIFF"),
        (npy(draw(6))[:500], 6, "truncated or broken"),
        (b"no image", 4, "x: can't be decoded"),
        (b"no image", 6, "at most 4 channels, but config.data.channels=6: save it as TIFF or .npy"),
        (b"", 6, "x: empty file"),
    ],
)
def test_mistakes(data, channels, message):
    with pytest.raises(DataError, match=message) as e:
        decode_image(data, "x", channels=channels)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "recipe",
    [
        "resize((8, 8))",
        "resize(9)",
        "eval_crop(8)",
        "center_crop(30)",
        "random_resized_crop(8)",
        "random_resized_crop(8, interpolation='area')",
        "random_resized_crop(30, interpolation='random')",
        "pad_crop(16)",
        "flip(1.0)",
        "gaussian_blur(1.0)",
    ],
)
@pytest.mark.parametrize("channels", [2, 4, 6])
def test_each_band_is_transformed_as_gray(recipe, channels):
    bands = draw(channels, sides=(40, 50))
    (transform,) = spec.parse(recipe, TRANSFORMS, "x")
    encoded = EncodedImage(npy(bands), "x", channels=channels)
    image = encoded if recipe.startswith(("eval_crop", "random_res")) else bands
    found = transform(image, np.random.default_rng(1))
    assert found.shape[-1] == channels and found.dtype == np.uint8
    for band in range(channels):
        gray = np.ascontiguousarray(bands[..., band : band + 1])
        expected = transform(gray, np.random.default_rng(1))
        np.testing.assert_allclose(found[..., band], expected[..., 0], atol=1)


def test_transforms_of_color_are_refused():
    for recipe in ("color_jitter(hue=0.1)", "color_jitter(brightness=0.5)", "grayscale(1.0)"):
        (transform,) = spec.parse(recipe, TRANSFORMS, "x")
        with pytest.raises(ConfigError, match="takes 1 or 3 channels, but the images have 6"):
            transform(draw(6), np.random.default_rng(0))
