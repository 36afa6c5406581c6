"""Metrics against scikit-learn and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk

from imgcls import losses
from imgcls.core.errors import ConfigError, TrainingError
from imgcls.evaluate import metrics
from imgcls.objectives import metrics as objectives_metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_accuracy():
    logits = jnp.array([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 1.0]], jnp.bfloat16)
    result = objectives_metrics.accuracy(logits, jnp.array([1, 1, 2]))
    assert result.dtype == jnp.float32
    np.testing.assert_array_equal(result, [1, 0, 1])
    soft = jnp.array([[0.1, 0.6, 0.3], [0.2, 0.5, 0.3], [0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(objectives_metrics.accuracy(logits, soft), [1, 0, 1])


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_accuracy_of_one_logit(shape):
    labels = jnp.array([1, 1, 0]).reshape(shape)
    result = objectives_metrics.accuracy(jnp.array([[2.0], [-1.0], [-3.0]]), labels)
    np.testing.assert_array_equal(result, [1, 0, 1])


def test_top_k_indices():
    scores = jnp.array([[0.1, 0.5, 0.2, 0.5], [4.0, 3.0, 2.0, 1.0]])
    np.testing.assert_array_equal(metrics.top_k_indices(scores, 3), [[1, 3, 2], [0, 1, 2]])
    assert metrics.top_k_indices(scores, 9).shape == (2, 4)


def test_single_label_metrics(rng):
    scores = rng.normal(size=(200, 12))
    labels = rng.integers(0, 9, 200)  # three classes have no example
    loss = rng.uniform(size=200).astype(np.float32)
    top_k = np.asarray(metrics.top_k_indices(jnp.asarray(scores), 5))
    confidence, brier = rng.uniform(size=200), rng.uniform(size=200)
    result = metrics.single_label_metrics(top_k, labels, loss, confidence, brier, 12)

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
        "loss": np.mean(loss.astype(np.float64)),
        "ece": pytest.approx(ece_by_hand(confidence, predictions == labels)),
        "brier": np.mean(brier),
        "examples": 200,
    }
    assert all(type(value) in (float, int) for value in result.values())


def test_top5_needs_more_than_five_classes():
    top_k = np.array([[0, 1, 2, 3, 4]])
    of_one = np.array([0]), *np.full((3, 1), 0.5)
    assert "top5_accuracy" not in metrics.single_label_metrics(top_k, *of_one, 5)
    with pytest.raises(ValueError, match="needs 5 predictions"):
        metrics.single_label_metrics(top_k[:, :1], *of_one, 6)


def test_multi_label_metrics(rng):
    scores = rng.uniform(size=(150, 6))
    labels = (rng.uniform(size=(150, 6)) < 0.4 * scores + 0.1).astype(np.uint8)
    labels[:, 4] = 0  # a class without positives
    scores[:, 5] = 0.2  # a class that is never predicted
    result = metrics.multi_label_metrics(scores, labels, np.full(150, 0.25), np.full(150, 2))

    predictions = (scores > 0.5).astype(int)
    present = [0, 1, 2, 3, 5]
    expected = {
        "map": sk.average_precision_score(labels[:, present], scores[:, present], average="macro"),
        "exact_match": sk.accuracy_score(labels, predictions),
        "loss": 0.25,
        "brier": 2,
        "ece": ece_by_hand(scores.ravel(), labels.ravel()),
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
    result = metrics.multi_label_metrics(
        np.full((2, 3), 0.1), np.zeros((2, 3)), np.zeros(2), np.zeros(2)
    )
    assert "map" not in result
    assert result["exact_match"] == 1.0 and result["macro_f1"] == 0.0


def test_binary_metrics(rng):
    scores = rng.uniform(size=100)
    labels = rng.integers(0, 2, 100)
    result = metrics.binary_metrics(scores, labels, np.ones(100), np.ones(100))
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
            "brier": 1.0,
            "ece": ece_by_hand(np.maximum(scores, 1 - scores), predictions == labels),
            "examples": 100,
        }
    )


@pytest.mark.parametrize("answer", [0, 1])
def test_binary_metrics_of_one_class(answer):
    result = metrics.binary_metrics([0.2, 0.9], [answer, answer], [0.1, 0.3], [0, 1])
    assert "auroc" not in result and "average_precision" not in result
    assert result["accuracy"] == 0.5
    assert np.isfinite(list(result.values())).all()


def test_no_examples():
    with pytest.raises(ConfigError, match="no examples"):
        metrics.single_label_metrics(np.zeros((0, 5), int), *np.zeros((4, 0), int), 10)


def test_scores_that_are_not_finite():
    bad, zero = [np.nan, 0.5], [0, 0]
    with pytest.raises(TrainingError, match="not finite"):
        metrics.binary_metrics(bad, [0, 1], zero, zero)
    with pytest.raises(TrainingError, match="not finite"):
        metrics.single_label_metrics(np.array([[0], [1]]), zero, zero, bad, zero, 2)


def ece_by_hand(confidence, correct) -> float:
    """Guo et al. 2017, equation 3, bin by bin."""
    total = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


def test_expected_calibration_error():
    # Two bins hold any: 0.9 and 0.8 + 0.2 / 15 lie in others than 0.95.
    confidence, correct = np.array([0.95, 0.95, 0.5, 0.5]), np.array([True, False, True, False])
    assert metrics.expected_calibration_error(confidence, correct) == pytest.approx(0.45 / 2)
    assert metrics.expected_calibration_error(np.ones(3), np.ones(3)) == 0
    # An edge belongs to the bin below it, and 0 to the first.
    edges = np.arange(16) / 15
    assert metrics.confidence_bins(edges).tolist() == [0, *range(15)]


def test_brier_score(rng):
    """Each example by a loop; of two classes twice scikit-learn's."""
    scores = rng.dirichlet(np.ones(4), 50)
    labels = rng.integers(0, 4, 50)
    expected = [
        sum((p - (k == label)) ** 2 for k, p in enumerate(row))
        for row, label in zip(scores, labels, strict=True)
    ]
    result = metrics.brier_score(jnp.asarray(scores), jnp.asarray(labels))
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    hot = np.eye(4, dtype=np.uint8)[labels]
    np.testing.assert_array_equal(
        metrics.brier_score(jnp.asarray(scores), jnp.asarray(hot)), result
    )
    yes = rng.uniform(size=50)
    both = metrics.brier_score(jnp.asarray(np.stack([1 - yes, yes], 1)), jnp.asarray(labels % 2))
    assert np.mean(both) == pytest.approx(2 * sk.brier_score_loss(labels % 2, yes), rel=1e-5)


