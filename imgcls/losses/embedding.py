"""Losses of embeddings: pairs, triplets, and views of a batch.

Losses that compare the examples of a batch (`mined_triplet_loss`, `nt_xent`, `supcon`, `info_nce`
without negatives) compare all of them. Inside `jax.jit` on sharded arrays that is the global
batch, so the value does not depend on the number of devices.
"""

import jax
import jax.numpy as jnp

from imgcls.core.errors import ConfigError
from imgcls.losses.common import as_float
from imgcls.losses.registry import register_loss

MINING = ("all", "hard", "semi-hard")
SIMILARITIES = ("cosine", "dot")


@register_loss("contrastive")
def contrastive_margin_loss(
    a: jax.Array, b: jax.Array, same: jax.Array, margin: float = 1.0
) -> jax.Array:
    """Contrastive loss: similar pairs attract, dissimilar pairs repel up to the margin.

    D^2 / 2 for similar pairs and max(0, margin - D)^2 / 2 for dissimilar ones, with the Euclidean
    distance D: Hadsell, Chopra & LeCun 2006 (Dimensionality Reduction by Learning an Invariant
    Mapping), equation 4, where Y = 1 - same.

    Args:
      a, b: `[B, D]`, the two sides of each pair.
      same: `[B]`, 1 for similar pairs, 0 for dissimilar ones.
      margin: distance from which a dissimilar pair has no loss.

    Returns:
      float `[B]`. The gradient is finite, and 0, where a = b.
    """
    squared = jnp.sum((as_float(a) - as_float(b)) ** 2, axis=-1)
    same = jnp.asarray(same, squared.dtype)
    short = jnp.maximum(margin - _sqrt(squared), 0.0)
    return 0.5 * (same * squared + (1.0 - same) * short**2)


@register_loss("triplet")
def triplet_loss(
    anchor: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    margin: float = 0.2,
    squared: bool = True,
) -> jax.Array:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin).

    Schroff et al. 2015 (FaceNet, arXiv:1503.03832), section 3.1, where d is the squared Euclidean
    distance. Hermans et al. 2017 (arXiv:1703.07737) recommend the distance without the square.

    Args:
      anchor, positive, negative: `[B, D]`.
      margin: in units of d.
      squared: whether d is the squared distance.

    Returns:
      float `[B]`. The gradient is finite at distance 0.
    """
    anchor, positive, negative = map(as_float, (anchor, positive, negative))
    near = jnp.sum((anchor - positive) ** 2, axis=-1)
    far = jnp.sum((anchor - negative) ** 2, axis=-1)
    return _triplet_hinge(near, far, margin, squared)


@register_loss("mined_triplet")
def mined_triplet_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    margin: float = 0.2,
    mining: str = "semi-hard",
    squared: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Triplet loss of each example as an anchor, with triplets mined from the batch.

    Positives are the other examples of the anchor's class, negatives the examples of other
    classes.

    Args:
      embeddings: `[B, D]`.
      labels: class indices `[B]`.
      margin, squared: see `triplet_loss`.
      mining: which triplets of an anchor count.
        'all': mean over all pairs of a positive and a negative.
        'hard': the farthest positive and the nearest negative ("batch hard", Hermans et al. 2017,
          arXiv:1703.07737, equation 5).
        'semi-hard': for each positive, the nearest negative farther away than the positive, or
          the farthest negative if there is none; mean over the positives (Schroff et al. 2015,
          arXiv:1503.03832, section 3.2).

    Returns:
      loss float `[B]`, and valid float32 `[B]`: 1 for anchors with a positive and a negative, 0
      for the others, whose loss is 0. The loss of a batch is `masked_mean(loss, valid)`.
      'hard' needs memory for `[B, B]`, the others for `[B, B, B]`.

    Raises:
      ConfigError: unknown mining.
    """
    if mining not in MINING:
        raise ConfigError(f"mining={mining!r}: unknown; use one of {', '.join(MINING)}")
    z = as_float(embeddings)
    same = labels[:, None] == labels
    positive, negative = same & ~jnp.eye(len(z), dtype=bool), ~same
    valid = positive.any(axis=1) & negative.any(axis=1)
    if mining == "hard":
        distance = _squared_distances(jax.lax.stop_gradient(z))
        farthest = jnp.argmax(jnp.where(positive, distance, -1.0), axis=1)
        nearest = jnp.argmin(jnp.where(negative, distance, jnp.inf), axis=1)
        loss = triplet_loss(z, z[farthest], z[nearest], margin, squared)
    else:
        distance = _squared_distances(z)
        if mining == "all":
            triplets = positive[:, :, None] & negative[:, None, :]
            hinge = _triplet_hinge(distance[:, :, None], distance[:, None, :], margin, squared)
            loss = _mean_where(hinge, triplets, axis=(1, 2))
        else:
            chosen = _semi_hard_negatives(jax.lax.stop_gradient(distance), negative)
            far = jnp.take_along_axis(distance, chosen, axis=1)
            loss = _mean_where(_triplet_hinge(distance, far, margin, squared), positive, axis=1)
    return jnp.where(valid, loss, 0.0), valid.astype(jnp.float32)


