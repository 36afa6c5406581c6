"""airbench, small convolutional networks for fast training on CIFAR-10: Jordan 2024, "94% on
CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498, sections 3.1 to 3.3 and 4.

A convolution that whitens 2x2 patches, three groups of convolutions with max-pooling, and a head
with scaled logits. The kernel of the whitening layer is computed from training images by
`init_from_data` and not trained; its bias is trained.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from imgcls.models.layers.base import ImageModel, tap
from imgcls.models.layers.conv import conv
from imgcls.models.layers.norm import BatchNorm
from imgcls.models.registry import register_model

# Side of the patches that are whitened.
_PATCH = 2
# Added to the eigenvalues of their covariance.
_EPSILON = 5e-4
# epsilon of BatchNorm in the original code.
_BN_EPSILON = 1e-12


def partial_dirac(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Initializer of kernels `[h, w, in, out]`: the first `in` outputs copy their input.

    Further outputs (out > in) are uniform within 1 / sqrt(h * w * in), the default of torch.
    Section 3.3 of the paper.
    """
    height, width, inputs, outputs = shape
    bound = (height * width * inputs) ** -0.5
    kernel = jax.random.uniform(key, shape, dtype, -bound, bound)
    copied = min(inputs, outputs)
    identity = jnp.zeros((height, width, inputs, copied), dtype)
    channels = jnp.arange(copied)
    identity = identity.at[height // 2, width // 2, channels, channels].set(1)
    return kernel.at[..., :copied].set(identity)


def whitening_kernel(images: np.ndarray) -> np.ndarray:
    """Kernel that whitens 2x2 patches: outputs are uncorrelated and have variance 1.

    Section 3.2 of the paper: the eigenvectors of the patches' second moments, largest eigenvalue
    first, each divided by the square root of its eigenvalue; then their negatives.

    Args:
      images: `[N, H, W, C]`, normalized as in training.

    Returns:
      float32 `[2, 2, C, 8 C]`.
    """
    channels = images.shape[-1]
    size = _PATCH**2 * channels
    total, count = np.zeros((size, size)), 0
    # In parts, because the patches take four times the memory of the images.
    for part in np.array_split(images, max(len(images) // 500, 1)):
        windows = np.lib.stride_tricks.sliding_window_view(part, (_PATCH, _PATCH), axis=(1, 2))
        patches = rearrange(windows, "n rows columns c h w -> (n rows columns) (h w c)").astype(
            np.float64
        )
        total += patches.T @ patches
        count += len(patches)
    values, vectors = np.linalg.eigh(total / count)
    values, vectors = values[::-1], vectors[:, ::-1]
    # The sign of an eigenvector is arbitrary: make its largest entry positive.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], axis=0)
    kernel = vectors * np.sign(largest) / np.sqrt(values + _EPSILON)
    kernel = np.concatenate([kernel, -kernel], axis=1)
    return np.float32(kernel).reshape(_PATCH, _PATCH, channels, 2 * size)


class Whiten(nn.Module):
    """A 2x2 convolution without padding, whose kernel gets no gradient.

    Attributes:
      features: output channels.
      dtype: dtype of the computation.
    """

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H - 1, W - 1, features]`."""
        shape = (_PATCH, _PATCH, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        kernel = jax.lax.stop_gradient(kernel).astype(self.dtype)
        axes = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=axes)
        return x + bias.astype(self.dtype)


class ConvGroup(nn.Module):
    """Convolutions with BatchNorm and GELU; the first is followed by max-pooling.

    Attributes:
      features: output channels.
      depth: number of convolutions.
      residual: whether to add the output of the first convolution before the last GELU.
      virtual_batch_size, bn_momentum: see `imgcls.models.layers.norm.BatchNorm`.
      dtype: dtype of the computation.
    """

    features: int
    depth: int
    residual: bool
    virtual_batch_size: int | None
    bn_momentum: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H // 2, W // 2, features]`."""
        skipped = None
        for i in range(1, self.depth + 1):
            x = conv(
                self.features, 3, kernel_init=partial_dirac, dtype=self.dtype, name=f"conv{i}"
            )(x)
            if i == 1:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            x = BatchNorm(
                self.virtual_batch_size,
                momentum=self.bn_momentum,
                epsilon=_BN_EPSILON,
                dtype=self.dtype,
                name=f"norm{i}",
            )(x, train=train)
            if skipped is not None and self.residual and i == self.depth:
                x = x + skipped
            x = nn.gelu(x, approximate=False)
            if i == 1:
                skipped = x
        return x


@register_model(
    "airbench94",
    input_size=32,
    source="94.01 % on CIFAR-10: KellerJordan/cifar10-airbench, airbench94_muon.py",
    logit_scale=1 / 256,
    head_std=1.0,
)
@register_model(
    "airbench96",
    input_size=32,
    source="96.01 % on CIFAR-10: KellerJordan/cifar10-airbench, airbench96.py",
    widths=(128, 512, 512),
    depth=3,
    bn_momentum=0.9,
    # As in linear layers of torch.
    head_std=(3 * 512) ** -0.5,
)
class AirBench(ImageModel, kw_only=True):
    """airbench. Groups of three convolutions have a residual connection over the last two.

    Attributes:
      widths: channels of each group.
      depth: convolutions of each group.
      logit_scale: factor of the logits.
      head_std: standard deviation of the head's initial weights.
      virtual_batch_size, bn_momentum: see `imgcls.models.layers.norm.BatchNorm`; the original uses
        the statistics of the full batch (None).
    """

    widths: tuple[int, ...] = (64, 256, 256)
    depth: int = 2
    logit_scale: float = 1 / 9
    head_std: float = 0.036
    virtual_batch_size: int | None = None
    bn_momentum: float = 0.6

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, H, W, C]`, of 9 pixels or more -> logits `[B, num_classes]`, or features
        `[B, widths[-1]]`; float32."""
        x = self.check_input(x, smallest=2 ** len(self.widths) + 1)
        width = 2 * _PATCH**2 * self.in_channels
        x = nn.gelu(Whiten(width, self.dtype, name="whiten")(x), approximate=False)
        options = (self.depth, self.depth > 2, self.virtual_batch_size, self.bn_momentum)
        for i, width in enumerate(self.widths, start=1):
            x = self.block(ConvGroup)(width, *options, self.dtype, name=f"group{i}")(x, train)
        x = jnp.max(tap(self, x).astype(jnp.float32), axis=(1, 2))
        if features:
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        init = nn.initializers.normal(self.head_std)
        return self.logit_scale * nn.Dense(
            self.num_classes, use_bias=False, kernel_init=init, name="head"
        )(x)

    def init_from_data(self, images: np.ndarray) -> dict:
        """Variables computed from training images, see `InitializesFromData`.

        Args:
          images: `[N, H, W, C]`, normalized as in training.
        """
        return {"params": {"whiten": {"kernel": whitening_kernel(images)}}}
