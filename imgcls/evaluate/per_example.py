"""Per-example values whose mean over a split is a metric."""

import jax
import jax.numpy as jnp
import numpy as np


def top_k_indices(scores: jax.Array | np.ndarray, k: int) -> jax.Array:
    """Returns the classes of the k highest scores, best first: int32 `[B, min(k, K)]`.

    Ties are broken by the lower class index.

    Args:
      scores: `[B, K]`.
      k: number of classes.
    """
    return jax.lax.top_k(scores, min(k, scores.shape[-1]))[1]


def brier_score(scores: jax.Array | np.ndarray, labels: jax.Array | np.ndarray) -> jax.Array:
    """Squared error of the probabilities, summed over the classes (Brier 1950, equation 2).

    With one label per example it is between 0 and 2; with two classes it is twice the squared error
    of either. For multi-label it is the sum over K decisions.

    Args:
      scores: probabilities `[B, K]`.
      labels: class indices `[B]`, or multi-hot `[B, K]`.

    Returns:
      float32 `[B]`.
    """
    hot = labels if labels.ndim == scores.ndim else jax.nn.one_hot(labels, scores.shape[-1])
    return jnp.sum((scores - hot) ** 2, axis=-1, dtype=jnp.float32)


def example_nll(logits: np.ndarray, labels: np.ndarray, task: str) -> np.ndarray:
    """Negative log-likelihood of each example in nats: float64 `[N]`.

    Softmax cross entropy if the task is 'softmax'; otherwise binary cross entropy averaged over the
    classes, as in `losses.sigmoid_binary_cross_entropy`.

    Args:
      logits: `[N, K]`; `[N, 1]` if the task is 'binary'.
      labels: int `[N]`; multi-hot `[N, K]` if the task is 'multi_label'.
      task: 'softmax', 'sigmoid', 'binary' or 'multi_label'.
    """
    from scipy.special import logsumexp

    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if task == "softmax":
        return logsumexp(logits, axis=1) - np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    if task == "binary":
        labels = labels[:, None]
    elif task == "sigmoid":
        labels = labels[:, None] == np.arange(logits.shape[1])
    return np.mean(np.logaddexp(0, logits) - logits * labels, axis=1)
