"""Host transforms against Pillow, NumPy and values recorded from timm and torchvision."""

import zlib

import numpy as np
import pytest
from PIL import Image

from imgcls.core.errors import ConfigError
from imgcls.data.transforms import image as image_transforms
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import TRANSFORMS


def picture(height, width, channels=3):
    """uint8 [H, W, C] from an integer formula, so that recorded values hold on every platform."""
    y, x = np.mgrid[:height, :width]
    base = x * 7 + y * 3 + x * y // 5 + (x // 8 + y // 8) % 2 * 60
    return np.stack([(base + 40 * c) % 256 for c in range(channels)], -1).astype(np.uint8)


def noise(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height, width, channels=3):
    y, x = np.mgrid[:height, :width]
    planes = [127 + 100 * np.sin(x / 9 + c) * np.cos(y / 7) for c in range(channels)]
    return np.stack(planes, -1).astype(np.uint8)


def coordinates(height, width):
    """Every pixel has its coordinates as channels (y, x, 0)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, 0 * y], -1).astype(np.uint8)


def checksum(image):
    return zlib.crc32(np.ascontiguousarray(image).tobytes())


class Top:
    """A generator with fixed draws: uniform gives the upper end, permutation a given order."""

    def __init__(self, order=(0, 1, 2, 3)):
        self.order = order

    def random(self):
        return 0.0

    def uniform(self, low, high):
        return high

    def permutation(self, n):
        return np.array(self.order)


def apply(recipe, image, seed=0):
    rng = np.random.default_rng(seed)
    for transform in spec.parse(recipe, TRANSFORMS, "test"):
        image = transform(image, rng)
    return image


def assert_close(a, b, tolerance):
    assert a.shape == b.shape
    assert np.abs(a.astype(int) - b.astype(int)).max() <= tolerance


# ---- All transforms.

CALLS = {
    "random_resized_crop(24)": (24, 24),
    "random_resized_crop((17, 30), interpolation='random')": (17, 30),
    "random_resized_crop(24, interpolation='bicubic')": (24, 24),
    "random_resized_crop(24, interpolation='lanczos')": (24, 24),
    "random_resized_crop(24, interpolation='area')": (24, 24),
    "random_resized_crop(24, interpolation='nearest')": (24, 24),
    "resize((19, 8))": (19, 8),
    "center_crop(20)": (20, 20),
    "center_crop((9, 40))": (9, 40),
    "eval_crop(24)": (24, 24),
    "resize_random_crop(24)": (24, 24),
    "pad_crop(24)": (24, 24),
    "pad_crop((31, 12), padding=0, mode='constant')": (31, 12),
    "flip": None,
    "color_jitter(0.4, 0.4, 0.4, 0.1)": None,
    "grayscale(0.5)": None,
    "gaussian_blur(0.5)": None,
    "solarize(0.5)": None,
    "three_augment": None,
    "rand_augment(2, 10)": None,
    "rand_augment(3, 25)": None,
    "trivial_augment": None,
}


def test_every_transform_is_tested():
    modules = ("clip", "intensity", "tomography", "values", "volume")
    of_others = [f"imgcls.data.transforms.{name}" for name in modules]
    names = {name for name, factory in TRANSFORMS.items() if factory.__module__ not in of_others}
    assert {call.split("(")[0] for call in CALLS} | {"resize"} == names


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(33, 47), (24, 24), (7, 5), (1, 1), (3, 90)])
@pytest.mark.parametrize("call", CALLS)
def test_shape_determinism_and_unmodified_input(call, size, channels):
    image = noise(*size, channels)
    image.flags.writeable = False
    original = image.copy()
    for seed in range(4):
        result = apply(call, image, seed)
        assert result.dtype == np.uint8
        assert result.shape == (*(CALLS[call] or size), channels)
        np.testing.assert_array_equal(result, apply(call, image, seed))
    np.testing.assert_array_equal(image, original)


@pytest.mark.parametrize(
    "call", [call for call in CALLS if call[:4] not in ("resi", "cent", "eval")]
)
def test_seed_matters(call):
    results = {checksum(apply(call, picture(50, 60), seed)) for seed in range(12)}
    assert len(results) > 1


@pytest.mark.parametrize(
    "call, message",
    [
        ("random_resized_crop(0)", "size=0 must be an integer of at least 1"),
        ("random_resized_crop((3, 4, 5))", "size=(3, 4, 5) must be an integer or a pair"),
        ("random_resized_crop(8, scale=(0.5, 1.5))", "scale=(0.5, 1.5) must be a pair"),
        ("random_resized_crop(8, ratio=1)", "ratio=1 must be a pair"),
        ("random_resized_crop(8, interpolation='foo')", "area, nearest, random"),
        ("resize('8')", "size='8'"),
        ("resize(8, 'random')", "interpolation='random' must be one of"),
        ("center_crop(-1)", "size=-1"),
        ("eval_crop((8, 8))", "size=(8, 8) must be an integer"),
        ("eval_crop(8, 1.5)", "crop_fraction=1.5 must be a number from 0.01 to 1"),
        ("eval_crop(8, interpolation='foo')", "interpolation='foo'"),
        ("resize_random_crop(2.5)", "size=2.5"),
        ("pad_crop(8, padding=-1)", "padding=-1"),
        ("pad_crop(8, mode='wrap')", "mode='wrap' must be one of reflect, constant"),
        ("flip(1.5)", "p=1.5"),
        ("color_jitter(-0.1)", "brightness=-0.1"),
        ("color_jitter(hue=0.6)", "hue=0.6 must be a number from 0 to 0.5"),
        ("color_jitter(p=2)", "p=2"),
        ("grayscale", "missing a required argument: 'p'"),
        ("gaussian_blur(0.5, sigma=2)", "sigma=2 must be a pair"),
        ("solarize(0.5, threshold=300)", "threshold=300"),
        ("rand_augment(0)", "num_ops=0"),
        ("rand_augment(2, 31)", "magnitude=31"),
    ],
)
def test_refused_arguments(call, message):
    with pytest.raises(ConfigError) as error:
        spec.parse(call, TRANSFORMS, "config.data.train_transform")
    assert message in str(error.value)


# ---- Evaluation: equal to timm and torchvision, bit for bit.


@pytest.mark.parametrize(
    "shape, arguments, expected",
    # CRC-32 of the pixels of timm 1.0.31, create_transform(is_training=False, crop_mode="center",
    # mean=(0,) * C, std=(1,) * C), times 255, with Pillow 13.0.
    [
        ((375, 500, 3), (224, 0.875, "bicubic"), 0xAE2D762D),
        ((151, 100, 3), (64, 0.9, "bilinear"), 0xE83972CC),
        ((100, 151, 1), (64, 0.95, "lanczos"), 0x46E438A6),
        ((60, 41, 3), (96, 1.0, "bicubic"), 0x7208EA53),
        ((33, 500, 3), (32, 0.875, "bicubic"), 0x4F151B5F),
    ],
)
def test_eval_crop_equals_timm(shape, arguments, expected):
    result = image_transforms.eval_crop(*arguments)(picture(*shape), None)
    assert result.shape == (arguments[0], arguments[0], shape[2])
    assert checksum(result) == expected


@pytest.mark.parametrize(
    "name, shape, size, expected",
    # CRC-32 of the pixels of torchvision 0.29.1, Resize (bicubic) and CenterCrop on Pillow images.
    [
        ("resize", (75, 110), 48, 0x538D36DB),
        ("resize", (111, 75), 48, 0x61F4F9A4),
        ("resize", (75, 110), (40, 71), 0x059A0756),
        ("resize", (111, 75), (40, 71), 0x6D5CCDED),
        ("center_crop", (75, 110), 48, 0xEC72EFB1),
        ("center_crop", (111, 76), 48, 0x46A86E69),
        ("center_crop", (75, 110), (101, 71), 0x3BB5B55F),
        ("center_crop", (111, 76), (101, 71), 0x265DDCF1),
        ("center_crop", (75, 110), (61, 120), 0x120D248F),
        ("center_crop", (111, 76), (61, 120), 0xB54960F3),
    ],
)
def test_resize_and_center_crop_equal_torchvision(name, shape, size, expected):
    assert checksum(TRANSFORMS[name](size)(picture(*shape), None)) == expected


def test_resize_rounds_the_longer_side_down():
    assert apply("resize(48)", picture(75, 110)).shape == (48, 70, 3)  # 70.4
    assert apply("resize(48)", picture(119, 75)).shape == (76, 48, 3)  # 76.16
    assert apply("resize(2)", picture(3, 1000)).shape == (2, 666, 3)


def test_center_crop_pads_with_zeros():
    result = apply("center_crop((7, 14))", np.full((4, 9, 1), 5, np.uint8))
    expected = np.zeros((7, 14, 1), np.uint8)
    expected[1:5, 2:11] = 5  # the larger padding at the end
    np.testing.assert_array_equal(result, expected)


# ---- Training crops.


def test_random_resized_crop_of_everything_is_a_resize():
    image = smooth(40, 40)
    whole = "random_resized_crop({}, scale=(1, 1), ratio=(1, 1), interpolation='{}')"
    np.testing.assert_array_equal(apply(whole.format(40, "bilinear"), image), image)
    for name, resample in [
        ("bilinear", Image.Resampling.BILINEAR),
        ("nearest", Image.Resampling.NEAREST),
    ]:
        expected = np.asarray(Image.fromarray(image).resize((80, 80), resample))
        assert_close(apply(whole.format(80, name), image), expected, 1)
    bicubic, lanczos = (apply(whole.format(80, name), image) for name in ("bicubic", "lanczos"))
    # The kernels differ from Pillow's, but are close on a smooth image.
    assert_close(bicubic, np.asarray(Image.fromarray(image).resize((80, 80))), 6)
    assert_close(lanczos, bicubic, 6)
    assert (lanczos != bicubic).any()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "area", "random"])
def test_random_resized_crop_antialiases_when_it_shrinks(interpolation):
    image = noise(40, 40)
    call = f"random_resized_crop(20, (1, 1), (1, 1), '{interpolation}')"
    expected = image.reshape(20, 2, 20, 2, 3).mean((1, 3))
    assert np.abs(apply(call, image) - expected).max() <= 1


def test_random_interpolation_draws_both_kernels():
    image = noise(20, 20)
    whole = "random_resized_crop(50, (1, 1), (1, 1), '{}')"
    kernels = [checksum(apply(whole.format(name), image)) for name in ("bilinear", "bicubic")]
    drawn = [checksum(apply(whole.format("random"), image, seed)) for seed in range(40)]
    assert set(drawn) == set(kernels) and 8 < drawn.count(kernels[0]) < 32


def test_random_resized_crop_areas_and_ratios():
    """Nearest-neighbor samples of an image of coordinates show the box, within a pixel."""
    image = coordinates(200, 250)
    transform = image_transforms.random_resized_crop(400, (0.2, 0.5), (2 / 3, 1), "nearest")
    rng = np.random.default_rng(0)
    boxes = []
    for _ in range(300):
        result = transform(image, rng)
        top, left = result[0, 0, :2].astype(int)
        bottom, right = result[-1, -1, :2].astype(int) + 1
        boxes.append((top, left, bottom - top, right - left))
    top, left, h, w = np.array(boxes).T
    areas, ratios = h * w / (200 * 250), w / h
    assert 0.195 < areas.min() < 0.21 and 0.49 < areas.max() < 0.505
    assert abs(areas.mean() - 0.35) < 0.015  # uniform; the standard error is 0.005
    assert 0.65 < ratios.min() < 0.69 and 0.97 < ratios.max() < 1.02
    # Log-uniform; the standard error is 0.007.
    assert abs(np.log(ratios).mean() - np.log(2 / 3) / 2) < 0.02
    for first, side, length in [(top, h, 200), (left, w, 250)]:
        places = first / np.maximum(length - side, 1)
        assert places.min() < 0.05 and places.max() > 0.95 and abs(places.mean() - 0.5) < 0.06


@pytest.mark.parametrize(
    "shape, top, left, height, width",
    [((12, 240), 0, 112, 12, 16), ((240, 12), 112, 0, 16, 12), ((15, 18), 0, 0, 15, 18)],
)
def test_random_resized_crop_falls_back_to_the_center(shape, top, left, height, width):
    """No box of 90% of the area fits at these ratios, so the largest central box is taken."""
    transform = image_transforms.random_resized_crop((height, width), scale=(1, 1))
    result = transform(coordinates(*shape), Top())
    expected = coordinates(*shape)[top : top + height, left : left + width]
    np.testing.assert_array_equal(result, expected)


def test_pad_crop_takes_windows_of_the_padded_image():
    image = noise(12, 14)
    for mode in ("reflect", "constant"):
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode=mode)
        windows = {
            checksum(padded[y : y + 12, x : x + 12]): (y, x) for y in range(7) for x in range(9)
        }
        call = f"pad_crop(12, padding=3, mode='{mode}')"
        seen = [windows[checksum(apply(call, image, seed))] for seed in range(500)]
        assert len(set(seen)) == 63  # every window; 2% chance to miss one, but the seeds are fixed


def test_pad_crop_pads_a_small_image_enough():
    image = noise(5, 7)
    padded = np.pad(image, ((4, 4), (3, 3), (0, 0)), mode="reflect")
    windows = [padded[y : y + 12, x : x + 12] for y in range(2) for x in range(2)]
    result = apply("pad_crop(12, padding=1)", image)
    assert any(np.array_equal(result, window) for window in windows)


def test_resize_random_crop_is_a_resize_and_a_padded_crop():
    image = picture(50, 70)
    resized = np.asarray(Image.fromarray(image).resize((44, 32), Image.Resampling.BICUBIC))
    padded = np.pad(resized, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = {
        checksum(padded[y : y + 32, x : x + 32]): (y, x) for y in range(9) for x in range(21)
    }
    calls = (apply("resize_random_crop(32)", image, seed) for seed in range(150))
    rows, columns = zip(*(windows[checksum(result)] for result in calls), strict=True)
    assert set(rows) == set(range(9)) and set(columns) == set(range(21))


def test_flip():
    image = noise(9, 10)
    np.testing.assert_array_equal(apply("flip(1)", image), image[:, ::-1])
    np.testing.assert_array_equal(apply("flip(0)", image), image)
    flipped = sum((apply("flip(0.3)", image, seed) != image).any() for seed in range(300))
    assert 65 < flipped < 115
