"""ResNets of volumes: the published layouts and counts, MONAI's logits, and what they share."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from imgcls.models.registry import list_models
from tests.models.test_resnet import formula

KEY = jax.random.key(0)


def shapes(model, side=16, channels=1):
    x = jax.ShapeDtypeStruct((1, side, side, side, channels), jnp.float32)
    return jax.eval_shape(model.init, KEY, x)


def count(model, **options) -> int:
    tree = shapes(create_model(model, in_channels=1, **options))["params"]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def test_names():
    assert list_models("resnet3d_*") == [f"resnet3d_{depth}" for depth in (10, 18, 34, 50)]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # MONAI 1.6.1, `ResNet(block, layers, get_inplanes(), n_input_channels=1, num_classes=1000,
        # bias_downsample=False)`, shortcut_type "A" where it is "pad". Without the head these are
        # MedicalNet's: 14.36, 32.99, 63.30 and 46.16 million.
        ("resnet3d_10", dict(num_classes=1000), 14_868_520),
        ("resnet3d_18", dict(num_classes=1000, shortcut="pad"), 33_499_176),
        ("resnet3d_18", dict(num_classes=1000), 33_673_000),
        ("resnet3d_34", dict(num_classes=1000, shortcut="pad"), 63_808_808),
        ("resnet3d_34", dict(num_classes=1000), 63_982_632),
        ("resnet3d_50", dict(num_classes=1000), 48_204_072),
        # MedMNIST's for OrganMNIST3D: a first kernel of 3x3x3 (the same class with
        # `conv1_t_size=3, conv1_t_stride=1, no_max_pool=True`).
        ("resnet3d_18", dict(num_classes=11, stem="cifar"), 33_145_419),
        ("resnet3d_50", dict(num_classes=11, stem="cifar"), 46_157_387),
        # MONAI 1.6.1, `SEResNet50(spatial_dims=3, in_channels=1)`.
        ("seresnet3d_50", dict(num_classes=1000), 50_735_064),
    ],
)
def test_parameters(name, options, expected):
    assert count(name, **options) == expected


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (
            "resnet3d_10",
            dict(shortcut="pad"),
            [[0.46834535, 0.77041466, 1.63717633], [0.40456812, 0.81842752, 1.78474023]],
        ),
        (
            "resnet3d_50",
            dict(stage_sizes=(1, 1, 1, 1), width=16),
            [[0.75899814, 1.59297014, 1.38668088], [0.94871777, 1.75580417, 1.48869308]],
        ),
        (
            "resnet3d_18",
            dict(stem="cifar", width=16),
            [[1.11393334, 1.18573694, 1.19302109], [1.00941892, 1.21257704, 1.23634821]],
        ),
        (
            # Its `SENet`, with the stride on the 3x3x3 convolution and its max-pool padded by 1.
            "seresnet3d_50",
            dict(stage_sizes=(1, 1, 1, 1), width=16),
            [[1.48335913, 1.50454294, 0.87405556], [1.5127686, 1.58406476, 1.12907809]],
        ),
    ],
)
def test_logits_of_monai(name, options, expected):
    """Its networks (1.6.1) in float64 with the same weights."""
    x = np.sin(np.arange(2 * 16**3) ** 1.2).reshape(2, 16, 16, 16, 1).astype(np.float32)
    model = create_model(name, 3, in_channels=1, **options)
    logits = jax.jit(model.apply)(formula(shapes(model)), x)
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("stem", "side", "first"), [("imagenet", 64, 16), ("stride2", 64, 32), ("cifar", 28, 28)]
)
def test_stems(stem, side, first):
    """The side of the first stage's map; each later stage halves it."""
    model = create_model("resnet3d_10", 2, in_channels=1, stem=stem)
    x = jax.ShapeDtypeStruct((1, side, side, side, 1), jnp.float32)

    def maps(variables, x):
        return model.apply(variables, x, capture_intermediates=True)[1]["intermediates"]

    found = jax.eval_shape(maps, shapes(model, side), x)
    sides = [found[f"layer{stage}_0"]["__call__"][0].shape[1:4] for stage in range(1, 5)]
    assert sides == [(-(-first // 2**stage),) * 3 for stage in range(4)]


@pytest.mark.parametrize("name", ["resnet3d_10", "seresnet3d_50", "densenet3d_121"])
@pytest.mark.parametrize("shape", [(5, 9, 12), (1, 1, 1)])
def test_any_shape(name, shape):
    model = create_model(name, 5, in_channels=2, stage_sizes=(1, 1, 1, 1), width=16)
    x = jax.ShapeDtypeStruct((2, *shape, 2), jnp.float32)
    logits, _ = jax.eval_shape(lambda x: model.init_with_output(KEY, x), x)
    assert logits.shape == (2, 5) and logits.dtype == jnp.float32


def test_training_depends_on_the_virtual_batch_alone():
    options = dict(in_channels=1, width=4, stage_sizes=(1, 1), stem="stride2")
    model = create_model("resnet3d_10", 3, virtual_batch_size=2, **options)
    x = jax.random.normal(KEY, (4, 8, 7, 6, 1))
    state = model.init(KEY, x)
    apply = jax.jit(lambda x: model.apply(state, x, train=True, mutable=["batch_stats"])[0])
    parts = jnp.concatenate([apply(x[:2]), apply(x[2:])])
    np.testing.assert_allclose(apply(x), parts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("resnet3d_10", (1, 8, 8, 3), r"takes volumes \[B, D, H, W, C\].*such as 'resnet18'"),
        ("resnet18", (1, 8, 8, 8, 3), r"takes images \[B, H, W, C\].*such as 'resnet3d_18'"),
    ],
)
def test_images_and_volumes_have_their_own_models(name, shape, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(create_model(name, 2).init, KEY, jnp.zeros(shape))


def test_unknown_shortcut():
    with pytest.raises(ConfigError, match="shortcut is 'A': write one of 'conv', 'avg', 'pad'"):
        shapes(create_model("resnet3d_10", 2, in_channels=1, shortcut="A"))
