"""ResNet v1.5 and its variants: SE-ResNet, ResNeXt, Wide ResNet and ResNet-D.

- ResNet: He et al. 2015, arXiv:1512.03385, table 1, with the stride on the 3x3 convolution.
- SE-ResNet: Hu et al. 2017, arXiv:1709.01507, table 1: a gate on the channels of the branch.
- ResNeXt: Xie et al. 2016, arXiv:1611.05431, table 1: a wider 3x3 convolution in groups.
- Wide ResNet: Zagoruyko & Komodakis 2016, arXiv:1605.07146, table 8: a wider 3x3 convolution.
- ResNet-D: He et al. 2018, arXiv:1812.01187, figure 2: three 3x3 convolutions as the stem, and
  average pooling in shortcuts.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.core.errors import ConfigError
from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.conv import SqueezeExcite, conv
from imgcls.models.layers.norm import BatchNorm
from imgcls.models.layers.pooling import halve
from imgcls.models.layers.residual import DropPath, drop_path_rates
from imgcls.models.layers.stem import apply_stem
from imgcls.models.registry import register_model

_SHORTCUTS = ("conv", "avg", "pad")


class ResNetBlock(nn.Module):
    """Residual block: two 3x3 convolutions, or a bottleneck of 1x1, 3x3 and 1x1.

    Attributes:
      width: channels of the 3x3 convolutions; a bottleneck returns four times as many.
      stride: stride of the block.
      bottleneck: whether the block is a bottleneck.
      groups, group_width: see `ResNet`; only for bottlenecks.
      se: whether the branch ends with squeeze-and-excitation, with a sixteenth of the channels
        inside.
      shortcut: see `ResNet`.
      virtual_batch_size: see `BatchNorm`.
      zero_init_residual: whether the branch is initialized to zero.
      drop_path: stochastic depth rate of the branch.
      convolution: creates a convolution.
      dtype: dtype of the computation.
    """

    width: int
    stride: int
    bottleneck: bool
    groups: int
    group_width: int
    se: bool
    shortcut: str
    virtual_batch_size: int | None
    zero_init_residual: bool
    drop_path: float
    convolution: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, ..., C]` -> `[B, ... / stride, width or 4 * width]`."""
        convolution = self.convolution
        norm = functools.partial(BatchNorm, self.virtual_batch_size, dtype=self.dtype)
        branch = x
        for index, (channels, kernel, stride, groups) in enumerate(self._plan(), start=1):
            last = index == len(self._plan())
            zeros = last and self.zero_init_residual
            scale_init = nn.initializers.zeros if zeros else nn.initializers.ones
            branch = convolution(channels, kernel, stride, groups=groups, name=f"conv{index}")(
                branch
            )
            branch = norm(scale_init=scale_init, name=f"bn{index}")(branch, train=train)
            if not last:
                branch = nn.relu(branch)
        if self.se:
            branch = SqueezeExcite(branch.shape[-1] // 16, self.dtype, name="se")(branch)
        branch = DropPath(self.drop_path)(branch, train=train)

        if x.shape != branch.shape and self.shortcut == "pad":
            x = x[:, *(slice(None, None, self.stride),) * (x.ndim - 2)]
            x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, branch.shape[-1] - x.shape[-1])])
        elif x.shape != branch.shape:
            stride = self.stride
            if self.shortcut == "avg" and stride > 1:
                x, stride = halve(x), 1
            x = convolution(branch.shape[-1], 1, stride, name="downsample_conv")(x)
            x = norm(name="downsample_bn")(x, train=train)
        return nn.relu(x + branch)

    def _plan(self) -> list[tuple[int, int, int, int]]:
        """(channels, kernel, stride, groups) of the branch's convolutions."""
        if not self.bottleneck:
            return [(self.width, 3, self.stride, 1), (self.width, 3, 1, 1)]
        inner = self.width * self.group_width // 64 * self.groups
        return [
            (inner, 1, 1, 1),
            (inner, 3, self.stride, self.groups),
            (4 * self.width, 1, 1, 1),
        ]


