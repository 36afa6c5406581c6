"""Measures the training step: on one fixed batch, and fed by the loader."""

import collections
import itertools
import queue
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable

import jax
import numpy as np
from ml_collections import ConfigDict

from imgcls.bench.inputs import Section
from imgcls.bench.peaks import find_peak, measure_peak
from imgcls.core.flops import count_flops
from imgcls.data.create import create_train_loader
from imgcls.train.nonfinite import METRICS_LAG
from imgcls.train.setup import Training, set_up

# Untimed steps at the start.
WARM_UP = 2


def measure_step(config: ConfigDict, steps: int) -> dict[str, Section]:
    """Measures the compiled step on a fixed batch (`step`) and fed by the loader (`pipeline`).

    Both run as in training, with the host `METRICS_LAG` steps ahead of the devices.

    Args:
      config: the config to measure; its compile cache is not used, so compilation is measured too.
      steps: number of timed steps of each, after `WARM_UP` untimed ones.
    """
    config = config.copy_and_resolve_references()
    config.compile_cache = ""
    with tempfile.TemporaryDirectory(prefix="imgcls_bench_") as workdir:
        run = set_up(config, workdir, accept_changes=False)
        loader = create_train_loader(config, run.reader, run.mesh, 0, 1 + WARM_UP + steps)
        try:
            batches = iter(loader)
            batch = next(batches)
            state = run.state.result()
            step, program = _compile(run, state, batch)
            fixed = itertools.repeat(batch, 1 + WARM_UP + steps)
            state, alone = time_steps(step, state, fixed)
            _, fed = time_steps(step, state, batches)
        finally:
            loader.close()
            run.checkpointer.close()
    speed = _speed(alone, config.batch_size)
    seconds = speed["step time median, ms"] / 1e3
    used = _arithmetic(program.pop("TFLOPs of a step"), seconds, config)
    pipeline = _speed(fed, config.batch_size)
    return {
        "step": {**speed, **used, **program, **_memory()},
        "pipeline": {
            **pipeline,
            "waiting for data, percent": 100 * fed.waiting,
            "images/s of the step alone, percent": 100 * (pipeline["images/s"] / speed["images/s"]),
        },
    }


class Timing:
    """Durations of steps, and the time that the devices waited for batches.

    Args:
      requested: seconds at which the batch of each step was requested from the loader.
      fetched: seconds at which the batch was available.
      finished: seconds at which the step was finished.

    Attributes:
      durations: seconds from the end of a step to the end of the next, without the warm-up.
      waiting: share of the time in which the devices were idle and waited for a batch.
    """

    def __init__(self, requested: list[float], fetched: list[float], finished: list[float]):
        ends = np.array(finished)
        self.durations = np.diff(ends)[WARM_UP - 1 :]
        idle = np.array(fetched)[1:] - np.maximum(ends[:-1], np.array(requested)[1:])
        idle = np.maximum(idle, 0)[WARM_UP - 1 :]
        self.waiting = float(idle.sum() / self.durations.sum())


def time_steps(step: Callable, state, batches: Iterable[dict]) -> tuple[object, Timing]:
    """Runs a step on every batch; returns the last state and the times.

    Args:
      step: function `(state, batch) -> (state, metrics)`.
      state: state before the first step; it is donated.
      batches: at least `WARM_UP` + 1 batches.
    """
    requested, fetched, finished = [], [], []
    running, pending = queue.SimpleQueue(), collections.deque()

    def watch() -> None:
        # In a thread, since the host runs ahead of the devices.
        for metrics in iter(running.get, None):
            jax.block_until_ready(metrics)
            finished.append(time.perf_counter())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        iterator = iter(batches)
        while True:
            start = time.perf_counter()
            if (batch := next(iterator, None)) is None:
                break
            requested.append(start)
            fetched.append(time.perf_counter())
            state, metrics = step(state, batch)
            running.put(metrics)
            pending.append(metrics)
            if len(pending) > METRICS_LAG:
                jax.block_until_ready(pending.popleft())
    finally:
        running.put(None)
        watcher.join()
    return state, Timing(requested, fetched, finished)


def _compile(run: Training, state, batch: dict) -> tuple[Callable, dict[str, float]]:
    """Compiles the step; returns it with its FLOPs, compilation time and memory."""
    start = time.perf_counter()
    traced = run.step_fn.trace(state, batch)
    step = traced.lower().compile()
    seconds = time.perf_counter() - start
    size = step.memory_analysis()
    used_bytes = (
        size.argument_size_in_bytes
        + size.output_size_in_bytes
        + size.temp_size_in_bytes
        - size.alias_size_in_bytes
    )
    return step, {
        "TFLOPs of a step": count_flops(traced.jaxpr.jaxpr) / 1e12,
        "trace and compile, s": seconds,
        "memory of the program per device, MB": used_bytes / 1e6,
    }


def _speed(timing: Timing, batch_size: int) -> dict[str, float]:
    low, median, high = 1e3 * np.percentile(timing.durations, (25, 50, 75))
    # The mean over all steps, so that rare stalls of the loader count.
    rate = batch_size * len(timing.durations) / timing.durations.sum()
    return {
        "step time median, ms": median,
        "step time lower quartile, ms": low,
        "step time upper quartile, ms": high,
        "images/s": rate,
        "images/s per device": rate / jax.device_count(),
    }


def _arithmetic(flops: float, seconds: float, config: ConfigDict) -> dict[str, float]:
    """Compares the step's arithmetic with the peak of the chip.

    Args:
      flops: TFLOPs of a step on all devices.
      seconds: duration of a step.
      config: the measured config.
    """
    device = jax.devices()[0]
    dtype, peak = config.model.dtype, find_peak(device.device_kind)
    name = "peak of the chip in bfloat16, TFLOP/s"
    if peak is None:
        name = f"measured matmul peak in {dtype}, TFLOP/s"
        peak = measure_peak(dtype, 2048 if device.platform == "cpu" else 8192)
    achieved = flops / seconds / jax.device_count()
    return {
        "TFLOPs of a step": flops,
        "TFLOP/s per device": achieved,
        name: peak,
        "share of the peak, percent": 100 * achieved / peak,
    }


def _memory() -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # ru_maxrss is in kB on Linux and in bytes on macOS.
    result = {"peak host memory, MB": peak / (1e6 if sys.platform == "darwin" else 1e3)}
    stats = jax.devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        result["peak device memory, MB"] = stats["peak_bytes_in_use"] / 1e6
    return result
