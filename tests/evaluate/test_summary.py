"""Summaries against scikit-learn called directly, and intervals against theory."""

import dataclasses
import json

import numpy as np
import pytest
import sklearn.metrics as sk

from imgcls.core.errors import ConfigError, TrainingError
from imgcls.evaluate import metrics, summary
from imgcls.evaluate.calibration import PLAIN, Calibration, apply
from imgcls.evaluate.outcomes import Outcomes
from imgcls.evaluate.summary import precision_recall, reliability, summarize

RATES = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def make(logits, labels, task: str = "softmax", **fields) -> Outcomes:
    logits = np.asarray(logits, np.float32)
    if task == "softmax":
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    else:
        scores = sigmoid(logits)
    if task == "binary":
        scores = np.concatenate([1 - scores, scores], axis=1)
    names = tuple(f"class {i}" for i in range(scores.shape[1]))
    examples, index = [f"{i}.png" for i in range(len(scores))], np.arange(len(scores))
    scores = scores.astype(np.float32)
    return Outcomes(names, task, examples, index, np.array(labels), logits, scores, **fields)


def draw(task: str, count: int = 150, classes: int = 7, seed: int = 0) -> Outcomes:
    """Right more often than by chance; the last two classes have no example or are never said."""
    rng = np.random.default_rng(seed)
    if task == "binary":
        labels = rng.integers(0, 2, count)
        return make(rng.normal(size=(count, 1)) + 1.5 * labels[:, None] - 0.5, labels, task)
    if task == "multi_label":
        logits = rng.normal(size=(count, classes)) * 1.5
        labels = (rng.uniform(size=logits.shape) < sigmoid(logits - 0.5)).astype(np.uint8)
        labels[:, -2] = 0
        logits[:, -1] = -2 + 0.1 * logits[:, -1]
        return make(logits, labels, task)
    labels = rng.integers(0, classes - 1, count)
    labels[labels == classes - 2] = classes - 1
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += 1.5
    logits[:, -1] = -5
    return make(logits, labels, task)


def ece_by_hand(confidence, correct, bins: int = 15) -> float:
    total = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


def averages(labels, said) -> dict:
    """scikit-learn's averages, by our names."""
    return {
        f"{average}_{name}": score(labels, said, average=average, zero_division=0)
        for average in ("macro", "micro", "weighted")
        for name, score in RATES.items()
    }


def single_label_reference(p: Outcomes) -> dict:
    scores, hot = p.scores.astype(np.float64), np.eye(p.scores.shape[1])[p.labels]
    said, present = scores.argmax(1), np.unique(p.labels)
    expected = averages(p.labels, said) | {
        "accuracy": sk.accuracy_score(p.labels, said),
        # The classes that are said but do not occur have no recall.
        "balanced_accuracy": np.mean([np.mean(said[p.labels == c] == c) for c in present]),
        "ece": ece_by_hand(scores.max(1), said == p.labels),
        "brier": np.mean(np.sum((scores - hot) ** 2, axis=1)),
        "examples": len(p),
        "map": np.mean([sk.average_precision_score(hot[:, c], scores[:, c]) for c in present]),
        "roc_auc": np.mean([sk.roc_auc_score(hot[:, c], scores[:, c]) for c in present]),
    }
    expected |= {name: expected[f"macro_{name}"] for name in RATES}
    if scores.shape[1] > 5:
        classes = np.arange(scores.shape[1])
        expected["top5_accuracy"] = sk.top_k_accuracy_score(p.labels, scores, k=5, labels=classes)
    return expected


