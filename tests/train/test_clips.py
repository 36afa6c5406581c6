"""Every model of clips takes steps of an optimizer."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.conftest import make_mesh
from tests.models.test_clips import SMALL
from tests.train.test_step import make_batch, make_config, start

# Others of a family are tested with the slow tests.
FIRST = ("cnn_lstm", "r2plus1d_18", "vivit_b16x2")
MODELS = [n if n in FIRST else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]


@pytest.mark.parametrize("name", MODELS)
def test_a_step_lowers_the_loss(name):
    """Of the same batch, on two devices; every parameter is finite, and most have moved."""
    config = make_config(batch_size=8)
    config.optim.update(name="adamw", learning_rate=1e-3)
    config.data.mean, config.data.std = (0.5,) * 3, (0.25,) * 3
    config.model = ConfigDict(dict(name=name, drop_rate=0.0, **SMALL[name][0]))
    side = 32 if name == "s3d" else 16
    shape, mesh = (8, side, side, 3), make_mesh(data=2)
    state, step = start(config, mesh, shape=shape)
    before, losses = jax.device_get(state.params), []
    for _ in range(3):
        state, metrics = step(state, make_batch(mesh, config, shape))
        losses.append(float(metrics["loss"]))
    assert losses[2] < losses[0] and np.isfinite(losses).all()
    after = jax.device_get(state.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert np.mean(jax.tree.leaves(moved)) > 0.9
