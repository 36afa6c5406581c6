"""From a source to sharded batches on the devices: Grain reads, this file fixes the order.

The order is a function, not a state. The example at global position p of a run, and the randomness
used on it, follow from (seed, p) alone; step s of batch size B holds the positions s*B ... s*B+B-1.
So a run continues from its step number, and the global batch is the same array with any number of
processes, workers and threads. Every epoch visits each example once, unless the classes are to be
balanced (`imgcls.data.sampling`).
"""

import collections
import dataclasses
import functools
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence

import grain
import jax
import numpy as np
from absl import flags, logging
from jax.sharding import Mesh

from imgcls import sharding
from imgcls.data.decode import EncodedImage
from imgcls.data.sampling import Balanced, example_at
from imgcls.data.sources import Source
from imgcls.data.views import VIEWS, Partners
from imgcls.errors import ConfigError, DataError

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]

# How many neighbours of an unreadable example are tried in its place.
MAX_REPLACEMENTS = 100
# Examples that a thread makes at a time: enough that handing them over costs nothing.
CHUNK = 8
# Bytes. On a CPU, JAX takes an array that begins at a multiple of them as it is.
_ALIGNMENT = 64


@dataclasses.dataclass(frozen=True)
class Reader:
    """One example, decoded and transformed, at each position.

    Attributes:
      source: where examples come from.
      transforms: applied in turn to the decoded image.
      seed: of the order and of the transforms.
      shuffle: the training order; otherwise the source's own, and positions past its end are
        padding with mask 0.
      on_error: 'fail' raises at an unreadable record; 'skip' takes the record's next readable
        neighbour instead in training, and masks the record out in evaluation.
      channels: of decoded images, 1 or 3.
      views: how many pictures, see `imgcls.data.views`.
      other_transforms: of all pictures but the first.
      partners: draws the others of pairs and triplets.
      balanced: a training order in which every class comes equally often; None: the uniform one.
    """

    source: Source
    transforms: Sequence[Transform]
    seed: int
    shuffle: bool
    on_error: str = "fail"
    channels: int = 3
    views: str = "one"
    other_transforms: Sequence[Transform] = ()
    partners: Partners | None = None
    balanced: Balanced | None = None

    def example(self, position: int) -> dict[str, np.ndarray]:
        """The example at a global position.

        Returns:
          `image` uint8 `[..., C]` (and `image2` ... of several views), `label` int32 or uint8
          `[K]` and `index` int32 of the first (its number in the source, -1 for padding), `mask`
          float32, `skipped` int32 (unreadable records that were passed over here).

        Raises:
          DataError: the record is unreadable and `on_error` is 'fail'.
        """
        if not self.shuffle and position >= len(self.source):
            return self._padding()
        for skipped in range(MAX_REPLACEMENTS + 1):
            index = self.index_at(position, skipped)
            try:
                return {**self._read(index, position), "skipped": np.int32(skipped)}
            except DataError as e:
                if self.on_error == "fail":
                    raise
                logging.warning("skipped an unreadable record: %s", e)
            if not self.shuffle:
                return {**self._padding(), "index": np.int32(index), "skipped": np.int32(1)}
        raise DataError(f"{skipped + 1} records in a row are unreadable, up to {index}")

    @functools.cached_property
    def spec(self) -> dict[str, np.ndarray]:
        """An example of zeros, in the shape and type that all examples must have."""
        for index in range(min(len(self.source), MAX_REPLACEMENTS)):
            try:
                image, label = self._open(index)
                image = _pixels(image)
                break
            except DataError:
                if self.on_error == "fail":
                    raise
        else:
            image, label = np.zeros((64, 64, self.channels), np.uint8), np.asarray(0)
        views = [image] * VIEWS[self.views]
        example = self._finish(views, label, 0, 0) | self._is_same(True)
        return {key: np.zeros_like(value) for key, value in example.items()}

    def index_at(self, position: int, skipped: int) -> int:
        """The record at a position, after some that were unreadable there."""
        if not self.shuffle:
            return position
        if self.balanced is not None:
            return self.balanced.index(position, skipped)
        length = len(self.source)
        return (example_at(self.seed, position, length) + skipped) % length

    def _read(self, index: int, position: int) -> dict[str, np.ndarray]:
        image, label = self._open(index)
        others, same = self._draw_others(index, image, position)
        example = self._finish([image, *others], label, index, position) | self._is_same(same)
        for key, value in example.items():
            if value.shape != self.spec[key].shape:
                raise ConfigError(
                    f"{self.source.name(index)} comes out of the transforms as {value.shape}, "
                    f"another record as {self.spec[key].shape}; end the transforms with a crop or "
                    "a resize"
                )
        return example

    def _open(self, index: int) -> tuple[np.ndarray | EncodedImage, np.ndarray]:
        """Picture and label of a record."""
        record = self.source[index]
        image = record["image"]
        if isinstance(image, bytes):
            image = EncodedImage(image, self.source.name(index), channels=self.channels)
        return image, np.asarray(record["label"])

    def _draw_others(self, index: int, image, position: int) -> tuple[list, bool]:
        """Pictures of the other views, and whether the second belongs with the first."""
        if self.partners is None:
            if VIEWS[self.views] == 1:
                return [], True
            # Of several views the picture is decoded once, and whole.
            return [_pixels(image)] * (VIEWS[self.views] - 1), True
        rng = np.random.default_rng((self.seed, position, 1))
        same = self.views == "triplets" or bool(rng.integers(2))
        chosen = [self.partners.same(index, rng) if same else self.partners.other(index, rng)]
        if self.views == "triplets":
            chosen.append(self.partners.other(index, rng))
        return [image if i == index else self._open(i)[0] for i in chosen], same

    def _is_same(self, same: bool) -> dict[str, np.ndarray]:
        return {"same": np.int32(same)} if self.views == "pairs" else {}

    def _finish(self, views: list, label, index: int, position: int) -> dict[str, np.ndarray]:
        images = {}
        for number, image in enumerate(views, start=1):
            # The first picture is what it would be without the others.
            key = (self.seed, position) if number == 1 else (self.seed, position, number)
            transforms = self.transforms if number == 1 else self.other_transforms
            image = _transform(image, transforms, np.random.default_rng(key))
            images["image" if number == 1 else f"image{number}"] = image
        return {
            **images,
            "label": label.astype(np.uint8 if label.ndim else np.int32),
            "index": np.int32(index),
            "mask": np.float32(1),
            "skipped": np.int32(0),
        }

    def _padding(self) -> dict[str, np.ndarray]:
        return {**self.spec, "index": np.int32(-1)}


