"""What a report is about: a trained model's answers on a split, calibrated on another."""

import dataclasses
import os

import numpy as np
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.create import open_split
from imgcls.data.sources.open import find_kind
from imgcls.data.sources.source import Source, check_classes
from imgcls.data.sources.splits import parse_split, splits_overlap
from imgcls.evaluate import calibration as calibration_lib
from imgcls.evaluate.calibration import Calibration
from imgcls.evaluate.predictions import Predictions, read_predictions
from imgcls.evaluate.summary import Summary, summarize
from imgcls.runs.trained import Trained

VALIDATION = "val"


@dataclasses.dataclass(frozen=True)
class Results:
    """Of a run on the N readable examples of a split.

    Attributes:
      trained: the run's model.
      split: its name.
      source: its examples.
      plain: the predictions as the model gives them.
      predictions: after the calibration.
      calibration: that is applied.
      summary: of both.
      answers: int `[N]`; for multi-label multi-hot uint8 `[N, K]`.
    """

    trained: Trained
    split: str
    source: Source
    plain: Predictions
    predictions: Predictions
    calibration: Calibration
    summary: Summary
    answers: np.ndarray

    @property
    def flattered(self) -> bool:
        """Whether the calibration was chosen on examples that are judged."""
        return bool(self.calibration.split) and splits_overlap(self.calibration.split, self.split)

    @property
    def multi_label(self) -> bool:
        return self.predictions.task == "multi_label"

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.predictions.class_names


def read_results(
    trained: Trained, checkpoint: str, split: str, calibrate_on: str | None
) -> Results:
    """Reads the predictions of a split and, first, of one to calibrate on.

    The calibration is kept in the checkpoint. Without a split for it, one that lies there is
    applied.

    Args:
      trained: a model that classifies, and whose `config.data` says where the examples are.
      checkpoint: its directory.
      split: that is judged.
      calibrate_on: another split; None is 'val' where the data has it and it is not judged.

    Raises:
      ConfigError: data that is not there or of other classes, splits that share examples, or no
        example that can be read.
      DataError: a picture that can't be read, unless `data.on_error` is 'skip'.
    """
    source = _open(trained, split)
    if calibrate_on is None and VALIDATION in source.splits:
        calibrate_on = None if parse_split(split)[0] == VALIDATION else VALIDATION
    if calibrate_on is not None and splits_overlap(calibrate_on, split):
        raise ConfigError(
            f"--calibrate_on={calibrate_on}: has examples of {split}, which is judged; name "
            "others, such as 'val'"
        )
    if calibrate_on is None:
        calibration = calibration_lib.load_calibration(checkpoint, trained.info.class_names)
    else:
        held_out = _read(trained, _open(trained, calibrate_on))
        calibration = calibration_lib.fit(held_out, calibrate_on)
        calibration_lib.save_calibration(checkpoint, calibration, trained.info.class_names)
    plain = _read(trained, source)
    predictions = calibration_lib.apply(plain, calibration)
    return Results(
        trained=trained,
        split=split,
        source=source,
        plain=plain,
        predictions=predictions,
        calibration=calibration,
        summary=summarize(plain, calibration),
        answers=calibration_lib.decide(predictions.scores, calibration, plain.task),
    )


def class_counts(config: ConfigDict, results: Results) -> dict[str, np.ndarray]:
    """Examples of each class, int `[K]`, in the splits that the run was made and judged with."""
    counts = {}
    for split in (config.data.train_split, results.calibration.split, results.split):
        try:
            source = results.source if split == results.split else open_split(config, split)
        except ConfigError:
            continue  # Data of one split alone is enough for a report.
        labels, classes = source.labels(), len(results.class_names)
        single = labels.ndim == 1
        counts[split] = np.bincount(labels, minlength=classes) if single else labels.sum(0)
    return counts


def _open(trained: Trained, split: str) -> Source:
    kind, _, path = trained.config.data.source.partition(":")
    try:
        source = open_split(trained.config, split)
    except ConfigError as e:
        known = find_kind(kind)
        if known is None or not known.is_files or os.path.exists(os.path.expanduser(path)):
            raise
        raise ConfigError(
            f"{e}; where the data has moved, write --config.data.source={kind}:/new/place"
        ) from e
    check_classes(source.class_names, trained.info.class_names, f"split {split!r}")
    if source.multi_label != trained.info.multi_label:
        one, many = "one label per example", "any number of labels"
        raise ConfigError(
            f"split {split!r} has {many if source.multi_label else one}, the model was trained on "
            f"{many if trained.info.multi_label else one}: set data.multi_label"
        )
    return source


def _read(trained: Trained, source: Source) -> Predictions:
    variables = {"": (trained.params, trained.model_state)}
    run = trained.config, trained.objective, trained.mesh
    return read_predictions(*run, variables, source)[""]
