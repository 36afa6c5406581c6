"""How fast the input is by itself, and whether its memory grows."""

import itertools
import os
import pathlib
import time
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.create import create_eval_loader, create_train_loader, open_split
from imgcls.distributed import sharding

# Batches before the clock starts: those that were made before they were asked for, and more.
WARM_UP = 8
# Seconds after the first batch until the buffers behind it are full, as they are in a run, whose
# first step is compiled meanwhile.
FILL = 1.0


def measure_input(config: ConfigDict, steps: int) -> dict[str, float]:
    """Images/s of the training input on its way to the devices, and the memory it takes.

    Args:
      config: of the run.
      steps: timed batches, after `WARM_UP` more.
    """
    mesh = sharding.create_mesh(config)
    sharding.check_batch(config, mesh)
    source = open_split(config, config.data.train_split)
    count = WARM_UP + steps
    # It is closed halfway, so that its threads and workers are still there at the last batch.
    loader = create_train_loader(config, source, mesh, 0, 2 * count)
    try:
        times, memory = _consume(itertools.islice(loader, count))
    finally:
        loader.close()
    rate = config.batch_size * steps / (times[-1] - times[WARM_UP - 1])
    result = _rates(rate) | {"skipped records": loader.skipped}
    if memory is None:
        return result
    first, last = memory
    return result | {
        "host memory at batch 1, MB": first / 1e6,
        f"host memory at batch {len(times)}, MB": last / 1e6,
        "growth, percent": 100 * (last / first - 1),
    }


def measure_eval(config: ConfigDict, steps: int) -> dict[str, float]:
    """Images/s of the evaluation input: of the first evaluator's split, over and over.

    Args:
      config: of the run; without evaluators its training split is read.
      steps: timed batches, after the first.
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
        "images/s per core": rate / os.cpu_count(),
        "images/s per device": rate / jax.device_count(),
    }


def _consume(batches: Iterator[dict]) -> tuple[list[float], tuple[int, int] | None]:
    """When each batch was on the devices, and the host's memory at the first and the last."""
    times, first = [], None
    for batch in batches:
        jax.block_until_ready(batch)
        times.append(time.perf_counter())
        if len(times) == 1:
            time.sleep(FILL)
            first = resident_memory()
    last = resident_memory()
    return times, None if first is None else (first, last)


def resident_memory() -> int | None:
    """Bytes of this process and its workers that are in memory; None where there is no /proc."""
    if not pathlib.Path("/proc/self/statm").exists():
        return None
    pages = sum(_resident_pages(pid) for pid in ["self", *_children()])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _resident_pages(pid: str) -> int:
    try:
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        # It has ended.
        return 0


def _children() -> set[str]:
    files = pathlib.Path("/proc/self/task").glob("*/children")
    return {pid for file in files for pid in file.read_text().split()}
