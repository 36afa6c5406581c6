"""A model of images on each image of a row: slices of a volume (2.5D), or frames of a clip.

The features of the images are pooled across the row:

- "mean" knows no order: any permutation of the images has the same logits, and so has a volume that
  is mirrored along the row (average consensus of Wang et al. 2016, arXiv:1608.00859, section 3.1);
- "lstm" and "attention" see the order, see `imgcls.models.layers.across`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from flax.core import FrozenDict

from imgcls.core.errors import ConfigError
from imgcls.models.create import model_fields
from imgcls.models.layers.across import AttentionAcross, LSTMAcross
from imgcls.models.layers.base import ImageModel, InitializesFromData
from imgcls.models.registry import model_entry, register_model

POOLS = ("mean", "lstm", "attention")


@register_model("slices2d", input_size=64, source="2.5D: a model of images on slices")
class ImageSequence(ImageModel, kw_only=True):
    """A model of images on every image of a row, and pooling of their features.

    Attributes:
      backbone: name of a model of images.
      backbone_options: its options, such as `{"stem": "cifar"}`; None: no others than here.
      axis: axis of `[D, H, W]` across which the images lie: 0, 1 or 2.
      pool: "mean" (without order), "lstm" or "attention" (with order).
      pool_width: units of each direction of the LSTM, or channels of the Transformer.
      pool_depth: layers of the LSTM or the Transformer.
      pool_heads: attention heads of the Transformer.
      virtual_batch_size: virtual batches of a backbone with BatchNorm, see `BatchNorm`, in
        examples: all images of an example are in one group.
    """

    spatial_axes: ClassVar[int] = 3

    backbone: str = "resnet18"
    backbone_options: Mapping[str, Any] | None = None
    axis: int = 0
    pool: str = "mean"
    pool_width: int = 256
    pool_depth: int = 1
    pool_heads: int = 4
    virtual_batch_size: int | None = None

    def __post_init__(self):
        if self.backbone_options is not None:
            # Modules are static arguments of compiled functions, which must be hashable.
            object.__setattr__(self, "backbone_options", FrozenDict(self.backbone_options))
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, D, H, W, C]` -> logits `[B, num_classes]`, or features `[B, F]`; float32.

        Raises:
          ConfigError: an option is invalid, or the backbone is no model of images.
        """
        self._check()
        x = jnp.moveaxis(self.check_input(x), 1 + self.axis, 1)
        batch, length = x.shape[:2]
        module, fields = self.backbone_fields(length)
        images = rearrange(x, "b t h w c -> (b t) h w c")
        x = module(**fields, name="backbone")(images, train=train, features=True)
        x = rearrange(x, "(b t) f -> b t f", b=batch)
        if self.pool == "mean":
            x = jnp.mean(x, axis=1)
        elif self.pool == "lstm":
            x = LSTMAcross(self.pool_width, self.pool_depth, name="across")(x, train=train)
        else:
            sizes = (self.pool_width, self.pool_depth, self.pool_heads)
            x = AttentionAcross(*sizes, self.drop_rate, name="across")(x, train=train)
        return x if features else self.classify(x, train)

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

    def _check(self) -> None:
        for option, allowed in (("pool", POOLS), ("axis", (0, 1, 2))):
            if (value := getattr(self, option)) not in allowed:
                choices = " or ".join(map(repr, allowed))
                raise ConfigError(f"model.{option}={value!r}: write {choices}")
        entry = model_entry(self.backbone)
        why = "is a model of volumes" if entry.spatial_axes != 2 else ""
        if issubclass(entry.module, InitializesFromData):
            why = "computes a layer from the images of the data, which are volumes here"
        if why:
            raise ConfigError(
                f"model.backbone={self.backbone!r}: {why}: write another model, such as 'resnet18'"
            )
        if self.pool == "attention" and self.pool_width % self.pool_heads:
            raise ConfigError(
                f"model.pool_width={self.pool_width}: does not divide into {self.pool_heads} "
                "heads: make it a multiple of pool_heads"
            )
