"""Losses: one value per example, computed in float32 whatever the dtype of the logits.

They do not average over the batch, because only the caller knows which examples are padding:
`masked_mean` does that.
"""

import jax
import jax.numpy as jnp

from imgcls.errors import ConfigError


def softmax_cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0
) -> jax.Array:
    """Cross entropy between the softmax of the logits and the labels.

    Args:
      logits: `[B, K]`, any float dtype.
      labels: int `[B]`, or a distribution over the classes `[B, K]` (mixup, distillation).
      label_smoothing: weight s of the uniform distribution; the target becomes
        (1 - s) * labels + s / K (Szegedy et al. 2016, arXiv:1512.00567, section 7).

    Returns:
      float32 `[B]`, in nats.

    Raises:
      ConfigError: the labels have another number of classes than the logits.
    """
    num_classes = logits.shape[-1]
    targets = _class_targets(labels, num_classes)
    targets = (1.0 - label_smoothing) * targets + label_smoothing / num_classes
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.sum(targets * log_p, axis=-1)


def sigmoid_binary_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    class_weights: jax.Array | None = None,
    pos_weight: jax.Array | None = None,
) -> jax.Array:
    """Binary cross entropy of each class on its own, averaged over the classes.

    The mean (not the sum) over the classes is PyTorch's convention and the one that the DeiT III
    recipes are tuned for (Touvron et al. 2022, arXiv:2204.07118, section 3).

    Args:
      logits: `[B, K]`; K = 1 for a single yes/no question.
      labels: targets `[B, K]` in [0, 1]; or `[B]`, which is the class index if K > 1 and the
        target itself if K = 1.
      class_weights: `[K]`, factor on the loss of each class. The mean still divides by K.
      pos_weight: `[K]`, factor on the positive term alone; above 1 it favours recall.

    Returns:
      float32 `[B]`, in nats.

    Raises:
      ConfigError: the labels have another number of classes than the logits.
    """
    num_classes = logits.shape[-1]
    if num_classes == 1 and labels.ndim == 1:
        labels = labels[:, None]
    targets = _class_targets(labels, num_classes)
    logits = logits.astype(jnp.float32)
    positive = targets * jax.nn.log_sigmoid(logits)
    if pos_weight is not None:
        positive = positive * jnp.asarray(pos_weight, jnp.float32)
    loss = -(positive + (1.0 - targets) * jax.nn.log_sigmoid(-logits))
    if class_weights is not None:
        loss = loss * jnp.asarray(class_weights, jnp.float32)
    return jnp.mean(loss, axis=-1)


def masked_mean(values: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Mean of the values whose mask is not zero: sum(values * mask) / max(sum(mask), 1).

    A NaN or infinity under a zero mask reaches neither the mean nor the gradient with respect to
    `values`. A batch that is all padding gives 0.

    Args:
      values: `[B]`.
      mask: weights `[B]`, 0 for padding; None counts every value once.

    Returns:
      float32 scalar.
    """
    values = values.astype(jnp.float32)
    if mask is None:
        return jnp.mean(values)
    mask = mask.astype(jnp.float32)
    # Multiplying alone would let NaN * 0 = NaN through.
    kept = jnp.where(mask != 0, values, 0.0)
    return jnp.sum(kept * mask) / jnp.maximum(jnp.sum(mask), 1.0)


def _class_targets(labels: jax.Array, num_classes: int) -> jax.Array:
    """float32 targets `[B, K]` of labels that are class indices `[B]` or targets already."""
    if labels.ndim == 1:
        return jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    if labels.shape[-1] != num_classes:
        raise ConfigError(
            f"labels have {labels.shape[-1]} classes but the model has {num_classes} outputs: "
            f"set num_classes to {labels.shape[-1]}"
        )
    return labels.astype(jnp.float32)