@pytest.mark.parametrize(("task", "classes"), [("softmax", 7), ("softmax", 4), ("sigmoid", 7)])
def test_single_labels(task, classes):
    p = draw(task, classes=classes)
    found, expected = summarize(p, bootstrap=0), single_label_reference(p)
    if task == "softmax":
        expected["nll"] = sk.log_loss(p.labels, p.scores, labels=np.arange(classes))
    else:
        hot = np.eye(classes)[p.labels]
        expected["nll"] = np.mean(
            [sk.log_loss(hot[:, c], p.scores[:, c], labels=[0, 1]) for c in range(classes)]
        )
    assert found.metrics == pytest.approx(expected, rel=1e-5)
    assert found.metrics["micro_f1"] == pytest.approx(found.metrics["accuracy"])
    said = p.scores.argmax(1)
    np.testing.assert_array_equal(
        found.confusion, sk.confusion_matrix(p.labels, said, labels=np.arange(classes))
    )
    rates = sk.precision_recall_fscore_support(
        p.labels, said, labels=np.arange(classes), zero_division=0
    )
    for number, row in enumerate(found.classes):
        assert row["name"] == f"class {number}" and "threshold" not in row
        values = [row[name] for name in ("precision", "recall", "f1", "support")]
        assert values == pytest.approx([rate[number] for rate in rates])
        of_class = p.labels == number, p.scores[:, number]
        if row["support"]:
            assert row["average_precision"] == sk.average_precision_score(*of_class)
            assert row["roc_auc"] == sk.roc_auc_score(*of_class)
        else:
            assert row["average_precision"] is None and row["roc_auc"] is None
    assert found.classes[-2]["support"] == 0 and not found.confusion[:, -1].any()


def test_the_names_of_training_are_the_same_numbers():
    p = draw("softmax")
    loss, brier = np.arange(150.0), np.asarray(metrics.brier_score(p.scores, p.labels))
    top = np.asarray(metrics.top_k_indices(p.scores, 5))
    expected = metrics.single_label_metrics(top, p.labels, loss, p.scores.max(1), brier, 7)
    check_training_names(p, loss, expected)
    p = draw("binary")
    brier = np.asarray(metrics.brier_score(p.scores, p.labels))
    check_training_names(p, loss, metrics.binary_metrics(p.scores[:, 1], p.labels, loss, brier))
    p = draw("multi_label")
    brier = np.asarray(metrics.brier_score(p.scores, p.labels))
    check_training_names(p, loss, metrics.multi_label_metrics(p.scores, p.labels, loss, brier))


def check_training_names(p: Outcomes, loss: np.ndarray, expected: dict) -> None:
    found = summarize(dataclasses.replace(p, losses=loss), bootstrap=0).metrics
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_binary():
    p = draw("binary")
    found = summarize(p, bootstrap=0)
    yes, said = p.scores[:, 1].astype(np.float64), p.scores[:, 1] > 0.5
    expected = averages(p.labels, said) | {name: f(p.labels, said) for name, f in RATES.items()}
    expected |= {
        "accuracy": sk.accuracy_score(p.labels, said),
        "balanced_accuracy": sk.balanced_accuracy_score(p.labels, said),
        "roc_auc": sk.roc_auc_score(p.labels, yes),
        "auroc": sk.roc_auc_score(p.labels, yes),
        "average_precision": sk.average_precision_score(p.labels, yes),
        "map": np.mean([sk.average_precision_score(p.labels == c, p.scores[:, c]) for c in (0, 1)]),
        "nll": sk.log_loss(p.labels, yes),
        "brier": 2 * sk.brier_score_loss(p.labels, yes),
        "ece": ece_by_hand(np.maximum(yes, 1 - yes), said == p.labels),
        "examples": 150,
    }
    assert found.metrics == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(found.confusion, sk.confusion_matrix(p.labels, said))


@pytest.mark.parametrize("thresholds", [None, [0.3, 0.2, 0.5, 0.7, 0.4, 0.5, 0.9]])
def test_multi_label(thresholds):
    p = draw("multi_label")
    chosen = PLAIN if thresholds is None else Calibration(thresholds=np.array(thresholds))
    found = summarize(p, chosen, bootstrap=0)
    scores = p.scores.astype(np.float64)
    said = (scores > (0.5 if thresholds is None else np.array(thresholds))).astype(int)
    present = p.labels.any(0)
    expected = averages(p.labels, said) | {
        "map": sk.average_precision_score(p.labels[:, present], scores[:, present]),
        "roc_auc": sk.roc_auc_score(p.labels[:, present], scores[:, present]),
        "micro_roc_auc": sk.roc_auc_score(p.labels, scores, average="micro"),
        "exact_match": sk.accuracy_score(p.labels, said),
        "hamming_loss": sk.hamming_loss(p.labels, said),
        "nll": np.mean(
            [sk.log_loss(p.labels[:, c], scores[:, c], labels=[0, 1]) for c in range(7)]
        ),
        "brier": np.mean(np.sum((scores - p.labels) ** 2, axis=1)),
        "ece": ece_by_hand(scores.ravel(), p.labels.ravel()),
        "examples": 150,
    }
    assert found.metrics == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(found.confusion, sk.multilabel_confusion_matrix(p.labels, said))
    assert [row["threshold"] for row in found.classes] == (thresholds or [0.5] * 7)
    # The class without an example, and one that is never said at 0.5.
    assert present.tolist() == [True] * 5 + [False, True]
    assert found.classes[5]["average_precision"] is None and found.classes[5]["recall"] == 0
    assert found.classes[6]["precision"] == 0


