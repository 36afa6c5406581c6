"""The base of pre-training objectives: passes over several views, features, and metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.objectives.create import create_objective
from imgcls.objectives.joint_embedding import interleave, separate
from imgcls.objectives.simclr import contrast_accuracy
from tests.objectives.test_every_objective import INFO, make_batch, make_config


@pytest.mark.parametrize("group", [None, 2, 6])
def test_views_are_interleaved_in_groups(group):
    views = [jnp.arange(12) + 100 * v for v in range(3)]
    joined = interleave(views, group)
    size = group or 1
    expected = [v[i : i + size] for i in range(0, 12, size) for v in views]
    np.testing.assert_array_equal(joined, np.concatenate(expected))
    for view, separated in zip(views, separate(joined, 3, group), strict=True):
        np.testing.assert_array_equal(separated, view)


def test_batch_norm_groups_contain_one_view():
    """Each view has the same projections with and without the other view."""
    objective = create_objective(make_config("simclr"), INFO)
    batch = make_batch(views=2)
    params, state = objective.init(jax.random.key(0), {"image": batch["image"]})
    rng = jax.random.key(0)
    pair = {"image": batch["image"], "image2": 3 * batch["image2"]}
    features, (z1, z2), _ = objective.project(params, state, pair, rng)
    alone, (expected1,), _ = objective.project(params, state, {"image": pair["image"]}, rng)
    _, (expected2,), _ = objective.project(params, state, {"image": pair["image2"]}, rng)
    np.testing.assert_allclose(z1, expected1, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(z2, expected2, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(features, alone, rtol=1e-3, atol=1e-4)


def test_contrast_accuracy():
    z = jnp.eye(5)
    assert contrast_accuracy(z, 3 * z) == 1
    assert contrast_accuracy(z, jnp.roll(z, 1, axis=0)) == 0
    assert float(contrast_accuracy(z, z[jnp.array([1, 0, 2, 3, 4])])) == pytest.approx(0.6)


@pytest.mark.parametrize("name", ["simclr", "mae"])
def test_features_are_those_of_the_backbone(name):
    """In evaluation mode, with the shapes of every feature layer."""
    objective, batch = create_objective(make_config(name), INFO), make_batch()
    params, state = objective.init(jax.random.key(0), {"image": batch["image"]})
    variables = {k: v["backbone"] for k, v in {"params": params, **state}.items()}
    expected = objective.model.apply(variables, batch["image"], train=False, features=True)
    np.testing.assert_allclose(objective.features(params, state, batch), expected, rtol=1e-6)
    shapes = [
        objective.features(params, state, batch, layer).shape for layer in objective.feature_layers
    ]
    assert shapes == {"simclr": [(32, 8), (32, 128)], "mae": [(32, 32)]}[name]


@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_vit_backbone(name):
    """Without BatchNorm in the backbone, that of the heads uses the full batch."""
    config = make_config(name)
    config.model = dict(name="vit_ti2", width=32, depth=1, num_heads=2, mlp_dim=64)
    objective, batch = create_objective(config, INFO), make_batch(views=2, rows=8)
    params, state = objective.init(jax.random.key(0), {"image": batch["image"]})
    target = objective.init_target(params, state)

    def loss(params):
        return objective.loss(params, state, target, batch, jax.random.key(1), 0)[0]

    grads = jax.jit(jax.grad(loss))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert jnp.abs(grads["backbone"]["patch_embed"]["kernel"]).max() > 0
