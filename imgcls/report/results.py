"""Predictions of a trained model on a split, calibrated on another split, and their metrics."""

import dataclasses
import os
from collections.abc import Iterator

import numpy as np
from etils import epath

from imgcls.core.errors import ConfigError
from imgcls.data.create import open_data, open_split
from imgcls.data.missing_splits import holds_examples
from imgcls.data.sources.mapped import map_classes
from imgcls.data.sources.open import complete_spec, find_kind
from imgcls.data.sources.source import Dataset, Source
from imgcls.data.sources.splits import splits_overlap
from imgcls.evaluate import calibration as calibration_lib
from imgcls.evaluate.baseline import Baseline, read_baseline
from imgcls.evaluate.calibration import Calibration
from imgcls.evaluate.metrics import Summary, measure
from imgcls.evaluate.outcomes import OutcomeReader, Outcomes
from imgcls.runs.load import Checkpoint
from imgcls.runs.trained import Trained

VALIDATION = "val"


@dataclasses.dataclass(frozen=True)
class Results:
    """A trained model evaluated on the N readable examples of a split.

    Attributes:
      trained: the model.
      split: name of the evaluated split.
      sources: the opened splits by name: the evaluated one and the calibration split.
      plain: predictions before calibration.
      predictions: predictions after calibration.
      calibration: temperature and thresholds.
      summary: metrics after calibration.
      decisions: predicted class, int `[N]`, or multi-hot uint8 `[N, K]` for multi-label models.
    """

    trained: Trained
    split: str
    sources: dict[str, Source]
    plain: Outcomes
    predictions: Outcomes
    calibration: Calibration
    summary: Summary
    decisions: np.ndarray

    @property
    def source(self) -> Source:
        """The evaluated split."""
        return self.sources[self.split]

    @property
    def calibration_overlaps(self) -> bool:
        """Whether the calibration was fitted on examples that are evaluated."""
        return bool(self.calibration.split) and splits_overlap(self.calibration.split, self.split)

    @property
    def multi_label(self) -> bool:
        return self.predictions.task == "multi_label"

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.predictions.class_names


def read_results(
    trained: Trained, checkpoint: Checkpoint, split: str | None, calibrate_on: str | None
) -> Results:
    """Fits a calibration on one split, and reads the predictions of another.

    The calibration is saved in the checkpoint. Without a split to calibrate on, a calibration that
    was saved earlier is applied.

    Args:
      trained: a model that classifies; its `config.data` names the dataset.
      checkpoint: the model's checkpoint.
      split: the split to evaluate; None is 'test' if the dataset has it, otherwise the first
        split of the config's evaluators.
      calibrate_on: the split to calibrate on; None is 'val' or another split of the config's
        evaluators that shares no examples with the evaluated one or with those trained on.

    Raises:
      ConfigError: the data is missing, has classes that are not in the model or no readable
        example, or the two splits share examples.
      DataError: an image can't be read, unless `data.on_error` is 'skip'.
    """
    data = _open_data(trained)
    split = split or next(_available_splits(trained, data, "test"), "test")
    sources = {split: _open(trained, split, data)}
    if calibrate_on is None:
        used = (split, trained.config.data.train_split)
        available = _available_splits(trained, data, VALIDATION)
        free = (s for s in available if not any(splits_overlap(s, other) for other in used))
        calibrate_on = next(free, None)
    if calibrate_on is not None and splits_overlap(calibrate_on, split):
        raise ConfigError(
            f"--calibrate_on={calibrate_on}: overlaps with {split}, which is evaluated; name "
            "another split, such as 'val'"
        )
    if calibrate_on is None:
        calibration = calibration_lib.load_calibration(checkpoint, trained.info.class_names)
    else:
        sources[calibrate_on] = _open(trained, calibrate_on, data)
        held_out = _predict(trained, sources[calibrate_on])
        calibration = calibration_lib.fit(held_out, calibrate_on)
        calibration_lib.save_calibration(checkpoint, calibration, trained.info.class_names)
    plain = _predict(trained, sources[split])
    predictions = calibration_lib.apply(plain, calibration)
    return Results(
        trained=trained,
        split=split,
        sources=sources,
        plain=plain,
        predictions=predictions,
        calibration=calibration,
        summary=measure(plain, calibration),
        decisions=calibration_lib.decide(predictions.scores, calibration, plain.task),
    )


def count_by_split(results: Results) -> dict[str, np.ndarray]:
    """Counts the examples of each class, int `[K]`, in the training, calibration and test split.

    Splits that the dataset lacks are left out, since evaluation needs only one.
    """
    config, counts = results.trained.config, {}
    for split in (config.data.train_split, results.calibration.split, results.split):
        try:
            source = results.sources.get(split) or map_classes(
                open_split(config, split), results.class_names, f"split {split!r}"
            )
        except ConfigError:
            continue
        labels, classes = source.labels(), len(results.class_names)
        one_label = labels.ndim == 1
        counts[split] = np.bincount(labels, minlength=classes) if one_label else labels.sum(0)
    return counts


def compare(results: Results, workdir: epath.Path) -> Baseline | None:
    """What a classifier without a network, trained on the same split, reaches on the evaluated one.

    It is kept in `report/baseline.json` in the workdir.

    Returns:
      None for multi-label models, for volumes, if the data has no training split, or if that is
      evaluated; see also `measure_baseline`.
    """
    data, is_image = results.trained.config.data, len(results.trained.info.image_shape) == 3
    if results.multi_label or not is_image or splits_overlap(data.train_split, results.split):
        return None
    try:
        train = _open(results.trained, data.train_split)
    except ConfigError:
        return None
    file = workdir / "report" / "baseline.json"
    return read_baseline(file, train, results.source, data.split_seed)


def _available_splits(trained: Trained, data: Dataset, preferred: str) -> Iterator[str]:
    """Yields the preferred split and those of the evaluators, as far as the data has them."""
    sections = trained.config.evaluators.values()
    for split in (preferred, *(section.get("split") for section in sections)):
        if split and holds_examples(data, split):
            yield split


def _open(trained: Trained, split: str, data: Dataset | None = None) -> Source:
    """Opens a split, and checks that its labels are those of the model."""
    source = open_split(trained.config, split, data or _open_data(trained))
    source = map_classes(source, trained.info.class_names, f"split {split!r}")
    if source.multi_label != trained.info.multi_label:
        one, many = "one label per example", "any number of labels"
        raise ConfigError(
            f"split {split!r} has {many if source.multi_label else one}, but the model was trained "
            f"on {many if trained.info.multi_label else one}: set data.multi_label"
        )
    return source


def _open_data(trained: Trained) -> Dataset:
    """Opens the dataset; an error says how to name another place."""
    kind, _, path = complete_spec(trained.config.data.source).partition(":")
    try:
        return open_data(trained.config)
    except ConfigError as e:
        known = find_kind(kind)
        if known is None or not known.is_files or os.path.exists(os.path.expanduser(path)):
            raise
        raise ConfigError(
            f"{e}; if the data has moved, write --config.data.source={kind}:/new/path"
        ) from e


def _predict(trained: Trained, source: Source) -> Outcomes:
    variables = {"": (trained.params, trained.model_state)}
    reader = OutcomeReader(trained.config, trained.objective, trained.mesh)
    return reader.read(variables, source)[""]
