"""timm's `config.json` of a model, for `timm.create_model("local-dir:DIR", pretrained=True)`.

The keys are those of `save_config_for_hf` in timm/models/_hub.py.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from typing import Any

from imgcls.core.errors import ConfigError
from imgcls.data.transforms import spec
from imgcls.models.layers.base import ImageModel
from imgcls.models.registry import list_models, model_entry
from imgcls.models.resnest import ResNeSt
from imgcls.models.resnet import ResNet
from imgcls.models.vgg import VGG
from imgcls.models.vit import ViT
from imgcls.models.weights.tables import (
    CLASSIFIERS,
    STEM,
    layouts,
    timm_name,
)

# Options that affect only training, or the number of inputs and outputs.
_NEUTRAL = (
    *("num_classes", "in_channels", "dtype", "remat", "drop_rate", "drop_path"),
    *("uniform_drop_path", "virtual_batch_size", "zero_init_residual", "aux"),
)
_VIT_SIZE = ("patch_size", "width", "depth", "num_heads", "mlp_dim")


@functools.singledispatch
def timm_options(model: ImageModel) -> tuple[str, ...]:
    """Options of a model's family that are also arguments in timm."""
    return ()


@timm_options.register(ResNet | ResNeSt)
def _(model: ResNet | ResNeSt) -> tuple[str, ...]:
    return ("stage_sizes",)


@timm_options.register
def _(model: ViT) -> tuple[str, ...]:
    tokens = ("pool", "class_token", "fc_norm", "distilled", "registers", "embed_prefix")
    return (*_VIT_SIZE, *tokens, "pos_embed", "layer_scale")


@functools.singledispatch
def timm_arguments(model: ImageModel, name: str, image_shape: tuple[int, int, int]) -> dict:
    """Arguments of timm's model with the values of `timm_options`."""
    return {}


@timm_arguments.register(ResNet | ResNeSt)
def _(model: ResNet | ResNeSt, name: str, image_shape: tuple[int, int, int]) -> dict:
    if model.stage_sizes == model_entry(name).defaults["stage_sizes"]:
        return {}
    return {"layers": list(model.stage_sizes)}


@timm_arguments.register
def _(model: ViT, name: str, image_shape: tuple[int, int, int]) -> dict:
    height, width, _ = image_shape
    ratio = model.mlp_dim / model.width
    if int(model.width * ratio) != model.mlp_dim:
        ratio = (model.mlp_dim + 0.5) / model.width  # timm rounds down
    args = {
        "img_size": height if height == width else [height, width],
        "patch_size": model.patch_size,
        "embed_dim": model.width,
        "depth": model.depth,
        "num_heads": model.num_heads,
        "mlp_ratio": ratio,
    }
    if model.pool == "gap":
        args |= {"class_token": model.has_class_token, "global_pool": "avg"}
    if model.pool == "map":
        args |= {"class_token": model.has_class_token, "global_pool": "map"}
    if model.pool == "gap" or model.fc_norm:
        args["fc_norm"] = model.fc_norm
    if model.registers:
        args["reg_tokens"] = model.registers
    if not model.embed_prefix:
        args["no_embed_class"] = True
    if model.layer_scale is not None:
        args["init_values"] = model.layer_scale
    return args


def timm_config(
    name: str,
    model: ImageModel,
    paths: Sequence[str],
    image_shape: tuple[int, int, int],
    class_names: Sequence[str],
    preprocessing: dict[str, Any],
) -> dict[str, Any]:
    """The JSON object from which timm creates the model and its evaluation transform.

    Args:
      name: `config.model.name`.
      model: module of a family that is in timm.
      paths: paths of its parameters, such as "head/kernel".
      image_shape: `(H, W, C)` of images in evaluation.
      class_names: names of the classes; left out if their number is not that of the logits.
      preprocessing: `mean` and `std` of pixels in [0, 1], and the result of `timm_transform`.

    Raises:
      ConfigError: timm's model of this name has no equivalent of an option.
    """
    _check_options(name, model, image_shape)
    height, width, channels = image_shape
    layout = layouts(model, "timm")[0]

    def modules(pattern: str) -> list[str]:
        kernels = (p for p in paths if p.endswith("/kernel") and re.search(pattern, p))
        kernels = (p for p in kernels if not p.startswith("AuxLogits/"))
        return [layout.names(p, model)[0].removesuffix(".weight") for p in kernels]

    (first_conv,), classifiers = modules(STEM), modules(CLASSIFIERS)
    arguments = timm_arguments(model, name, image_shape)
    config = {
        "architecture": _architecture(name, model),
        "num_classes": model.num_classes,
        "model_args": {"in_chans": channels, **arguments},
        "pretrained_cfg": {
            "input_size": [channels, height, width],
            "fixed_input_size": "img_size" in arguments,
            "num_classes": model.num_classes,
            "first_conv": first_conv,
            "classifier": classifiers if len(classifiers) > 1 else classifiers[0],
            **preprocessing,
        },
    }
    if len(class_names) == model.num_classes:
        config["label_names"] = list(class_names)
    return config


