"""Crops of encoded images against crops of the full images, decoded by simplejpeg."""

import io
import tarfile
import threading

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from imgcls.core.errors import DataError
from imgcls.data.decode import image as decode
from imgcls.data.decode import turbojpeg
from imgcls.data.decode.image import EncodedImage, decode_image
from imgcls.data.transforms import image as image_transforms
from tests.conftest import SHARED_DATA

REAL = SHARED_DATA / "imagenet_mini" / "ILSVRC2012_img_val.tar"


def make_image(height=301, width=423):
    y, x = np.mgrid[:height, :width]
    planes = [127 + 100 * np.sin(x / 9), 127 + 90 * np.cos(y / 7 + x / 30), (2 * x + y) % 256]
    return np.stack(planes, -1).astype(np.uint8)


def jpeg(image=None, **options):
    file = io.BytesIO()
    Image.fromarray(make_image() if image is None else image).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def real():
    """40 real JPEGs."""
    if not REAL.is_file():
        pytest.skip(f"{REAL} is absent")
    with tarfile.open(REAL) as tar:
        return [tar.extractfile(member).read() for member in tar.getmembers()[:40]]


@pytest.fixture(params=["turbojpeg", "simplejpeg alone"])
def library(request, monkeypatch):
    if request.param == "turbojpeg":
        if turbojpeg.get_decoder() is None:
            pytest.skip("no TurboJPEG 3 here")
    else:
        monkeypatch.setattr(decode, "get_decoder", lambda: None)


