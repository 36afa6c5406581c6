"""Orbax checkpoints: the train state, and beside it all that inference needs.

A checkpoint is a directory `WORKDIR/checkpoints/STEP` with the items `state` and `meta` (the
config, class names, image shape, versions). It is written in the background and renamed when
whole, so the newest one that is listed can always be restored, on any mesh.
"""

import dataclasses
import functools
import json
import os
import pathlib
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls import config as config_lib
from imgcls import sharding
from imgcls.data import DataInfo
from imgcls.errors import ConfigError
from imgcls.guard import Record, Stretch
from imgcls.objectives import backbone_variables, create_objective
from imgcls.state import TrainState
from imgcls.writer import say

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


class Checkpointer:
    """The checkpoints of a workdir.

    Args:
      workdir: of the run.
      config: the run's; goes into every checkpoint. `config.checkpoint` says what is kept.
      data_info: the data's classes and shape; goes into every checkpoint.
    """

    def __init__(self, workdir: str, config: ConfigDict, data_info: DataInfo):
        self._folder, self._keep = _directory(workdir), config.checkpoint
        self._meta = _describe(config, data_info)

    @functools.cached_property
    def _manager(self):
        # Here, since Orbax is slow to import and a fresh run first needs it to save.
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers

        keep = [checkpoint_managers.LatestN(max(self._keep.keep_last, 1))]
        best = self._keep.keep_best
        if best is not None:
            # Saves between evaluations have no metric, and must not displace the best.
            sign = -1.0 if best.endswith("loss") else 1.0
            keep.append(
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: sign * metrics[best],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(keep),
                cleanup_tmp_directories=True,
            ),
            item_names=("state", "meta"),
        )

    @property
    def latest_step(self) -> int | None:
        """The newest complete checkpoint's step."""
        return self._manager.latest_step() if os.path.isdir(self._folder) else None

    def save(
        self,
        step: int,
        state: TrainState,
        metrics: dict[str, float] | None = None,
        record: Record | None = None,
    ) -> None:
        """Starts to write the state; returns before it is on disk. No-op if the step is there."""
        import orbax.checkpoint as ocp

        if step in self._manager.all_steps():
            return
        record = record or Record()
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                meta=ocp.args.JsonSave(self._meta | {"record": dataclasses.asdict(record)}),
            ),
            metrics=metrics or None,
            force=True,
        )

    def restore(self, abstract_state: TrainState) -> TrainState:
        """The newest state, laid out as the shardings of `abstract_state` say."""
        import orbax.checkpoint as ocp

        restored = self._manager.restore(
            self.latest_step,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state)),
        )
        return restored["state"]

    @property
    def record(self) -> Record:
        """What the newest checkpoint tells of the run; a fresh one where there is no checkpoint."""
        import orbax.checkpoint as ocp

        if not self.latest_step:
            return Record()
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        meta = self._manager.restore(self.latest_step, args=args)["meta"]
        # Older checkpoints tell nothing.
        return Record(**meta.get("record", {}))

    def go_back(self, stretch: Stretch) -> None:
        """Deletes the checkpoints that may be the cause of a stretch of bad numbers.

        The newest that stays is one whose next step was finite, where there is such a one; if none
        is older than the stretch, none stays.
        """
        steps = self._manager.all_steps() if os.path.isdir(self._folder) else []
        before = [step for step in steps if step < stretch.first]
        proven = [step for step in before if step + 1 < stretch.first]
        newest = max(proven or before, default=0)
        for step in steps:
            if step > newest:
                self._manager.delete(step)

    def close(self) -> None:
        """Waits until everything is on disk."""
        if "_manager" not in vars(self):
            return
        self._manager.wait_until_finished()
        self._manager.close()


def latest_checkpoint(path: str) -> pathlib.Path:
    """The newest complete checkpoint under a workdir; a checkpoint's own directory is itself.

    Raises:
      ConfigError: there is none.
    """
    folder = pathlib.Path(path)
    if (folder / "meta").is_dir() and (folder / "state").is_dir():
        return folder.absolute()
    root, steps = folder / "checkpoints", []
    if root.is_dir():
        import orbax.checkpoint as ocp

        steps = ocp.utils.checkpoint_steps(root)
    if not steps:
        raise ConfigError(
            f"{path}: no checkpoint there; give a run's --workdir, or one checkpoint's directory"
        )
    return (root / str(max(steps))).absolute()


def place_of(checkpoint: pathlib.Path) -> tuple[pathlib.Path, int]:
    """Workdir and step of `WORKDIR/checkpoints/STEP`; of one that was moved, its folder and 0."""
    step = int(checkpoint.name) if checkpoint.name.isdigit() else 0
    inside = checkpoint.parent.name == "checkpoints"
    return checkpoint.parents[1] if inside else checkpoint.parent, step


def check_same_run(config: ConfigDict, workdir: str, accept_changes: bool) -> None:
    """Checks that a workdir's checkpoint is of this config.

    Raises:
      ConfigError: it is not; names every key that changed.
    """
    try:
        latest_checkpoint(workdir)
    except ConfigError:
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


def _directory(workdir: str) -> str:
    return os.path.join(os.path.abspath(os.path.expanduser(workdir)), "checkpoints")


def _describe(config: ConfigDict, info: DataInfo) -> dict:
    return {
        "config": json.loads(config_lib.to_json(config)),
        "class_names": list(info.class_names),
        "multi_label": info.multi_label,
        "image_shape": list(info.image_shape),
        "num_examples": info.num_examples,
        "class_counts": list(info.class_counts),
        "model": config.model.name,
        "preprocessing": {
            "transform": config.data.eval_transform,
            "mean": list(config.data.mean),
            "std": list(config.data.std),
            "channels": config.data.channels,
        },
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "devices": jax.device_count(),
    }
