"""Checkpoints of small models with random parameters, and their logits for comparison."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imgcls.core.defaults import default_config
from imgcls.core.state import TrainState
from imgcls.data.info import DataInfo
from imgcls.models.create import create_model
from imgcls.objectives.create import create_objective
from imgcls.runs.save import Checkpointer

SIDE = 8
MODEL = dict(name="resnet18", stem="cifar", width=8, stage_sizes=(1,))


@dataclasses.dataclass(frozen=True)
class Saved:
    """A workdir and its model; `logits` maps uint8 `[N, 8, 8, 3]` to float64 `[N, K]`."""

    workdir: pathlib.Path
    params: Any
    logits: Callable[[np.ndarray], np.ndarray]


def save_run(
    folder: pathlib.Path, classes: tuple[str, ...], multi_label: bool = False, **objective
) -> Saved:
    """Makes a workdir with one checkpoint, at step 7."""
    config = default_config()
    config.batch_size, config.model = 16, MODEL
    config.objective.update(objective)
    config.data.eval_transform = f"resize(({SIDE}, {SIDE}))"
    config.data.mean, config.data.std = (0.4,), (0.3,)
    config.data.workers = 2
    info = DataInfo(classes, multi_label, (SIDE, SIDE, 3))
    made = create_objective(config, info)
    spec = {"image": jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.uint8)}
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: made.init(jax.random.key(0), spec))
    # Variances must not be negative.
    params, state = jax.tree.map(lambda s: np.abs(rng.normal(0.3, 0.3, s.shape)) + 0.1, shapes)
    params = jax.tree.map(lambda x: x * rng.choice([-1, 1], x.shape) * 0.7, params)
    params, state = jax.tree.map(np.float32, (params, state))
    outputs = 1 if made.task == "binary" else len(classes)
    options = {k: v for k, v in MODEL.items() if k != "name"}
    model = create_model(MODEL["name"], outputs, in_channels=3, **options)

    @jax.jit
    def apply(params, x):
        return model.apply({"params": params, **state}, x, train=False)

    def logits(images: np.ndarray) -> np.ndarray:
        return np.float64(apply(params, (np.float32(images) / 255 - 0.4) / 0.3))

    # A head whose predictions differ between images.
    mean, std = (f(logits(draw_pictures(64, seed=0)), 0) for f in (np.mean, np.std))
    params["head"]["kernel"] *= np.float32(2 / std)
    params["head"]["bias"] = np.float32((params["head"]["bias"] - mean) * 2 / std)
    checkpointer = Checkpointer(str(folder), config, info)
    checkpointer.save(7, TrainState(jnp.int32(7), params, state, {}, None))
    checkpointer.close()
    return Saved(folder, params, logits)


CLIP = "sample_frames(4, stride=3)|resize((16, 16))"


def save_clip_run(
    folder: pathlib.Path,
    classes: tuple[str, ...],
    multi_label: bool = False,
    eval_transform: str = CLIP,
) -> pathlib.Path:
    """Makes a workdir with a checkpoint of a model of clips of 16 pixels, at step 7."""
    config = default_config()
    backbone = dict(stem="cifar", width=8, stage_sizes=(1,))
    config.batch_size = 8
    config.model = dict(name="frame_average", backbone="resnet18", backbone_options=backbone)
    config.objective.loss = "sigmoid" if multi_label else "softmax"
    config.data.eval_transform = eval_transform
    frames = int(eval_transform.partition("(")[2].partition(",")[0])
    info = DataInfo(classes, multi_label, (frames, 16, 16, 3))
    made = create_objective(config, info)
    batch = {"image": jnp.zeros((1, *info.image_shape), jnp.uint8)}
    params, state = jax.jit(made.init)(jax.random.key(0), batch)
    # Not the zeros that heads begin with.
    kernel = np.random.default_rng(0).normal(size=params["head"]["kernel"].shape)
    params["head"]["kernel"] = np.float32(kernel)
    checkpointer = Checkpointer(str(folder), config, info)
    checkpointer.save(7, TrainState(jnp.int32(7), params, state, {}, None))
    checkpointer.close()
    return folder


def draw_pictures(count: int, seed: int = 1) -> np.ndarray:
    """Draws images of two plain colors each, which the model can distinguish: `[N, 8, 8, 3]`."""
    rng = np.random.default_rng(seed)
    images = np.repeat(rng.integers(0, 256, (count, 1, 2, 3), np.uint8), SIDE // 2, axis=2)
    return np.ascontiguousarray(np.repeat(images, SIDE, axis=1))
