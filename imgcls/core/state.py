"""What a training run is made of between two steps."""

from typing import Any

import flax.struct
import jax


@flax.struct.dataclass
class TrainState:
    """Everything that changes during training; the data order needs no more than `step`.

    Attributes:
      step: int32 scalar, the number of updates done.
      params: trained parameters, float32.
      model_state: what the model updates by itself, such as batch statistics.
      opt_state: the optimiser's.
      target: a slow copy kept by the objective (EMA or teacher), or None.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    target: Any = None
