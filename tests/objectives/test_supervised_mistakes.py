"""Settings of supervised training that are refused, and losses of users."""

import importlib

import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.data.info import DataInfo
from imgcls.objectives.create import create_objective
from tests.objectives.cases import SHAPE, make_objective


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "softmx"}, "objective.loss='softmx': unknown; did you mean 'softmax'"),
        ({"label_smothing": 0.1}, "did you mean 'label_smoothing'"),
        ({"name": "supervise"}, "objective.name='supervise': .*did you mean 'supervised'"),
        ({"loss": "softmax", "multi_label": True}, "multi-label; use 'sigmoid'"),
        ({"loss": "binary", "multi_label": True, "classes": 2}, "multi-label; use 'sigmoid'"),
        ({"loss": "binary", "classes": 3}, "has 3 classes, not 2"),
        ({"loss": "sigmoid", "label_smoothing": 0.1}, "label_smoothing: .*not to 'sigmoid'"),
        ({"loss": "sigmoid", "gamma": 2.0}, "gamma: belongs to the loss 'focal', not to 'sigmoid'"),
        ({"loss": "focal", "clip": 0.1}, "clip: belongs to .*loss='asymmetric'"),
        ({"alpha": None}, "alpha: belongs to the loss 'focal', not to 'softmax'"),
        ({"loss": "auto", "multi_label": True, "label_smoothing": 0.1}, "not to 'sigmoid'"),
        ({"loss": "focal", "alpha": 1.5}, "alpha=1.5: must be from 0 to 1"),
        ({"loss": "focal", "gamma": -1}, "gamma=-1: must be from 0"),
        ({"loss": "focal", "gamma": "two"}, "gamma='two': must be from 0"),
        ({"loss": "asymmetric", "clip": 1.0}, "clip=1.0: must be from 0 to 0.99"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        make_objective(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [1.5, -0.1])
def test_label_smoothing_is_from_0_to_1(value):
    with pytest.raises(ConfigError, match="label_smoothing"):
        make_objective(label_smoothing=value)


def test_number_of_classes_is_that_of_the_data():
    config = default_config()
    info = DataInfo(("a", "b", "c"), False, SHAPE)
    config.model.num_classes = 3
    assert create_objective(config, info).num_outputs == 3
    config.model.num_classes = 1000
    with pytest.raises(ConfigError, match="model.num_classes=1000: digits has 3 classes; leave"):
        create_objective(config, info)


@pytest.mark.parametrize("loss", ["auto", "softmax", "sigmoid", "binary"])
def test_a_single_class_is_rejected(loss):
    with pytest.raises(ConfigError, match="only one class, 'class 0'; a classifier needs two"):
        make_objective(classes=1, loss=loss)


def test_a_single_multi_label_class_is_a_binary_task():
    assert make_objective(classes=1, multi_label=True, loss="sigmoid").num_outputs == 1


def test_labels_with_other_classes_are_rejected():
    objective = make_objective(multi_label=True, loss="sigmoid")
    with pytest.raises(ConfigError, match="labels have 3 classes but the model has 4"):
        objective.example_loss(jnp.zeros((2, 4)), jnp.zeros((2, 3), jnp.uint8))


def test_registered_loss_is_usable_by_name(monkeypatch, tmp_path):
    """A loss is one file: registering it makes its name and options valid in the config."""
    (tmp_path / "poly_loss.py").write_text(
        "import jax.numpy as jnp\n"
        "from imgcls.losses import register_loss, softmax_cross_entropy\n"
        "@register_loss('polynomial_test', task='softmax', ranges={'epsilon': (0, 9)})\n"
        "def poly1(logits, labels, epsilon=1.0):\n"
        "    '''A polynomial of the cross-entropy.'''\n"
        "    loss = softmax_cross_entropy(logits, labels)\n"
        "    return loss + epsilon * (1 - jnp.exp(-loss))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("poly_loss")
    made = make_objective(loss="polynomial_test", epsilon=2.0)
    logits = jnp.array([[2.0, 0.0, -1.0]])
    p = np.exp(2) / (np.exp(2) + 1 + np.exp(-1))
    assert made.task == "softmax"
    np.testing.assert_allclose(
        made.example_loss(logits, jnp.array([0])), [-np.log(p) + 2 * (1 - p)], rtol=1e-6
    )
    with pytest.raises(ConfigError, match="epsilon=10.0: must be from 0 to 9"):
        make_objective(loss="polynomial_test", epsilon=10.0)
    with pytest.raises(
        ConfigError, match="epsilon: belongs to the loss 'polynomial_test', not to 'softmax'"
    ):
        make_objective(epsilon=1.0)
