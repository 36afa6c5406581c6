"""Parts of pictures against the same parts of the whole, decoded by simplejpeg."""

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


def picture(height=301, width=423):
    y, x = np.mgrid[:height, :width]
    planes = [127 + 100 * np.sin(x / 9), 127 + 90 * np.cos(y / 7 + x / 30), (2 * x + y) % 256]
    return np.stack(planes, -1).astype(np.uint8)


def jpeg(image=None, **options):
    file = io.BytesIO()
    Image.fromarray(picture() if image is None else image).save(file, "JPEG", **options)
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
def test_a_part_is_a_part_of_the_whole(library, subsampling, progressive, channels):
    rng = np.random.default_rng(0)
    data = jpeg(subsampling=subsampling, progressive=progressive)
    whole = decode_image(data, "a", channels=channels)
    for _ in range(20):
        image = EncodedImage(data, "a", channels=channels)
        assert image.shape == whole.shape
        box = random_box(whole.shape, 1, rng)
        np.testing.assert_array_equal(image.crop(box), cut(whole, box))


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_halved_before_the_inverse_dct(library, halvings):
    rng = np.random.default_rng(0)
    factor = 2**halvings
    for data in (jpeg(), jpeg(subsampling="4:2:0"), jpeg(picture()[..., 0])):
        height, width = decode_image(data, "a").shape[:2]
        least = {"min_height": -(-height // factor), "min_width": -(-width // factor)}
        scaled = simplejpeg.decode_jpeg(data, min_factor=factor, **least)
        assert scaled.shape[0] == -(-height // factor)
        for _ in range(10):
            box = random_box((height, width), factor, rng)
            part = EncodedImage(data, "a").crop(box, halvings)
            np.testing.assert_array_equal(part, cut(scaled, box, factor))


def test_real_pictures_part_by_part(library, real):
    rng = np.random.default_rng(0)
    for data in real:
        whole = decode_image(data, "a")
        box = random_box(whole.shape, 1, rng)
        np.testing.assert_array_equal(EncodedImage(data, "a").crop(box), cut(whole, box))


def test_random_crops_are_those_of_the_whole_picture(library, real):
    """At least 40 dB even where the JPEG is halved before its inverse DCT; else equal."""
    crop = image_transforms.random_resized_crop(96)
    halved = 0
    for number, data in enumerate(real):
        whole = decode_image(data, "a")
        a = crop(EncodedImage(data, "a"), np.random.default_rng(number))
        b = crop(whole, np.random.default_rng(number))
        box = image_transforms._sample_box(
            *whole.shape[:2], (0.08, 1), (3 / 4, 4 / 3), np.random.default_rng(number)
        )
        if min(box[2:]) >= 2 * 96:
            halved += 1
            assert psnr(a, b) > 40
        else:
            np.testing.assert_array_equal(a, b)
    assert 10 < halved < 40


def test_what_shrinks_does_not_alias(real):
    """Nearer to the mean over areas than plain interpolation is, on the whole and at worst."""
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
def test_the_evaluation_crop_of_the_whole_picture(library, real, size, fraction, interpolation):
    """Pillow keeps a box in single precision, so that a few values are rounded the other way."""
    crop = image_transforms.eval_crop(size, fraction, interpolation)
    pictures = [jpeg(picture(60, 45)), jpeg(picture(45, 60)), jpeg(picture(500, 40)), *real[:8]]
    for data in pictures:
        for channels in (1, 3):
            whole = decode_image(data, "a", channels=channels)
            expected = crop(whole, None).astype(int)
            image = crop(EncodedImage(data, "a", channels=channels), None)
            assert image.shape == (size, size, channels)
            apart = np.abs(image - expected)
            assert apart.max() <= 1 and apart.mean() < 0.05


@pytest.mark.parametrize("how", ["cut off", "no end", "broken", "exif", "cmyk", "png"])
def test_others_are_decoded_whole(library, how):
    """Whatever a part can't be taken of is judged as if the whole were asked for."""
    data = jpeg()
    if how == "cut off":
        data = data[: len(data) // 2]
    elif how == "no end":
        data = data[:-2]
    elif how == "broken":
        middle = len(data) // 2
        data = data[:middle] + bytes(range(100, 156)) * 4 + data[middle + 224 :]
    elif how == "exif":
        exif = Image.Exif()
        exif[0x0112] = 6
        data = jpeg(exif=exif)
    elif how == "cmyk":
        file = io.BytesIO()
        Image.fromarray(picture()).convert("CMYK").save(file, "JPEG")
        data = file.getvalue()
    else:
        file = io.BytesIO()
        Image.fromarray(picture()).save(file, "PNG")
        data = file.getvalue()
    box = (0, 16, 250, 260)
    try:
        expected = cut(decode_image(data, "b"), box)
    except DataError as error:
        with pytest.raises(DataError, match="a:") as raised:
            EncodedImage(data, "a").crop(box)
        assert str(raised.value) == str(error).replace("b:", "a:", 1)
        assert how in ("cut off", "no end")
        return
    np.testing.assert_array_equal(EncodedImage(data, "a").crop(box), expected)


def test_threads_do_not_share_a_decoder():
    if turbojpeg.get_decoder() is None:
        pytest.skip("no TurboJPEG 3 here")
    data, rng = jpeg(), np.random.default_rng(0)
    whole = decode_image(data, "a")
    boxes = [random_box(whole.shape, 1, rng) for _ in range(200)]
    wrong = []

    def work():
        for box in boxes:
            if not np.array_equal(EncodedImage(data, "a").crop(box), cut(whole, box)):
                wrong.append(box)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_bomb(library, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 1000)
    with pytest.raises(DataError, match="a: 423 x 301 pixels are more than the 1000 allowed"):
        image_transforms.random_resized_crop(32)(
            EncodedImage(jpeg(), "a"), np.random.default_rng(0)
        )
