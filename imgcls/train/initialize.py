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
from imgcls.models.weights import load as weights
from imgcls.objectives.backbone import backbone_variables, place_backbone
from imgcls.runs.load import find_checkpoint, split_choice
from imgcls.runs.trained import load_trained

# Number of training examples that `init_from_data` gets.
NUM_EXAMPLES = 5000


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


def import_weights(config: ConfigDict, objective, shapes: TrainState) -> dict:
    """Initial values from `config.init_from`, as for `arrays_from_data`; logs which were used."""
    variables = backbone_variables(objective, shapes.params, shapes.model_state)
    trained = _read_run(config.init_from)
    arrays, report = weights.load(
        config.init_from, objective.model, variables, config.init_head, trained
    )
    log.info(str(report))
    return place_backbone(objective, arrays)


def _read_run(init_from: str) -> dict | None:
    """Variables of the backbone of the run that `init_from` names; None if it names a file."""
    project, colon, _ = init_from.partition(":")
    if colon and project in weights.PROJECTS:
        return None
    path = os.path.expanduser(init_from)
    if not os.path.isdir(path) and not split_choice(path)[1]:
        return None
    checkpoint = find_checkpoint(path)
    log.info(f"init_from {init_from}: {checkpoint.path}")
    trained = load_trained(checkpoint)
    return backbone_variables(trained.objective, trained.params, trained.model_state)
