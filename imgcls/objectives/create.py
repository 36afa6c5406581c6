"""Creates the objective of a config (see `objective.Objective`)."""

import inspect

from ml_collections import ConfigDict

from imgcls.core.config import check_choice
from imgcls.objectives.objective import OBJECTIVES, Objective


def create_objective(config: ConfigDict, data_info) -> Objective:
    """Creates the objective of `config.objective` and its model.

    Args:
      config: complete config.
      data_info: `DataInfo` of the training data.

    Raises:
      ConfigError: unknown name or option, or labels that the objective can't use.
    """
    options = config.objective.to_dict()
    name = options.pop("name")
    objective = OBJECTIVES.find(name, "objective.name")
    parameters = list(inspect.signature(objective).parameters.values())[2:]
    # An objective with **options checks them itself.
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for option in options:
            check_choice(f"objective.{option}", option, [p.name for p in parameters])
    return objective(config, data_info, **options)
