"""A trained model, ready to use."""

import dataclasses
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


def load_eval_variables(
    checkpoint: Checkpoint, objective: Objective, info: DataInfo, mesh: Mesh, rules=()
) -> dict[str, tuple]:
    """What the objective evaluates, `{prefix: (params, model_state)}`, placed on a mesh.

    Args:
      checkpoint: the checkpoint to read.
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
    loaded = checkpoint.read_state(sharding.with_sharding(wanted, placement))
    step = jnp.asarray(checkpoint.step, jnp.int32)
    return objective.eval_variables(TrainState(step=step, opt_state=None, **{**fields, **loaded}))


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


def load_trained(checkpoint: Checkpoint) -> Trained:
    """Loads the model of a checkpoint on all devices of this machine."""
    config, info = checkpoint.read_meta()
    config.mesh = defaults.default_config().mesh
    mesh = sharding.create_mesh(config)
    objective = create_objective(config, info)
    variables = load_eval_variables(checkpoint, objective, info, mesh)
    return Trained(config, info, objective, mesh, *variables.get("ema_", variables[""]))


def model_variables(trained: Trained) -> dict[str, Any]:
    """Those of the model alone; its head is the probe where it was pre-trained with one."""
    variables = backbone_variables(trained.objective, trained.params, trained.model_state)
    if "probe" in trained.params:
        variables["params"] = {**variables["params"], "head": trained.params["probe"]}
    return variables


def check_classifies(trained: Trained, path: str) -> None:
    """Raises a ConfigError if what was trained has no classes to choose from."""
    if not isinstance(trained.objective, Classifies):
        raise ConfigError(
            f"{path}: was trained as {trained.config.objective.name} without classes: fine-tune "
            "from it with init_from, or train with objective.probe=True"
        )
