"""A model of images on each image of a row: slices of a volume (2.5D), or frames of a clip.

The features of the images are pooled across the row:

- a mean knows no order: any permutation of the images has the same logits, and so has a volume that
  is mirrored along the row (average consensus of Wang et al. 2016, arXiv:1608.00859, section 3.1);
- a recurrent network or a Transformer sees the order, see `imgcls.models.layers.across`.
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from flax.core import FrozenDict

from imgcls.core.errors import ConfigError
from imgcls.models.create import model_fields
from imgcls.models.layers.across import (
    CELLS,
    RECURRENT_POOLS,
    AttentionAcross,
    RecurrentAcross,
    mean_across,
)
from imgcls.models.layers.base import ImageModel, InitializesFromData
from imgcls.models.registry import model_entry, register_model

SLICE_POOLS = ("mean", "lstm", "attention")


class ImageSequence(ImageModel, kw_only=True):
    """Base of models that apply a model of images to every image of a row.

    Attributes:
      backbone: name of a model of images.
      backbone_options: its options, such as `{"stem": "cifar"}`; None: no others than here.
      virtual_batch_size: virtual batches of a backbone with BatchNorm, see `BatchNorm`, in
        examples: all images of an example are in one group.
    """

    spatial_axes: ClassVar[int] = 3

    backbone: str = "resnet18"
    backbone_options: Mapping[str, Any] | None = None
    virtual_batch_size: int | None = None

    def __post_init__(self):
        if self.backbone_options is not None:
            # Modules are static arguments of compiled functions, which must be hashable.
            object.__setattr__(self, "backbone_options", FrozenDict(self.backbone_options))
        super().__post_init__()

    def encode(self, x: jax.Array, train: bool) -> jax.Array:
        """Rows of images `[B, T, H, W, C]` -> features of each image, float32 `[B, T, F]`.

        Raises:
          ConfigError: the backbone is no model of images, or has no such options.
        """
        self._check_backbone()
        batch, length = x.shape[:2]
        module, fields = self.backbone_fields(length)
        images = rearrange(x, "b t h w c -> (b t) h w c")
        x = module(**fields, name="backbone")(images, train=train, features=True)
        return rearrange(x, "(b t) f -> b t f", b=batch)

    def backbone_fields(self, length: int = 1) -> tuple[type[nn.Module], dict[str, Any]]:
        """The class and the fields of the model of images, for rows of `length` images."""
        given = dict(in_channels=self.in_channels, dtype=self.dtype, remat=self.remat)
        options = model_entry(self.backbone).options
        if self.virtual_batch_size and "virtual_batch_size" in options:
            given["virtual_batch_size"] = self.virtual_batch_size * length
        if "aux" in options:
            given["aux"] = False
        chosen = dict(self.backbone_options or {})
        if repeated := sorted(given.keys() & chosen.keys()):
            raise ConfigError(
                f"model.backbone_options has {repeated[0]!r}, which the model sets itself: leave "
                "it out"
            )
        return model_fields(self.backbone, self.num_classes, **given, **chosen)

    def check_choice(self, option: str, allowed: Collection) -> None:
        """Raises a ConfigError unless the value of an option is one of those."""
        if (value := getattr(self, option)) not in allowed:
            choices = " or ".join(map(repr, allowed))
            raise ConfigError(f"model.{option}={value!r}: write {choices}")

    def _check_backbone(self) -> None:
        entry = model_entry(self.backbone)
        why = "is a model of volumes or clips" if entry.spatial_axes != 2 else ""
        if issubclass(entry.module, InitializesFromData):
            why = "computes a layer from the images of the data, which are rows of images here"
        if why:
            raise ConfigError(
                f"model.backbone={self.backbone!r}: {why}: write another model, such as 'resnet18'"
            )


@register_model("slices2d", input_size=64, source="2.5D: a model of images on slices")
class SliceSequence(ImageSequence, kw_only=True):
    """A model of images on every slice of a volume, and pooling of their features.

    Attributes:
      axis: axis of `[D, H, W]` across which the images lie: 0, 1 or 2.
      pool: "mean" (without order), "lstm" or "attention" (with order).
      pool_width: units of each direction of the LSTM, or channels of the Transformer.
      pool_depth: layers of the LSTM or the Transformer.
      pool_heads: attention heads of the Transformer.
    """

    axis: int = 0
    pool: str = "mean"
    pool_width: int = 256
    pool_depth: int = 1
    pool_heads: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, D, H, W, C]` -> logits `[B, num_classes]`, or features `[B, F]`; float32.

        Raises:
          ConfigError: an option is invalid, or the backbone is no model of images.
        """
        self.check_choice("pool", SLICE_POOLS)
        self.check_choice("axis", (0, 1, 2))
        if self.pool == "attention" and self.pool_width % self.pool_heads:
            raise ConfigError(
                f"model.pool_width={self.pool_width}: does not divide into {self.pool_heads} "
                "heads: make it a multiple of pool_heads"
            )
        x = self.encode(jnp.moveaxis(self.check_input(x), 1 + self.axis, 1), train)
        if self.pool == "mean":
            x = mean_across(x)
        elif self.pool == "lstm":
            x = RecurrentAcross(self.pool_width, self.pool_depth, name="across")(x, train=train)
        else:
            sizes = (self.pool_width, self.pool_depth, self.pool_heads)
            x = AttentionAcross(*sizes, self.drop_rate, name="across")(x, train=train)
        return x if features else self.classify(x, train)


