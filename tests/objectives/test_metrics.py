"""Metrics of a training step against values computed by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.objectives import metrics


def test_accuracy():
    logits = jnp.array([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 1.0]], jnp.bfloat16)
    result = metrics.accuracy(logits, jnp.array([1, 1, 2]))
    assert result.dtype == jnp.float32
    np.testing.assert_array_equal(result, [1, 0, 1])
    soft = jnp.array([[0.1, 0.6, 0.3], [0.2, 0.5, 0.3], [0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(metrics.accuracy(logits, soft), [1, 0, 1])


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_accuracy_of_one_logit(shape):
    labels = jnp.array([1, 1, 0]).reshape(shape)
    result = metrics.accuracy(jnp.array([[2.0], [-1.0], [-3.0]]), labels)
    np.testing.assert_array_equal(result, [1, 0, 1])


def test_feature_std():
    """1 for features uniform on the sphere, of any length; 0 for collapsed ones."""
    rng = np.random.default_rng(0)
    assert float(metrics.feature_std(7 * rng.normal(size=(20_000, 64)))) == pytest.approx(
        1, abs=0.01
    )
    assert float(metrics.feature_std(np.tile(rng.normal(size=(1, 64)), (100, 1)))) < 1e-5
    # At both ends of an axis: a deviation of 1 in one of four dimensions, times sqrt(4).
    assert float(metrics.feature_std(np.array([[3.0, 0, 0, 0], [-1, 0, 0, 0]]))) == pytest.approx(
        0.5
    )
    assert float(metrics.feature_std(np.zeros((3, 4)))) == 0
