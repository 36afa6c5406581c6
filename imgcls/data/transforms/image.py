"""Transforms of one image on the host: `fn(image, rng) -> image`, both uint8 `[H, W, C]`.

Transforms of color take C of 1 or 3, others any. All randomness comes from `rng`, and no transform
modifies its input. Training crops resize with OpenCV, which is fast; evaluation transforms resize
with Pillow, like the reference libraries.
"""

import functools
import math
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from imgcls.data.decode.image import (
    Box,
    EncodedImage,
    crop_pixels,
    resize_pixels,
    shorter_side,
)
from imgcls.data.transforms import spec
from imgcls.data.transforms.pixels import by_band, check_color, to_array, to_pil
from imgcls.data.transforms.transform import EncodedTransform, Transform, register_transform

# The loader's threads already use all cores; OpenCV's own threads would compete with them.
cv2.setNumThreads(0)

Size = int | tuple[int, int]

_CV2 = {
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
}
# JPEGs can be decoded at 1/2, 1/4 or 1/8 of their size.
_MAX_HALVINGS = 3
# Largest shrink factor without smoothing; plain interpolation is then close to area averaging
# (about 35 dB on photographs).
_ALIASING = 1.5
_PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}


# ---- Resizing and cropping.


@register_transform("random_resized_crop")
def random_resized_crop(
    size: Size,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    interpolation: str = "bilinear",
) -> Transform:
    """The Inception crop (Szegedy et al. 2015, https://arxiv.org/abs/1409.4842).

    Resizes a box of random area and aspect ratio; `_resize_box` describes the antialiasing. Only
    the box is decoded from a JPEG.

    Args:
      size: size of the result, H = W or (H, W).
      scale: range of the box's area, as a fraction of the image's; uniform.
      ratio: range of the box's width / height; log-uniform.
      interpolation: bilinear, bicubic, lanczos, area, nearest, or random (bilinear or bicubic,
        drawn per example).
    """
    height, width = _height_width(size)
    spec.check_range("scale", scale, 0, 1)
    spec.check_range("ratio", ratio, 0.01, 100)
    spec.check_choice("interpolation", interpolation, (*_CV2, "random"))

    def transform(image, rng):
        box = _sample_box(image.shape[0], image.shape[1], scale, ratio, rng)
        name = interpolation
        if name == "random":
            name = ("bilinear", "bicubic")[rng.integers(2)]
        return _keep_rank(_resize_box(image, box, (height, width), name))

    return EncodedTransform(transform)


def _resize_box(image, box: Box, size: tuple[int, int], name: str) -> np.ndarray:
    """Resizes a box of an image to (height, width).

    OpenCV interpolates between the nearest pixels only, which aliases when an image shrinks. So a
    box that shrinks by two or more is halved first (by averaging, or in a JPEG's DCT domain), and
    one that then shrinks to less than 2/3 is smoothed by a 3 x 3 binomial filter. This is as close
    to Pillow's antialiased bilinear as interpolating at twice the size, in half the time.
    """
    height, width = size
    shrink = min(box[2] / height, box[3] / width)
    # 'area' averages by itself, and 'nearest' is meant to alias.
    smooth = name not in ("area", "nearest")
    halvings = min(int(math.log2(max(shrink, 1))), _MAX_HALVINGS) if smooth else 0
    # Round the box to multiples of the block that becomes one pixel.
    top, left, rows, columns = (side >> halvings << halvings for side in box)
    crop = image.crop if isinstance(image, EncodedImage) else functools.partial(crop_pixels, image)
    pixels = crop((top, left, rows, columns), halvings)
    if smooth and shrink > _ALIASING * 2**halvings:
        pixels = cv2.GaussianBlur(pixels, (3, 3), 0)
    return resize_pixels(pixels, (width, height), _CV2[name])


def _sample_box(height, width, scale, ratio, rng) -> Box:
    """Draws a box: ten tries, then the largest central box of a valid ratio."""
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        # Draws the same as `rng.uniform`, in a tenth of the time.
        area = height * width * (scale[0] + (scale[1] - scale[0]) * rng.random())
        aspect = math.exp(low + (high - low) * rng.random())
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return int(top), int(left), h, w
    aspect = min(max(width / height, ratio[0]), ratio[1])
    h = min(height, max(1, round(width / aspect)))
    w = min(width, max(1, round(height * aspect)))
    return (height - h) // 2, (width - w) // 2, h, w


