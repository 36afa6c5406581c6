"""Export as safetensors, with timm's names where timm has the model."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from imgcls.export.timm_config import timm_config, timm_transform
from imgcls.models.inception_v3 import InceptionV3
from imgcls.models.layers.positions import resample_positions, sincos2d
from imgcls.models.vit import ViT
from imgcls.models.weights import load as weights
from imgcls.models.weights.tables import layouts
from imgcls.runs.trained import (
    Trained,
    model_variables,
)


def to_safetensors(trained: Trained, shape: tuple[int, int, int]) -> tuple[bytes, dict[str, Any]]:
    """The file, and what `config.json` says beside what every format says.

    Raises:
      ConfigError: timm can't express an option of the model.
    """
    from safetensors.numpy import save

    model, config = trained.objective.model, trained.config
    layout = layouts(model)[0]
    variables = model_variables(trained)
    transform = timm_transform(config.data.eval_transform)
    norms = {k: list(config.data[k]) * (shape[-1] // len(config.data[k])) for k in ("mean", "std")}
    if layout.project == "timm":
        paths = list(traverse_util.flatten_dict(variables["params"], sep="/"))
        preprocessing = norms | (transform or {"crop_pct": 1.0, "interpolation": "bicubic"})
        extra = timm_config(
            config.model.name, model, paths, shape, trained.info.class_names, preprocessing
        )
    else:
        extra = {}
        print(f"timm has no {config.model.name}: the names are those of {layout.project}")
    if layout.project == "timm" and transform is None:
        print(
            f"timm has no evaluation like {config.data.eval_transform!r}: prepare pictures as "
            "`preprocessing` in config.json says"
        )
    named = weights.dump(model, variables, layout)
    if isinstance(model, ViT):
        named["pos_embed"] = _positions(model, named.get("pos_embed"), shape)
    if isinstance(model, InceptionV3):
        # Of use in training only; timm's model returns its logits in evaluation too.
        named = {name: a for name, a in named.items() if not name.startswith("AuxLogits.")}
    extra |= {"layout": layout.project}
    return save(named, metadata={"format": "pt"}), extra


def _positions(model: ViT, learned: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
    """`pos_embed` `[1, N, D]` as an array, for pictures of this shape."""
    rows, columns = (side // model.patch_size for side in shape[:2])
    prefix = model.prefix_tokens
    if learned is None:
        table = np.pad(sincos2d(rows, columns, model.width), ((prefix, 0), (0, 0)))
        return table[None]
    if learned.shape[1] == prefix + rows * columns:
        return learned
    return np.array(resample_positions(jnp.asarray(learned), (rows, columns), prefix))
