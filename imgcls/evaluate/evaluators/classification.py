"""Exact classification metrics on a split: every example counts once."""

from collections.abc import Mapping

from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.create import open_split
from imgcls.data.sources.mapped import map_classes
from imgcls.evaluate.averaging import AveragedViews
from imgcls.evaluate.evaluator import register_evaluator
from imgcls.evaluate.metrics import DIRECTIONS, LIGHT, measure
from imgcls.evaluate.outcomes import OutcomeReader, Outcomes
from imgcls.objectives.objective import Classifies
from imgcls.runs.best import Direction


@register_evaluator("classification")
class Classification:
    """Accuracy, precision, recall, F1, loss and calibration of an objective with logits.

    Args:
      config, objective, mesh, data_info: see `Evaluator`.
      split: name of the split to evaluate.
      batch_size: examples per batch over all devices, rounded up to a multiple of their number;
        None is the training batch size.
      tta: test-time augmentation, see `AveragedViews`; None is a single view.

    Raises:
      ConfigError: the objective has no logits, or the split has classes that the model does not
        have.
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
                "use an evaluator of features, such as type 'knn'"
            )
        self.split = split
        examples = open_split(config, split)
        self._source = map_classes(examples, data_info.class_names, f"split {split!r}")
        metrics = LIGHT[objective.task]
        self.directions: Mapping[str, Direction] = {
            name: DIRECTIONS[name] for name in metrics if name in DIRECTIONS
        }
        views = "" if tta is None else f", mean of the views {tta}"
        self._run = (config, objective if tta is None else AveragedViews(objective, tta), mesh)
        self._batch_size = batch_size
        self._light = OutcomeReader(*self._run, batch_size, light=True)
        self.protocol = (
            f"classification: {objective.task} predictions of the head on {split} "
            f"({len(self._source):,}){views}"
        )

    def run(self, variables: dict[str, tuple]) -> dict[str, float]:
        """Returns the metrics of each set of variables, prefixed by its key, in one pass."""
        return {
            f"{prefix}{name}": value
            for prefix, outcomes in self._light.read(variables, self._source).items()
            for name, value in measure(outcomes, light=True).metrics.items()
        }

    def outcomes(self, variables: dict[str, tuple]) -> dict[str, Outcomes]:
        """Returns `{prefix: outcomes}` for each set of variables, in one pass."""
        return OutcomeReader(*self._run, self._batch_size).read(variables, self._source)
