"""Base class of the evaluators that probe features."""

from collections.abc import Mapping

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.sources.source import Source
from imgcls.data.sources.splits import splits_overlap
from imgcls.evaluate.features import FeatureReader, Features
from imgcls.runs.best import Direction


class Probe:
    """Evaluates a simple model, fitted on features of `train_split`, on features of `split`.

    A subclass defines `judge` and `protocol`, and `directions` if its metrics are not those of
    `accuracies`.

    Args:
      config, objective, mesh, data_info: see `Evaluator`.
      train_split: name of the split that the model is fitted on.
      split: name of the split to evaluate.
      layer, batch_size: see `FeatureReader`.

    Raises:
      ConfigError: the splits may share examples, or one can't be used (see `FeatureReader.open`).
    """

    directions: Mapping[str, Direction] = {"accuracy": "higher", "top5_accuracy": "higher"}

    def __init__(
        self,
        config: ConfigDict,
        objective,
        mesh: Mesh,
        data_info,
        train_split: str,
        split: str,
        layer: str,
        batch_size: int | None,
    ):
        if splits_overlap(train_split, split):
            raise ConfigError(
                f"split={split!r} overlaps with train_split={train_split!r}, so examples would be "
                "evaluated on themselves; use two splits, such as 'train' and 'test', or "
                "'train[:80%]' and 'train[80%:]'"
            )
        self.reader = FeatureReader(config, objective, mesh, data_info, layer, batch_size)
        self.train_source, self.source = self.reader.open(train_split), self.reader.open(split)
        self.class_names = data_info.class_names
        self.train_name = f"{train_split} ({len(self.train_source):,})"
        self.name = f"{split} ({len(self.source):,})"

    def run(self, variables: dict[str, tuple]) -> dict[str, float]:
        """Returns the metrics of each set of variables, prefixed by its key.

        Each split is read once.
        """
        train = self.reader.read(variables, self.train_source)
        test = self.reader.read(variables, self.source)
        results = {}
        for prefix, features in test.items():
            metrics = self.judge(train[prefix], features.values, features.labels)
            results |= {f"{prefix}{name}": value for name, value in metrics.items()}
        return results

    def judge(self, train: Features, values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Returns the metrics of one set of variables.

        Args:
          train: features of the training split.
          values: float32 `[M, D]`, features of the split to evaluate.
          labels: int `[M]`, labels of the split to evaluate.
        """
        raise NotImplementedError


def class_members(source: Source, least: int, where: str) -> list[np.ndarray]:
    """Returns the indices of the examples of each class: K ascending int arrays.

    Raises:
      ConfigError: a class has fewer than `least` examples, or there is only one class.
    """
    names, labels = source.class_names, source.labels()
    num_classes = len(names)
    if num_classes < 2:
        raise ConfigError(
            f"{where}: class {names[0]!r} is the only one; use data with two or more classes"
        )
    members = [np.flatnonzero(labels == c) for c in range(num_classes)]
    for name, indices in zip(names, members, strict=True):
        if len(indices) < least:
            raise ConfigError(
                f"{where}: class {name!r} has {len(indices)} examples, fewer than {least}; use a "
                "larger split"
            )
    return members


def accuracies(ranked: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, float]:
    """Returns `accuracy` and, with more than 5 classes, `top5_accuracy`.

    Args:
      ranked: int `[N, >= 5]`, classes by descending score; -1 where there is no further class.
      labels: int `[N]`.
      num_classes: number of classes of the data.
    """
    hits = ranked[:, :5] == labels[:, None]
    metrics = {"accuracy": float(hits[:, 0].mean())}
    return metrics | ({"top5_accuracy": float(hits.any(1).mean())} if num_classes > 5 else {})
