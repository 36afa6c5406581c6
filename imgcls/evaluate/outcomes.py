"""A model's answers on a split, example by example: for metrics, tables and reports."""

import dataclasses

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.data.sources.source import Source
from imgcls.evaluate.gather import gather, make_eval_fn
from imgcls.objectives.objective import Classifies


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """A model's answers on the N readable examples of a split, in its order.

    Attributes:
      class_names: names of the K classes.
      task: task of the objective: 'softmax', 'sigmoid', 'binary' or 'multi_label'.
      names: names of the examples, from `Source.name`.
      index: int `[N]`, position of each example in the source.
      labels: int `[N]`, or multi-hot uint8 `[N, K]` if the task is 'multi_label'.
      logits: float32 `[N, K]` (`[N, 1]` if the task is 'binary').
      scores: probabilities, float32 `[N, K]`.
      skipped: number of unreadable examples.
      losses: float32 `[N]`, the objective's loss of each example, if known.
    """

    class_names: tuple[str, ...]
    task: str
    names: list[str]
    index: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    scores: np.ndarray
    skipped: int = 0
    losses: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.index)


class OutcomeReader:
    """Reads a model's answers on splits, with one compiled program for all of them.

    Args:
      config: config of the run.
      objective: objective with logits.
      mesh: device mesh.
      batch_size: over all devices, rounded up to a multiple of their number; None is the training
        batch size.
    """

    def __init__(
        self,
        config: ConfigDict,
        objective: Classifies,
        mesh: Mesh,
        batch_size: int | None = None,
    ):
        def outputs(params, model_state, batch) -> dict[str, jax.Array]:
            logits = objective.logits(params, model_state, batch)
            return {
                "logits": logits,
                "scores": objective.scores(logits),
                "losses": objective.example_loss(logits, batch["label"]),
                "labels": batch["label"],
                "index": batch["index"],
                "mask": batch["mask"],
            }

        self._outputs = make_eval_fn(outputs, config, mesh)
        self._config, self._mesh, self._batch_size = config, mesh, batch_size
        self._task = objective.task

    def read(self, variables: dict[str, tuple], source: Source) -> dict[str, Outcomes]:
        """Returns `{prefix: outcomes}` of each set of variables; one pass over the source.

        Args:
          variables: `{prefix: (params, model_state)}`.
          source: examples with the model's classes.
        """
        collected, skipped = gather(
            self._outputs, variables, self._config, source, self._mesh, self._batch_size
        )
        return {
            prefix: Outcomes(
                class_names=tuple(source.class_names),
                task=self._task,
                names=[source.name(i) for i in found["index"]],
                skipped=skipped,
                **{name: value for name, value in found.items() if name != "mask"},
            )
            for prefix, found in collected.items()
        }
