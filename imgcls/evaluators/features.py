"""Features of whole splits, and what evaluators that probe them have in common."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.data import open_split
from imgcls.data.sources import Source
from imgcls.errors import ConfigError, TrainingError
from imgcls.evaluators.classification import check_classes
from imgcls.evaluators.gather import gather
from imgcls.step import make_eval_fn


class Features(NamedTuple):
    """Of the N examples of a source that could be read, in its order.

    Attributes:
      values: `{prefix: float32 [N, D]}`.
      labels: int `[N]`.
      index: int `[N]`, each example's number in the source.
    """

    values: dict[str, np.ndarray]
    labels: np.ndarray
    index: np.ndarray


class FeatureReader:
    """Gives the features of splits: one program for all of them.

    Args:
      config, objective, mesh, data_info: of the run.
      layer: one of the objective's `feature_layers`.
      batch_size: over all devices; None is the training batch.

    Raises:
      ConfigError: no such layer.
    """

    def __init__(
        self,
        config: ConfigDict,
        objective,
        mesh: Mesh,
        data_info,
        layer: str,
        batch_size: int | None,
    ):
        if layer not in objective.feature_layers:
            raise ConfigError(
                f"layer={layer!r}: config.objective.name={config.objective.name!r} has "
                f"{', '.join(objective.feature_layers)}"
            )

        def outputs(params, model_state, batch):
            values = objective.features(params, model_state, batch, layer)
            return {"values": values} | {key: batch[key] for key in ("label", "index", "mask")}

        self._outputs = make_eval_fn(outputs, config, mesh)
        self._config, self._mesh, self._batch_size = config, mesh, batch_size
        self._class_names = data_info.class_names

    def open(self, split: str) -> Source:
        """A split that has one label per example, of the model's classes."""
        source = open_split(self._config, split)
        if source.multi_label:
            raise ConfigError(
                f"split {split!r}: the labels are multi-label, and features are judged by one "
                "class per example; use type 'classification'"
            )
        check_classes(source.class_names, self._class_names, f"split {split!r}")
        return source

    def read(self, variables: dict[str, tuple], source: Source) -> Features:
        """The source's features for each set of variables, in one pass; on every process.

        All N x D of them are held in memory: 10.5 GB for ImageNet's training images at D = 2,048.

        Raises:
          ConfigError: no example could be read.
          TrainingError: a feature is not finite.
        """
        collected, _ = gather(
            self._outputs, variables, self._config, source, self._mesh, self._batch_size
        )
        first = next(iter(collected.values()))
        if not len(first["label"]):
            raise ConfigError("evaluation: no example of the split can be read; name another split")
        values = {prefix: outputs["values"] for prefix, outputs in collected.items()}
        if not all(np.isfinite(x).all() for x in values.values()):
            raise TrainingError(
                "evaluation: the model's features are not finite; lower the learning rate, or "
                "evaluate an earlier checkpoint"
            )
        return Features(values, first["label"], first["index"])


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
        for prefix in variables:
            of_train = train._replace(values=train.values[prefix])
            found = self.judge(of_train, test.values[prefix], test.labels)
            results |= {f"{prefix}{name}": value for name, value in found.items()}
        return results

    def judge(self, train: Features, values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Metrics of one set of variables.

        Args:
          train: of the training split, with `values` float32 `[N, D]`.
          values, labels: float32 `[M, D]` and int `[M]` of the split that is judged.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some examples of a source, in a given order; a source itself."""

    source: Source
    indices: np.ndarray

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @property
    def multi_label(self) -> bool:
        return self.source.multi_label

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict:
        return self.source[int(self.indices[index])]

    def labels(self) -> np.ndarray:
        return self.source.labels()[self.indices]

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))


def class_members(source: Source, least: int, where: str) -> list[np.ndarray]:
    """The numbers of each class's examples in a source: K ascending int arrays.

    Raises:
      ConfigError: a class has fewer than `least`, or there is only one class.
    """
    names, labels = source.class_names, source.labels()
    if len(names) < 2:
        raise ConfigError(f"{where}: class {names[0]!r} is the only one; give data of two or more")
    members = [np.flatnonzero(labels == c) for c in range(len(names))]
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
