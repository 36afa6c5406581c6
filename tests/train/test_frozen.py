"""Frozen parameters: not differentiated, not counted, and their BatchNorm does not change."""

import re

import jax
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.distributed import sharding
from imgcls.distributed.sharding import path_name
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


def moved_statistics(before, after) -> set[str]:
    """Layers whose running statistics changed."""
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(before.model_state["batch_stats"]),
        jax.tree.leaves(after.model_state["batch_stats"]),
        strict=True,
    )
    return {path_name(path[:-1]) for (path, old), new in pairs if np.any(old != new)}


def test_statistics_of_frozen_layers_stay():
    """Those of other layers, also of one whose bias alone is frozen, move."""
    frozen = "(('^conv1|^bn1|layer1|layer2_0/bn1/bias', 0.0),)"
    before, after, *_ = step_once(**{"optim.multipliers": frozen})
    layers = moved_statistics(before, after)
    assert layers == {f"layer2_0/{name}" for name in ("bn1", "bn2", "downsample_bn")}
    before, after, *_ = step_once(**{"optim.multipliers": frozen, "batch_norm.frozen": "train"})
    assert moved_statistics(before, after) == layers | {"bn1", "layer1_0/bn1", "layer1_0/bn2"}


def test_a_frozen_backbone_computes_as_in_evaluation():
    """The loss is that of the objective that freezes its model."""
    changes = {"optim.multipliers": BACKBONE}
    _, _, metrics, _ = step_once(**changes)
    _, _, expected, _ = step_once(**changes, **{"objective.frozen": True})
    assert metrics["loss"] == expected["loss"]
    _, _, trained, _ = step_once(**changes, **{"batch_norm.frozen": "train"})
    assert abs(trained["loss"] - expected["loss"]) > 1e-4


@pytest.mark.parametrize("key", ["variance", "frozen"])
def test_unknown_modes_of_batch_norm(key):
    with pytest.raises(ConfigError, match=f"config.batch_norm.{key}='no': unknown"):
        step_once(**{f"batch_norm.{key}": "no"})
