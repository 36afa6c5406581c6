"""Supervised classification: losses, gradients and moving averages against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from imgcls.core.defaults import default_config
from imgcls.core.state import TrainState
from imgcls.data.info import DataInfo
from imgcls.data.transforms import batch as batch_transforms
from imgcls.objectives.create import create_objective
from tests.objectives.cases import (
    MULTI,
    SHAPE,
    SINGLE,
    YES_NO,
    asymmetric,
    binary_cross_entropy,
    focal,
    log_softmax,
    make_batch,
    make_objective,
    sigmoid,
)

SPEC = {"image": jax.ShapeDtypeStruct((8, *SHAPE), jnp.uint8)}


def make_variables(objective, seed: int = 0, spec: dict = SPEC) -> tuple:
    """Random variables `(params, model_state)`, different from the initial values."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        low, high = (0.5, 1.5) if path[-1].key in ("var", "scale") else (-0.5, 0.5)
        return jnp.asarray(rng.uniform(low, high, leaf.shape), leaf.dtype)

    shapes = jax.eval_shape(objective.init, jax.random.key(0), spec)
    return jax.tree.map_with_path(draw, shapes)


def train_logits(objective, params, state, batch) -> np.ndarray:
    """Logits of the model in training mode."""
    logits, _ = objective.model.apply(
        {"params": params, **state}, batch["image"], train=True, mutable=["batch_stats"]
    )
    return np.float64(logits)


# Options, labels, and the loss [B] and scores [B, K] of logits in NumPy.
CASES = {
    "softmax": (
        {"loss": "softmax"},
        SINGLE,
        lambda z: -log_softmax(z)[np.arange(8), SINGLE],
        lambda z: np.exp(log_softmax(z)),
    ),
    "smoothed": (
        {"loss": "softmax", "label_smoothing": 0.1},
        SINGLE,
        lambda z: -((0.9 * np.eye(4)[SINGLE] + 0.1 / 4) * log_softmax(z)).sum(-1),
        lambda z: np.exp(log_softmax(z)),
    ),
    "sigmoid": (
        {"loss": "sigmoid"},
        SINGLE,
        lambda z: binary_cross_entropy(z, np.eye(4)[SINGLE]).mean(-1),
        sigmoid,
    ),
    "multi_label": (
        {"loss": "sigmoid", "multi_label": True},
        MULTI,
        lambda z: binary_cross_entropy(z, MULTI).mean(-1),
        sigmoid,
    ),
    "focal": (
        {"loss": "focal", "alpha": 0.6, "gamma": 1.5},
        SINGLE,
        lambda z: focal(z, np.eye(4)[SINGLE], 0.6, 1.5).mean(-1),
        sigmoid,
    ),
    "asymmetric": (
        {"loss": "asymmetric", "gamma_neg": 2.0, "gamma_pos": 0.5, "clip": 0.1}
        | {"multi_label": True},
        MULTI,
        lambda z: asymmetric(z, MULTI, 2.0, 0.5, 0.1).mean(-1),
        sigmoid,
    ),
    "binary": (
        {"loss": "binary", "classes": 2},
        YES_NO,
        lambda z: binary_cross_entropy(z[:, 0], YES_NO),
        lambda z: np.concatenate([1 - sigmoid(z), sigmoid(z)], -1),
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    options, labels, loss, scores = CASES[request.param]
    objective = make_objective(**options)
    return objective, make_variables(objective), make_batch(labels), loss, scores


def run_loss(objective, params, state, batch):
    """`(loss, (state, metrics))` of a step."""
    arguments = (params, state, None, batch, jax.random.key(1), jnp.int32(0))
    return jax.jit(objective.loss)(*arguments)


def run_gradients(objective, params, state, batch):
    """`((loss, (state, metrics)), gradients)` of a step."""
    arguments = (params, state, None, batch, jax.random.key(1), jnp.int32(0))
    return jax.jit(jax.value_and_grad(objective.loss, has_aux=True))(*arguments)


# ---- Loss.


def test_loss_metrics_and_gradients(case):
    objective, (params, state), batch, loss_of, _ = case
    (loss, (new_state, measured)), grads = run_gradients(objective, params, state, batch)
    logits = train_logits(objective, params, state, batch)
    assert loss.shape == () and loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, loss_of(logits).mean(), rtol=1e-5)
    assert measured["loss"] == loss

    labels = np.asarray(batch["label"])
    if labels.ndim == 2:
        assert "accuracy" not in measured
        hits = [
            list(row > 0) == list(label == 1) for row, label in zip(logits, labels, strict=True)
        ]
        np.testing.assert_allclose(measured["exact_match"], np.mean(hits), rtol=1e-6)
    else:
        hits = (logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1)) == labels
        np.testing.assert_allclose(measured["accuracy"], hits.mean(), rtol=1e-6)

    assert jax.tree.structure(grads) == jax.tree.structure(params)
    for path, grad in jax.tree.leaves_with_path(grads):
        assert np.all(np.isfinite(grad)) and np.any(np.asarray(grad) != 0), path
    # The head's bias shifts the logits: finite differences of them give its gradient.
    step, count = 1e-4, logits.shape[1]
    expected = [
        (loss_of(logits + step * d).mean() - loss_of(logits - step * d).mean()) / (2 * step)
        for d in np.eye(count)
    ]
    np.testing.assert_allclose(grads["head"]["bias"], expected, rtol=1e-3, atol=1e-6)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)


