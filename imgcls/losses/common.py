"""Functions shared by the losses."""

import jax
import jax.numpy as jnp


def masked_mean(values: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Mean weighted by the mask: sum(values * mask) / max(sum(mask), 1).

    A NaN or infinity where the mask is 0 affects neither the mean nor the gradient with respect
    to `values`. A batch of padding alone gives 0.

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
    # A product alone would give NaN * 0 = NaN.
    kept = jnp.where(mask != 0, values, 0.0)
    return jnp.sum(kept * mask) / jnp.maximum(jnp.sum(mask), 1.0)


def as_float(x: jax.Array) -> jax.Array:
    """x as float32; float64 stays float64."""
    return jnp.asarray(x, jnp.result_type(x, jnp.float32))
