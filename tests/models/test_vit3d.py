"""ViTs of volumes: MONAI's counts and logits, positions over three axes, flat patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from imgcls.models.layers.positions import resample_positions, sincos_positions
from imgcls.models.registry import list_models
from tests.models.test_resnet import formula
from tests.models.test_resnet3d import KEY, count, shapes


def tiny(**options):
    sizes = dict(width=12, depth=1, num_heads=2, mlp_dim=16, in_channels=1)
    return create_model("vit3d_ti4", 3, **{**sizes, **options})


def test_names():
    assert list_models("vit3d_*") == [
        "vit3d_b16",
        "vit3d_b16x2",
        "vit3d_b8",
        "vit3d_s8",
        "vit3d_ti8",
    ]
    assert create_model("vit3d_l2", 3).patch_sides == (2, 2, 2)


def test_parameters():
    """MONAI 1.6.1, `ViT(1, 64, 8, classification=True, post_activation="", qkv_bias=True)`, which
    has 18,432 more: norms of a cross-attention that it does not compute."""
    model = create_model("vit3d_b8", 2, in_channels=1, embed_prefix=False)
    leaves = jax.tree.leaves(shapes(model, side=64))
    assert sum(leaf.size for leaf in leaves) == 85_863_938 - 18_432
    assert count("vit3d_ti8", num_classes=2) < 6_000_000


def test_logits_of_monai():
    """The same class in float64 with the same weights, for volumes of unequal sides."""
    x = np.sin(np.arange(2 * 24 * 16 * 32) ** 1.2).reshape(2, 24, 16, 32, 1).astype(np.float32)
    model = create_model(
        *("vit3d_ti8", 3),
        in_channels=1,
        width=16,
        depth=2,
        num_heads=2,
        mlp_dim=32,
        embed_prefix=False,
        norm_epsilon=1e-5,
    )
    logits = jax.jit(model.apply)(formula(jax.eval_shape(model.init, KEY, x)), x)
    expected = [[0.97242328, -1.41929615, 2.46010095], [0.93283727, -1.42781782, 2.46278389]]
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_sincos3d():
    """The voxel (1, 0, 2) of a grid 2 x 2 x 3, with one wavelength for each axis."""
    table = sincos_positions((2, 2, 3), 6)
    expected = [np.sin(2), np.cos(2), np.sin(0), np.cos(0), np.sin(1), np.cos(1)]
    np.testing.assert_allclose(table[1 * 6 + 0 * 3 + 2], expected, rtol=1e-6)
    odd = sincos_positions((2, 2, 3), 10)
    np.testing.assert_array_equal(odd, np.pad(table, ((0, 0), (0, 4))))
    params = shapes(tiny(pos_embed="sincos3d"), side=8)["params"]
    assert "pos_embed" not in params


def test_other_sizes_resample_the_positions():
    """Along each axis alone: a linear table stays linear in its middle."""
    table = jnp.arange(4.0)[:, None, None, None] * jnp.ones((4, 4, 4, 1))
    positions = resample_positions(table.reshape(1, 64, 1), (8, 4, 2), 0).reshape(8, 4, 2)
    np.testing.assert_allclose(positions, positions[:, :1, :1] * np.ones((1, 4, 2)), atol=1e-5)
    np.testing.assert_allclose(np.diff(positions[2:6, 0, 0]), 0.5, atol=0.05)
    state = shapes(tiny(), side=8)
    x = jax.ShapeDtypeStruct((2, 12, 8, 4, 1), jnp.float32)
    assert jax.eval_shape(tiny().apply, state, x).shape == (2, 3)


def test_flat_patches():
    """As many patches as slices where a patch has a depth of one."""
    model = tiny(patch_depth=1)
    params = shapes(model, side=8)["params"]
    assert params["patch_embed"]["kernel"].shape == (1, 4, 4, 1, 12)
    assert params["pos_embed"].shape == (1, 1 + 8 * 2 * 2, 12)


@pytest.mark.parametrize(
    ("options", "side", "message"),
    [
        ({}, 6, "images of 6x6x6 do not divide into patches of 4: make"),
        (dict(patch_depth=3), 8, "8x8x8 do not divide into patches of 3x4x4"),
        (dict(pos_embed="sincos2d"), 8, "pos_embed is 'sincos2d': write 'learned' or 'sincos3d'"),
    ],
)
def test_mistakes(options, side, message):
    with pytest.raises(ConfigError, match=message):
        shapes(tiny(**options), side=side)


def test_positions_that_are_no_cube_are_not_resampled():
    with pytest.raises(ConfigError, match="9 tokens, of which 1 .* are not a cube|8 tokens"):
        resample_positions(jnp.zeros((1, 8, 4)), (2, 2, 2), 1)
