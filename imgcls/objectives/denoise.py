"""Denoising autoencoder: reconstructs an image or volume from a noisy, blurred or shuffled copy."""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.objectives.autoencoder import Reconstruction
from imgcls.objectives.objective import register_objective
from imgcls.objectives.patches import from_patches, to_patches


@register_objective("denoise")
class Denoise(Reconstruction):
    """Denoising autoencoder (Vincent et al. 2010, JMLR 11, section 3).

    Patches are shuffled first, then the image is blurred, then noise is added. With all three off
    it is a plain autoencoder.

    Args:
      config, data_info: see `Pretraining`.
      noise: standard deviation of Gaussian noise, in units of normalized pixels; 0: no noise.
      blur: standard deviation of a Gaussian blur, in pixels; 0: no blur.
      shuffle: cuts each side into this number of parts and permutes the patches; 0: no shuffling.
      width: channels of the decoder, see `ConvDecoder`.
      probe: see `Pretraining`.

    Raises:
      ConfigError: see `Pretraining`; or an option is out of range.
    """

    def __init__(
        self,
        config: ConfigDict,
        data_info,
        noise: float = 0.5,
        blur: float = 0.0,
        shuffle: int = 0,
        width: int = 256,
        probe: bool = False,
    ):
        super().__init__(config, data_info, width, probe)
        for name, value in (("noise", noise), ("blur", blur), ("shuffle", shuffle)):
            if value < 0:
                raise ConfigError(f"config.objective.{name}={value}: must be 0 or more")
        sides = data_info.image_shape[:-1]
        if shuffle and any(side % shuffle for side in sides):
            raise ConfigError(
                f"config.objective.shuffle={shuffle}: does not divide images of "
                f"{'x'.join(map(str, sides))}"
            )
        self._noise, self._blur, self._shuffle = noise, blur, shuffle

    def corrupt(self, image: jax.Array, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `Reconstruction.corrupt`; the mask is 1 everywhere."""
        shuffle_rng, noise_rng = jax.random.split(rng)
        x = image
        if self._shuffle:
            x = shuffle_patches(x, self._shuffle, shuffle_rng)
        if self._blur:
            x = gaussian_blur(x, self._blur)
        if self._noise:
            x = x + self._noise * jax.random.normal(noise_rng, x.shape, x.dtype)
        return x, jnp.ones((*image.shape[:-1], 1), jnp.float32)


def shuffle_patches(x: jax.Array, count: int, rng: jax.Array) -> jax.Array:
    """Permutes the patches of each image `[B, ..., C]` independently, `count` along each side."""
    sides = [length // count for length in x.shape[1:-1]]
    patches = to_patches(x, sides)
    order = jnp.argsort(jax.random.uniform(rng, patches.shape[:2]), axis=1)
    return from_patches(jnp.take_along_axis(patches, order[:, :, None], axis=1), sides, x.shape)


def gaussian_blur(x: jax.Array, sigma: float) -> jax.Array:
    """Blurs `[B, ..., C]`; the kernel extends to 3 sigma (pixels), edges are repeated."""
    reach = max(int(3 * sigma + 0.5), 1)
    kernel = jnp.exp(-(jnp.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in range(1, x.ndim - 1):
        pad = [(0, 0)] * x.ndim
        pad[axis] = (reach, reach)
        padded = jnp.pad(x, pad, mode="edge")
        shifted = (
            weight * jax.lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis)
            for i, weight in enumerate(kernel)
        )
        x = functools.reduce(jnp.add, shifted)
    return x
