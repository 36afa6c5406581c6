"""Metrics against scikit-learn."""

import dataclasses
import json

import numpy as np
import pytest
import sklearn.metrics as sk

from imgcls.core.errors import ConfigError, TrainingError
from imgcls.evaluate.calibration import PLAIN, Calibration, apply
from imgcls.evaluate.metrics import LIGHT, measure
from imgcls.evaluate.outcomes import Outcomes
from imgcls.evaluate.per_example import top_k_indices
from tests.evaluate.cases import draw_outcomes, ece_by_hand, make_light, make_outcomes

RATES = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


def averages(labels, predictions) -> dict:
    """Returns the averages of scikit-learn by the names used here."""
    return {
        f"{average}_{name}": score(labels, predictions, average=average, zero_division=0)
        for average in ("macro", "micro", "weighted")
        for name, score in RATES.items()
    }


def single_label_reference(p: Outcomes) -> dict:
    scores, hot = p.scores.astype(np.float64), np.eye(p.scores.shape[1])[p.labels]
    predictions, present = scores.argmax(1), np.unique(p.labels)
    expected = averages(p.labels, predictions) | {
        "accuracy": sk.accuracy_score(p.labels, predictions),
        # A class that is predicted but does not occur has no recall.
        "balanced_accuracy": np.mean([np.mean(predictions[p.labels == c] == c) for c in present]),
        "ece": ece_by_hand(scores.max(1), predictions == p.labels),
        "brier": np.mean(np.sum((scores - hot) ** 2, axis=1)),
        "examples": len(p),
        "map": np.mean([sk.average_precision_score(hot[:, c], scores[:, c]) for c in present]),
        "roc_auc": np.mean([sk.roc_auc_score(hot[:, c], scores[:, c]) for c in present]),
        # One class has no examples.
        "map_classes": scores.shape[1] - 1,
        "roc_auc_classes": scores.shape[1] - 1,
    }
    expected |= {name: expected[f"macro_{name}"] for name in RATES}
    if scores.shape[1] > 5:
        classes = np.arange(scores.shape[1])
        expected["top5_accuracy"] = sk.top_k_accuracy_score(p.labels, scores, k=5, labels=classes)
    return expected


@pytest.mark.parametrize(("task", "classes"), [("softmax", 7), ("softmax", 4), ("sigmoid", 7)])
def test_single_labels(task, classes):
    p = draw_outcomes(task, classes=classes)
    found, expected = measure(p, bootstrap=0), single_label_reference(p)
    if task == "softmax":
        expected["nll"] = sk.log_loss(p.labels, p.scores, labels=np.arange(classes))
    else:
        hot = np.eye(classes)[p.labels]
        expected["nll"] = np.mean(
            [sk.log_loss(hot[:, c], p.scores[:, c], labels=[0, 1]) for c in range(classes)]
        )
    assert found.metrics == pytest.approx(expected, rel=1e-5)
    assert found.metrics["micro_f1"] == pytest.approx(found.metrics["accuracy"])
    predictions = p.scores.argmax(1)
    np.testing.assert_array_equal(
        found.confusion, sk.confusion_matrix(p.labels, predictions, labels=np.arange(classes))
    )
    rates = sk.precision_recall_fscore_support(
        p.labels, predictions, labels=np.arange(classes), zero_division=0
    )
    for number, row in enumerate(found.classes):
        assert row["name"] == f"class {number}" and "threshold" not in row
        values = [row[name] for name in ("precision", "recall", "f1", "support")]
        assert values == pytest.approx([rate[number] for rate in rates])
        pair = p.labels == number, p.scores[:, number]
        if row["support"]:
            assert row["average_precision"] == sk.average_precision_score(*pair)
            assert row["roc_auc"] == sk.roc_auc_score(*pair)
        else:
            assert row["average_precision"] is None and row["roc_auc"] is None
    assert found.classes[-2]["support"] == 0 and not found.confusion[:, -1].any()


def test_binary():
    p = draw_outcomes("binary")
    found = measure(p, bootstrap=0)
    yes, predictions = p.scores[:, 1].astype(np.float64), p.scores[:, 1] > 0.5
    expected = averages(p.labels, predictions)
    expected |= {name: score(p.labels, predictions) for name, score in RATES.items()}
    expected |= {
        "accuracy": sk.accuracy_score(p.labels, predictions),
        "balanced_accuracy": sk.balanced_accuracy_score(p.labels, predictions),
        "roc_auc": sk.roc_auc_score(p.labels, yes),
        "auroc": sk.roc_auc_score(p.labels, yes),
        "average_precision": sk.average_precision_score(p.labels, yes),
        "map": np.mean([sk.average_precision_score(p.labels == c, p.scores[:, c]) for c in (0, 1)]),
        "nll": sk.log_loss(p.labels, yes),
        "brier": 2 * sk.brier_score_loss(p.labels, yes),
        "ece": ece_by_hand(np.maximum(yes, 1 - yes), predictions == p.labels),
        "examples": 150,
    }
    assert found.metrics == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(found.confusion, sk.confusion_matrix(p.labels, predictions))


