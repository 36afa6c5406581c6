"""Base of objectives that compare embeddings of several views."""

from collections.abc import Sequence
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.models.layers.norm import batch_norm_group
from imgcls.objectives.heads import Projector
from imgcls.objectives.pretraining import Pretraining


class Embedding(nn.Module):
    """A backbone and a projector on its features.

    Attributes:
      backbone: registered model.
      projector: maps features `[B, D]` to projections `[B, P]`.
    """

    backbone: nn.Module
    projector: nn.Module

    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """x `[B, H, W, C]` -> features `[B, D]`, projections `[B, P]`; float32."""
        features = self.backbone(x, train=train, features=True)
        return features, self.projector(features, train=train)


class JointEmbedding(Pretraining):
    """Compares the projections of images; a subclass sets `network`, an `Embedding`.

    Each virtual batch of BatchNorm contains one view. Without virtual batches the statistics are
    over the batch of all views, or of each view separately if `pools_views` is false.
    """

    feature_layers = ("backbone", "projector")
    pools_views = True

    def features(self, params, model_state, batch, layer: str = "backbone") -> jax.Array:
        """Float32 features or projections `[B, D]` in evaluation mode."""
        if layer == "backbone":
            return super().features(params, model_state, batch)

        def encode(network, x):
            return network.projector(network.backbone(x, train=False, features=True), train=False)

        variables = {"params": params, **model_state}
        return cast(jax.Array, self.network.apply(variables, batch["image"], method=encode))

    def projector(self, hidden: int, features: int, layers: int, last_norm: bool) -> Projector:
        """Creates a projector with the virtual batch size of the backbone."""
        return Projector(hidden, features, layers, last_norm, self.virtual_batch_size)

    @property
    def virtual_batch_size(self) -> int | None:
        """Virtual batch size of the backbone; None for the full batch or without BatchNorm."""
        return batch_norm_group(self.model)

    def project(self, params, model_state, batch, rng) -> tuple[jax.Array, list, dict]:
        """Returns features `[B, D]` of `image`, projections `[B, P]` of each view, new state."""
        outputs, model_state = self.apply_views(params, model_state, batch, rng)
        features, projections = zip(*outputs, strict=True)
        return features[0], list(projections), model_state

    def apply_views(self, params, model_state, batch, rng, **options) -> tuple[list, dict]:
        """Returns the network's outputs for `image`, `image2`, ... of a batch, and its new state.

        Args:
          params, model_state: variables of the network.
          batch: images `[B, H, W, C]` by name.
          rng: random key.
          **options: further arguments of the network's `apply`.
        """
        images = [batch[key] for key in ("image", "image2", "image3") if key in batch]
        group = self.virtual_batch_size
        if group is None and not self.pools_views:
            passes = [
                self.apply(params, model_state, x, rng=jax.random.fold_in(rng, i), **options)
                for i, x in enumerate(images)
            ]
            outputs, states = zip(*passes, strict=True)
            return list(outputs), jax.tree.map(lambda *s: sum(s) / len(s), *states)
        x = interleave(images, group)
        joined, state = self.apply(params, model_state, x, rng=rng, **options)
        leaves, structure = jax.tree.flatten(joined)
        parts = zip(*(separate(leaf, len(images), group) for leaf in leaves), strict=True)
        return [jax.tree.unflatten(structure, part) for part in parts], state


def interleave(views: Sequence[jax.Array], group: int | None) -> jax.Array:
    """V arrays `[B, ...]` -> `[V * B, ...]`: one BatchNorm group of each view in turn.

    Each group then has the statistics of one view, and every row stays on its device. Without
    groups (None), one row of each view in turn.
    """
    split = "(group example) ... -> group example ..."
    parts = [rearrange(view, split, example=group or 1) for view in views]
    return rearrange(jnp.stack(parts, axis=1), "group view example ... -> (group view example) ...")


def separate(x: jax.Array, count: int, group: int | None) -> list[jax.Array]:
    """Inverse of `interleave`: `[V * B, ...]` -> V = `count` arrays `[B, ...]`."""
    split = "(group view example) ... -> group view example ..."
    parts = rearrange(x, split, view=count, example=group or 1)
    join = "group example ... -> (group example) ..."
    return [rearrange(parts[:, i], join) for i in range(count)]


def check_whole_batch(config: ConfigDict) -> None:
    """Raises a ConfigError if gradients are accumulated: the loss compares the full batch."""
    if config.accumulate != 1:
        raise ConfigError(
            f"config.accumulate={config.accumulate}: objective {config.objective.name!r} compares "
            "all examples of a batch, which can't be split; set accumulate=1, and "
            "model.remat=True to save memory"
        )


def check_class_labels(labels: jax.Array, name: str) -> None:
    """Raises a ConfigError unless labels are class indices `[B]`."""
    if labels.ndim != 1:
        raise ConfigError(
            f"config.objective.name={name!r}: needs one class per image; use single-label data "
            "and no data.batch_transform that mixes labels"
        )
