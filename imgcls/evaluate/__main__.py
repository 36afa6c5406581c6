"""Evaluate a trained model: `python -m imgcls.evaluate --workdir=/tmp/digits`.

Runs the evaluators of the checkpoint's config, on its own data or on other data with the same
classes, or some of them: `--config.data.source=folder:/new/images
--config.evaluators.test.split=test`. Prints one JSON object: the metrics and, for classification,
their 95 % confidence intervals. Images and, for classification, `NAME_predictions.csv` and
`NAME_metrics.json` are written to `report/` in the workdir.

`--calibrate=val` first fits a temperature and, for multi-label, thresholds on the split `val`, and
stores them in the checkpoint: later evaluations and `predict` apply them. `--scores` writes the
probability of every class to `NAME_predictions.csv`, a column each.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from imgcls.core import cli, config, notebook_html
from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.core.storage import replace_bytes, replace_text
from imgcls.data.sources.splits import splits_overlap
from imgcls.distributed import sharding
from imgcls.evaluate.calibration import (
    PLAIN,
    Calibration,
    fit,
    load_calibration,
    save_calibration,
)
from imgcls.evaluate.create import create_evaluators
from imgcls.evaluate.evaluators.classification import Classification
from imgcls.evaluate.metrics import Summary, measure
from imgcls.evaluate.outcomes import Outcomes
from imgcls.evaluate.table import table_of
from imgcls.objectives.create import create_objective
from imgcls.runs.load import Checkpoint, find_checkpoint
from imgcls.runs.metrics_log import save_pictures, split_pictures
from imgcls.runs.trained import load_eval_variables, used_prefix


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Results of the evaluators of a checkpoint.

    Attributes:
      metrics: `{'EVALUATOR/METRIC': value}`, and intervals `[low, high]` as `..._interval`.
      summaries: metrics, classes and confusion matrix of each classification evaluator.
      pictures: files of the pictures that evaluators drew.
    """

    metrics: dict[str, Any]
    summaries: dict[str, Summary]
    pictures: list[str]

    def _repr_html_(self) -> str:
        """Each summary under its name, and the numbers of the other evaluators."""
        parts = [
            f"<h4>{notebook_html.text(name)}</h4>{summary._repr_html_()}"
            for name, summary in self.summaries.items()
        ]
        others = {k: v for k, v in self.metrics.items() if k.split("/")[0] not in self.summaries}
        parts += [notebook_html.table(("metric", "value"), others.items())] if others else []
        return "".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Evaluates the checkpoint that the flags name, and prints its metrics."""
    args, overrides = _parse(argv)
    cli.require_output()
    options = args.calibrate, args.bootstrap, args.scores
    results = _evaluate(args.workdir, lambda c: config.override(c, overrides), *options)
    print(json.dumps(results.metrics, indent=2))
    return 0


def evaluate(
    checkpoint: str | os.PathLike,
    *,
    calibrate: str | None = None,
    bootstrap: int = 1000,
    scores: bool = False,
    **overrides,
) -> Evaluation:
    """Runs the evaluators of a checkpoint's config, as `python -m imgcls.evaluate` does.

    >>> imgcls.evaluate("/runs/mine", **{"data.source": "folder:/new/images"}).metrics

    Args:
      checkpoint: a workdir, or the directory of a checkpoint, see `imgcls.load`.
      calibrate: split on which a calibration is fitted first and stored in the checkpoint.
      bootstrap: number of bootstrap replicates for the intervals; 0 for no intervals.
      scores: whether `NAME_predictions.csv` has the probability of every class.
      **overrides: keys of `data`, `evaluators` or `mesh`, as `**{'section.key': value}`.

    Raises:
      ConfigError: there is no checkpoint, an invalid override, or no evaluator.
    """
    options = calibrate, bootstrap, scores
    return _evaluate(os.fspath(checkpoint), lambda c: config.assign(c, overrides), *options)


def _evaluate(
    workdir: str,
    override: Callable[[ConfigDict], ConfigDict],
    calibrate_on: str | None,
    bootstrap: int,
    scores: bool,
) -> Evaluation:
    checkpoint = find_checkpoint(workdir)
    settings, info = checkpoint.read_meta()
    _override(settings, override)
    mesh = sharding.create_mesh(settings)
    objective = create_objective(settings, info)
    validation = None
    if calibrate_on is not None:
        validation = _open_validation(settings, objective, mesh, info, calibrate_on)
    durations = Durations(settings, 1)
    evaluators = create_evaluators(settings, objective, mesh, info, durations, _log)
    if not evaluators:
        raise ConfigError(
            f"{workdir}: its config has no evaluator; add one, for example "
            "--config.evaluators.test.split=test"
        )
    variables = load_eval_variables(checkpoint, objective, info, mesh, settings.mesh.rules)
    _log(f"evaluating {checkpoint.path}")
    # Only the variables that `predict` uses are calibrated and written to files.
    used = used_prefix(variables)
    if validation is not None:
        calibrate(validation.outcomes({used: variables[used]})[used], validation.split, checkpoint)
    calibration = load_calibration(checkpoint, info.class_names)
    _log_calibration(calibration, used, evaluators)

    metrics, shown = {}, {}
    for name, (_, evaluator) in evaluators.items():
        if isinstance(evaluator, Classification):
            outcomes = evaluator.outcomes(variables)
            summaries = _summarize(outcomes, used, calibration, bootstrap)
            results = flatten(summaries)
            table = table_of(outcomes[used], calibration, settings.data.separator, scores)
            write_report(checkpoint.workdir / "report", name, table, summaries[used], used)
            shown[name] = summaries[used]
        else:
            results = evaluator.run(variables)
        metrics |= {f"{name}/{key}": value for key, value in results.items()}
    numbers, pictures = split_pictures(metrics)
    paths = list(map(str, save_pictures(str(checkpoint.workdir), checkpoint.step, pictures)))
    for path in paths:
        _log(path)
    return Evaluation(numbers, shown, paths)


def _summarize(
    outcomes: dict[str, Outcomes], used: str, calibration: Calibration, bootstrap: int
) -> dict[str, Summary]:
    """Returns `{prefix: summary}`; only the variables that `predict` uses are calibrated."""
    calibrations = {prefix: calibration if prefix == used else PLAIN for prefix in outcomes}
    return {p: measure(outcomes[p], calibrations[p], bootstrap=bootstrap) for p in outcomes}


def calibrate(outcomes: Outcomes, split: str, checkpoint: Checkpoint) -> None:
    """Fits a calibration to the outcomes on a split, saves it, and logs its effect."""
    calibration = fit(outcomes, split)
    before, after = (measure(outcomes, c, bootstrap=0).metrics for c in (PLAIN, calibration))
    names = ("ece", "nll", *(("macro_f1",) if calibration.thresholds is not None else ()))
    change = ", ".join(f"{name} {before[name]:.4f} -> {after[name]:.4f}" for name in names)
    path = save_calibration(checkpoint, calibration, outcomes.class_names)
    _log(f"calibrated on {split} ({len(outcomes):,} examples): {change}; {path}")


def flatten(summaries: dict[str, Summary]) -> dict[str, float | list[float]]:
    """Returns the metrics by prefix and name, and `[low, high]` of each as `NAME_interval`."""
    flat = {}
    for prefix, summary in summaries.items():
        flat |= {f"{prefix}{name}": value for name, value in summary.metrics.items()}
        for name, interval in summary.intervals.items():
            flat[f"{prefix}{name}_interval"] = list(interval)
    return flat


def write_report(folder: epath.Path, name: str, table: str, summary: Summary, used: str) -> None:
    """Writes the files of an evaluator atomically, on process 0."""
    if jax.process_index() != 0:
        return
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}_predictions.csv", folder / f"{name}_metrics.json"
    # File names are bytes and may not be valid UTF-8.
    replace_bytes(paths[0], table.encode(errors="surrogateescape"))
    replace_text(paths[1], summary.to_json())
    _log(f"results of {_describe(used)}: {paths[0]}, {paths[1]}")


def _describe(used: str) -> str:
    return "the averaged (EMA) parameters" if used else "the parameters"


def _parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = cli.create_parser("evaluate", __doc__)
    add = parser.add_argument
    add("--workdir", required=True, metavar="DIR", help=cli.CHECKPOINT_HELP)
    add("--calibrate", metavar="SPLIT", help="split to calibrate on; not one to evaluate on")
    add(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="N",
        help="number of bootstrap replicates for the intervals; 0 for no intervals",
    )
    add(
        "--scores",
        action="store_true",
        help="write the probability of every class to NAME_predictions.csv",
    )
    args, overrides = parser.parse_known_args(argv)
    if args.bootstrap < 0:
        raise ConfigError(f"--bootstrap={args.bootstrap}: must be 0 or more")
    return args, overrides


def _override(settings: ConfigDict, override: Callable[[ConfigDict], ConfigDict]) -> None:
    settings.checkpoint.keep_best = None
    trained = settings.copy_and_resolve_references()
    override(settings)
    for key in config.changed_keys(trained, settings):
        if key.startswith(("model.", "objective.")) and key != "model.dtype":
            raise ConfigError(
                f"config.{key}: belongs to the checkpoint and can't be changed; override data, "
                "evaluators or mesh"
            )


def _open_validation(settings, objective, mesh, info, split: str) -> Classification:
    try:
        return Classification(settings, objective, mesh, info, split)
    except ConfigError as e:
        raise ConfigError(f"--calibrate={split}: {e}") from e


def _log_calibration(calibration: Calibration, used: str, evaluators: dict) -> None:
    """Logs the calibration, and a warning for each evaluator of the split that it was fitted on."""
    if calibration is PLAIN:
        return
    _log(f"{calibration}, fitted on {calibration.split}: applied to {_describe(used)}")
    for name, (_, evaluator) in evaluators.items():
        if isinstance(evaluator, Classification) and splits_overlap(
            evaluator.split, calibration.split
        ):
            _log(
                f"warning: evaluators.{name} evaluates on {evaluator.split}, but the calibration "
                f"was fitted on {calibration.split}: its metrics are optimistic; use another split"
            )


def _log(message: str) -> None:
    # Standard output is only for the JSON.
    print(message, file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