@pytest.mark.parametrize("thresholds", [None, [0.3, 0.2, 0.5, 0.7, 0.4, 0.5, 0.9]])
def test_multi_label(thresholds):
    p = draw_outcomes("multi_label")
    calibration = PLAIN if thresholds is None else Calibration(thresholds=np.array(thresholds))
    found = measure(p, calibration, bootstrap=0)
    scores = p.scores.astype(np.float64)
    predictions = (scores > (0.5 if thresholds is None else np.array(thresholds))).astype(int)
    present = p.labels.any(0)
    expected = averages(p.labels, predictions) | {
        "map": sk.average_precision_score(p.labels[:, present], scores[:, present]),
        "roc_auc": sk.roc_auc_score(p.labels[:, present], scores[:, present]),
        "map_classes": 6,
        "roc_auc_classes": 6,
        "micro_roc_auc": sk.roc_auc_score(p.labels, scores, average="micro"),
        "exact_match": sk.accuracy_score(p.labels, predictions),
        "hamming_loss": sk.hamming_loss(p.labels, predictions),
        "nll": np.mean(
            [sk.log_loss(p.labels[:, c], scores[:, c], labels=[0, 1]) for c in range(7)]
        ),
        "brier": np.mean(np.sum((scores - p.labels) ** 2, axis=1)),
        "ece": ece_by_hand(scores.ravel(), p.labels.ravel()),
        "examples": 150,
    }
    assert found.metrics == pytest.approx(expected, rel=1e-5)
    confusion = sk.multilabel_confusion_matrix(p.labels, predictions)
    np.testing.assert_array_equal(found.confusion, confusion)
    assert [row["threshold"] for row in found.classes] == (thresholds or [0.5] * 7)
    # A class without examples, and one that is never predicted at 0.5.
    assert present.tolist() == [True] * 5 + [False, True]
    assert found.classes[5]["average_precision"] is None and found.classes[5]["recall"] == 0
    assert found.classes[6]["precision"] == 0


def test_number_of_classes_of_a_mean():
    """It is given if a class has no positives, or for the ROC area no negatives."""
    p = draw_outcomes("multi_label", classes=3)
    for labels, map_classes, roc_classes in (
        ([1, 0, 1], 2, 0),
        ([0, 0, 0], 0, 0),
        ([1, 1, 1], None, 0),
    ):
        all_same = dataclasses.replace(p, labels=np.tile(np.uint8(labels), (len(p), 1)))
        for light in (True, False):
            metrics = measure(all_same, light=light, bootstrap=0).metrics
            assert metrics.get("map_classes") == map_classes
            assert ("map" in metrics) == (map_classes != 0)
            assert metrics.get("roc_auc_classes") == (None if light else roc_classes)
    some = dataclasses.replace(p, labels=np.eye(3, dtype=np.uint8)[np.arange(len(p)) % 3])
    assert "map_classes" not in measure(some, bootstrap=0).metrics


def test_calibration_is_applied_once():
    p, cooler = draw_outcomes("softmax"), Calibration(temperature=3.0)
    once = measure(p, cooler, bootstrap=0)
    assert once.temperature == 3.0
    assert measure(apply(p, cooler), cooler, bootstrap=0).metrics == once.metrics
    by_hand = make_outcomes(p.logits / 3, p.labels)
    assert once.metrics == pytest.approx(measure(by_hand, bootstrap=0).metrics, rel=1e-4)
    # The loss of the objective is not calibrated.
    known = dataclasses.replace(p, losses=np.full(150, 0.25, np.float32))
    assert measure(known, cooler, bootstrap=0).metrics["loss"] == 0.25


# ---- Edge cases.


def test_one_example():
    found = measure(make_outcomes([[1.0, 0.0, 0.0]], [0]), bootstrap=50)
    assert found.metrics["accuracy"] == found.metrics["macro_f1"] == found.metrics["map"] == 1
    assert "roc_auc" not in found.metrics and "roc_auc" not in found.intervals
    assert found.intervals["nll"] == pytest.approx((found.metrics["nll"],) * 2)
    assert found.classes[0]["roc_auc"] is None and found.classes[1]["average_precision"] is None
    many = measure(make_outcomes([[1.0, -1.0]], [[1, 0]], "multi_label"), bootstrap=50)
    assert many.metrics["exact_match"] == 1 and many.metrics["micro_roc_auc"] == 1


