"""Convolutions as matrix products and slice by slice on CPUs, against XLA's convolution."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from imgcls.models.create import create_model
from imgcls.models.layers.conv import conv
from imgcls.models.layers.convolution import convolve
from tests.conftest import make_mesh


def plain(x, kernel, stride, padding, groups):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@pytest.mark.parametrize(
    ("side", "stride", "padding", "groups", "product"),
    [
        (1, 1, 0, 1, True),
        (1, 2, 0, 1, True),
        (1, 3, 0, 1, True),
        (1, 1, 1, 1, False),
        (1, 1, 0, 2, False),
        (3, 2, 1, 1, False),
    ],
)
def test_values_and_gradients_match_xla(side, stride, padding, groups, product):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 8, 7, 6)), jnp.float32)
    layer = conv(10, side, stride, padding, groups=groups, dtype=jnp.float32, name="conv")
    params = layer.init(jax.random.key(0), x)

    def ours(x, kernel):
        return layer.apply({"params": {"kernel": kernel}}, x)

    def theirs(x, kernel):
        return plain(x, kernel, stride, padding, groups)

    kernel = params["params"]["kernel"]
    y, pull = jax.vjp(ours, x, kernel)
    expected, expected_pull = jax.vjp(theirs, x, kernel)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    cotangent = jnp.asarray(rng.normal(size=y.shape), jnp.float32)
    for actual, wanted in zip(pull(cotangent), expected_pull(cotangent), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-4)
    convolves = "conv_general_dilated" in str(jax.make_jaxpr(ours)(x, kernel))
    assert convolves is not product


def test_accelerators_keep_the_convolutions(monkeypatch):
    """On a CPU, 36 of the 53 convolutions of ResNet-50 are products."""
    model = create_model("resnet50")
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)

    def convolutions() -> int:
        return str(jax.make_jaxpr(model.apply)(variables, image)).count("conv_general_dilated[")

    assert convolutions() == 17
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert convolutions() == 53


def test_low_precision_products_match_xla():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 32)), jnp.float32)
    layer = conv(8, 1, dtype=jnp.bfloat16, name="conv")
    params = layer.init(jax.random.key(0), x)
    y = layer.apply(params, x)
    assert y.dtype == jnp.bfloat16
    half = [a.astype(jnp.bfloat16) for a in (x, params["params"]["kernel"])]
    np.testing.assert_allclose(
        y.astype(jnp.float32), plain(*half, 1, 0, 1).astype(jnp.float32), rtol=0.02, atol=0.02
    )


def plain3d(x, kernel, stride, padding, groups):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,) * 3,
        padding,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        feature_group_count=groups,
    )


@pytest.mark.parametrize(
    ("kernel", "stride", "channels", "groups"),
    [
        ((3, 3, 3), 1, 4, 1),
        ((3, 3, 3), 2, 4, 1),
        ((3, 3, 3), 1, 18, 1),
        ((3, 3, 3), 2, 18, 1),
        ((3, 3, 3), 1, 4, 2),
        ((7, 7, 7), 2, 1, 1),
        ((1, 3, 3), 1, 18, 1),
        ((3, 1, 1), 1, 18, 1),
        ((2, 2, 2), 2, 4, 1),
    ],
)
def test_volumes_are_convolved_slice_by_slice(kernel, stride, channels, groups):
    """Values and gradients are those of XLA's own, to 1e-6 of the largest, without calling it."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 9, 8, 7, channels)), jnp.float32)
    layer = nn.Conv(
        6,
        kernel,
        stride,
        [(side // 2, side // 2) for side in kernel],
        feature_group_count=groups,
        use_bias=False,
        conv_general_dilated=convolve,
    )
    weights = layer.init(jax.random.key(0), x)["params"]["kernel"]

    def ours(x, weights):
        return layer.apply({"params": {"kernel": weights}}, x)

    def theirs(x, weights):
        return plain3d(x, weights, stride, layer.padding, groups)

    y, pull = jax.vjp(ours, x, weights)
    expected, expected_pull = jax.vjp(theirs, x, weights)
    cotangent = jnp.asarray(rng.normal(size=y.shape), jnp.float32)
    pairs = zip((y, *pull(cotangent)), (expected, *expected_pull(cotangent)), strict=True)
    for value, reference in pairs:
        np.testing.assert_allclose(value, reference, rtol=0, atol=1e-6 * jnp.abs(reference).max())
    ranks = [
        eqn.invars[0].aval.ndim
        for eqn in jax.make_jaxpr(ours)(x, weights).eqns
        if eqn.primitive is lax.conv_general_dilated_p
    ]
    assert set(ranks) <= {4}


def test_volumes_against_loops_in_float64():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 5, 4, 6, 2)), rng.normal(size=(3, 3, 3, 2, 3))
    layer = conv(3, 3, 2, axes=3, dtype=jnp.float32, name="conv")
    y = layer.apply({"params": {"kernel": jnp.float32(kernel)}}, jnp.float32(x))
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (1, 1), (0, 0)])
    expected = np.zeros((1, 3, 2, 3, 3))
    for d, h, w in np.ndindex(3, 2, 3):
        window = padded[:, 2 * d : 2 * d + 3, 2 * h : 2 * h + 3, 2 * w : 2 * w + 3]
        expected[:, d, h, w] = np.tensordot(window, kernel, 4)
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_patches_of_volumes_are_products():
    """Voxels beyond the last whole patch are left out."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 7, 4, 3)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(2, 3, 4, 3, 5)), jnp.float32)
    layer = conv(5, (2, 3, 4), (2, 3, 4), 0, axes=3, dtype=jnp.float32, name="conv")

    def apply(x):
        return layer.apply({"params": {"kernel": weights}}, x)

    numbers = ("NDHWC", "DHWIO", "NDHWC")
    expected = lax.conv_general_dilated(x, weights, (2, 3, 4), "VALID", dimension_numbers=numbers)
    np.testing.assert_allclose(apply(x), expected, rtol=0, atol=1e-5)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(apply)(x))


def test_accelerators_and_dilations_keep_the_convolution_of_volumes(monkeypatch):
    x, kernel = jnp.zeros((1, 8, 8, 8, 2)), jnp.zeros((3, 3, 3, 2, 4))

    def count(dilation: int) -> int:
        layer = nn.Conv(
            4,
            (3,) * 3,
            padding=((1, 1),) * 3,
            kernel_dilation=dilation,
            conv_general_dilated=convolve,
        )
        variables = {"params": {"kernel": kernel, "bias": jnp.zeros(4)}}
        jaxpr = jax.make_jaxpr(lambda x: layer.apply(variables, x))(x)
        return sum(
            e.primitive is lax.conv_general_dilated_p and e.invars[0].aval.ndim == 5
            for e in jaxpr.eqns
        )

    assert (count(1), count(2)) == (0, 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert count(1) == 1


def test_sharded_volumes_stay_on_their_device():
    """No communication: the batch axis stays in front of the slices."""
    rows = NamedSharding(make_mesh(data=4), PartitionSpec("data"))
    x = jax.device_put(jnp.ones((4, 6, 6, 6, 20)), rows)
    layer = conv(4, 3, axes=3, dtype=jnp.float32, name="conv")
    params = layer.init(jax.random.key(0), x[:1])
    program = jax.jit(layer.apply).lower(params, x).compile().as_text()
    assert not re.search(r"all-(gather|to-all|reduce)|collective", program)
