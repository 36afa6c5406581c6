"""Measures the speed of a training step before a run starts."""

import tempfile
import time
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from imgcls.core.defaults import default_config
from imgcls.data.create import create_train_loader
from imgcls.distributed.agreement import agree
from imgcls.train.setup import set_up

# Steps after the first one that are measured: at least `STEPS`, and for at least `SECONDS`.
STEPS, SECONDS, MOST = 4, 3.0, 200


class Speed(NamedTuple):
    """Seconds of a training step with its input, and of the set-up with compilation."""

    step: float
    start: float


def measure_speed(config: ConfigDict) -> Speed:
    """Runs the first steps of a config, as training does, and discards the result.

    Raises:
      ConfigError: a setting that can't work.
    """
    config = config.copy_and_resolve_references()
    config.total = f"{MOST + 1} steps"
    config.evaluators = ConfigDict()
    config.checkpoint = default_config().checkpoint
    config.auto.minutes = None
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as workdir:
        training = set_up(config, workdir, accept_changes=False)
        loader = create_train_loader(config, training.reader, training.mesh, 0, MOST + 1)
        try:
            compiled, state, since, count = None, None, 0.0, 0
            for count, batch in enumerate(loader):
                if compiled is None:
                    compiled = training.programs.compile(
                        "train_step", training.step_fn, training.shapes, batch
                    )
                    state = training.state.result()
                state, metrics = compiled(state, batch)
                jax.block_until_ready(metrics)
                now = time.monotonic()
                if not count:
                    since = now
                # All processes stop at the same step, as they compute it together.
                elif count >= STEPS and (count >= MOST or agree(now - since >= SECONDS)):
                    break
        finally:
            loader.close()
            training.checkpointer.close()
    return Speed((time.monotonic() - since) / max(count, 1), since - begun)