def _pixels(image: np.ndarray | EncodedImage) -> np.ndarray:
    return image.pixels if isinstance(image, EncodedImage) else image


def _transform(image, transforms: Sequence[Transform], rng: np.random.Generator) -> np.ndarray:
    """Applies transforms in turn; the first may decode only what it needs."""
    if not (transforms and getattr(transforms[0], "takes_encoded", False)):
        image = _pixels(image)
    for transform in transforms:
        image = transform(image, rng)
    return image


class _LocalRows:
    """What workers read: this process's share of a stretch of batches, example by example."""

    def __init__(self, reader: Reader, rows: np.ndarray, batch_size: int, first: int, last: int):
        self._reader, self._rows, self._batch_size = reader, rows, batch_size
        self._first, self._last = first, last

    def __len__(self) -> int:
        return (self._last - self._first) * len(self._rows)

    def __getitem__(self, item: int) -> dict[str, np.ndarray]:
        step, row = divmod(item, len(self._rows))
        position = (self._first + step) * self._batch_size + int(self._rows[row])
        return self._reader.example(position)

    @property
    def spec(self) -> dict[str, np.ndarray]:
        return self._reader.spec


class _Memory:
    """Arrays whose memory is used again once nobody holds them: new pages cost the kernel time.

    JAX may read from an array after it was given away, on a CPU for as long as the `jax.Array`
    lives; but it holds on to it while it does.
    """

    def __init__(self):
        self._free: dict[int, collections.deque] = collections.defaultdict(collections.deque)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of undefined values."""
        size = math.prod(shape) * dtype.itemsize
        try:
            memory = self._free[size].pop()
        except IndexError:
            memory = np.empty(size + _ALIGNMENT, np.uint8)
        # By way of a memoryview: views of an array's view would hold the first array alone.
        start = -memory.ctypes.data % _ALIGNMENT
        array = np.frombuffer(memoryview(memory)[start : start + size], dtype)
        weakref.finalize(array, self._free[size].append, memory).atexit = False
        return array.reshape(shape)


class _LocalChunks:
    """What threads read: the same share, a few rows at a time, written into the batch they are of.

    An item is the number of its batch, which `take` gives out when all of its rows are written.
    """

    def __init__(self, rows: _LocalRows, batch_rows: int):
        self._rows, self._batch_rows = rows, batch_rows
        self.per_batch = -(-batch_rows // CHUNK)
        self._batches: dict[int, dict[str, np.ndarray]] = {}
        self._memory = _Memory()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows) // self._batch_rows * self.per_batch

    def __getitem__(self, item: int) -> int:
        number, chunk = divmod(item, self.per_batch)
        batch = self._batch(number)
        for row in range(chunk * CHUNK, min((chunk + 1) * CHUNK, self._batch_rows)):
            for key, value in self._rows[number * self._batch_rows + row].items():
                batch[key][row] = value
        return number

    def _batch(self, number: int) -> dict[str, np.ndarray]:
        with self._lock:
            if number not in self._batches:
                self._batches[number] = {
                    key: self._memory.empty((self._batch_rows, *value.shape), value.dtype)
                    for key, value in self._rows.spec.items()
                }
            return self._batches[number]

    def take(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """The batch of these chunks, `[rows, ...]` of everything."""
        with self._lock:
            return self._batches.pop(int(numbers[0]))


class Loader:
    """Global batches for the steps `first` to `last - 1`, ready on the devices before they are due.

    A batch holds `image` uint8 `[B, ..., C]` (and what `imgcls.data.views` says), `label` int32
    `[B]` or uint8 `[B, K]`, `index` int32 `[B]` and `mask` float32 `[B]`, each sharded over the
    mesh's batch axes.

    Args:
      reader: gives the examples.
      mesh: of the run.
      batch_size: B, over all processes.
      first, last: range of steps.
      threads: that read and transform; None is one per core.
      workers: processes that do so instead, each with one batch in hand.
      prefetch: batches kept ready on the device.

    Attributes:
      skipped: unreadable records of this process's share that were passed over so far;
        a row that several processes hold counts in one.
      positions: of the order that were given out so far, by all processes.
    """

    def __init__(
        self,
        reader: Reader,
        mesh: Mesh,
        batch_size: int,
        first: int,
        last: int,
        *,
        threads: int | None = None,
        workers: int = 0,
        prefetch: int = 2,
    ):
        self.skipped = self.positions = 0
        self._mesh, self._batch_size = mesh, batch_size
        rows = sharding.local_rows(mesh, batch_size)
        self._counted = sharding.counted_rows(mesh, batch_size)
        examples = _LocalRows(reader, rows, batch_size, first, last)
        threads = os.cpu_count() if threads is None else threads
        # Workers give batches in shared memory. On a CPU, JAX would not copy but keep it, and some
        # would not be given back before the process ends.
        self._copies = bool(workers) and jax.default_backend() == "cpu"
        if workers:
            # Grain reads absl flags in its workers, and our commands do without absl's parser.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            # Batched before the workers divide the work: a worker makes every n-th batch whole, so
            # that their number does not change what a batch holds.
            options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
            batches = grain.MapDataset.source(examples).batch(len(rows)).to_iter_dataset(options)
            batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
        else:
            chunks = _LocalChunks(examples, len(rows))
            ahead = max(2 * threads, chunks.per_batch)
            options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
            batches = grain.MapDataset.source(chunks).to_iter_dataset(options)
            batches = batches.batch(chunks.per_batch).map(chunks.take)
        batches = batches.map(self._to_device)
        # A thread copies to the device, so that the step finds its batch there.
        self._batches = grain.experimental.ThreadPrefetchIterDataset(
            batches, prefetch_buffer_size=max(prefetch, 1)
        )
        self._iterator = None

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        self._iterator = iter(self._batches)
        for batch, skipped in self._iterator:
            self.skipped += skipped
            self.positions += self._batch_size
            yield batch

    def close(self) -> None:
        """Stops the threads and workers."""
        if self._iterator is not None:
            self._iterator.close()

    def _to_device(self, batch: dict[str, np.ndarray]) -> tuple[dict[str, jax.Array], int]:
        skipped = int(batch.pop("skipped")[self._counted].sum())
        if self._copies:
            batch = {key: np.array(value) for key, value in batch.items()}
        return sharding.to_global(self._mesh, batch, self._batch_size), skipped
