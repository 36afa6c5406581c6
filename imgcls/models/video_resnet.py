"""ResNets of clips `[B, T, H, W, C]`: the blocks of `resnet.py` with kernels along time.

- R3D, MC3 and R(2+1)D: Tran et al. 2017, arXiv:1711.11248, sections 3.2 to 3.5, in the layout of
  torchvision (`models/video/resnet.py`): convolutions over space and time in all stages, in the
  first alone, or each of them as one over space and one over time.
- C2D and I3D: Wang et al. 2017, arXiv:1711.07971, section 4.1: a ResNet-50 on frames with pooling
  along time, and the same with kernels along time in every block or every second one.
- Slow: Feichtenhofer et al. 2018, arXiv:1812.03982, table 1, the slow pathway alone: kernels along
  time in the last two stages, and no pooling or stride along time.
- TSM: Lin et al. 2018, arXiv:1811.08383, section 3: a ResNet on frames, in which a part of the
  channels of every branch is taken from the next or the previous frame.

C2D, I3D and Slow have the layout of pytorchvideo (`models/hub/resnet.py`), TSM that of
mit-han-lab/temporal-shift-module. All but R(2+1)D take the weights of ResNets of images.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.core.errors import ConfigError
from imgcls.models.layers.conv import conv
from imgcls.models.layers.pooling import max_pool
from imgcls.models.layers.stem import apply_stem
from imgcls.models.registry import register_model
from imgcls.models.resnet import DEPTHS, ResNet


class FactorizedConv(nn.Module):
    """A convolution over space, BatchNorm and ReLU, and a convolution over time: (2+1)D.

    Tran et al. 2017, arXiv:1711.11248, section 3.5.

    Attributes:
      features: output channels.
      middle: channels between the two convolutions.
      kernel: sides along T, H and W.
      strides: along T, H and W.
      norm: creates the BatchNorm.
      dtype: dtype of the computation.
    """

    features: int
    middle: int
    kernel: tuple[int, int, int]
    strides: tuple[int, int, int]
    norm: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, T, H, W, C]` -> `[B, T', H', W', features]`."""
        convolution = functools.partial(conv, axes=3, dtype=self.dtype)
        time, *space = self.kernel
        step, *steps = self.strides
        x = convolution(self.middle, (1, *space), (1, *steps), name="spatial")(x)
        x = nn.relu(self.norm(name="bn")(x, train=train))
        return convolution(self.features, (time, 1, 1), (step, 1, 1), name="temporal")(x)


