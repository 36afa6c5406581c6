"""The metric that decides which checkpoint of a run is its best: `config.checkpoint.keep_best`."""

import dataclasses
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

    def rank(self, metrics: Mapping[str, float]) -> float:
        """Returns a number that is larger for better metrics of a checkpoint."""
        value = metrics[self.name]
        return value if self.better == "higher" else -value
