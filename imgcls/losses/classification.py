"""Losses of logits against labels: one of K classes, or K binary decisions."""

import jax
import jax.numpy as jnp

from imgcls.core.errors import ConfigError
from imgcls.losses.common import as_float
from imgcls.losses.registry import register_loss


@register_loss("softmax", task="softmax", ranges={"label_smoothing": (0, 1)})
def softmax_cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0
) -> jax.Array:
    """Cross entropy between the softmax of the logits and the labels.

    Args:
      logits: `[B, K]`, any float dtype.
      labels: class indices `[B]`, or a distribution over the classes `[B, K]` (mixup,
        distillation).
      label_smoothing: weight s of the uniform distribution; the target becomes
        (1 - s) * labels + s / K (Szegedy et al. 2016, arXiv:1512.00567, section 7).

    Returns:
      float `[B]`, in nats.

    Raises:
      ConfigError: labels and logits differ in the number of classes.
    """
    logits = as_float(logits)
    targets = _class_targets(labels, logits)
    num_classes = logits.shape[-1]
    targets = (1.0 - label_smoothing) * targets + label_smoothing / num_classes
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(targets * log_p, axis=-1)


@register_loss("sigmoid", task="sigmoid")
@register_loss("binary", task="binary")
def sigmoid_binary_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    class_weights: jax.Array | None = None,
    pos_weight: jax.Array | None = None,
) -> jax.Array:
    """Binary cross entropy of each class, averaged over the classes.

    The mean over the classes, not the sum, is PyTorch's convention, and the DeiT III recipes are
    tuned for it (Touvron et al. 2022, arXiv:2204.07118, section 3).

    Args:
      logits: `[B, K]`; K = 1 for a single binary decision.
      labels: targets `[B, K]` in [0, 1], or `[B]`: class indices if K > 1, targets if K = 1.
      class_weights: `[K]`, factor on the loss of each class. The mean still divides by K.
      pos_weight: `[K]`, factor on the positive term; above 1 it favors recall.

    Returns:
      float `[B]`, in nats.

    Raises:
      ConfigError: labels and logits differ in the number of classes.
    """
    logits = as_float(logits)
    yes, no = -jax.nn.log_sigmoid(logits), -jax.nn.log_sigmoid(-logits)
    loss = _decisions(yes, no, labels, pos_weight)
    if class_weights is not None:
        loss = loss * jnp.asarray(class_weights, logits.dtype)
    return jnp.mean(loss, axis=-1)


@register_loss("focal", task="sigmoid", ranges={"alpha": (0, 1), "gamma": (0, 100)})
def sigmoid_focal_loss(
    logits: jax.Array,
    labels: jax.Array,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    pos_weight: jax.Array | None = None,
) -> jax.Array:
    """Focal loss of each class, averaged over the classes.

    -alpha_t (1 - p_t)^gamma log(p_t): Lin et al. 2017 (arXiv:1708.02002), equation 5. Easy
    decisions count less. The loss of a soft label y is y times the positive loss plus 1 - y times
    the negative loss: the expected loss of mixed labels. torchvision's instead has one p_t, which
    it mixes; the two agree for hard labels.

    Args:
      logits, labels, pos_weight: see `sigmoid_binary_cross_entropy`.
      alpha: weight of positives; that of negatives is 1 - alpha. None: no weights (equation 4).
      gamma: 0 or more; 0 gives the binary cross entropy.

    Returns:
      float `[B]`, in nats.

    Raises:
      ConfigError: labels and logits differ in the number of classes.
    """
    logits = as_float(logits)
    log_yes, log_no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    # Powers of probabilities are computed from their logarithms, which are finite at any logit.
    yes, no = -jnp.exp(gamma * log_no) * log_yes, -jnp.exp(gamma * log_yes) * log_no
    if alpha is not None:
        yes, no = alpha * yes, (1.0 - alpha) * no
    return jnp.mean(_decisions(yes, no, labels, pos_weight), axis=-1)


@register_loss(
    "asymmetric",
    task="sigmoid",
    ranges={"gamma_neg": (0, 100), "gamma_pos": (0, 100), "clip": (0, 0.99)},
)
def asymmetric_loss(
    logits: jax.Array,
    labels: jax.Array,
    gamma_neg: float = 4.0,
    gamma_pos: float = 0.0,
    clip: float = 0.05,
    pos_weight: jax.Array | None = None,
) -> jax.Array:
    """Asymmetric loss of each class, averaged over the classes.

    The positive loss is -(1 - p)^gamma_pos log(p), the negative loss -q^gamma_neg log(1 - q) with
    q = max(p - clip, 0): Ridnik et al. 2020 (arXiv:2009.14119), equation 7. Easy negatives count
    less, and those with p below `clip` do not count. The loss of a soft label y is y times the
    positive loss plus 1 - y times the negative loss.

    The gradient is that of the full expression, as in the paper's gradient analysis. The authors'
    training script treats the factors (1 - p)^gamma_pos and q^gamma_neg as constants.

    Args:
      logits, labels, pos_weight: see `sigmoid_binary_cross_entropy`.
      gamma_neg, gamma_pos: 0 or more; the defaults are those of the authors' training script.
      clip: probability margin in [0, 1).

    Returns:
      float `[B]`, in nats.

    Raises:
      ConfigError: labels and logits differ in the number of classes.
    """
    logits = as_float(logits)
    log_yes, log_no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    yes = -jnp.exp(gamma_pos * log_no) * log_yes
    if clip:
        shifted = jax.nn.sigmoid(logits) - clip
        counts = shifted > 0
        # The gradient of a power may be infinite at 0: negatives that don't count use 0.5.
        q = jnp.where(counts, shifted, 0.5)
        no = jnp.where(counts, -(q**gamma_neg) * jnp.log1p(-q), 0.0)
    else:
        no = -jnp.exp(gamma_neg * log_yes) * log_no
    return jnp.mean(_decisions(yes, no, labels, pos_weight), axis=-1)


def _decisions(
    yes: jax.Array, no: jax.Array, labels: jax.Array, pos_weight: jax.Array | None
) -> jax.Array:
    """Loss of each decision, `[B, K]`, from the losses of a positive and of a negative."""
    if yes.shape[-1] == 1 and labels.ndim == 1:
        labels = labels[:, None]
    targets = _class_targets(labels, yes)
    if pos_weight is not None:
        yes = yes * jnp.asarray(pos_weight, yes.dtype)
    return targets * yes + (1.0 - targets) * no


def _class_targets(labels: jax.Array, logits: jax.Array) -> jax.Array:
    """Targets `[B, K]` from class indices `[B]` or targets `[B, K]`."""
    num_classes = logits.shape[-1]
    if labels.ndim == 1:
        return jax.nn.one_hot(labels, num_classes, dtype=logits.dtype)
    if labels.shape[-1] != num_classes:
        raise ConfigError(
            f"labels have {labels.shape[-1]} classes but the model has {num_classes} outputs: "
            f"set num_classes to {labels.shape[-1]}"
        )
    return labels.astype(logits.dtype)
