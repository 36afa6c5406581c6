"""The training state."""

from typing import Any

import flax.struct
import jax


@flax.struct.dataclass
class TrainState:
    """Everything that changes during training. The data order depends on `step` alone.

    Attributes:
      step: number of updates done, int32 scalar.
      params: trained parameters, float32.
      model_state: variables that the model itself updates, such as batch statistics.
      opt_state: state of the optimizer.
      target: slowly updated copy of the variables, kept by the objective (EMA or teacher), or None.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    target: Any = None
