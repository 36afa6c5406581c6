"""How much arithmetic a step is, and how much the chip could do."""

import math
import time

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

# Dense bfloat16 TFLOP/s of one chip by a part of its `device_kind`, from the makers' data sheets
# (without sparsity); the first that is found counts.
PEAKS = {
    **{"TPU v6": 918.0, "TPU v5 lite": 197.0, "TPU v5e": 197.0, "TPU v5": 459.0, "TPU v4": 275.0},
    **{"H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "H200": 989.0},
    **{"A100": 312.0, "L40S": 362.0, "L40": 181.0, "L4": 121.0},
}


def count_flops(jaxpr) -> int:
    """FLOPs of the matrix products and convolutions of a jaxpr; a multiply-add is two.

    The count is of the program as it is written, with what `jax.checkpoint` computes again and
    with every turn of a scan. XLA's own `cost_analysis` is no measure of this: it takes a scan's
    body once, and in a compiled program for GPUs it does not see into the libraries' kernels.
    Work on zeros that only pad counts, as in papers; on those of a dilated input, which the
    gradient of a strided convolution has, it does not.

    Args:
      jaxpr: such as `jax.jit(f).trace(...).jaxpr.jaxpr`. A `while` counts once, of a `cond` the
        dearest branch.
    """
    total = 0
    for equation in jaxpr.eqns:
        inner = [count_flops(j) for j in jaxprs_in_params(equation.params)]
        name = equation.primitive.name
        if name == "dot_general":
            total += _dot_flops(equation)
        elif name == "conv_general_dilated":
            total += _conv_flops(equation)
        elif name == "scan":
            total += equation.params["length"] * sum(inner)
        elif name == "cond":
            total += max(inner)
        else:
            total += sum(inner)
    return total


def _dot_flops(equation) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)


def _conv_flops(equation) -> int:
    kernel = equation.invars[1].aval
    channels = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    # Output channels are an axis of the output already.
    taps = kernel.size // channels
    zeros = math.prod(equation.params["lhs_dilation"])
    return 2 * equation.outvars[0].aval.size * taps // zeros


def find_peak(kind: str) -> float | None:
    """Dense bfloat16 TFLOP/s of a chip by its `device_kind`; None where the table lacks it."""
    return next((peak for part, peak in PEAKS.items() if part in kind), None)


def measure_peak(dtype, size: int, repeats: int = 5) -> float:
    """TFLOP/s of the product of two square matrices of `size` on the first device: the best."""
    a = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(product(a, a))
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e12
