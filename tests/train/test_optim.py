"""Optimizers against NumPy implementations, and their settings."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.train import optim
from tests.train.schedules import EXAMPLES, make_config, warmup_cosine

NUM_STEPS = 6


@pytest.fixture
def config():
    return make_config()


def make_params() -> dict:
    """A tree of parameters with and without weight decay."""
    rng = np.random.default_rng(0)
    shapes = {
        "conv1": {"kernel": (3, 4)},
        "bn1": {"scale": (4,), "bias": (4,)},
        "head": {"kernel": (4, 2), "bias": (2,)},
    }
    return {
        layer: {key: rng.normal(size=shape).astype(np.float32) for key, shape in arrays.items()}
        for layer, arrays in shapes.items()
    }


def make_grads(step: int) -> dict:
    rng = np.random.default_rng(100 + step)
    return jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), make_params())


def names_of(tree) -> list[str]:
    return ["/".join(str(k.key) for k in path) for path, _ in jax.tree.leaves_with_path(tree)]


def run_ours(config, num_steps: int = NUM_STEPS) -> dict[str, np.ndarray]:
    params = jax.tree.map(jnp.asarray, make_params())
    optimizer, _ = optim.create_optimizer(config, Durations(config, EXAMPLES), params)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for step in range(num_steps):
        updates, state = update(make_grads(step), state, params)
        params = optax.apply_updates(params, updates)
    return dict(zip(names_of(params), map(np.asarray, jax.tree.leaves(params)), strict=True))


def run_numpy(config, rule, num_steps: int = NUM_STEPS) -> dict[str, np.ndarray]:
    """`rule(param, grad, memory, rate, step, decays) -> new param`, in float64, leaf by leaf."""
    names = names_of(make_params())
    params = {n: np.float64(p) for n, p in zip(names, jax.tree.leaves(make_params()), strict=True)}
    memory = {name: {} for name in names}
    for step in range(num_steps):
        rate = warmup_cosine(step, peak=config.optim.learning_rate, warmup=2, total=100)
        grads = dict(zip(names, map(np.float64, jax.tree.leaves(make_grads(step))), strict=True))
        if config.optim.clip_norm is not None:
            norm = math.sqrt(sum((g**2).sum() for g in grads.values()))
            grads = {n: g * min(1, config.optim.clip_norm / norm) for n, g in grads.items()}
        for name in names:
            decays = name.endswith("kernel")
            params[name] = rule(params[name], grads[name], memory[name], rate, step, decays)
    return params


def check(ours: dict, expected: dict) -> None:
    assert ours.keys() == expected.keys()
    start = dict(zip(names_of(make_params()), jax.tree.leaves(make_params()), strict=True))
    for name, value in expected.items():
        assert ours[name].dtype == np.float32
        assert not np.allclose(value, start[name], atol=1e-4)
        np.testing.assert_allclose(ours[name], value, rtol=2e-5, atol=2e-6, err_msg=name)


def adam_direction(c, grad, memory, step, b1=0.9, b2=0.999):
    memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * grad
    memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * grad**2
    m, v = memory["m"] / (1 - b1 ** (step + 1)), memory["v"] / (1 - b2 ** (step + 1))
    return m / (np.sqrt(v) + c.eps)


# ---- Optimizers.


@pytest.mark.parametrize("clip_norm", [None, 1.0, 1e6])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, False)])
def test_sgd(config, momentum, nesterov, clip_norm):
    config.optim.update(
        {"name": "sgd", "momentum": momentum, "nesterov": nesterov, "weight_decay": 0.1}
    )
    config.optim.clip_norm = clip_norm

    def rule(param, grad, memory, rate, step, decays):
        grad = grad + 0.1 * param * decays
        velocity = memory["v"] = momentum * memory.get("v", 0) + grad
        return param - rate * (grad + momentum * velocity if nesterov else velocity)

    check(run_ours(config), run_numpy(config, rule))


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, False), (0.9, True), (0.0, False)])
def test_rmsprop(config, momentum, nesterov, clip_norm):
    """RMSProp as in TensorFlow, without default values."""
    config.optim.update({"name": "rmsprop", "learning_rate": 0.05, "weight_decay": 0.1})
    config.optim.update({"decay": 0.8, "eps": 0.5, "momentum": momentum, "nesterov": nesterov})
    config.optim.clip_norm = clip_norm

    def rule(param, grad, memory, rate, step, decays):
        grad = grad + 0.1 * param * decays
        memory["s"] = 0.8 * memory.get("s", 1) + 0.2 * grad**2
        update = rate * grad / np.sqrt(memory["s"] + 0.5)
        velocity = memory["v"] = momentum * memory.get("v", 0) + update
        return param - (update + momentum * velocity if nesterov else velocity)

    check(run_ours(config), run_numpy(config, rule))


def test_adam(config):
    config.optim.update({"name": "adam", "learning_rate": 0.01, "weight_decay": 0.1})

    def rule(param, grad, memory, rate, step, decays):
        return param - rate * adam_direction(
            config.optim, grad + 0.1 * param * decays, memory, step
        )

    check(run_ours(config), run_numpy(config, rule))


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_adamw(config, clip_norm):
    config.optim.update({"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "b2": 0.95})
    config.optim.update({"b1": 0.8, "eps": 1e-3})
    config.optim.clip_norm = clip_norm

    def rule(param, grad, memory, rate, step, decays):
        direction = adam_direction(config.optim, grad, memory, step, b1=0.8, b2=0.95)
        return param - rate * (direction + 0.1 * param * decays)

    check(run_ours(config), run_numpy(config, rule))


@pytest.mark.parametrize(("decay", "always"), [(0.1, False), (0.1, True), (0.0, False)])
def test_lamb(config, decay, always):
    """You et al. 2019, arXiv:1904.00962, algorithm 2; Adam where no weight decay applies."""
    config.optim.update({"name": "lamb", "learning_rate": 0.01, "weight_decay": decay})
    config.optim.always_adapt = always

    def rule(param, grad, memory, rate, step, decays):
        direction = adam_direction(config.optim, grad, memory, step) + decay * param * decays
        if always or decay and decays:
            direction = direction * np.linalg.norm(param) / np.linalg.norm(direction)
        return param - rate * direction

    check(run_ours(config), run_numpy(config, rule))


@pytest.mark.parametrize("nesterov", [True, False])
def test_lars(config, nesterov):
    """You et al. 2017, arXiv:1708.03888, algorithm 1; plain SGD for biases and norms."""
    config.optim.update({"name": "lars", "learning_rate": 1.0, "weight_decay": 0.1})
    config.optim.update({"trust_coefficient": 0.02, "nesterov": nesterov})

    def rule(param, grad, memory, rate, step, decays):
        grad = grad + 0.1 * param * decays
        if decays:
            grad = grad * 0.02 * np.linalg.norm(param) / np.linalg.norm(grad)
        update = rate * grad
        velocity = memory["v"] = 0.9 * memory.get("v", 0) + update
        return param - (update + 0.9 * velocity if nesterov else velocity)

    check(run_ours(config), run_numpy(config, rule))


def test_everything_decays_without_exclusions(config):
    config.optim.update({"name": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.1})
    config.optim.decay_exclude = ""

    def rule(param, grad, memory, rate, step, decays):
        return param - rate * (grad + 0.1 * param)

    check(run_ours(config), run_numpy(config, rule))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize(
    ("exclude", "kept"),
    [
        (r"bias|scale|pos_embed|cls_token|gamma", {"conv1/kernel", "head/kernel"}),
        (r"^head", {"conv1/kernel", "bn1/scale", "bn1/bias"}),
    ],
)
def test_parameters_with_weight_decay(config, name, exclude, kept):
    """With zero gradients, only weight decay changes a parameter."""
    config.optim.update({"name": name, "weight_decay": 0.1, "decay_exclude": exclude})
    params = jax.tree.map(jnp.asarray, make_params())
    optimizer, _ = optim.create_optimizer(config, Durations(config, EXAMPLES), params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    moved = [np.any(np.asarray(u) != 0) for u in jax.tree.leaves(updates)]
    assert {n for n, m in zip(names_of(params), moved, strict=True) if m} == kept


def test_masks_need_only_shapes(config):
    config.optim.update({"name": "adamw", "weight_decay": 0.1, "multipliers": (("head", 0.5),)})
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, make_params()))
    optimizer, _ = optim.create_optimizer(config, Durations(config, EXAMPLES), shapes)
    state = jax.eval_shape(optimizer.init, shapes)
    updates, _ = jax.eval_shape(optimizer.update, shapes, state, shapes)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), updates) == jax.tree.map(
        lambda x: (x.shape, x.dtype), shapes
    )


# ---- Multipliers.


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_multipliers(config, name):
    """The first step's update is scaled by the first regex that matches; 0 freezes."""
    config.optim.update({"name": name, "weight_decay": 0.1})
    plain = run_ours(config, 1)
    config.optim.multipliers = (("head/bias", 3.0), ("head", 0.5), ("conv|bn1/scale", 0))
    scaled = run_ours(config, 1)
    start = dict(zip(names_of(make_params()), jax.tree.leaves(make_params()), strict=True))
    factors = {"head/bias": 3.0, "head/kernel": 0.5, "bn1/bias": 1.0}
    for key, factor in factors.items():
        expected = start[key] + factor * (plain[key] - start[key])
        np.testing.assert_allclose(scaled[key], expected, rtol=1e-5, atol=1e-7)
    for key in ("conv1/kernel", "bn1/scale"):
        np.testing.assert_array_equal(scaled[key], start[key])
        assert np.any(plain[key] != start[key])