@register_loss("info_nce")
def info_nce(
    query: jax.Array,
    positive: jax.Array,
    negatives: jax.Array | None = None,
    temperature: float = 0.07,
    similarity: str = "cosine",
) -> jax.Array:
    """Cross entropy of identifying the positive of a query among negatives.

    -log(exp(s+ / T) / (exp(s+ / T) + sum over negatives of exp(s- / T))): van den Oord et al. 2018
    (arXiv:1807.03748), equation 4; He et al. 2020 (MoCo, arXiv:1911.05722), equation 1.

    Args:
      query, positive: `[B, D]`.
      negatives: `[M, D]`, shared by all queries (a queue), or `[B, M, D]`; None: the positives of
        the other queries (Chen et al. 2021, MoCo v3, arXiv:2104.02057, algorithm 1).
      temperature: T (0.07 in MoCo).
      similarity: s, 'cosine' or 'dot'.

    Returns:
      float `[B]`, in nats.

    Raises:
      ConfigError: unknown similarity.
    """
    if similarity not in SIMILARITIES:
        raise ConfigError(f"similarity={similarity!r}: unknown; use {' or '.join(SIMILARITIES)}")
    prepare = l2_normalize if similarity == "cosine" else as_float
    query, positive = prepare(query), prepare(positive)
    own = jnp.sum(query * positive, axis=-1) / temperature
    if negatives is None:
        others = jnp.where(jnp.eye(len(query), dtype=bool), -jnp.inf, _products(query, positive))
        return _log_loss(own, others / temperature)
    negatives = prepare(negatives)
    equation = "bd,md->bm" if negatives.ndim == 2 else "bd,bmd->bm"
    others = jnp.einsum(equation, query, negatives, precision="highest")
    return _log_loss(own, others / temperature)


@register_loss("nt_xent")
def nt_xent(z1: jax.Array, z2: jax.Array, temperature: float = 0.5) -> jax.Array:
    """NT-Xent, the loss of SimCLR: each view identifies the other view of its example.

    Chen et al. 2020 (arXiv:2002.05709), equation 1, with cosine similarity. The negatives of a
    view are the 2B - 2 views of all other examples.

    Args:
      z1, z2: `[B, D]`, projections of the two views.
      temperature: divides the similarities (0.1 is the best of four on ImageNet, table 5).

    Returns:
      float `[B]`, in nats: the mean of l(i, j) and l(j, i), so that the mean over the batch is the
      paper's loss.
    """
    z1, z2 = l2_normalize(z1), l2_normalize(z2)
    positive = jnp.sum(z1 * z2, axis=-1) / temperature
    itself = jnp.eye(len(z1), dtype=bool)

    def one_way(z, other):
        # The views are not concatenated to `[2B, D]` as in the paper, so their sharding stays.
        similarity = [_products(z, z), _products(z, other)]
        negatives = [jnp.where(itself, -jnp.inf, s / temperature) for s in similarity]
        return _log_loss(positive, jnp.concatenate(negatives, axis=1))

    return 0.5 * (one_way(z1, z2) + one_way(z2, z1))


