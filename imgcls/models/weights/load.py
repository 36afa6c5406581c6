"""Initial weights from other projects and from runs: `config.init_from`.

`init_from` is `PROJECT:SOURCE` or a path:

- `timm:vit_base_patch16_224.augreg_in1k` (from huggingface.co), `timm:/path/model.safetensors`;
- `torchvision:/path/resnet50.pth`;
- `pytorchvideo:/path/SLOW_8x8_R50.pyth`, `tsm:/path/x.pth`;
- `timesformer:/path/TimeSformer_divST_8x32_224_K400.pyth`, `transformers:/path/model.safetensors`;
- `augreg:/path/B_16.npz`: google-research/vision_transformer or big_vision;
- `cadene:/path/bninception.pth`: pretrained-models.pytorch;
- `/path/model.safetensors`: the project is recognized by the names in the file;
- `/path/of/a/workdir`: a run; its averaged parameters if it has any, and after pre-training only
  the backbone.

Weights of a model of images also initialize the model of volumes or clips of that family, by
inflation, and the images' part of a model of rows of images.
"""

import dataclasses
import os
import re
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from imgcls.core.errors import ConfigError
from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.positions import equal_side, resample_positions
from imgcls.models.registry import MODELS, model_entry
from imgcls.models.sequence import ImageSequence
from imgcls.models.weights import arrays, files
from imgcls.models.weights.inflate import inflate_all
from imgcls.models.weights.layout import Layout
from imgcls.models.weights.tables import AUXILIARY, CLASSIFIERS, OVER_TIME, STEM, layouts

PROJECTS = (
    *("timm", "torchvision", "augreg", "cadene"),
    *("pytorchvideo", "tsm", "timesformer", "transformers"),
)
HEADS = ("auto", "fresh", "zero")
# A model of features alone has no heads.
_HEADS = [f"{head}/{leaf}" for head in ("head", "head_dist") for leaf in ("kernel", "bias")]
# Parts of names in the files, and options of a ViT that has them.
_OPTIONS = {
    "reg_token": "; set model.registers to the number of its tokens",
    "fc_norm.": "; set model.fc_norm=True",
    "attn_pool.": "; choose model.name='vit_b16_siglip' or another of SigLIP",
    "norm_pre.": "; choose model.name='vit_b16_clip' or another of CLIP",
    ".ls1.": "; set model.layer_scale=1e-5",
}


@dataclasses.dataclass
class Report:
    """What was loaded; `str` of it is the line for the log.

    Attributes:
      init_from: value of `config.init_from`.
      project: project whose names the file has; '' for a run.
      taken: number of arrays loaded.
      adapted: arrays converted to another shape.
      left_out: arrays that were not used.
      new: parts that keep their initial values.
    """

    init_from: str
    project: str = ""
    taken: int = 0
    adapted: list[str] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)
    new: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{self.taken} arrays taken"]
        for what in ("adapted", "left_out", "new"):
            if entries := getattr(self, what):
                parts.append(f"{what.replace('_', ' ')}: {', '.join(dict.fromkeys(entries))}")
        return f"init_from {self.init_from}: {'; '.join(parts)}"


def load(
    init_from: str,
    model: nn.Module,
    shapes: dict,
    head: str = "auto",
    trained: dict | None = None,
) -> tuple[dict, Report]:
    """Loads initial variables of a model from a file, or from the variables of a run.

    Args:
      init_from: `config.init_from`, see the module docstring.
      model: model to initialize.
      shapes: its variables or their shapes: {"params": ..., "batch_stats": ...}.
      head: 'auto': load the head if the number of classes is the same, otherwise keep its initial
        values; 'fresh': keep the initial values; 'zero': set it to zero.
      trained: variables of the run at `init_from`; None: `init_from` is a file.

    Returns:
      (tree like `shapes`, without arrays that keep their initial values; report).

    Raises:
      ConfigError: the file or layout does not exist, or names or shapes do not fit the model.
    """
    if head not in HEADS:
        raise ConfigError(f"config.init_head={head!r}: write 'auto', 'fresh' or 'zero'")
    if isinstance(model, ImageSequence) and "backbone" not in (trained or {}).get("params", {}):
        return _load_backbone(init_from, model, shapes, head, trained)
    wanted: dict[str, tuple[int, ...]] = {}
    for collection in shapes.values():
        leaves: dict[str, Any] = traverse_util.flatten_dict(collection, sep="/")
        wanted |= {path: tuple(leaf.shape) for path, leaf in leaves.items()}
    report = Report(init_from)
    if trained is not None:
        loaded = _flatten(trained)
    else:
        project, path = split(init_from)
        choices = layouts(model, project)
        if not choices:
            raise ConfigError(f"init_from: {project} has no {type(model).__name__}")
        if project == "timm" and not os.path.exists(path):
            path = files.download(path)
        loaded = _read_file(path, choices, model, wanted, report)
    # Weights of images may lack what is over time.
    optional = AUXILIARY
    if not any(re.search(OVER_TIME, path) for path in loaded):
        optional += f"|{OVER_TIME}"
    if isinstance(model, ImageModel) and model.spatial_axes == 3:
        prefixes = [getattr(model, name, 0) for name in ("prefix_positions", "prefix_tokens")]
        # Models of clips have the positions of an image.
        over_time = getattr(model, "position_axes", 3) == 3
        prefixes = [*prefixes, 0, 1] if over_time else []
        report.adapted += inflate_all(loaded, wanted, prefixes, model.inflated_patches)
    placed = _place(loaded, wanted, model, head, report, optional)
    tree = {
        name: traverse_util.unflatten_dict(
            {key: placed[key] for key in flat if key in placed}, sep="/"
        )
        for name, collection in shapes.items()
        for flat in [traverse_util.flatten_dict(collection, sep="/")]
    }
    return tree, report


