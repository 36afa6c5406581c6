"""Weighted k nearest neighbours of frozen features (Wu et al. 2018, arXiv:1805.01978)."""

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

# Queries at a time, over all devices. Beside the gallery (N x D float32, whole on each device;
# 10.5 GB for ImageNet at D = 2,048) the devices share CHUNK x N similarities (1.3 GB) and their
# sorted copy.
CHUNK = 256


@register_evaluator("knn")
class KNN(Probe):
    """Accuracy of a vote among the nearest training examples.

    Args:
      config, objective, mesh, data_info: of the run.
      train_split: the gallery, whose examples vote.
      split: what is judged.
      k: neighbours that vote; the whole gallery where it is smaller.
      temperature: T of their weights exp(similarity / T).
      layer: of the features, one of the objective's `feature_layers`.
      batch_size: over all devices; None is the training batch.
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
            f"knn: {k} neighbours, cosine, T={temperature}; {layer} features of "
            f"{self.train_name} as gallery, {self.name} judged"
        )
        self._mesh, self._k, shards = mesh, k, sharding.num_shards(mesh)
        self._chunk = -(-CHUNK // shards) * shards
        whole, rows = sharding.replicated(mesh), sharding.batch_sharding(mesh)

        def rank(queries, gallery, labels, k):
            queries = jax.lax.with_sharding_constraint(queries, rows)
            return rank_classes(queries, gallery, labels, k, temperature, len(self.class_names))

        self._rank = jax.jit(
            rank, static_argnums=3, in_shardings=(whole, whole, whole), out_shardings=whole
        )

    def judge(self, train: Features, values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """`accuracy`, `top5_accuracy` (above 5 classes), `feature_std` of what is judged."""
        gallery, queries = normalize(train.values), normalize(values)
        ranked = self._rank_all(queries, gallery, train.labels)
        found = accuracies(ranked, labels, len(self.class_names))
        return found | {"feature_std": float(objectives_metrics.feature_std(jnp.asarray(queries)))}

    def _rank_all(self, queries: np.ndarray, gallery: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """`rank_classes` in chunks of one shape, the last of them padded."""

        def put(x):
            whole = sharding.replicated(self._mesh)
            return jax.make_array_from_callback(x.shape, whole, lambda index: x[index])

        everywhere = put(gallery), put(labels)
        ranked = []
        for start in range(0, len(queries), self._chunk):
            chunk = queries[start : start + self._chunk]
            padded = np.pad(chunk, ((0, self._chunk - len(chunk)), (0, 0)))
            classes = self._rank(padded, *everywhere, min(self._k, len(gallery)))
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
    """The classes with most votes: Wu et al. 2018, section 3.4.

    Each of the k nearest gallery examples by cosine similarity s votes for its class with the
    weight exp(s / T).

    Args:
      queries: `[B, D]`, of length 1.
      gallery: `[N, D]`, of length 1.
      labels: int `[N]`, of the gallery.
      k: at most N.
      temperature: T.
      num_classes: K.

    Returns:
      int32 `[B, min(5, K)]`, best first; -1 where no further class has a vote.
    """
    similarity = jnp.matmul(queries, gallery.T, precision=jax.lax.Precision.HIGHEST)
    nearest, index = jax.lax.top_k(similarity, k)
    # Against the nearest, so that no temperature overflows; the order stays.
    weights = jnp.exp((nearest - nearest[:, :1]) / temperature)
    votes = jnp.einsum("bk,bkc->bc", weights, jax.nn.one_hot(labels[index], num_classes))
    most, classes = jax.lax.top_k(votes, min(5, num_classes))
    return jnp.where(most > 0, classes, -1)


def normalize(values: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
