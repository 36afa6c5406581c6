"""Stops a run when too many records are unreadable."""

import math

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from imgcls.core.errors import DataError
from imgcls.data.loading.batch_loader import BatchLoader

# Unreadable records that are always tolerated, since the fraction is noisy at the start.
MIN_ALLOWED = 10


def check_skipped(config: ConfigDict, loader: BatchLoader) -> int:
    """Counts the unreadable records that all processes have skipped since the run was started.

    The limit is the fraction `data.max_skipped` of the positions read since then, plus three
    standard deviations: a fraction slightly above the limit is noticed late, a large one in the
    first steps. The counts depend only on the order, so every process gets the same result at the
    same step, with any number of processes. With `data.on_error='skip'` all processes must call
    this at the same steps.

    Args:
      config: training config.
      loader: training loader, created at the start of the run.

    Raises:
      DataError: more records than allowed were skipped.
    """
    if config.data.on_error == "fail":
        return 0
    skipped = loader.skipped
    if jax.process_count() > 1:
        skipped = int(multihost_utils.process_allgather(np.int32(skipped)).sum())
    max_skipped = config.data.max_skipped
    expected = max_skipped * loader.positions
    if skipped > expected + max(MIN_ALLOWED, 3 * math.sqrt(expected)):
        raise DataError(
            f"{skipped:,} unreadable records of {loader.positions:,} were skipped, more than "
            f"config.data.max_skipped={max_skipped}; fix the files named in the log, or allow more"
        )
    return skipped
