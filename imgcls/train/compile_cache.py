"""Compiled programs kept on disk, so that the next start of a run neither traces nor compiles.

JAX's compile cache goes by the traced program, and tracing a deep network takes seconds of Python.
Here the key is all that a program is made from: the config, what is known of the data, this
package's source, the versions, the devices, JAX's own settings and the arguments' shapes. Whatever
is not found here, or can't be read, is traced as ever, and JAX's cache then saves the compiler's
work alone.

A compiled program is code that runs as whoever starts it, and it is unpickled, which runs code too.
So the compile cache is read and written only while nobody but its user can have put anything there:
the folders and files belong to the user, and neither group nor others may write to them. A folder
that is made here is open to the user alone. This is the only place where anything is unpickled that
came from a disk (Grain's workers exchange pickles with their own parent process alone).
"""

import contextlib
import hashlib
import json
import os
import pathlib
import pickle
import platform
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core import log
from imgcls.core.plugins import plugins_digest
from imgcls.core.source_digest import source_digest

# Sections that no compiled program depends on.
OUTSIDE = ("log", "checkpoint", "evaluators", "compile_cache")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
# Settings of JAX that name places or say what is logged.
PLACES = ("jax_compilation_cache_dir", "jax_log_compiles", "jax_explain_cache_misses")
# How many programs are kept; a run has two.
KEEP = 64
# How many programs this thread took from JAX's cache.
_cache = threading.local()


def _count_hits(event: str, **_) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _cache.hits = getattr(_cache, "hits", 0) + 1


jax.monitoring.register_event_listener(_count_hits)


def use_compile_cache(config: ConfigDict) -> None:
    """Keeps compiled programs in `config.compile_cache`, also those that take little time.

    A folder that others may write to is not used, and named in the log.
    """
    if config.compile_cache and _make_private(folder := _cache_folder(config)):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


class Programs:
    """The compiled programs of a run.

    Args:
      config: the run's; programs are kept in the folder `programs` of `config.compile_cache`.
      data_info: the data's classes and shape.
      objective: of the config. One from outside this package is not kept, as its source is not
        known here; nor are programs of many processes.
      mesh: of the run; every program runs on all of its devices.
    """

    def __init__(self, config: ConfigDict, data_info, objective, mesh: Mesh):
        self._devices = list(mesh.devices.flat)
        parts = (type(objective), type(objective.model))
        ours = all(part.__module__.split(".")[0] == __name__.split(".")[0] for part in parts)
        self._folder = self._origin = None
        if config.compile_cache and ours and jax.process_count() == 1:
            self._folder = _cache_folder(config) / "programs"
            self._origin = _origin(config, data_info, mesh)

    def compile(self, name: str, fn: Callable, *args) -> Callable:
        """The program of a jitted function for arguments like these.

        Args:
          name: of the function among the run's.
          fn: made by `jax.jit`, for the mesh.
          *args: arrays, or ShapeDtypeStructs that say where arrays will be.
        """
        if self._folder is None:
            return fn.lower(*args).compile()
        path = self._folder / f"{name}-{self._key(name, args)}"
        if not (_make_private(self._folder.parent) and _make_private(self._folder)):
            return fn.lower(*args).compile()
        try:
            _check_private(path)
            os.utime(path)
            payload, trees = pickle.loads(zlib.decompress(path.read_bytes()))
            return serialize_executable.deserialize_and_load(
                payload, *trees, execution_devices=self._devices
            )
        except FileNotFoundError:
            pass
        except Exception as e:  # Whatever is wrong with a file, the program can be made anew.
            log.warning(f"{path} is not used: {e}")
            with contextlib.suppress(OSError):
                path.unlink()
        _cache.hits = 0
        compiled = fn.lower(*args).compile()
        # On a CPU, what JAX took from its own cache can't be written again: functions would lack.
        if not _cache.hits:
            self._keep(path, compiled)
        return compiled

    def _key(self, name: str, args: tuple) -> str:
        leaves, tree = jax.tree.flatten(args)
        specs = [(x.shape, str(x.dtype), str(getattr(x, "sharding", None))) for x in leaves]
        return hashlib.sha256(repr((self._origin, name, str(tree), specs)).encode()).hexdigest()

    def _keep(self, path: pathlib.Path, compiled) -> None:
        """Writes a program whole or not at all, and takes out those not used for longest."""
        try:
            payload, *trees = serialize_executable.serialize(compiled)
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            partial.write_bytes(zlib.compress(pickle.dumps((payload, trees)), level=1))
            partial.chmod(0o600)
            os.replace(partial, path)
            # Another run, or this one's other thread, may be writing too.
            whole = (p for p in path.parent.iterdir() if p.suffix != ".partial")
            for old in sorted(whole, key=lambda p: p.stat().st_mtime)[:-KEEP]:
                old.unlink(missing_ok=True)
        except Exception as e:  # A full disk, or a backend that can't: the run goes on without.
            log.warning(f"{path} is not kept: {e}")


def _cache_folder(config: ConfigDict) -> pathlib.Path:
    return pathlib.Path(config.compile_cache).expanduser()


def _make_private(folder: pathlib.Path) -> bool:
    """Makes a folder that only its user opens; whether it can be trusted, which the log says."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _check_private(folder)
        return True
    except OSError as e:
        log.warning(f"compiled programs are not kept: {e}")
        return False


def _check_private(path: pathlib.Path) -> None:
    """Raises an OSError unless a file or folder is the user's, and nobody else may change it."""
    about = path.stat()
    if about.st_uid != os.geteuid():
        raise PermissionError(
            f"{path} belongs to another user; name a config.compile_cache of yours"
        )
    if about.st_mode & 0o022:
        raise PermissionError(f"{path} may be changed by others; run `chmod go-w {path}`")


def in_background(fn: Callable[[], Any]) -> Future:
    """What `fn` returns, or raises, from a thread of its own."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(fn)
    finally:
        pool.shutdown(wait=False)


def _origin(config: ConfigDict, data_info, mesh: Mesh) -> str:
    """All that a run's programs are made from, except the shapes of their arguments."""
    settings = {k: v for k, v in json.loads(config_lib.to_json(config)).items() if k not in OUTSIDE}
    environment = [os.environ.get(key) for key in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    flags = sorted((k, repr(v)) for k, v in jax.config.values.items() if k not in PLACES)
    versions = [platform.python_version(), *map(metadata.version, PACKAGES)]
    made_of = (settings, data_info, environment, flags, versions)
    return repr((*made_of, _machine(mesh), source_digest(), plugins_digest(config)))


def _machine(mesh: Mesh) -> list[str]:
    """The devices, and the instructions that this machine's processor knows."""
    devices = list(mesh.devices.flat)
    found = [f"{d.id} {d.device_kind}" for d in devices]
    found += [devices[0].client.platform_version, platform.machine(), platform.processor()]
    try:
        with open("/proc/cpuinfo") as lines:
            found += sorted({line for line in lines if line.startswith(("flags", "Features"))})
    except OSError:
        pass
    return found
