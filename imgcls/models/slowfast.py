"""SlowFast (Feichtenhofer et al. 2018, arXiv:1812.03982, sections 3.1 to 3.4 and table 1).

Two ResNets: a slow one on every `alpha`-th frame, and a fast one on all frames with an eighth of
the channels. Before each stage the maps of the fast one are brought to the frames of the slow one
by a convolution along time, and appended to its maps. The layout is that of pytorchvideo
(`models/slowfast.py`).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.models.layers.base import ImageModel, tap
from imgcls.models.layers.conv import conv
from imgcls.models.layers.norm import BatchNorm
from imgcls.models.layers.pooling import mean_of_windows
from imgcls.models.registry import register_model
from imgcls.models.resnet import DEPTHS
from imgcls.models.video_resnet import VideoResNet


class Pathway(VideoResNet, kw_only=True):
    """The stem and the stages of a `VideoResNet`, called one after the other."""

    @nn.compact
    def __call__(self, x: jax.Array, stage: int, train: bool) -> jax.Array:
        """x `[B, T, H, W, C]` -> the map after the stem, for stage 0, or after a later stage."""
        return self.apply_stage(x, stage - 1, train) if stage else self.apply_stem(x, train)


class FastToSlow(nn.Module):
    """The maps of the fast pathway at the frames of the slow one: convolution, BatchNorm, ReLU.

    Attributes:
      side: side of the kernel along time.
      alpha: stride along time.
      virtual_batch_size: see `BatchNorm`.
      dtype: dtype of the computation.
    """

    side: int
    alpha: int
    virtual_batch_size: int | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, T, H, W, C]` -> `[B, T / alpha, H, W, 2 C]`."""
        kernel, strides = (self.side, 1, 1), (self.alpha, 1, 1)
        x = conv(2 * x.shape[-1], kernel, strides, axes=3, dtype=self.dtype, name="conv")(x)
        return nn.relu(
            BatchNorm(self.virtual_batch_size, dtype=self.dtype, name="bn")(x, train=train)
        )


class SlowFast(ImageModel, kw_only=True):
    """SlowFast.

    Attributes:
      stage_sizes: blocks per stage, of both pathways.
      alpha: frames of the fast pathway for each of the slow one; divides the frames of a clip.
      beta: channels of the slow pathway for each of the fast one.
      fuse_time: side along time of the kernels that connect the pathways.
      slow_times, fast_times: see `VideoResNet.times`.
      slow_stem_time, fast_stem_time: see `VideoResNet.stem_time`.
      slow_window, fast_window: see `VideoResNet.window`.
      stem, virtual_batch_size, zero_init_residual, drop_path: see `ResNet`.
      width: channels of the stem of the slow pathway, see `ResNet`.
    """

    spatial_axes: ClassVar[int] = 3

    stage_sizes: tuple[int, ...]
    alpha: int = 8
    beta: int = 8
    fuse_time: int = 5
    slow_times: Sequence[Sequence[int]] = ((1,), (1,), (3,), (3,))
    fast_times: Sequence[Sequence[int]] = ((3,), (3,), (3,), (3,))
    slow_stem_time: int = 1
    fast_stem_time: int = 5
    slow_window: Sequence[int] | None = None
    fast_window: Sequence[int] | None = None
    stem: str = "imagenet"
    width: int = 64
    virtual_batch_size: int | None = None
    zero_init_residual: bool = True
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, T, H, W, C]` -> logits `[B, num_classes]`, or features `[B, F]`; float32.

        The features are those of the slow pathway, then those of the fast one. Heat maps are of the
        slow pathway, which has most of the channels.

        Raises:
          ConfigError: an option is invalid, or `alpha` does not divide the frames.
        """
        x = self.check_input(x)
        slow, fast = x[:, self._slow_frames(x.shape[1])], x
        slow_net = self._pathway("slow", self.width, self.slow_times, self.slow_stem_time)
        fast_net = self._pathway(
            "fast", self.width // self.beta, self.fast_times, self.fast_stem_time
        )
        for stage in range(len(self.stage_sizes) + 1):
            slow, fast = slow_net(slow, stage, train), fast_net(fast, stage, train)
            if stage < len(self.stage_sizes):
                fuse = FastToSlow(
                    *(self.fuse_time, self.alpha, self.virtual_batch_size, self.dtype),
                    name=f"fuse{stage}",
                )
                slow = jnp.concatenate([slow, fuse(fast, train)], axis=-1)
        pooled = []
        for last, window in ((tap(self, slow), self.slow_window), (fast, self.fast_window)):
            window = window or last.shape[1:-1]
            pooled.append(mean_of_windows(last.astype(jnp.float32), window))
        x = jnp.concatenate(pooled, axis=-1)
        return x if features else self.classify(x, train)

    def _slow_frames(self, count: int) -> np.ndarray:
        """Indices of the frames of the slow pathway: evenly from the first to the last."""
        if self.alpha < 1 or count % self.alpha:
            raise ConfigError(
                f"model.alpha={self.alpha}: does not divide the {count} frames of a clip: write "
                "another number, or another number of frames"
            )
        return np.linspace(0, count - 1, count // self.alpha).astype(int)

    def _pathway(self, name: str, width: int, times: Any, stem_time: int) -> Pathway:
        if width < 1:
            raise ConfigError(f"model.beta={self.beta}: is more than model.width={self.width}")
        return Pathway(
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            remat=self.remat,
            dtype=self.dtype,
            bottleneck=True,
            stage_sizes=self.stage_sizes,
            times=times,
            stem_time=stem_time,
            stem=self.stem,
            width=width,
            virtual_batch_size=self.virtual_batch_size,
            zero_init_residual=self.zero_init_residual,
            drop_path=self.drop_path,
            name=name,
        )


_STAGES = DEPTHS[50]["stage_sizes"]
for _name, _options in (
    ("slowfast_r50", dict(alpha=8, fuse_time=5, slow_window=(4, 7, 7), fast_window=(32, 7, 7))),
    ("slowfast_r50_8x8", dict(alpha=4, fuse_time=7, slow_window=(8, 7, 7), fast_window=(32, 7, 7))),
):
    _all: dict[str, Any] = dict(stage_sizes=_STAGES, drop_rate=0.5, **_options)
    register_model(
        _name, input_frames=32, source="Feichtenhofer et al. 2018; pytorchvideo", **_all
    )(SlowFast)
