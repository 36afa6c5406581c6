"""Exact classification metrics over a split: every example counts once."""

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.create import open_split
from imgcls.data.sources.source import check_classes
from imgcls.evaluate import metrics
from imgcls.evaluate.averaging import AveragedViews
from imgcls.evaluate.evaluator import register_evaluator
from imgcls.evaluate.gather import gather, make_eval_fn
from imgcls.evaluate.outcomes import OutcomeReader, Outcomes
from imgcls.objectives.objective import Classifies


@register_evaluator("classification")
class Classification:
    """Accuracy, precision, recall, F1, loss and calibration of an objective that has logits.

    Args:
      config, objective, mesh, data_info: of the run.
      split: which examples.
      batch_size: over all devices, rounded up to divide by them; None is the training batch.
      tta: mean of the logits over views of each picture: see `AveragedViews`; None is one view.

    Raises:
      ConfigError: the objective has no logits, or the split's classes are not the model's.
    """

    def __init__(
        self,
        config: ConfigDict,
        objective,
        mesh: Mesh,
        data_info,
        split: str = "test",
        batch_size: int | None = None,
        tta: str | None = None,
    ):
        if not isinstance(objective, Classifies):
            raise ConfigError(
                f"config.objective.name={config.objective.name!r} has no logits to classify by; "
                "use evaluators that look at features"
            )
        self.split, self._source = split, open_split(config, split)
        check_classes(self._source.class_names, data_info.class_names, f"split {split!r}")
        self._config, self._mesh, self._batch_size = config, mesh, batch_size
        views = "" if tta is None else f", mean of the views {tta}"
        objective = objective if tta is None else AveragedViews(objective, tta)
        self._objective = objective
        self._task, self._num_classes = objective.task, len(data_info.class_names)
        self._outputs = make_eval_fn(self._make_outputs(objective), config, mesh)
        self.protocol = (
            f"classification: the head's {self._task} answers on {split} "
            f"({len(self._source):,}){views}"
        )

    def run(self, variables: dict[str, tuple]) -> dict[str, float]:
        """The metrics of each set of variables, prefixed by its key; one pass over the data."""
        config, source, mesh = self._config, self._source, self._mesh
        collected, skipped = gather(
            self._outputs, variables, config, source, mesh, self._batch_size
        )
        return {
            f"{prefix}{name}": value
            for prefix, outputs in collected.items()
            for name, value in self._summarize(outputs, skipped).items()
        }

    def outcomes(self, variables: dict[str, tuple]) -> dict[str, Outcomes]:
        """Returns the answers of each set of variables; one pass over the data."""
        reader = OutcomeReader(self._config, self._objective, self._mesh, self._batch_size)
        return reader.read(variables, self._source)

    def _make_outputs(self, objective):
        def outputs(params, model_state, batch):
            logits = objective.logits(params, model_state, batch)
            scores = objective.scores(logits)
            return {
                # Of single labels only the best classes travel: 5 numbers and not 1,000.
                "scores": scores if self._task == "multi_label" else scores[:, -1],
                "top_k": metrics.top_k_indices(scores, 5),
                "loss": objective.example_loss(logits, batch["label"]),
                "confidence": jnp.max(scores, axis=-1),
                "brier": metrics.brier_score(scores, batch["label"]),
                "label": batch["label"],
                "mask": batch["mask"],
            }

        return outputs

    def _summarize(self, outputs: dict[str, np.ndarray], skipped: int) -> dict[str, float]:
        labels, *means = (outputs[name] for name in ("label", "loss", "brier"))
        if self._task == "multi_label":
            result = metrics.multi_label_metrics(outputs["scores"], labels, *means)
        elif self._task == "binary":
            result = metrics.binary_metrics(outputs["scores"], labels, *means)
        else:
            means = (means[0], outputs["confidence"], means[1])
            result = metrics.single_label_metrics(
                outputs["top_k"], labels, *means, self._num_classes
            )
        return {**result, "skipped": skipped} if skipped else result
