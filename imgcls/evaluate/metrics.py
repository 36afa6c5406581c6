"""Metrics: per-example ones in jnp for the train step, and whole-dataset ones on the host.

The host functions take gathered arrays without padding rows, average in float64 and return
plain Python numbers. A metric that is not defined on the data is left out, never NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np

from imgcls.core.errors import ConfigError, TrainingError

# Of the confidence, for the expected calibration error (Guo et al. 2017).
BINS = 15
RATES = ("precision", "recall", "f1")


def top_k_indices(scores: jax.Array, k: int) -> jax.Array:
    """Classes of the k highest scores `[B, K]`, best first: int32 `[B, min(k, K)]`.

    Equal scores come in the order of their class index.
    """
    return jax.lax.top_k(scores, min(k, scores.shape[-1]))[1]


def brier_score(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Squared difference of probabilities and truth, summed over the classes (Brier 1950, eq. 2).

    With one label of K an example's lies from 0 to 2, so that of two classes it is twice the mean
    squared error of one of them. Multi-label it is the sum over K decisions.

    Args:
      scores: probabilities `[B, K]`.
      labels: class indices `[B]`, or multi-hot `[B, K]`.

    Returns:
      float32 `[B]`.
    """
    hot = labels if labels.ndim == scores.ndim else jax.nn.one_hot(labels, scores.shape[-1])
    return jnp.sum((scores - hot) ** 2, axis=-1, dtype=jnp.float32)


def example_nll(logits: np.ndarray, labels: np.ndarray, task: str) -> np.ndarray:
    """Negative log-likelihood of every example on the host, in nats: float64 `[N]`.

    Of the softmax where the task is 'softmax'; else the binary one of each class, averaged over the
    classes as `losses.sigmoid_binary_cross_entropy` does.

    Args:
      logits: `[N, K]`; `[N, 1]` where the task is 'binary'.
      labels: int `[N]`; multi-hot `[N, K]` where the task is 'multi_label'.
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


def confidence_bins(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The bin of each probability, from 0 to `bins` - 1: bin i is (i / bins, (i + 1) / bins].

    The first holds 0 too.
    """
    return np.searchsorted(np.arange(1, bins) / bins, np.asarray(confidence, np.float64))


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """How far confidence and accuracy are apart, over 15 bins of equal width.

    Guo et al. 2017 (arXiv:1706.04599), equation 3: the mean over the bins of |accuracy -
    confidence|, weighted by the number of examples.

    Args:
      confidence: probability of what was said `[N]`.
      correct: whether it was right `[N]`.
    """
    bins = confidence_bins(confidence)
    gaps = np.bincount(bins, np.asarray(correct, np.float64) - confidence, BINS)
    return float(np.sum(np.abs(gaps)) / len(bins))


def single_label_metrics(
    top_k: np.ndarray,
    labels: np.ndarray,
    losses: np.ndarray,
    confidence: np.ndarray,
    brier: np.ndarray,
    num_classes: int,
) -> dict[str, float]:
    """Metrics of a dataset with one class per example.

    Args:
      top_k: int `[N, k]`, classes by falling score (`top_k_indices`); k >= 5 if there are more
        than 5 classes.
      labels: int `[N]`.
      losses, brier: `[N]`.
      confidence: `[N]`, the highest score.
      num_classes: number of classes the model can answer.

    Returns:
      `accuracy`, `top5_accuracy` (only above 5 classes), `loss`, `examples`, `ece`, `brier`, and
      the unweighted mean over the classes of `precision`, `recall` and `f1`. As in scikit-learn
      these count every class that occurs among labels or predictions, with 0 for a ratio 0/0.

    Raises:
      ConfigError: no examples.
      TrainingError: a score is not finite.
      ValueError: top_k is too narrow for top-5.
    """
    from sklearn.metrics import precision_recall_fscore_support

    top_k, labels = np.asarray(top_k), np.asarray(labels)
    hits = top_k == labels[:, None]
    metrics = _example_means(losses, brier)
    metrics["ece"] = expected_calibration_error(finite_scores(confidence), hits[:, 0])
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
    scores: np.ndarray, labels: np.ndarray, losses: np.ndarray, brier: np.ndarray
) -> dict[str, float]:
    """Metrics of a dataset with any number of classes per example.

    Args:
      scores: probabilities `[N, K]`; above 0.5 is a yes.
      labels: multi-hot `[N, K]`.
      losses, brier: `[N]`.

    Returns:
      `map` (mean of the average precision over the classes with a positive example; left out if
      there is none), `micro_precision`, `micro_recall`, `micro_f1` (over all decisions),
      `macro_precision`, `macro_recall`, `macro_f1` (means over all K classes, with 0 for a ratio
      0/0), `exact_match` (share of examples with every class right), `ece` (of all decisions: how
      often a class of that probability is there), `brier`, `loss`, `examples`.

    Raises:
      ConfigError: no examples.
      TrainingError: a score is not finite.
    """
    from sklearn.metrics import average_precision_score

    scores, labels = finite_scores(scores), np.asarray(labels) > 0.5
    metrics = _example_means(losses, brier)
    present = np.flatnonzero(labels.any(axis=0))
    if present.size:
        precisions = [average_precision_score(labels[:, c], scores[:, c]) for c in present]
        metrics["map"] = float(np.mean(precisions))
    predictions = scores > 0.5
    hits = np.sum(predictions & labels, axis=0)
    found = averaged_rates(hits, predictions.sum(axis=0), labels.sum(axis=0), every_class=True)
    metrics |= {k: float(v) for k, v in found.items() if not k.startswith("weighted_")}
    metrics["exact_match"] = float(np.mean((predictions == labels).all(axis=1)))
    metrics["ece"] = expected_calibration_error(scores.ravel(), labels.ravel())
    return metrics


