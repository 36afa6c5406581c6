"""Frozen parameters: not differentiated, not counted, and their BatchNorm does not change."""

import re

import jax
import numpy as np
import pytest

from imgcls.distributed import sharding
from tests.train.test_step import make_batch, make_config, start

# Everything but the head.
BACKBONE = "(('^(?!head)', 0.0),)"


def step_once(**changes):
    """(state before, state after, metrics, HLO) of a step."""
    config = make_config(**{"optim.momentum": 0.0, "optim.nesterov": False, **changes})
    config.schedule.name = "constant"
    mesh = sharding.create_mesh(config)
    state, step = start(config, mesh)
    before, batch = jax.device_get(state), make_batch(mesh, config)
    hlo = step.lower(state, batch).compile().as_text()
    state, metrics = step(state, batch)
    return before, jax.device_get(state), jax.device_get(metrics), hlo


def update_norm(before, after, layer: str | None = None) -> float:
    trees = [state.params if layer is None else state.params[layer] for state in (before, after)]
    changes = jax.tree.map(np.subtract, *trees)
    return float(np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(changes))))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_head_gets_all_of_the_clipped_norm(accumulate):
    """As torch's clip_grad_norm_ over the parameters that have gradients."""
    changes = {"optim.clip_norm": 0.01, "optim.learning_rate": 1.0, "accumulate": accumulate}
    before, after, metrics, _ = step_once(**changes, **{"optim.multipliers": BACKBONE})
    assert metrics["grad_norm"] > 0.01
    assert update_norm(before, after, "head") == pytest.approx(0.01, rel=1e-5)
    assert update_norm(before, after) == pytest.approx(0.01, rel=1e-5)
    _, _, free, _ = step_once(**changes)
    assert free["grad_norm"] > metrics["grad_norm"]


def test_frozen_layers_have_no_backward_pass():
    """A convolution has two more in the backward pass, but the first layer's only one."""

    def convolutions(**changes) -> int:
        *_, hlo = step_once(**changes)
        return len(re.findall(r" convolution\(|custom_call_target=\"__onednn\$convolution", hlo))

    forward = convolutions(**{"optim.multipliers": BACKBONE})
    assert forward < convolutions(**{"optim.multipliers": "(('layer1', 0.0),)"})
    assert convolutions() == 3 * forward - 1


def test_states_of_the_optimizer_keep_their_shapes():
    """So that checkpoints from before parameters were frozen, or from older versions, load."""

    def shapes(**changes):
        config = make_config(**{"optim.name": "adamw", **changes})
        state, _ = start(config, sharding.create_mesh(config))
        return jax.tree.map(lambda x: (x.shape, x.dtype), state.opt_state)

    assert shapes(**{"optim.multipliers": BACKBONE}) == shapes(
        **{"optim.multipliers": "(('head', 0.5),)"}
    )
