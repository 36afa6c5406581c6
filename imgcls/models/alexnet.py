"""AlexNet for one device: Krizhevsky 2014, arXiv:1404.5997, section 5, which simplifies Krizhevsky,
Sutskever & Hinton 2012 (no split over two GPUs, no local response normalization).

The hidden dense layers of the paper are convolutions: 6x6 without padding, then 1x1.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.models.layers.base import ImageModel, tap
from imgcls.models.layers.conv import conv
from imgcls.models.layers.pooling import adaptive_avg_pool, max_pool
from imgcls.models.registry import register_model


class ConvRelu(nn.Module):
    """A convolution with bias, then ReLU.

    Attributes:
      features, kernel, stride, padding: see `imgcls.models.layers.conv.ConvNormAct`.
      dtype: of the computation.
    """

    features: int
    kernel: int
    stride: int
    padding: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H', W', features]`."""
        layer = conv(
            self.features,
            self.kernel,
            self.stride,
            self.padding,
            use_bias=True,
            dtype=self.dtype,
            name="conv",
        )
        return nn.relu(layer(x))


@register_model("alexnet", top1=56.52, source="torchvision, IMAGENET1K_V1")
class AlexNet(ImageModel, kw_only=True):
    """AlexNet, with dropout before both hidden dense layers; other maps are averaged to 6x6."""

    drop_rate: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, H, W, C]`, of 63 pixels or more -> logits `[B, num_classes]`, or features
        `[B, 4096]`; float32."""
        x = self.check_input(x, smallest=63)

        def layer(x, name, *shape):
            return self.block(ConvRelu)(*shape, self.dtype, name=name)(x, train)

        x = max_pool(layer(x, "conv1", 64, 11, 4, 2), 3, 2)
        x = max_pool(layer(x, "conv2", 192, 5, 1, 2), 3, 2)
        x = layer(x, "conv3", 384, 3, 1, 1)
        x = layer(x, "conv4", 256, 3, 1, 1)
        x = max_pool(tap(self, layer(x, "conv5", 256, 3, 1, 1)), 3, 2)
        x = adaptive_avg_pool(x, 6)
        for name, kernel in (("fc6", 6), ("fc7", 1)):
            x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
            x = layer(x, name, 4096, kernel, 1, 0)
        x = x[:, 0, 0].astype(jnp.float32)
        if features:
            return x
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01), name="head")(x)
