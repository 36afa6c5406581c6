"""Metrics of a training step."""

import jax
import jax.numpy as jnp


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 for examples whose highest logit is the label's class, 0 for the others.

    Args:
      logits: `[B, K]`; for K = 1 the prediction is the sign of the logit.
      labels: class indices `[B]`, or soft or multi-hot labels `[B, K]`, whose argmax is used.

    Returns:
      float32 `[B]`.
    """
    if logits.shape[-1] == 1:
        predictions = logits[..., 0] > 0
        targets = labels.reshape(predictions.shape) > 0.5
    else:
        predictions = jnp.argmax(logits, axis=-1)
        targets = jnp.argmax(labels, axis=-1) if labels.ndim == logits.ndim else labels
    return (predictions == targets).astype(jnp.float32)


def feature_std(features: jax.Array) -> jax.Array:
    """Spread of features `[B, D]`: 1 if uniform on the sphere, 0 if collapsed.

    sqrt(D) times the standard deviation of the L2-normalized features, averaged over the
    dimensions (Chen & He 2020, SimSiam, arXiv:2011.10566, section 4.1).

    Returns:
      float scalar.
    """
    norms = jnp.linalg.norm(features, axis=-1, keepdims=True)
    unit = features / jnp.maximum(norms, 1e-12)
    return jnp.mean(jnp.std(unit, axis=0)) * features.shape[-1] ** 0.5
