"""Expected calibration error and its bins, by hand."""

import numpy as np
import pytest

from imgcls.evaluate.calibration import PLAIN
from imgcls.evaluate.sums import Sums, confidence_bins
from tests.evaluate.cases import make_light


def ece_of(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Returns the `ece` of predictions with the given confidence, each counted once."""
    outcomes = make_light(
        np.where(correct, 0, 1),
        confidence[:, None],
        "softmax",
        2,
        best=np.zeros((len(correct), 2), int),
    )
    found = Sums(outcomes, PLAIN).measure(np.ones((len(correct), 1), np.int32))
    return float(found["ece"][0])


def test_expected_calibration_error():
    # Two bins are not empty.
    confidence, correct = np.array([0.95, 0.95, 0.5, 0.5]), np.array([True, False, True, False])
    assert ece_of(confidence, correct) == pytest.approx(0.45 / 2)
    assert ece_of(np.ones(3), np.ones(3)) == 0
    # An edge belongs to the bin below it, and 0 to the first.
    edges = np.arange(16) / 15
    assert confidence_bins(edges).tolist() == [0, *range(15)]
