"""Runs to compare: their configs, metrics, speed and size, read from their workdirs."""

import dataclasses
import functools
import glob
import json
import math
import os
from collections.abc import Iterable

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core.defaults import is_harmless
from imgcls.core.errors import ConfigError
from imgcls.core.storage import as_path
from imgcls.evaluate.metrics import DIRECTIONS
from imgcls.runs.load import find_newest
from imgcls.runs.metrics_log import read_metrics


@dataclasses.dataclass(frozen=True)
class RunLog:
    """What a workdir tells about its run.

    Attributes:
      workdir: directory of the run.
      config: config of the run.
      lines: lines of `metrics.jsonl`.
      parameters: number of parameters; None without a checkpoint.
    """

    workdir: epath.Path
    config: ConfigDict
    lines: list[dict[str, float]]
    parameters: int | None

    @property
    def name(self) -> str:
        """Name of the workdir."""
        return self.workdir.name

    @functools.cached_property
    def curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """`{metric: (steps [S], values [S])}` of everything that was logged."""
        series: dict[str, list] = {}
        for line in self.lines:
            for key, value in line.items():
                if key not in ("step", "time"):
                    series.setdefault(key, []).append((line["step"], value))
        return {key: (p[:, 0], p[:, 1]) for key, v in series.items() for p in [np.array(v, float)]}

    @property
    def metrics(self) -> list[str]:
        """Names of the evaluators' metrics."""
        return [key for key in self.curves if key.split("/")[0] in self.config.evaluators]

    def final(self, metric: str) -> float | None:
        """The last value of a metric; None if it was never logged."""
        return float(self.curves[metric][1][-1]) if metric in self.curves else None

    def best(self, metric: str) -> float | None:
        """The best value of a metric during the run; None if it was never logged."""
        values = self.curves[metric][1] if metric in self.curves else np.array([])
        values = values[np.isfinite(values)]
        if not len(values):
            return None
        return float(values.max() if is_higher_better(metric) else values.min())

    @property
    def steps(self) -> int:
        """The last step that was logged."""
        return int(max((line["step"] for line in self.lines), default=0))

    @property
    def seconds(self) -> float | None:
        """Seconds of useful training, over all restarts."""
        return self.final("goodput/useful_seconds")

    @property
    def images_per_second(self) -> float | None:
        """Median of the logged images/s."""
        if "train/images_per_second" not in self.curves:
            return None
        return float(np.median(self.curves["train/images_per_second"][1]))


def is_higher_better(metric: str) -> bool:
    """Whether a higher value is better; so unless a metric is known to be a loss."""
    name = metric.rpartition("/")[2].removeprefix("ema_")
    return DIRECTIONS.get(name, "lower" if name.endswith("loss") else "higher") == "higher"


def find_workdirs(patterns: Iterable[str]) -> list[epath.Path]:
    """The workdirs that paths and globs name, each once, in order.

    A folder that is no workdir stands for the workdirs in it.

    Raises:
      ConfigError: a path or glob that names no workdir.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        paths = [pattern] if as_path(pattern).exists() else sorted(glob.glob(pattern))
        workdirs = [os.fspath(p) for path in paths for p in _workdirs_in(as_path(path))]
        if not workdirs:
            raise ConfigError(
                f"{pattern}: no workdir there; name the --workdir of runs, folders of them or globs"
            )
        found |= dict.fromkeys(workdirs)
    return [as_path(path) for path in found]


def _workdirs_in(path: epath.Path) -> list[epath.Path]:
    if (path / "config.json").is_file() and (path / "metrics.jsonl").is_file():
        return [path]
    if not path.is_dir():
        return []
    return sorted(child for child in path.iterdir() if (child / "metrics.jsonl").is_file())


def read_run(workdir: epath.Path) -> RunLog:
    """Reads a run from its workdir.

    Raises:
      ConfigError: its `config.json` is missing or can't be read.
    """
    try:
        config = config_lib.from_json((workdir / "config.json").read_text())
    except (OSError, ValueError) as e:
        raise ConfigError(f"{workdir}/config.json: can't be read: {e}") from e
    return RunLog(workdir, config, read_metrics(workdir), _count_parameters(workdir))


def _count_parameters(workdir: epath.Path) -> int | None:
    """Number of parameters of the newest checkpoint, from its description; None without one."""
    import orbax.checkpoint as ocp

    checkpoint = find_newest(os.fspath(workdir))
    if checkpoint is None:
        return None
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        params = reader.metadata(checkpoint.path / "state").item_metadata.tree["params"]
    return sum(math.prod(leaf.shape) for leaf in _leaves(params))


def _leaves(tree) -> list:
    if isinstance(tree, dict):
        return [leaf for child in tree.values() for leaf in _leaves(child)]
    return [tree]


def differing_keys(runs: list[RunLog]) -> list[str]:
    """Keys whose values differ between runs and can change their numbers, without the seed."""
    values = [config_lib.leaves(run.config) for run in runs]
    keys = dict.fromkeys(key for leaves in values for key in leaves)
    return [
        key
        for key in keys
        if key != "seed"
        and not is_harmless(key)
        and len({json.dumps(leaves.get(key), default=str) for leaves in values}) > 1
    ]