def test_evaluation_loss_and_scores(case):
    objective, (params, state), batch, loss_of, scores_of = case
    logits = jax.jit(objective.logits)(params, state, batch)
    direct = objective.model.apply({"params": params, **state}, batch["image"], train=False)
    np.testing.assert_allclose(logits, direct, rtol=1e-5, atol=1e-6)
    assert logits.dtype == jnp.float32 and logits.shape == (8, objective.num_outputs)
    exact = np.float64(logits)
    losses = objective.example_loss(logits, batch["label"])
    np.testing.assert_allclose(losses, loss_of(exact), rtol=1e-5)
    np.testing.assert_allclose(objective.scores(logits), scores_of(exact), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_task_and_outputs(name):
    objective = make_objective(**CASES[name][0])
    tasks = {"smoothed": "softmax", "focal": "sigmoid"}
    tasks["asymmetric"] = "multi_label"
    assert objective.task == tasks.get(name, name)
    assert objective.num_outputs == (1 if name == "binary" else 4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_auto_chooses_the_loss_by_the_labels(multi_label):
    task = "multi_label" if multi_label else "softmax"
    objective = make_objective(loss="auto", multi_label=multi_label)
    assert objective.task == task
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(8, 4)))
    _, labels, loss, scores = CASES[task]
    np.testing.assert_allclose(objective.example_loss(logits, labels), loss(logits), rtol=1e-5)
    np.testing.assert_allclose(objective.scores(logits), scores(np.float64(logits)), rtol=1e-5)


def test_focal_without_alpha():
    objective = make_objective(loss="focal", alpha=None)
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(8, 4)))
    expected = 2 * focal(np.float64(logits), np.eye(4)[SINGLE], 0.5, 2.0).mean(-1)
    np.testing.assert_allclose(objective.example_loss(logits, SINGLE), expected, rtol=1e-5)


def test_masked_examples_do_not_count():
    objective = make_objective()
    params, state = make_variables(objective)
    mask = np.array([1, 1, 0, 1, 0, 1, 1, 0], np.float32)
    batch = {**make_batch(SINGLE), "mask": jnp.asarray(mask)}
    loss, (_, measured) = run_loss(objective, params, state, batch)
    logits = train_logits(objective, params, state, batch)
    losses = CASES["softmax"][2](logits)
    np.testing.assert_allclose(loss, losses[mask > 0].mean(), rtol=1e-5)
    hits = (logits.argmax(1) == SINGLE)[mask > 0]
    np.testing.assert_allclose(measured["accuracy"], hits.mean(), rtol=1e-6)


def test_padding_of_clips_does_not_count():
    """A batch with `length`: the frames after it change neither loss, features nor logits."""
    config = default_config()
    config.objective.frozen = True
    small = {"stem": "cifar", "width": 4, "stage_sizes": (1,)}
    config.model = ConfigDict({"name": "frame_average", "backbone_options": small})
    objective = create_objective(config, DataInfo(("a", "b", "c", "d"), False, (3, *SHAPE)))
    clips = np.random.default_rng(3).normal(size=(8, 3, *SHAPE)).astype(np.float32)
    length = np.array([3, 1, 2, 2, 1, 3, 2, 1])
    padding = (np.arange(3) >= length[:, None])[..., None, None, None]
    batch = {"image": jnp.asarray(clips), "label": jnp.asarray(SINGLE)}
    params, state = make_variables(objective, spec=batch)

    @jax.jit
    def measure(batch):
        loss, _ = objective.loss(params, state, None, batch, jax.random.key(0), 0)
        results = [f(params, state, batch) for f in (objective.features, objective.logits)]
        return [loss, *results]

    other = {**batch, "image": jnp.where(padding, 9.0, clips)}
    with_length = [measure({**b, "length": jnp.asarray(length)}) for b in (batch, other)]
    for found, expected in zip(*with_length, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    for found, expected in zip(measure(batch), measure(other), strict=True):
        assert np.abs(found - expected).max() > 1e-3


def test_soft_labels():
    objective = make_objective()
    params, state = make_variables(objective)
    soft = np.random.default_rng(5).dirichlet(np.ones(4), 8).astype(np.float32)
    batch = make_batch(soft)
    loss, _ = run_loss(objective, params, state, batch)
    logits = train_logits(objective, params, state, batch)
    np.testing.assert_allclose(loss, -(soft * log_softmax(logits)).sum(-1).mean(), rtol=1e-5)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "multi_label", "binary"])
