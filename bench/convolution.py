"""Compares three-dimensional convolutions on this machine's CPU: XLA's own, and ours by slices.

    python bench/convolution.py

For each shape: milliseconds of the forward pass and of the gradients of input and kernel, the least
of `--repeats`; and the largest difference of the values, in units of the largest value.
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from imgcls.models.layers.convolution import convolve

# (input [B, D, H, W, C], channels out, side of the kernel, stride)
SHAPES = (
    ((8, 16, 16, 16, 16), 16, 3, 1),
    ((8, 16, 16, 16, 32), 32, 3, 1),
    ((8, 8, 8, 8, 64), 64, 3, 1),
    ((8, 16, 16, 16, 16), 32, 3, 2),
    ((8, 32, 32, 32, 1), 16, 3, 2),
    ((8, 28, 28, 28, 1), 64, 3, 1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10, help="default: %(default)s")
    repeats = parser.parse_args().repeats
    jax.config.update("jax_platforms", "cpu")
    print(f"{'input':<22}{'kernel':<16}{'forward, ms':>20}{'gradients, ms':>20}{'difference':>12}")
    for shape, features, side, stride in SHAPES:
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.normal(size=shape), jnp.float32)
        kernel = jnp.asarray(rng.normal(size=(side,) * 3 + (shape[-1], features)), jnp.float32)
        options = dict(
            strides=(stride,) * 3,
            padding=((side // 2, side // 2),) * 3,
            lhs_dilation=(1, 1, 1),
            rhs_dilation=(1, 1, 1),
            dimension_numbers=lax.conv_dimension_numbers(
                x.shape, kernel.shape, ("NDHWC", "DHWIO", "NDHWC")
            ),
            feature_group_count=1,
            precision=None,
        )
        rename = {"strides": "window_strides"}
        theirs = {rename.get(name, name): value for name, value in options.items()}
        both = [
            functools.partial(lax.conv_general_dilated, **theirs),
            functools.partial(convolve, **options),
        ]
        forward = [measure(f, x, kernel, repeats=repeats) for f in both]
        gradients = [measure(gradient(f), x, kernel, repeats=repeats) for f in both]
        expected, y = (f(x, kernel) for f in both)
        difference = float(jnp.abs(y - expected).max() / jnp.abs(expected).max())
        print(
            f"{'x'.join(map(str, shape)):<22}{f'{side}^3, {features}, /{stride}':<16}"
            f"{forward[0]:>12.1f} {forward[1]:>7.1f}{gradients[0]:>12.1f} {gradients[1]:>7.1f}"
            f"{difference:>12.1e}",
            flush=True,
        )


def gradient(f):
    return jax.grad(lambda x, kernel: jnp.sum(jnp.square(f(x, kernel))), argnums=(0, 1))


def measure(f, *arguments, repeats: int) -> float:
    """Least time of a call of the compiled function, in milliseconds."""
    f = jax.jit(f)
    jax.block_until_ready(f(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(f(*arguments))
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


if __name__ == "__main__":
    main()
