"""Models by name: `create_model("resnet50", num_classes=1000, dtype="bfloat16")`.

Every model is a `flax.linen.Module` called as `model(x, *, train=False, features=False)`:

- x: float `[B, H, W, C]`;
- returns float32 logits `[B, K]`, or with `features=True` the float32 pooled features `[B, D]`
  that the head reads (a model initialised so has no head);
- parameters are float32, the computation runs in `dtype`;
- `train=True` draws from the rng "dropout" and updates the collection "batch_stats", where the
  model has any;
- a model may have `init_from_data(images) -> {collection: {...}}`: what training images decide of
  fresh variables, given those normalised, as NumPy `[N, H, W, C]`;
- the logits of auxiliary classifiers, in training, are sown as "aux_logits" into the collection
  "intermediates".

A new family is one new file in this package that calls `register_model`: every file here is
imported when a model is first asked for.
"""

import dataclasses
import difflib
import fnmatch
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from imgcls.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """What a model name stands for.

    Attributes:
      module: the class; its fields are the options that `create_model` takes.
      defaults: values of the fields that make this model, such as its depth.
      input_size: side in pixels of the pictures that the model was designed for.
      top1: published accuracy on ImageNet in percent, one crop, trained on ImageNet-1k alone
        unless the source says otherwise.
      source: where that was published.
    """

    module: type[nn.Module]
    defaults: Mapping[str, Any]
    input_size: int = 224
    top1: float | None = None
    source: str = ""

    @property
    def options(self) -> list[str]:
        """Names of the options that `create_model` takes for this model, sorted."""
        fields = {field.name for field in dataclasses.fields(self.module)}
        return sorted(fields - {"parent", "name", "num_classes"})


_entries: dict[str, ModelEntry] = {}
_patterns: dict[str, Callable[..., ModelEntry]] = {}


def register_model(
    name: str,
    *,
    input_size: int = 224,
    top1: float | None = None,
    source: str = "",
    **defaults: Any,
) -> Callable:
    """Class decorator: `name` is this module with these values of its fields."""

    def register(module: type[nn.Module]) -> type[nn.Module]:
        _entries[name] = ModelEntry(module, defaults, input_size, top1, source)
        return module

    return register


def register_pattern(pattern: str) -> Callable:
    """Decorator of a function that makes the entry of any name that the whole regex matches.

    The function is called with the groups of the match. Such names work without being listed.
    """

    def register(make_entry: Callable[..., ModelEntry]) -> Callable[..., ModelEntry]:
        _patterns[pattern] = make_entry
        return make_entry

    return register


def list_models(pattern: str = "*") -> list[str]:
    """Registered names that match a shell pattern such as "resnet*", sorted."""
    _import_families()
    return sorted(fnmatch.filter(_entries, pattern))


def model_entry(name: str) -> ModelEntry:
    """The registry's entry for a name.

    Raises:
      ConfigError: there is no such model; names the nearest one.
    """
    _import_families()
    if name in _entries:
        return _entries[name]
    for pattern, make_entry in _patterns.items():
        if match := re.fullmatch(pattern, name):
            return make_entry(*match.groups())
    raise ConfigError(f"unknown model {name!r}: {_nearest(name, list_models())}")


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
    """Makes the module of a model; its parameters come from `module.init`.

    Args:
      name: one of `list_models()`, or a name that a family's pattern accepts, such as "vit_s4".
      num_classes: number of logits.
      in_channels: channels of the pictures: 3 for colour, 1 for grey, any other.
      dtype: of the computation: float32 or bfloat16.
      drop_rate: dropout, where the family's paper puts it; None is the model's default.
      drop_path: stochastic depth of the last residual block; None is the model's default.
      remat: recompute the blocks in the backward pass, for less memory.
      **options: other fields of the module class, for example `virtual_batch_size=32`.

    Raises:
      ConfigError: unknown name, option or dtype, `drop_path` of a model without residual blocks,
        or a number of classes or channels below 1.
    """
    entry = model_entry(name)
    for option, value in (("drop_rate", drop_rate), ("drop_path", drop_path)):
        if value is not None:
            options[option] = value
    if "drop_path" not in entry.options and not options.get("drop_path", 1.0):
        del options["drop_path"]
    for option in options:
        if option not in entry.options:
            hint = _nearest(option, entry.options)
            raise ConfigError(f"model {name!r} has no option {option!r}: {hint}")
    if not 0 <= (drop_rate or 0.0) < 1:
        raise ConfigError(f"drop_rate is {drop_rate}: write a number from 0 to below 1")
    for what, number in (("num_classes", num_classes), ("in_channels", in_channels)):
        if number < 1:
            raise ConfigError(f"{what} is {number}: write a number of 1 or more")
    return entry.module(
        num_classes=num_classes,
        in_channels=in_channels,
        dtype=_compute_dtype(dtype),
        remat=remat,
        **{**entry.defaults, **options},
    )


def _compute_dtype(dtype: str | jnp.dtype) -> jnp.dtype:
    try:
        compute_dtype = jnp.dtype(dtype)
    except TypeError:
        compute_dtype = None
    if compute_dtype not in (jnp.dtype("float32"), jnp.dtype("bfloat16")):
        raise ConfigError(f"model dtype is {dtype!r}: write 'float32' or 'bfloat16'")
    return compute_dtype


def _nearest(word: str, choices: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}choose from {', '.join(choices)}"


@functools.cache
def _import_families() -> None:
    # Not at import time: the families import this module.
    for module in pkgutil.iter_modules(__path__):
        if module.name != "__main__":
            importlib.import_module(f"{__name__}.{module.name}")