_CLIP = dict(input_size=224, input_frames=16)


@register_model("frame_average", source="Wang et al. 2016: a model of images on frames", **_CLIP)
class FrameAverage(ImageSequence, kw_only=True):
    """A model of images on every frame of a clip, and the mean of their features."""

    takes_length: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        features: bool = False,
        length: jax.Array | None = None,
    ) -> jax.Array:
        """x `[B, T, H, W, C]` -> logits `[B, num_classes]`, or features `[B, F]`; float32.

        `length`, int `[B]`, is the number of frames of each clip that are no padding. In training,
        BatchNorm's statistics are of all frames.

        Raises:
          ConfigError: the backbone is no model of images, or has no such options.
        """
        x = mean_across(self.encode(self.check_input(x), train), length)
        return x if features else self.classify(x, train)


class FrameRecurrence(ImageSequence, kw_only=True):
    """A model of images on every frame of a clip, and a recurrent network over their features.

    Donahue et al. 2014, arXiv:1411.4389, section 3.

    Attributes:
      cell: "lstm", "gru" or "rnn".
      units: units of each direction.
      layers: number of recurrent layers.
      bidirectional: whether a second direction goes from the last frame to the first.
      pool: "last" (the state after the last frame), "mean" of the outputs, or "attention": a mean
        with learned weights, see `AttentionMean`.
    """

    takes_length: ClassVar[bool] = True

    cell: str
    units: int = 512
    layers: int = 1
    bidirectional: bool = False
    pool: str = "last"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        features: bool = False,
        length: jax.Array | None = None,
    ) -> jax.Array:
        """x `[B, T, H, W, C]` -> logits `[B, num_classes]`, or features `[B, F]`; float32.

        F is `units`, or `2 * units` of two directions. `length`, int `[B]`, is the number of frames
        of each clip that are no padding: the network ends there, and its other direction begins. In
        training, BatchNorm's statistics are of all frames.

        Raises:
          ConfigError: an option is invalid, or the backbone is no model of images.
        """
        self.check_choice("cell", CELLS)
        self.check_choice("pool", RECURRENT_POOLS)
        for option in ("units", "layers"):
            if (number := getattr(self, option)) < 1:
                raise ConfigError(f"model.{option}={number}: write a number of 1 or more")
        x = self.encode(self.check_input(x), train)
        sizes = (self.units, self.layers, self.cell, self.bidirectional, self.pool)
        x = RecurrentAcross(*sizes, name="across")(x, train=train, length=length)
        return x if features else self.classify(x, train)


for _cell in CELLS:
    register_model(
        f"cnn_{_cell}",
        source="Donahue et al. 2014: a model of images on frames",
        cell=_cell,
        **_CLIP,
    )(FrameRecurrence)
