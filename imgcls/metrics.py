"""Metrics: per-example ones in jnp for the train step, and whole-dataset ones on the host.

The host functions take gathered arrays without padding rows, average in float64 and return
plain Python numbers. A metric that is not defined on the data is left out, never NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np

from imgcls.errors import ConfigError, TrainingError


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


def top_k_indices(scores: jax.Array, k: int) -> jax.Array:
    """Classes of the k highest scores `[B, K]`, best first: int32 `[B, min(k, K)]`.

    Equal scores come in the order of their class index.
    """
    return jax.lax.top_k(scores, min(k, scores.shape[-1]))[1]


def single_label_metrics(
    top_k: np.ndarray, labels: np.ndarray, losses: np.ndarray, num_classes: int
) -> dict[str, float]:
    """Metrics of a dataset with one class per example.

    Args:
      top_k: int `[N, k]`, classes by falling score (`top_k_indices`); k >= 5 if there are more
        than 5 classes.
      labels: int `[N]`.
      losses: `[N]`.
      num_classes: number of classes the model can answer.

    Returns:
      `accuracy`, `top5_accuracy` (only above 5 classes), `loss`, `examples`, and the unweighted
      mean over the classes of `precision`, `recall` and `f1`. As in scikit-learn these count
      every class that occurs among labels or predictions, with 0 for a ratio 0/0.

    Raises:
      ConfigError: no examples.
      ValueError: top_k is too narrow for top-5.
    """
    from sklearn.metrics import precision_recall_fscore_support

    top_k, labels = np.asarray(top_k), np.asarray(labels)
    hits = top_k == labels[:, None]
    metrics = _loss_and_count(losses)
    metrics["accuracy"] = float(np.mean(hits[:, 0], dtype=np.float64))
    if num_classes > 5:
        if top_k.shape[1] < 5:
            raise ValueError(f"top-5 accuracy needs 5 predictions an example, got {top_k.shape[1]}")
        metrics["top5_accuracy"] = float(np.mean(hits[:, :5].any(axis=1), dtype=np.float64))
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, top_k[:, 0], average="macro", zero_division=0
    )
    metrics.update(precision=float(precision), recall=float(recall), f1=float(f1))
    return metrics


def multi_label_metrics(
    scores: np.ndarray, labels: np.ndarray, losses: np.ndarray
) -> dict[str, float]:
    """Metrics of a dataset with any number of classes per example.

    Args:
      scores: probabilities `[N, K]`; above 0.5 is a yes.
      labels: multi-hot `[N, K]`.
      losses: `[N]`.

    Returns:
      `map` (mean of the average precision over the classes with a positive example; left out if
      there is none), `micro_precision`, `micro_recall`, `micro_f1` (over all decisions),
      `macro_precision`, `macro_recall`, `macro_f1` (means over all K classes, with 0 for a ratio
      0/0), `exact_match` (share of examples with every class right), `loss`, `examples`.

    Raises:
      ConfigError: no examples.
      TrainingError: a score is not finite.
    """
    from sklearn.metrics import average_precision_score

    scores, labels = _finite_scores(scores), np.asarray(labels) > 0.5
    metrics = _loss_and_count(losses)
    present = np.flatnonzero(labels.any(axis=0))
    if present.size:
        precisions = [average_precision_score(labels[:, c], scores[:, c]) for c in present]
        metrics["map"] = float(np.mean(precisions))
    predictions = scores > 0.5
    hits = np.sum(predictions & labels, axis=0)
    predicted, actual = predictions.sum(axis=0), labels.sum(axis=0)
    metrics |= _precision_recall_f1("micro_", hits.sum(), predicted.sum(), actual.sum())
    metrics |= _precision_recall_f1("macro_", hits, predicted, actual)
    metrics["exact_match"] = float(np.mean((predictions == labels).all(axis=1)))
    return metrics


def binary_metrics(scores: np.ndarray, labels: np.ndarray, losses: np.ndarray) -> dict[str, float]:
    """Metrics of a yes/no question.

    Args:
      scores: probability of yes `[N]`; above 0.5 is a yes.
      labels: 0 or 1 `[N]`.
      losses: `[N]`.

    Returns:
      `accuracy`, `precision`, `recall`, `f1` (of yes, with 0 for a ratio 0/0), `loss`, `examples`,
      and, if both answers occur among the labels, `auroc` and `average_precision`.

    Raises:
      ConfigError: no examples.
      TrainingError: a score is not finite.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, labels = _finite_scores(scores), np.asarray(labels) > 0.5
    metrics = _loss_and_count(losses)
    predictions = scores > 0.5
    metrics["accuracy"] = float(np.mean(predictions == labels))
    hits = np.sum(predictions & labels)
    metrics |= _precision_recall_f1("", hits, predictions.sum(), labels.sum())
    if labels.any() and not labels.all():
        metrics["auroc"] = float(roc_auc_score(labels, scores))
        metrics["average_precision"] = float(average_precision_score(labels, scores))
    return metrics


def _loss_and_count(losses: np.ndarray) -> dict[str, float]:
    losses = np.asarray(losses, np.float64)
    if not losses.size:
        raise ConfigError("evaluation: the split has no examples; name a split that has some")
    return {"loss": float(np.mean(losses)), "examples": int(losses.size)}


def _finite_scores(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise TrainingError(
            "evaluation: the model's scores are not finite; lower the learning rate, or evaluate "
            "an earlier checkpoint"
        )
    return scores


def _precision_recall_f1(
    prefix: str, hits: np.ndarray, predicted: np.ndarray, actual: np.ndarray
) -> dict[str, float]:
    """Precision, recall and F1 of counts (scalar or per class `[K]`), averaged over the classes.

    F1 = 2 hits / (predicted + actual), which is the harmonic mean without its 0/0.
    """

    def mean_ratio(numerator: np.ndarray, denominator: np.ndarray) -> float:
        return float(np.mean(numerator / np.maximum(denominator, 1)))

    return {
        f"{prefix}precision": mean_ratio(hits, predicted),
        f"{prefix}recall": mean_ratio(hits, actual),
        f"{prefix}f1": mean_ratio(2 * hits, predicted + actual),
    }
