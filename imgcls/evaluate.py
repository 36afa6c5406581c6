"""Evaluate a trained model: `python -m imgcls.evaluate --workdir=/tmp/digits`.

Runs the evaluators of the checkpoint's own config, on its own data or on other data of the same
classes: `--config.data.source=folder:/new/pictures --config.evaluators.test.split=test`. Prints one
JSON object.
"""

import argparse
import json
import sys

from imgcls import cli, config, sharding
from imgcls.checkpoint import latest_checkpoint, load_eval_variables, load_meta
from imgcls.errors import ConfigError
from imgcls.evaluators import create_evaluators
from imgcls.objectives import create_objective


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
    evaluators = create_evaluators(settings, objective, mesh, info, num_examples=1)
    if not evaluators:
        raise ConfigError(
            f"{args.workdir}: its config names no evaluator; add one, for example "
            "--config.evaluators.test.split=test"
        )
    variables = load_eval_variables(args.workdir, objective, info, mesh, settings.mesh.rules)
    print(f"evaluating {latest_checkpoint(args.workdir)}", file=sys.stderr)
    metrics = {
        f"{name}/{key}": value
        for name, (_, evaluator) in evaluators.items()
        for key, value in evaluator.run(variables).items()
    }
    print(json.dumps(metrics, indent=2))
    return 0


if __name__ == "__main__":
    cli.run(main)
