"""Classification losses against float64 loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.losses.classification import (
    asymmetric_loss,
    sigmoid_binary_cross_entropy,
    sigmoid_focal_loss,
    softmax_cross_entropy,
)
from imgcls.losses.common import masked_mean
from tests.losses.cases import check


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
def test_cross_entropies_at_extreme_logits(dtype):
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


LOSSES = [softmax_cross_entropy, sigmoid_binary_cross_entropy, sigmoid_focal_loss, asymmetric_loss]


@pytest.mark.parametrize("loss", LOSSES)
def test_class_count_mismatch_is_reported(loss):
    with pytest.raises(ConfigError, match="set num_classes to 4"):
        loss(jnp.zeros((2, 3)), jnp.zeros((2, 4)))


def reference_decisions(logits, targets, cost_yes, cost_no, pos_weight):
    losses = []
    for row, target in zip(np.asarray(logits, np.float64), targets, strict=True):
        terms = []
        for x, t, w in zip(row, target, pos_weight, strict=True):
            p, not_p = np.exp(-np.logaddexp(0, -x)), np.exp(-np.logaddexp(0, x))
            terms.append(w * t * cost_yes(x, p, not_p) + (1 - t) * cost_no(x, p, not_p))
        losses.append(np.mean(terms))
    return np.array(losses)


def reference_focal(logits, targets, alpha=0.25, gamma=2.0, pos_weight=(1, 1, 1)):
    yes, no = (1, 1) if alpha is None else (alpha, 1 - alpha)
    return reference_decisions(
        logits,
        targets,
        lambda x, p, not_p: yes * not_p**gamma * np.logaddexp(0, -x),
        lambda x, p, not_p: no * p**gamma * np.logaddexp(0, x),
        pos_weight,
    )


def reference_asymmetric(
    logits, targets, gamma_neg=4.0, gamma_pos=0.0, clip=0.05, pos_weight=(1, 1, 1)
):
    def no(x, p, not_p):
        shifted = max(p - clip, 0)
        # Without a shift the logarithm is accurate even where p rounds to 1.
        cost = -np.log(1 - shifted) if clip else np.logaddexp(0, x)
        return shifted**gamma_neg * cost if shifted else 0.0

    return reference_decisions(
        logits, targets, lambda x, p, not_p: not_p**gamma_pos * np.logaddexp(0, -x), no, pos_weight
    )


FOCUSED = {
    "focal": (sigmoid_focal_loss, reference_focal, {}),
    "focal unbalanced": (sigmoid_focal_loss, reference_focal, {"alpha": None, "gamma": 0.5}),
    "focal weighted": (sigmoid_focal_loss, reference_focal, {"pos_weight": np.array([1, 3, 0.5])}),
    "asymmetric": (asymmetric_loss, reference_asymmetric, {}),
    "asymmetric both": (asymmetric_loss, reference_asymmetric, {"gamma_pos": 1.0, "clip": 0.2}),
    "asymmetric unclipped": (asymmetric_loss, reference_asymmetric, {"clip": 0.0}),
    "asymmetric root": (asymmetric_loss, reference_asymmetric, {"gamma_neg": 0.5}),
    "asymmetric weighted": (
        asymmetric_loss,
        reference_asymmetric,
        {"pos_weight": np.array([1, 3, 0.5])},
    ),
}


@pytest.fixture(params=FOCUSED)
def focused(request):
    return FOCUSED[request.param]


def test_focused_losses_match_reference(focused, rng):
    loss, reference, options = focused
    logits = rng.normal(size=(6, 3)) * 3
    hard, soft = rng.integers(0, 2, (6, 3)).astype(np.uint8), rng.uniform(size=(6, 3))
    for targets in (hard, soft):
        check(
            lambda x, y: loss(x, y, **options),
            lambda x, y: reference(x, y, **options),
            logits,
            targets,
        )


def test_focused_losses_at_extreme_logits(focused):
    loss, reference, options = focused
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [90.0, -90.0, 17.0], [-3.5, 9.0, -20.0]])
    targets = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 1]], np.uint8)

    def total(x):
        losses = loss(x, targets, **options)
        return losses.sum(), losses

    both = jax.jit(jax.value_and_grad(total, has_aux=True))
    (_, losses), gradient = both(jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(losses, reference(logits, targets, **options), rtol=1e-5)
    assert jnp.isfinite(gradient).all()


def test_focused_loss_gradients_match_finite_differences(focused, rng):
    loss, reference, options = focused
    logits, targets = rng.normal(size=(6, 3)) * 3, rng.uniform(size=(6, 3))
    gradient = jax.jit(jax.grad(lambda x: loss(x, targets, **options).sum()))
    with jax.enable_x64(True):
        actual = gradient(logits)
    expected = np.zeros((6, 3))
    for entry in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[entry] = 1e-5
        ahead, behind = (reference(logits + s, targets, **options) for s in (step, -step))
        expected[entry] = np.sum(ahead - behind) / 2e-5
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-8)


def test_focused_losses_without_focus_equal_cross_entropy(rng):
    logits = jnp.asarray(rng.normal(size=(6, 3)) * 5, jnp.float32)
    labels = jnp.asarray(rng.integers(0, 3, 6))
    expected = sigmoid_binary_cross_entropy(logits, labels)
    focal = sigmoid_focal_loss(logits, labels, alpha=None, gamma=0.0)
    np.testing.assert_allclose(focal, expected, rtol=1e-6)
    asymmetric = asymmetric_loss(logits, labels, gamma_neg=0.0, gamma_pos=0.0, clip=0.0)
    np.testing.assert_allclose(asymmetric, expected, rtol=1e-6)


def test_negatives_below_the_clip_have_no_gradient():
    logits = jnp.log(jnp.array([[0.04 / 0.96, 0.03 / 0.97], [0.06 / 0.94, 0.03 / 0.97]]))
    both = jax.value_and_grad(lambda x: asymmetric_loss(x, jnp.zeros((2, 2))).sum())
    value, gradient = both(logits)
    assert value > 0
    np.testing.assert_array_equal(np.asarray(gradient) != 0, [[False, False], [True, False]])


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9, 2.0])
@pytest.mark.parametrize("logit", [0.3, 80.0, 150.0, 1e4])
def test_focal_gradient_is_finite_and_right_at_any_logit(gamma, logit):
    """Right and wrong decisions; with soft labels it is the mixture of both."""
    x = jnp.asarray([logit, -logit])

    def gradients(label):
        loss = lambda x: sigmoid_focal_loss(x[:, None], jnp.full((2, 1), label), None, gamma)  # noqa: E731
        return np.asarray(jax.jit(jax.grad(lambda x: loss(x).sum()))(x))

    x64 = np.asarray([logit, -logit], np.float64)
    p, not_p = np.exp(-np.logaddexp(0, -x64)), np.exp(-np.logaddexp(0, x64))
    # d/dx of (1 - p)^gamma * -log p, with p' = p (1 - p).
    positive = not_p**gamma * (-gamma * p * np.logaddexp(0, -x64) - not_p)
    negative = p**gamma * (gamma * not_p * np.logaddexp(0, x64) + p)
    np.testing.assert_allclose(gradients(1.0), positive, rtol=2e-5, atol=1e-12)
    np.testing.assert_allclose(gradients(0.0), negative, rtol=2e-5, atol=1e-12)
    mixed = 0.3 * positive + 0.7 * negative
    np.testing.assert_allclose(gradients(0.3), mixed, rtol=2e-5, atol=1e-7)


def torchvision_focal(x, y, alpha, gamma):
    """torchvision.ops.sigmoid_focal_loss: one p_t, also of soft labels."""
    p = 1 / (1 + np.exp(-x))
    cost = y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)
    p_t = p * y + (1 - p) * (1 - y)
    return (alpha * y + (1 - alpha) * (1 - y)) * cost * (1 - p_t) ** gamma


def test_focal_equals_torchvision_for_hard_labels_alone():
    x, y = np.array([[-2.0], [0.5], [3.0], [1.0]]), np.array([[1.0], [0.0], [1.0], [0.3]])
    ours = np.asarray(sigmoid_focal_loss(jnp.asarray(x), jnp.asarray(y)))
    theirs = torchvision_focal(x, y, 0.25, 2.0)[:, 0]
    np.testing.assert_allclose(ours[:3], theirs[:3], rtol=1e-5)
    one, zero = (torchvision_focal(x[3], label, 0.25, 2.0)[0] for label in (1.0, 0.0))
    np.testing.assert_allclose(ours[3], 0.3 * one + 0.7 * zero, rtol=1e-5)
    assert abs(ours[3] / theirs[3] - 1) > 0.05
