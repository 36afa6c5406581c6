"""Weighted k-nearest-neighbor classifier on frozen features (Wu et al. 2018, arXiv:1805.01978)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.distributed import sharding
from imgcls.evaluate.evaluator import register_evaluator
from imgcls.evaluate.features import Features
from imgcls.evaluate.probe import Probe, accuracies
from imgcls.objectives import metrics as objectives_metrics

# Queries per chunk, over all devices. Every device holds the full gallery (N x D float32, 10.5 GB
# for ImageNet with D = 2,048); the CHUNK x N similarities (1.3 GB) and their sorted copy are
# sharded over the devices.
CHUNK = 256


@register_evaluator("knn")
class KNN(Probe):
    """Accuracy of a weighted vote of the nearest training examples.

    Args:
      config, objective, mesh, data_info: see `Evaluator`.
      train_split: name of the split whose examples vote (the gallery).
      split: name of the split to evaluate.
      k: number of neighbors that vote; the full gallery if it is smaller.
      temperature: T in the weights exp(similarity / T) of the votes.
      layer: layer of the features, one of the objective's `feature_layers`.
      batch_size: examples per batch over all devices; None is the training batch size.
    """

    def __init__(
        self,
        config: ConfigDict,
        objective,
        mesh: Mesh,
        data_info,
        train_split: str = "train",
        split: str = "test",
        k: int = 200,
        temperature: float = 0.07,
        layer: str = "backbone",
        batch_size: int | None = None,
    ):
        super().__init__(config, objective, mesh, data_info, train_split, split, layer, batch_size)
        self.protocol = (
            f"knn: {k} neighbors, cosine, T={temperature}; {layer} features of "
            f"{self.train_name} as gallery; evaluated on {self.name}"
        )
        self._mesh, self._k, shards = mesh, k, sharding.num_shards(mesh)
        self._chunk = -(-CHUNK // shards) * shards
        replicated, by_row = sharding.replicated(mesh), sharding.batch_sharding(mesh)

        def rank(queries, gallery, labels, k):
            queries = jax.lax.with_sharding_constraint(queries, by_row)
            return rank_classes(queries, gallery, labels, k, temperature, len(self.class_names))

        self._rank = jax.jit(
            rank, static_argnums=3, in_shardings=(replicated,) * 3, out_shardings=replicated
        )

    def judge(self, train: Features, values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Returns `accuracy`, `top5_accuracy` and the `feature_std` of the evaluated features."""
        gallery, queries = normalize(train.values), normalize(values)
        ranked = self._rank_all(queries, gallery, train.labels)
        feature_std = float(objectives_metrics.feature_std(jnp.asarray(queries)))
        metrics = accuracies(ranked, labels, len(self.class_names))
        return metrics | {"feature_std": feature_std}

    def _rank_all(self, queries: np.ndarray, gallery: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Calls `rank_classes` on chunks of one shape; the last chunk is padded."""

        def replicate(x):
            layout = sharding.replicated(self._mesh)
            return jax.make_array_from_callback(x.shape, layout, lambda index: x[index])

        gallery_args = replicate(gallery), replicate(labels)
        ranked = []
        for start in range(0, len(queries), self._chunk):
            chunk = queries[start : start + self._chunk]
            padded = np.pad(chunk, ((0, self._chunk - len(chunk)), (0, 0)))
            classes = self._rank(padded, *gallery_args, min(self._k, len(gallery)))
            ranked.append(np.asarray(classes)[: len(chunk)])
        return np.concatenate(ranked)


def rank_classes(
    queries: jax.Array,
    gallery: jax.Array,
    labels: jax.Array,
    k: int,
    temperature: float,
    num_classes: int,
) -> jax.Array:
    """Returns the classes with the most votes (Wu et al. 2018, section 3.4).

    Each of the k nearest gallery examples, by cosine similarity s, votes for its class with the
    weight exp(s / T).

    Args:
      queries: `[B, D]`, rows of norm 1.
      gallery: `[N, D]`, rows of norm 1.
      labels: int `[N]`, labels of the gallery.
      k: number of neighbors, at most N.
      temperature: T.
      num_classes: K.

    Returns:
      int32 `[B, min(5, K)]`, best first; -1 where no further class has a vote.
    """
    similarity = jnp.matmul(queries, gallery.T, precision=jax.lax.Precision.HIGHEST)
    nearest, index = jax.lax.top_k(similarity, k)
    # Relative to the nearest: exp can't overflow at any temperature, and the order is the same.
    weights = jnp.exp((nearest - nearest[:, :1]) / temperature)
    votes = jnp.einsum("bk,bkc->bc", weights, jax.nn.one_hot(labels[index], num_classes))
    most, classes = jax.lax.top_k(votes, min(5, num_classes))
    return jnp.where(most > 0, classes, -1)


def normalize(values: np.ndarray) -> np.ndarray:
    """Scales rows to norm 1; a row of zeros is unchanged."""
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
