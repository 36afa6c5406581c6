"""Evaluate a trained model: `python -m imgcls.evaluate --workdir=/tmp/digits`.

Runs the evaluators of the checkpoint's own config, on its own data or on other data of the same
classes: `--config.data.source=folder:/new/pictures --config.evaluators.test.split=test`. Prints one
JSON object; pictures go to the workdir's `report/`.
"""

import argparse
import json
import pathlib
import sys

from imgcls import cli, config, sharding
from imgcls.checkpoint import latest_checkpoint, load_eval_variables, load_meta
from imgcls.errors import ConfigError
from imgcls.evaluators import create_evaluators
from imgcls.objectives import create_objective
from imgcls.writer import save_pictures, split_pictures


def main(argv: list[str] | None = None) -> int:
    """Flags -> checkpoint -> metrics."""
    parser = argparse.ArgumentParser(
        prog="python -m imgcls.evaluate", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="or one checkpoint of it")
    args, overrides = parser.parse_known_args(argv)
    settings, info = load_meta(args.workdir)
    trained = settings.copy_and_resolve_references()
    config.override(settings, overrides)
    for key in config.changed_keys(trained, settings):
        if key.startswith(("model.", "objective.")) and key != "model.dtype":
            raise ConfigError(
                f"config.{key}: is the checkpoint's own and can't be changed; override data, "
                "evaluators or mesh"
            )
    settings.checkpoint.keep_best = None
    mesh = sharding.create_mesh(settings)
    objective = create_objective(settings, info)
    evaluators = create_evaluators(settings, objective, mesh, info, num_examples=1, log=_tell)
    if not evaluators:
        raise ConfigError(
            f"{args.workdir}: its config names no evaluator; add one, for example "
            "--config.evaluators.test.split=test"
        )
    variables = load_eval_variables(args.workdir, objective, info, mesh, settings.mesh.rules)
    checkpoint = latest_checkpoint(args.workdir)
    _tell(f"evaluating {checkpoint}")
    metrics = {
        f"{name}/{key}": value
        for name, (_, evaluator) in evaluators.items()
        for key, value in evaluator.run(variables).items()
    }
    numbers, pictures = split_pictures(metrics)
    for path in save_pictures(*_place(checkpoint), pictures):
        _tell(str(path))
    print(json.dumps(numbers, indent=2))
    return 0


def _tell(message: str) -> None:
    # Standard output is for the JSON alone.
    print(message, file=sys.stderr)


def _place(checkpoint: pathlib.Path) -> tuple[pathlib.Path, int]:
    """Workdir and step of `WORKDIR/checkpoints/STEP`; of one that was moved, its folder and 0."""
    step = int(checkpoint.name) if checkpoint.name.isdigit() else 0
    inside = checkpoint.parent.name == "checkpoints"
    return checkpoint.parents[1] if inside else checkpoint.parent, step


if __name__ == "__main__":
    cli.run(main)
