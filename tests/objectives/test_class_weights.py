"""Class weights: by frequency, as in scikit-learn and PyTorch, and by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from imgcls.core.config import (
    from_json,
    load,
    override,
    to_json,
)
from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.data.create import create_reader, describe, open_split
from imgcls.data.info import DataInfo
from imgcls.objectives.class_weights import create_class_weights
from tests.objectives.cases import (
    MULTI,
    SINGLE,
    YES_NO,
    asymmetric,
    binary_cross_entropy,
    focal,
    log_softmax,
    make_batch,
    make_objective,
)

NAMES = ("cat", "sea lion", "a.b", "dog")


def weights(class_weights, counts=(), examples=0, decisions=False):
    info = DataInfo(NAMES, False, (), examples, counts)
    return create_class_weights(class_weights, info, decisions)


def test_no_weights():
    assert weights(None) is None


def test_auto_for_examples_equals_balanced_of_scikit_learn():
    labels = np.repeat([0, 1, 2, 3], [10, 1, 25, 4])
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(weights("auto", (10, 1, 25, 4), 40), expected)


def test_auto_for_examples_ignores_empty_classes():
    """The weights have mean 1 over the examples."""
    labels = np.repeat([0, 3], [10, 30])
    expected = compute_class_weight("balanced", classes=np.array([0, 3]), y=labels)
    actual = weights("auto", (10, 0, 0, 30), 40)
    np.testing.assert_allclose(actual, [expected[0], 1, 1, expected[1]])
    assert actual[labels].mean() == pytest.approx(1)


def test_auto_for_decisions_is_negatives_over_positives():
    """Classes that no example or every example has get weight 1."""
    actual = weights("auto", (10, 0, 40, 32), 40, decisions=True)
    np.testing.assert_allclose(actual, [3, 1, 1, 0.25])


@pytest.mark.parametrize("by_name", [{"sea lion": 2.5, "dog": 3}, (("a.b", 0.5), ("cat", 2))])
def test_by_name(by_name):
    expected = [dict(by_name).get(name, 1) for name in NAMES]
    np.testing.assert_array_equal(weights(by_name), expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"sea loin": 2.0}, "the data has no class 'sea loin'; did you mean 'sea lion'[?]$"),
        ({"cat": 0.0}, "the weight of 'cat' is 0.0; write a number above 0$"),
        ({"cat": -2}, "the weight of 'cat' is -2"),
        ({"cat": "two"}, "the weight of 'cat' is 'two'"),
        ({"cat": float("nan")}, "the weight of 'cat' is nan"),
        ("balanced", "class_weights='balanced': unknown; write 'auto' or"),
        (2.0, "class_weights=2.0: write 'auto'"),
        (("cat", 2.0), "class_weights=.*: write 'auto'"),
        ("auto", "class_weights='auto': the examples of each class are not counted"),
    ],
)
def test_mistakes(value, message):
    with pytest.raises(ConfigError, match=f"config.objective.*{message}") as error:
        weights(value)
    assert "\n" not in str(error.value)


# ---- In the loss.

WEIGHTS = np.array([1.0, 3.0, 0.5, 1.0])
NAMED = {"class 1": 3.0, "class 2": 0.5}
SOFT = np.random.default_rng(5).dirichlet(np.ones(4), 8).astype(np.float32)
HALF_YES = np.array([0.0, 0.25, 1.0, 0.5, 1.0, 0.0, 0.75, 1.0], np.float32)[:, None]

# Options, labels, and the weighted loss [B] of logits in NumPy.
WEIGHTED = {
    "softmax": (
        {},
        SINGLE,
        lambda z: -WEIGHTS[SINGLE] * log_softmax(z)[np.arange(8), SINGLE],
    ),
    "softmax soft": ({}, SOFT, lambda z: -(SOFT @ WEIGHTS) * (SOFT * log_softmax(z)).sum(-1)),
    "sigmoid": (
        {"loss": "sigmoid", "multi_label": True},
        MULTI,
        lambda z: (np.where(MULTI, WEIGHTS, 1) * binary_cross_entropy(z, MULTI)).mean(-1),
    ),
    "focal": (
        {"loss": "focal", "multi_label": True},
        MULTI,
        lambda z: (np.where(MULTI, WEIGHTS, 1) * focal(z, MULTI, 0.25, 2.0)).mean(-1),
    ),
    "asymmetric": (
        {"loss": "asymmetric", "multi_label": True},
        MULTI,
        lambda z: (np.where(MULTI, WEIGHTS, 1) * asymmetric(z, MULTI, 4, 0, 0.05)).mean(-1),
    ),
    "binary": (
        {"loss": "binary", "classes": 2, "class_weights": {"class 1": 3.0}},
        YES_NO,
        lambda z: np.where(YES_NO, 3, 1) * binary_cross_entropy(z[:, 0], YES_NO),
    ),
    "binary soft": (
        {"loss": "binary", "classes": 2, "class_weights": {"class 1": 3.0}},
        HALF_YES,
        lambda z: (1 + 2 * HALF_YES[:, 0]) * binary_cross_entropy(z, HALF_YES)[:, 0],
    ),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_class_weights_apply_only_in_training(name):
    options, labels, weighted = WEIGHTED[name]
    objective = make_objective(**{"class_weights": NAMED, **options})
    logits = np.random.default_rng(2).normal(size=(8, objective.num_outputs))
    objective.model = FixedLogits(logits)
    loss, _ = objective.loss({}, {}, None, make_batch(labels), jax.random.key(1), 0)
    np.testing.assert_allclose(loss, weighted(logits).mean(), rtol=1e-5)
    plain = make_objective(**{**options, "class_weights": None})
    ours, theirs = (o.example_loss(jnp.asarray(logits), labels) for o in (objective, plain))
    np.testing.assert_array_equal(ours, theirs)
    assert abs(theirs.mean() - loss) > 1e-3


def test_class_weights_of_auxiliary_classifiers():
    logits, auxiliary = np.random.default_rng(2).normal(size=(2, 8, 4))
    objective = make_objective(class_weights=NAMED, aux_weight=0.25)
    objective.model = FixedLogits(logits, auxiliary)
    loss, _ = objective.loss({}, {}, None, make_batch(SINGLE), jax.random.key(1), 0)
    weighted = WEIGHTED["softmax"][2]
    expected = weighted(logits) + 0.25 * weighted(auxiliary)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)


class FixedLogits:
    """A model that returns fixed logits, to save the compilation of a real one."""

    def __init__(self, logits, *auxiliary):
        self._logits = jnp.asarray(logits, jnp.float32)
        self._auxiliary = tuple(jnp.asarray(x, jnp.float32) for x in auxiliary)

    def apply(self, variables, images, **options):
        state = {"intermediates": {"aux_logits": self._auxiliary}} if self._auxiliary else {}
        return self._logits, state


@pytest.mark.parametrize("text", ["{'sea lion': 2.5, 'cat': 1}", "(('sea lion', 2.5), ('a.b', 1))"])
def test_weights_of_the_command_line_survive_the_checkpoint(text):
    config = override(default_config(), [f"--config.objective.class_weights={text}"])
    for restored in (config, from_json(to_json(config))):
        options = restored.objective.to_dict()
        np.testing.assert_array_equal(weights(options["class_weights"]), [1, 2.5, 1, 1])


@pytest.mark.parametrize("class_weights", [None, "auto"])
def test_classes_are_counted_only_for_auto_weights(class_weights):
    """Counting reads every label, which takes minutes if the labels are stored in records."""
    config = load("configs/digits.py")
    config.objective.class_weights = class_weights
    source = open_split(config, "train")
    info = describe(config, create_reader(config, source, train=True))
    expected = tuple(np.bincount(source.labels())) if class_weights else ()
    assert info.class_counts == expected