def test_frozen_parameters_never_move(config):
    config.optim.update({"name": "adamw", "learning_rate": 0.1, "weight_decay": 0.5})
    config.optim.multipliers = (("conv1|bn1", 0.0),)
    frozen = run_ours(config)
    config.optim.multipliers = ()
    free = run_ours(config)
    start = dict(zip(names_of(make_params()), jax.tree.leaves(make_params()), strict=True))
    for name in ("conv1/kernel", "bn1/scale", "bn1/bias"):
        np.testing.assert_array_equal(frozen[name], start[name])
    for name in ("head/kernel", "head/bias"):
        np.testing.assert_array_equal(frozen[name], free[name])


def test_optimizer_uses_the_schedule(config):
    """Each update of plain SGD is the scheduled rate times the gradient."""
    config.optim.update({"name": "sgd", "momentum": 0.0, "nesterov": False})
    params = {"kernel": jnp.zeros(3)}
    optimizer, schedule = optim.create_optimizer(config, Durations(config, EXAMPLES), params)
    state = optimizer.init(params)
    for step in range(5):
        updates, state = optimizer.update({"kernel": jnp.ones(3)}, state, params)
        np.testing.assert_allclose(updates["kernel"], -np.full(3, schedule(step)), rtol=1e-6)


# ---- Invalid configs.


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("optim", "name", "adamax", "config.optim.name='adamax': unknown; did you mean 'adam"),
        ("schedule", "name", "cosin", "config.schedule.name='cosin': .*did you mean 'cosine'"),
        ("schedule", "warmup", "soon", "config.schedule.warmup='soon': not a duration"),
        ("schedule", "boundaries", ("30",), "config.schedule.boundaries='30': not a duration"),
        ("schedule", "timescale", "x", "config.schedule.timescale='x': not a duration"),
        ("schedule", "cooldown", "x", "config.schedule.cooldown='x': not a duration"),
        ("optim", "multipliers", (("haed", 0.1),), "multipliers: 'haed' matches no parameter"),
        ("optim", "multipliers", (("(", 0.1),), r"'\(' is not a regular expression"),
        ("optim", "decay_exclude", "[", r"'\[' is not a regular expression"),
        ("optim", "multipliers", ("head", 0.1), "config.optim.multipliers"),
        ("optim", "multipliers", (("head", "x"),), "config.optim.multipliers"),
    ],
)
def test_invalid_configs(config, section, key, value, message):
    config.schedule.name = {"boundaries": "step", "timescale": "rsqrt"}.get(key, "cosine")
    config[section][key] = value
    with pytest.raises(ConfigError, match=message):
        optim.create_optimizer(config, Durations(config, EXAMPLES), make_params())
