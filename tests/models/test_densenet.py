"""DenseNets of images and volumes: names, the counts and logits of MONAI, options."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from imgcls.models.densenet import DenseLayer
from imgcls.models.layers.conv import conv
from imgcls.models.layers.norm import BatchNorm
from imgcls.models.registry import list_models
from tests.models.test_resnet import formula
from tests.models.test_resnet3d import KEY, count, shapes


def test_names():
    depths = (121, 161, 169, 201)
    assert list_models("densenet*") == [*(f"densenet{n}" for n in depths), "densenet3d_121"]


@pytest.mark.parametrize(("classes", "expected"), [(2, 11_244_674), (1000, 12_267_624)])
def test_parameters(classes, expected):
    """MONAI 1.6.1, `DenseNet121(spatial_dims=3, in_channels=1)`."""
    assert count("densenet3d_121", num_classes=classes) == expected


def test_logits_of_monai():
    """Its `DenseNet` (1.6.1) in float64 with the same weights; transitions meet odd sides."""
    x = np.sin(np.arange(2 * 28 * 20 * 22) ** 1.2).reshape(2, 28, 20, 22, 1).astype(np.float32)
    name, sizes = "densenet3d_121", (2, 3, 2)
    model = create_model(name, 3, in_channels=1, stage_sizes=sizes, growth=8, width=16)
    logits = jax.jit(model.apply)(formula(shapes(model)), x)
    expected = [[1.14191852, 1.39299968, 0.33958585], [1.14013398, 1.42410362, 0.29444308]]
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_dropout_is_of_new_channels():
    convolution = functools.partial(conv, axes=2, dtype=jnp.float32)
    layer = DenseLayer(100, 0.5, convolution, functools.partial(BatchNorm, 2))
    x = np.sin(np.arange(2 * 4 * 4 * 8)).reshape(2, 4, 4, 8).astype(np.float32)
    variables = formula(jax.eval_shape(functools.partial(layer.init, train=False), KEY, x))
    apply = functools.partial(layer.apply, train=True, mutable=["batch_stats"])
    y, _ = jax.jit(lambda x: apply(variables, x, rngs={"dropout": KEY}))(x)
    np.testing.assert_array_equal(y[..., :8], x)
    assert 0.4 < np.mean(y[..., 8:] == 0) < 0.6


def test_unknown_stem():
    with pytest.raises(ConfigError, match="DenseNet stem is 'big': write one of 'imagenet'"):
        shapes(create_model("densenet3d_121", 2, in_channels=1, stem="big"))
