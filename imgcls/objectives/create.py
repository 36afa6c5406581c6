"""What a training step optimises. An objective is one file here and one name in a config.

`train.py` knows an objective by this alone:

- `init(rng, batch_spec) -> (params, model_state)`: fresh variables for batches of that shape;
- `init_target(params, model_state) -> target`: the slow copy that it keeps (EMA, teacher), or None;
- `loss(params, model_state, target, batch, rng, step) -> (loss, (model_state, metrics))`: the loss
  of a batch, a scalar, with the model's new state and scalar metrics;
- `update_target(target, params, model_state, step) -> target`: after each update;
- `features(params, model_state, batch, layer="backbone") -> [B, D]`: for probes; `layer` is one of
  `feature_layers`;
- `eval_variables(state) -> {prefix: (params, model_state)}`: what evaluators look at;
- `num_outputs`: K of the labels that batch transforms mix;
- `model` and `backbone`: the model whose weights outlive the objective, and the key under which its
  variables stand in `params` and in each collection of `model_state` (None: they are all its own).

One that can classify also has `logits`, `scores`, `example_loss` and `task` (see `Supervised`), and
one that draws pictures `reconstruct(params, model_state, batch, rng) -> {"input": [B, H, W, C],
"masked": ..., "output": ...}`, normalised as the input is.

Images reach it normalised, float32 `[B, ..., C]`. A new objective registers its class by name; the
class takes `(config, data_info, **options)` with the options of `config.objective`. One that learns
a backbone without a classifier subclasses `pretraining.Pretraining` and writes its loss alone.
"""

import inspect

from ml_collections import ConfigDict

from imgcls.core.config import check_choice
from imgcls.objectives.objective import OBJECTIVES


def create_objective(config: ConfigDict, data_info):
    """The objective of `config.objective`, with a model for the classes and images of the data.

    Raises:
      ConfigError: unknown name or option, or labels that the objective can't use.
    """
    options = config.objective.to_dict()
    name = options.pop("name")
    objective = OBJECTIVES.find(name, "objective.name")
    parameters = list(inspect.signature(objective).parameters.values())[2:]
    # One that hands options on checks these itself.
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for option in options:
            check_choice(f"objective.{option}", option, [p.name for p in parameters])
    return objective(config, data_info, **options)
