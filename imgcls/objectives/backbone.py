"""The model whose weights outlive an objective."""

import jax
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model


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


def moving_average(target, current, decay: jax.typing.ArrayLike):
    """`decay * target + (1 - decay) * current` for each array of two equal trees."""
    return jax.tree.map(lambda t, c: decay * t + (1.0 - decay) * c, target, current)
