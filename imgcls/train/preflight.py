"""Checks at the start of a run: its config, its workdir, and that all processes are the same.

Processes that were started differently would wait for each other forever.
"""

import hashlib
import json
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
from imgcls.distributed import sharding
from imgcls.distributed.processes import check_same
from imgcls.runs.checksums import checkpoint_steps
from imgcls.runs.load import find_newest
from imgcls.runs.metrics_log import check_wandb
from imgcls.runs.profile import check_profile
from imgcls.train.nonfinite import check_guard

PACKAGES = ("jax", "jaxlib")
# Keys that say how one machine works; the run does not depend on them.
LOCAL_KEYS = ("data.dir", "data.threads", "data.workers", "data.cache_gb", "compile_cache")
# Examples whose names are compared.
SAMPLE = 1000


def check_start(config: ConfigDict, workdir: str, accept_changes: bool) -> Mesh:
    """Checks all that can be checked without the data; returns the mesh of the config.

    Args:
      config, workdir, accept_changes: arguments of `train`.

    Raises:
      ConfigError: a setting that can't work, another run's workdir, or processes that differ.
    """
    check_same_command(config, workdir, accept_changes)
    mesh = sharding.create_mesh(config)
    sharding.check_batch(config, mesh)
    check_wandb(config)
    check_guard(config)
    check_profile(config)
    check_same_run(config, workdir, accept_changes)
    return mesh


def check_same_command(config: ConfigDict, workdir: str, accept_changes: bool) -> None:
    """Checks that all processes have the same command, code and newest checkpoint.

    Raises:
      ConfigError: on every process, if one differs.
    """
    settings = config_lib.leaves(ConfigDict(json.loads(config_lib.to_json(config))))
    mine = {f"config.{k}": v for k, v in settings.items() if k not in LOCAL_KEYS}
    mine |= {f"version of {name}": metadata.version(name) for name in PACKAGES}
    mine |= {
        "source of imgcls": source_digest()[:12],
        "source of plugins": plugins_digest(config)[:12],
        "--accept_changes": accept_changes,
    }
    # If processes do not share the workdir, only some of them see the checkpoints.
    mine["newest checkpoint"] = max(checkpoint_steps(as_path(workdir) / "checkpoints"), default=0)
    check_same("command", mine)


def check_same_data(source: Source, info: DataInfo) -> None:
    """Checks that all processes have the same training split: length, classes, a sample of names.

    Raises:
      ConfigError: on every process, if one differs.
    """
    picked = np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).astype(int)
    names = hashlib.sha256(repr([source.name(int(i)) for i in picked]).encode())
    classes = hashlib.sha256(repr(info.class_names).encode())
    mine = {
        "number of examples": len(source),
        "number of classes": len(info.class_names),
        "names of classes (digest)": classes.hexdigest()[:12],
        "examples per class": info.class_counts if len(info.class_counts) <= 20 else "",
        "names of examples (digest)": names.hexdigest()[:12],
    }
    check_same("training data", mine)


def check_same_run(config: ConfigDict, workdir: str, accept_changes: bool) -> None:
    """Checks that the newest checkpoint of a workdir has this config.

    Raises:
      ConfigError: it has another one; names every key that changed.
    """
    newest = find_newest(workdir)
    if newest is None:
        return
    changed = config_lib.changed_keys(newest.read_meta()[0], config)
    serious = [key for key in changed if not defaults.is_harmless(key)]
    told = "; ".join(f"{k} was {changed[k][0]!r}, is {changed[k][1]!r}" for k in changed)
    if serious and not accept_changes:
        raise ConfigError(
            f"{workdir} holds a run of another config: {told}. Choose a new --workdir, or add "
            "--accept_changes to continue it so"
        )
    if changed:
        log.info(f"the config changed: {told}")
