"""Gathers outputs for every example of a split, in one pass, as arrays on the host."""

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
    """Gathers the outputs for each set of variables, every example once, in the source's order.

    Args:
      outputs: function `(params, model_state, batch) -> {name: [B, ...]}` built by `make_eval_fn`;
        one output is `mask`. Padding and unreadable examples (mask 0) are left out.
      variables: `{prefix: (params, model_state)}`.
      config: config of the run.
      source: source of the examples.
      mesh: device mesh.
      batch_size: examples per batch over all devices, rounded up to a multiple of their number;
        None is the training batch size.

    Returns:
      `{prefix: {name: [N, ...]}}` for the N readable examples, the same on every process, and the
      number of unreadable examples of this process.
    """
    shards = sharding.num_shards(mesh)
    rows = -(-(batch_size or config.batch_size) // shards) * shards
    collected = {prefix: [] for prefix in variables}
    with contextlib.closing(create_eval_loader(config, source, mesh, rows)) as loader:
        for batch in loader:
            for prefix, (params, model_state) in variables.items():
                collected[prefix].append(outputs(params, model_state, batch))
            # Fetch the previous batch while the device computes this one.
            for parts in collected.values():
                parts[-2:-1] = [_fetch(part) for part in parts[-2:-1]]
        skipped = loader.skipped
    return {prefix: _join(parts) for prefix, parts in collected.items()}, skipped


def _fetch(part: dict) -> dict[str, np.ndarray]:
    # Indexing copies the examples that count, so that the batch itself can be freed.
    kept = np.asarray(part["mask"]) > 0
    return {name: np.asarray(value)[kept] for name, value in part.items()}


def _join(parts: list[dict]) -> dict[str, np.ndarray]:
    """Concatenates the parts, freeing the arrays of each part as they are joined."""
    fetched = [*parts[:-1], _fetch(parts[-1])]
    return {name: np.concatenate([part.pop(name) for part in fetched]) for name in [*fetched[0]]}


def make_eval_fn(fn: Callable, config: ConfigDict, mesh: Mesh) -> Callable:
    """Returns a jitted `fn(params, model_state, batch)` that first normalizes the images.

    The results are replicated, so that every process can read them.
    """

    def evaluate(params, model_state, batch):
        return fn(params, model_state, normalize_batch(batch, config))

    return jax.jit(evaluate, out_shardings=sharding.replicated(mesh))