def _load_backbone(
    init_from: str, model: ImageSequence, shapes: dict, head: str, trained: dict | None
) -> tuple[dict, Report]:
    """As `load`, with the weights of a model of images."""
    parts = {name: tree["backbone"] for name, tree in shapes.items() if "backbone" in tree}
    module, fields = model.backbone_fields()
    arrays, report = load(init_from, module(**fields), parts, head, trained)
    report.new += [name for name in shapes["params"] if name != "backbone"]
    return {name: {"backbone": tree} for name, tree in arrays.items()}, report


def dump(model: nn.Module, variables: dict, layout: Layout) -> dict[str, np.ndarray]:
    """Converts the variables of a model to the names and arrays of another project."""
    flat = {
        path: np.asarray(array, np.float32)
        for collection in variables.values()
        for path, array in traverse_util.flatten_dict(collection, sep="/").items()
    }
    named = {}
    for path, array in flat.items():
        (name,) = layout.names(path, model)
        named[name] = np.ascontiguousarray(arrays.to_theirs(path, array, layout))
    return named


def split(init_from: str) -> tuple[str | None, str]:
    """Splits `init_from` into the project (None if it has none) and the path or name."""
    project, colon, where = init_from.partition(":")
    if not colon or os.sep in project:
        return None, os.path.expanduser(init_from)
    if project not in PROJECTS:
        raise ConfigError(
            f"config.init_from={init_from!r}: unknown project {project!r}: write "
            f"{', '.join(f'{p}:...' for p in PROJECTS)} or a path"
        )
    return project, os.path.expanduser(where)


def _flatten(variables: dict) -> dict[str, np.ndarray]:
    """Arrays by their path, without the names of the collections."""
    flat = [traverse_util.flatten_dict(c, sep="/") for c in variables.values()]
    return {path: np.asarray(array) for arrays in flat for path, array in arrays.items()}


def _read_file(
    path: str, choices: list[Layout], model, wanted: dict, report: Report
) -> dict[str, np.ndarray]:
    """Arrays of a file, by our names and in our layout; every name in it must find its place."""
    theirs = {re.sub(r"^(params/(img/)?|module\.)", "", k): v for k, v in files.read(path).items()}
    names = [{ours: choice.names(ours, model) for ours in wanted} for choice in choices]
    known = [sum(n in theirs for many in table.values() for n in many) for table in names]
    best = int(np.argmax(known))
    layout, table = choices[best], names[best]
    report.project = layout.project
    if not known[best]:
        raise ConfigError(
            f"init_from: {path} has no weights of a {type(model).__name__}: its names are "
            f"{', '.join(list(theirs)[:3])}, ..."
        )
    used = {name for many in table.values() for name in many}
    unknown = [n for n in theirs if n not in used and not re.search(layout.ignore, n)]
    droppable = {name for path in _HEADS for name in layout.names(path, model)}
    droppable |= {"cls_token", "cls"}
    optional = [n for n in unknown if re.search(AUXILIARY, n) or n in droppable]
    report.left_out += [re.split(r"[./]", name)[0] for name in optional]
    if rest := [name for name in unknown if name not in optional]:
        hint = next((hint for n in rest for part, hint in _OPTIONS.items() if part in n), "")
        raise ConfigError(
            f"init_from: {path}: a {type(model).__name__} with these options does not have "
            f"{', '.join(rest[:4])}{' and others' if len(rest) > 4 else ''}{hint}"
        )
    loaded = {}
    for ours, many in table.items():
        if all(name in theirs for name in many):
            parts = [theirs[name].astype(np.float32) for name in many]
            try:
                loaded[ours] = arrays.from_theirs(ours, wanted[ours], layout, parts)
            except ValueError:
                misfit = _misfit(path, many[0], parts[0].shape, ours, wanted)
                raise ConfigError(misfit + _torchvision_hint(report, model)) from None
    return loaded


