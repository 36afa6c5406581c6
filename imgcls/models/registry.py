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
import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from imgcls.core.registry import Registry, Signature


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


MODELS: Registry[ModelEntry] = Registry(
    "model",
    "imgcls.models",
    describe=lambda entry: Signature(
        entry.module, 0, entry.defaults, ("parent", "name", "num_classes")
    ),
)
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
        MODELS.add(name, ModelEntry(module, defaults, input_size, top1, source))
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
    return fnmatch.filter(MODELS, pattern)


def model_entry(name: str) -> ModelEntry:
    """The registry's entry for a name.

    Raises:
      ConfigError: there is no such model; names the nearest one.
    """
    if name not in MODELS:
        for pattern, make_entry in _patterns.items():
            if match := re.fullmatch(pattern, name):
                return make_entry(*match.groups())
    return MODELS.find(name)