def test_the_calibration_is_applied_once():
    p, cooler = draw("softmax"), Calibration(temperature=3.0)
    once = summarize(p, cooler, bootstrap=0)
    assert once.temperature == 3.0
    assert summarize(apply(p, cooler), cooler, bootstrap=0).metrics == once.metrics
    by_hand = make(p.logits / 3, p.labels)
    assert once.metrics == pytest.approx(summarize(by_hand, bootstrap=0).metrics, rel=1e-4)
    # The objective's own loss is of the logits as they are.
    known = dataclasses.replace(p, losses=np.full(150, 0.25, np.float32))
    assert summarize(known, cooler, bootstrap=0).metrics["loss"] == 0.25


# ---- Small and odd splits.


def test_one_example():
    found = summarize(make([[1.0, 0.0, 0.0]], [0]), bootstrap=50)
    assert found.metrics["accuracy"] == found.metrics["macro_f1"] == found.metrics["map"] == 1
    assert "roc_auc" not in found.metrics and "roc_auc" not in found.intervals
    assert found.intervals["nll"] == pytest.approx((found.metrics["nll"],) * 2)
    assert found.classes[0]["roc_auc"] is None and found.classes[1]["average_precision"] is None
    many = summarize(make([[1.0, -1.0]], [[1, 0]], "multi_label"), bootstrap=50)
    assert many.metrics["exact_match"] == 1 and many.metrics["micro_roc_auc"] == 1


@pytest.mark.parametrize("answer", [0, 1])
def test_a_split_of_one_class(answer):
    found = summarize(make([[0.5], [-0.5], [2.0]], [answer] * 3, "binary"), bootstrap=50).metrics
    assert not {"roc_auc", "auroc", "average_precision"} & found.keys()
    assert found["accuracy"] == found["balanced_accuracy"] == pytest.approx((1 + answer) / 3)
    assert np.isfinite(list(found.values())).all()


def test_multi_label_without_positives():
    found = summarize(make(np.full((3, 2), -1.0), np.zeros((3, 2)), "multi_label"), bootstrap=20)
    assert not {"map", "roc_auc", "micro_roc_auc"} & {*found.metrics, *found.intervals}
    assert found.metrics["exact_match"] == 1 and found.metrics["weighted_f1"] == 0
    one = summarize(make([[1.0], [-1.0]], [[1], [0]], "multi_label"), bootstrap=0)
    assert one.confusion.tolist() == [[[1, 0], [0, 1]]]


def test_no_examples_and_scores_that_are_not_finite():
    with pytest.raises(ConfigError, match="no examples"):
        summarize(make(np.zeros((0, 3)), np.zeros(0, int)))
    with pytest.raises(TrainingError, match="not finite"):
        summarize(make([[np.nan, 0.0]], [0]))
    with pytest.raises(TrainingError, match="not finite"):
        summarize(make([[np.inf], [0.0]], [0, 1], "binary"))


def test_skipped():
    assert "skipped" not in summarize(draw("softmax"), bootstrap=0).metrics
    assert summarize(draw("softmax"), bootstrap=0).intervals == {}
    p = dataclasses.replace(draw("softmax"), skipped=4)
    assert summarize(p, bootstrap=0).metrics["skipped"] == 4


# ---- Intervals.


