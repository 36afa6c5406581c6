"""VoxNet: the paper's count, logits computed with torch, and sizes."""

import jax
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from tests.models.test_resnet import formula
from tests.models.test_resnet3d import KEY, shapes


def test_parameters():
    """For ModelNet40, as published."""
    model = create_model("voxnet", 40, in_channels=1)
    leaves = jax.tree.leaves(shapes(model, side=32))
    assert sum(leaf.size for leaf in leaves) == 921_736


def test_logits():
    """`Conv3d`, `leaky_relu`, `max_pool3d` and `Linear` of torch 2.13 in float64."""
    x = np.sin(np.arange(2 * 32**3) ** 1.2).reshape(2, 32, 32, 32, 1).astype(np.float32)
    model = create_model("voxnet", 3, in_channels=1, width=4, hidden=8)
    logits = jax.jit(model.apply)(formula(shapes(model, side=32)), x)
    expected = [[1.76149124, -1.02838876, -0.07758384], [2.09892332, -1.39210618, -0.05637462]]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("side", "stride"), [(11, 2), (28, 1), (64, 2), (64, 4)])
def test_other_sizes_have_the_same_parameters(side, stride):
    model = create_model("voxnet", 10, in_channels=1, stride=stride)
    tree = shapes(model, side=side)
    assert tree == shapes(create_model("voxnet", 10, in_channels=1), side=32)


def test_too_small_volumes_are_reported():
    with pytest.raises(ConfigError, match="10x10x10 .* are too small: every side .* 11 or more"):
        shapes(create_model("voxnet", 10, in_channels=1), side=10)


def test_dropout():
    model = create_model("voxnet", 3, in_channels=1, width=2, hidden=4, drop_rate=0.5)
    x = np.sin(np.arange(2 * 11**3) ** 1.2).reshape(2, 11, 11, 11, 1).astype(np.float32)
    variables = formula(shapes(model, side=11))

    @jax.jit
    def logits(x):
        plain = model.clone(drop_rate=0.0).apply(variables, x, train=True)
        dropped = model.apply(variables, x, train=True, rngs={"dropout": KEY})
        return model.apply(variables, x), plain, dropped

    evaluated, plain, dropped = logits(x)
    np.testing.assert_allclose(evaluated, plain, rtol=1e-6)
    assert np.abs(evaluated - dropped).min() > 1e-4
