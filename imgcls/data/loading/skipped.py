"""When too many records are unreadable for a run to go on without them."""

import math

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from imgcls.core.errors import DataError
from imgcls.data.loading.batch_loader import BatchLoader

# A few broken records at the very start are no share.
LEAST = 10


def check_skipped(config: ConfigDict, loader: BatchLoader) -> int:
    """Unreadable records that all processes have passed over since the run was started.

    The share `data.max_skipped` is judged over the positions of the training order that were read
    since then, with an allowance for chance (three standard deviations): a share a little above is
    noticed late, a large one in the first steps. The numbers follow from the order alone, so that
    every process gets the same answer, at the same step, however many there are. With
    `data.on_error='skip'` all processes must call this at the same steps.

    Args:
      config: config of the run.
      loader: loader that made the batches since then.

    Raises:
      DataError: more were passed over.
    """
    if config.data.on_error == "fail":
        return 0
    skipped = loader.skipped
    if jax.process_count() > 1:
        skipped = int(multihost_utils.process_allgather(np.int32(skipped)).sum())
    share = config.data.max_skipped
    expected = share * loader.positions
    if skipped > expected + max(LEAST, 3 * math.sqrt(expected)):
        raise DataError(
            f"{skipped:,} unreadable records were passed over in {loader.positions:,}, more than "
            f"config.data.max_skipped={share}; the log names them: mend the data, or allow more"
        )
    return skipped
