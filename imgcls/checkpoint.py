"""Reading Orbax checkpoints: the train state, and beside it all that inference needs.

A checkpoint is a directory `WORKDIR/checkpoints/STEP` with the items `state` and `meta` (the
config, class names, image shape, versions). It is written in the background, renamed when whole
and summed (imgcls/checkpointer.py, imgcls/soundness.py): the newest one that is listed can be
restored, on any mesh, and one that was damaged since is noticed.
"""

import dataclasses
import functools
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls import config as config_lib
from imgcls import sharding
from imgcls.data import DataInfo
from imgcls.errors import ConfigError
from imgcls.objectives import backbone_variables, create_objective
from imgcls.soundness import find_damage, newest_whole
from imgcls.state import TrainState
from imgcls.workdir import as_path
from imgcls.writer import say

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
        _warn(f"the checkpoint of step {bad} is damaged: {found}; that of step {step} is taken")
    return root / str(step)


def place_of(checkpoint: epath.Path) -> tuple[epath.Path, int]:
    """Workdir and step of `WORKDIR/checkpoints/STEP`; of one that was moved, its folder and 0."""
    step = int(checkpoint.name) if checkpoint.name.isdigit() else 0
    inside = checkpoint.parent.name == "checkpoints"
    return checkpoint.parents[1] if inside else checkpoint.parent, step


def check_same_run(config: ConfigDict, workdir: str, accept_changes: bool) -> None:
    """Checks that a workdir's checkpoint is of this config.

    Raises:
      ConfigError: it is not; names every key that changed.
    """
    if newest_whole(as_path(workdir) / "checkpoints")[0] is None:
        return
    changed = config_lib.changed_keys(load_meta(workdir)[0], config)
    serious = [key for key in changed if not config_lib.is_harmless(key)]
    told = "; ".join(f"{k} was {changed[k][0]!r}, is {changed[k][1]!r}" for k in changed)
    if serious and not accept_changes:
        raise ConfigError(
            f"{workdir} holds a run of another config: {told}. Choose a new --workdir, or add "
            "--accept_changes to continue it so"
        )
    if changed:
        say(f"the config changed: {told}")


def load_meta(path: str) -> tuple[ConfigDict, DataInfo]:
    """The config and data description of a workdir's newest checkpoint (or of one checkpoint)."""
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        meta = reader.restore(latest_checkpoint(path) / "meta", args=ocp.args.JsonRestore())
    names, shape = tuple(meta["class_names"]), tuple(meta["image_shape"])
    # Older checkpoints know neither.
    examples, counts = meta.get("num_examples", 0), tuple(meta.get("class_counts", ()))
    info = DataInfo(names, meta["multi_label"], shape, examples, counts)
    return config_lib.from_json(json.dumps(meta["config"])), info


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


def load_eval_variables(path: str, objective, info: DataInfo, mesh: Mesh, rules=()) -> dict:
    """What the objective evaluates, `{prefix: (params, model_state)}`, placed on a mesh.

    Args:
      path: a workdir or a checkpoint's directory.
      objective: of the checkpoint's config.
      info: of the checkpoint.
      mesh, rules: where the arrays go; need not be the mesh that they were trained on.
    """
    spec = {"image": jax.ShapeDtypeStruct((1, *info.image_shape), jnp.uint8)}
    params, model_state = jax.eval_shape(lambda: objective.init(jax.random.key(0), spec))
    fields = {"params": params, "model_state": model_state}
    fields["target"] = jax.eval_shape(objective.init_target, params, model_state)
    # Orbax stores neither None nor an empty tree.
    wanted = {key: tree for key, tree in fields.items() if jax.tree.leaves(tree)}
    placement = sharding.partition(wanted, mesh, rules)
    loaded = load_variables(path, sharding.with_sharding(wanted, placement))
    return objective.eval_variables(TrainState(step=None, opt_state=None, **{**fields, **loaded}))


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a checkpoint gives to use it, on all devices of this machine.

    Attributes:
      config: of the run, with the mesh of this machine.
      info: the data's classes and shape.
      objective: of the config.
      mesh: where the arrays are, replicated.
      params, model_state: of the model; averaged (EMA) where the run kept an average.
    """

    config: ConfigDict
    info: DataInfo
    objective: Any
    mesh: Mesh
    params: Any
    model_state: Any


def load_trained(path: str) -> Trained:
    """The newest checkpoint of a workdir (or one checkpoint), ready to use.

    Raises:
      ConfigError: no checkpoint there.
    """
    config, info = load_meta(path)
    config.mesh = config_lib.default_config().mesh
    mesh = sharding.create_mesh(config)
    objective = create_objective(config, info)
    variables = load_eval_variables(path, objective, info, mesh)
    return Trained(config, info, objective, mesh, *variables.get("ema_", variables[""]))


def model_variables(trained: Trained) -> dict[str, Any]:
    """Those of the model alone; its head is the probe where it was pre-trained with one."""
    variables = backbone_variables(trained.objective, trained.params, trained.model_state)
    if "probe" in trained.params:
        variables["params"] = {**variables["params"], "head": trained.params["probe"]}
    return variables


def check_classifies(trained: Trained, path: str) -> None:
    """Raises a ConfigError if what was trained has no classes to choose from."""
    if not hasattr(trained.objective, "logits"):
        raise ConfigError(
            f"{path}: was trained as {trained.config.objective.name} without classes: fine-tune "
            "from it with init_from, or train with objective.probe=True"
        )


@functools.cache
def _warn(message: str) -> None:
    """Says it once, beside what a command prints."""
    print(f"warning: {message}", file=sys.stderr)
