"""Class weights: by frequency as scikit-learn and PyTorch have them, and by name."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from imgcls.data import DataInfo
from imgcls.errors import ConfigError
from imgcls.objectives.class_weights import create_class_weights

NAMES = ("cat", "sea lion", "a.b", "dog")


def weights(wanted, counts=(), examples=0, decisions=False):
    return create_class_weights(wanted, DataInfo(NAMES, False, (), examples, counts), decisions)


def test_no_weights():
    assert weights(None) is None


def test_auto_of_examples_is_scikit_learns_balanced():
    labels = np.repeat([0, 1, 2, 3], [10, 1, 25, 4])
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(weights("auto", (10, 1, 25, 4), 40), expected)


def test_auto_of_examples_without_some_classes():
    """The others are weighted as if there were no more classes: 1 on average over the examples."""
    labels = np.repeat([0, 3], [10, 30])
    expected = compute_class_weight("balanced", classes=np.array([0, 3]), y=labels)
    found = weights("auto", (10, 0, 0, 30), 40)
    np.testing.assert_allclose(found, [expected[0], 1, 1, expected[1]])
    assert found[labels].mean() == pytest.approx(1)


def test_auto_of_decisions_is_negatives_over_positives():
    """A class that nobody or everybody has is not weighted: the ratio is 0/0, or leaves no loss."""
    found = weights("auto", (10, 0, 40, 32), 40, decisions=True)
    np.testing.assert_allclose(found, [3, 1, 1, 0.25])


@pytest.mark.parametrize("wanted", [{"sea lion": 2.5, "dog": 3}, (("a.b", 0.5), ("cat", 2))])
def test_by_name(wanted):
    expected = [dict(wanted).get(name, 1) for name in NAMES]
    np.testing.assert_array_equal(weights(wanted), expected)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"sea loin": 2.0}, "the data has no class 'sea loin'; did you mean 'sea lion'[?]$"),
        ({"cat": 0.0}, "the weight of 'cat' is 0.0; write one above 0$"),
        ({"cat": -2}, "the weight of 'cat' is -2"),
        ({"cat": "two"}, "the weight of 'cat' is 'two'"),
        ({"cat": float("nan")}, "the weight of 'cat' is nan"),
        ("balanced", "class_weights='balanced': unknown; write 'auto' or"),
        (2.0, "class_weights=2.0: write 'auto'"),
        (("cat", 2.0), "class_weights=.*: write 'auto'"),
        ("auto", "class_weights='auto': the examples of each class were not counted"),
    ],
)
def test_mistakes(wanted, message):
    with pytest.raises(ConfigError, match=f"config.objective.*{message}") as error:
        weights(wanted)
    assert "\n" not in str(error.value)
