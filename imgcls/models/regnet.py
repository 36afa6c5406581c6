"""RegNetX and RegNetY: Radosavovic et al. 2020, arXiv:2003.13678, sections 3.2 to 4 and appendix.

Five numbers define a network: `generate` computes the stages. The widths are those of the paper and
of timm; names ending in `_tv` have the widths of torchvision where it rounds differently.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.conv import ConvNormAct, SqueezeExcite
from imgcls.models.layers.residual import DropPath, drop_path_rates
from imgcls.models.registry import register_model


@dataclasses.dataclass(frozen=True)
class Design:
    """A point of the design space.

    Attributes:
      depth: number of blocks d.
      initial: width w_0 of the first block before quantization (equation 2).
      slope: w_a, growth of the width per block (equation 2).
      multiplier: w_m, ratio of the widths of consecutive stages (equation 3).
      group: channels per group in the 3x3 convolutions.
    """

    depth: int
    initial: int
    slope: float
    multiplier: float
    group: int


def generate(design: Design, torchvision: bool = False) -> tuple[tuple[int, int, int], ...]:
    """Stages of a design: (blocks, width, channels per group) of each.

    Equations 2 to 4, then widths rounded to multiples of the group (appendix D).

    Args:
      design: point of the design space.
      torchvision: whether to round as torchvision: half a group up, and never below 0.9 times the
        width. The paper's code rounds to nearest, half to even.
    """
    linear = design.initial + design.slope * np.arange(design.depth)
    power = np.round(np.log(linear / design.initial) / np.log(design.multiplier))
    quantized = np.round(design.initial * design.multiplier**power / 8) * 8
    stages = []
    for width, blocks in zip(*np.unique(quantized, return_counts=True), strict=True):
        group = min(design.group, int(width))
        if torchvision:
            rounded = int(width + group / 2) // group * group
            rounded += group if rounded < 0.9 * width else 0
        else:
            rounded = int(round(width / group)) * group
        stages.append((int(blocks), rounded, group))
    return tuple(stages)


class RegNetBlock(nn.Module):
    """Residual block of 1x1, grouped 3x3 and 1x1 convolutions of one width (figure 4).

    Attributes:
      width: output channels.
      group: channels per group.
      stride: stride of the 3x3 convolution and of the shortcut.
      se: whether squeeze-and-excitation follows the 3x3 convolution (RegNetY), with a quarter of
        the block's input channels inside.
      virtual_batch_size: see `BatchNorm`.
      zero_init_residual: whether the branch is initialized to zero.
      drop_path: stochastic depth rate of the branch.
      dtype: dtype of the computation.
    """

    width: int
    group: int
    stride: int
    se: bool
    virtual_batch_size: int | None
    zero_init_residual: bool
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H / stride, W / stride, width]`."""
        unit = functools.partial(
            ConvNormAct,
            self.width,
            virtual_batch_size=self.virtual_batch_size,
            dtype=self.dtype,
        )
        scale_init = nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones
        branch = unit(1, name="conv1")(x, train)
        branch = unit(3, self.stride, groups=self.width // self.group, name="conv2")(branch, train)
        if self.se:
            branch = SqueezeExcite(round(x.shape[-1] / 4), self.dtype, name="se")(branch)
        branch = unit(1, act=False, scale_init=scale_init, name="conv3")(branch, train)
        branch = DropPath(self.drop_path)(branch, train=train)
        if x.shape != branch.shape:
            x = unit(1, self.stride, act=False, name="downsample")(x, train)
        return nn.relu(x + branch)


class RegNet(ImageModel, kw_only=True):
    """RegNet.

    Attributes:
      stages: (blocks, width, channels per group) of each stage, see `generate`.
      se: whether blocks have squeeze-and-excitation (RegNetY).
      stem_width: channels of the stem.
      virtual_batch_size: see `BatchNorm`.
      zero_init_residual: whether blocks are initialized as the identity.
      drop_path: stochastic depth rate of the last block, see `drop_path_rates`.
    """

    stages: tuple[tuple[int, int, int], ...]
    se: bool
    stem_width: int = 32
    virtual_batch_size: int | None = None
    zero_init_residual: bool = True
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, H, W, C]` -> logits `[B, num_classes]`, or features `[B, D]`; float32."""
        x = self.check_input(x)
        x = ConvNormAct(
            self.stem_width,
            3,
            2,
            virtual_batch_size=self.virtual_batch_size,
            dtype=self.dtype,
            name="stem",
        )(x, train)
        rates = iter(drop_path_rates(self.drop_path, sum(stage[0] for stage in self.stages)))
        for stage, (blocks, width, group) in enumerate(self.stages, start=1):
            for index in range(blocks):
                x = self.block(RegNetBlock)(
                    width=width,
                    group=group,
                    stride=2 if index == 0 else 1,
                    se=self.se,
                    virtual_batch_size=self.virtual_batch_size,
                    zero_init_residual=self.zero_init_residual,
                    drop_path=next(rates),
                    dtype=self.dtype,
                    name=f"s{stage}_b{index + 1}",
                )(x, train)
        return self.classify_map(x, train, features)


# Design (depth, w_0, w_a, w_m, group) and top-1 error on ImageNet in percent.
_X = {
    "200mf": (Design(13, 24, 36.44, 2.49, 8), 31.1),
    "400mf": (Design(22, 24, 24.48, 2.54, 16), 27.3),
    "600mf": (Design(16, 48, 36.97, 2.24, 24), 25.9),
    "800mf": (Design(16, 56, 35.73, 2.28, 16), 24.8),
    "1_6gf": (Design(18, 80, 34.01, 2.25, 24), 23.0),
    "3_2gf": (Design(25, 88, 26.31, 2.25, 48), 21.7),
    "4gf": (Design(23, 96, 38.65, 2.43, 40), 21.4),
    "6_4gf": (Design(17, 184, 60.83, 2.07, 56), 20.8),
    "8gf": (Design(23, 80, 49.56, 2.88, 120), 20.7),
    "12gf": (Design(19, 168, 73.36, 2.37, 112), 20.3),
    "16gf": (Design(22, 216, 55.59, 2.1, 128), 20.0),
    "32gf": (Design(23, 320, 69.86, 2.0, 168), 19.5),
}
_Y = {
    "200mf": (Design(13, 24, 36.44, 2.49, 8), 29.6),
    "400mf": (Design(16, 48, 27.89, 2.09, 8), 25.9),
    "600mf": (Design(15, 48, 32.54, 2.32, 16), 24.5),
    "800mf": (Design(14, 56, 38.84, 2.4, 16), 23.7),
    "1_6gf": (Design(27, 48, 20.71, 2.65, 24), 22.0),
    "3_2gf": (Design(21, 80, 42.63, 2.66, 24), 21.0),
    "4gf": (Design(22, 96, 31.41, 2.24, 64), 20.6),
    "6_4gf": (Design(25, 112, 33.22, 2.27, 72), 20.1),
    "8gf": (Design(17, 192, 76.82, 2.19, 56), 20.1),
    "12gf": (Design(19, 168, 73.36, 2.37, 112), 19.7),
    "16gf": (Design(18, 200, 106.23, 2.48, 112), 19.6),
    "32gf": (Design(20, 232, 115.89, 2.53, 232), 19.0),
}
# Models of torchvision with different widths or groups, and their top-1 accuracy in percent.
_TORCHVISION = {"regnetx_400mf": 72.83, "regnety_800mf": 76.42, "regnety_8gf": 80.03}
for _family, _table in (("x", _X), ("y", _Y)):
    for _flops, (_design, _error) in _table.items():
        _name = f"regnet{_family}_{_flops}"
        register_model(
            _name,
            top1=round(100 - _error, 1),
            source="Radosavovic et al. 2020 (pycls model zoo)",
            stages=generate(_design),
            se=_family == "y",
        )(RegNet)
        if _name in _TORCHVISION:
            register_model(
                f"{_name}_tv",
                top1=_TORCHVISION[_name],
                source="torchvision, IMAGENET1K_V1",
                stages=generate(_design, torchvision=True),
                se=_family == "y",
            )(RegNet)