@pytest.mark.parametrize("answer", [0, 1])
def test_split_of_one_class(answer):
    found = measure(
        make_outcomes([[0.5], [-0.5], [2.0]], [answer] * 3, "binary"), bootstrap=50
    ).metrics
    assert not {"roc_auc", "auroc", "average_precision"} & found.keys()
    assert found["accuracy"] == found["balanced_accuracy"] == pytest.approx((1 + answer) / 3)
    assert np.isfinite(list(found.values())).all()


def test_multi_label_without_positives():
    found = measure(
        make_outcomes(np.full((3, 2), -1.0), np.zeros((3, 2)), "multi_label"), bootstrap=20
    )
    assert not {"map", "roc_auc", "micro_roc_auc"} & {*found.metrics, *found.intervals}
    assert found.metrics["exact_match"] == 1 and found.metrics["weighted_f1"] == 0
    one = measure(make_outcomes([[1.0], [-1.0]], [[1], [0]], "multi_label"), bootstrap=0)
    assert one.confusion.tolist() == [[[1, 0], [0, 1]]]


def test_no_examples_and_scores_that_are_not_finite():
    with pytest.raises(ConfigError, match="no examples"):
        measure(make_outcomes(np.zeros((0, 3)), np.zeros(0, int)))
    with pytest.raises(TrainingError, match="not finite"):
        measure(make_outcomes([[np.nan, 0.0]], [0]))
    with pytest.raises(TrainingError, match="not finite"):
        measure(make_outcomes([[np.inf], [0.0]], [0, 1], "binary"))


def test_skipped():
    assert "skipped" not in measure(draw_outcomes("softmax"), bootstrap=0).metrics
    assert measure(draw_outcomes("softmax"), bootstrap=0).intervals == {}
    p = dataclasses.replace(draw_outcomes("softmax"), skipped=4)
    assert measure(p, bootstrap=0).metrics["skipped"] == 4


# ---- As JSON.


@pytest.mark.parametrize("task", ["softmax", "multi_label"])
def test_json(task):
    calibration = Calibration(2.0, np.full(7, 0.25) if task == "multi_label" else None)
    found = measure(draw_outcomes(task), calibration, bootstrap=10)
    loaded = json.loads(found.to_json())
    assert list(loaded) == ["task", "temperature", "metrics", "intervals", "classes", "confusion"]
    assert (loaded["task"], loaded["temperature"], loaded["metrics"]) == (task, 2.0, found.metrics)
    assert {k: tuple(v) for k, v in loaded["intervals"].items()} == found.intervals
    assert loaded["classes"] == found.classes
    np.testing.assert_array_equal(loaded["confusion"], found.confusion)


# ---- The light form, used during training.


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("task", ["softmax", "sigmoid", "binary", "multi_label"])
def test_light_metrics_equal_the_full_ones(task):
    p = dataclasses.replace(draw_outcomes(task), losses=np.arange(150.0), skipped=2)
    best = np.argsort(-p.scores, axis=1, kind="stable")[:, :5]
    hot = p.labels if task == "multi_label" else np.eye(p.scores.shape[1])[p.labels]
    one_label = task in ("softmax", "sigmoid")
    light = make_light(
        p.labels,
        p.scores.max(1, keepdims=True) if one_label else p.scores,
        task,
        len(p.class_names),
        losses=p.losses,
        brier=np.sum((p.scores - hot) ** 2, axis=1),
        best=None if task == "multi_label" else best,
        skipped=2,
    )
    found, full = measure(light, light=True), measure(p, bootstrap=0).metrics
    assert found.metrics == pytest.approx({n: full[n] for n in LIGHT[task] if n in full}, rel=1e-6)
    assert found.metrics == pytest.approx(measure(p, light=True).metrics, rel=1e-6)
    assert LIGHT[task] == tuple(found.metrics)
    assert (found.intervals, found.classes, found.confusion.size) == ({}, [], 0)
    with pytest.raises(ValueError, match="light=True"):
        measure(light)