def timm_transform(transform: str) -> dict[str, Any] | None:
    """timm's `crop_pct`, `crop_mode` and `interpolation` of an evaluation transform.

    Args:
      transform: `config.data.eval_transform`.

    Returns:
      The three by name, or None if timm has no equivalent.
    """
    try:
        steps = spec.parse(transform, {f.__name__: f for f in (resize, center_crop, eval_crop)}, "")
    except ConfigError:
        return None
    pct, mode, interpolation = None, "center", "bicubic"
    match steps:
        case []:
            pct, mode = 1.0, "squash"
        case [("resize", (_, _), interpolation)]:
            pct, mode = 1.0, "squash"
        case [("eval_crop", pct, interpolation)]:
            pass
        # timm recomputes the side from the fraction, and rounds it down.
        case [("resize", int(side), interpolation), ("center_crop", int(size))]:
            pct = size / side if math.floor(size / (size / side)) == side else None
    if pct is None:
        return None
    interpolation = {"area": "box"}.get(interpolation, interpolation)
    return {"crop_pct": pct, "crop_mode": mode, "interpolation": interpolation}


def resize(size, interpolation="bicubic"):
    """Arguments of the transform of this name, for `timm_transform`."""
    return "resize", size, interpolation


def center_crop(size):
    """Arguments of the transform of this name, for `timm_transform`."""
    return "center_crop", size


def eval_crop(size, crop_fraction=0.875, interpolation="bicubic"):
    """Arguments of the transform of this name, for `timm_transform`."""
    return "eval_crop", crop_fraction, interpolation


def _check_options(name: str, model: ImageModel, image_shape: tuple[int, int, int]) -> None:
    entry = model_entry(name)
    defaults = {field.name: field.default for field in dataclasses.fields(model)}
    for option in entry.options:
        value = getattr(model, option)
        default = entry.defaults.get(option, defaults[option])
        expressible = option in timm_options(model)
        if option == "stage_sizes" and len(value) != len(default):
            expressible = False
        if option not in _NEUTRAL and not expressible and value != default:
            raise ConfigError(
                f"config.model.{option}={value!r}: timm's {timm_name(name)} can't have this value: "
                "use --format=stablehlo"
            )
    # timm convolves maps larger than 7x7; torchvision and this package average them to 7x7.
    if isinstance(model, VGG) and max(image_shape[:2]) >= 256:
        raise ConfigError(
            f"config.data.eval_transform: timm's {name} computes different logits for images of "
            "256 pixels or more: use --format=stablehlo"
        )


def _architecture(name: str, model: ImageModel) -> str:
    """timm's name; for a ViT that timm does not list, one that takes the same arguments."""
    architecture = timm_name(name)
    if architecture is None:
        raise ConfigError(f"timm has no {name}: use --format=stablehlo")
    if not isinstance(model, ViT):
        return architecture
    # A default of the name that differs may not be an argument, such as no LayerScale.
    defaults = {k: v for k, v in model_entry(name).defaults.items() if k in timm_options(model)}
    changed = any(getattr(model, k) != v for k, v in defaults.items() if k not in _VIT_SIZE)
    distilled = "distilled" in name
    if name in list_models() and distilled == model.distilled and not changed:
        return architecture
    return "deit_base_distilled_patch16_224" if model.distilled else "vit_base_patch16_224"
