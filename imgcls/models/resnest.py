"""ResNeSt: Zhang et al. 2020, arXiv:2004.08955, radix 2 and one cardinal group, with the tweaks of
section 4.1: a stem of three 3x3 convolutions, and average pooling instead of strides.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.conv import conv
from imgcls.models.layers.norm import BatchNorm
from imgcls.models.layers.pooling import avg_pool, halve, max_pool
from imgcls.models.layers.residual import DropPath, drop_path_rates
from imgcls.models.registry import register_model


class ResNeStBlock(nn.Module):
    """Bottleneck of a 1x1 convolution, split attention and a 1x1 convolution.

    Attributes:
      width: channels of the split attention; the output has four times as many.
      stride: stride of the block, by average pooling in both branches.
      virtual_batch_size: see `BatchNorm`.
      zero_init_residual: whether the branch is initialized to zero.
      drop_path: stochastic depth rate of the branch.
      dtype: dtype of the computation.
    """

    width: int
    stride: int
    virtual_batch_size: int | None
    zero_init_residual: bool
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H / stride, W / stride, 4 * width]`."""
        norm = functools.partial(BatchNorm, self.virtual_batch_size, dtype=self.dtype)
        branch = conv(self.width, 1, dtype=self.dtype, name="conv1")(x)
        branch = nn.relu(norm(name="bn1")(branch, train=train))
        branch = SplitAttention(
            self.width, 1, 2, self.virtual_batch_size, self.dtype, name="conv2"
        )(branch, train)
        if self.stride > 1:
            branch = avg_pool(branch, 3, self.stride, padding=1)
        branch = conv(4 * self.width, 1, dtype=self.dtype, name="conv3")(branch)
        scale_init = nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones
        branch = norm(scale_init=scale_init, name="bn3")(branch, train=train)
        branch = DropPath(self.drop_path)(branch, train=train)

        if self.stride > 1:
            x = halve(x)
        if x.shape != branch.shape:
            x = conv(4 * self.width, 1, dtype=self.dtype, name="downsample_conv")(x)
            x = norm(name="downsample_bn")(x, train=train)
        return nn.relu(x + branch)


class ResNeSt(ImageModel, kw_only=True):
    """ResNeSt.

    Attributes:
      stage_sizes: blocks per stage.
      stem_width: channels of the stem's first two convolutions; the third has twice as many.
      width: channels of the first stage; each further stage doubles them.
      virtual_batch_size: see `BatchNorm`.
      zero_init_residual: whether blocks are initialized as the identity.
      drop_path: stochastic depth rate of the last block, see `drop_path_rates`.
    """

    stage_sizes: tuple[int, ...]
    stem_width: int
    width: int = 64
    virtual_batch_size: int | None = None
    zero_init_residual: bool = True
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, H, W, C]` -> logits `[B, num_classes]`, or features `[B, D]`; float32."""
        x = self._stem(self.check_input(x), train)
        rates = iter(drop_path_rates(self.drop_path, sum(self.stage_sizes)))
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                x = self.block(ResNeStBlock)(
                    width=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    virtual_batch_size=self.virtual_batch_size,
                    zero_init_residual=self.zero_init_residual,
                    drop_path=next(rates),
                    dtype=self.dtype,
                    name=f"layer{stage + 1}_{index}",
                )(x, train)
        return self.classify_map(x, train, features)

    def _stem(self, x: jax.Array, train: bool) -> jax.Array:
        widths = (self.stem_width, self.stem_width, 2 * self.stem_width)
        for index, width in enumerate(widths, start=1):
            stride = 2 if index == 1 else 1
            x = conv(width, 3, stride, dtype=self.dtype, name=f"stem_conv{index}")(x)
            norm = BatchNorm(self.virtual_batch_size, dtype=self.dtype, name=f"stem_bn{index}")
            x = nn.relu(norm(x, train=train))
        return max_pool(x, 3, 2, padding=1)


for _name, _size, _stage_sizes, _stem_width, _top1 in (
    ("resnest50d", 224, (3, 4, 6, 3), 32, 81.13),
    ("resnest101e", 256, (3, 4, 23, 3), 64, 82.83),
):
    register_model(
        _name,
        input_size=_size,
        top1=_top1,
        source="Zhang et al. 2020, table 3",
        stage_sizes=_stage_sizes,
        stem_width=_stem_width,
    )(ResNeSt)


class SplitAttention(nn.Module):
    """A 3x3 convolution into `radix` splits, and their sum, weighted per channel by attention.

    Zhang et al. 2020, arXiv:2004.08955, section 3.1 and figure 2, with one cardinal group.

    Attributes:
      features: output channels.
      stride: stride of the convolution.
      radix: number of splits.
      virtual_batch_size: see `BatchNorm`.
      dtype: of the computation.
    """

    features: int
    stride: int
    radix: int
    virtual_batch_size: int | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H / stride, W / stride, features]`."""
        total = self.radix * self.features
        # A quarter of the channels, rounded to a multiple of 8, and at least 32.
        squeezed = max(32, (total // 4 + 4) // 8 * 8)

        def norm(x: jax.Array, name: str) -> jax.Array:
            layer = BatchNorm(self.virtual_batch_size, dtype=self.dtype, name=name)
            return nn.relu(layer(x, train=train))

        x = conv(total, 3, self.stride, groups=self.radix, dtype=self.dtype, name="conv")(x)
        x = norm(x, "bn0")
        x = rearrange(x, "b h w (radix c) -> b h w radix c", radix=self.radix)
        gap = jnp.mean(jnp.sum(x, axis=-2, dtype=jnp.float32), axis=(1, 2), keepdims=True)
        gate = conv(squeezed, 1, use_bias=True, dtype=self.dtype, name="fc1")(
            gap.astype(self.dtype)
        )
        gate = norm(gate, "bn1")
        gate = conv(total, 1, use_bias=True, dtype=self.dtype, name="fc2")(gate)
        gate = rearrange(gate, "b h w (radix c) -> b h w radix c", radix=self.radix)
        gate = nn.softmax(gate.astype(jnp.float32), axis=-2)
        return jnp.sum(x * gate.astype(self.dtype), axis=-2)
