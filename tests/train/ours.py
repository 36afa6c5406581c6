"""The cases of `reference.py` in this package."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from imgcls.core.defaults import default_config
from imgcls.core.durations import Durations
from imgcls.core.state import TrainState
from imgcls.data.info import DataInfo
from imgcls.distributed import sharding
from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.norm import BatchNorm
from imgcls.objectives.supervised import Supervised
from imgcls.train.optim import create_optimizer
from imgcls.train.step import make_train_step
from tests.train import reference


def lamb(always_adapt: bool) -> reference.Steps:
    """The optimizer of a config, on given gradients."""
    config = default_config()
    config.schedule.name = "constant"
    config.optim.update({"name": "lamb", "eps": reference.LAMB["eps"]})
    config.optim.learning_rate = reference.LAMB["rate"]
    config.optim.weight_decay = reference.LAMB["weight_decay"]
    config.optim.clip_norm = reference.LAMB["clip_norm"]
    config.optim.always_adapt = always_adapt
    params = jax.tree.map(jnp.asarray, reference.lamb_params())
    optimizer, _ = create_optimizer(config, Durations(config, 1000), params)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    steps = []
    for step in range(reference.NUM_STEPS):
        updates, state = update(reference.lamb_grads(step), state, params)
        params = optax.apply_updates(params, updates)
        steps.append(jax.tree.map(np.asarray, params))
    return steps


def batch_norm() -> reference.Steps:
    """BatchNorm over the full batch, with gradients by JAX."""
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), reference.norm_input(0)[0], train=False)
    params, stats = variables["params"], variables["batch_stats"]

    def loss(params, x, stats, targets):
        variables = {"params": params, "batch_stats": stats}
        y, new = layer.apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(y - targets)), new["batch_stats"]

    gradients = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
    steps = []
    for step in range(reference.NUM_STEPS):
        x, targets = reference.norm_input(step)
        (change, of_x), stats = gradients(params, x, stats, targets)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, change)
        values = {**params, **stats, "gradient of x": of_x}
        steps.append(jax.tree.map(np.asarray, values))
    return steps


class Hidden(ImageModel):
    """A hidden layer and a head."""

    @nn.compact
    def __call__(self, x, *, train=False, features=False):
        x = nn.relu(nn.Dense(5, name="hidden")(x.reshape(len(x), -1)))
        return nn.Dense(self.num_classes, name="head")(x)


def clipped() -> reference.Steps:
    """The training step with a frozen layer."""
    config = default_config()
    config.batch_size, config.data.mean, config.data.std = 8, (0.5,), (0.25,)
    config.schedule.name = "constant"
    config.optim.update({"learning_rate": 0.2, "nesterov": False})
    config.optim.clip_norm = reference.CLIP_NORM
    config.optim.multipliers = (("hidden", 0.0),)
    info = DataInfo(("a", "b", "c"), False, (2, 2, 1))
    objective = Supervised(config, info)
    objective.model = Hidden(3)
    params = jax.tree.map(jnp.asarray, reference.clipped_params())
    optimizer, schedule = create_optimizer(config, Durations(config, 1000), params)
    mesh = sharding.create_mesh(config)
    state = TrainState(jnp.zeros((), jnp.int32), params, {}, optimizer.init(params))
    placement = sharding.partition(state, mesh)
    step_fn = make_train_step(objective, optimizer, schedule, [], config, mesh, placement)
    steps = []
    for step in range(reference.NUM_STEPS):
        image, label = reference.clipped_images(step)
        batch = {"image": image, "label": label, "mask": np.ones(8, np.float32)}
        state, metrics = step_fn(state, sharding.to_global(mesh, batch, 8))
        values = {**state.params["head"], "norm": metrics["grad_norm"]}
        steps.append(jax.tree.map(np.asarray, values))
    return steps


CASES = {
    "clipped head": clipped,
    "lamb": lambda: lamb(False),
    "lamb, always adapt": lambda: lamb(True),
    "batch_norm": batch_norm,
}
# Relative and absolute tolerance. In float32, 1 - b2 ** step of the first steps of Adam is accurate
# to 6e-5, of which an update has half: up to 1e-7 of each update of 3e-3, and they add up.
TOLERANCES = {
    "clipped head": (1e-5, 1e-5),
    "lamb": (2e-6, 5e-7),
    "lamb, always adapt": (2e-6, 5e-7),
    "batch_norm": (1e-6, 1e-5),
}


def check(case: str, expected: list[dict]) -> None:
    """Runs a case and compares every step."""
    ours = CASES[case]()
    assert len(ours) == len(expected) == reference.NUM_STEPS
    rtol, atol = TOLERANCES[case]
    for step, (arrays, theirs) in enumerate(zip(ours, expected, strict=True), start=1):
        assert arrays.keys() == theirs.keys()
        for name, array in arrays.items():
            np.testing.assert_allclose(
                np.ravel(array), np.ravel(theirs[name]), rtol, atol, err_msg=f"{name}, step {step}"
            )
