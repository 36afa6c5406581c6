"""What evaluators that probe features have in common."""

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.sources.source import Source
from imgcls.evaluate.features import FeatureReader, Features


class Probe:
    """Judges the features of `split` by a simple model that is made from those of `train_split`.

    A subclass says how, in `judge` and `protocol`.

    Args:
      config, objective, mesh, data_info: of the run.
      train_split, split: names of splits.
      layer, batch_size: see `FeatureReader`.

    Raises:
      ConfigError: both splits are the same, or can't be used (see `FeatureReader`).
    """

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
        if train_split == split:
            raise ConfigError(
                f"split={split!r} is train_split too, and an example must not judge itself; name "
                "two splits, such as 'train' and 'test'"
            )
        self.reader = FeatureReader(config, objective, mesh, data_info, layer, batch_size)
        self.train_source, self.source = self.reader.open(train_split), self.reader.open(split)
        self.class_names = data_info.class_names
        self.train_name = f"{train_split} ({len(self.train_source):,})"
        self.name = f"{split} ({len(self.source):,})"

    def run(self, variables: dict[str, tuple]) -> dict[str, float]:
        """The metrics of each set of variables, prefixed by its key; one pass over each split."""
        train = self.reader.read(variables, self.train_source)
        test = self.reader.read(variables, self.source)
        results = {}
        for prefix, judged in test.items():
            found = self.judge(train[prefix], judged.values, judged.labels)
            results |= {f"{prefix}{name}": value for name, value in found.items()}
        return results

    def judge(self, train: Features, values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Metrics of one set of variables.

        Args:
          train: features of the training split.
          values, labels: float32 `[M, D]` and int `[M]` of the split that is judged.
        """
        raise NotImplementedError


def class_members(source: Source, least: int, where: str) -> list[np.ndarray]:
    """The numbers of each class's examples in a source: K ascending int arrays.

    Raises:
      ConfigError: a class has fewer than `least`, or there is only one class.
    """
    names, labels = source.class_names, source.labels()
    num_classes = len(names)
    if num_classes < 2:
        raise ConfigError(f"{where}: class {names[0]!r} is the only one; give data of two or more")
    members = [np.flatnonzero(labels == c) for c in range(num_classes)]
    for name, found in zip(names, members, strict=True):
        if len(found) < least:
            raise ConfigError(
                f"{where}: class {name!r} has {len(found)} examples, fewer than {least}; name a "
                "larger split"
            )
    return members


def accuracies(ranked: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, float]:
    """`accuracy` and, of more than 5 classes, `top5_accuracy`.

    Args:
      ranked: int `[N, >= 5]`, classes by falling score; -1 where there is no further class.
      labels: int `[N]`.
      num_classes: of the data.
    """
    hits = ranked[:, :5] == labels[:, None]
    found = {"accuracy": float(hits[:, 0].mean())}
    return found | ({"top5_accuracy": float(hits.any(1).mean())} if num_classes > 5 else {})
