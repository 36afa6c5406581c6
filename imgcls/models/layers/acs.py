"""ACS convolution: the kernels of a model of images, applied to volumes along three planes."""

import functools
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.core.errors import ConfigError
from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.conv import conv, he_normal
from imgcls.models.layers.convolution import convolve


class ACSConv(nn.Module):
    """Convolution over three axes whose kernel has two (Yang et al. 2019, arXiv:1911.10477, section
    3.2): a third of the output channels each sees the axial, coronal and sagittal plane.

    The parameters are those of the convolution of images. The first thirds are larger by one where
    the channels do not divide by three.

    Attributes:
      features: output channels.
      side: side of the kernel, an odd number.
      stride: stride along the three axes.
      use_bias: whether there is a bias.
      kernel_init: initializer of the kernel.
      dtype: dtype of the computation.
    """

    features: int
    side: int
    stride: int
    use_bias: bool
    kernel_init: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x `[B, D, H, W, C]` -> `[B, D', H', W', features]`, zeros around x."""
        shape = (self.side, self.side, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(self.dtype)
        parts, start = [], 0
        for axis in range(3):
            count = (self.features - start) // (3 - axis)
            count += (self.features - start) % (3 - axis) > 0
            plane = jnp.expand_dims(kernel[..., start : start + count], axis)
            if count:
                parts.append(self._convolve(x.astype(self.dtype), plane))
            start += count
        y = jnp.concatenate(parts, axis=-1)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype)
        return y

    def _convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolve(
            x,
            kernel,
            (self.stride,) * 3,
            [(side // 2, side // 2) for side in kernel.shape[:3]],
            lhs_dilation=(1, 1, 1),
            rhs_dilation=(1, 1, 1),
            dimension_numbers=jax.lax.conv_dimension_numbers(
                x.shape, kernel.shape, ("NDHWC", "DHWIO", "NDHWC")
            ),
            feature_group_count=1,
            precision=None,
        )


class OverVolumes(ImageModel, kw_only=True):
    """Base of a model of images that is applied over three axes, with cubes as kernels.

    Attributes:
      acs: whether the kernels are those of the model of images, applied along three planes, see
        `ACSConv`.
    """

    spatial_axes: ClassVar[int] = 3

    acs: bool = False

    @property
    def convolution(self) -> Callable:
        """Creates convolutions of volumes, called as `conv`."""
        return functools.partial(_acs_conv if self.acs else conv, axes=3, dtype=self.dtype)


def _acs_conv(
    features: int,
    kernel: int,
    stride: int = 1,
    *,
    axes: int,
    groups: int = 1,
    use_bias: bool = False,
    kernel_init: Callable = he_normal,
    dtype: jnp.dtype,
    name: str,
) -> ACSConv:
    if groups > 1:
        raise ConfigError("model.acs=True: its convolutions have no groups: write groups=1")
    return ACSConv(features, kernel, stride, use_bias, kernel_init, dtype, name=name)
