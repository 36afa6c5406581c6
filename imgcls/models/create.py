"""Creates models by name."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from imgcls.core.errors import ConfigError, did_you_mean
from imgcls.models.registry import model_entry


def create_model(
    name: str,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    dtype: str | jnp.dtype = "float32",
    drop_rate: float | None = None,
    drop_path: float | None = None,
    remat: bool = False,
    **options: Any,
) -> nn.Module:
    """Creates the module of a model; `module.init` returns its variables.

    Args:
      name: one of `list_models()`, or a name that matches a pattern of a family, such as "vit_s4".
      num_classes: number of logits K.
      in_channels: channels C of the images, such as 3 for color and 1 for grayscale.
      dtype: dtype of the computation, float32 or bfloat16.
      drop_rate: dropout rate; None: the model's default.
      drop_path: stochastic depth rate of the last residual block; None: the model's default.
      remat: whether to recompute the blocks in the backward pass, to save memory.
      **options: other fields of the module class, for example `virtual_batch_size=32`.

    Returns:
      A module called as described in `imgcls.models.registry`.

    Raises:
      ConfigError: unknown name, option or dtype, `drop_path` of a model without residual blocks,
        or a number of classes or channels below 1.
    """
    module, fields = model_fields(
        name,
        num_classes,
        in_channels=in_channels,
        dtype=dtype,
        drop_rate=drop_rate,
        drop_path=drop_path,
        remat=remat,
        **options,
    )
    return module(**fields)


def model_fields(
    name: str,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    dtype: str | jnp.dtype = "float32",
    drop_rate: float | None = None,
    drop_path: float | None = None,
    remat: bool = False,
    **options: Any,
) -> tuple[type[nn.Module], dict[str, Any]]:
    """The class of a model and its fields, for modules that create it as a part of themselves.

    The arguments and errors are those of `create_model`.
    """
    entry = model_entry(name)
    for option, value in (("drop_rate", drop_rate), ("drop_path", drop_path)):
        if value is not None:
            options[option] = value
    if "drop_path" not in entry.options and not options.get("drop_path", 1.0):
        del options["drop_path"]
    for option in options:
        if option not in entry.options:
            raise ConfigError(
                f"model {name!r} has no option {option!r}{did_you_mean(option, entry.options)}; "
                f"valid: {', '.join(entry.options)}"
            )
    if not 0 <= (drop_rate or 0.0) < 1:
        raise ConfigError(f"drop_rate is {drop_rate}: write a number from 0 to below 1")
    for what, number in (("num_classes", num_classes), ("in_channels", in_channels)):
        if number < 1:
            raise ConfigError(f"{what} is {number}: write a number of 1 or more")
    given = dict(num_classes=num_classes, in_channels=in_channels, remat=remat)
    return entry.module, {**entry.defaults, **options, **given, "dtype": _compute_dtype(dtype)}


def _compute_dtype(dtype: str | jnp.dtype) -> jnp.dtype:
    try:
        compute_dtype = jnp.dtype(dtype)
    except TypeError:
        compute_dtype = None
    if compute_dtype is None or compute_dtype not in (jnp.float32, jnp.bfloat16):
        raise ConfigError(f"model dtype is {dtype!r}: write 'float32' or 'bfloat16'")
    return compute_dtype
