"""Convolutions computed as matrix products on CPUs, against XLA's convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from imgcls.models.create import create_model
from imgcls.models.layers.conv import conv


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
