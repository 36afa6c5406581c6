"""Refuses to continue a run at another point of its schedule.

A run counts steps, and durations in epochs or examples become steps by the batch size and the
number of examples. If one of these changes, the same step is elsewhere in the schedule.
"""

import shlex

from ml_collections import ConfigDict

from imgcls.core.durations import to_steps
from imgcls.core.errors import ConfigError
from imgcls.runs.load import find_newest

# Keys of single durations that decide what a step does.
KEYS = ("total", "schedule.warmup", "schedule.cooldown", "schedule.timescale")


def check_progress(config: ConfigDict, workdir: str, num_examples: int) -> None:
    """Checks that the durations of a run's schedule are the same number of steps as before.

    A duration that is written differently than before is taken as it is.

    Args:
      config: config of the run.
      workdir: workdir of the run; without a checkpoint there is nothing to check.
      num_examples: number of training examples.

    Raises:
      ConfigError: the batch size or the data changed, and with it the steps of a duration.
    """
    newest = find_newest(workdir)
    if newest is None:
        return
    before, info = newest.read_meta()
    # Older checkpoints have no number of examples.
    examples = info.num_examples or num_examples
    changes = {
        "config.batch_size": (before.batch_size, config.batch_size),
        "the number of examples": (examples, num_examples),
    }
    changes = {name: pair for name, pair in changes.items() if pair[0] != pair[1]}
    if not changes:
        return
    after = before.copy_and_resolve_references()
    after.batch_size = config.batch_size
    old, new = durations_in_steps(before, examples), durations_in_steps(after, num_examples)
    same_total = before.total == config.total
    moved = [
        key
        for key in old
        if old[key] != new[key]
        and read(before, key) == read(config, key)
        and (same_total or "percent" not in str(read(config, key)))
    ]
    if not moved:
        return
    what = ", ".join(f"{name} was {a}, is {b}" for name, (a, b) in changes.items())
    readings = ", ".join(f"config.{k}={read(before, k)!r} was {old[k]}, is {new[k]}" for k in moved)
    flags = " ".join(shlex.quote(f"--config.{key}={old[key]}") for key in moved)
    raise ConfigError(
        f"{what}: step {newest.step} of {workdir}, {_percent(newest.step, old)} of the run, would "
        f"be {_percent(newest.step, new)} of it, as {readings}. Keep the schedule by {flags} "
        "--accept_changes, or start from the run in a new --workdir with "
        f"config.init_from={workdir}:{newest.step}"
    )


def durations_in_steps(config: ConfigDict, num_examples: int) -> dict[str, str | tuple]:
    """Values of the keys with durations of the schedule, with each duration written in steps."""

    def write(duration: str, key: str) -> str:
        return f"{to_steps(duration, config, num_examples, key)} steps"

    written: dict[str, str | tuple] = {key: write(read(config, key), key) for key in KEYS}
    boundaries, multipliers = "schedule.boundaries", "optim.multipliers"
    written[boundaries] = tuple(write(d, boundaries) for d in read(config, boundaries))
    written[multipliers] = tuple(
        (*entry[:2], *(write(d, multipliers) for d in entry[2:]))
        for entry in read(config, multipliers)
    )
    return written


def read(config: ConfigDict, key: str):
    """Value of a key such as 'schedule.warmup'."""
    section, _, name = key.rpartition(".")
    return (config[section] if section else config)[name]


def _percent(step: int, written: dict) -> str:
    return f"{100 * step / int(written['total'].split()[0]):.3g} %"