@dataclasses.dataclass(frozen=True)
class ClipConvolution:
    """Creates the convolutions over clips of a block or a stem, called as `conv`.

    Attributes:
      times: `(name, side along T)` of the convolutions whose kernels have a side along time.
      time_stride: stride along T where there is one along H and W.
      dtype: dtype of the computation.
      shift: `1 / shift` of the channels are shifted by one frame, each way, before `conv1`, see
        `shift_frames`; 0: none.
    """

    times: tuple[tuple[str, int], ...]
    time_stride: int
    dtype: jnp.dtype
    shift: int = 0

    def __call__(
        self, features: int, kernel: int, stride: int = 1, *, groups: int = 1, name: str
    ) -> Callable:
        """Creates the convolution `name`, called as a module."""
        sides, strides = self.sides(kernel, stride, name)
        module = conv(features, sides, strides, axes=3, groups=groups, dtype=self.dtype, name=name)
        if self.shift and name == "conv1":
            return lambda x: module(shift_frames(x, x.shape[-1] // self.shift))
        return module

    def sides(
        self, kernel: int, stride: int, name: str
    ) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Sides of the kernel and strides, along T, H and W."""
        time = dict(self.times).get(name, 1)
        return (time, kernel, kernel), (self.time_stride if stride > 1 else 1, stride, stride)


@dataclasses.dataclass(frozen=True)
class FactorizedConvolution(ClipConvolution):
    """As `ClipConvolution`; those with a side along time are factorized, see `FactorizedConv`.

    Attributes:
      middle: channels between the two convolutions.
      norm: creates a BatchNorm.
      train: whether the BatchNorms are in training.
    """

    _: dataclasses.KW_ONLY
    middle: int
    norm: Callable
    train: bool

    def __call__(
        self, features: int, kernel: int, stride: int = 1, *, groups: int = 1, name: str
    ) -> Callable:
        """Creates the convolution `name`, called as a module."""
        sides, strides = self.sides(kernel, stride, name)
        if sides[0] == 1:
            return super().__call__(features, kernel, stride, groups=groups, name=name)
        sizes = (features, self.middle, sides, strides)
        module = FactorizedConv(*sizes, self.norm, self.dtype, name=name)
        return functools.partial(module, train=self.train)


def shift_frames(x: jax.Array, count: int) -> jax.Array:
    """Moves the first `count` channels one frame back in time, and the next `count` forward.

    Lin et al. 2018, arXiv:1811.08383, section 3.1. Frames beyond the clip are zeros.

    Args:
      x: `[B, T, H, W, C]`.
      count: number of channels that get the value of the next frame, and of those that get that of
        the previous one.
    """
    before, after, rest = jnp.split(x, [count, 2 * count], axis=-1)
    pad = ((0, 0),) * 3
    before = jnp.pad(before[:, 1:], ((0, 0), (0, 1), *pad))
    after = jnp.pad(after[:, :-1], ((0, 0), (1, 0), *pad))
    return jnp.concatenate([before, after, rest], axis=-1)


class VideoResNet(ResNet, kw_only=True):
    """ResNet of clips; the other attributes are those of `ResNet`.

    Attributes:
      times: for each stage the sides along time of its blocks, repeated if there are more blocks:
        of both convolutions of a block, or of the first of a bottleneck.
      time_strides: for each stage the stride along time of its first block.
      stem_time: side along time of the kernel of the stem.
      stem_pool: whether the stem "imagenet" ends with max-pooling over space.
      pool_time: whether the first stage is followed by max-pooling of two frames.
      factorized: whether convolutions over space and time are factorized, see `FactorizedConv`.
      shift: see `ClipConvolution`.
      window: sides along T, H and W of the windows of the last pooling, see `mean_of_windows`;
        None: the mean.
    """

    spatial_axes: ClassVar[int] = 3

    times: Sequence[Sequence[int]]
    time_strides: Sequence[int] = (1, 1, 1, 1)
    stem_time: int = 3
    stem_pool: bool = True
    pool_time: bool = False
    factorized: bool = False
    shift: int = 0
    window: Sequence[int] | None = None

    def apply_stem(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, T, H, W, C]` -> `[B, T, H', W', width]`."""
        self._check()
        times = (("conv1", self.stem_time),)
        convolution = ClipConvolution(times, 1, self.dtype)
        if self.factorized:
            # 45 of torchvision, for a width of 64.
            middle = 45 * self.width // 64
            convolution = FactorizedConvolution(
                times, 1, self.dtype, middle=middle, norm=self.norm, train=train
            )
        pool = functools.partial(max_pool, side=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        return apply_stem(
            self.stem,
            x,
            self.width,
            convolution=convolution,
            norm=self.norm,
            train=train,
            family="ResNet",
            pool=pool if self.stem_pool else lambda x: x,
        )

    def block_convolution(self, stage: int, index: int, train: bool) -> Callable:
        """What creates the convolutions of block `index` of a stage."""
        time = self.times[stage][index % len(self.times[stage])]
        names = ("conv1",) if self.bottleneck else ("conv1", "conv2")
        times = tuple((name, time) for name in names)
        args = (times, self.time_strides[stage], self.dtype)
        if not self.factorized:
            return ClipConvolution(*args, shift=self.shift)
        # As in torchvision, also for the second convolution, which has other inputs.
        outputs = self.width * 2**stage
        inputs = outputs // 2 if stage > 0 and index == 0 else outputs
        middle = 27 * inputs * outputs // (9 * inputs + 3 * outputs)
        return FactorizedConvolution(*args, middle=middle, norm=self.norm, train=train)

    def apply_stage(self, x: jax.Array, stage: int, train: bool) -> jax.Array:
        """x `[B, T, H, W, C]` -> `[B, T', H', W', C']`, the map after a stage and its pooling."""
        x = super().apply_stage(x, stage, train)
        return max_pool(x, (2, 1, 1), (2, 1, 1)) if self.pool_time and stage == 0 else x

    def classify_map(
        self, x: jax.Array, train: bool, features: bool, window: Sequence[int] | None = None
    ) -> jax.Array:
        """As in `ImageModel`, with the model's windows."""
        return super().classify_map(x, train, features, window or self.window)

    def _check(self) -> None:
        if self.factorized and self.bottleneck:
            raise ConfigError("model.factorized=True: bottlenecks are not: write bottleneck=False")
        if len(self.stage_sizes) > min(len(self.times), len(self.time_strides)):
            raise ConfigError(
                f"model.stage_sizes has {len(self.stage_sizes)} stages: write model.times and "
                "model.time_strides with as many"
            )
        if self.shortcut != "conv" or self.stem == "deep":
            raise ConfigError(
                "a ResNet of clips has no stem='deep' and no shortcut but 'conv': leave them out"
            )


_TRAN = "Tran et al. 2017; torchvision"
_WANG = "Wang et al. 2017; pytorchvideo"
_FEICHTENHOFER = "Feichtenhofer et al. 2018; pytorchvideo"
_LIN = "Lin et al. 2018"
_ALL, _NONE = ((3,),) * 4, ((1,),) * 4
_R3D: dict[str, Any] = dict(times=_ALL, time_strides=(1, 2, 2, 2), stem_pool=False)
_MC3: dict[str, Any] = dict(times=((3,), (1,), (1,), (1,)), stem_pool=False)
_C2D: dict[str, Any] = dict(times=_NONE, stem_time=1, pool_time=True, window=(4, 7, 7))
_I3D: dict[str, Any] = dict(
    times=((3,), (3, 1), (3, 1), (1, 3)), stem_time=5, pool_time=True, window=(4, 7, 7)
)
_SLOW: dict[str, Any] = dict(times=((1,), (1,), (3,), (3,)), stem_time=1, window=(8, 7, 7))
_TSM: dict[str, Any] = dict(times=_NONE, stem_time=1, shift=8)
for _name, _source, _options in (
    ("r3d_18", _TRAN, _R3D),
    ("mc3_18", _TRAN, _MC3),
    ("r2plus1d_18", _TRAN, dict(factorized=True, **_R3D)),
):
    _options = {**DEPTHS[18], **_options}
    register_model(_name, input_size=112, input_frames=16, source=_source, **_options)(VideoResNet)
for _name, _depth, _source, _options in (
    ("c2d_r50", 50, _WANG, _C2D),
    ("i3d_r50", 50, _WANG, _I3D),
    ("slow_r50", 50, _FEICHTENHOFER, _SLOW),
    ("tsm", 50, _LIN, _TSM),
    ("tsm_r18", 18, _LIN, _TSM),
):
    _options = {"drop_rate": 0.5, **DEPTHS[_depth], **_options}
    register_model(_name, input_frames=8, source=_source, **_options)(VideoResNet)
