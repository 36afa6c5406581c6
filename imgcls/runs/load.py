"""Reading Orbax checkpoints: the train state, and beside it all that inference needs.

A checkpoint is a directory `WORKDIR/checkpoints/STEP` with the items `state` and `meta` (the
config, class names, image shape, versions). It is written in the background, renamed when whole
and summed (imgcls/runs/save.py, imgcls/runs/checksums.py): the newest one that is listed can be
restored, on any mesh, and one that was damaged since is noticed.
"""

import json

from etils import epath
from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core import log
from imgcls.core.errors import ConfigError
from imgcls.core.plugins import load_plugins
from imgcls.core.storage import as_path
from imgcls.data.info import DataInfo
from imgcls.runs.checksums import find_damage, newest_whole

# A checkpoint or log that can't be written: the run goes on, or ends.
ON_ERROR = ("continue", "stop")


def latest_checkpoint(path: str) -> epath.Path:
    """The newest whole checkpoint under a workdir; a checkpoint's own directory is itself.

    Raises:
      ConfigError: there is none.
    """
    folder = as_path(path)
    if (folder / "meta").is_dir() and (folder / "state").is_dir():
        if damage := find_damage(folder):
            raise ConfigError(f"this checkpoint is damaged: {damage}; take another one")
        return folder
    root = folder / "checkpoints"
    step, damaged = newest_whole(root)
    if step is None:
        raise ConfigError(
            f"{path}: no checkpoint there; give a run's --workdir, or one checkpoint's directory"
        )
    for bad, found in damaged.items():
        log.warn_once(
            f"the checkpoint of step {bad} is damaged: {found}; that of step {step} is taken"
        )
    return root / str(step)


def place_of(checkpoint: epath.Path) -> tuple[epath.Path, int]:
    """Workdir and step of `WORKDIR/checkpoints/STEP`; of one that was moved, its folder and 0."""
    step = int(checkpoint.name) if checkpoint.name.isdigit() else 0
    inside = checkpoint.parent.name == "checkpoints"
    return checkpoint.parents[1] if inside else checkpoint.parent, step


def load_meta(path: str) -> tuple[ConfigDict, DataInfo]:
    """The config and data description of a workdir's newest checkpoint (or of one checkpoint)."""
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        meta = reader.restore(latest_checkpoint(path) / "meta", args=ocp.args.JsonRestore())
    names, shape = tuple(meta["class_names"]), tuple(meta["image_shape"])
    # Older checkpoints know neither.
    examples, counts = meta.get("num_examples", 0), tuple(meta.get("class_counts", ()))
    info = DataInfo(names, meta["multi_label"], shape, examples, counts)
    config = config_lib.from_json(json.dumps(meta["config"]))
    load_plugins(config)
    return config, info


def load_variables(path: str, abstract: dict) -> dict:
    """Some fields of a checkpoint's state, without reading the others.

    Args:
      path: a workdir or a checkpoint's directory.
      abstract: `{field: tree of ShapeDtypeStruct with shardings}` of TrainState's fields.
    """
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        return reader.restore(
            latest_checkpoint(path) / "state",
            args=ocp.args.PyTreeRestore(
                item=abstract,
                restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
                partial_restore=True,
            ),
        )
