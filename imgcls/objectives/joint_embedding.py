"""Objectives that compare embeddings of several views."""

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
      backbone: a model of the registry.
      projector: on its features.
    """

    backbone: nn.Module
    projector: nn.Module

    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """x `[B, H, W, C]` -> features `[B, D]`, projections `[B, P]`; float32."""
        features = self.backbone(x, train=train, features=True)
        return features, self.projector(features, train=train)


class JointEmbedding(Pretraining):
    """Learns by comparing the projections of pictures; `network` is an `Embedding`.

    BatchNorm's groups are of one view each. Where it takes the whole batch as one, that is the
    batch of all views, unless `pools_views` is false.
    """

    feature_layers = ("backbone", "projector")
    pools_views = True

    def features(self, params, model_state, batch, layer: str = "backbone") -> jax.Array:
        """Float32 features or projections in evaluation mode, `[B, D]`."""
        if layer == "backbone":
            return super().features(params, model_state, batch)

        def encode(network, x):
            return network.projector(network.backbone(x, train=False, features=True), train=False)

        variables = {"params": params, **model_state}
        return cast(jax.Array, self.network.apply(variables, batch["image"], method=encode))

    def projector(self, hidden: int, features: int, layers: int, last_norm: bool) -> Projector:
        """A projector whose BatchNorm is of the backbone's virtual batches."""
        return Projector(hidden, features, layers, last_norm, self.virtual_batch_size)

    @property
    def virtual_batch_size(self) -> int | None:
        """Of the backbone's BatchNorm; None of a backbone without any."""
        return batch_norm_group(self.model)

    def project(self, params, model_state, batch, rng) -> tuple[jax.Array, list, dict]:
        """(features of `image`, projections of every picture of the batch, new model state)."""
        outputs, model_state = self.apply_views(params, model_state, batch, rng)
        features, projections = zip(*outputs, strict=True)
        return features[0], list(projections), model_state

    def apply_views(self, params, model_state, batch, rng, **options) -> tuple[list, dict]:
        """The network's outputs for `image`, `image2`, ... of a batch, and its new state."""
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
    """V arrays `[B, ...]` -> `[V * B, ...]`: a BatchNorm group of each in turn.

    So each group has statistics of its own view, and every row stays on its device. Without
    groups, one row of each in turn.
    """
    split = "(group example) ... -> group example ..."
    parts = [rearrange(view, split, example=group or 1) for view in views]
    return rearrange(jnp.stack(parts, axis=1), "group view example ... -> (group view example) ...")


def separate(x: jax.Array, count: int, group: int | None) -> list[jax.Array]:
    """The inverse of `interleave` for `count` arrays."""
    split = "(group view example) ... -> group view example ..."
    parts = rearrange(x, split, view=count, example=group or 1)
    join = "group example ... -> (group example) ..."
    return [rearrange(parts[:, i], join) for i in range(count)]


def check_whole_batch(config: ConfigDict) -> None:
    """Raises a ConfigError if the batch is split: its other examples are the negatives."""
    if config.accumulate != 1:
        raise ConfigError(
            f"config.accumulate={config.accumulate}: objective {config.objective.name!r} compares "
            "all examples of a batch, so that it can't be split; set accumulate=1, and "
            "model.remat=True to save memory"
        )


def check_class_labels(labels: jax.Array, name: str) -> None:
    """Raises a ConfigError unless labels are classes `[B]`."""
    if labels.ndim != 1:
        raise ConfigError(
            f"config.objective.name={name!r}: goes by one class per picture; multi-label data and "
            "data.batch_transform with mixed labels don't fit"
        )
