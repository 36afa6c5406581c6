"""timm's `config.json` for a model of ours: `timm.create_model("local-dir:DIR", pretrained=True)`.

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

# Options that change training, or only the number of inputs and outputs, and no weight's meaning.
_NEUTRAL = (
    *("num_classes", "in_channels", "dtype", "remat", "drop_rate", "drop_path"),
    *("uniform_drop_path", "virtual_batch_size", "zero_init_residual", "aux"),
)


@functools.singledispatch
def timm_options(model: ImageModel) -> tuple[str, ...]:
    """Options of a model's family that timm takes as arguments."""
    return ()


@timm_options.register(ResNet | ResNeSt)
def _(model: ResNet | ResNeSt) -> tuple[str, ...]:
    return ("stage_sizes",)


@timm_options.register
def _(model: ViT) -> tuple[str, ...]:
    size = ("patch_size", "width", "depth", "num_heads", "mlp_dim")
    return (*size, "pool", "distilled", "pos_embed", "layer_scale")


@functools.singledispatch
def timm_arguments(model: ImageModel, name: str, image_shape: tuple[int, int, int]) -> dict:
    """Arguments of timm's model that express the values of `timm_options`."""
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
        args |= {"class_token": False, "global_pool": "avg", "fc_norm": False}
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
    """The JSON object with which timm builds the model and its evaluation transform.

    Args:
      name: of the model, as in `config.model.name`.
      model: the module; of a family that timm has.
      paths: of its arrays, such as "head/kernel".
      image_shape: `(H, W, C)` of the pictures in evaluation.
      class_names: of the K classes; left out where the model has another number of logits.
      preprocessing: `mean` and `std` in 0..1, and what `timm_transform` returns.

    Raises:
      ConfigError: an option of the model that timm's model of that name has not.
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
    """timm's `crop_pct`, `crop_mode` and `interpolation` of an evaluation recipe.

    Args:
      transform: as in `config.data.eval_transform`.

    Returns:
      None where timm has no such evaluation.
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
    """What `timm_transform` reads of the transform of this name."""
    return "resize", size, interpolation


def center_crop(size):
    """What `timm_transform` reads of the transform of this name."""
    return "center_crop", size


def eval_crop(size, crop_fraction=0.875, interpolation="bicubic"):
    """What `timm_transform` reads of the transform of this name."""
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
                f"config.model.{option}={value!r}: timm's {timm_name(name)} can't be made so: "
                "use --format=stablehlo"
            )
    # timm convolves a larger map than 7x7 where torchvision and we average it to that.
    if isinstance(model, VGG) and max(image_shape[:2]) >= 256:
        raise ConfigError(
            f"config.data.eval_transform: timm's {name} computes something else on pictures of "
            "256 pixels or more: use --format=stablehlo"
        )


def _architecture(name: str, model: ImageModel) -> str:
    """timm's name; of a ViT that it does not list, one that takes the same arguments."""
    known = timm_name(name)
    if known is None:
        raise ConfigError(f"timm has no {name}: use --format=stablehlo")
    if not isinstance(model, ViT):
        return known
    distilled = "distilled" in name
    if name in list_models() and distilled == model.distilled:
        return known
    return "deit_base_distilled_patch16_224" if model.distilled else "vit_base_patch16_224"