class ResNet(ImageModel, kw_only=True):
    """ResNet.

    Attributes:
      stage_sizes: blocks per stage; each stage doubles the channels, each but the first halves
        the resolution.
      bottleneck: whether blocks are bottlenecks.
      groups: groups of the 3x3 convolutions in bottlenecks (cardinality in ResNeXt).
      group_width: channels per group in the first stage for a `width` of 64.
      se: whether blocks have squeeze-and-excitation.
      stem: "imagenet", "deep", "stride2" or "cifar", see `apply_stem`.
      shortcut: shortcut of blocks that change the shape: "conv" (1x1 convolution and BatchNorm) or
        "pad" (subsampling, and zeros as new channels): B and A in He et al. 2015, section 3.3; or
        "avg" (as "conv", with 2x2 average pooling in place of the stride).
      width: channels of the stem and the first stage, from which those of the other stages follow.
      virtual_batch_size: see `BatchNorm`.
      zero_init_residual: whether blocks are initialized as the identity (Goyal et al. 2017,
        arXiv:1706.02677, section 5.1).
      drop_path: stochastic depth rate of the last block, see `drop_path_rates`.
    """

    stage_sizes: tuple[int, ...]
    bottleneck: bool
    groups: int = 1
    group_width: int = 64
    se: bool = False
    stem: str = "imagenet"
    shortcut: str = "conv"
    width: int = 64
    virtual_batch_size: int | None = None
    zero_init_residual: bool = True
    drop_path: float = 0.0

    @property
    def convolution(self) -> Callable:
        """Creates a convolution over the axes of the model."""
        return functools.partial(conv, axes=self.spatial_axes, dtype=self.dtype)

    @property
    def norm(self) -> Callable:
        """Creates a BatchNorm."""
        return functools.partial(BatchNorm, self.virtual_batch_size, dtype=self.dtype)

    def apply_stem(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, ..., C]` -> `[B, ..., width]` at the resolution of the first stage."""
        return apply_stem(
            self.stem,
            x,
            self.width,
            convolution=self.convolution,
            norm=self.norm,
            train=train,
            family="ResNet",
        )

    def block_convolution(self, stage: int, index: int, train: bool) -> Callable:
        """What creates the convolutions of block `index` of a stage."""
        del stage, index, train
        return self.convolution

    def apply_stage(self, x: jax.Array, stage: int, train: bool) -> jax.Array:
        """x `[B, ..., C]` -> `[B, ..., C']`, the map after a stage."""
        rates = drop_path_rates(self.drop_path, sum(self.stage_sizes))
        rates = rates[sum(self.stage_sizes[:stage]) :]
        for index in range(self.stage_sizes[stage]):
            x = self.block(ResNetBlock)(
                width=self.width * 2**stage,
                stride=2 if stage > 0 and index == 0 else 1,
                bottleneck=self.bottleneck,
                groups=self.groups,
                group_width=self.group_width,
                se=self.se,
                shortcut=self.shortcut,
                virtual_batch_size=self.virtual_batch_size,
                zero_init_residual=self.zero_init_residual,
                drop_path=rates[index],
                convolution=self.block_convolution(stage, index, train),
                dtype=self.dtype,
                name=f"layer{stage + 1}_{index}",
            )(x, train)
        return x

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, ..., C]` -> logits `[B, num_classes]`, or features `[B, D]`; float32.

        Raises:
          ConfigError: unknown stem or shortcut, or the batch does not divide by
            `virtual_batch_size`.
        """
        if self.shortcut not in _SHORTCUTS:
            valid = ", ".join(map(repr, _SHORTCUTS))
            raise ConfigError(f"ResNet shortcut is {self.shortcut!r}: write one of {valid}")
        x = self.apply_stem(self.check_input(x), train)
        for stage in range(len(self.stage_sizes)):
            x = self.apply_stage(x, stage, train)
        return self.classify_map(x, train, features)


_TORCHVISION = "torchvision, IMAGENET1K_V1"
_SE = "Hu et al. 2017, table 2"
_D = "He et al. 2018, table 5"
DEPTHS = {
    10: dict(bottleneck=False, stage_sizes=(1, 1, 1, 1)),
    18: dict(bottleneck=False, stage_sizes=(2, 2, 2, 2)),
    34: dict(bottleneck=False, stage_sizes=(3, 4, 6, 3)),
    50: dict(bottleneck=True, stage_sizes=(3, 4, 6, 3)),
    101: dict(bottleneck=True, stage_sizes=(3, 4, 23, 3)),
    152: dict(bottleneck=True, stage_sizes=(3, 8, 36, 3)),
}
_MODELS: tuple[tuple[str, int, dict[str, Any], float, str], ...] = (
    ("resnet18", 18, {}, 69.76, _TORCHVISION),
    ("resnet34", 34, {}, 73.31, _TORCHVISION),
    ("resnet50", 50, {}, 76.13, _TORCHVISION),
    ("resnet101", 101, {}, 77.37, _TORCHVISION),
    ("resnet152", 152, {}, 78.31, _TORCHVISION),
    ("seresnet50", 50, dict(se=True), 76.71, _SE),
    ("seresnet101", 101, dict(se=True), 77.62, _SE),
    ("seresnet152", 152, dict(se=True), 78.43, _SE),
    ("resnext50_32x4d", 50, dict(groups=32, group_width=4), 77.62, _TORCHVISION),
    ("resnext101_32x8d", 101, dict(groups=32, group_width=8), 79.31, _TORCHVISION),
    ("wide_resnet50_2", 50, dict(group_width=128), 78.47, _TORCHVISION),
    ("wide_resnet101_2", 101, dict(group_width=128), 78.85, _TORCHVISION),
    ("resnet50d", 50, dict(stem="deep", shortcut="avg"), 77.16, _D),
)
for _name, _depth, _variant, _top1, _source in _MODELS:
    register_model(_name, top1=_top1, source=_source, **DEPTHS[_depth], **_variant)(ResNet)
