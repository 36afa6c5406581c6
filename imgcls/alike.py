"""Whether all processes of a run were started alike; otherwise they would wait for ever."""

import hashlib
import json
from importlib import metadata

import numpy as np
from ml_collections import ConfigDict

from imgcls import config as config_lib
from imgcls.data import DataInfo
from imgcls.data.sources import Source
from imgcls.processes import check_same
from imgcls.programs import source_digest
from imgcls.soundness import steps
from imgcls.workdir import as_path

PACKAGES = ("jax", "jaxlib")
# Keys that say how one machine works; the run does not depend on them.
LOCAL_KEYS = ("data.dir", "data.threads", "data.workers", "data.cache_gb", "compile_cache")
# Examples whose names are compared.
SAMPLE = 1000


def check_start(config: ConfigDict, workdir: str, accept_changes: bool) -> None:
    """Checks command, code and the place in the run.

    Raises:
      ConfigError: on every process, if one differs.
    """
    settings = config_lib.leaves(ConfigDict(json.loads(config_lib.to_json(config))))
    mine = {f"config.{k}": v for k, v in settings.items() if k not in LOCAL_KEYS}
    mine |= {f"version of {name}": metadata.version(name) for name in PACKAGES}
    mine |= {"source of imgcls": source_digest()[:12], "--accept_changes": accept_changes}
    mine["newest checkpoint"] = _newest(workdir)
    check_same("command", mine)


def check_data(source: Source, info: DataInfo) -> None:
    """Checks the training split by its length, its classes and a sample of its names.

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


def _newest(workdir: str) -> int:
    """Of a workdir that processes do not share, only some would see it."""
    return max(steps(as_path(workdir) / "checkpoints"), default=0)