@pytest.mark.parametrize("task", ["softmax", "sigmoid", "binary", "multi_label"])
def test_intervals_against_a_loop(task):
    """Each replicate by `summarize` itself, on the examples that were drawn."""
    p = dataclasses.replace(draw(task, count=60), losses=np.arange(60.0))
    found = summarize(p, bootstrap=30, seed=3)
    assert found.intervals.keys() == found.metrics.keys() - {"examples"}
    rng, values = np.random.default_rng(3), []
    for _ in range(30):
        drawn = rng.integers(0, 60, 60)
        rows = {name: getattr(p, name)[drawn] for name in ("labels", "logits", "scores", "losses")}
        part = dataclasses.replace(p, **rows)
        values.append(summarize(part, bootstrap=0).metrics)
    for name, interval in found.intervals.items():
        expected = np.percentile([v[name] for v in values if name in v], (2.5, 97.5))
        assert interval == pytest.approx(expected, rel=1e-9), name


def test_the_interval_of_an_accuracy_is_binomial():
    p = make(np.tile([[1.0, 0.0]], (400, 1)), (np.arange(400) % 4 == 0).astype(int))
    found = summarize(p, bootstrap=2000)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert found.intervals["accuracy"] == pytest.approx((0.75 - half, 0.75 + half), abs=0.005)
    assert summarize(p, bootstrap=2000).intervals == found.intervals
    assert summarize(p, bootstrap=2000, seed=1).intervals != found.intervals


@pytest.mark.parametrize(("ranked", "count"), [(10_000, 9), (4_000, 0), (30_000, 20)])
def test_ranked_metrics_get_fewer_replicates(monkeypatch, ranked, count):
    """1,050 scores: as many replicates as the limit allows, or no interval below the fewest."""
    monkeypatch.setattr(summary, "RANKED", ranked)
    monkeypatch.setattr(summary, "FEWEST", 5)
    used = []
    areas = summary.bootstrap_lib.areas

    def spy(ranking, weights):
        used.append(weights.shape[1])
        return areas(ranking, weights)

    monkeypatch.setattr(summary.bootstrap_lib, "areas", spy)
    found = summarize(draw("softmax"), bootstrap=20)
    assert used == ([count] * 7 if count else [])
    assert ("map" in found.intervals) == ("roc_auc" in found.intervals) == (count > 0)
    assert "accuracy" in found.intervals and "map" in found.metrics


# ---- As JSON, and as curves.


@pytest.mark.parametrize("task", ["softmax", "multi_label"])
def test_json(task):
    chosen = Calibration(2.0, np.full(7, 0.25) if task == "multi_label" else None)
    found = summarize(draw(task), chosen, bootstrap=10)
    read = json.loads(found.to_json())
    assert list(read) == ["task", "temperature", "metrics", "intervals", "classes", "confusion"]
    assert (read["task"], read["temperature"], read["metrics"]) == (task, 2.0, found.metrics)
    assert {k: tuple(v) for k, v in read["intervals"].items()} == found.intervals
    assert read["classes"] == found.classes
    np.testing.assert_array_equal(read["confusion"], found.confusion)


def test_precision_recall():
    p = draw("multi_label")
    curves = precision_recall(p)
    assert list(curves) == [f"class {i}" for i in (0, 1, 2, 3, 4, 6)]
    for number in (0, 6):
        precision, recall = curves[f"class {number}"]
        expected = sk.precision_recall_curve(p.labels[:, number], p.scores[:, number])
        np.testing.assert_array_equal(precision[::-1], expected[0])
        np.testing.assert_array_equal(recall[::-1], expected[1])
        assert recall[0] == 0 and recall[-1] == 1
    assert list(precision_recall(draw("softmax"))) == [f"class {i}" for i in (0, 1, 2, 3, 4, 6)]


@pytest.mark.parametrize("task", ["softmax", "multi_label"])
def test_reliability(task):
    p = draw(task)
    confidence, accuracy, count = reliability(p)
    gap = np.sum(np.abs(confidence - accuracy) * count) / count.sum()
    assert gap == pytest.approx(summarize(p, bootstrap=0).metrics["ece"])
    assert count.min() > 0 and count.sum() == (150 if task == "softmax" else 150 * 7)


def test_reliability_by_hand():
    p = make([[np.log(4), 0.0], [np.log(4), 0.0], [0.0, np.log(1.5)]], [0, 1, 1])
    confidence, accuracy, count = reliability(p, bins=10)
    np.testing.assert_allclose(confidence, [0.6, 0.8], rtol=1e-6)
    assert accuracy.tolist() == [1, 0.5] and count.tolist() == [1, 2]
