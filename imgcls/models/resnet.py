"""ResNet v1.5 (He et al. 2015, arXiv:1512.03385, table 1), with the stride on the 3x3 convolution.

Padding is explicit and symmetric, as in torchvision, so that its weights carry over: "SAME"
would pad a stride-2 convolution on one side only.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.errors import ConfigError
from imgcls.models import register_model
from imgcls.models.layers import BatchNorm, DropPath, drop_path_rates

_he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNetBlock(nn.Module):
    """Residual block: two 3x3 convolutions, or a bottleneck of 1x1, 3x3 and 1x1.

    Attributes:
      width: channels of the 3x3 convolutions; a bottleneck returns four times as many.
      stride: of the block.
      bottleneck: which of the two.
      virtual_batch_size: see `BatchNorm`.
      zero_init_residual: whether the branch starts at zero.
      drop_path: chance to drop the branch in training.
      dtype: of the computation.
    """

    width: int
    stride: int
    bottleneck: bool
    virtual_batch_size: int | None
    zero_init_residual: bool
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H / stride, W / stride, width or 4 * width]`."""
        norm = functools.partial(BatchNorm, self.virtual_batch_size, dtype=self.dtype)
        conv = functools.partial(_conv, dtype=self.dtype)
        if self.bottleneck:
            plan = [(self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1)]
        else:
            plan = [(self.width, 3, self.stride), (self.width, 3, 1)]

        branch = x
        for index, (channels, kernel, stride) in enumerate(plan, start=1):
            last = index == len(plan)
            zeros = last and self.zero_init_residual
            scale_init = nn.initializers.zeros if zeros else nn.initializers.ones
            branch = conv(channels, kernel, stride, name=f"conv{index}")(branch)
            branch = norm(scale_init=scale_init, name=f"bn{index}")(branch, train=train)
            if not last:
                branch = nn.relu(branch)
        branch = DropPath(self.drop_path)(branch, train=train)

        if x.shape != branch.shape:
            x = conv(branch.shape[-1], 1, self.stride, name="downsample_conv")(x)
            x = norm(name="downsample_bn")(x, train=train)
        return nn.relu(x + branch)


class ResNet(nn.Module):
    """ResNet.

    Attributes:
      num_classes: number of logits.
      stage_sizes: blocks per stage; each stage doubles the channels, each but the first halves
        the resolution.
      bottleneck: kind of block.
      stem: "imagenet" (7x7 stride 2, then max-pool: resolution / 4) or "cifar" (3x3 stride 1, for
        pictures of about 32 pixels).
      width: channels of the stem and of the first stage; the other stages follow from it.
      virtual_batch_size: examples that share BatchNorm statistics; None is the whole batch.
      zero_init_residual: start each block as the identity (Goyal et al. 2017, arXiv:1706.02677,
        section 5.1).
      drop_rate: dropout before the head.
      drop_path: stochastic depth of the last block; the others linearly less.
      dtype: of the computation. The head is float32.
    """

    num_classes: int
    stage_sizes: tuple[int, ...]
    bottleneck: bool
    stem: str = "imagenet"
    width: int = 64
    virtual_batch_size: int | None = None
    zero_init_residual: bool = True
    drop_rate: float = 0.0
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, H, W, C]` -> logits `[B, num_classes]`, or features `[B, D]`; float32.

        Raises:
          ConfigError: unknown stem, or the batch does not divide by `virtual_batch_size`.
        """
        x = self._stem(x.astype(self.dtype), train)
        rates = iter(drop_path_rates(self.drop_path, sum(self.stage_sizes)))
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                x = ResNetBlock(
                    width=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    bottleneck=self.bottleneck,
                    virtual_batch_size=self.virtual_batch_size,
                    zero_init_residual=self.zero_init_residual,
                    drop_path=next(rates),
                    dtype=self.dtype,
                    name=f"layer{stage + 1}_{index}",
                )(x, train=train)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        if features:
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01), name="head")(x)

    def _stem(self, x: jax.Array, train: bool) -> jax.Array:
        if self.stem not in ("imagenet", "cifar"):
            raise ConfigError(f"ResNet stem is {self.stem!r}: write 'imagenet' or 'cifar'")
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = _conv(self.width, kernel, stride, dtype=self.dtype, name="conv1")(x)
        x = BatchNorm(self.virtual_batch_size, dtype=self.dtype, name="bn1")(x, train=train)
        x = nn.relu(x)
        if self.stem == "imagenet":
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        return x


def _conv(channels: int, kernel: int, stride: int, dtype: jnp.dtype, name: str) -> nn.Conv:
    return nn.Conv(
        channels,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,
        use_bias=False,
        kernel_init=_he_normal,
        dtype=dtype,
        name=name,
    )


for _name, _bottleneck, _stage_sizes in (
    ("resnet18", False, (2, 2, 2, 2)),
    ("resnet34", False, (3, 4, 6, 3)),
    ("resnet50", True, (3, 4, 6, 3)),
    ("resnet101", True, (3, 4, 23, 3)),
    ("resnet152", True, (3, 8, 36, 3)),
):
    register_model(_name, stage_sizes=_stage_sizes, bottleneck=_bottleneck)(ResNet)
