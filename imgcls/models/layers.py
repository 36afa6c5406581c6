"""Layers that several model families share, and what every model has in common."""

import math
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imgcls.errors import ConfigError
from imgcls.models.convolution import convolve

# Of convolutions before a BatchNorm and ReLU (He et al. 2015, arXiv:1502.01852).
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# A collection that only `imgcls.explain` makes mutable: what a model shows of its inside.
EXPLAIN = "explain"


def is_explained(module: nn.Module) -> bool:
    """Whether the caller asks what the model looks at."""
    return module.is_mutable_collection(EXPLAIN) and not module.is_initializing()


def tap(module: nn.Module, x: jax.Array) -> jax.Array:
    """x, the last map before pooling: shown as "map", and moved by the "map" that is given.

    The gradient of a logit to that (of zeros) is the gradient to x, which Grad-CAM needs.
    """
    if is_explained(module):
        if module.has_variable(EXPLAIN, "map"):
            x = x + module.get_variable(EXPLAIN, "map")
        module.put_variable(EXPLAIN, "map", x)
    return x


class ImageModel(nn.Module):
    """The fields that every model has.

    Attributes:
      num_classes: number of logits.
      in_channels: channels of the pictures.
      drop_rate: dropout, before the head unless the family's paper puts it elsewhere.
      remat: recompute blocks in the backward pass, for less memory and about a third more time.
      dtype: of the computation. Parameters, the pooled features and the head are float32.
      compiler_options: what XLA is to be told, by platform, when it compiles a training step.
    """

    compiler_options: ClassVar[dict[str, dict[str, str]]] = {}

    num_classes: int
    in_channels: int = 3
    drop_rate: float = 0.0
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    def check_input(self, x: jax.Array, smallest: int = 1) -> jax.Array:
        """Pictures `[B, H, W, C]` in the dtype of the computation.

        Raises:
          ConfigError: another number of channels, or a side of less than `smallest` pixels.
        """
        if x.shape[-1] != self.in_channels:
            raise ConfigError(
                f"{type(self).__name__}: the pictures have {x.shape[-1]} channels, the model "
                f"takes {self.in_channels}: set model.in_channels or data.channels"
            )
        if min(x.shape[1:-1]) < smallest:
            size = "x".join(map(str, x.shape[1:-1]))
            raise ConfigError(
                f"{type(self).__name__}: pictures of {size} pixels are too small: every side "
                f"must have {smallest} or more"
            )
        return x.astype(self.dtype)

    def block(self, module: type[nn.Module]) -> type[nn.Module]:
        """A block that is called as `(x, train)`, recomputed in the backward pass by `remat`."""
        return nn.remat(module, static_argnums=(2,)) if self.remat else module

    def classify(self, x: jax.Array, train: bool) -> jax.Array:
        """Dropout, then logits `[B, num_classes]` of features `[B, D]`: the layer `head`."""
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01), name="head")(x)

    def classify_map(self, x: jax.Array, train: bool, features: bool) -> jax.Array:
        """Float32 logits of the mean over a map `[B, H, W, D]`, or with `features` that mean."""
        x = jnp.mean(tap(self, x).astype(jnp.float32), axis=(1, 2))
        return x if features else self.classify(x, train)


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167) over fixed virtual batches.

    In training, each group of `virtual_batch_size` consecutive examples is normalised by its own
    mean and variance ("ghost batches", Hoffer et al. 2017, arXiv:1705.08741, algorithm 1), so
    the result depends neither on the number of devices nor on the batch they share. Devices
    shard the axis of groups, and no statistics cross between them.

    The running mean and (biased) variance move once a step, towards the average over the groups:
    new = momentum * old + (1 - momentum) * average. They are used if `train` is false, and while
    the module is initialised.

    Attributes:
      virtual_batch_size: examples per group; None takes the whole batch as one group.
      momentum: weight of the old running statistics.
      epsilon: added to the variance.
      dtype: of the output. Statistics, parameters and the arithmetic are float32.
      scale_init: initialiser of the scale.
    """

    virtual_batch_size: int | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    scale_init: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalises x `[B, ..., C]` per channel.

        Raises:
          ConfigError: in training, B is not a multiple of `virtual_batch_size`.
        """
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if not train or self.is_initializing():
            a, b = self._affine(running_mean.value, running_var.value, scale, bias)
            return (x.astype(jnp.float32) * a + b).astype(self.dtype)

        groups = self._split(x).astype(jnp.float32)
        # One pass over the activations: XLA fuses both sums into one reduction.
        axes = tuple(range(1, groups.ndim - 1))
        mean = jnp.mean(groups, axes)
        var = jnp.maximum(jnp.mean(jnp.square(groups), axes) - jnp.square(mean), 0.0)
        for running, group in ((running_mean, mean), (running_var, var)):
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
        return x.reshape(x.shape[0] // size, size, *x.shape[1:])

    def _affine(
        self, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """(a, b) with x * a + b the normalised x: one multiply-add an activation."""
        a = scale * jax.lax.rsqrt(var + self.epsilon)
        return a, bias - mean * a


class ConvNormAct(nn.Module):
    """Convolution, BatchNorm, ReLU.

    Attributes:
      features: channels out.
      kernel: sides of the kernel; one number is a square.
      stride: in both directions.
      padding: zeros on every side, or (rows, columns) of them; None keeps the size at stride 1.
        It is symmetric, as in torch: "SAME" would pad a stride of 2 on one side only.
      groups: of channels that are convolved on their own.
      act: whether the ReLU is there.
      use_bias: of the convolution.
      scale_init: of the BatchNorm.
      virtual_batch_size, epsilon: see `BatchNorm`.
      dtype: of the computation.
    """

    features: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padding: int | tuple[int, int] | None = None
    groups: int = 1
    act: bool = True
    use_bias: bool = False
    scale_init: Callable = nn.initializers.ones
    virtual_batch_size: int | None = None
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H', W', features]`."""
        x = conv(
            self.features,
            self.kernel,
            self.stride,
            self.padding,
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
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: int | tuple[int, int] | None = None,
    *,
    groups: int = 1,
    use_bias: bool = False,
    kernel_init: Callable = he_normal,
    dtype: jnp.dtype,
    name: str,
) -> nn.Conv:
    """A convolution with symmetric zero padding; the arguments are those of `ConvNormAct`."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    if padding is None:
        padding = tuple(side // 2 for side in sides)
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    return nn.Conv(
        features,
        sides,
        strides=stride,
        padding=((rows, rows), (columns, columns)),
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=kernel_init,
        dtype=dtype,
        conv_general_dilated=convolve,
        name=name,
    )


class SqueezeExcite(nn.Module):
    """Channels weighted by a gate computed from their means.

    Hu et al. 2017, arXiv:1709.01507, section 3.

    Attributes:
      squeezed: channels between the two layers.
      dtype: of the computation.
    """

    squeezed: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x `[B, H, W, C]` -> the same shape."""
        gate = jnp.mean(x.astype(jnp.float32), axis=(1, 2), keepdims=True).astype(self.dtype)
        gate = conv(self.squeezed, 1, use_bias=True, dtype=self.dtype, name="fc1")(gate)
        gate = conv(x.shape[-1], 1, use_bias=True, dtype=self.dtype, name="fc2")(nn.relu(gate))
        return x * nn.sigmoid(gate)


class SplitAttention(nn.Module):
    """A 3x3 convolution into `radix` splits, and their sum weighted per channel by attention.

    Zhang et al. 2020, arXiv:2004.08955, section 3.1 and figure 2, with one cardinal group.

    Attributes:
      features: channels out.
      stride: of the convolution.
      radix: splits.
      virtual_batch_size: see `BatchNorm`.
      dtype: of the computation.
    """

    features: int
    stride: int
    radix: int
    virtual_batch_size: int | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H / stride, W / stride, features]`."""
        splits = (self.radix, self.features)
        # A quarter of the channels, but not too few, and a multiple of eight.
        squeezed = max(32, (self.features * self.radix // 4 + 4) // 8 * 8)

        def norm(x: jax.Array, name: str) -> jax.Array:
            layer = BatchNorm(self.virtual_batch_size, dtype=self.dtype, name=name)
            return nn.relu(layer(x, train=train))

        x = conv(
            math.prod(splits), 3, self.stride, groups=self.radix, dtype=self.dtype, name="conv"
        )(x)
        x = norm(x, "bn0")
        x = x.reshape(*x.shape[:-1], *splits)
        gap = jnp.mean(jnp.sum(x, axis=-2, dtype=jnp.float32), axis=(1, 2), keepdims=True)
        gate = conv(squeezed, 1, use_bias=True, dtype=self.dtype, name="fc1")(
            gap.astype(self.dtype)
        )
        gate = norm(gate, "bn1")
        gate = conv(math.prod(splits), 1, use_bias=True, dtype=self.dtype, name="fc2")(gate)
        gate = nn.softmax(gate.reshape(*gate.shape[:-1], *splits).astype(jnp.float32), axis=-2)
        return jnp.sum(x * gate.astype(self.dtype), axis=-2)


def max_pool(x: jax.Array, side: int, stride: int, *, padding: int = 0, ceil: bool = False):
    """Maximum over windows, `[B, H, W, C]`; with `ceil` the last window may hang over the edge."""
    pads = []
    for size in x.shape[1:3]:
        rest = (size + 2 * padding - side) % stride
        pads.append((padding, padding + (stride - rest if ceil and rest else 0)))
    return nn.max_pool(x, (side, side), strides=(stride, stride), padding=pads)


def avg_pool(x: jax.Array, side: int, stride: int, *, padding: int = 0) -> jax.Array:
    """Mean over windows, `[B, H, W, C]`; zeros of the padding count."""
    pads = ((padding, padding),) * 2
    return nn.avg_pool(x, (side, side), strides=(stride, stride), padding=pads)


def adaptive_avg_pool(x: jax.Array, side: int) -> jax.Array:
    """Means over a grid of side x side windows that cover x `[B, H, W, C]`, whatever its size.

    Window i spans floor(i * size / side) to ceil((i + 1) * size / side), as in torch.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        if size == side:
            continue
        weights = np.zeros((side, size), np.float32)
        for i in range(side):
            window = slice(i * size // side, -(-(i + 1) * size // side))
            weights[i, window] = 1 / (window.stop - window.start)
        x = jnp.moveaxis(jnp.tensordot(weights.astype(x.dtype), x, (1, axis)), 0, axis)
    return x


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
