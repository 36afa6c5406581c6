"""Export as safetensors, with timm's parameter names if the model is in timm."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from imgcls.core import log
from imgcls.core.errors import ConfigError
from imgcls.export.timm_config import timm_config, timm_transform
from imgcls.models.inception_v3 import InceptionV3
from imgcls.models.layers.positions import resample_positions, sincos_positions
from imgcls.models.vit import ViT
from imgcls.models.weights import load as weights
from imgcls.models.weights.tables import layouts
from imgcls.runs.trained import (
    Trained,
    model_variables,
)


def to_safetensors(trained: Trained, shape: tuple[int, ...]) -> tuple[bytes, dict[str, Any]]:
    """Exports the parameters.

    Args:
      trained: trained model.
      shape: shape of an example in evaluation, (H, W, C).

    Returns:
      (contents of the file, additional keys of `config.json`).

    Raises:
      ConfigError: a model of volumes or one that no other project has, or timm has no equivalent of
        an option of the model.
    """
    from safetensors.numpy import save

    if len(shape) != 3:
        raise ConfigError("--format=safetensors: is for models of images: use --format=stablehlo")
    image_shape = shape[0], shape[1], shape[2]
    model, config = trained.objective.model, trained.config
    layout = next(iter(layouts(model)), None)
    if layout is None:
        raise ConfigError(
            f"--format=safetensors: no other project has {config.model.name}: use --format=onnx or "
            "--format=stablehlo"
        )
    variables = model_variables(trained)
    transform = timm_transform(config.data.eval_transform)
    norms = {k: list(config.data[k]) * (shape[-1] // len(config.data[k])) for k in ("mean", "std")}
    if layout.project == "timm":
        paths = list(traverse_util.flatten_dict(variables["params"], sep="/"))
        preprocessing = norms | (transform or {"crop_pct": 1.0, "interpolation": "bicubic"})
        extra = timm_config(
            config.model.name, model, paths, image_shape, trained.info.class_names, preprocessing
        )
    else:
        extra = {}
        log.result(f"timm has no {config.model.name}: using the names of {layout.project}")
    if layout.project == "timm" and transform is None:
        log.result(
            f"timm has no equivalent of eval_transform={config.data.eval_transform!r}: preprocess "
            "images as described by `preprocessing` in config.json"
        )
    named = weights.dump(model, variables, layout)
    if isinstance(model, ViT):
        named["pos_embed"] = _positions(model, named.get("pos_embed"), image_shape)
    if isinstance(model, InceptionV3):
        # Used only in training, but timm's model returns the auxiliary logits in evaluation too.
        named = {name: a for name, a in named.items() if not name.startswith("AuxLogits.")}
    extra |= {"layout": layout.project}
    return save(named, metadata={"format": "pt"}), extra


def _positions(model: ViT, learned: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
    """Position embeddings `[1, N, D]` for images of this shape `(H, W, C)`."""
    rows, columns = (side // model.patch_size for side in shape[:2])
    prefix = model.prefix_positions
    if learned is None:
        table = np.pad(sincos_positions((rows, columns), model.width), ((prefix, 0), (0, 0)))
        return table[None]
    if learned.shape[1] == prefix + rows * columns:
        return learned
    return np.array(resample_positions(jnp.asarray(learned), (rows, columns), prefix))
