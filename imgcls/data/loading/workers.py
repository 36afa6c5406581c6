"""Worker processes that make batches, in memory that they share with this process.

Nothing outlives a run that is killed: workers end when their parent does, and the shared memory
has no name, as `multiprocessing` deletes its file before using it.
"""

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.util import Finalize
from typing import Any, Protocol

import cloudpickle
import numpy as np

from imgcls.core.errors import EXIT_CRASH, UserError
from imgcls.data.loading.memory import Memory

# Batches of a worker in shared memory: one waits to be read while the next is made.
SLOTS = 2


class Examples(Protocol):
    """Examples that workers read; has to be picklable.

    Attributes:
      spec: example of zeros, in the shape and type of all examples.
    """

    @property
    def spec(self) -> dict[str, np.ndarray]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...


class WorkerLost(UserError):
    """A worker process that ended by itself, for example because the machine ran out of memory."""

    exit_code = EXIT_CRASH


class Workers:
    """Batches made by processes: a sequence that has to be read in order.

    Of n workers, worker w makes batches w, w + n, w + 2n, ..., so that the number of workers does
    not change what a batch holds. They start when the first batch is read, and end after the last.

    Args:
      examples: examples, batch by batch.
      batch_rows: number of examples in a batch.
      count: number of workers n.
    """

    def __init__(self, examples: Examples, batch_rows: int, count: int):
        self._examples, self._batch_rows, self._count = examples, batch_rows, count
        self._memory = Memory()
        self._workers: list[_Worker] = []
        self._lock, self._closed = threading.Lock(), False
        # Before `multiprocessing` waits for the workers when Python exits.
        self._kill = Finalize(self, _kill, (self._workers,), exitpriority=1)

    def __len__(self) -> int:
        return len(self._examples) // self._batch_rows

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Arrays `[batch_rows, ...]` of a batch.

        Raises:
          WorkerLost: its worker has ended.
          Exception: whatever reading an example raised in the worker.
        """
        if not self._workers:
            self._start()
        worker = self._workers[index % self._count]
        worker.wait()
        slot = worker.slots[index // self._count % SLOTS]
        batch = {key: self._memory.copy(value) for key, value in slot.items()}
        self._request(index + SLOTS * self._count)
        if index == len(self) - 1:
            self.close()
        return batch

    def close(self) -> None:
        """Ends the workers at once; another thread that waits for a batch gets an error."""
        with self._lock:
            self._closed = True
            self._kill()

    def _start(self) -> None:
        spec = self._examples.spec
        context = multiprocessing.get_context("spawn")
        pickled = cloudpickle.dumps(self._examples)
        # Shared, as a pipe would make each start wait until the worker reads from it.
        shared = context.RawArray("c", len(pickled))
        shared.raw = pickled
        with self._lock:
            if self._closed:
                raise ValueError("the loader is closed")
            for _ in range(self._count):
                self._workers.append(_Worker(context, shared, spec, self._batch_rows))
        for number in range(SLOTS * self._count):
            self._request(number)

    def _request(self, number: int) -> None:
        if number < len(self):
            self._workers[number % self._count].request(number, number // self._count % SLOTS)


class _Worker:
    """A process, seen from its parent.

    Attributes:
      process: the process.
      slots: arrays `[batch_rows, ...]` in shared memory that it writes into.
    """

    def __init__(
        self,
        context: SpawnContext,
        pickled: Any,
        spec: dict[str, np.ndarray],
        batch_rows: int,
    ):
        buffers = [
            {key: context.RawArray("B", batch_rows * value.nbytes) for key, value in spec.items()}
            for _ in range(SLOTS)
        ]
        self.slots = [_as_arrays(each, spec) for each in buffers]
        self._connection, other = context.Pipe()
        self.process = context.Process(
            target=_work, args=(pickled, buffers, batch_rows, other), daemon=True
        )
        self.process.start()
        other.close()

    def request(self, number: int, slot: int) -> None:
        """Asks for a batch to be written into a slot."""
        # If the worker has ended, `wait` raises.
        with contextlib.suppress(OSError):
            self._connection.send((number, slot))

    def wait(self) -> None:
        """Waits for the next batch; raises what went wrong with it."""
        try:
            error = self._connection.recv_bytes()
        except (EOFError, OSError):
            self.process.join(timeout=5)
            raise WorkerLost(
                f"a worker process ended with exit code {self.process.exitcode} (-9: killed, "
                "perhaps for lack of memory); type the same command again to continue, with a "
                "smaller config.data.workers if it was memory"
            ) from None
        if error:
            raise pickle.loads(error)


def _kill(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.join()


def _as_arrays(buffers: dict[str, Any], spec: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        key: np.frombuffer(buffers[key], value.dtype).reshape(-1, *value.shape)
        for key, value in spec.items()
    }


def _work(
    pickled: Any, buffers: list[dict[str, Any]], batch_rows: int, connection: Connection
) -> None:
    """Makes the batches that are requested: what a worker process does."""
    # A terminal or a scheduler signals all processes of a run, but the parent still needs batches.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    examples = functools.cache(lambda: pickle.loads(pickled.raw))
    for number, slot in _requests(connection):
        error = b""
        try:
            _write(examples(), number * batch_rows, buffers[slot])
        except Exception as e:
            error = _pickle_error(e)
        connection.send_bytes(error)


def _requests(connection: Connection) -> Iterator[tuple[int, int]]:
    """Yields requests until the parent has ended."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            yield connection.recv()


def _write(examples: Examples, first: int, buffers: dict[str, Any]) -> None:
    arrays = _as_arrays(buffers, examples.spec)
    for row in range(len(arrays["index"])):
        for key, value in examples[first + row].items():
            arrays[key][row] = value


def _pickle_error(error: Exception) -> bytes:
    """The error with its traceback; one that can't be pickled becomes a RuntimeError."""
    note = f"in a worker process:\n{''.join(traceback.format_exception(error))}"
    try:
        error.add_note(note)
        pickled = cloudpickle.dumps(error)
        pickle.loads(pickled)
        return pickled
    except Exception:
        return pickle.dumps(RuntimeError(note))


def _end_with_parent() -> None:
    """Ends this process when its parent has ended, however it ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
