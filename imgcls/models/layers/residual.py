"""Parts of residual blocks."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.core.errors import ConfigError


class DropPath(nn.Module):
    """Stochastic depth: zeroes a residual branch of whole examples (Huang et al. 2016).

    Each example of the batch is dropped on its own; the kept ones are scaled by 1 / (1 - rate),
    so evaluation needs no correction. arXiv:1603.09382.

    Attributes:
      rate: chance to drop, in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, ...]` -> the same shape. Draws from the rng "dropout" in training.

        Raises:
          ConfigError: the rate is outside [0, 1).
        """
        # A traced rate is one of a scan over blocks, which were made one by one and checked.
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
    """Learned factor per channel on a residual branch.

    Touvron et al. 2021, arXiv:2103.17239, section 2.

    Attributes:
      init_value: value at the start, such as 1e-4.
      dtype: of the product.
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
    """Rates that grow linearly from 0 at the first of `depth` blocks to `rate` at the last.

    Huang et al. 2016, section 3, "survival probability", shifted as in DeiT so that the first
    block is never dropped.
    """
    return [rate * index / max(depth - 1, 1) for index in range(depth)]
