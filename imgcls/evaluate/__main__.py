"""Evaluate a trained model: `python -m imgcls.evaluate --workdir=/tmp/digits`.

Runs the evaluators of the checkpoint's own config, on its own data or on other data of the same
classes: `--config.data.source=folder:/new/pictures --config.evaluators.test.split=test`. Prints one
JSON object: metrics and, for classification, their 95 % intervals. To the workdir's `report/` go
pictures and, of classification, `NAME_predictions.csv` (see `table_of`) and `NAME_metrics.json`
(see `imgcls.evaluate.metrics`).

`--calibrate=val` first chooses a temperature and, for multi-label, thresholds on the split `val`,
and keeps them in the checkpoint: later evaluations and `predict` apply them.
"""

import argparse
import json
import sys

import jax
from etils import epath
from ml_collections import ConfigDict

from imgcls.core import cli, config
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
from imgcls.runs.trained import load_eval_variables


def main(argv: list[str] | None = None) -> int:
    """Flags -> checkpoint -> metrics."""
    args, overrides = _parse(argv)
    checkpoint = find_checkpoint(args.workdir)
    settings, info = checkpoint.read_meta()
    _override(settings, overrides)
    mesh = sharding.create_mesh(settings)
    objective = create_objective(settings, info)
    validation = None
    if args.calibrate is not None:
        validation = _open_validation(settings, objective, mesh, info, args.calibrate)
    evaluators = create_evaluators(settings, objective, mesh, info, Durations(settings, 1), _tell)
    if not evaluators:
        raise ConfigError(
            f"{args.workdir}: its config names no evaluator; add one, for example "
            "--config.evaluators.test.split=test"
        )
    variables = load_eval_variables(checkpoint, objective, info, mesh, settings.mesh.rules)
    _tell(f"evaluating {checkpoint.path}")
    # What `predict` takes is calibrated, and goes to files.
    used = "ema_" if "ema_" in variables else ""
    if validation is not None:
        calibrate(validation.outcomes({used: variables[used]})[used], validation.split, checkpoint)
    calibration = load_calibration(checkpoint, info.class_names)
    _tell_calibration(calibration, used, evaluators)

    metrics = {}
    for name, (_, evaluator) in evaluators.items():
        if isinstance(evaluator, Classification):
            answers = evaluator.outcomes(variables)
            summaries = _summaries(answers, used, calibration, args.bootstrap)
            results = flatten(summaries)
            table = table_of(answers[used], calibration, settings.data.separator)
            write_report(checkpoint.workdir / "report", name, table, summaries[used], used)
        else:
            results = evaluator.run(variables)
        metrics |= {f"{name}/{key}": value for key, value in results.items()}
    numbers, pictures = split_pictures(metrics)
    for path in save_pictures(str(checkpoint.workdir), checkpoint.step, pictures):
        _tell(str(path))
    print(json.dumps(numbers, indent=2))
    return 0


def _summaries(
    answers: dict[str, Outcomes], used: str, calibration: Calibration, bootstrap: int
) -> dict[str, Summary]:
    """By prefix; the variables that `predict` uses are calibrated."""
    chosen = {prefix: calibration if prefix == used else PLAIN for prefix in answers}
    return {p: measure(answers[p], chosen[p], bootstrap=bootstrap) for p in answers}


def calibrate(outcomes: Outcomes, split: str, checkpoint: Checkpoint) -> None:
    """Chooses a calibration on a split's predictions, says what it does, and saves it."""
    calibration = fit(outcomes, split)
    before, after = (measure(outcomes, c, bootstrap=0).metrics for c in (PLAIN, calibration))
    names = ("ece", "nll", *(("macro_f1",) if calibration.thresholds is not None else ()))
    change = ", ".join(f"{name} {before[name]:.4f} -> {after[name]:.4f}" for name in names)
    path = save_calibration(checkpoint, calibration, outcomes.class_names)
    _tell(f"calibrated on {split} ({len(outcomes):,} examples): {change}; {path}")


def flatten(summaries: dict[str, Summary]) -> dict[str, float | list[float]]:
    """The metrics by prefix and name, and the intervals as `[low, high]` by `NAME_interval`."""
    flat = {}
    for prefix, summary in summaries.items():
        flat |= {f"{prefix}{name}": value for name, value in summary.metrics.items()}
        for name, interval in summary.intervals.items():
            flat[f"{prefix}{name}_interval"] = list(interval)
    return flat


def write_report(folder: epath.Path, name: str, table: str, summary: Summary, used: str) -> None:
    """Saves the files of an evaluator, whole or not at all, from process 0."""
    if jax.process_index() != 0:
        return
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}_predictions.csv", folder / f"{name}_metrics.json"
    # File names are bytes, and need not be UTF-8.
    replace_bytes(paths[0], table.encode(errors="surrogateescape"))
    replace_text(paths[1], summary.to_json())
    _tell(f"of {_called(used)}: {paths[0]}, {paths[1]}")


def _called(used: str) -> str:
    return "the averaged (EMA) parameters" if used else "the parameters"


def _parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = cli.create_parser("evaluate", __doc__)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="or one checkpoint of it")
    parser.add_argument("--calibrate", metavar="SPLIT", help="one that nothing is judged on")
    parser.add_argument(
        "--bootstrap", type=int, default=1000, metavar="N", help="replicates; 0: no intervals"
    )
    args, overrides = parser.parse_known_args(argv)
    if args.bootstrap < 0:
        raise ConfigError(f"--bootstrap={args.bootstrap}: must be 0 or more")
    return args, overrides


def _override(settings: ConfigDict, overrides: list[str]) -> None:
    trained = settings.copy_and_resolve_references()
    config.override(settings, overrides)
    for key in config.changed_keys(trained, settings):
        if key.startswith(("model.", "objective.")) and key != "model.dtype":
            raise ConfigError(
                f"config.{key}: is the checkpoint's own and can't be changed; override data, "
                "evaluators or mesh"
            )
    settings.checkpoint.keep_best = None


def _open_validation(settings, objective, mesh, info, split: str) -> Classification:
    try:
        return Classification(settings, objective, mesh, info, split)
    except ConfigError as e:
        raise ConfigError(f"--calibrate={split}: {e}") from e


def _tell_calibration(calibration: Calibration, used: str, evaluators: dict) -> None:
    """Says what is applied to what, and which numbers it flatters."""
    if calibration is PLAIN:
        return
    parts = [f"temperature {calibration.temperature:.4g}"]
    if calibration.thresholds is not None:
        parts.append(f"thresholds for {len(calibration.thresholds)} classes")
    _tell(f"{' and '.join(parts)}, chosen on {calibration.split}: applied to {_called(used)}")
    for name, (_, evaluator) in evaluators.items():
        if isinstance(evaluator, Classification) and splits_overlap(
            evaluator.split, calibration.split
        ):
            _tell(
                f"warning: evaluators.{name} judges on {evaluator.split}, but the calibration was "
                f"chosen on {calibration.split}: its numbers are too good; take another split"
            )


def _tell(message: str) -> None:
    # Standard output is for the JSON alone.
    print(message, file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