def binary_metrics(
    scores: np.ndarray, labels: np.ndarray, losses: np.ndarray, brier: np.ndarray
) -> dict[str, float]:
    """Metrics of a yes/no question.

    Args:
      scores: probability of yes `[N]`; above 0.5 is a yes.
      labels: 0 or 1 `[N]`.
      losses, brier: `[N]`.

    Returns:
      `accuracy`, `precision`, `recall`, `f1` (of yes, with 0 for a ratio 0/0), `ece` (of the
      answer, yes or no), `brier`, `loss`, `examples`, and, if both answers occur among the labels,
      `auroc` and `average_precision`.

    Raises:
      ConfigError: no examples.
      TrainingError: a score is not finite.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, labels = finite_scores(scores), np.asarray(labels) > 0.5
    metrics = _example_means(losses, brier)
    predictions = scores > 0.5
    right = predictions == labels
    metrics["accuracy"] = float(np.mean(right))
    metrics["ece"] = expected_calibration_error(np.maximum(scores, 1 - scores), right)
    precision, recall, f1 = rates(np.sum(predictions & labels), predictions.sum(), labels.sum())
    metrics.update(precision=float(precision), recall=float(recall), f1=float(f1))
    if labels.any() and not labels.all():
        metrics["auroc"] = float(roc_auc_score(labels, scores))
        metrics["average_precision"] = float(average_precision_score(labels, scores))
    return metrics


def rates(hits: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> tuple:
    """Precision, recall and F1 of counts of any shape, with 0 for a ratio 0/0.

    F1 = 2 hits / (predicted + actual), which is the harmonic mean without its 0/0.
    """
    counts = ((hits, predicted), (hits, actual), (2 * hits, predicted + actual))
    return tuple(part / np.maximum(whole, 1) for part, whole in counts)


def averaged_rates(
    hits: np.ndarray, predicted: np.ndarray, actual: np.ndarray, every_class: bool
) -> dict[str, np.ndarray]:
    """`micro_`, `macro_` and `weighted_` `precision`, `recall` and `f1`.

    Args:
      hits, predicted, actual: counts of each class `[..., K]`.
      every_class: the macro average counts all K classes, and not only those that occur among
        labels or predictions.

    Returns:
      `{name: [...]}`.
    """
    counted = (predicted + actual > 0) | every_class
    averaged = {}
    for prefix, weights in (("macro_", counted), ("weighted_", actual)):
        # Without any example of any class all ratios are 0, and so is their average.
        whole = np.maximum(weights.sum(-1), 1)
        for name, rate in zip(RATES, rates(hits, predicted, actual), strict=True):
            averaged[prefix + name] = np.sum(rate * weights, -1) / whole
    totals = (count.sum(-1) for count in (hits, predicted, actual))
    return averaged | {f"micro_{n}": r for n, r in zip(RATES, rates(*totals), strict=True)}


def finite_scores(scores: np.ndarray) -> np.ndarray:
    """The scores in float64.

    Raises:
      TrainingError: one is not finite.
    """
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise TrainingError(
            "evaluation: the model's scores are not finite; lower the learning rate, or evaluate "
            "an earlier checkpoint"
        )
    return scores


def check_examples(count: int) -> None:
    """Raises a ConfigError if there is no example."""
    if not count:
        raise ConfigError("evaluation: the split has no examples; name a split that has some")


def _example_means(losses: np.ndarray, brier: np.ndarray) -> dict[str, float]:
    check_examples(len(losses))
    means = {"loss": np.mean(losses, dtype=np.float64), "brier": np.mean(brier, dtype=np.float64)}
    return {**{name: float(value) for name, value in means.items()}, "examples": len(losses)}