@register_transform("resize")
def resize(size: Size, interpolation: str = "bicubic") -> Transform:
    """Resizes with Pillow, antialiased: the shorter side to `size`, or exactly to (H, W).

    The longer side is rounded down, as in torchvision.
    """
    _height_width(size)
    spec.check_choice("interpolation", interpolation, _PILLOW)

    def transform(image, rng):
        height, width = image.shape[:2]
        new_height, new_width = shorter_side(height, width, size) if isinstance(size, int) else size
        if (new_height, new_width) == (height, width):
            return image
        shape = (new_width, new_height)
        return by_band(image, lambda pil: pil.resize(shape, _PILLOW[interpolation]))

    return transform


@register_transform("center_crop")
def center_crop(size: Size) -> Transform:
    """Crops the center, with torchvision's rounding; a smaller image is padded with zeros."""
    height, width = _height_width(size)

    def transform(image, rng):
        missing_h = max(height - image.shape[0], 0)
        missing_w = max(width - image.shape[1], 0)
        if missing_h or missing_w:
            pad_h = (missing_h // 2, (missing_h + 1) // 2)
            pad_w = (missing_w // 2, (missing_w + 1) // 2)
            image = np.pad(image, (pad_h, pad_w, (0, 0)))
        # Halves are rounded to even by Python's round().
        top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
        return image[top : top + height, left : left + width]

    return transform


@register_transform("eval_crop")
def eval_crop(size: int, crop_fraction: float = 0.875, interpolation: str = "bicubic") -> Transform:
    """The usual ImageNet evaluation: a resize and a center crop.

    Resizes the shorter side to size / crop_fraction and crops the center to `size`. Equal to timm's
    evaluation transform with `crop_mode='center'`. Only the center of an encoded image is decoded
    and resized. Pillow rounds the position of that box, so a few values differ by 1 (the mean
    difference on photographs is 0.0001).
    """
    spec.check_integer("size", size, 1)
    spec.check_number("crop_fraction", crop_fraction, 0.01, 1)
    shorter = math.floor(size / crop_fraction)
    resized, crop = resize(shorter, interpolation), center_crop(size)

    def transform(image, rng):
        if isinstance(image, EncodedImage):
            return _resize_center(image, shorter, size, _PILLOW[interpolation])
        return crop(resized(image, rng), rng)

    return EncodedTransform(transform)


def _resize_center(image: EncodedImage, shorter: int, size: int, resampling) -> np.ndarray:
    """The central square of an image whose shorter side is resized to `shorter`."""
    box, starts = [], []
    sides = image.shape[:2]
    for side, new in zip(sides, shorter_side(*sides, shorter), strict=True):
        factor = side / new
        low = round((new - size) / 2) * factor
        high = low + size * factor
        # Reach of the filter beyond the square: three pixels of the result for lanczos.
        margin = math.ceil(3 * max(factor, 1)) + 1
        start, end = max(0, math.floor(low) - margin), min(side, math.ceil(high) + margin)
        box.append((start, end - start))
        starts.append((low - start, high - start))
    (top, height), (left, width) = box
    (upper, lower), (first, last) = starts
    pixels = np.ascontiguousarray(image.crop((top, left, height, width)))
    inside = (first, upper, last, lower)
    return by_band(pixels, lambda pil: pil.resize((size, size), resampling, box=inside))


@register_transform("resize_random_crop")
def resize_random_crop(size: int) -> Transform:
    """DeiT III's Simple Random Crop (Touvron et al. 2022, https://arxiv.org/abs/2204.07118, 3.2).

    Resizes the shorter side to `size` (Pillow's bicubic, as in evaluation), pads 4 pixels by
    reflection on all sides, and crops at random.
    """
    spec.check_integer("size", size, 1)
    resized, crop = resize(size), pad_crop(size, padding=4)
    return lambda image, rng: crop(resized(image, rng), rng)


@register_transform("pad_crop")
def pad_crop(size: Size, padding: int = 4, mode: str = "reflect") -> Transform:
    """Pads all sides and crops at random, as usual on CIFAR (He et al. 2015, arXiv:1512.03385).

    Args:
      size: size of the crop. A padded image that is still too small is padded further.
      padding: pixels on every side.
      mode: 'reflect' (without repeating the edge) or 'constant' (zeros).
    """
    height, width = _height_width(size)
    spec.check_integer("padding", padding, 0)
    borders = {"reflect": cv2.BORDER_REFLECT_101, "constant": cv2.BORDER_CONSTANT}
    spec.check_choice("mode", mode, borders)

    def transform(image, rng):
        h, w = image.shape[:2]
        pad_h = max(padding, (height - h + 1) // 2)
        pad_w = max(padding, (width - w + 1) // 2)
        padded = cv2.copyMakeBorder(image, pad_h, pad_h, pad_w, pad_w, borders[mode], value=0)
        top = rng.integers(h + 2 * pad_h - height + 1)
        left = rng.integers(w + 2 * pad_w - width + 1)
        return _keep_rank(padded[top : top + height, left : left + width])

    return transform


@register_transform("flip")
def flip(p: float = 0.5) -> Transform:
    """Mirrors the image left to right with probability p."""
    spec.check_number("p", p, 0, 1)
    return _with_probability(p, lambda image, rng: _keep_rank(cv2.flip(image, 1)))


# ---- Color. Grayscale images pass unchanged through transforms that only change color.


@register_transform("color_jitter")
def color_jitter(
    brightness: float = 0,
    contrast: float = 0,
    saturation: float = 0,
    hue: float = 0,
    p: float = 1.0,
) -> Transform:
    """Color jitter as in torchvision: the four adjustments in random order.

    Args:
      brightness, contrast, saturation: strength s; the factor is uniform in [max(0, 1 - s), 1 + s].
      hue: at most 0.5; the shift is uniform in [-hue, hue] of the color circle.
      p: probability of any change.
    """
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, strength in strengths.items():
        spec.check_number(name, strength, 0)
    spec.check_number("hue", hue, 0, 0.5)
    spec.check_number("p", p, 0, 1)
    factor_ranges = [(max(0, 1 - s), 1 + s) for s in strengths.values()] + [(-hue, hue)]
    adjust = (
        _enhance(ImageEnhance.Brightness),
        _enhance(ImageEnhance.Contrast),
        _enhance(ImageEnhance.Color),
        _shift_hue,
    )

    def transform(image, rng):
        factors = [rng.uniform(*bounds) for bounds in factor_ranges]
        for i in rng.permutation(4):
            if factor_ranges[i][0] < factor_ranges[i][1]:
                image = adjust[i](image, factors[i])
        return image

    return _with_probability(p, transform)


def _enhance(enhancer) -> Callable[[np.ndarray, float], np.ndarray]:
    return lambda image, factor: to_array(enhancer(to_pil(image)).enhance(factor))


def _shift_hue(image: np.ndarray, shift: float) -> np.ndarray:
    """Rotates the hue by `shift` of the color circle.

    Uses OpenCV's 8-bit HSV: as accurate as Pillow's, in a tenth of the time.
    """
    if image.shape[-1] == 1:
        return image
    check_color(image)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(shift * 256) % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


@register_transform("grayscale")
def grayscale(p: float) -> Transform:
    """Removes the color with probability p; C stays the same."""
    spec.check_number("p", p, 0, 1)
    return _with_probability(p, _to_gray)


def _to_gray(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    luma = np.asarray(to_pil(image).convert("L"))
    return np.repeat(luma[..., None], image.shape[-1], axis=-1)


@register_transform("gaussian_blur")
def gaussian_blur(p: float, sigma: tuple[float, float] = (0.1, 2.0)) -> Transform:
    """Blurs with probability p (SimCLR, Chen et al. 2020, https://arxiv.org/abs/2002.05709).

    Args:
      p: probability.
      sigma: range of the standard deviation in pixels; uniform. The kernel extends to 3 sigma.
    """
    spec.check_number("p", p, 0, 1)
    spec.check_range("sigma", sigma, 0.01, 100)

    def transform(image, rng):
        return _keep_rank(cv2.GaussianBlur(image, (0, 0), rng.uniform(*sigma)))

    return _with_probability(p, transform)


@register_transform("solarize")
def solarize(p: float, threshold: int = 128) -> Transform:
    """Inverts the values of at least `threshold`, with probability p."""
    spec.check_number("p", p, 0, 1)
    spec.check_number("threshold", threshold, 0, 256)
    return _with_probability(
        p, lambda image, rng: to_array(ImageOps.solarize(to_pil(image), threshold))
    )


@register_transform("three_augment")
def three_augment() -> Transform:
    """DeiT III's 3-Augment (https://arxiv.org/abs/2204.07118, 3.2), without its flip and jitter.

    Applies grayscale, solarize (threshold 128) or a blur (sigma 0.1 to 2), drawn uniformly.
    """
    choices = (grayscale(1.0), solarize(1.0), gaussian_blur(1.0))
    return lambda image, rng: choices[rng.integers(3)](image, rng)


def _with_probability(p: float, transform: Transform) -> Transform:
    return lambda image, rng: transform(image, rng) if rng.random() < p else image


def _height_width(size: Size) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else size
    if not (isinstance(pair, tuple | list) and len(pair) == 2):
        raise ValueError(f"size={size!r} must be an integer or a pair (height, width)")
    for side in pair:
        spec.check_integer("size", side, 1)
    return pair[0], pair[1]


def _keep_rank(image: np.ndarray) -> np.ndarray:
    """Restores the channel axis that OpenCV drops if C=1."""
    return image[..., None] if image.ndim == 2 else image
