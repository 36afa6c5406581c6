"""Precision-recall and reliability curves against scikit-learn and by hand."""

import numpy as np
import pytest
import sklearn.metrics as sk

from imgcls.evaluate.curves import precision_recall, reliability
from imgcls.evaluate.metrics import measure
from tests.evaluate.cases import draw_outcomes, make_outcomes


def test_precision_recall():
    p = draw_outcomes("multi_label")
    curves = precision_recall(p)
    assert list(curves) == [f"class {i}" for i in (0, 1, 2, 3, 4, 6)]
    for number in (0, 6):
        precision, recall = curves[f"class {number}"]
        expected = sk.precision_recall_curve(p.labels[:, number], p.scores[:, number])
        np.testing.assert_array_equal(precision[::-1], expected[0])
        np.testing.assert_array_equal(recall[::-1], expected[1])
        assert recall[0] == 0 and recall[-1] == 1
    assert list(precision_recall(draw_outcomes("softmax"))) == [
        f"class {i}" for i in (0, 1, 2, 3, 4, 6)
    ]


@pytest.mark.parametrize("task", ["softmax", "multi_label"])
def test_reliability(task):
    p = draw_outcomes(task)
    confidence, accuracy, count = reliability(p)
    gap = np.sum(np.abs(confidence - accuracy) * count) / count.sum()
    assert gap == pytest.approx(measure(p, bootstrap=0).metrics["ece"])
    assert count.min() > 0 and count.sum() == (150 if task == "softmax" else 150 * 7)


def test_reliability_by_hand():
    p = make_outcomes([[np.log(4), 0.0], [np.log(4), 0.0], [0.0, np.log(1.5)]], [0, 1, 1])
    confidence, accuracy, count = reliability(p, bins=10)
    np.testing.assert_allclose(confidence, [0.6, 0.8], rtol=1e-6)
    assert accuracy.tolist() == [1, 0.5] and count.tolist() == [1, 2]
