"""Sets up the first trials of a sweep without training: `python -m imgcls.sweep.check`.

It is a process of its own on the CPU, so that the sweep itself never holds an accelerator, which
its trials need. Standard input is JSON: `config` (file), `metric` and `checks`, lists of overrides.
The last line that is printed is JSON: the metric's full name and which values are better.
"""

import json
import os
import subprocess
import sys
import tempfile

from ml_collections import ConfigDict

from imgcls.core import cli
from imgcls.core import config as config_lib
from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.runs.best import BestMetric
from imgcls.train.setup import set_up


def find_metric(file: str | os.PathLike, metric: str, checks: list[list[str]]) -> BestMetric:
    """Sets up each config in another process; returns the metric that ranks the trials.

    Args:
      file: config file of the trials.
      metric: `EVALUATOR/METRIC`.
      checks: overrides of each config.

    Raises:
      ConfigError: a config can't be trained, or no evaluator has the metric.
    """
    request = {"config": os.fspath(file), "metric": metric, "checks": checks}
    done = subprocess.run(
        [sys.executable, "-m", "imgcls.sweep.check"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    lines = done.stderr.strip().splitlines()
    if done.returncode:
        errors = [line for line in lines if line.startswith("error: ")] or lines[-1:]
        raise ConfigError(errors[-1].removeprefix("error: ") if errors else "the check was killed")
    return BestMetric(**json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """Checks what standard input describes."""
    request = json.loads(sys.stdin.read())
    best = None
    for overrides in request["checks"]:
        config = config_lib.override(config_lib.load(request["config"]), overrides)
        config.checkpoint.keep_best = request["metric"]
        # The devices of the trials are not those of this process.
        config.mesh = default_config().mesh
        found = _set_up(config)
        best = best or found
    assert best is not None
    print(json.dumps({"name": best.name, "better": best.better}))
    sys.stdout.flush()
    # Compilation in the background would take its time.
    os._exit(0)


def _set_up(config: ConfigDict) -> BestMetric | None:
    with tempfile.TemporaryDirectory() as workdir:
        try:
            training = set_up(config, workdir, accept_changes=False)
        except ConfigError as e:
            raise ConfigError(str(e).replace("config.checkpoint.keep_best", "--metric")) from e
        training.checkpointer.close()
    return training.best


if __name__ == "__main__":
    cli.run(main)
