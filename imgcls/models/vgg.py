"""VGG: Simonyan & Zisserman 2014, arXiv:1409.1556, table 1, configurations A, B, D and E; with
BatchNorm after each convolution in the `_bn` variants.

The hidden dense layers of the paper are convolutions: 7x7 without padding, then 1x1.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.models.layers.base import ImageModel, tap
from imgcls.models.layers.conv import conv
from imgcls.models.layers.norm import BatchNorm
from imgcls.models.layers.pooling import adaptive_avg_pool, max_pool
from imgcls.models.registry import register_model


class Stage(nn.Module):
    """3x3 convolutions with ReLU, then max-pooling.

    Attributes:
      features: channels of every convolution.
      depth: number of convolutions.
      batch_norm: whether BatchNorm follows each convolution.
      last: whether this is the last stage, whose map is exposed for heat maps (see `tap`).
      virtual_batch_size: see `BatchNorm`.
      dtype: of the computation.
    """

    features: int
    depth: int
    batch_norm: bool
    last: bool
    virtual_batch_size: int | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H / 2, W / 2, features]`."""
        for index in range(self.depth):
            x = conv(self.features, 3, use_bias=True, dtype=self.dtype, name=f"conv{index}")(x)
            if self.batch_norm:
                norm = BatchNorm(self.virtual_batch_size, dtype=self.dtype, name=f"bn{index}")
                x = norm(x, train=train)
            x = nn.relu(x)
        return max_pool(tap(self, x) if self.last else x, 2, 2)


class VGG(ImageModel, kw_only=True):
    """VGG. Dropout follows both hidden dense layers; maps of other sizes are averaged to 7x7.

    Attributes:
      stage_sizes: convolutions per stage.
      batch_norm: whether BatchNorm follows each convolution.
      widths: channels per stage.
      hidden: width of the two hidden dense layers.
      virtual_batch_size: see `BatchNorm`.
    """

    stage_sizes: tuple[int, ...]
    batch_norm: bool = False
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    hidden: int = 4096
    virtual_batch_size: int | None = None
    drop_rate: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, H, W, C]`, of 32 pixels or more -> logits `[B, num_classes]`, or features
        `[B, hidden]`; float32."""
        x = self.check_input(x, smallest=32)
        for index, (depth, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            x = self.block(Stage)(
                features=width,
                depth=depth,
                batch_norm=self.batch_norm,
                last=index == len(self.widths) - 1,
                virtual_batch_size=self.virtual_batch_size,
                dtype=self.dtype,
                name=f"stage{index}",
            )(x, train)
        x = adaptive_avg_pool(x, 7)
        for name, kernel in (("fc1", 7), ("fc2", 1)):
            if name == "fc2":
                x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
            x = conv(self.hidden, kernel, padding=0, use_bias=True, dtype=self.dtype, name=name)(x)
            x = nn.relu(x)
        x = x[:, 0, 0].astype(jnp.float32)
        if features:
            return x
        return self.classify(x, train)


for _depth, _stage_sizes, _top1, _top1_bn in (
    (11, (1, 1, 2, 2, 2), 69.02, 70.37),
    (13, (2, 2, 2, 2, 2), 69.93, 71.59),
    (16, (2, 2, 3, 3, 3), 71.59, 73.36),
    (19, (2, 2, 4, 4, 4), 72.38, 74.22),
):
    for _name, _accuracy, _norm in (("", _top1, False), ("_bn", _top1_bn, True)):
        register_model(
            f"vgg{_depth}{_name}",
            top1=_accuracy,
            source="torchvision, IMAGENET1K_V1",
            stage_sizes=_stage_sizes,
            batch_norm=_norm,
        )(VGG)