def test_mixed_labels(name):
    """Mixup blends targets and images with the same weight."""
    options, labels, _, _ = CASES[name]
    objective = make_objective(**options)
    params, state = make_variables(objective)
    batch = make_batch(labels)
    mixup = [batch_transforms.mixup(1.0)]
    mixed = batch_transforms.apply(batch, jax.random.key(7), mixup, objective.num_outputs)
    images = np.float64(batch["image"])
    direction = np.roll(images, -1, axis=0) - images
    weight = ((np.float64(mixed["image"]) - images) * direction).sum() / (direction**2).sum()
    assert 0.05 < weight < 0.95
    loss, _ = run_loss(objective, params, state, mixed)

    hot = {"multi_label": MULTI, "binary": YES_NO[:, None]}.get(name, np.eye(4)[SINGLE])
    targets = (1 - weight) * hot + weight * np.roll(hot, -1, axis=0)
    logits = train_logits(objective, params, state, mixed)
    if name == "softmax":
        expected = -(targets * log_softmax(logits)).sum(-1)
    else:
        expected = binary_cross_entropy(logits, targets).mean(-1)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-4)


# ---- Model state and averages.


def test_batch_statistics_are_updated():
    objective = make_objective()
    params, state = make_variables(objective)
    batch = make_batch(SINGLE)
    _, (new_state, _) = run_loss(objective, params, state, batch)
    convolved = jax.lax.conv_general_dilated(
        batch["image"],
        params["conv1"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    old, new = state["batch_stats"]["bn1"], new_state["batch_stats"]["bn1"]
    values = np.float64(convolved)
    for key, value in (("mean", values.mean((0, 1, 2))), ("var", values.var((0, 1, 2)))):
        np.testing.assert_allclose(new[key], 0.9 * old[key] + 0.1 * value, rtol=1e-4)


def test_init_depends_on_the_seed():
    objective = make_objective(classes=7)
    init = jax.jit(lambda seed: objective.init(jax.random.key(seed), SPEC))
    (params, state), (again, _), (other, _) = init(0), init(0), init(1)
    assert set(state) == {"batch_stats"} and params["head"]["kernel"].shape == (4, 7)
    kernel = params["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, again["conv1"]["kernel"])
    assert np.any(kernel != other["conv1"]["kernel"])


def test_moving_average_without_warmup():
    objective = make_objective(ema=0.9, warmup=False)
    params, state = make_variables(objective)
    target = objective.init_target(params, state)
    expected = jax.tree.map(np.float64, {"params": params, **state})
    update = jax.jit(objective.update_target)
    for step in range(4):
        params, state = make_variables(objective, seed=step + 1)
        target = update(target, params, state, jnp.int32(step))
        current = {"params": params, **state}
        expected = jax.tree.map(lambda e, c: 0.9 * e + 0.1 * np.float64(c), expected, current)
    assert set(target) == {"params", "batch_stats"}
    jax.tree.map(lambda t, e: np.testing.assert_allclose(t, e, rtol=1e-5), target, expected)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(target))


def test_no_moving_average_by_default():
    objective = make_objective()
    params, state = make_variables(objective)
    assert objective.init_target(params, state) is None
    assert objective.update_target(None, params, state, 0) is None


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_eval_variables(ema):
    objective = make_objective(ema=ema)
    params, state = make_variables(objective)
    target = objective.init_target(*make_variables(objective, seed=1))
    train_state = TrainState(jnp.int32(3), params, state, None, target)
    variables = objective.eval_variables(train_state)
    assert set(variables) == ({"", "ema_"} if ema else {""})
    assert variables[""] == (params, state)
    if ema:
        assert variables["ema_"][0] is target["params"]
        assert set(variables["ema_"][1]) == {"batch_stats"}
        # The state itself is unchanged.
        assert set(train_state.target) == {"params", "batch_stats"}


def test_features():
    """The head is linear in the features."""
    objective = make_objective()
    params, state = make_variables(objective)
    batch = make_batch(SINGLE)
    features = np.float64(objective.features(params, state, batch))
    assert features.shape == (8, 4)
    logits = features @ np.float64(params["head"]["kernel"]) + np.float64(params["head"]["bias"])
    direct = objective.model.apply({"params": params, **state}, batch["image"], train=False)
    np.testing.assert_allclose(logits, direct, rtol=1e-4, atol=1e-5)