def random_box(shape, factor, rng):
    top, left = (int(rng.integers(side - factor)) // factor * factor for side in shape[:2])
    height = int(rng.integers(factor, shape[0] - top + 1)) // factor * factor
    width = int(rng.integers(factor, shape[1] - left + 1)) // factor * factor
    return top, left, height, width


def cut(pixels, box, factor=1):
    top, left, height, width = (side // factor for side in box)
    return pixels[top : top + height, left : left + width]


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_crop_equals_a_crop_of_the_full_image(library, subsampling, progressive, channels):
    rng = np.random.default_rng(0)
    data = jpeg(subsampling=subsampling, progressive=progressive)
    full = decode_image(data, "a", channels=channels)
    for _ in range(20):
        image = EncodedImage(data, "a", channels=channels)
        assert image.shape == full.shape
        box = random_box(full.shape, 1, rng)
        np.testing.assert_array_equal(image.crop(box), cut(full, box))


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_jpegs_are_halved_before_the_inverse_dct(library, halvings):
    rng = np.random.default_rng(0)
    factor = 2**halvings
    for data in (jpeg(), jpeg(subsampling="4:2:0"), jpeg(make_image()[..., 0])):
        height, width = decode_image(data, "a").shape[:2]
        least = {"min_height": -(-height // factor), "min_width": -(-width // factor)}
        scaled = simplejpeg.decode_jpeg(data, min_factor=factor, **least)
        assert scaled.shape[0] == -(-height // factor)
        for _ in range(10):
            box = random_box((height, width), factor, rng)
            part = EncodedImage(data, "a").crop(box, halvings)
            np.testing.assert_array_equal(part, cut(scaled, box, factor))


def test_crops_of_real_images(library, real):
    rng = np.random.default_rng(0)
    for data in real:
        full = decode_image(data, "a")
        box = random_box(full.shape, 1, rng)
        np.testing.assert_array_equal(EncodedImage(data, "a").crop(box), cut(full, box))


def test_random_crops_match_those_of_the_full_image(library, real):
    """Equal, or a PSNR above 40 dB if the JPEG is halved before its inverse DCT."""
    crop = image_transforms.random_resized_crop(96)
    halved = 0
    for number, data in enumerate(real):
        full = decode_image(data, "a")
        a = crop(EncodedImage(data, "a"), np.random.default_rng(number))
        b = crop(full, np.random.default_rng(number))
        box = image_transforms._sample_box(
            *full.shape[:2], (0.08, 1), (3 / 4, 4 / 3), np.random.default_rng(number)
        )
        if min(box[2:]) >= 2 * 96:
            halved += 1
            assert psnr(a, b) > 40
        else:
            np.testing.assert_array_equal(a, b)
    assert 10 < halved < 40


def test_shrinking_does_not_alias(real):
    """Closer to area averaging than plain interpolation, on average and in the worst case."""
    ours, plain = [], []
    for data in real[:20]:
        pixels = decode_image(data, "a")
        height, width = (s // 8 * 8 for s in pixels.shape[:2])
        part = pixels[:height, :width]
        for shrink in (1.3, 1.6, 1.9, 2.6, 3.5):
            side = int(min(height, width) / shrink)
            area = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)
            box = (0, 0, height, width)
            ours.append(
                psnr(image_transforms._resize_box(part, box, (side, side), "bilinear"), area)
            )
            plain.append(psnr(cv2.resize(part, (side, side)), area))
    assert np.mean(ours) > np.mean(plain) + 5
    assert min(ours) > 30 > min(plain)


@pytest.mark.parametrize("size, fraction", [(224, 0.875), (96, 1.0), (32, 0.5)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
def test_eval_crop_matches_that_of_the_full_image(library, real, size, fraction, interpolation):
    """Pillow stores boxes in single precision, so a few values are rounded differently."""
    crop = image_transforms.eval_crop(size, fraction, interpolation)
    files = [
        jpeg(make_image(60, 45)),
        jpeg(make_image(45, 60)),
        jpeg(make_image(500, 40)),
        *real[:8],
    ]
    for data in files:
        for channels in (1, 3):
            full = decode_image(data, "a", channels=channels)
            expected = crop(full, None).astype(int)
            image = crop(EncodedImage(data, "a", channels=channels), None)
            assert image.shape == (size, size, channels)
            difference = np.abs(image - expected)
            assert difference.max() <= 1 and difference.mean() < 0.05


@pytest.mark.parametrize("kind", ["truncated", "no end", "corrupted", "exif", "cmyk", "png"])
def test_other_files_are_decoded_in_full(library, kind):
    """Files that can't be cropped give the pixels or error of a full decode."""
    data = jpeg()
    if kind == "truncated":
        data = data[: len(data) // 2]
    elif kind == "no end":
        data = data[:-2]
    elif kind == "corrupted":
        middle = len(data) // 2
        data = data[:middle] + bytes(range(100, 156)) * 4 + data[middle + 224 :]
    elif kind == "exif":
        exif = Image.Exif()
        exif[0x0112] = 6
        data = jpeg(exif=exif)
    elif kind == "cmyk":
        file = io.BytesIO()
        Image.fromarray(make_image()).convert("CMYK").save(file, "JPEG")
        data = file.getvalue()
    else:
        file = io.BytesIO()
        Image.fromarray(make_image()).save(file, "PNG")
        data = file.getvalue()
    box = (0, 16, 250, 260)
    try:
        expected = cut(decode_image(data, "b"), box)
    except DataError as error:
        with pytest.raises(DataError, match="a:") as raised:
            EncodedImage(data, "a").crop(box)
        assert str(raised.value) == str(error).replace("b:", "a:", 1)
        assert kind in ("truncated", "no end")
        return
    np.testing.assert_array_equal(EncodedImage(data, "a").crop(box), expected)


def test_threads_do_not_share_a_decoder():
    if turbojpeg.get_decoder() is None:
        pytest.skip("no TurboJPEG 3 here")
    data, rng = jpeg(), np.random.default_rng(0)
    full = decode_image(data, "a")
    boxes = [random_box(full.shape, 1, rng) for _ in range(200)]
    wrong = []

    def work():
        for box in boxes:
            if not np.array_equal(EncodedImage(data, "a").crop(box), cut(full, box)):
                wrong.append(box)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_too_many_pixels(library, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 1000)
    with pytest.raises(DataError, match="a: 423 x 301 pixels are more than the 1000 allowed"):
        image_transforms.random_resized_crop(32)(
            EncodedImage(jpeg(), "a"), np.random.default_rng(0)
        )
