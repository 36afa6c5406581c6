"""Initial values from the training data or from other weights."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ml_collections import ConfigDict

from imgcls.core import log
from imgcls.core.errors import DataError
from imgcls.core.state import TrainState
from imgcls.data.create import (
    create_reader,
)
from imgcls.data.sources.source import Source
from imgcls.models.layers.base import InitializesFromData
from imgcls.models.vgg import VGG
from imgcls.models.weights import load as weights
from imgcls.objectives.backbone import backbone_variables, place_backbone
from imgcls.runs.trained import load_trained
from imgcls.train.preprocessing import find_run, log_preprocessing

# Number of training examples that `init_from_data` gets.
NUM_EXAMPLES = 5000
# Smallest images from which on timm's VGGs compute other logits: maps of 8x8.
VGG_SIDE = 256


def initial_arrays(
    config: ConfigDict, objective, shapes: TrainState, source: Source
) -> dict | None:
    """Initial values from `config.init_from` or else from the training data; None if all are drawn.

    Args:
      config: config of the run.
      objective: objective with its model.
      shapes: shapes of the state.
      source: training split.

    Returns:
      `{"params": ..., **collections}` with a part of the variables of the objective.
    """
    if config.init_from:
        return import_weights(config, objective, shapes, source)
    return arrays_from_data(config, objective, source)


def arrays_from_data(config: ConfigDict, objective, source: Source) -> dict | None:
    """Initial values that the model's `init_from_data` computes; None if it has no such method.

    The images are the first ones of the training split with the evaluation transform, so that the
    values depend on the data alone.

    Returns:
      `{"params": ..., **collections}` with a part of the variables of the objective.

    Raises:
      DataError: none of the images can be read.
    """
    if not isinstance(objective.model, InitializesFromData):
        return None
    reader = create_reader(config, source, train=False)
    with ThreadPoolExecutor(config.data.threads or os.cpu_count()) as pool:
        examples = pool.map(reader.example, range(min(NUM_EXAMPLES, len(source))))
        images = [example["image"] for example in examples if example["mask"]]
    if not images:
        raise DataError(f"none of the first {NUM_EXAMPLES:,} training examples can be read")
    mean, std = (np.asarray(x, np.float32) for x in (config.data.mean, config.data.std))
    normalized = (np.asarray(images, np.float32) / 255 - mean) / std
    return place_backbone(objective, objective.model.init_from_data(normalized))


def import_weights(config: ConfigDict, objective, shapes: TrainState, source: Source) -> dict:
    """Initial values from `config.init_from`, as for `arrays_from_data`; logs which were used."""
    variables = backbone_variables(objective, shapes.params, shapes.model_state)
    trained = _read_run(config.init_from)
    log_preprocessing(config)
    arrays, report = weights.load(
        config.init_from, objective.model, variables, config.init_head, trained
    )
    log.info(str(report))
    _warn_of_larger_images(config, report, objective.model, source)
    return place_backbone(objective, arrays)


def _read_run(init_from: str) -> dict | None:
    """Variables of the backbone of the run that `init_from` names; None if it names a file."""
    checkpoint = find_run(init_from)
    if checkpoint is None:
        return None
    log.info(f"init_from {init_from}: {checkpoint.path}")
    trained = load_trained(checkpoint)
    return backbone_variables(trained.objective, trained.params, trained.model_state)


def _warn_of_larger_images(config: ConfigDict, report: weights.Report, model, source) -> None:
    """Warns if timm computes other logits with the same weights, which only its VGGs do."""
    if report.project != "timm" or not isinstance(model, VGG):
        return
    readers = (create_reader(config, source, train=train) for train in (True, False))
    side = max(max(reader.spec["image"].shape[:2]) for reader in readers)
    if side >= VGG_SIDE:
        log.warning(
            f"init_from {report.init_from}: at {VGG_SIDE} pixels and more (here {side}), timm's "
            "VGGs apply their first dense layer at every position; here, as in torchvision, maps "
            "are averaged to 7x7 before, so the logits differ from timm's"
        )
