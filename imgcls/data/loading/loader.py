"""Loads sharded batches: Grain reads the examples, in the order of `imgcls.data.loading.order`.

The order is a function, not a state: the example at global position p of a run, and its random
numbers, depend only on (seed, p). Step s with batch size B has the positions s*B ... s*B+B-1. So a
run resumes from its step number, and the global batch is the same array with any number of
processes, workers and threads. Every epoch visits each example once, except with balanced classes.
"""

import os
import threading
from collections.abc import Iterator

import grain
import jax
import numpy as np

from imgcls.data.loading.batch_loader import BatchPlan
from imgcls.data.loading.memory import Memory
from imgcls.data.loading.workers import Workers

# Examples per work item of a thread: enough to make the overhead of an item negligible.
CHUNK = 8


class _LocalRows:
    """This process's rows of all batches, example by example."""

    def __init__(self, plan: BatchPlan):
        self._reader, self._rows = plan.reader, plan.local_rows
        self._batch_size, self._first, self._last = plan.batch_size, plan.first, plan.last

    def __len__(self) -> int:
        return (self._last - self._first) * len(self._rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        step, row = divmod(index, len(self._rows))
        position = (self._first + step) * self._batch_size + int(self._rows[row])
        return self._reader.example(position)

    @property
    def spec(self) -> dict[str, np.ndarray]:
        return self._reader.spec


class _LocalChunks:
    """The same rows in chunks; reading a chunk writes its rows into the arrays of their batch.

    An item is the number of its batch, which `take` returns when all of its rows are written.
    """

    def __init__(self, rows: _LocalRows, batch_rows: int):
        self._rows, self._batch_rows = rows, batch_rows
        self.per_batch = -(-batch_rows // CHUNK)
        self._batches: dict[int, dict[str, np.ndarray]] = {}
        self._memory = Memory()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows) // self._batch_rows * self.per_batch

    def __getitem__(self, index: int) -> int:
        number, chunk = divmod(index, self.per_batch)
        batch = self._get_batch(number)
        for row in range(chunk * CHUNK, min((chunk + 1) * CHUNK, self._batch_rows)):
            for key, value in self._rows[number * self._batch_rows + row].items():
                batch[key][row] = value
        return number

    def _get_batch(self, number: int) -> dict[str, np.ndarray]:
        with self._lock:
            if number not in self._batches:
                self._batches[number] = {
                    key: self._memory.empty((self._batch_rows, *value.shape), value.dtype)
                    for key, value in self._rows.spec.items()
                }
            return self._batches[number]

    def take(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Removes and returns the batch of these chunks, arrays `[rows, ...]`."""
        with self._lock:
            return self._batches.pop(int(numbers[0]))


class Loader:
    """A `BatchLoader` that reads each example when it is needed.

    Args:
      plan: batches to load.
      threads: number of threads that read and transform; None is one per core.
      workers: number of processes to use instead of threads; each makes one batch at a time.
      prefetch: number of batches kept ready on the devices.
    """

    def __init__(
        self, plan: BatchPlan, *, threads: int | None = None, workers: int = 0, prefetch: int = 2
    ):
        self.skipped = self.positions = 0
        self._plan = plan
        self._workers = None
        examples = _LocalRows(plan)
        if workers:
            self._workers = Workers(examples, len(plan.local_rows), workers)
            # Read by the thread that copies.
            options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
            batches = grain.MapDataset.source(self._workers).to_iter_dataset(options)
        else:
            threads = (os.cpu_count() or 1) if threads is None else threads
            batches = _read_by_threads(examples, len(plan.local_rows), threads)
        # A thread copies batches to the devices ahead of the training step.
        self._batches = grain.experimental.ThreadPrefetchIterDataset(
            batches.map(self._to_device), prefetch_buffer_size=max(prefetch, 1)
        )
        self._iterator = None

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        self._iterator = iter(self._batches)
        for batch, skipped in self._iterator:
            self.skipped += skipped
            self.positions += self._plan.batch_size
            yield batch

    def close(self) -> None:
        """Stops the threads and workers."""
        if self._workers is not None:
            self._workers.close()
        if self._iterator is not None:
            self._iterator.close()

    def _to_device(self, rows: dict[str, np.ndarray]) -> tuple[dict[str, jax.Array], int]:
        skipped = rows.pop("skipped")
        return self._plan.to_global(rows, skipped)


def _read_by_threads(examples: _LocalRows, batch_rows: int, threads: int) -> grain.IterDataset:
    """Local batches read by threads."""
    chunks = _LocalChunks(examples, batch_rows)
    ahead = max(2 * threads, chunks.per_batch)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    batches = grain.MapDataset.source(chunks).to_iter_dataset(options)
    return batches.batch(chunks.per_batch).map(chunks.take)
