"""The registry of models.

Every model is a `flax.linen.Module` called as `model(x, *, train=False, features=False)`:

- x: float images `[B, H, W, C]`, normalized;
- returns float32 logits `[B, K]`, or with `features=True` the float32 pooled features `[B, D]`,
  the input of the head (a model initialized with `features=True` has no head);
- parameters are float32, the computation is in `dtype`;
- `train=True` uses the rng "dropout" and updates the collection "batch_stats", if the model has
  dropout or BatchNorm;
- in training, the logits `[B, K]` of auxiliary classifiers are sown as "aux_logits" into the
  collection "intermediates";
- a model of clips `[B, T, H, W, C]` with `takes_length` has the argument `length=None`, int `[B]`,
  the number of frames of each clip that are no padding;
- a model may have `init_from_data`, see `imgcls.models.layers.base.InitializesFromData`.

A new family is one new file in this package that calls `register_model`: all files of the package
are imported when a model is first looked up.
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
    """A registered model.

    Attributes:
      module: module class; its fields are the options of `create_model`.
      defaults: values of the fields for this model, such as its depth.
      input_size: side in pixels of the images that the model was designed for.
      input_frames: frames of the clips that the model was designed for; None: it is no model of
        clips.
      top1: published top-1 accuracy on ImageNet in percent, for one crop, trained on ImageNet-1k
        alone unless the source states otherwise.
      source: publication of the accuracy.
    """

    module: type[nn.Module]
    defaults: Mapping[str, Any]
    input_size: int = 224
    top1: float | None = None
    source: str = ""
    input_frames: int | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """`(H, W)`, `(D, H, W)` or `(T, H, W)` of the examples that the model was designed for."""
        first = () if self.input_frames is None else (self.input_frames,)
        return first + (self.input_size,) * (self.spatial_axes - len(first))

    @property
    def spatial_axes(self) -> int:
        """Axes of an example before its channels: 2 of an image, 3 of a volume or a clip."""
        return getattr(self.module, "spatial_axes", 2)

    @property
    def options(self) -> list[str]:
        """Names of the options of `create_model` for this model, sorted."""
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
    input_frames: int | None = None,
    **defaults: Any,
) -> Callable:
    """Class decorator that registers a model.

    Args:
      name: name for `create_model`.
      input_size, top1, source, input_frames: see `ModelEntry`.
      **defaults: values of the module's fields.
    """

    def register(module: type[nn.Module]) -> type[nn.Module]:
        MODELS.add(name, ModelEntry(module, defaults, input_size, top1, source, input_frames))
        return module

    return register


def register_pattern(pattern: str) -> Callable:
    """Decorator of a function that creates the entry of names that fully match a regex.

    The function is called with the groups of the match. `list_models` does not list these names.
    """

    def register(make_entry: Callable[..., ModelEntry]) -> Callable[..., ModelEntry]:
        _patterns[pattern] = make_entry
        return make_entry

    return register


def list_models(pattern: str = "*") -> list[str]:
    """Registered names that match a shell pattern such as "resnet*", sorted."""
    return fnmatch.filter(MODELS, pattern)


def model_entry(name: str) -> ModelEntry:
    """Entry of a registered name, or of a name that matches a pattern.

    Raises:
      ConfigError: unknown model; the message suggests the most similar name.
    """
    if name not in MODELS:
        for pattern, make_entry in _patterns.items():
            if match := re.fullmatch(pattern, name):
                return make_entry(*match.groups())
    return MODELS.find(name)
