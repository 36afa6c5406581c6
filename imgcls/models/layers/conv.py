"""Convolutional layers."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.models.layers.convolution import convolve
from imgcls.models.layers.norm import BatchNorm

# Initializer for convolutions before BatchNorm and ReLU (He et al. 2015, arXiv:1502.01852).
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ConvNormAct(nn.Module):
    """Convolution, BatchNorm, ReLU.

    Attributes:
      features: output channels.
      kernel: kernel size, one number or one for each axis, such as (rows, columns).
      stride: stride, in the same way.
      padding: zero padding on each side, in the same way; None keeps the size at stride 1.
        Symmetric, as in torch; "SAME" would pad only one side at stride 2.
      groups: groups of channels that are convolved separately.
      act: whether ReLU follows.
      use_bias: whether the convolution has a bias.
      axes: number of axes before the channels.
      scale_init: initializer of BatchNorm's scale.
      virtual_batch_size, epsilon: see `BatchNorm`.
      dtype: dtype of the computation.
    """

    features: int
    kernel: int | tuple[int, ...] = 1
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] | None = None
    groups: int = 1
    act: bool = True
    use_bias: bool = False
    axes: int = 2
    scale_init: Callable = nn.initializers.ones
    virtual_batch_size: int | None = None
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, ..., C]` -> `[B, ..., features]`."""
        x = conv(
            self.features,
            self.kernel,
            self.stride,
            self.padding,
            axes=self.axes,
            groups=self.groups,
            use_bias=self.use_bias,
            dtype=self.dtype,
            name="conv",
        )(x)
        x = BatchNorm(
            self.virtual_batch_size,
            epsilon=self.epsilon,
            dtype=self.dtype,
            scale_init=self.scale_init,
            name="bn",
        )(x, train=train)
        return nn.relu(x) if self.act else x


def conv(
    features: int,
    kernel: int | tuple[int, ...],
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | None = None,
    *,
    axes: int = 2,
    groups: int = 1,
    use_bias: bool = False,
    kernel_init: Callable = he_normal,
    dtype: jnp.dtype,
    name: str,
) -> nn.Conv:
    """Creates a convolution over `axes` axes with symmetric zero padding.

    For the other arguments see `ConvNormAct`; with three axes, one number is a cube.
    """
    sides = (kernel,) * axes if isinstance(kernel, int) else kernel
    if padding is None:
        padding = tuple(side // 2 for side in sides)
    zeros = (padding,) * axes if isinstance(padding, int) else padding
    return nn.Conv(
        features,
        sides,
        strides=stride,
        padding=tuple((number, number) for number in zeros),
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=kernel_init,
        dtype=dtype,
        conv_general_dilated=convolve,
        name=name,
    )


class SqueezeExcite(nn.Module):
    """Scales channels by gates computed from their means.

    Hu et al. 2017, arXiv:1709.01507, section 3, equations 2 to 4.

    Attributes:
      squeezed: channels between the two layers.
      dtype: of the computation.
    """

    squeezed: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x `[B, ..., C]` -> the same shape."""
        spatial = tuple(range(1, x.ndim - 1))
        conv1x1 = functools.partial(
            conv, kernel=1, axes=len(spatial), use_bias=True, dtype=self.dtype
        )
        gate = jnp.mean(x.astype(jnp.float32), axis=spatial, keepdims=True).astype(self.dtype)
        gate = conv1x1(self.squeezed, name="fc1")(gate)
        gate = conv1x1(x.shape[-1], name="fc2")(nn.relu(gate))
        return x * nn.sigmoid(gate)
