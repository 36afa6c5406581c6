"""Protocol of the loaders, and the plan of batches that they are built from."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from imgcls.data.loading.reader import Reader
from imgcls.distributed import sharding


class BatchLoader(Protocol):
    """Global batches of a `BatchPlan`, prefetched to the devices.

    A batch holds `image` uint8 `[B, ..., C]` (and `image2` and so on, see
    `imgcls.data.loading.views`), `label` int32 `[B]` or uint8 `[B, K]`, `index` int32 `[B]` and
    `mask` float32 `[B]`, each sharded over the mesh's batch axes.

    Attributes:
      skipped: number of unreadable records that this process has skipped so far; a row on several
        processes is counted by one of them.
      positions: number of positions of the order that all processes have read so far.
    """

    skipped: int
    positions: int

    def __iter__(self) -> Iterator[dict[str, jax.Array]]: ...

    def close(self) -> None:
        """Stops the prefetching threads and processes, and frees their memory."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class BatchPlan:
    """The batches of a loader: those of the steps `first` to `last - 1`.

    Attributes:
      reader: reader of the examples.
      mesh: device mesh.
      batch_size: global batch size B.
      first, last: range of steps.
    """

    reader: Reader
    mesh: Mesh
    batch_size: int
    first: int
    last: int

    @functools.cached_property
    def local_rows(self) -> np.ndarray:
        """Rows of a global batch that this process loads, ascending int64."""
        return sharding.local_rows(self.mesh, self.batch_size)

    def to_global(
        self, rows: dict[str, np.ndarray], skipped: np.ndarray
    ) -> tuple[dict[str, jax.Array], int]:
        """Assembles the sharded global batch from this process's rows.

        Args:
          rows: arrays `[rows, ...]` in the order of `local_rows`.
          skipped: number of unreadable records skipped by each row, int `[rows]`.

        Returns:
          The batch, and the number of skipped records that this process counts.
        """
        batch = sharding.to_global(self.mesh, rows, self.batch_size)
        return batch, int(skipped[self._counted_rows].sum())

    @functools.cached_property
    def _counted_rows(self) -> np.ndarray:
        return sharding.counted_rows(self.mesh, self.batch_size)
