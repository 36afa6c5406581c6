"""Counts the arithmetic of a JAX program."""

import math

from jax.extend.core import jaxprs_in_params


def count_flops(jaxpr) -> int:
    """Counts the FLOPs of the matrix products and convolutions of a jaxpr; a multiply-add is two.

    The program is counted as written, including what `jax.checkpoint` recomputes and every
    iteration of a scan. XLA's `cost_analysis` is not used because it counts the body of a scan once
    and leaves out the kernels of GPU libraries. Multiplications by padding zeros are counted, as in
    papers; those by the zeros of a dilated input, as in the gradient of a strided convolution, are
    not.

    Args:
      jaxpr: program, such as `jax.jit(f).trace(...).jaxpr.jaxpr`. The body of a `while` is counted
        once, and only the most expensive branch of a `cond`.
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
    # Output channels are already counted by the size of the output.
    taps = kernel.size // channels
    zeros = math.prod(equation.params["lhs_dilation"])
    return 2 * equation.outvars[0].aval.size * taps // zeros
