"""Metrics against scikit-learn and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk

from imgcls import metrics
from imgcls.errors import ConfigError, TrainingError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_accuracy():
    logits = jnp.array([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 1.0]], jnp.bfloat16)
    result = metrics.accuracy(logits, jnp.array([1, 1, 2]))
    assert result.dtype == jnp.float32
    np.testing.assert_array_equal(result, [1, 0, 1])
    soft = jnp.array([[0.1, 0.6, 0.3], [0.2, 0.5, 0.3], [0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(metrics.accuracy(logits, soft), [1, 0, 1])


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_accuracy_of_one_logit(shape):
    labels = jnp.array([1, 1, 0]).reshape(shape)
    result = metrics.accuracy(jnp.array([[2.0], [-1.0], [-3.0]]), labels)
    np.testing.assert_array_equal(result, [1, 0, 1])


def test_top_k_indices():
    scores = jnp.array([[0.1, 0.5, 0.2, 0.5], [4.0, 3.0, 2.0, 1.0]])
    np.testing.assert_array_equal(metrics.top_k_indices(scores, 3), [[1, 3, 2], [0, 1, 2]])
    assert metrics.top_k_indices(scores, 9).shape == (2, 4)


def test_single_label_metrics(rng):
    scores = rng.normal(size=(200, 12))
    labels = rng.integers(0, 9, 200)  # three classes have no example
    losses = rng.uniform(size=200).astype(np.float32)
    top_k = np.asarray(metrics.top_k_indices(jnp.asarray(scores), 5))
    result = metrics.single_label_metrics(top_k, labels, losses, 12)

    arguments = dict(average="macro", zero_division=0)
    predictions = scores.argmax(axis=1)
    assert result == {
        "accuracy": sk.accuracy_score(labels, predictions),
        "top5_accuracy": pytest.approx(
            sk.top_k_accuracy_score(labels, scores, k=5, labels=range(12))
        ),
        "precision": sk.precision_score(labels, predictions, **arguments),
        "recall": sk.recall_score(labels, predictions, **arguments),
        "f1": sk.f1_score(labels, predictions, **arguments),
        "loss": np.mean(losses.astype(np.float64)),
        "examples": 200,
    }
    assert all(type(value) in (float, int) for value in result.values())


def test_top5_needs_more_than_five_classes():
    top_k = np.array([[0, 1, 2, 3, 4]])
    assert "top5_accuracy" not in metrics.single_label_metrics(top_k, [0], [0.5], 5)
    with pytest.raises(ValueError, match="needs 5 predictions"):
        metrics.single_label_metrics(top_k[:, :1], [0], [0.5], 6)


def test_multi_label_metrics(rng):
    scores = rng.uniform(size=(150, 6))
    labels = (rng.uniform(size=(150, 6)) < 0.4 * scores + 0.1).astype(np.uint8)
    labels[:, 4] = 0  # a class without positives
    scores[:, 5] = 0.2  # a class that is never predicted
    result = metrics.multi_label_metrics(scores, labels, np.full(150, 0.25))

    predictions = (scores > 0.5).astype(int)
    present = [0, 1, 2, 3, 5]
    expected = {
        "map": sk.average_precision_score(labels[:, present], scores[:, present], average="macro"),
        "exact_match": sk.accuracy_score(labels, predictions),
        "loss": 0.25,
        "examples": 150,
    }
    for average in ("micro", "macro"):
        for name, score in (
            ("precision", sk.precision_score),
            ("recall", sk.recall_score),
            ("f1", sk.f1_score),
        ):
            expected[f"{average}_{name}"] = score(
                labels, predictions, average=average, zero_division=0
            )
    assert result == pytest.approx(expected)


def test_multi_label_without_positives():
    result = metrics.multi_label_metrics(np.full((2, 3), 0.1), np.zeros((2, 3)), np.zeros(2))
    assert "map" not in result
    assert result["exact_match"] == 1.0 and result["macro_f1"] == 0.0


def test_binary_metrics(rng):
    scores = rng.uniform(size=100)
    labels = rng.integers(0, 2, 100)
    result = metrics.binary_metrics(scores, labels, np.ones(100))
    predictions = scores > 0.5
    assert result == pytest.approx(
        {
            "accuracy": sk.accuracy_score(labels, predictions),
            "precision": sk.precision_score(labels, predictions),
            "recall": sk.recall_score(labels, predictions),
            "f1": sk.f1_score(labels, predictions),
            "auroc": sk.roc_auc_score(labels, scores),
            "average_precision": sk.average_precision_score(labels, scores),
            "loss": 1.0,
            "examples": 100,
        }
    )


@pytest.mark.parametrize("answer", [0, 1])
def test_binary_metrics_of_one_class(answer):
    result = metrics.binary_metrics([0.2, 0.9], [answer, answer], [0.1, 0.3])
    assert "auroc" not in result and "average_precision" not in result
    assert result["accuracy"] == 0.5
    assert np.isfinite(list(result.values())).all()


def test_no_examples():
    with pytest.raises(ConfigError, match="no examples"):
        metrics.single_label_metrics(np.zeros((0, 5), int), np.zeros(0, int), np.zeros(0), 10)


def test_scores_that_are_not_finite():
    with pytest.raises(TrainingError, match="not finite"):
        metrics.binary_metrics([np.nan, 0.5], [0, 1], [0.0, 0.0])


def test_feature_std():
    """1 for features all over the sphere, of any length; 0 where they have collapsed."""
    rng = np.random.default_rng(0)
    assert float(metrics.feature_std(7 * rng.normal(size=(20_000, 64)))) == pytest.approx(
        1, abs=0.01
    )
    assert float(metrics.feature_std(np.tile(rng.normal(size=(1, 64)), (100, 1)))) < 1e-5
    # On the two ends of an axis: a deviation of 1 in a dimension of four, times sqrt(4).
    assert float(metrics.feature_std(np.array([[3.0, 0, 0, 0], [-1, 0, 0, 0]]))) == pytest.approx(
        0.5
    )
    assert float(metrics.feature_std(np.zeros((3, 4)))) == 0
