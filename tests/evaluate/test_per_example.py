"""Per-example values against scikit-learn, the losses, and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk

from imgcls import losses
from imgcls.evaluate.per_example import brier_score, example_nll, top_k_indices


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_top_k_indices():
    scores = jnp.array([[0.1, 0.5, 0.2, 0.5], [4.0, 3.0, 2.0, 1.0]])
    np.testing.assert_array_equal(top_k_indices(scores, 3), [[1, 3, 2], [0, 1, 2]])
    assert top_k_indices(scores, 9).shape == (2, 4)


def test_brier_score(rng):
    """Against a loop over the examples; for two classes, twice the value of scikit-learn."""
    scores = rng.dirichlet(np.ones(4), 50)
    labels = rng.integers(0, 4, 50)
    expected = [
        sum((p - (k == label)) ** 2 for k, p in enumerate(row))
        for row, label in zip(scores, labels, strict=True)
    ]
    result = brier_score(jnp.asarray(scores), jnp.asarray(labels))
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    hot = np.eye(4, dtype=np.uint8)[labels]
    np.testing.assert_array_equal(brier_score(jnp.asarray(scores), jnp.asarray(hot)), result)
    yes = rng.uniform(size=50)
    both = brier_score(jnp.asarray(np.stack([1 - yes, yes], 1)), jnp.asarray(labels % 2))
    assert np.mean(both) == pytest.approx(2 * sk.brier_score_loss(labels % 2, yes), rel=1e-5)


def test_example_nll(rng):
    """Equal to the losses that objectives train with."""
    logits, single = rng.normal(size=(20, 5)), rng.integers(0, 5, 20)
    multi = rng.integers(0, 2, (20, 5))
    device_logits = jnp.asarray(logits)
    for task, labels, loss in (
        ("softmax", single, losses.softmax_cross_entropy),
        ("sigmoid", single, losses.sigmoid_binary_cross_entropy),
        ("multi_label", multi, losses.sigmoid_binary_cross_entropy),
    ):
        result = example_nll(logits, labels, task)
        assert result.shape == (20,) and result.dtype == np.float64
        np.testing.assert_allclose(result, loss(device_logits, jnp.asarray(labels)), rtol=1e-5)
    result = example_nll(logits[:, :1], multi[:, 0], "binary")
    expected = sk.log_loss(multi[:, 0], 1 / (1 + np.exp(-logits[:, 0])))
    assert np.mean(result) == pytest.approx(expected)
