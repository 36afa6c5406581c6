"""Plugins: modules from outside the package that register models, losses, sources and so on.

`config.plugins` lists them, as files or as modules: `("/my/losses.py", "my_package.models")`. They
are imported before any name is looked up. Checkpoints record the list, so that `evaluate`,
`predict` and `report` import them too.
"""

import hashlib
import importlib
import importlib.util
import pathlib
import sys
from types import ModuleType

from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError, one_line


def load_plugins(config: ConfigDict) -> None:
    """Imports each module of `config.plugins` once, and makes the paths of files absolute.

    Raises:
      ConfigError: a plugin that is missing or fails.
    """
    plugins = tuple(map(_resolve, config.plugins))
    for plugin in plugins:
        load_plugin(plugin)
    config.plugins = plugins


def load_plugin(plugin: str) -> ModuleType:
    """Imports one plugin.

    Args:
      plugin: path of a Python file, or name of a module.

    Raises:
      ConfigError: the plugin is missing or fails.
    """
    try:
        if _is_file(plugin):
            return _import_file(_resolve(plugin))
        return importlib.import_module(plugin)
    except ConfigError:
        raise
    except Exception as e:  # Plugins may raise anything.
        missing = isinstance(e, ModuleNotFoundError) and plugin.startswith(e.name or "\0")
        what = "no such module" if missing else f"fails: {type(e).__name__}: {one_line(e)}"
        raise ConfigError(f"config.plugins: {plugin}: {what}") from e


def plugins_digest(config: ConfigDict) -> str:
    """SHA-256 of the source files of the plugins, in hexadecimal."""
    digest = hashlib.sha256()
    for plugin in config.plugins:
        file = load_plugin(plugin).__file__
        digest.update(pathlib.Path(file).read_bytes() if file else plugin.encode())
    return digest.hexdigest()


def _is_file(plugin: str) -> bool:
    return plugin.endswith(".py")


def _resolve(plugin: str) -> str:
    return str(pathlib.Path(plugin).expanduser().absolute()) if _is_file(plugin) else plugin


def _import_file(path: str) -> ModuleType:
    # Named after the full path: files of the same name in two folders are two modules.
    digest = hashlib.sha256(path.encode()).hexdigest()[:8]
    name = f"imgcls_plugin_{pathlib.Path(path).stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    if not pathlib.Path(path).is_file():
        raise ConfigError(f"config.plugins: {path}: no such file; restore it, or change this key")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # Always set for a .py file.
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _pickle_by_value(module)
    return module


def _pickle_by_value(module: ModuleType) -> None:
    """Has objects of a plugin pickled by value, as worker processes don't import plugins."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(module)
