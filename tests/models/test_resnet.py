"""ResNet: sizes, parameter names, and a bottleneck block against NumPy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from imgcls.models.layers.conv import conv
from imgcls.models.resnet import ResNet, ResNetBlock

KEY = jax.random.key(0)


def shapes(model, size=224, batch=1):
    return jax.eval_shape(model.init, KEY, jnp.zeros((batch, size, size, 3)))


def tiny(**options):
    return ResNet(num_classes=3, stage_sizes=(1, 1), bottleneck=False, stem="cifar", **options)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
    ],
)
def test_parameter_count(name, count):
    leaves = jax.tree.leaves(shapes(create_model(name, 1000))["params"])
    assert sum(math.prod(leaf.shape) for leaf in leaves) == count


def test_parameter_names():
    params = shapes(create_model("resnet50", 1000))["params"]
    assert {"conv1", "bn1", "layer1_0", "layer4_2", "head"} <= set(params)
    block = {f"{kind}{index}" for kind in ("conv", "bn") for index in (1, 2, 3)}
    assert set(params["layer1_0"]) == block | {"downsample_conv", "downsample_bn"}
    assert set(params["layer1_1"]) == block
    assert params["layer2_0"]["conv2"]["kernel"].shape == (3, 3, 128, 128)


@pytest.mark.parametrize(("stem", "side"), [("imagenet", 2), ("cifar", 8)])
def test_resolution(stem, side):
    model = create_model("resnet18", 10, stem=stem)
    _, state = jax.eval_shape(
        lambda x: model.init_with_output(KEY, x, capture_intermediates=True),
        jnp.zeros((2, 64, 64, 3)),
    )
    last = state["intermediates"]["layer4_1"]["__call__"][0]
    assert last.shape == (2, side, side, 512)


def test_bfloat16_computes_in_bfloat16_with_float32_ends():
    model = tiny(dtype=jnp.dtype("bfloat16"))
    x = jnp.zeros((2, 8, 8, 3))
    logits, state = jax.eval_shape(
        lambda x: model.init_with_output(KEY, x, capture_intermediates=True), x
    )
    assert logits.dtype == jnp.float32 and logits.shape == (2, 3)
    assert state["intermediates"]["layer2_0"]["__call__"][0].dtype == jnp.bfloat16
    for leaf in jax.tree.leaves((state["params"], state["batch_stats"])):
        assert leaf.dtype == jnp.float32
    features = jax.eval_shape(lambda s: model.apply(s, x, features=True), state)
    assert features.dtype == jnp.float32 and features.shape == (2, 128)


@pytest.fixture(scope="module")
def trained():
    """(variables, images) with random weights and statistics."""
    # NumPy's generator avoids a compilation per shape.
    rng = np.random.default_rng(0)

    def draw(leaf):
        # Vectors are scales and variances, kernels are small.
        return rng.normal(leaf.ndim == 1, 0.05, leaf.shape).astype(np.float32)

    x = rng.normal(size=(4, 8, 8, 3)).astype(np.float32)
    return jax.tree.map(draw, shapes(tiny(), 8)), x


def test_head_reads_the_features(trained):
    state, x = trained
    both = jax.jit(lambda s: (tiny().apply(s, x), tiny().apply(s, x, features=True)))
    logits, features = both(state)
    head = state["params"]["head"]
    np.testing.assert_allclose(
        logits, features @ head["kernel"] + head["bias"], rtol=1e-5, atol=1e-5
    )


def test_examples_are_independent_in_evaluation(trained):
    state, x = trained
    model = tiny(drop_rate=0.5, drop_path=0.5)
    batch, one = jax.jit(lambda s: (model.apply(s, x), tiny().apply(s, x[2:3])))(state)
    np.testing.assert_allclose(batch[2:3], one, rtol=1e-4, atol=1e-5)


def test_training_depends_only_on_the_virtual_batch(trained):
    state, x = trained
    model = tiny(virtual_batch_size=2)
    apply = jax.jit(lambda x: model.apply(state, x, train=True, mutable=["batch_stats"]))
    together, _ = apply(x)
    parts = jnp.concatenate([apply(x[:2])[0], apply(x[2:])[0]])
    np.testing.assert_allclose(together, parts, rtol=1e-4, atol=1e-5)


def test_dropout_is_deterministic_in_the_rng(trained):
    state, x = trained
    model = tiny(drop_rate=0.5, drop_path=0.5)
    apply = jax.jit(
        lambda key: model.apply(
            state, x, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )[0]
    )
    np.testing.assert_array_equal(apply(jax.random.key(1)), apply(jax.random.key(1)))
    assert (apply(jax.random.key(1)) != apply(jax.random.key(2))).any()


def block(zero_init_residual=False, stride=2):
    return ResNetBlock(
        width=2,
        stride=stride,
        bottleneck=True,
        groups=1,
        group_width=64,
        se=False,
        shortcut="conv",
        virtual_batch_size=None,
        zero_init_residual=zero_init_residual,
        drop_path=0.0,
        convolution=functools.partial(conv, axes=2, dtype=jnp.float32),
        dtype=jnp.dtype("float32"),
    )


def test_zero_init_residual_starts_as_the_identity():
    x = jnp.abs(jax.random.normal(KEY, (2, 3, 3, 8)))
    y, _ = jax.jit(lambda x: block(True, stride=1).init_with_output(KEY, x, False))(x)
    np.testing.assert_array_equal(y, x)


def reference_conv(x, kernel, stride, padding):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    size = kernel.shape[0]
    sides = [(side - size) // stride + 1 for side in x.shape[1:3]]
    y = np.zeros((len(x), *sides, kernel.shape[-1]))
    for row in range(sides[0]):
        for column in range(sides[1]):
            top, left = row * stride, column * stride
            window = x[:, top : top + size, left : left + size]
            y[:, row, column] = np.tensordot(window, kernel, 3)
    return y


def test_bottleneck_against_numpy():
    x = jax.random.normal(KEY, (2, 6, 6, 3))
    y, state = jax.jit(lambda x: block().init_with_output(KEY, x, False))(x)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state["params"])
    x = np.asarray(x, np.float64)

    def conv_bn(x, conv, bn, stride=1, padding=0):
        # Initial running statistics: mean 0, variance 1.
        x = reference_conv(x, params[conv]["kernel"], stride, padding)
        return x / np.sqrt(1 + 1e-5) * params[bn]["scale"] + params[bn]["bias"]

    branch = np.maximum(conv_bn(x, "conv1", "bn1"), 0)
    branch = np.maximum(conv_bn(branch, "conv2", "bn2", stride=2, padding=1), 0)
    branch = conv_bn(branch, "conv3", "bn3")
    expected = np.maximum(branch + conv_bn(x, "downsample_conv", "downsample_bn", stride=2), 0)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_unknown_stem():
    with pytest.raises(
        ConfigError, match="stem is 'tiny': write one of 'imagenet', 'stride2', 'cifar', 'deep'"
    ):
        shapes(create_model("resnet18", 10, stem="tiny"))


def formula(tree):
    """Reproducible weights for another program: cos(i ** 1.5 + n) for leaf n, scaled."""
    leaves, structure = jax.tree.flatten(tree)

    def wave(number, leaf):
        values = np.cos(np.arange(leaf.size) ** 1.5 + number).reshape(leaf.shape)
        fan_in = leaf.size // leaf.shape[-1]
        scaled = 1 + 0.3 * values if leaf.ndim == 1 else values * math.sqrt(2 / fan_in)
        return scaled.astype(np.float32)

    return jax.tree.unflatten(structure, [wave(*item) for item in enumerate(leaves)])


def test_logits_equal_those_of_timm():
    """timm 1.0.31's ResNet (Bottleneck, layers 1-1-1-1) in float64 with the same weights."""
    x = np.sin(np.arange(2 * 32 * 32 * 3) ** 1.2).reshape(2, 32, 32, 3).astype(np.float32)
    model = create_model("resnet50", 3, stage_sizes=(1, 1, 1, 1))
    logits = jax.jit(model.apply)(formula(shapes(model, 32)), x)
    expected = [[0.66211454, 1.06163428, 0.89455947], [0.91668675, 1.05656353, 0.95743278]]
    np.testing.assert_allclose(logits, expected, rtol=1e-4)
