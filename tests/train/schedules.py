"""The config and the schedule that the tests of optimizers and schedules share."""

import math

from ml_collections import ConfigDict

from imgcls.core.defaults import default_config

EXAMPLES = 1000


def make_config() -> ConfigDict:
    """100 steps of 100 examples; 10 steps an epoch."""
    config = default_config()
    config.batch_size, config.total = 100, "10 epochs"
    config.schedule.warmup = "2 steps"
    return config


def warmup_cosine(step, *, peak, warmup, total, final=0.0) -> float:
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    cosine = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    return peak * ((1 - final) * cosine + final)
