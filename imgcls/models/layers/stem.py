"""Stems: the layers that bring an image or a volume to the resolution of the first stage."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax

from imgcls.core.errors import ConfigError
from imgcls.models.layers.pooling import max_pool

# Side of the kernel, stride, and whether a max-pool follows.
_STEMS = {"imagenet": (7, 2, True), "stride2": (3, 2, False), "cifar": (3, 1, False)}


def apply_stem(
    stem: str,
    x: jax.Array,
    width: int,
    *,
    convolution: Callable,
    norm: Callable,
    train: bool,
    family: str,
    pool: Callable | None = None,
) -> jax.Array:
    """Applies a stem to x `[B, ..., C]`, inside a compact module.

    Args:
      stem: "imagenet" (7x7 stride 2, then max-pooling: a quarter of the resolution), "deep" (three
        3x3 convolutions in place of the 7x7), "stride2" (3x3 stride 2: half the resolution) or
        "cifar" (3x3 stride 1, for images of about 32 pixels).
      x: images, or volumes.
      width: channels of the result.
      convolution, norm: create a convolution and a norm.
      train: whether the norms are in training.
      family: name of the model's family, for messages.
      pool: the max-pooling of "imagenet" and "deep"; None: over all axes.

    Returns:
      `[B, ..., width]`.

    Raises:
      ConfigError: unknown stem.
    """
    if pool is None:
        pool = functools.partial(max_pool, side=3, stride=2, padding=1)
    if stem == "deep":
        for index, stride in enumerate((2, 1, 1), start=1):
            channels = width if index == 3 else width // 2
            x = convolution(channels, 3, stride, name=f"stem_conv{index}")(x)
            x = nn.relu(norm(name=f"stem_bn{index}")(x, train=train))
        return pool(x)
    if stem not in _STEMS:
        valid = ", ".join(map(repr, [*_STEMS, "deep"]))
        raise ConfigError(f"{family} stem is {stem!r}: write one of {valid}")
    kernel, stride, pools = _STEMS[stem]
    x = convolution(width, kernel, stride, name="conv1")(x)
    x = nn.relu(norm(name="bn1")(x, train=train))
    return pool(x) if pools else x
