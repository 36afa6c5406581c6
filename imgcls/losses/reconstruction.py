"""Losses of reconstructed images."""

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
    """Mean squared error over the masked patches of each image.

    He et al. 2022 (MAE, arXiv:2111.06377), section 3, "Reconstruction target". Normalized targets
    have mean 0 and unbiased variance 1 in each patch; 1e-6 is added to the variance, as in the
    authors' code.

    Args:
      prediction, target: `[B, N, P]`, P values in each of N patches.
      mask: `[B, N]`, 1 for masked patches, 0 for visible ones.
      normalize: whether to normalize each target patch.

    Returns:
      float `[B]`; 0 for an image without masked patches.
    """
    target = as_float(target)
    if normalize:
        variance = jnp.var(target, axis=-1, ddof=1, keepdims=True)
        target = (target - jnp.mean(target, axis=-1, keepdims=True)) / jnp.sqrt(variance + 1e-6)
    error = jnp.mean((as_float(prediction) - target) ** 2, axis=-1)
    return jax.vmap(masked_mean)(error, mask)