@register_loss("supcon")
def supcon(
    z: jax.Array, labels: jax.Array, temperature: float = 0.1
) -> tuple[jax.Array, jax.Array]:
    """Supervised contrastive loss: each example identifies the others of its class.

    Khosla et al. 2020 (arXiv:2004.11362), equation 2 (L_out, the mean outside the logarithm), with
    cosine similarity. For two views of a batch, concatenate the views and repeat the labels.

    Args:
      z: `[N, D]`, projections.
      labels: class indices `[N]`.
      temperature: divides the similarities (0.1, section 4.4).

    Returns:
      loss float `[N]`, in nats, and valid float32 `[N]`: 1 for examples whose class has another
      member, 0 for the others, whose loss is 0.
    """
    z = l2_normalize(z)
    itself = jnp.eye(len(z), dtype=bool)
    positive = (labels[:, None] == labels) & ~itself
    similarity = jnp.where(itself, -jnp.inf, _products(z, z) / temperature)
    log_p = jax.nn.log_softmax(similarity, axis=1)
    return _mean_where(-log_p, positive, axis=1), positive.any(axis=1).astype(jnp.float32)


@register_loss("byol")
def byol_loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """2 - 2 cos(prediction, target), computed as a squared distance of normalized vectors.

    Grill et al. 2020 (BYOL, arXiv:2006.07733), equation 2. The caller stops the gradient of the
    target and adds the loss with the views swapped.

    Args:
      prediction, target: `[B, D]`.

    Returns:
      float `[B]`; 1 for a zero vector, with a finite gradient (see `l2_normalize`).
    """
    # The distance is accurate for close vectors, where 2 - 2 cos suffers from cancellation.
    return jnp.sum((l2_normalize(prediction) - l2_normalize(target)) ** 2, axis=-1)


def l2_normalize(x: jax.Array) -> jax.Array:
    """`[..., D]` -> float `[..., D]`, vectors of length 1.

    A zero vector stays zero and has the gradient of the identity, so that training can move it.
    """
    x = as_float(x)
    length = _sqrt(jnp.sum(x**2, axis=-1, keepdims=True))
    return x / jnp.where(length == 0, 1.0, length)


def _sqrt(squared: jax.Array) -> jax.Array:
    """Square root with gradient 0 instead of infinity at 0. NaN stays NaN."""
    zero = squared < jnp.finfo(squared.dtype).tiny
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))


@jax.jit  # Even if the caller does not jit: fused, this never allocates `[B, B, D]`.
def _squared_distances(z: jax.Array) -> jax.Array:
    """Squared distances `[B, B]` between the rows of `[B, D]`.

    From differences, because |a|^2 + |b|^2 - 2ab suffers from cancellation at small distances.
    """
    return jnp.sum((z[:, None] - z) ** 2, axis=-1)


def _triplet_hinge(near: jax.Array, far: jax.Array, margin: float, squared: bool) -> jax.Array:
    """Triplet loss from squared distances to positives and negatives, of any shape."""
    if not squared:
        near, far = _sqrt(near), _sqrt(far)
    return jnp.maximum(near - far + margin, 0.0)


def _semi_hard_negatives(distance: jax.Array, negative: jax.Array) -> jax.Array:
    """Indices `[B, B]` of the negative of anchor a and positive p; see `mined_triplet_loss`."""
    farther = negative[:, None, :] & (distance[:, None, :] > distance[:, :, None])
    nearest = jnp.argmin(jnp.where(farther, distance[:, None, :], jnp.inf), axis=2)
    farthest = jnp.argmax(jnp.where(negative, distance, -1.0), axis=1)
    return jnp.where(farther.any(axis=2), nearest, farthest[:, None])


def _mean_where(x: jax.Array, where: jax.Array, axis) -> jax.Array:
    """Mean of the entries where `where` is true; 0 with finite gradients if there are none."""
    count = jnp.sum(where, axis=axis)
    return jnp.sum(jnp.where(where, x, 0.0), axis=axis) / jnp.maximum(count, 1)


def _products(a: jax.Array, b: jax.Array) -> jax.Array:
    """Dot products `[A, B]`, in full precision instead of bfloat16 or TF32 on accelerators."""
    return jnp.matmul(a, b.T, precision="highest")


def _log_loss(positive: jax.Array, negatives: jax.Array) -> jax.Array:
    """-log softmax of the positive logits `[B]` among negatives `[B, M]`; accurate near 0."""
    return jax.nn.softplus(jax.nn.logsumexp(negatives, axis=-1) - positive)
