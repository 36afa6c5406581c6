"""Finds and reads checkpoints.

A checkpoint is a directory `WORKDIR/checkpoints/STEP` with the items `state` and `meta` (config,
class names, image shape, versions). It is written in the background, and renamed to its final name
once it and its checksums are complete (imgcls/runs/save.py, imgcls/runs/checksums.py). Therefore
every listed checkpoint can be restored, on any mesh, and later damage is detected.
"""

import dataclasses
import json
import os
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core import log
from imgcls.core.errors import ConfigError
from imgcls.core.plugins import load_plugins
from imgcls.core.storage import as_path
from imgcls.data.info import DataInfo
from imgcls.distributed.agreement import from_first
from imgcls.runs.best import best_metric_of, read_metrics
from imgcls.runs.checksums import checkpoint_steps, find_damage, newest_undamaged

# Names of a run's checkpoints, after `WORKDIR:`; values of `config.checkpoint.use`.
USES = ("newest", "best")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
      path: its directory, `WORKDIR/checkpoints/STEP`, or the directory of a copy.
      workdir: workdir of its run; the parent directory if it was copied elsewhere.
      step: number of updates done; 0 if its directory is not named after the step.
    """

    path: epath.Path
    workdir: epath.Path
    step: int

    @property
    def name(self) -> str:
        """Name of the workdir and step, such as `digits-840`; of a copy, its directory's name."""
        inside = self.path.parent.name == "checkpoints"
        return f"{self.workdir.name}-{self.path.name}" if inside else self.path.name

    def read_description(self) -> dict[str, Any]:
        """Reads the item `meta`."""
        import orbax.checkpoint as ocp

        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
            return reader.restore(self.path / "meta", args=ocp.args.JsonRestore())

    def read_meta(self) -> tuple[ConfigDict, DataInfo]:
        """Reads the config and the description of the data; imports the config's plugins."""
        meta = self.read_description()
        names, shape = tuple(meta["class_names"]), tuple(meta["image_shape"])
        # Older checkpoints lack these three.
        examples, counts = meta.get("num_examples", 0), tuple(meta.get("class_counts", ()))
        dtype = meta.get("image_dtype", "uint8")
        info = DataInfo(names, meta["multi_label"], shape, examples, counts, dtype)
        config = config_lib.from_json(json.dumps(meta["config"]))
        load_plugins(config)
        return config, info

    def read_state(self, abstract: dict[str, Any]) -> dict[str, Any]:
        """Reads some fields of the training state.

        Args:
          abstract: `{field: tree of ShapeDtypeStruct with shardings}` of the fields of `TrainState`
            to read.
        """
        import orbax.checkpoint as ocp

        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            return reader.restore(
                self.path / "state",
                args=ocp.args.PyTreeRestore(
                    item=abstract,
                    restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
                    partial_restore=True,
                ),
            )


def find_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Finds the checkpoint that a user names.

    All processes call it at the same point.

    Args:
      path: `WORKDIR:best`, `WORKDIR:newest` or `WORKDIR:STEP`; or a workdir, which stands for its
        newest checkpoint or, if its config has `checkpoint.use='best'`, for its best one, which is
        then said on standard error; or the directory of one checkpoint.

    Raises:
      ConfigError: there is no such checkpoint, or it is damaged.
    """
    workdir, choice = split_choice(path)
    if choice.isdecimal():
        steps = checkpoint_steps(workdir / "checkpoints")
        if int(choice) not in steps:
            raise ConfigError(
                f"{path}: no checkpoint of step {int(choice)}; there are "
                f"{', '.join(map(str, steps)) or 'none'}"
            )
        return _open(workdir / "checkpoints" / str(int(choice)))
    if not choice and (workdir / "meta").is_dir() and (workdir / "state").is_dir():
        return _open(workdir)
    newest = find_newest(workdir)
    if newest is None:
        raise ConfigError(
            f"{path}: no checkpoint there; give a run's --workdir, WORKDIR:best, WORKDIR:STEP, or "
            "one checkpoint's directory"
        )
    if choice == "best":
        return _find_best(newest, os.fspath(path))
    use = newest.read_description()["config"]["checkpoint"].get("use")
    return newest if choice or use != "best" else _find_best_or(newest, os.fspath(path))


def split_choice(path: str | os.PathLike) -> tuple[epath.Path, str]:
    """Splits `WORKDIR:best`, `WORKDIR:newest` and `WORKDIR:STEP`; the choice may be ''."""
    workdir, colon, choice = os.fspath(path).rpartition(":")
    if colon and (choice in USES or choice.isdecimal()) and not as_path(path).exists():
        return as_path(workdir), choice
    return as_path(path), ""


def _open(folder: epath.Path) -> Checkpoint:
    """Opens the directory of a checkpoint."""
    if damage := find_damage(folder):
        raise ConfigError(f"this checkpoint is damaged: {damage}; use another one")
    inside = folder.parent.name == "checkpoints"
    step = int(folder.name) if folder.name.isdigit() else 0
    return Checkpoint(folder, folder.parents[1] if inside else folder.parent, step)


def _find_best_or(newest: Checkpoint, path: str) -> Checkpoint:
    """Finds the best checkpoint, or else the newest one; logs which."""
    try:
        best = _find_best(newest, path)
    except ConfigError as e:
        log.note(f"{e}; the newest checkpoint is used, of step {newest.step}")
        return newest
    log.note(
        f"{path}: the best checkpoint is used, of step {best.step}; the newest is {path}:newest"
    )
    return best


def _find_best(newest: Checkpoint, path: str) -> Checkpoint:
    """Finds the best undamaged checkpoint of the workdir of `newest`.

    Raises:
      ConfigError: the run does not rank its checkpoints, or none has the metric.
    """
    root = newest.path.parent
    steps = checkpoint_steps(root)
    listed = f"name a step, such as {newest.workdir}:{newest.step}"
    try:
        best = best_metric_of(newest.read_description())
    except ConfigError as e:
        raise ConfigError(f"{path}: {e}, such as {newest.workdir}:{newest.step}") from e
    if best is None:
        raise ConfigError(f"{path}: the run has no checkpoint.keep_best; {listed}")
    step = None
    if jax.process_index() == 0:
        metrics = {s: read_metrics(root / str(s)) for s in steps}
        while (step := best.choose(metrics)) is not None:
            if (damage := find_damage(root / str(step))) is None:
                break
            log.warn_once(f"the checkpoint of step {step} is damaged: {damage}; it is left out")
            del metrics[step]
    step = from_first(-1 if step is None else step)
    if step == -1:
        raise ConfigError(f"{path}: no checkpoint has the metric {best.name}; {listed}")
    return Checkpoint(root / str(step), newest.workdir, step)


def find_newest(workdir: str | os.PathLike) -> Checkpoint | None:
    """Finds the newest undamaged checkpoint of a workdir; None if it has no checkpoints.

    All processes call it at the same point.

    Raises:
      ConfigError: all checkpoints are damaged.
    """
    folder = as_path(workdir)
    step, damaged = newest_undamaged(folder / "checkpoints")
    if step is None:
        return None
    for bad, damage in damaged.items():
        log.warn_once(
            f"the checkpoint of step {bad} is damaged: {damage}; that of step {step} is used"
        )
    return Checkpoint(folder / "checkpoints" / str(step), folder, step)
