"""A cache of compiled programs on disk, so that a restarted run neither traces nor compiles.

JAX's own cache is keyed by the traced program, and tracing a deep network takes seconds of Python.
The key here is everything that determines a program: the config, the description of the data, the
source of this package, the versions, the devices, JAX's settings and the shapes of the arguments. A
program that is missing or unreadable is traced as usual, and JAX's cache may still save compiling.

Loading a program unpickles it and runs its code with the user's rights. Therefore the cache is used
only if nobody else can have written to it: its directories and files belong to the user, and
neither group nor others have write permission. Directories created here are accessible to the user
only. Nothing else in this package unpickles files (workers exchange pickles only with their
parent process).
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
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core import log
from imgcls.core.plugins import plugins_digest
from imgcls.core.source_digest import source_digest

# Sections of the config on which no compiled program depends.
IGNORED_SECTIONS = ("auto", "log", "checkpoint", "evaluators", "compile_cache")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
# Settings of JAX on which no compiled program depends.
IGNORED_FLAGS = ("jax_compilation_cache_dir", "jax_log_compiles", "jax_explain_cache_misses")
# Number of programs to keep; a run has two.
KEEP = 64


# JAX's own setting of the directory, such as JAX_COMPILATION_CACHE_DIR.
_jax_folder = jax.config.values.get("jax_compilation_cache_dir")


class _CacheHits(threading.local):
    """Number of programs that this thread took from JAX's cache."""

    count = 0


_cache_hits = _CacheHits()


def _count_hits(event: str, **_) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _cache_hits.count += 1


jax.monitoring.register_event_listener(_count_hits)


def use_compile_cache(config: ConfigDict) -> None:
    """Makes JAX cache all compiled programs in `config.compile_cache`, however fast they compile.

    If others can write to that directory, it is not used, with a warning. Without one JAX's own
    setting applies, also after a run of this process that had one.
    """
    folder = _jax_folder
    if config.compile_cache and _make_private(_cache_folder(config)):
        folder = str(_cache_folder(config))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    if folder != jax.config.values.get("jax_compilation_cache_dir"):
        jax.config.update("jax_compilation_cache_dir", folder)
        # JAX would go on with the directory that it has opened.
        compilation_cache.reset_cache()


class Programs:
    """Compiles the programs of a run, or loads them from `programs` in `config.compile_cache`.

    Programs of several processes are not cached, nor those of objectives or models from outside
    this package, whose source is not part of the key.

    Args:
      config: config of the run.
      data_info: description of the data.
      objective: objective of the run.
      mesh: device mesh of the run; programs run on all of its devices.
    """

    def __init__(self, config: ConfigDict, data_info, objective, mesh: Mesh):
        self._devices = list(mesh.devices.flat)
        parts = (type(objective), type(objective.model))
        ours = all(part.__module__.split(".")[0] == __name__.split(".")[0] for part in parts)
        self._folder = self._key_base = None
        if config.compile_cache and ours and jax.process_count() == 1:
            self._folder = _cache_folder(config) / "programs"
            self._key_base = _key_base(config, data_info, mesh)

    def compile(self, name: str, fn: Callable, *args) -> Callable:
        """Returns the compiled program of a jitted function.

        Args:
          name: name of the function, unique within the run.
          fn: result of `jax.jit`, for the mesh.
          *args: arguments: arrays, or ShapeDtypeStructs with shardings.
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
        except Exception as e:  # A damaged file may raise anything; the program is compiled again.
            log.warning(f"{path} is not used: {e}")
            with contextlib.suppress(OSError):
                path.unlink()
        _cache_hits.count = 0
        compiled = fn.lower(*args).compile()
        # On a CPU, a program from JAX's cache lacks functions when it is serialized again.
        if not _cache_hits.count:
            self._store(path, compiled)
        return compiled

    def _key(self, name: str, args: tuple) -> str:
        leaves, tree = jax.tree.flatten(args)
        specs = [(x.shape, str(x.dtype), str(_sharding_of(x))) for x in leaves]
        return hashlib.sha256(repr((self._key_base, name, str(tree), specs)).encode()).hexdigest()

    def _store(self, path: pathlib.Path, compiled) -> None:
        """Writes a program atomically, and deletes the least recently used ones."""
        try:
            payload, *trees = serialize_executable.serialize(compiled)
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            partial.write_bytes(zlib.compress(pickle.dumps((payload, trees)), level=1))
            partial.chmod(0o600)
            os.replace(partial, path)
            # Another run, or another thread of this one, may be writing too.
            complete = (p for p in path.parent.iterdir() if p.suffix != ".partial")
            for old in sorted(complete, key=lambda p: p.stat().st_mtime)[:-KEEP]:
                old.unlink(missing_ok=True)
        except Exception as e:  # A full disk, or a backend that can't serialize: not fatal.
            log.warning(f"{path} is not written: {e}")


def _sharding_of(x) -> jax.sharding.Sharding | None:
    """The sharding of an array or ShapeDtypeStruct; None for a NumPy array."""
    return x.sharding if isinstance(x, jax.Array | jax.ShapeDtypeStruct) else None


def _cache_folder(config: ConfigDict) -> pathlib.Path:
    return pathlib.Path(config.compile_cache).expanduser()


def _make_private(folder: pathlib.Path) -> bool:
    """Creates a directory for this user only; returns False, with a warning, if it is not safe."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _check_private(folder)
        return True
    except OSError as e:
        log.warning(f"compiled programs are not cached: {e}")
        return False


def _check_private(path: pathlib.Path) -> None:
    """Raises an OSError unless a path belongs to the user, and nobody else can write to it."""
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(
            f"{path} belongs to another user; set config.compile_cache to a directory of your own"
        )
    if status.st_mode & 0o022:
        raise PermissionError(f"{path} is writable by others; run `chmod go-w {path}`")


def in_background(fn: Callable[[], Any]) -> Future:
    """Runs `fn` in a new thread; the future has its result or exception."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(fn)
    finally:
        pool.shutdown(wait=False)


def _key_base(config: ConfigDict, data_info, mesh: Mesh) -> str:
    """Everything that determines the programs of a run, except the shapes of their arguments."""
    sections = json.loads(config_lib.to_json(config)).items()
    settings = {k: v for k, v in sections if k not in IGNORED_SECTIONS}
    environment = [os.environ.get(key) for key in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    flags = sorted((k, repr(v)) for k, v in jax.config.values.items() if k not in IGNORED_FLAGS)
    versions = [platform.python_version(), *map(metadata.version, PACKAGES)]
    sources = (source_digest(), plugins_digest(config))
    return repr((settings, data_info, environment, flags, versions, _machine(mesh), *sources))


def _machine(mesh: Mesh) -> list[str]:
    """The devices, and the instruction sets of this machine's CPU."""
    devices = list(mesh.devices.flat)
    parts = [f"{d.id} {d.device_kind}" for d in devices]
    parts += [devices[0].client.platform_version, platform.machine(), platform.processor()]
    try:
        with open("/proc/cpuinfo") as lines:
            parts += sorted({line for line in lines if line.startswith(("flags", "Features"))})
    except OSError:
        pass
    return parts
