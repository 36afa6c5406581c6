"""What the losses share."""

import jax
import jax.numpy as jnp


def masked_mean(values: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Mean of the values whose mask is not zero: sum(values * mask) / max(sum(mask), 1).

    A NaN or infinity under a zero mask reaches neither the mean nor the gradient with respect to
    `values`. A batch that is all padding gives 0.

    Args:
      values: `[B]`.
      mask: weights `[B]`, 0 for padding; None counts every value once.

    Returns:
      float scalar.
    """
    values = as_float(values)
    if mask is None:
        return jnp.mean(values)
    mask = jnp.asarray(mask, values.dtype)
    # Multiplying alone would let NaN * 0 = NaN through.
    kept = jnp.where(mask != 0, values, 0.0)
    return jnp.sum(kept * mask) / jnp.maximum(jnp.sum(mask), 1.0)


def as_float(x: jax.Array) -> jax.Array:
    """x in float32, or in float64 if it has that already."""
    return jnp.asarray(x, jnp.result_type(x, jnp.float32))
