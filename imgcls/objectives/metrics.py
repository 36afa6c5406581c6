"""Metrics of a training step."""

import jax
import jax.numpy as jnp


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 where the highest logit is the label's class, else 0.

    Args:
      logits: `[B, K]`; with K = 1 the prediction is the sign of the logit.
      labels: class indices `[B]`, or soft or multi-hot `[B, K]`, of which the highest counts.

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
    """How spread out features `[B, D]` are: 1 is evenly over the sphere, 0 is collapsed.

    The standard deviation of each dimension of the L2-normalised features, averaged, times sqrt(D)
    (Chen & He 2020, SimSiam, arXiv:2011.10566, section 4.1).
    """
    norms = jnp.linalg.norm(features, axis=-1, keepdims=True)
    unit = features / jnp.maximum(norms, 1e-12)
    return jnp.mean(jnp.std(unit, axis=0)) * features.shape[-1] ** 0.5
