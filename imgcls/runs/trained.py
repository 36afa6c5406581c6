"""Loads trained models for inference."""

import dataclasses
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core import defaults
from imgcls.core.errors import ConfigError
from imgcls.core.state import TrainState
from imgcls.data.info import DataInfo
from imgcls.distributed import sharding
from imgcls.objectives.backbone import backbone_variables
from imgcls.objectives.create import create_objective
from imgcls.objectives.objective import Classifies, Objective
from imgcls.runs.load import Checkpoint

AVERAGED = "ema_"


def used_prefix(prefixes: Collection[str]) -> str:
    """Prefix of the variables that a run stands for: of the averaged ones (EMA) if there are any.

    These are loaded by `predict`, `evaluate`, `report`, `export`, `init_from` and `imgcls.load`,
    and `checkpoint.keep_best` ranks the checkpoints by their metrics.
    """
    return AVERAGED if AVERAGED in prefixes else ""


def load_eval_variables(
    checkpoint: Checkpoint, objective: Objective, info: DataInfo, mesh: Mesh, rules=()
) -> dict[str, tuple]:
    """Loads the variables that the objective evaluates, `{prefix: (params, model_state)}`.

    Args:
      checkpoint: checkpoint to read.
      objective: objective of the checkpoint's config.
      info: description of the data, from the checkpoint.
      mesh, rules: placement of the arrays, which may differ from that in training.
    """
    spec = {"image": jax.ShapeDtypeStruct((1, *info.image_shape), info.image_dtype)}
    params, model_state = jax.eval_shape(lambda: objective.init(jax.random.key(0), spec))
    fields = {"params": params, "model_state": model_state}
    fields["target"] = jax.eval_shape(objective.init_target, params, model_state)
    # Orbax stores neither None nor an empty tree.
    stored = {key: tree for key, tree in fields.items() if jax.tree.leaves(tree)}
    placement = sharding.partition(stored, mesh, rules)
    loaded = checkpoint.read_state(sharding.with_sharding(stored, placement))
    step = jnp.asarray(checkpoint.step, jnp.int32)
    return objective.eval_variables(TrainState(step=step, opt_state=None, **{**fields, **loaded}))


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model on all devices of this machine.

    Attributes:
      config: config of the run, with the mesh of this machine.
      info: description of the data: classes and image shape.
      objective: objective of the config.
      mesh: mesh on which the variables are replicated.
      params, model_state: variables of the objective; the averaged ones (EMA) if there are any.
    """

    config: ConfigDict
    info: DataInfo
    objective: Any
    mesh: Mesh
    params: Any
    model_state: Any


def load_trained(checkpoint: Checkpoint) -> Trained:
    """Loads the model of a checkpoint on all devices of this machine."""
    config, info = checkpoint.read_meta()
    config.mesh = defaults.default_config().mesh
    mesh = sharding.create_mesh(config)
    objective = create_objective(config, info)
    variables = load_eval_variables(checkpoint, objective, info, mesh)
    return Trained(config, info, objective, mesh, *variables[used_prefix(variables)])


def model_variables(trained: Trained) -> dict[str, Any]:
    """Variables of the model; if it was pre-trained with a probe, the probe is its head."""
    variables = backbone_variables(trained.objective, trained.params, trained.model_state)
    if "probe" in trained.params:
        variables["params"] = {**variables["params"], "head": trained.params["probe"]}
    return variables


def check_classifies(trained: Trained, path: str) -> None:
    """Raises a ConfigError if the model was trained without classes."""
    if not isinstance(trained.objective, Classifies):
        raise ConfigError(
            f"{path}: was trained as {trained.config.objective.name} without classes: fine-tune "
            "from it with init_from, or train with objective.probe=True"
        )
