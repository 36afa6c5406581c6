"""The metric that decides which checkpoint of a run is its best: `config.checkpoint.keep_best`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

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
