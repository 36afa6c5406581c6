"""Losses of a picture against what it should be."""

import jax
import jax.numpy as jnp

from imgcls.losses.common import as_float, masked_mean
from imgcls.losses.registry import register_loss


@register_loss("mse")
def mse(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared error over all axes but the first: `[B, ...]`, `[B, ...]` -> float `[B]`."""
    error = (as_float(prediction) - as_float(target)) ** 2
    return jnp.mean(error, axis=tuple(range(1, error.ndim)))


@register_loss("masked_patch_mse")
def masked_patch_mse(
    prediction: jax.Array, target: jax.Array, mask: jax.Array, normalize: bool = True
) -> jax.Array:
    """Mean squared error over the hidden patches of each picture.

    He et al. 2022 (MAE, arXiv:2111.06377), section 3, "Reconstruction target". Normalised targets
    have the mean 0 and the unbiased variance 1 in each patch; 1e-6 is added to the variance, as in
    the authors' code.

    Args:
      prediction, target: `[B, N, P]`, P values in each of N patches.
      mask: `[B, N]`, 1 for hidden patches, 0 for visible ones.
      normalize: normalise each target patch.

    Returns:
      float `[B]`; 0 for a picture without hidden patches.
    """
    target = as_float(target)
    if normalize:
        variance = jnp.var(target, axis=-1, ddof=1, keepdims=True)
        target = (target - jnp.mean(target, axis=-1, keepdims=True)) / jnp.sqrt(variance + 1e-6)
    error = jnp.mean((as_float(prediction) - target) ** 2, axis=-1)
    return jax.vmap(masked_mean)(error, mask)
