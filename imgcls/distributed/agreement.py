"""Values that all processes agree on."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def agree(well: bool) -> bool:
    """Whether it went well on every process. All call it at the same point."""
    if jax.process_count() == 1:
        return well
    return bool(multihost_utils.process_allgather(np.array(well)).all())


def from_first(value: int) -> int:
    """The first process's value, on all. All call it at the same point."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.array(value, np.int32)))
