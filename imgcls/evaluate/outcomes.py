"""Outputs of a model for each example of a split, for metrics, tables and reports."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core.errors import TrainingError
from imgcls.data.sources.source import Source
from imgcls.evaluate.averaging import logits_over_clips
from imgcls.evaluate.gather import gather, make_eval_fn
from imgcls.evaluate.per_example import brier_score, top_k_indices
from imgcls.objectives.objective import Classifies


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Outputs of a model for the N readable examples of a split, in the order of the split.

    The light form, for `measure(light=True)`, lacks `names`, `index` and `logits`. If an example
    has one label, it holds about ten numbers per example, whatever the number of classes.

    Attributes:
      class_names: names of the K classes.
      task: task of the objective: 'softmax', 'sigmoid', 'binary' or 'multi_label'.
      names: names of the examples, see `Source.name`.
      index: int `[N]`, position of each example in the source.
      labels: int `[N]`, or multi-hot uint8 `[N, K]` if the task is 'multi_label'.
      logits: float32 `[N, K]` (`[N, 1]` if the task is 'binary').
      scores: probabilities, float32 `[N, K]`. In the light form of the tasks 'softmax' and
        'sigmoid' only the highest, `[N, 1]`.
      losses: float32 `[N]`, loss of the objective for each example, if known.
      skipped: number of unreadable examples.
      best: int `[N, min(5, K)]`, classes in descending order of their scores; only in the light
        form, and not if the task is 'multi_label'.
      brier: float32 `[N]`, see `brier_score`; only in the light form.
    """

    class_names: tuple[str, ...]
    task: str
    names: list[str]
    index: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    scores: np.ndarray
    losses: np.ndarray | None = None
    skipped: int = 0
    best: np.ndarray | None = None
    brier: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def multi_label(self) -> bool:
        """Whether an example can have any number of labels."""
        return self.task == "multi_label"

    @property
    def is_light(self) -> bool:
        """Whether the outcomes are in the light form."""
        return self.brier is not None

    def check_finite(self) -> None:
        """Raises a TrainingError if a logit or a probability is not finite."""
        if not (np.isfinite(self.logits).all() and np.isfinite(self.scores).all()):
            raise TrainingError(
                "evaluation: the model's scores are not finite; lower the learning rate, or "
                "evaluate an earlier checkpoint"
            )


class OutcomeReader:
    """Computes the outcomes of a model on splits, with one compiled program for all of them.

    Args:
      config: config of the run.
      objective: objective with logits.
      mesh: device mesh.
      batch_size: examples per batch over all devices, rounded up to a multiple of their number;
        None is the training batch size.
      light: whether to return the light form of `Outcomes`.
    """

    def __init__(
        self,
        config: ConfigDict,
        objective: Classifies,
        mesh: Mesh,
        batch_size: int | None = None,
        light: bool = False,
    ):
        def outputs(params, model_state, batch) -> dict[str, jax.Array]:
            logits = logits_over_clips(objective, params, model_state, batch)
            labels = batch["label"]
            scores, losses = objective.scores(logits), objective.example_loss(logits, labels)
            fields = {"labels": labels, "losses": losses, "mask": batch["mask"]}
            if not light:
                return fields | {"logits": logits, "scores": scores, "index": batch["index"]}
            fields["brier"] = brier_score(scores, labels)
            if objective.task != "multi_label":
                fields["best"] = top_k_indices(scores, 5)
            if objective.task in ("softmax", "sigmoid"):
                scores = jnp.max(scores, axis=-1, keepdims=True)
            return fields | {"scores": scores}

        self._outputs = make_eval_fn(outputs, config, mesh)
        self._config, self._mesh, self._batch_size = config, mesh, batch_size
        self._task = objective.task

    def read(self, variables: dict[str, tuple], source: Source) -> dict[str, Outcomes]:
        """Returns `{prefix: outcomes}` for each set of variables, in one pass over the source.

        Args:
          variables: `{prefix: (params, model_state)}`.
          source: examples with the classes of the model.
        """
        collected, skipped = gather(
            self._outputs, variables, self._config, source, self._mesh, self._batch_size
        )
        outcomes = {}
        for prefix, arrays in collected.items():
            arrays.setdefault("index", np.zeros(0, np.int64))
            arrays.setdefault("logits", np.zeros((len(arrays["labels"]), 0), np.float32))
            outcomes[prefix] = Outcomes(
                class_names=tuple(source.class_names),
                task=self._task,
                names=[source.name(i) for i in arrays["index"]],
                skipped=skipped,
                **{name: values for name, values in arrays.items() if name != "mask"},
            )
        return outcomes
