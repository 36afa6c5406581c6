"""The linear probe equals a scikit-learn pipeline and does not use the test examples to fit."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import top_k_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from imgcls.core.errors import ConfigError
from imgcls.evaluate.evaluators.linear_probe import LinearProbe
from imgcls.evaluate.features import Features
from tests.conftest import make_mesh
from tests.evaluate.cases import (
    INFO,
    Linear,
    draw_variables,
    features_of,
    make_config,
    read_digits,
)

GRID = (1.0, 0.003, 30.0)
TRAIN = "train[:400]"
SPLITS = (TRAIN, "test")
VARIABLES = draw_variables()


@pytest.fixture(scope="module")
def digits():
    """Features and labels of both splits."""
    return [(features_of(VARIABLES, images), labels) for images, labels in map(read_digits, SPLITS)]


def make_probe(**options):
    options = {"train_split": TRAIN, "grid": GRID} | options
    return LinearProbe(make_config(), Linear(), make_mesh(), INFO, **options)


def judge(probe, digits, test_labels=None) -> dict:
    (train, train_labels), (test, labels) = digits
    features = Features(train.astype(np.float32), train_labels, np.arange(len(train)))
    return probe.judge(
        features, test.astype(np.float32), labels if test_labels is None else test_labels
    )


def test_equals_scikit_learn(digits):
    found = make_probe(batch_size=70).run({"": VARIABLES})
    (train, train_labels), (test, labels) = digits

    def fit(c, x, y):
        return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(x, y)

    x, held_out, y, held_out_labels = train_test_split(
        train, train_labels, test_size=0.2, stratify=train_labels, random_state=0
    )
    assert len(held_out) == 80 and np.bincount(held_out_labels).min() >= 7
    scores = {c: fit(c, x, y).score(held_out, held_out_labels) for c in GRID}
    best = max(scores, key=scores.get)
    # The grid matters here: one value is better than all others.
    assert sorted(scores.values())[-1] > sorted(scores.values())[-2]
    model = fit(best, train, train_labels)
    # Both solvers stop at a tolerance, so examples between two classes may go either way.
    top = np.sort(model.predict_proba(test), axis=1)
    undecided = np.mean(top[:, -1] - top[:, -2] < 0.005)
    assert undecided < 0.01
    accuracy = found.pop("accuracy")
    assert accuracy == pytest.approx(model.score(test, labels), abs=undecided + 1e-9)
    assert found == pytest.approx(
        {
            "top5_accuracy": top_k_accuracy_score(labels, model.predict_proba(test), k=5),
            "C": best,
            "holdout_accuracy": scores[best],
            "converged": 1,
        },
        abs=1e-9,
    )
    assert 0.5 < accuracy < 1


def test_test_labels_do_not_affect_the_fit(digits):
    probe, (train, (test, labels)) = make_probe(), digits
    found = judge(probe, digits)
    other = judge(probe, [train, (test, np.random.default_rng(0).permutation(labels))])
    assert other["accuracy"] < 0.3 < found["accuracy"]
    for key in ("C", "holdout_accuracy", "converged"):
        assert other[key] == found[key]


def test_test_features_do_not_affect_the_fit(digits):
    """For example through the standardization."""
    found = judge(make_probe(), digits)
    train, (test, labels) = digits
    other = judge(make_probe(), [train, (100 * test + 7, labels)])
    assert other["accuracy"] != found["accuracy"]
    assert (other["C"], other["holdout_accuracy"]) == (found["C"], found["holdout_accuracy"])


def test_smallest_of_equally_good_values():
    """Features that are separable with any C."""
    labels = np.arange(100) % 10
    values = (np.eye(10)[labels] + 0.01 * np.arange(100)[:, None] / 100).astype(np.float32)
    found = make_probe().judge(Features(values, labels, np.arange(100)), values, labels)
    assert (found["C"], found["holdout_accuracy"], found["accuracy"]) == (0.003, 1, 1)


def test_early_stop_is_a_metric_and_not_a_warning(digits, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = judge(make_probe(max_iter=2), digits)
    assert found["converged"] == 0 and found["accuracy"] > 0.2
    assert capfd.readouterr() == ("", "")


def test_too_few_examples_of_a_class():
    with pytest.raises(
        ConfigError, match=r"'train\[:40\]', .*: class '.' has 4 examples, fewer than 5"
    ):
        make_probe(train_split="train[:40]")


def test_protocol():
    assert make_probe().protocol == (
        "linear_probe: logistic regression on standardized backbone features of train[:400] (400), "
        "C chosen from 3 values on a held-out fifth; evaluated on test (359)"
    )
