"""One pass over a split: the outputs of every example, as arrays on the host."""

import contextlib
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.data.create import create_eval_loader
from imgcls.data.sources.source import Source
from imgcls.data.transforms.batch import normalize_batch
from imgcls.distributed import sharding


def gather(
    outputs: Callable,
    variables: dict[str, tuple],
    config: ConfigDict,
    source: Source,
    mesh: Mesh,
    batch_size: int | None = None,
) -> tuple[dict[str, dict[str, np.ndarray]], int]:
    """The outputs for each set of variables, every example once, in the source's order.

    Args:
      outputs: `(params, model_state, batch) -> {name: [B, ...]}`, from `make_eval_fn`; `mask` is
        one of them. Padding and unreadable records (mask 0) are left out.
      variables: `{prefix: (params, model_state)}`.
      config, mesh: of the run.
      source: of the N examples.
      batch_size: over all devices, rounded up to divide by them; None is the training batch.

    Returns:
      `{prefix: {name: [N, ...]}}`, the same on every process, and how many records this process
      found unreadable.
    """
    shards = sharding.num_shards(mesh)
    rows = -(-(batch_size or config.batch_size) // shards) * shards
    collected = {prefix: [] for prefix in variables}
    with contextlib.closing(create_eval_loader(config, source, mesh, rows)) as loader:
        for batch in loader:
            for prefix, (params, model_state) in variables.items():
                collected[prefix].append(outputs(params, model_state, batch))
            # Fetch what was computed one batch ago, while the device works on this one.
            for parts in collected.values():
                parts[-2:-1] = [_fetch(part) for part in parts[-2:-1]]
        skipped = loader.skipped
    return {prefix: _join(parts) for prefix, parts in collected.items()}, skipped


def _fetch(part: dict) -> dict[str, np.ndarray]:
    # Only the examples that count: a copy, so that the whole batch can go.
    kept = np.asarray(part["mask"]) > 0
    return {name: np.asarray(value)[kept] for name, value in part.items()}


def _join(parts: list[dict]) -> dict[str, np.ndarray]:
    """Whole arrays; frees each part's array as it is joined."""
    fetched = [*parts[:-1], _fetch(parts[-1])]
    return {name: np.concatenate([part.pop(name) for part in fetched]) for name in [*fetched[0]]}


def make_eval_fn(fn: Callable, config: ConfigDict, mesh: Mesh) -> Callable:
    """`(params, model_state, batch) -> fn(...)` on normalised images, jitted, results whole.

    The results are replicated, so that every process can read them all.
    """

    def evaluate(params, model_state, batch):
        return fn(params, model_state, normalize_batch(batch, config))

    return jax.jit(evaluate, out_shardings=sharding.replicated(mesh))
