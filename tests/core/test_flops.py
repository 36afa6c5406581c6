"""FLOPs of jaxprs, compared with counts by hand and by XLA."""

import jax
import jax.numpy as jnp
import pytest

from imgcls.core.flops import count_flops


def flops_of(fn, *args) -> int:
    return count_flops(jax.jit(fn).trace(*args).jaxpr.jaxpr)


def chain(weights, x):
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.mean(x**2)


def test_flops_of_a_matmul_chain_and_its_gradient():
    x, weights = jnp.ones((128, 256)), [jnp.ones((256, 256))] * 4
    forward = 4 * 2 * 128 * 256 * 256
    assert flops_of(chain, weights, x) == pytest.approx(forward, rel=0.02)
    # Each product has two in the gradient, but the first only that of the weights.
    grad = jax.grad(chain)
    assert flops_of(grad, weights, x) == pytest.approx(forward * (3 - 1 / 4), rel=0.02)
    # XLA's count for the program before it is compiled.
    theirs = jax.jit(grad).lower(weights, x).cost_analysis()["flops"]
    assert flops_of(grad, weights, x) == pytest.approx(theirs, rel=0.02)


def test_flops_of_loops_and_rematerialization():
    x, weights = jnp.ones((128, 256)), jnp.ones((6, 256, 256))
    one = 2 * 128 * 256 * 256

    def scan(weights, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0].sum()

    assert flops_of(scan, weights, x) == 6 * one
    assert flops_of(jax.grad(scan), weights, x) == 3 * 6 * one
    again = jax.grad(lambda w, x: jax.checkpoint(scan)(w, x))
    assert flops_of(again, weights, x) == 4 * 6 * one
    either = lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: (x @ w) @ w)  # noqa: E731
    assert flops_of(either, x, weights[0]) == 2 * one


@pytest.mark.parametrize("stride, groups", [(1, 1), (2, 1), (2, 4)])
def test_flops_of_convolutions_and_their_gradients(stride, groups):
    x, kernel = jnp.ones((8, 56, 56, 64)), jnp.ones((3, 3, 64 // groups, 128))

    def conv(x, kernel):
        names = ("NHWC", "HWIO", "NHWC")
        options = dict(dimension_numbers=names, feature_group_count=groups)
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", **options)

    forward = 2 * 8 * (56 // stride) ** 2 * 128 * 9 * 64 // groups
    assert flops_of(conv, x, kernel) == forward
    both = jax.grad(lambda x, k: conv(x, k).sum() ** 2, argnums=(0, 1))
    assert flops_of(both, x, kernel) == pytest.approx(3 * forward, rel=0.02)
