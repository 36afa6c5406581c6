"""Batch transforms on the device, inside jit: `fn(batch, rng, num_classes) -> batch`.

`batch['image']` is normalized, `[B, ..., C]` with any number of spatial (and time) axes, and
`batch['label']` is int32 `[B]` or, multi-hot or soft, `[B, K]`. Random numbers depend only on the
key and on global shapes, so the result is the same on any number of devices.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import BatchTransform, register_batch_transform

# Boxes tried per example by random_erasing before it leaves the example unchanged.
_TRIES = 10


def apply(batch: dict, rng: jax.Array, fns: Sequence[BatchTransform], num_classes: int) -> dict:
    """Applies the transforms in turn, each with its own key."""
    for i, fn in enumerate(fns):
        batch = fn(batch, jax.random.fold_in(rng, i), num_classes)
    return batch


def normalize(
    images: jax.Array, mean: Sequence[float], std: Sequence[float], dtype=jnp.float32
) -> jax.Array:
    """(images / 255 - mean) / std, computed in float32.

    Args:
      images: `[B, ..., C]` of any type, with values from 0 to 255.
      mean, std: mean and standard deviation per channel, in units of 0 to 1; length C.
      dtype: dtype of the result.
    """
    scaled = images.astype(jnp.float32) / 255
    return ((scaled - jnp.array(mean)) / jnp.array(std)).astype(dtype)


def normalize_batch(batch: dict, config: ConfigDict) -> dict:
    """Normalizes all images of a batch by `data.mean` and `data.std`."""
    mean, std = config.data.mean, config.data.std
    return {
        key: normalize(value, mean, std) if key.startswith("image") else value
        for key, value in batch.items()
    }


def one_hot_labels(label: jax.Array, num_classes: int) -> jax.Array:
    """Converts classes `[B]` to one-hot float32 `[B, K]`; `[B, K]` is only cast to float32.

    K = 1 is binary classification with one logit: the label 0 or 1 is the target, `[B, 1]`.
    """
    if label.ndim == 1 and num_classes == 1:
        return label[:, None].astype(jnp.float32)
    if label.ndim == 1:
        return jax.nn.one_hot(label, num_classes, dtype=jnp.float32)
    return label.astype(jnp.float32)


@register_batch_transform("mixup")
def mixup(alpha: float, p: float = 1.0) -> BatchTransform:
    """mixup (Zhang et al. 2017, https://arxiv.org/abs/1710.09412).

    Blends every example with the next one of the batch, with one lambda ~ Beta(alpha, alpha) per
    batch. Labels become float32 `[B, K]`.

    Args:
      alpha: parameter of the Beta distribution, at least 0.001.
      p: probability that a batch is mixed.
    """
    return _mixing({"mixup": alpha}, switch_p=0.0, p=p)


@register_batch_transform("cutmix")
def cutmix(alpha: float, p: float = 1.0) -> BatchTransform:
    """CutMix (Yun et al. 2019, https://arxiv.org/abs/1905.04899).

    Pastes a box from the next example of the batch. There is one box per batch, over the last two
    spatial axes: H and W of all frames of a video. Labels are mixed by the box's area after
    clipping.

    Args:
      alpha: parameter of the Beta distribution, at least 0.001.
      p: probability that a batch is mixed.
    """
    return _mixing({"cutmix": alpha}, switch_p=1.0, p=p)


@register_batch_transform("cutmix3d")
def cutmix3d(alpha: float, p: float = 1.0) -> BatchTransform:
    """CutMix of volumes: the box is over the last three spatial axes, D, H and W.

    Args:
      alpha, p: see `cutmix`.
    """
    return _mixing({"cutmix": alpha}, switch_p=1.0, p=p, axes=3)


@register_batch_transform("mixup_or_cutmix")
def mixup_or_cutmix(
    mixup_alpha: float, cutmix_alpha: float, switch_p: float = 0.5, p: float = 1.0
) -> BatchTransform:
    """Applies mixup or CutMix, drawn per batch, as in timm's recipes.

    Args:
      mixup_alpha, cutmix_alpha: see `mixup` and `cutmix`.
      switch_p: probability of CutMix among the mixed batches.
      p: probability that a batch is mixed.
    """
    spec.check_number("switch_p", switch_p, 0, 1)
    return _mixing({"mixup": mixup_alpha, "cutmix": cutmix_alpha}, switch_p, p)


@register_batch_transform("random_erasing")
def random_erasing(
    p: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    ratio: tuple[float, float] = (0.3, 3.3),
    mode: str = "pixel",
) -> BatchTransform:
    """Random erasing (Zhong et al. 2017, https://arxiv.org/abs/1708.04896), one box per example.

    Erases the first of ten random boxes that fits, over the last two spatial axes.

    Args:
      p: probability per example.
      area: range of the box's area as a fraction of the image's; uniform.
      ratio: range of the box's height / width; log-uniform.
      mode: 'pixel' erases with standard normal noise, the same in all frames of a clip; 'const'
        with 0, the mean color.
    """
    spec.check_number("p", p, 0, 1)
    spec.check_range("area", area, 0, 1)
    spec.check_range("ratio", ratio, 0.01, 100)
    spec.check_choice("mode", mode, ("pixel", "const"))

    def transform(batch, rng, num_classes):
        image = batch["image"]
        if image.ndim < 4:
            raise ConfigError(f"random_erasing needs images [B, ..., H, W, C], not {image.shape}")
        use_rng, box_rng, noise_rng = jax.random.split(rng, 3)
        use = jax.random.bernoulli(use_rng, float(p), image.shape[:1])
        mask = _erasing_mask(box_rng, image.shape, area, ratio)
        mask &= use.reshape(-1, *[1] * (image.ndim - 1))
        fill = jnp.zeros((), image.dtype)
        if mode == "pixel":
            # The same for all frames of a clip.
            shape = (len(image), *[1] * (image.ndim - 4), *image.shape[-3:])
            fill = jax.random.normal(noise_rng, shape, image.dtype)
        return {**batch, "image": jnp.where(mask, fill, image)}

    return transform


@register_batch_transform("random_flip")
def random_flip(p: float = 0.5) -> BatchTransform:
    """Mirrors each example left to right.

    Args:
      p: probability per example.
    """
    spec.check_number("p", p, 0, 1)

    def transform(batch, rng, num_classes):
        return _flip(batch, jax.random.bernoulli(rng, float(p), batch["label"].shape[:1]))

    return transform


@register_batch_transform("alternating_flip")
def alternating_flip() -> BatchTransform:
    """Mirrors an example left to right in every other epoch.

    Half of the examples are mirrored in epoch 0, the same ones in every run. So two consecutive
    epochs show each example both ways (Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.6).
    Needs `epoch` in the batch, which the loader of `data.device_resident` provides.
    """

    def transform(batch, rng, num_classes):
        if "epoch" not in batch:
            raise ConfigError(
                "config.data.batch_transform: alternating_flip needs the epoch of each example; "
                "set data.device_resident=True, or use random_flip"
            )
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), batch["index"])
        first = jax.vmap(jax.random.bernoulli)(keys)
        return _flip(batch, first ^ (batch["epoch"] % 2 == 1))

    return transform


@register_batch_transform("random_translate")
def random_translate(padding: int) -> BatchTransform:
    """Shifts each example by up to `padding` pixels along each axis, with reflected edges.

    Args:
      padding: largest shift in pixels; all 2 * padding + 1 shifts per axis are equally likely.
    """
    spec.check_integer("padding", padding, 0)

    def transform(batch, rng, num_classes):
        image = batch["image"]
        spatial = _height_width(image, "random_translate")
        if padding >= min(spatial):
            raise ConfigError(
                f"random_translate({padding}): the images have only {min(spatial)} pixels per side"
            )
        pads = [(0, 0)] * (image.ndim - 3) + [(padding, padding)] * 2 + [(0, 0)]
        padded = jnp.pad(image, pads, mode="reflect")
        offsets = jax.random.randint(rng, (len(image), 2), 0, 2 * padding + 1)

        def crop(example, offset):
            first = [0] * (example.ndim - 3) + [offset[0], offset[1], 0]
            return jax.lax.dynamic_slice(example, first, image.shape[1:])

        return {**batch, "image": jax.vmap(crop)(padded, offsets)}

    return transform


@register_batch_transform("cutout")
def cutout(size: int) -> BatchTransform:
    """Sets a square of each example to 0, the mean color.

    DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552, but the square is always completely
    inside the image.

    Args:
      size: side of the square in pixels.
    """
    spec.check_integer("size", size, 1)

    def transform(batch, rng, num_classes):
        image = batch["image"]
        height, width = _height_width(image, "cutout")
        if size > min(height, width):
            raise ConfigError(
                f"cutout({size}): the images have only {min(height, width)} pixels per side"
            )
        inside = []
        for key, length in zip(jax.random.split(rng), (height, width), strict=True):
            first = jax.random.randint(key, (len(image), 1), 0, length - size + 1)
            inside.append(_between(length, first, first + size))
        mask = inside[0][:, :, None] & inside[1][:, None, :]
        mask = mask.reshape(len(image), *[1] * (image.ndim - 4), height, width, 1)
        return {**batch, "image": jnp.where(mask, jnp.zeros((), image.dtype), image)}

    return transform


@register_batch_transform("label_smoothing")
def label_smoothing(eps: float) -> BatchTransform:
    """Label smoothing (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567, section 7).

    Labels become (1 - eps) y + eps / K. One logit (K = 1) is smoothed like two classes.
    """
    spec.check_number("eps", eps, 0, 1)

    def transform(batch, rng, num_classes):
        labels = one_hot_labels(batch["label"], num_classes)
        return {**batch, "label": (1 - eps) * labels + eps / max(num_classes, 2)}

    return transform


def _flip(batch: dict, mask: jax.Array) -> dict:
    """Mirrors the examples selected by `mask`, bool `[B]`."""
    image = batch["image"]
    mask = mask.reshape(-1, *[1] * (image.ndim - 1))
    return {**batch, "image": jnp.where(mask, jnp.flip(image, -2), image)}


def _height_width(image: jax.Array, name: str) -> tuple[int, int]:
    if image.ndim < 4:
        raise ConfigError(f"{name} needs images [B, ..., H, W, C], not {image.shape}")
    return image.shape[-3], image.shape[-2]


def _mixing(alphas: dict[str, float], switch_p: float, p: float, axes: int = 2) -> BatchTransform:
    for name, alpha in alphas.items():
        # With smaller alphas the Beta distribution is 0 or 1 in float32.
        spec.check_number(f"{name} alpha", alpha, 0.001)
    spec.check_number("p", p, 0, 1)

    def transform(batch, rng, num_classes):
        image, labels = batch["image"], one_hot_labels(batch["label"], num_classes)
        mixup_rng, cutmix_rng, switch_rng, use_rng = jax.random.split(rng, 4)
        # Weight of the next example: per pixel (in a shape that broadcasts), and for the label.
        pixels = share = jnp.float32(0)
        if "mixup" in alphas:
            alpha = alphas["mixup"]
            pixels = share = 1 - jax.random.beta(mixup_rng, alpha, alpha)
        if "cutmix" in alphas:
            box = _cutmix_mask(cutmix_rng, image.shape, alphas["cutmix"], axes)
            cut = jax.random.bernoulli(switch_rng, float(switch_p))
            pixels = jnp.where(cut, box, pixels)
            share = jnp.where(cut, jnp.mean(box), share)
        use = jax.random.bernoulli(use_rng, float(p))
        pixels, share = jnp.where(use, pixels, 0.0), jnp.where(use, share, 0.0)
        lengths = {}
        if "length" in batch:
            # A mixture of padded clips is as long as the longer one.
            own, next_ = batch["length"], jnp.roll(batch["length"], -1)
            lengths = {"length": jnp.where(use, jnp.maximum(own, next_), own)}
        return {
            **batch,
            **lengths,
            "image": _blend(image, pixels.astype(image.dtype)),
            "label": _blend(labels, share),
        }

    return transform


def _blend(x: jax.Array, share: jax.Array) -> jax.Array:
    # A shift by one moves one row between neighboring devices; a permutation would move all rows.
    return x * (1 - share) + jnp.roll(x, -1, axis=0) * share


def _cutmix_mask(rng: jax.Array, shape: tuple[int, ...], alpha: float, axes: int) -> jax.Array:
    """A box of ones over the last `axes` spatial axes, float32 in a shape that broadcasts.

    Its center is uniform, and its sides are the root of 1 - lambda of the images' sides, before
    clipping: the square root over two axes, the cube root over three.
    """
    if len(shape) < 2 + axes:
        needed = "cutmix3d needs volumes [B, ..., D" if axes == 3 else "cutmix needs images [B, ..."
        raise ConfigError(f"{needed}, H, W, C], not {shape}")
    lambda_rng, *axis_rngs = jax.random.split(rng, 1 + axes)
    fraction = (1 - jax.random.beta(lambda_rng, alpha, alpha)) ** (1 / axes)
    box = jnp.ones([1] * (axes + 1), jnp.float32)
    for axis, (axis_rng, length) in enumerate(zip(axis_rngs, shape[-1 - axes : -1], strict=True)):
        side = (length * fraction).astype(jnp.int32)
        first = jax.random.randint(axis_rng, (), 0, length) - side // 2
        inside = _between(length, first, first + side).astype(jnp.float32)
        box *= jnp.expand_dims(inside, [other for other in range(axes + 1) if other != axis])
    return box


def _erasing_mask(rng, shape, area, ratio) -> jax.Array:
    """Mask of the first box that fits for each example, bool `[B, 1, ..., H, W, 1]`."""
    batch, height, width = shape[0], *shape[-3:-1]
    area_rng, ratio_rng, top_rng, left_rng = jax.random.split(rng, 4)
    tries = (batch, _TRIES)
    areas = height * width * jax.random.uniform(area_rng, tries, minval=area[0], maxval=area[1])
    low, high = jnp.log(jnp.array(ratio))
    ratios = jnp.exp(jax.random.uniform(ratio_rng, tries, minval=low, maxval=high))
    h = jnp.round(jnp.sqrt(areas * ratios)).astype(jnp.int32)
    w = jnp.round(jnp.sqrt(areas / ratios)).astype(jnp.int32)
    fits = (h < height) & (w < width)
    best = jnp.argmax(fits, axis=1, keepdims=True)
    h, w, fits = (jnp.take_along_axis(x, best, axis=1) for x in (h, w, fits))  # [B, 1]
    top = jax.random.randint(top_rng, (batch, 1), 0, jnp.maximum(height - h + 1, 1))
    left = jax.random.randint(left_rng, (batch, 1), 0, jnp.maximum(width - w + 1, 1))
    rows, columns = _between(height, top, top + h), _between(width, left, left + w)
    mask = (fits & rows)[:, :, None] & columns[:, None, :]
    return mask.reshape(batch, *[1] * (len(shape) - 4), height, width, 1)


def _between(length: int, first: jax.Array, last: jax.Array) -> jax.Array:
    """Mask of the indices 0 ... length - 1 in [first, last): bool `[..., length]`."""
    index = jnp.arange(length)
    return (index >= first) & (index < last)
