"""Convolutions in the fastest form for the platform; the values are the same.

XLA's CPU backend has no special case for 1x1 convolutions, which are two to four times slower than
matrix products, and more in the gradients. Other platforms have one and use the convolution.
"""

import jax
from jax import lax


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, ...],
    padding: list[tuple[int, int]],
    **options,
) -> jax.Array:
    """`lax.conv_general_dilated` for `nn.Conv(..., conv_general_dilated=convolve)`.

    Args:
      x: `[B, ..., C]`.
      kernel: `[..., C / groups, D]`.
      strides, padding: per spatial axis.
      **options: other arguments of `lax.conv_general_dilated`.

    Returns:
      `[B, ..., D]`.
    """
    pointwise = all(side == 1 for side in kernel.shape[:-2])
    plain = options["feature_group_count"] == 1 and not any(map(any, padding))
    if jax.default_backend() == "cpu" and pointwise and plain:
        x = x[:, *(slice(None, None, stride) for stride in strides)]
        weights = kernel.reshape(kernel.shape[-2:])
        return lax.dot_general(
            x, weights, (((x.ndim - 1,), (0,)), ((), ())), precision=options["precision"]
        )
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)
