"""Measures the input alone: its speed, and whether its memory grows."""

import itertools
import os
import pathlib
import time
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.create import create_eval_loader, create_reader, create_train_loader, open_split
from imgcls.distributed import sharding

# Untimed batches at the start, which include the prefetched ones.
WARM_UP = 8
# Seconds to wait after the first batch until the prefetch buffers are full. In a training run this
# happens while the first step is compiled.
FILL = 1.0

# Results by name.
Section = dict[str, float | str]


def measure_input(config: ConfigDict, steps: int) -> Section:
    """Measures images/s of the training input up to the devices, and its memory.

    Args:
      config: the config to measure.
      steps: number of timed batches, after `WARM_UP` untimed ones.
    """
    mesh = sharding.create_mesh(config)
    sharding.check_batch(config, mesh)
    reader = create_reader(config, open_split(config, config.data.train_split), train=True)
    count = WARM_UP + steps
    # Twice the batches, so that threads and workers are still running at the last timed batch.
    loader = create_train_loader(config, reader, mesh, 0, 2 * count)
    try:
        times, memory = _consume(itertools.islice(loader, count))
    finally:
        loader.close()
    rate = config.batch_size * steps / (times[-1] - times[WARM_UP - 1])
    result: Section = {**_rates(rate), "skipped records": loader.skipped}
    if memory:
        first, last = memory
        result["host memory at batch 1, MB"] = first / 1e6
        result[f"host memory at batch {len(times)}, MB"] = last / 1e6
        result["growth, percent"] = 100 * (last / first - 1)
    return result


def measure_eval(config: ConfigDict, steps: int) -> Section:
    """Measures images/s of the evaluation input, which reads its split repeatedly.

    Args:
      config: the config to measure. The split is that of its first evaluator, or the training split
        if there are no evaluators.
      steps: number of timed batches.
    """
    mesh = sharding.create_mesh(config)
    section = next(iter(config.evaluators.values()), ConfigDict())
    if not isinstance(section, ConfigDict):
        raise ConfigError(f"config.evaluators: {section!r} must be a section")
    split = section.get("split", "test" if config.evaluators else config.data.train_split)
    source = open_split(config, split)
    shards = sharding.num_shards(mesh)
    size = -(-(section.get("batch_size") or config.batch_size) // shards) * shards
    images, seconds, left = 0, 0.0, steps
    while left > 0:
        loader = create_eval_loader(config, source, mesh, size)
        try:
            start, batches = time.perf_counter(), 0
            for batch in loader:
                images += int(np.sum(jax.device_get(batch["mask"])))
                batches += 1
                if batches == left:
                    break
            seconds += time.perf_counter() - start
        finally:
            loader.close()
        left -= batches
    return {"split": split, **_rates(images / seconds)}


def _rates(rate: float) -> dict[str, float]:
    return {
        "images/s": rate,
        "images/s per core": rate / (os.cpu_count() or 1),
        "images/s per device": rate / jax.device_count(),
    }


def _consume(batches: Iterator[dict]) -> tuple[list[float], tuple[int, int] | None]:
    """Consumes all batches.

    Returns:
      The time at which each batch was on the devices, and the host memory in bytes at the first and
      the last batch (None without /proc).
    """
    times, first = [], None
    for batch in batches:
        jax.block_until_ready(batch)
        times.append(time.perf_counter())
        if len(times) == 1:
            time.sleep(FILL)
            first = resident_memory()
    last = resident_memory()
    return times, None if first is None or last is None else (first, last)


def resident_memory() -> int | None:
    """Returns the resident memory of this process and its workers in bytes; None without /proc."""
    if not pathlib.Path("/proc/self/statm").exists():
        return None
    pages = sum(_resident_pages(pid) for pid in ["self", *_children()])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _resident_pages(pid: str) -> int:
    try:
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        # The process has ended.
        return 0


def _children() -> set[str]:
    files = pathlib.Path("/proc/self/task").glob("*/children")
    return {pid for file in files for pid in file.read_text().split()}
