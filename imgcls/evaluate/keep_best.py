"""Finds the metric of `config.checkpoint.keep_best` among those of the evaluators."""

from collections.abc import Collection, Mapping
from typing import get_args

from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError, did_you_mean
from imgcls.evaluate.evaluator import Evaluator
from imgcls.runs.best import BestMetric, Direction
from imgcls.runs.trained import used_prefix


def find_best_metric(
    config: ConfigDict, evaluators: Mapping[str, Evaluator], prefixes: Collection[str]
) -> BestMetric | None:
    """Returns the metric that ranks checkpoints, with its direction; None if there is none.

    Without a prefix, it is that of the variables that are loaded from a checkpoint: 'test/accuracy'
    is 'test/ema_accuracy' if the run averages its parameters.

    Args:
      config: `checkpoint.keep_best` is read.
      evaluators: `{name: evaluator}`.
      prefixes: prefixes of the metrics, one for each set of variables of the objective.

    Raises:
      ConfigError: no evaluator has that name, or it does not state whether higher or lower values
        of the metric are better.
    """
    best = config.checkpoint.keep_best
    if best is None:
        return None
    where, (name, _, metric) = f"config.checkpoint.keep_best={best!r}", best.partition("/")
    if name not in evaluators:
        raise ConfigError(
            f"{where}: there is no evaluator of that name; write "
            f"EVALUATOR/METRIC with one of {', '.join(evaluators) or 'none'}"
        )
    directions = read_directions(name, evaluators[name])
    valid: dict[str, Direction] = {
        f"{prefix}{key}": better for prefix in prefixes for key, better in directions.items()
    }
    if metric not in valid:
        choices = [f"{name}/{key}" for key in valid]
        hint = f"{did_you_mean(best, choices)}; valid: {', '.join(choices)}"
        if not choices:
            hint = "; its class names none: see `directions` in docs/extending.md"
        raise ConfigError(
            f"{where}: not a metric of which evaluators.{name} states whether higher or lower "
            f"values are better{hint}"
        )
    used = used_prefix(prefixes) if metric in directions else ""
    return BestMetric(f"{name}/{used}{metric}", valid[metric])


def read_directions(name: str, evaluator: Evaluator) -> Mapping[str, Direction]:
    """Returns `directions` of an evaluator; `{}` if its class does not define it.

    Raises:
      ConfigError: a value is neither 'higher' nor 'lower'.
    """
    directions = getattr(evaluator, "directions", {})
    for metric, better in directions.items():
        if better not in get_args(Direction):
            raise ConfigError(
                f"config.evaluators.{name}: its class has directions[{metric!r}]={better!r}; write "
                "'higher' or 'lower'"
            )
    return directions
