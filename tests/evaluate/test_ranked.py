"""Weighted areas against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics as sk

from imgcls.evaluate.ranked import areas, rank


@pytest.mark.parametrize("decimals", [1, 8])  # with many ties, and with none
def test_areas_against_sample_weights(decimals):
    rng = np.random.default_rng(decimals)
    scores = np.round(rng.uniform(size=60), decimals)
    labels = rng.uniform(size=60) < 0.2 + 0.3 * scores
    weights = rng.integers(0, 4, (60, 12)).astype(np.int32)
    precision, roc = areas(rank(scores, labels), weights)
    for number, column in enumerate(weights.T):
        kept = column > 0
        expected = sk.average_precision_score(
            labels[kept], scores[kept], sample_weight=column[kept]
        )
        assert precision[number] == pytest.approx(expected)
        expected = sk.roc_auc_score(labels, scores, sample_weight=column)
        assert roc[number] == pytest.approx(expected)


def test_areas_of_all_classes_in_one_list():
    rng = np.random.default_rng(0)
    scores, labels = rng.uniform(size=(30, 4)), rng.uniform(size=(30, 4)) < 0.3
    weights = rng.integers(0, 3, (30, 5)).astype(np.int32)
    precision, roc = areas(rank(scores, labels), weights)
    for number, column in enumerate(weights.T):
        flat = labels.ravel(), scores.ravel()
        repeated = np.repeat(column, 4)
        assert roc[number] == pytest.approx(sk.roc_auc_score(*flat, sample_weight=repeated))
        expected = sk.average_precision_score(*flat, sample_weight=repeated)
        assert precision[number] == pytest.approx(expected)


def test_areas_where_they_are_not_defined():
    scores = np.array([0.3, 0.5, 0.1])
    # Columns: each example once, only the first, only the second three times.
    weights = np.array([[1, 1, 0], [1, 0, 3], [1, 0, 0]], np.int32)
    precision, roc = areas(rank(scores, np.array([True, False, False])), weights)
    np.testing.assert_array_equal(precision, [0.5, 1, np.nan])
    np.testing.assert_array_equal(roc, [0.5, np.nan, np.nan])
    precision, roc = areas(rank(scores, np.zeros(3, bool)), weights)
    assert np.isnan(precision).all() and np.isnan(roc).all()
    precision, roc = areas(rank(scores, np.ones(3, bool)), weights)
    np.testing.assert_array_equal(precision, [1, 1, 1])
    assert np.isnan(roc).all()
