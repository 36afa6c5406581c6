"""Preprocessing that pretrained weights were evaluated with, as recorded beside them."""

import dataclasses
import os
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from imgcls.core import log
from imgcls.core.errors import ConfigError
from imgcls.export.timm_config import timm_transform
from imgcls.models.weights import files
from imgcls.models.weights import load as weights
from imgcls.runs.load import Checkpoint, find_checkpoint, split_choice

# timm's names of interpolations, by ours.
_INTERPOLATIONS = {"box": "area", "bilinear": "bilinear", "bicubic": "bicubic"}
_INTERPOLATIONS |= {"lanczos": "lanczos", "nearest": "nearest"}

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of images in evaluation.

    Attributes:
      mean, std: of pixels in [0, 1], one number per channel.
      crop: `crop_pct`, `crop_mode` and `interpolation` as in timm; what is not known is missing.
      source: where it is recorded, for messages.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: dict[str, Any]
    source: str

    def eval_transform(self, size: int) -> str:
        """Returns `config.data.eval_transform` for images of `size` pixels.

        Without a recorded crop, it is nine tenths of the image.
        """
        name = _INTERPOLATIONS.get(self.crop.get("interpolation", ""), "bicubic")
        if self.crop.get("crop_mode") == "squash":
            return f"resize(({size}, {size}), interpolation='{name}')"
        fraction = min(float(self.crop.get("crop_pct") or 0.9), 1.0)
        return f"eval_crop({size}, crop_fraction={fraction:g}, interpolation='{name}')"

    def differences(self, data: ConfigDict) -> list[str]:
        """Returns what of `config.data` differs, each as 'KEY=ours where the weights have THEIRS'.

        A transform that timm has no equivalent of is not compared.
        """
        found = []
        for key, theirs in (("mean", self.mean), ("std", self.std)):
            ours = np.asarray(data[key], float)
            same_channels = len(ours) in (1, len(theirs))
            if not same_channels or not np.allclose(ours, theirs, rtol=0, atol=1e-3):
                found.append(f"data.{key}={tuple(data[key])} where the weights have {theirs}")
        ours = timm_transform(data.eval_transform) or {}
        for key, theirs in self.crop.items():
            if key in ours and not _same(ours[key], theirs):
                where = f"{key} {ours[key]} in data.eval_transform"
                found.append(f"{where} where the weights have {theirs}")
        return found


def recorded_preprocessing(init_from: str) -> Preprocessing | None:
    """Returns the preprocessing that is recorded beside weights; None if there is none.

    It is in the `config.json` of timm's hub or beside a file, under `pretrained_cfg` or at the top,
    or in that of an export by `imgcls.export`; for a workdir, in the config of its run.

    Args:
      init_from: `config.init_from`, see `imgcls.models.weights.load`.

    Raises:
      ConfigError: the file is not valid.
    """
    if checkpoint := find_run(init_from):
        data = checkpoint.read_meta()[0].data
        crop = timm_transform(data.eval_transform) or {}
        return Preprocessing(tuple(data.mean), tuple(data.std), crop, str(checkpoint.path))
    project, path = weights.split(init_from)
    file = files.find_config(path, on_hub=project == "timm")
    return None if file is None else _parse(files.read_json(file), file)


def find_run(init_from: str) -> Checkpoint | None:
    """Returns the checkpoint of the run that `init_from` names; None if it names a file."""
    project, colon, _ = init_from.partition(":")
    if colon and project in weights.PROJECTS:
        return None
    path = os.path.expanduser(init_from)
    is_run = os.path.isdir(path) or split_choice(path)[1]
    return find_checkpoint(path) if is_run else None


def normalization_by_name(init_from: str, model: str) -> tuple[tuple, tuple]:
    """Returns mean and std of weights without a recorded preprocessing, by their names.

    ViTs of augreg (and big_vision) and Inception V1 and V3 take pixels in -1..1; DeiTs and the ViTs
    of torchvision are normalized as on ImageNet, like all other models.
    """
    half = model.startswith(("vit_", "inception_v1", "inception_v3"))
    is_vit = model.startswith("vit_")
    if is_vit and ("deit" in init_from.lower() or init_from.startswith("torchvision:")):
        half = False
    return HALF if half else IMAGENET


def log_preprocessing(config: ConfigDict) -> None:
    """Logs how the preprocessing of `config.data` differs from that of `config.init_from`."""
    recorded = recorded_preprocessing(config.init_from)
    where = f"init_from {config.init_from}"
    if recorded is None:
        log.info(
            f"{where}: no config.json with a mean and std beside the weights; compare "
            f"data.mean={tuple(config.data.mean)} and data.std={tuple(config.data.std)} with theirs"
        )
    elif differences := recorded.differences(config.data):
        log.warning(f"{where}: preprocessing differs: {'; '.join(differences)} ({recorded.source})")
    else:
        log.info(f"{where}: preprocessing as in {recorded.source}")


def _parse(fields: Any, file: str) -> Preprocessing | None:
    if not isinstance(fields, dict):
        return None
    for part in (fields.get("pretrained_cfg"), fields.get("preprocessing"), fields):
        if isinstance(part, dict) and "mean" in part and "std" in part:
            break
    else:
        return None
    try:
        mean, std = (tuple(float(x) for x in part[key]) for key in ("mean", "std"))
        if not mean or len(mean) != len(std) or not min(std) > 0:
            raise ValueError("mean and std must have one number per channel, std above 0")
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{file}: no valid mean and std ({e}); correct or remove it") from e
    crop = {key: part[key] for key in ("crop_pct", "crop_mode", "interpolation") if part.get(key)}
    crop = crop or timm_transform(str(part.get("transform", "?"))) or {}
    return Preprocessing(mean, std, crop, file)


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, str):
        names = _INTERPOLATIONS
        return names.get(ours, ours) == names.get(theirs, theirs)
    return isinstance(theirs, (int, float)) and abs(ours - theirs) < 1e-3
