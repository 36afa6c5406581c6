"""BYOL: the loss, the teacher's update and gradient, and the schedule of tau."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.durations import Durations
from imgcls.data.info import DataInfo
from imgcls.distributed import sharding
from imgcls.objectives.create import create_objective
from imgcls.train import optim
from imgcls.train.step import create_state, make_train_step
from tests.conftest import make_mesh
from tests.objectives.test_every_objective import INFO, make_batch, make_config

TAU, TOTAL = 0.9, 7


@pytest.fixture(scope="module")
def config():
    return make_config("byol", f"--config.total={TOTAL} steps", f"--config.objective.tau={TAU}")


def average(tau: float, teacher: np.ndarray, student) -> np.ndarray:
    return tau * teacher + (1 - tau) * np.asarray(student, np.float64)


def test_teacher_follows_the_schedule_of_tau(config):
    """Compares three training steps with the paper's formula in NumPy."""
    config.schedule.warmup = "0 steps"
    mesh, objective = make_mesh(), create_objective(config, INFO)
    batch = make_batch(views=2)
    spec = {"image": jax.ShapeDtypeStruct((32, 8, 8, 1), jnp.uint8)}
    params, _ = jax.eval_shape(lambda: objective.init(jax.random.key(0), spec))
    durations = Durations(config, INFO.num_examples)
    optimizer, schedule = optim.create_optimizer(config, durations, params)
    state = jax.jit(lambda: create_state(objective, optimizer, 0, spec))()
    placement = sharding.partition(jax.eval_shape(lambda: state), mesh)
    step_fn = make_train_step(objective, optimizer, schedule, [], config, mesh, placement)

    teacher = jax.tree.map(lambda x: np.asarray(x, np.float64), state.target)
    assert teacher.keys() == {"backbone", "projector"}
    jax.tree.map(np.testing.assert_array_equal, teacher, {k: state.params[k] for k in teacher})
    batch = {k: v * 50 + 100 if k.startswith("image") else v for k, v in batch.items()}
    for k in range(3):
        state, metrics = step_fn(state, batch)
        tau = 1 - (1 - TAU) * (math.cos(math.pi * k / TOTAL) + 1) / 2
        assert float(metrics["tau"]) == pytest.approx(tau, abs=1e-6)
        student = {k: state.params[k] for k in teacher}
        teacher = jax.tree.map(functools.partial(average, tau), teacher, student)
        jax.tree.map(
            lambda t, actual: np.testing.assert_allclose(actual, t, rtol=1e-5, atol=1e-7),
            teacher,
            state.target,
        )
    difference = np.abs(
        state.target["projector"]["fc0"]["kernel"] - student["projector"]["fc0"]["kernel"]
    )
    assert difference.max() > 1e-4, "the teacher equals the student"
    assert float(objective.decay(TOTAL)) == float(objective.decay(TOTAL + 5)) == 1.0


def test_teacher_gets_no_gradient(config):
    objective = create_objective(config, INFO)
    batch = make_batch(views=2)
    params, model_state = objective.init(jax.random.key(0), {"image": batch["image"]})
    target = jax.tree.map(lambda x: x + 0.01, objective.init_target(params, model_state))

    def loss(params, target):
        return objective.loss(params, model_state, target, batch, jax.random.key(1), 0)[0]

    grads, target_grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, target)
    assert all(not leaf.any() for leaf in jax.tree.leaves(target_grads))
    for part in ("backbone", "projector", "predictor"):
        assert any(leaf.any() for leaf in jax.tree.leaves(grads[part])), part


@pytest.mark.parametrize("group", [8, None])
def test_loss_by_hand(config, group):
    """Equation 2 for both orders of the views, with one pass per view."""
    config = config.copy_and_resolve_references()
    config.objective.probe = False
    config.model.virtual_batch_size = group
    objective, batch = create_objective(config, INFO), make_batch(views=2)
    params, model_state = objective.init(jax.random.key(0), {"image": batch["image"]})
    target = jax.tree.map(lambda x: 1.1 * x, objective.init_target(params, model_state))
    loss, (new_state, _) = objective.loss(params, model_state, target, batch, jax.random.key(1), 0)

    def outputs(params, image, method=None):
        return objective.network.apply(
            {"params": params, **model_state},
            image,
            train=True,
            method=method,
            mutable=["batch_stats"],
        )

    expected, stats = 0.0, []
    for one, other in (("image", "image2"), ("image2", "image")):
        (_, _, p), state = outputs(params, batch[one])
        z, _ = outputs(target, batch[other], "teach")
        p, z = np.asarray(p, np.float64), np.asarray(z, np.float64)
        for row_p, row_z in zip(p, z, strict=True):
            cosine = row_p @ row_z / np.linalg.norm(row_p) / np.linalg.norm(row_z)
            expected += (2 - 2 * cosine) / len(p)
        stats.append(state["batch_stats"])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    # Running statistics are updated once, with the mean over both views.
    jax.tree.map(
        lambda new, a, b: np.testing.assert_allclose(new, (a + b) / 2, rtol=1e-4, atol=1e-6),
        new_state["batch_stats"],
        *stats,
    )


def test_epochs_are_of_the_training_split():
    config = make_config("byol", "--config.total=2 epochs", "--config.batch_size=100")
    objective = create_objective(config, DataInfo(INFO.class_names, False, (8, 8, 1), 1_000))
    assert float(objective.decay(10)) == pytest.approx(1 - (1 - 0.996) / 2, abs=1e-6)
