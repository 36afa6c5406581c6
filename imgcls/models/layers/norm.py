"""Normalization layers."""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from imgcls.core.errors import ConfigError

# Values of `config.batch_norm.variance` and `config.batch_norm.frozen`; the first are the defaults.
VARIANCES = ("shifted", "one_pass")
FROZEN_MODES = ("evaluate", "train")


@runtime_checkable
class UsesBatchNorm(Protocol):
    """A model with BatchNorm.

    Attributes:
      virtual_batch_size: see `BatchNorm`.
    """

    virtual_batch_size: int | None


def batch_norm_group(model: nn.Module) -> int | None:
    """Virtual batch size of a model's BatchNorm; None: the full batch, or no BatchNorm."""
    return model.virtual_batch_size if isinstance(model, UsesBatchNorm) else None


@dataclasses.dataclass(frozen=True)
class BatchNormMode:
    """How BatchNorm layers compute; see `batch_norm_mode`.

    Attributes:
      one_pass: whether the variance is E[x^2] - E[x]^2 of x itself, as in version 0.1, which loses
        the digits of deviations that are small beside the mean.
      frozen: paths of layers, such as 'layer1_0/bn1', that compute as in evaluation.
    """

    one_pass: bool = False
    frozen: frozenset[str] = frozenset()


_DEFAULT = BatchNormMode()
_MODE = contextvars.ContextVar("batch_norm_mode", default=_DEFAULT)


@contextlib.contextmanager
def batch_norm_mode(mode: BatchNormMode) -> Iterator[None]:
    """Sets how all BatchNorm layers that are traced inside compute, those of plugins too."""
    token = _MODE.set(mode)
    try:
        yield
    finally:
        _MODE.reset(token)


class BatchNorm(nn.Module):
    """Batch normalization (Ioffe & Szegedy 2015, arXiv:1502.03167) over fixed virtual batches.

    In training, each group of `virtual_batch_size` consecutive examples is normalized by its own
    mean and variance ("ghost batches", Hoffer et al. 2017, arXiv:1705.08741, algorithm 1). The
    result depends neither on the number of devices nor on the batch size. The axis of groups is
    sharded, and devices exchange no statistics.

    The running mean and (biased) variance are updated once per step with the average over the
    groups: new = momentum * old + (1 - momentum) * average. They are used if `train` is false, in
    layers that `batch_norm_mode` freezes, and during initialization.

    Attributes:
      virtual_batch_size: examples per group; None: the full batch is one group.
      momentum: weight of the old running statistics.
      epsilon: added to the variance.
      dtype: dtype of the output. Statistics, parameters and the computation are float32.
      scale_init: initializer of the scale.
    """

    virtual_batch_size: int | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    scale_init: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalizes x `[B, ..., C]` per channel.

        Raises:
          ConfigError: in training, B is not a multiple of `virtual_batch_size`, or a group has
            only one value per channel.
        """
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        frozen = "/".join(self.path) in _MODE.get().frozen
        if not train or frozen or self.is_initializing():
            a, b = self._affine(running_mean.value, running_var.value, scale, bias)
            return (x.astype(jnp.float32) * a + b).astype(self.dtype)

        groups = self._split(x).astype(jnp.float32)
        axes = tuple(range(1, groups.ndim - 1))
        shift = None
        if not _MODE.get().one_pass:
            # Relative to one of their values, the mean is not large beside the deviations, whose
            # digits the difference of the variance would lose (Chan, Golub & LeVeque 1983).
            shift = jax.lax.stop_gradient(groups[(slice(None), *(0,) * len(axes))])
            groups -= jnp.expand_dims(shift, axes)
        # One pass over the activations: XLA fuses both sums into one reduction.
        mean = jnp.mean(groups, axes)
        var = jnp.maximum(jnp.mean(jnp.square(groups), axes) - jnp.square(mean), 0.0)
        center = mean if shift is None else mean + shift
        for running, group in ((running_mean, center), (running_var, var)):
            average = jnp.mean(group, axis=0)
            running.value = self.momentum * running.value + (1.0 - self.momentum) * average
        a, b = (jnp.expand_dims(value, axes) for value in self._affine(mean, var, scale, bias))
        return (groups * a + b).astype(self.dtype).reshape(x.shape)

    def _split(self, x: jax.Array) -> jax.Array:
        """`[B, ..., C]` -> `[B / v, v, ..., C]`."""
        size = self.virtual_batch_size or x.shape[0]
        if x.shape[0] % size:
            raise ConfigError(
                f"BatchNorm: batch of {x.shape[0]} does not divide into groups of "
                f"virtual_batch_size={size}: make the batch size a multiple of it"
            )
        if math.prod(x.shape[1:-1]) * size == 1:
            raise ConfigError(
                f"BatchNorm {'/'.join(self.path)}: each group has one value per channel, which is "
                "normalized to 0: set model.virtual_batch_size to 2 or more, or use larger images"
            )
        return rearrange(x, "(groups example) ... -> groups example ...", example=size)

    def _affine(
        self, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """(a, b) with x * a + b the normalized x: one multiply-add per activation."""
        a = scale * jax.lax.rsqrt(var + self.epsilon)
        return a, bias - mean * a
