"""The experiment's configuration: every key there is, its default, and what it means.

A config file is plain ml_collections: a function `get_config()` that returns the keys which the
experiment sets. `load` lays them over `default_config()`, `override` applies `--config.key=value`
arguments, and both name the key and its nearest valid neighbour where one is unknown.
"""

import ast
import inspect
import json
import math
import pathlib
import re
import runpy
from collections.abc import Iterable

from ml_collections import ConfigDict

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError, did_you_mean

# Sections whose keys belong to what they configure (a model's options, an evaluator's): what is
# configured checks them itself.
OPEN_SECTIONS = ("model", "objective", "evaluators")


def load(path: str) -> ConfigDict:
    """The config of a file, `'configs/vit.py'` or with arguments `'configs/vit.py:variant=S/16'`.

    Arguments are passed to `get_config` by name, as numbers where they read as numbers.

    Raises:
      ConfigError: no such file, a file that fails, an unknown key or a wrong type.
    """
    name, _, arguments = path.partition(":")
    file = find_recipe(name)
    if file is None:
        raise ConfigError(f"--config={path}: no such file or recipe{_nearest_recipe(name)}")
    try:
        module = runpy.run_path(str(file))
    except Exception as e:
        raise ConfigError(f"--config={path}: {file} fails: {type(e).__name__}: {e}") from e
    if "get_config" not in module:
        raise ConfigError(f"--config={path}: {file} defines no get_config()")
    get_config = module["get_config"]
    given = dict(_split_argument(a, path) for a in arguments.split(",") if a)
    for name in given:
        valid = list(inspect.signature(get_config).parameters)
        if name not in valid:
            raise ConfigError(
                f"--config={path}: unknown argument {name!r}{did_you_mean(name, valid)}"
            )
    try:
        config = get_config(**given)
    except Exception as e:
        raise ConfigError(f"--config={path}: get_config fails: {type(e).__name__}: {e}") from e
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"--config={path}: get_config() returns no ConfigDict: {config!r}")
    return merge(default_config(), config)


def merge(base: ConfigDict, changes: ConfigDict, where: str = "config") -> ConfigDict:
    """`base` with the keys of `changes` laid over it, in place.

    Raises:
      ConfigError: a key that `base` has not, or a value of another type, by its full path.
    """
    for key, value in changes.items():
        path = f"{where}.{key}"
        if isinstance(value, (ConfigDict, dict)) and isinstance(base.get(key), ConfigDict):
            merge(base[key], ConfigDict(value), path)
        else:
            _set(base, key, value, path)
    return base


def override(config: ConfigDict, arguments: Iterable[str]) -> ConfigDict:
    """`config` with `--config.section.key=value` arguments applied, in place.

    Raises:
      ConfigError: an argument of another form, an unknown key or a value of the wrong type.
    """
    for argument in arguments:
        match = re.fullmatch(r"--config\.([\w.]+)=(.*)", argument, re.DOTALL)
        if not match:
            raise ConfigError(f"{argument}: not understood; overrides are --config.KEY=VALUE")
        path, text = match.groups()
        *sections, key = path.split(".")
        section = config
        for depth, name in enumerate(sections):
            here = ".".join(["config", *sections[:depth]])
            if name not in section and sections[0] in OPEN_SECTIONS:
                section[name] = ConfigDict()
            if not isinstance(section.get(name), ConfigDict):
                raise ConfigError(
                    f"{here} has no section {name!r}{did_you_mean(name, section.keys())}"
                )
            section = section[name]
        value = _read_value(section, key, text)
        if isinstance(value, dict) and isinstance(section.get(key), ConfigDict):
            merge(section[key], ConfigDict(value), f"config.{path}")
        else:
            _set(section, key, value, f"config.{path}")
    return config


def check_choice(where: str, value, valid: Iterable[str]) -> None:
    """Raises a ConfigError with the nearest neighbour unless `value` is one of `valid`."""
    valid = list(valid)
    if value not in valid:
        raise ConfigError(
            f"config.{where}={value!r}: unknown{did_you_mean(value, valid)}; "
            f"valid: {', '.join(valid)}"
        )


def changed_keys(old: ConfigDict, new: ConfigDict) -> dict[str, tuple]:
    """The keys whose values differ, as `{'optim.learning_rate': (old, new)}`; None where absent."""
    before, after = leaves(old), leaves(new)
    keys = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    return {k: (before.get(k), after.get(k)) for k in keys}


def to_json(config: ConfigDict) -> str:
    """The config as JSON text, sorted and indented."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True, default=str)


def from_json(text: str) -> ConfigDict:
    """The config that `to_json` wrote, laid over today's defaults."""
    return merge(default_config(), ConfigDict(json.loads(text)))


def _set(section: ConfigDict, key: str, value, path: str) -> None:
    if key not in section and path.split(".")[1] not in OPEN_SECTIONS:
        raise ConfigError(f"{path}: unknown key{did_you_mean(key, section.keys())}")
    value = _tuples(value)
    if isinstance(section.get(key), ConfigDict) and not isinstance(value, ConfigDict):
        raise ConfigError(f"{path}={value!r}: is a section; set one of its keys")
    expected = section.get_type(key) if key in section else object
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if value is not None and expected not in (object, type(None)):
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            raise ConfigError(f"{path}={value!r}: must be of type {expected.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path}={value!r}: must be a finite number")
    if value is None and section.get(key) is not None and path.split(".")[1] not in OPEN_SECTIONS:
        if key not in _optional_keys():
            raise ConfigError(f"{path}: must be of type {expected.__name__}, not None")
    section[key] = value


def _optional_keys() -> set[str]:
    return {k.rsplit(".", 1)[-1] for k, v in leaves(default_config()).items() if v is None}


def _read_value(section: ConfigDict, key: str, text: str):
    """A command-line value: a Python literal, or text where a text is expected or nothing else."""
    if key in section and section.get_type(key) is str:
        return None if text == "None" else text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return {"true": True, "false": False}.get(text, text)


def _tuples(value):
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(v) for v in value)
    return ConfigDict(value) if isinstance(value, dict) else value


def leaves(config: ConfigDict, prefix: str = "") -> dict:
    """`{'optim.learning_rate': value}` of every key that is no section."""
    found = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict) and len(value):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _split_argument(argument: str, path: str) -> tuple[str, object]:
    name, equals, text = argument.partition("=")
    if not equals:
        raise ConfigError(f"--config={path}: arguments are written name=value, not {argument!r}")
    try:
        return name, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return name, text


def recipes() -> dict[str, pathlib.Path]:
    """The recipes that come with the package, by name."""
    package = pathlib.Path(__file__).parents[1]
    # Installed, they are a package of it; a checkout has them beside it.
    folders = (package / "recipes", package.parent / "configs")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {file.stem: file for file in sorted(folder.glob("*.py"))}


def find_recipe(name: str) -> pathlib.Path | None:
    """The config file of that path, or else the shipped recipe of that name; None if neither is."""
    file = pathlib.Path(name)
    return file if file.is_file() else recipes().get(name)


def _nearest_recipe(name: str) -> str:
    folder = pathlib.Path(name).parent
    if folder != pathlib.Path() and folder.is_dir():
        return did_you_mean(name, map(str, folder.glob("*.py")))
    files = [str(file) for file in pathlib.Path().glob("*.py")]
    return did_you_mean(name, [*recipes(), *files])
