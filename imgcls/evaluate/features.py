"""Features of the examples of a split, for evaluators, reports and audits."""

from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError, TrainingError
from imgcls.data.create import open_split
from imgcls.data.sources.mapped import map_classes
from imgcls.data.sources.source import Source
from imgcls.evaluate.averaging import over_clips
from imgcls.evaluate.gather import gather, make_eval_fn


class Features(NamedTuple):
    """Features of the N readable examples of a source, in the order of the source.

    Attributes:
      values: float32 `[N, D]`.
      labels: int `[N]`.
      index: int `[N]`, position of each example in the source.
    """

    values: np.ndarray
    labels: np.ndarray
    index: np.ndarray


class FeatureReader:
    """Computes the features of splits, with one compiled program for all of them.

    Args:
      config: config of the run.
      objective: objective with features.
      mesh: device mesh.
      data_info: classes of the training data.
      layer: one of the objective's `feature_layers`.
      batch_size: examples per batch over all devices; None is the training batch size.

    Raises:
      ConfigError: the objective has no such layer.
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
            values = over_clips(objective.features, params, model_state, batch, layer)
            return {"values": values} | {key: batch[key] for key in ("label", "index", "mask")}

        self._outputs = make_eval_fn(outputs, config, mesh)
        self._config, self._mesh, self._batch_size = config, mesh, batch_size
        self._class_names = data_info.class_names

    def open(self, split: str) -> Source:
        """Opens a split.

        Raises:
          ConfigError: the split is multi-label, or has classes that the model does not have.
        """
        source = open_split(self._config, split)
        if source.multi_label:
            raise ConfigError(
                f"split {split!r}: the labels are multi-label, but features are evaluated with "
                "one label per example; use type 'classification'"
            )
        return map_classes(source, self._class_names, f"split {split!r}")

    def read(self, variables: dict[str, tuple], source: Source) -> dict[str, Features]:
        """Returns `{prefix: features}` for each set of variables, in one pass over the source.

        Every process holds all N x D values: 10.5 GB for the ImageNet training split with
        D = 2,048.

        Raises:
          ConfigError: no example can be read.
          TrainingError: a feature is not finite.
        """
        collected, _ = gather(
            self._outputs, variables, self._config, source, self._mesh, self._batch_size
        )
        results = {
            prefix: Features(outputs["values"], outputs["label"], outputs["index"])
            for prefix, outputs in collected.items()
        }
        if not all(len(features.labels) for features in results.values()):
            raise ConfigError("evaluation: no example of the split can be read; name another split")
        if not all(np.isfinite(features.values).all() for features in results.values()):
            raise TrainingError(
                "evaluation: the model's features are not finite; lower the learning rate, or "
                "evaluate an earlier checkpoint"
            )
        return results
