"""Training images that stay on the device: decoded once, then gathered for each batch.

For datasets of small images, where reading takes longer than training. The order is the same as in
`loader.py`. Only the indices of a batch's examples are copied to the device, so augmentation has to
run there too, as `data.batch_transform`.
"""

import collections
import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.loading.batch_loader import BatchPlan
from imgcls.data.loading.reader import MAX_REPLACEMENTS, Reader
from imgcls.distributed import sharding

# Host transforms without randomness, which can be applied once.
FIXED_TRANSFORMS = (
    *("resize", "center_crop", "eval_crop"),
    *("resize3d", "center_crop3d", "pad3d", "resample"),
    *("window", "percentiles", "z_score", "sigma"),
)

# Limit of the images in device memory; every device holds all of them.
MAX_DEVICE_BYTES = 8 << 30


def check(config: ConfigDict) -> None:
    """Raises a ConfigError if `data.device_resident` can't be combined with other settings."""
    c = config.data
    where = "config.data.device_resident=True"
    for part in filter(None, map(str.strip, c.train_transform.split("|"))):
        if part.split("(")[0] not in FIXED_TRANSFORMS:
            raise ConfigError(
                f"{where}: images are read once, so {part} of data.train_transform would be "
                "applied once; augment in data.batch_transform, or use only "
                f"{', '.join(FIXED_TRANSFORMS)}"
            )
    if c.views != "one":
        raise ConfigError(
            f"{where}: supports one view, not data.views={c.views!r}; set it to False"
        )
    if c.workers:
        raise ConfigError(f"{where}: reads with threads; set data.workers=0")


class ResidentLoader:
    """A `BatchLoader` that decodes all images once; batches also hold `epoch` int32 `[B]`.

    Args:
      plan: batches to make; the reader's transforms have no randomness.
      threads: number of threads that decode the images; None is one per core.
      prefetch: number of batches gathered ahead.

    Raises:
      ConfigError: the images need more than `MAX_DEVICE_BYTES`.
      DataError: a record is unreadable, with `data.on_error='fail'`.
    """

    def __init__(self, plan: BatchPlan, *, threads: int | None = None, prefetch: int = 2):
        self.skipped = self.positions = 0
        self._plan, self._prefetch = plan, max(prefetch, 1)
        images, labels, self._readable = _read_all(plan.reader, threads or os.cpu_count() or 1)
        replicated = sharding.replicated(plan.mesh)
        self._images, self._labels = (
            jax.make_array_from_process_local_data(replicated, array, array.shape)
            for array in (images, labels)
        )
        self._gather = jax.jit(_gather, out_shardings=sharding.batch_sharding(plan.mesh))
        self._thread = ThreadPoolExecutor(1)

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        ahead: collections.deque[Future] = collections.deque()
        for step in range(self._plan.first, self._plan.last):
            ahead.append(self._thread.submit(self._batch, step))
            if len(ahead) > self._prefetch:
                yield self._take(ahead.popleft())
        while ahead:
            yield self._take(ahead.popleft())

    def close(self) -> None:
        """Stops the thread and frees the device memory."""
        self._thread.shutdown(cancel_futures=True)
        self._images = self._labels = None

    def _take(self, future: Future) -> dict[str, jax.Array]:
        batch, skipped = future.result()
        self.skipped += skipped
        self.positions += self._plan.batch_size
        return batch

    def _batch(self, step: int) -> tuple[dict[str, jax.Array], int]:
        positions = step * self._plan.batch_size + self._plan.local_rows
        chosen = [self._index_at(position) for position in positions.tolist()]
        index, skipped = np.array(chosen, np.int32).T
        rows = {"index": index, "epoch": np.int32(positions // len(self._readable))}
        rows, counted = self._plan.to_global(rows, skipped)
        return self._gather(self._images, self._labels, **rows), counted

    def _index_at(self, position: int) -> tuple[int, int]:
        """The example at a position, and the number of unreadable ones skipped there."""
        for skipped in range(MAX_REPLACEMENTS + 1):
            index = self._plan.reader.index_at(position, skipped)
            if self._readable[index]:
                return index, skipped
        raise DataError(f"{skipped + 1} records in a row are unreadable, up to {index}")


def _read_all(reader: Reader, threads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 `[N, ..., C]`, labels `[N]` or `[N, K]`, and which are readable, bool `[N]`.

    Reads in the source's order, in which unreadable examples have mask 0.
    """
    reader, count = dataclasses.replace(reader, shuffle=False), len(reader.source)
    image, label = reader.spec["image"], reader.spec["label"]
    if count * image.nbytes > MAX_DEVICE_BYTES:
        raise ConfigError(
            f"config.data.device_resident=True: {count:,} images of shape {image.shape} are "
            f"{count * image.nbytes / 2**30:.0f} GiB, more than the {MAX_DEVICE_BYTES >> 30} GiB "
            "allowed on a device; set it to False"
        )
    images = np.empty((count, *image.shape), image.dtype)
    labels = np.empty((count, *label.shape), label.dtype)
    readable = np.zeros(count, bool)

    def read(i: int) -> None:
        example = reader.example(i)
        images[i], labels[i], readable[i] = (example[key] for key in ("image", "label", "mask"))

    with ThreadPoolExecutor(threads) as pool:
        try:
            collections.deque(pool.map(read, range(count)), maxlen=0)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return images, labels, readable


def _gather(images: jax.Array, labels: jax.Array, index: jax.Array, epoch: jax.Array) -> dict:
    def take(array):
        return array.at[index].get(mode="promise_in_bounds")

    mask = jnp.ones(index.shape, jnp.float32)
    return {
        "image": take(images),
        "label": take(labels),
        "index": index,
        "epoch": epoch,
        "mask": mask,
    }
