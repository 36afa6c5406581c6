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

from etils import epath
from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core import log
from imgcls.core.errors import ConfigError
from imgcls.core.plugins import load_plugins
from imgcls.core.storage import as_path
from imgcls.data.info import DataInfo
from imgcls.runs.checksums import find_damage, newest_undamaged


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

    def read_meta(self) -> tuple[ConfigDict, DataInfo]:
        """Reads the config and the description of the data; imports the config's plugins."""
        import orbax.checkpoint as ocp

        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
            meta = reader.restore(self.path / "meta", args=ocp.args.JsonRestore())
        names, shape = tuple(meta["class_names"]), tuple(meta["image_shape"])
        # Older checkpoints lack these two.
        examples, counts = meta.get("num_examples", 0), tuple(meta.get("class_counts", ()))
        info = DataInfo(names, meta["multi_label"], shape, examples, counts)
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
    """Finds the newest undamaged checkpoint of a workdir, or the checkpoint at `path` itself.

    All processes call it at the same point.

    Raises:
      ConfigError: there is no checkpoint, or it is damaged.
    """
    folder = as_path(path)
    if (folder / "meta").is_dir() and (folder / "state").is_dir():
        if damage := find_damage(folder):
            raise ConfigError(f"this checkpoint is damaged: {damage}; use another one")
        inside = folder.parent.name == "checkpoints"
        step = int(folder.name) if folder.name.isdigit() else 0
        return Checkpoint(folder, folder.parents[1] if inside else folder.parent, step)
    checkpoint = find_newest(folder)
    if checkpoint is None:
        raise ConfigError(
            f"{path}: no checkpoint there; give a run's --workdir, or one checkpoint's directory"
        )
    return checkpoint


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
