"""VoxNet: Maturana & Scherer 2015, "VoxNet: A 3D Convolutional Neural Network for Real-Time Object
Recognition", section IV, for volumes of 32^3 voxels such as occupancy grids.

Two convolutions without padding, one max-pooling, one hidden dense layer. Its dropout rates and
initial values are those of the authors' code (github dimatura/voxnet, config/shapenet10.py).
"""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.models.layers.base import ImageModel, tap
from imgcls.models.layers.conv import conv
from imgcls.models.layers.pooling import adaptive_avg_pool, max_pool
from imgcls.models.registry import register_model

# Side of the map before the dense layers, for volumes of 32^3.
_SIDE = 6
_SLOPE = 0.1
_leaky_he_normal = nn.initializers.variance_scaling(2 / (1 + _SLOPE**2), "fan_in", "normal")
_small = nn.initializers.normal(0.01)


@register_model("voxnet", input_size=32, source="Maturana & Scherer 2015")
class VoxNet(ImageModel, kw_only=True):
    """VoxNet. Maps of volumes of other sizes are averaged to 6^3.

    The rates of dropout are 1/2 of `drop_rate` after the first convolution, 3/4 after the pooling,
    and `drop_rate` after the dense layer.

    Attributes:
      width: channels of both convolutions.
      hidden: width of the dense layer.
      stride: stride of the first convolution.
    """

    spatial_axes: ClassVar[int] = 3

    width: int = 32
    hidden: int = 128
    stride: int = 2
    drop_rate: float = 0.4

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, D, H, W, C]` -> logits `[B, num_classes]`, or features `[B, hidden]`; float32.

        Raises:
          ConfigError: a side is too short for the convolutions (below 11 for a stride of 2).
        """
        x = self.check_input(x, smallest=3 * self.stride + 5)
        convolution = functools.partial(
            conv,
            self.width,
            padding=0,
            axes=3,
            use_bias=True,
            kernel_init=_leaky_he_normal,
            dtype=self.dtype,
        )
        x = nn.leaky_relu(convolution(kernel=5, stride=self.stride, name="conv1")(x), _SLOPE)
        x = self._drop(x, 1 / 2, train)
        x = nn.leaky_relu(convolution(kernel=3, name="conv2")(x), _SLOPE)
        x = self._drop(max_pool(tap(self, x), 2, 2), 3 / 4, train)
        x = adaptive_avg_pool(x, _SIDE)
        x = x.reshape(len(x), -1)
        x = nn.relu(nn.Dense(self.hidden, kernel_init=_small, dtype=self.dtype, name="fc1")(x))
        x = x.astype(jnp.float32)
        return x if features else self.classify(x, train)

    def _drop(self, x: jax.Array, share: float, train: bool) -> jax.Array:
        return nn.Dropout(share * self.drop_rate, deterministic=not train)(x)
