"""What a training step optimises. An objective is one file here and one name in a config.

`train.py` knows an objective by this alone:

- `init(rng, batch_spec) -> (params, model_state)`: fresh variables for batches of that shape;
- `init_target(params, model_state) -> target`: the slow copy that it keeps (EMA, teacher), or None;
- `loss(params, model_state, target, batch, rng, step) -> (loss, (model_state, metrics))`: the loss
  of a batch, a scalar, with the model's new state and scalar metrics;
- `update_target(target, params, model_state, step) -> target`: after each update;
- `features(params, model_state, batch, layer="backbone") -> [B, D]`: for probes; `layer` is one of
  `feature_layers`;
- `eval_variables(state) -> {prefix: (params, model_state)}`: what evaluators look at;
- `num_outputs`: K of the labels that batch transforms mix;
- `model` and `backbone`: the model whose weights outlive the objective, and the key under which its
  variables stand in `params` and in each collection of `model_state` (None: they are all its own).

One that can classify also has `logits`, `scores`, `example_loss` and `task` (see `Supervised`), and
one that draws pictures `reconstruct(params, model_state, batch, rng) -> {"input": [B, H, W, C],
"masked": ..., "output": ...}`, normalised as the input is.

Images reach it normalised, float32 `[B, ..., C]`. A new objective registers its class by name; the
class takes `(config, data_info, **options)` with the options of `config.objective`. One that learns
a backbone without a classifier subclasses `pretraining.Pretraining` and writes its loss alone.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from imgcls.config import check_choice
from imgcls.errors import ConfigError
from imgcls.models import create_model

_objectives: dict[str, type] = {}


def register_objective(name: str) -> Callable[[type], type]:
    """Class decorator: makes an objective known to configs as `name`."""

    def register(objective: type) -> type:
        _objectives[name] = objective
        return objective

    return register


def list_objectives() -> list[str]:
    """Registered names, sorted."""
    _import_objectives()
    return sorted(_objectives)


def create_objective(config: ConfigDict, data_info):
    """The objective of `config.objective`, with a model for the classes and images of the data.

    Raises:
      ConfigError: unknown name or option, or labels that the objective can't use.
    """
    options = config.objective.to_dict()
    name = options.pop("name")
    check_choice("objective.name", name, list_objectives())
    valid = list(inspect.signature(_objectives[name]).parameters)[2:]
    for option in options:
        check_choice(f"objective.{option}", option, valid)
    return _objectives[name](config, data_info, **options)


def create_backbone(config: ConfigDict, data_info, num_outputs: int):
    """The model of `config.model` for the data's pictures.

    Raises:
      ConfigError: unknown name or option, or classes or channels that are not the data's.
    """
    options = config.model.to_dict()
    classes, channels = len(data_info.class_names), data_info.image_shape[-1]
    given = options.pop("num_classes", None)
    if given not in (None, classes):
        raise ConfigError(
            f"config.model.num_classes={given}: {config.data.source} has {classes} classes; "
            "leave the key out"
        )
    if options.setdefault("in_channels", channels) != channels:
        raise ConfigError(
            f"config.model.in_channels={options['in_channels']}: the pictures have {channels}; "
            "leave the key out, or set data.channels"
        )
    return create_model(options.pop("name"), num_outputs, **options)


def backbone_variables(objective, params, model_state) -> dict:
    """Those of `objective.model` alone: `{"params": ..., **collections}`."""
    variables, key = {"params": params, **model_state}, objective.backbone
    if key is None:
        return variables
    return {name: tree[key] for name, tree in variables.items() if key in tree}


def place_backbone(objective, variables: dict) -> dict:
    """The inverse of `backbone_variables`, without what the objective has beside the model."""
    key = objective.backbone
    return variables if key is None else {name: {key: tree} for name, tree in variables.items()}


def moving_average(target, current, decay: float):
    """`decay * target + (1 - decay) * current` for each array of two equal trees."""
    return jax.tree.map(lambda t, c: decay * t + (1.0 - decay) * c, target, current)


@functools.cache
def _import_objectives() -> None:
    # Not at import time: the objectives import this module.
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
