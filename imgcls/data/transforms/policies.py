"""Augmentation policies: RandAugment and TrivialAugment, with Pillow's image operations.

Each policy's table maps an operation's name to `op(image, m, sign, rng) -> image` on a Pillow image
of mode RGB or L: m is the magnitude as a fraction of the policy's range, sign is -1 or 1, and only
Cutout uses rng. Pixels uncovered by a geometric operation get the policy's fill value.
"""

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from imgcls.data.transforms import spec
from imgcls.data.transforms.pixels import to_array, to_pil
from imgcls.data.transforms.transform import Transform, register_transform


@register_transform("rand_augment")
def rand_augment(num_ops: int = 2, magnitude: float = 10) -> Transform:
    """RandAugment (Cubuk et al. 2019, https://arxiv.org/abs/1909.13719).

    Applies `num_ops` operations drawn uniformly, with replacement, from the 16 of `RAND_OPS`. That
    table follows the paper's TensorFlow code for ImageNet, including Cutout and SolarizeAdd, with
    its fill of 128. As in that code, Posterize and Solarize get weaker as the magnitude grows, and
    have no effect from 20 and 10 on. Translations and Cutout, 100 and 40 pixels of 224 in that
    code, scale with the side of the image.

    Args:
      num_ops: N in the paper.
      magnitude: M in the paper, in tenths of each operation's range; may exceed 10.
    """
    spec.check_integer("num_ops", num_ops, 1)
    spec.check_number("magnitude", magnitude, 0, 30)
    ops = list(RAND_OPS.values())

    def transform(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        pil = to_pil(image)
        for index in rng.integers(len(ops), size=num_ops):
            pil = ops[index](pil, magnitude / 10, _sign(rng), rng)
        return to_array(pil)

    return transform


@register_transform("trivial_augment")
def trivial_augment() -> Transform:
    """TrivialAugment, wide (Müller and Hutter 2021, https://arxiv.org/abs/2103.10158, table 1).

    Applies one of the 14 operations of `TRIVIAL_OPS`, at one of 31 strengths, all drawn uniformly.
    The operations are those of torchvision's TrivialAugmentWide; uncovered pixels are black.
    """
    ops = list(TRIVIAL_OPS.values())

    def transform(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        op = ops[rng.integers(len(ops))]
        return to_array(op(to_pil(image), rng.integers(31) / 30, _sign(rng), rng))

    return transform


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _fill(image: Image.Image, value: int) -> int | tuple[int, ...]:
    return value if image.mode == "L" else (value,) * 3


def _affine(image, a, b, c, d, e, f, value):
    """Sets output pixel (x, y) to the input pixel nearest to (ax + by + c, dx + ey + f)."""
    affine, nearest = Image.Transform.AFFINE, Image.Resampling.NEAREST
    return image.transform(
        image.size, affine, (a, b, c, d, e, f), nearest, fillcolor=_fill(image, value)
    )


def _shear_x(image, slope, value):
    return _affine(image, 1, slope, 0, 0, 1, 0, value)


def _shear_y(image, slope, value):
    return _affine(image, 1, 0, 0, slope, 1, 0, value)


def _translate_x(image, pixels, value):
    return _affine(image, 1, 0, -int(pixels), 0, 1, 0, value)


def _translate_y(image, pixels, value):
    return _affine(image, 1, 0, 0, 0, 1, -int(pixels), value)


def _rotate(image, degrees, value):
    """Rotates counterclockwise about the center."""
    return image.rotate(degrees, fillcolor=_fill(image, value))


def _color(image, factor):
    return ImageEnhance.Color(image).enhance(factor)


def _contrast(image, factor):
    return ImageEnhance.Contrast(image).enhance(factor)


def _brightness(image, factor):
    return ImageEnhance.Brightness(image).enhance(factor)


def _sharpness(image, factor):
    return ImageEnhance.Sharpness(image).enhance(factor)


def _solarize_add(image, amount):
    """Brightens the pixels below 128."""
    lut = [min(v + amount, 255) if v < 128 else v for v in range(256)]
    return image.point(lut * len(image.getbands()))


def _cutout(image, half, rng):
    """Fills a square of side 2 * half around a random pixel (DeVries 2017, arXiv:1708.04552)."""
    x, y = int(rng.integers(image.width)), int(rng.integers(image.height))
    out = image.copy()
    out.paste(_fill(image, 128), (x - half, y - half, x + half, y + half))
    return out


RAND_OPS = {
    "AutoContrast": lambda image, m, sign, rng: ImageOps.autocontrast(image),
    "Equalize": lambda image, m, sign, rng: ImageOps.equalize(image),
    "Invert": lambda image, m, sign, rng: ImageOps.invert(image),
    "Rotate": lambda image, m, sign, rng: _rotate(image, sign * 30 * m, 128),
    "Posterize": lambda image, m, sign, rng: ImageOps.posterize(image, min(max(int(4 * m), 1), 8)),
    "Solarize": lambda image, m, sign, rng: ImageOps.solarize(image, int(256 * m)),
    "SolarizeAdd": lambda image, m, sign, rng: _solarize_add(image, int(110 * m)),
    "Color": lambda image, m, sign, rng: _color(image, 0.1 + 1.8 * m),
    "Contrast": lambda image, m, sign, rng: _contrast(image, 0.1 + 1.8 * m),
    "Brightness": lambda image, m, sign, rng: _brightness(image, 0.1 + 1.8 * m),
    "Sharpness": lambda image, m, sign, rng: _sharpness(image, 0.1 + 1.8 * m),
    "ShearX": lambda image, m, sign, rng: _shear_x(image, sign * 0.3 * m, 128),
    "ShearY": lambda image, m, sign, rng: _shear_y(image, sign * 0.3 * m, 128),
    "TranslateX": lambda image, m, sign, rng: _translate_x(
        image, sign * 100 / 224 * m * image.width, 128
    ),
    "TranslateY": lambda image, m, sign, rng: _translate_y(
        image, sign * 100 / 224 * m * image.height, 128
    ),
    "Cutout": lambda image, m, sign, rng: _cutout(
        image, round(40 / 224 * m * min(image.size)), rng
    ),
}
TRIVIAL_OPS = {
    "Identity": lambda image, m, sign, rng: image,
    "ShearX": lambda image, m, sign, rng: _shear_x(image, sign * 0.99 * m, 0),
    "ShearY": lambda image, m, sign, rng: _shear_y(image, sign * 0.99 * m, 0),
    "TranslateX": lambda image, m, sign, rng: _translate_x(image, sign * 32 * m, 0),
    "TranslateY": lambda image, m, sign, rng: _translate_y(image, sign * 32 * m, 0),
    "Rotate": lambda image, m, sign, rng: _rotate(image, sign * 135 * m, 0),
    "Brightness": lambda image, m, sign, rng: _brightness(image, 1 + sign * 0.99 * m),
    "Color": lambda image, m, sign, rng: _color(image, 1 + sign * 0.99 * m),
    "Contrast": lambda image, m, sign, rng: _contrast(image, 1 + sign * 0.99 * m),
    "Sharpness": lambda image, m, sign, rng: _sharpness(image, 1 + sign * 0.99 * m),
    "Posterize": lambda image, m, sign, rng: ImageOps.posterize(image, 8 - round(6 * m)),
    "Solarize": lambda image, m, sign, rng: ImageOps.solarize(image, 255 - 255 * m),
    "AutoContrast": lambda image, m, sign, rng: ImageOps.autocontrast(image),
    "Equalize": lambda image, m, sign, rng: ImageOps.equalize(image),
}
