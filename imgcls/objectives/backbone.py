"""The backbone: the model that an objective trains, and its variables."""

import jax
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model


def create_backbone(config: ConfigDict, data_info, num_outputs: int):
    """Creates the model of `config.model`.

    Args:
      config: complete config; `model` and `data.source` are read.
      data_info: classes and image shape of the data.
      num_outputs: number of logits of the head.

    Raises:
      ConfigError: unknown name or option, or a number of classes or channels that differs from
        the data's.
    """
    options = config.model.to_dict()
    classes, channels = len(data_info.class_names), data_info.image_shape[-1]
    num_classes = options.pop("num_classes", None)
    if num_classes not in (None, classes):
        raise ConfigError(
            f"config.model.num_classes={num_classes}: {config.data.source} has {classes} classes; "
            "leave the key out"
        )
    if options.setdefault("in_channels", channels) != channels:
        raise ConfigError(
            f"config.model.in_channels={options['in_channels']}: the images have {channels}; "
            "leave the key out, or set data.channels"
        )
    return create_model(options.pop("name"), num_outputs, **options)


def clip_options(model, batch: dict) -> dict:
    """Arguments of a model's call, other than the images: `length` of a batch of padded clips.

    Args:
      model: a model, such as `cnn_lstm`.
      batch: of padded clips it has the key `length`, int32 `[B]`: the frames of each clip that are
        no padding. Models without `takes_length` do not use it.
    """
    takes = getattr(model, "takes_length", False) and "length" in batch
    return {"length": batch["length"]} if takes else {}


def backbone_variables(objective, params, model_state) -> dict:
    """Variables of `objective.model` alone: `{"params": ..., **collections}`."""
    variables, key = {"params": params, **model_state}, objective.backbone
    if key is None:
        return variables
    return {name: tree[key] for name, tree in variables.items() if key in tree}


def place_backbone(objective, variables: dict) -> dict:
    """Inverse of `backbone_variables`; the objective's other variables are missing."""
    key = objective.backbone
    return variables if key is None else {name: {key: tree} for name, tree in variables.items()}


def moving_average(target, current, decay: jax.typing.ArrayLike):
    """`decay * target + (1 - decay) * current` for each array of two trees of one structure."""
    return jax.tree.map(lambda t, c: decay * t + (1.0 - decay) * c, target, current)