def test_light_metrics_of_single_labels(rng):
    scores = rng.normal(size=(200, 12))
    labels = rng.integers(0, 9, 200)  # three classes have no example
    loss = rng.uniform(size=200).astype(np.float32)
    confidence, brier = rng.uniform(size=200), rng.uniform(size=200)
    best = np.asarray(top_k_indices(scores, 5))
    outcomes = make_light(
        labels, confidence[:, None], "softmax", 12, losses=loss, brier=brier, best=best
    )
    result = measure(outcomes, light=True).metrics

    arguments = dict(average="macro", zero_division=0)
    predictions = scores.argmax(axis=1)
    assert result == pytest.approx(
        {
            "accuracy": sk.accuracy_score(labels, predictions),
            "top5_accuracy": sk.top_k_accuracy_score(labels, scores, k=5, labels=range(12)),
            "precision": sk.precision_score(labels, predictions, **arguments),
            "recall": sk.recall_score(labels, predictions, **arguments),
            "f1": sk.f1_score(labels, predictions, **arguments),
            "loss": np.mean(loss.astype(np.float64)),
            "ece": ece_by_hand(confidence, predictions == labels),
            "brier": np.mean(brier),
            "examples": 200,
        },
        rel=1e-12,
    )
    assert all(type(value) in (float, int) for value in result.values())


def test_top5_needs_more_than_five_classes():
    best, confidence = np.array([[0, 1, 2, 3, 4]]), [[0.5]]
    outcomes = make_light([0], confidence, "softmax", 5, best=best)
    assert "top5_accuracy" not in measure(outcomes, light=True).metrics
    outcomes = make_light([0], confidence, "softmax", 6, best=best[:, :1])
    with pytest.raises(ValueError, match="needs 5 classes per example, got 1"):
        measure(outcomes, light=True)


def test_light_metrics_of_multi_label(rng):
    scores = rng.uniform(size=(150, 6))
    labels = (rng.uniform(size=(150, 6)) < 0.4 * scores + 0.1).astype(np.uint8)
    labels[:, 4] = 0  # a class without positives
    scores[:, 5] = 0.2  # a class that is never predicted
    values = {"losses": np.full(150, 0.25), "brier": np.full(150, 2)}
    result = measure(make_light(labels, scores, "multi_label", 6, **values), light=True).metrics

    predictions = (scores > 0.5).astype(int)
    present = [0, 1, 2, 3, 5]
    expected = {
        "map": sk.average_precision_score(labels[:, present], scores[:, present], average="macro"),
        "map_classes": 5,
        "exact_match": sk.accuracy_score(labels, predictions),
        "loss": 0.25,
        "brier": 2,
        "ece": ece_by_hand(scores.ravel(), labels.ravel()),
        "examples": 150,
    }
    for average in ("micro", "macro"):
        for name, score in RATES.items():
            expected[f"{average}_{name}"] = score(
                labels, predictions, average=average, zero_division=0
            )
    assert result == pytest.approx(expected)


def test_light_metrics_of_multi_label_without_positives():
    outcomes = make_light(np.zeros((2, 3)), np.full((2, 3), 0.1), "multi_label", 3)
    result = measure(outcomes, light=True).metrics
    assert "map" not in result
    assert result["exact_match"] == 1.0 and result["macro_f1"] == 0.0


def make_binary(yes, labels, losses, brier) -> Outcomes:
    """Outcomes in the light form from the probabilities of class 1."""
    scores = np.stack([1 - np.asarray(yes), yes], axis=1)
    best = np.argsort(-scores, axis=1, kind="stable")
    values = {"losses": np.asarray(losses), "brier": np.asarray(brier)}
    return make_light(labels, scores, "binary", 2, best=best, **values)


def test_light_metrics_of_binary(rng):
    scores = rng.uniform(size=100)
    labels = rng.integers(0, 2, 100)
    result = measure(make_binary(scores, labels, np.ones(100), np.ones(100)), light=True).metrics
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
def test_light_metrics_of_one_class(answer):
    outcomes = make_binary([0.2, 0.9], [answer, answer], [0.1, 0.3], [0, 1])
    result = measure(outcomes, light=True).metrics
    assert "auroc" not in result and "average_precision" not in result
    assert result["accuracy"] == 0.5
    assert np.isfinite(list(result.values())).all()


def test_light_metrics_of_no_examples():
    outcomes = make_light(np.zeros(0, int), np.zeros((0, 1)), "softmax", 10, best=np.zeros((0, 5)))
    with pytest.raises(ConfigError, match="no examples"):
        measure(outcomes, light=True)


def test_light_scores_that_are_not_finite():
    with pytest.raises(TrainingError, match="not finite"):
        measure(make_binary([np.nan, 0.5], [0, 1], [0, 0], [0, 0]), light=True)
    bad, best = [[np.nan], [0.5]], np.array([[0], [1]])
    with pytest.raises(TrainingError, match="not finite"):
        measure(make_light([0, 0], bad, "softmax", 2, best=best), light=True)
