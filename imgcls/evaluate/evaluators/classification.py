"""Exact classification metrics over a split: every example counts once."""

from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.create import open_split
from imgcls.data.sources.source import check_classes
from imgcls.evaluate.averaging import AveragedViews
from imgcls.evaluate.evaluator import register_evaluator
from imgcls.evaluate.metrics import measure
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
        views = "" if tta is None else f", mean of the views {tta}"
        self._run = (config, objective if tta is None else AveragedViews(objective, tta), mesh)
        self._batch_size = batch_size
        self._light = OutcomeReader(*self._run, batch_size, light=True)
        self.protocol = (
            f"classification: the head's {objective.task} answers on {split} "
            f"({len(self._source):,}){views}"
        )

    def run(self, variables: dict[str, tuple]) -> dict[str, float]:
        """Returns the metrics of each set of variables, prefixed by its key; one pass."""
        return {
            f"{prefix}{name}": value
            for prefix, outcomes in self._light.read(variables, self._source).items()
            for name, value in measure(outcomes, light=True).metrics.items()
        }

    def outcomes(self, variables: dict[str, tuple]) -> dict[str, Outcomes]:
        """Returns the answers of each set of variables, `{prefix: outcomes}`; one pass."""
        return OutcomeReader(*self._run, self._batch_size).read(variables, self._source)
