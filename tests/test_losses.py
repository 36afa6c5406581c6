"""Losses against float64 loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.errors import ConfigError
from imgcls.losses import masked_mean, sigmoid_binary_cross_entropy, softmax_cross_entropy


def reference_softmax(logits, targets, smoothing=0.0):
    losses = []
    for row, target in zip(np.asarray(logits, np.float64), targets, strict=True):
        log_norm = row.max() + np.log(np.sum(np.exp(row - row.max())))
        target = (1 - smoothing) * np.asarray(target, np.float64) + smoothing / len(row)
        losses.append(sum(t * (log_norm - x) for t, x in zip(target, row, strict=True)))
    return np.array(losses)


def reference_sigmoid(logits, targets, class_weights, pos_weight):
    losses = []
    for row, target in zip(np.asarray(logits, np.float64), targets, strict=True):
        terms = []
        for x, t, w, p in zip(row, target, class_weights, pos_weight, strict=True):
            minus_log_yes, minus_log_no = np.logaddexp(0, -x), np.logaddexp(0, x)
            terms.append(w * (p * t * minus_log_yes + (1 - t) * minus_log_no))
        losses.append(np.mean(terms))
    return np.array(losses)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
def test_softmax_cross_entropy(rng, dtype, smoothing, soft):
    logits = jnp.asarray(rng.normal(size=(6, 7)) * 5, dtype)
    labels = rng.dirichlet(np.ones(7), 6).astype(np.float32) if soft else rng.integers(0, 7, 6)
    loss = softmax_cross_entropy(logits, jnp.asarray(labels), smoothing)
    expected = reference_softmax(logits, labels if soft else np.eye(7)[labels], smoothing)
    assert loss.dtype == jnp.float32 and loss.shape == (6,)
    np.testing.assert_allclose(loss, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("num_classes", [1, 5])
def test_sigmoid_binary_cross_entropy(rng, dtype, weighted, num_classes):
    logits = jnp.asarray(rng.normal(size=(6, num_classes)) * 5, dtype)
    labels = rng.uniform(size=(6, num_classes)).astype(np.float32)
    weights = rng.uniform(0.5, 2, (2, num_classes)) if weighted else np.ones((2, num_classes))
    loss = sigmoid_binary_cross_entropy(logits, labels, *(weights if weighted else ()))
    assert loss.dtype == jnp.float32 and loss.shape == (6,)
    np.testing.assert_allclose(loss, reference_sigmoid(logits, labels, *weights), rtol=2e-6)


def test_float64_stays_float64(rng):
    logits, labels = rng.normal(size=(6, 5)) * 5, rng.dirichlet(np.ones(5), 6)
    ones = np.ones(5)
    with jax.enable_x64(True):
        softmax = softmax_cross_entropy(logits, labels, 0.1)
        sigmoid = sigmoid_binary_cross_entropy(logits, labels)
        mean = masked_mean(softmax, np.ones(6, np.float32))
    np.testing.assert_allclose(softmax, reference_softmax(logits, labels, 0.1), rtol=1e-12)
    np.testing.assert_allclose(sigmoid, reference_sigmoid(logits, labels, ones, ones), rtol=1e-12)
    np.testing.assert_allclose(mean, np.mean(np.asarray(softmax)), rtol=1e-12)
    assert softmax.dtype == sigmoid.dtype == mean.dtype == jnp.float64


def test_sigmoid_takes_class_indices_or_binary_targets(rng):
    logits = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    indices = jnp.array([2, 0, 1, 1])
    one_hot = sigmoid_binary_cross_entropy(logits, jnp.eye(3)[indices])
    np.testing.assert_array_equal(sigmoid_binary_cross_entropy(logits, indices), one_hot)

    answers = jnp.array([1, 0, 0, 1])
    expected = np.logaddexp(0, np.where(answers, -1, 1) * np.asarray(logits[:, 0], np.float64))
    loss = sigmoid_binary_cross_entropy(logits[:, :1], answers)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_extreme_logits(dtype):
    logits = jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [1e4, 1e4, 1e4]], dtype)
    labels = jnp.array([1, 0, 2])
    one_hot = np.eye(3)[labels]
    softmax = softmax_cross_entropy(logits, labels, 0.1)
    np.testing.assert_allclose(softmax, reference_softmax(logits, one_hot, 0.1), rtol=1e-6)
    sigmoid = sigmoid_binary_cross_entropy(logits, labels)
    expected = reference_sigmoid(logits, one_hot, np.ones(3), np.ones(3))
    np.testing.assert_allclose(sigmoid, expected, rtol=1e-6)
    for loss in (softmax_cross_entropy, sigmoid_binary_cross_entropy):
        gradient = jax.grad(lambda x, loss=loss: loss(x, labels).sum())(logits)
        assert jnp.isfinite(gradient).all()


def test_gradients_are_probability_minus_target(rng):
    logits = jnp.asarray(rng.normal(size=(5, 4)) * 3, jnp.float32)
    targets = jnp.asarray(rng.dirichlet(np.ones(4), 5), jnp.float32)
    weights, pos_weight = rng.uniform(0.5, 2, (2, 4))
    exact = np.asarray(logits, np.float64)

    gradient = jax.grad(lambda x: softmax_cross_entropy(x, targets, 0.2).sum())(logits)
    softmax = np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, softmax - (0.8 * targets + 0.05), atol=1e-6)

    gradient = jax.grad(
        lambda x: sigmoid_binary_cross_entropy(x, targets, weights, pos_weight).sum()
    )(logits)
    sigmoid = 1 / (1 + np.exp(-exact))
    expected = weights * ((1 - targets) * sigmoid - pos_weight * targets * (1 - sigmoid)) / 4
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_masked_mean():
    values = jnp.array([1.0, 2.0, 6.0])
    assert masked_mean(values) == 3.0
    assert masked_mean(values, jnp.array([1, 0, 1])) == 3.5
    assert masked_mean(values, jnp.zeros(3)) == 0.0
    assert masked_mean(values.astype(jnp.bfloat16), jnp.ones(3)).dtype == jnp.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_masked_mean_keeps_bad_padding_out(bad):
    values, mask = jnp.array([1.0, bad, 3.0]), jnp.array([1.0, 0.0, 1.0])
    mean, gradient = jax.value_and_grad(masked_mean)(values, mask)
    assert mean == 2.0
    np.testing.assert_array_equal(gradient, [0.5, 0.0, 0.5])


def test_masked_mean_shows_bad_examples():
    assert jnp.isnan(masked_mean(jnp.array([1.0, jnp.nan]), jnp.ones(2)))


@pytest.mark.parametrize("loss", [softmax_cross_entropy, sigmoid_binary_cross_entropy])
def test_class_count_mismatch(loss):
    with pytest.raises(ConfigError, match="set num_classes to 4"):
        loss(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
