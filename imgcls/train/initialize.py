"""What a fresh model takes from the training data, before its first step."""

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
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import load_trained

# Of the training examples, in the order of the source.
NUM_EXAMPLES = 5000


def arrays_from_data(config: ConfigDict, objective, source: Source) -> dict | None:
    """The arrays that the model's `init_from_data` gives to a fresh state; None if it has none.

    The pictures are the first ones of the training split as evaluation sees them, so that the
    arrays follow from the data alone.

    Raises:
      DataError: none of them can be read.
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
    """The arrays that `config.init_from` gives to a fresh state; says what was taken."""
    variables = backbone_variables(objective, shapes.params, shapes.model_state)
    trained = _read_run(config.init_from)
    given, report = weights.load(
        config.init_from, objective.model, variables, config.init_head, trained
    )
    log.info(str(report))
    return place_backbone(objective, given)


def _read_run(init_from: str) -> dict | None:
    """The backbone's variables of the run whose workdir is named; None where a file is."""
    path = os.path.expanduser(init_from)
    if not os.path.isdir(path):
        return None
    trained = load_trained(find_checkpoint(path))
    return backbone_variables(trained.objective, trained.params, trained.model_state)
