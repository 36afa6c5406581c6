"""Checks at the start of a run: the config, the workdir, and that all processes are the same.

Processes that are started differently would wait for each other forever.
"""

import hashlib
import json
import math
from importlib import metadata

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core import defaults, log
from imgcls.core.errors import ConfigError
from imgcls.core.plugins import plugins_digest
from imgcls.core.source_digest import source_digest
from imgcls.core.storage import as_path
from imgcls.data.info import DataInfo
from imgcls.data.sources.source import Source
from imgcls.data.transforms import spec
from imgcls.distributed import sharding
from imgcls.distributed.processes import check_same
from imgcls.runs.checksums import checkpoint_steps
from imgcls.runs.load import find_newest
from imgcls.runs.metrics_log import check_wandb
from imgcls.runs.profile import check_profile
from imgcls.train.nonfinite import check_guard

PACKAGES = ("jax", "jaxlib")
# Keys that may differ between processes, as the results do not depend on them.
LOCAL_KEYS = ("data.dir", "data.threads", "data.workers", "data.cache_gb", "compile_cache")
# Share of the initial parameters in their average at the end, above which a run is too short.
LARGEST_INITIAL_SHARE = 0.01
# Number of examples whose names are compared.
SAMPLE = 1000


def check_start(config: ConfigDict, workdir: str, accept_changes: bool) -> Mesh:
    """Checks everything that does not need the data; returns the mesh of the config.

    Args:
      config, workdir, accept_changes: see `imgcls.train.loop.train`.

    Raises:
      ConfigError: an invalid setting, the workdir of another run, or processes that differ.
    """
    check_same_command(config, workdir, accept_changes)
    mesh = sharding.create_mesh(config)
    sharding.check_batch(config, mesh)
    check_wandb(config)
    check_guard(config)
    check_profile(config)
    set_kept_keys(config, workdir)
    check_same_run(config, workdir, accept_changes)
    return mesh


def set_kept_keys(config: ConfigDict, workdir: str) -> None:
    """Sets the keys of `defaults.KEPT_KEYS` that are unset: as in the run to continue, if any."""
    values, newest = config_lib.leaves(config), find_newest(workdir)
    before = {} if newest is None else config_lib.leaves(newest.read_meta()[0])
    for key, (_, new) in defaults.KEPT_KEYS.items():
        if values[key] is None:
            value = before.get(key)
            config.update_from_flattened_dict({key: new if value is None else value})


def warn_of_short_run(config: ConfigDict, total: int) -> None:
    """Logs that a run is too short for its average of the parameters.

    Args:
      config: config of the run.
      total: number of steps.
    """
    initial = config.ema**total
    where = f"config.ema={config.ema}: the run of {total} steps is too short for it"
    if config.ema_warmup and (last := total / (total + 9)) < config.ema:
        log.info(
            f"{where}: the warm-up ends at a decay of {last:.3g}, an average over about the last "
            f"{1 / (1 - last):.0f} steps"
        )
    elif not config.ema_warmup and config.ema and initial > LARGEST_INITIAL_SHARE:
        log.info(
            f"{where}: the initial parameters are {100 * initial:.3g} % of the average, which is "
            "what other commands load: lower it, or set config.ema_warmup=True in a new run"
        )


def check_same_command(config: ConfigDict, workdir: str, accept_changes: bool) -> None:
    """Checks that all processes have the same command, code and newest checkpoint.

    Raises:
      ConfigError: a process differs; raised on all of them.
    """
    settings = config_lib.leaves(ConfigDict(json.loads(config_lib.to_json(config))))
    mine = {f"config.{k}": v for k, v in settings.items() if k not in LOCAL_KEYS}
    mine |= {f"version of {name}": metadata.version(name) for name in PACKAGES}
    mine |= {
        "source of imgcls": source_digest()[:12],
        "source of plugins": plugins_digest(config)[:12],
        "--accept_changes": accept_changes,
    }
    # If the processes do not share the workdir, only some of them see the checkpoints.
    mine["newest checkpoint"] = max(checkpoint_steps(as_path(workdir) / "checkpoints"), default=0)
    check_same("command", mine)


def check_same_data(source: Source, info: DataInfo) -> None:
    """Checks that all processes have the same training split: size, classes, a sample of names.

    Raises:
      ConfigError: a process differs; raised on all of them.
    """
    sample = np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).astype(int)
    names = hashlib.sha256(repr([source.name(int(i)) for i in sample]).encode())
    classes = hashlib.sha256(repr(info.class_names).encode())
    mine = {
        "number of examples": len(source),
        "number of classes": len(info.class_names),
        "names of classes (digest)": classes.hexdigest()[:12],
        "examples per class": info.class_counts if len(info.class_counts) <= 20 else "",
        "names of examples (digest)": names.hexdigest()[:12],
    }
    check_same("training data", mine)


def warn_of_smoothing(config: ConfigDict) -> None:
    """Logs that labels are smoothed twice: by batch transforms and by the loss, or by two of them.

    The targets (1 - a) y + a / K of one are smoothed again by b of the other: by
    1 - (1 - a) (1 - b) together.
    """
    key = "config.data.batch_transform"
    smoothing = [
        (key, eps)
        for name, args, options in spec.calls(config.data.batch_transform, key)
        if name == "label_smoothing"
        for eps in (*args, *options.values())
    ]
    if config.objective.get("label_smoothing"):
        smoothing.append(("config.objective.label_smoothing", config.objective.label_smoothing))
    if len(smoothing) > 1:
        together = 1 - math.prod(1 - eps for _, eps in smoothing)
        parts = ", ".join(f"by {eps:g} in {where}" for where, eps in smoothing)
        log.info(f"labels are smoothed {len(smoothing)} times: {parts}; together by {together:.3g}")


def check_same_run(config: ConfigDict, workdir: str, accept_changes: bool) -> None:
    """Checks that the newest checkpoint of a workdir has this config.

    Raises:
      ConfigError: the config differs; names every changed key.
    """
    newest = find_newest(workdir)
    if newest is None:
        return
    changed = config_lib.changed_keys(newest.read_meta()[0], config)
    serious = [key for key in changed if not defaults.is_harmless(key)]
    changes = "; ".join(f"{k} was {old!r}, is {new!r}" for k, (old, new) in changed.items())
    if serious and not accept_changes:
        raise ConfigError(
            f"{workdir} has a run with another config: {changes}. Choose a new --workdir, or "
            "add --accept_changes to continue with the new config"
        )
    if changed:
        log.info(f"the config changed: {changes}")