def test_example_nll(rng):
    """As the losses that objectives train with."""
    logits, single = rng.normal(size=(20, 5)), rng.integers(0, 5, 20)
    multi = rng.integers(0, 2, (20, 5))
    given = jnp.asarray(logits)
    for task, labels, loss in (
        ("softmax", single, losses.softmax_cross_entropy),
        ("sigmoid", single, losses.sigmoid_binary_cross_entropy),
        ("multi_label", multi, losses.sigmoid_binary_cross_entropy),
    ):
        result = metrics.example_nll(logits, labels, task)
        assert result.shape == (20,) and result.dtype == np.float64
        np.testing.assert_allclose(result, loss(given, jnp.asarray(labels)), rtol=1e-5)
    result = metrics.example_nll(logits[:, :1], multi[:, 0], "binary")
    expected = sk.log_loss(multi[:, 0], 1 / (1 + np.exp(-logits[:, 0])))
    assert np.mean(result) == pytest.approx(expected)


def test_feature_std():
    """1 for features all over the sphere, of any length; 0 where they have collapsed."""
    rng = np.random.default_rng(0)
    assert float(
        objectives_metrics.feature_std(7 * rng.normal(size=(20_000, 64)))
    ) == pytest.approx(1, abs=0.01)
    assert float(objectives_metrics.feature_std(np.tile(rng.normal(size=(1, 64)), (100, 1)))) < 1e-5
    # On the two ends of an axis: a deviation of 1 in a dimension of four, times sqrt(4).
    assert float(
        objectives_metrics.feature_std(np.array([[3.0, 0, 0, 0], [-1, 0, 0, 0]]))
    ) == pytest.approx(0.5)
    assert float(objectives_metrics.feature_std(np.zeros((3, 4)))) == 0
