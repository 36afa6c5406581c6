"""The metric that decides which checkpoint of a run is its best: `config.checkpoint.keep_best`."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from etils import epath

from imgcls.core.errors import ConfigError

Direction = Literal["higher", "lower"]


@dataclasses.dataclass(frozen=True)
class BestMetric:
    """Metric that ranks the checkpoints of a run.

    Attributes:
      name: name in the logs, such as 'test/accuracy'.
      better: which of two values is better, 'higher' or 'lower'.
    """

    name: str
    better: Direction

    def choose(self, metrics: Mapping[int, Mapping[str, float] | None]) -> int | None:
        """Returns the step with the best value, the latest of equal ones; None if there is none.

        Args:
          metrics: `{step: metrics}`. A checkpoint may have no metrics, or lack this one: it was
            saved between evaluations, or before `keep_best` named this metric.
        """
        sign = 1 if self.better == "higher" else -1
        ranks = [
            (sign * values[self.name], step)
            for step, values in metrics.items()
            if values and self.name in values and not math.isnan(values[self.name])
        ]
        return max(ranks)[1] if ranks else None


def read_metrics(checkpoint: epath.Path) -> dict[str, float] | None:
    """Reads the metrics that a checkpoint was saved with; None if it has none."""
    file = checkpoint / "metrics" / "metrics"
    return json.loads(file.read_text()) if file.exists() else None


def best_metric_of(meta: Mapping[str, Any]) -> BestMetric | None:
    """Returns the metric that ranks the checkpoints of a run; None if there is none.

    Args:
      meta: description in a checkpoint of the run.

    Raises:
      ConfigError: an older run, which does not record the direction of its metric.
    """
    if meta.get("best"):
        return BestMetric(**meta["best"])
    name = meta["config"]["checkpoint"]["keep_best"]
    # Older runs do not record the direction.
    if name is None or "best" in meta:
        return None
    if name.endswith("loss"):
        return BestMetric(name, "lower")
    if name.endswith("accuracy"):
        return BestMetric(name, "higher")
    raise ConfigError(
        f"it does not record whether higher or lower values of {name} are better; name a step"
    )