def _place(
    loaded: dict, wanted: dict, model, head: str, report: Report, optional: str
) -> dict[str, np.ndarray]:
    """Adapts loaded arrays to the shapes of the model, and reports those that are not used.

    Paths that match the regex `optional` may be missing among them.
    """
    placed = {}
    for path, shape in wanted.items():
        part = path.split("/")[0]
        is_head = re.search(CLASSIFIERS, path) is not None
        if is_head and (head != "auto" or path not in loaded or loaded[path].shape != shape):
            if path in loaded:
                report.left_out.append(f"{part} ({loaded[path].shape[-1]} classes)")
            report.new.append(
                part if re.search(AUXILIARY, path) else f"{part} ({shape[-1]} classes)"
            )
            if head == "zero":
                placed[path] = np.zeros(shape, np.float32)
        elif path in loaded:
            placed[path] = _fit(path, loaded[path], shape, model, report)
            report.taken += 1
        elif re.search(optional, path):
            over_time = re.search(OVER_TIME, path)
            report.new.append(over_time[2] if over_time else part)
        else:
            hint = "; set model.pos_embed='sincos2d' if it had none" if path == "pos_embed" else ""
            raise ConfigError(f"init_from {report.init_from}: has no weights for {path}{hint}")
    if unplaced := [path for path in loaded if path not in wanted]:
        for path in unplaced:
            unused = path == "cls_token" or re.search(f"{AUXILIARY}|{CLASSIFIERS}", path)
            if not unused:
                raise ConfigError(f"init_from {report.init_from}: the model has no {path}")
        report.left_out += [path.split("/")[0] for path in unplaced]
    return placed


def _fit(path: str, array: np.ndarray, shape: tuple, model, report: Report) -> np.ndarray:
    """Adapts an array to `shape`: channels of the stem, or position embeddings."""
    if array.shape == shape:
        return array
    if (
        re.search(STEM, path)
        and array.ndim == len(shape) >= 4
        and _without_axis(array.shape, -2) == _without_axis(shape, -2)
    ):
        report.adapted.append(f"{path.split('/')[0]} ({array.shape[-2]} -> {shape[-2]} channels)")
        return adapt_channels(array, shape[-2])
    if path == "pos_embed" and array.ndim == 3 and array.shape[-1] == shape[-1]:
        return _fit_positions(array, shape, model, report)
    misfit = _misfit(report.init_from, path, array.shape, path, {path: shape})
    raise ConfigError(misfit + _torchvision_hint(report, model))


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Adapts the kernel `[..., C, out]` of a stem to images with another number of channels.

    For one channel it is summed over C, so that a grayscale image gives the same output as in
    color. For more it is repeated and scaled by C / channels, which keeps the magnitude of the
    output (as in timm).

    Returns:
      `[..., channels, out]`.
    """
    original = kernel.shape[-2]
    if channels == 1:
        return kernel.sum(axis=-2, keepdims=True)
    repeated = np.take(kernel, np.arange(channels) % original, axis=-2)
    return repeated * np.float32(original / channels)


def _fit_positions(array: np.ndarray, shape: tuple, model, report: Report) -> np.ndarray:
    """Resamples position embeddings `[1, N, D]`, and removes that of an unused class token."""
    prefix, axes = model.prefix_positions, model.position_axes
    tokens = array.shape[1]
    for embedded in (0, 1, model.prefix_tokens):
        other = model.has_class_token and embedded != prefix
        if other and equal_side(tokens - embedded, axes):
            raise ConfigError(
                f"init_from {report.init_from}: pos_embed of {tokens} tokens has "
                f"{embedded or 'no'} entries before those of the patches: set "
                f"model.embed_prefix={embedded > 0}"
            )
    if not prefix and equal_side(tokens - 1, axes):
        array = array[:, 1:]
        report.adapted.append("pos_embed (without the class token's)")
    if array.shape != shape:
        side, before = (equal_side(n - prefix, axes) for n in (shape[1], array.shape[1]))
        if side is None:
            raise ConfigError(
                f"init_from {report.init_from}: pos_embed can't be resampled for images that are "
                "not square: use square images, or cubes of patches"
            )
        sides = ["x".join([str(n)] * axes) for n in (before, side)]
        report.adapted.append(f"pos_embed ({' -> '.join(sides)})")
        positions = jax.numpy.asarray(array)
        array = np.asarray(resample_positions(positions, (side,) * axes, prefix))
    return array


def _without_axis(shape: tuple, axis: int) -> tuple:
    return shape[:axis] + shape[axis:][1:]


def _misfit(source: str, name: str, shape: tuple, ours: str, wanted: dict) -> str:
    return (
        f"init_from: {source}: {name} of shape {list(shape)} does not fit {ours} of shape "
        f"{list(wanted[ours])}: the weights are of another model or have other options"
    )


def _torchvision_hint(report: Report, model) -> str:
    """Names the variant `NAME_tv` of a model NAME whose widths differ from torchvision's."""
    if report.init_from.startswith("torchvision:"):
        for name in [name for name in MODELS if f"{name}_tv" in MODELS]:
            entry = model_entry(name)
            if isinstance(model, entry.module) and all(
                getattr(model, option) == value for option, value in entry.defaults.items()
            ):
                return f"; torchvision's {name} is model.name={name}_tv"
    return ""
