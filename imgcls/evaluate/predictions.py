"""What a model answers on a split, example by example: for metrics, tables and reports."""

import dataclasses

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.data.sources.source import Source
from imgcls.evaluate.gather import gather, make_eval_fn


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Of the N examples of a split that could be read, in its order.

    Attributes:
      class_names: of the K classes.
      task: the objective's: 'softmax', 'sigmoid', 'binary' or 'multi_label'.
      names: of the examples, as `Source.name` says them.
      index: int `[N]`, each example's number in the source.
      labels: int `[N]`, or multi-hot uint8 `[N, K]` where the task is 'multi_label'.
      logits: float32 `[N, K]` (`[N, 1]` where the task is 'binary').
      scores: probabilities, float32 `[N, K]`.
      skipped: examples that could not be read.
      losses: float32 `[N]`, the objective's own of each example, where it is known.
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


def read_predictions(
    config: ConfigDict,
    objective,
    mesh: Mesh,
    variables: dict[str, tuple],
    source: Source,
    batch_size: int | None = None,
) -> dict[str, Predictions]:
    """The answers for each set of variables, `{prefix: Predictions}`; one pass over the source.

    Args:
      config, objective, mesh: of the run; the objective has `logits`.
      variables: `{prefix: (params, model_state)}`.
      source: of the examples, with the model's classes.
      batch_size: over all devices, rounded up to divide by them; None is the training batch.
    """

    def outputs(params, model_state, batch):
        logits = objective.logits(params, model_state, batch)
        kept = {key: batch[key] for key in ("label", "index", "mask")}
        losses = objective.example_loss(logits, batch["label"])
        return {"logits": logits, "scores": objective.scores(logits), "losses": losses, **kept}

    outputs = make_eval_fn(outputs, config, mesh)
    collected, skipped = gather(outputs, variables, config, source, mesh, batch_size)
    return {
        prefix: Predictions(
            class_names=tuple(source.class_names),
            task=objective.task,
            names=[source.name(i) for i in found["index"]],
            index=found["index"],
            labels=found["label"],
            logits=found["logits"],
            scores=found["scores"],
            skipped=skipped,
            losses=found["losses"],
        )
        for prefix, found in collected.items()
    }
