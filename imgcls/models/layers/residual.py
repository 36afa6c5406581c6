"""Layers of residual blocks."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.core.errors import ConfigError


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch at random (Huang et al. 2016, arXiv:1603.09382).

    Each example is dropped independently; the others are scaled by 1 / (1 - rate), so that
    evaluation needs no correction.

    Attributes:
      rate: probability of dropping, in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, ...]` -> the same shape. Uses the rng "dropout" in training.

        Raises:
          ConfigError: the rate is outside [0, 1).
        """
        # Traced rates are of a scan over blocks; they are checked when blocks are initialized.
        if not isinstance(self.rate, jax.Array):
            if not 0.0 <= self.rate < 1.0:
                raise ConfigError(f"drop_path is {self.rate}: write a number from 0 to below 1")
            if self.rate == 0.0:
                return x
        if not train:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.rate, shape)
        return jnp.where(keep, x / (1.0 - self.rate), 0).astype(x.dtype)


class LayerScale(nn.Module):
    """Learned factor per channel of a residual branch.

    Touvron et al. 2021 (CaiT, arXiv:2103.17239), section 2.

    Attributes:
      init_value: initial value, such as 1e-4.
      dtype: dtype of the output.
    """

    init_value: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x `[..., C]` -> the same shape."""
        init = nn.initializers.constant(self.init_value)
        gamma = self.param("gamma", init, (x.shape[-1],), jnp.float32)
        return x.astype(self.dtype) * gamma.astype(self.dtype)


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Rates that increase linearly from 0 for the first of `depth` blocks to `rate` for the last.

    Huang et al. 2016, arXiv:1603.09382, section 3, equation 4, shifted as in DeiT so that the
    first block is never dropped.
    """
    return [rate * index / max(depth - 1, 1) for index in range(depth)]
