"""Loads, merges and compares the configs of experiments.

A config file is plain ml_collections: its function `get_config()` returns the keys that the
experiment sets. `load` merges them into `default_config()`, and `override` applies
`--config.key=value` arguments. For an unknown key, both suggest the nearest valid one.
"""

import ast
import inspect
import json
import math
import os
import pathlib
import re
import runpy
from collections.abc import Callable, Iterable, Mapping

from ml_collections import ConfigDict

from imgcls.core import log
from imgcls.core.defaults import KEPT_KEYS, default_config
from imgcls.core.errors import ConfigError, did_you_mean

# Sections that also hold options of what they configure, such as those of a model, which checks
# them itself.
OPEN_SECTIONS = ("model", "objective", "evaluators")
# What `read_config` takes.
Config = str | os.PathLike | ConfigDict | Mapping


def load(path: str) -> ConfigDict:
    """Loads a config file: `'configs/vit.py'`, or `'configs/vit.py:variant=S/16'` with arguments.

    Arguments are passed to `get_config` by name, as Python literals where possible.

    Raises:
      ConfigError: the file is missing or fails, or has an unknown key or a value of the wrong type.
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
    keywords = _read_arguments(arguments, path)
    _check_arguments(keywords, get_config, path)
    try:
        config = get_config(**keywords)
    except ConfigError as e:
        raise ConfigError(f"--config={path}: {e}") from e
    except Exception as e:
        raise ConfigError(f"--config={path}: get_config fails: {type(e).__name__}: {e}") from e
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"--config={path}: get_config() must return a ConfigDict, not {config!r}")
    return merge(default_config(), config)


def read_config(config: Config) -> ConfigDict:
    """The complete config of a path, a recipe's name, a ConfigDict or a dict.

    Raises:
      ConfigError: the file is missing or fails, or has an unknown key or a value of the wrong type.
    """
    if isinstance(config, str | os.PathLike):
        return load(os.fspath(config))
    if isinstance(config, ConfigDict | Mapping):
        values = config if isinstance(config, ConfigDict) else ConfigDict(dict(config))
        return merge(default_config(), values)
    raise ConfigError(
        f"config is a {type(config).__name__}; pass a path, a recipe's name, a ConfigDict or a dict"
    )


def merge(base: ConfigDict, changes: ConfigDict, where: str = "config") -> ConfigDict:
    """Merges `changes` into `base` in place, and returns `base`.

    Raises:
      ConfigError: a key that is not in `base`, or a value of another type; names its full path.
    """
    for key, value in changes.items():
        path = f"{where}.{key}"
        if isinstance(value, (ConfigDict, dict)) and isinstance(base.get(key), ConfigDict):
            merge(base[key], ConfigDict(value), path)
        else:
            _set(base, key, value, path)
    return base


def override(config: ConfigDict, arguments: Iterable[str]) -> ConfigDict:
    """Applies `--config.section.key=value` arguments to `config` in place, and returns it.

    In an open section, `{}` empties a section: `--config.evaluators={}` leaves none, and
    `--config.model={}` the default model. None removes an evaluator (and `keep_best` with it, which
    is warned of), or all.

    Raises:
      ConfigError: an argument of another form, an unknown key or a value of the wrong type.
    """
    evaluators = set(config.evaluators)
    for argument in arguments:
        match = re.fullmatch(r"--config\.([\w.]+)=(.*)", argument, re.DOTALL)
        if not match:
            raise ConfigError(f"{argument}: not understood; overrides are --config.KEY=VALUE")
        path, text = match.groups()
        section, key = _find_section(config, path)
        _assign(section, key, _read_value(section, key, text), f"config.{path}")
    return _drop_best_of_removed(config, evaluators)


def assign(config: ConfigDict, values: Mapping[str, object]) -> ConfigDict:
    """Sets keys of `config` in place, and returns it: `override` with values in place of text.

    Args:
      config: merged config.
      values: `{'optim.learning_rate': 1e-3, 'evaluators.val': None}`.

    Raises:
      ConfigError: an unknown key or a value of the wrong type.
    """
    evaluators = set(config.evaluators)
    for path, value in values.items():
        section, key = _find_section(config, path)
        _assign(section, key, value, f"config.{path}")
    return _drop_best_of_removed(config, evaluators)


def _find_section(config: ConfigDict, path: str) -> tuple[ConfigDict, str]:
    """The section that holds a key, and the key's name in it."""
    *sections, key = path.split(".")
    section = config
    for depth, name in enumerate(sections):
        here = ".".join(["config", *sections[:depth]])
        if name not in section and sections[0] in OPEN_SECTIONS:
            section[name] = ConfigDict()
        if not isinstance(section.get(name), ConfigDict):
            raise ConfigError(f"{here} has no section {name!r}{did_you_mean(name, section.keys())}")
        section = section[name]
    return section, key


def _assign(section: ConfigDict, key: str, value, path: str) -> None:
    """Sets a key, empties a section, or merges into it."""
    if value == {} and isinstance(section.get(key), ConfigDict):
        _empty(section, key, path)
    elif isinstance(value, dict) and isinstance(section.get(key), ConfigDict):
        merge(section[key], ConfigDict(value), path)
    else:
        _set(section, key, value, path)


def _drop_best_of_removed(config: ConfigDict, evaluators: set[str]) -> ConfigDict:
    """Sets `keep_best` to None, with a warning, if its evaluator was removed."""
    best = config.checkpoint.keep_best
    if best is not None and best.split("/")[0] in evaluators - set(config.evaluators):
        log.warning(f"config.checkpoint.keep_best={best!r} is off, as its evaluator is")
        config.checkpoint.keep_best = None
    return config


def check_choice(where: str, value, valid: Iterable[str]) -> None:
    """Raises a ConfigError that suggests the nearest choice unless `value` is one of `valid`."""
    valid = list(valid)
    if value not in valid:
        raise ConfigError(
            f"config.{where}={value!r}: unknown{did_you_mean(value, valid)}; "
            f"valid: {', '.join(valid)}"
        )


def changed_keys(old: ConfigDict, new: ConfigDict) -> dict[str, tuple]:
    """Keys whose values differ: `{'optim.learning_rate': (old, new)}`; None if a key is absent."""
    before, after = leaves(old), leaves(new)
    keys = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    return {k: (before.get(k), after.get(k)) for k in keys}


def to_json(config: ConfigDict) -> str:
    """The config as JSON text, sorted and indented."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True, default=str)


def from_json(text: str) -> ConfigDict:
    """The config that `to_json` wrote; keys that it lacks get their defaults.

    If a run without the key did otherwise, they get what it did: see `defaults.KEPT_KEYS`.
    """
    base = default_config()
    base.update_from_flattened_dict({key: before for key, (before, _) in KEPT_KEYS.items()})
    return merge(base, ConfigDict(json.loads(text)))


def _set(section: ConfigDict, key: str, value, path: str) -> None:
    if key not in section and path.split(".")[1] not in OPEN_SECTIONS:
        raise ConfigError(f"{path}: unknown key{did_you_mean(key, section.keys())}")
    value = _tuples(value)
    if value is None and re.fullmatch(r"config\.evaluators(\.[^.]+)?", path):
        _remove_evaluators(section, key)
        return
    if isinstance(section.get(key), ConfigDict) and not isinstance(value, ConfigDict):
        # An option whose value is a dict, such as the class weights of an objective.
        if value is not None or path.split(".")[1] not in OPEN_SECTIONS or path.count(".") < 2:
            raise ConfigError(f"{path}={value!r}: is a section; set one of its keys")
        del section[key]
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


def _remove_evaluators(section: ConfigDict, key: str) -> None:
    """Removes one evaluator, or all if the key is that of their section."""
    if key == "evaluators" and isinstance(section.get(key), ConfigDict):
        section[key] = ConfigDict()
    elif key in section:
        del section[key]


def _empty(section: ConfigDict, key: str, path: str) -> None:
    """Empties a section of an open section; an open section itself gets its default.

    Raises:
      ConfigError: the keys of the section are fixed.
    """
    _, name, *inner = path.split(".")
    if name not in OPEN_SECTIONS:
        raise ConfigError(f"{path}={{}}: sets no key; leave it out, or set one of its keys")
    section[key] = ConfigDict() if inner else default_config()[name]


def _optional_keys() -> set[str]:
    return {k.rsplit(".", 1)[-1] for k, v in leaves(default_config()).items() if v is None}


def _read_value(section: ConfigDict, key: str, text: str):
    """A command-line value: text for a key of type str or if it is not a Python literal."""
    if key in section and section.get_type(key) is str:
        return None if text == "None" else text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return {"true": True, "false": False}.get(text, text)


def _tuples(value):
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(v) for v in value)
    if isinstance(value, (dict, ConfigDict)):
        return ConfigDict({key: _tuples(inner) for key, inner in value.items()})
    return value


def leaves(config: ConfigDict, prefix: str = "") -> dict:
    """`{'optim.learning_rate': value}` of all keys that are not sections."""
    values = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict) and len(value):
            values |= leaves(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = value
    return values


# A value ends before the next `,name=`, so that it may hold commas; or it is in quotes.
_ARGUMENT = re.compile(r"""(\w+)=('[^']*'(?=,|$)|"[^"]*"(?=,|$)|.*?(?=,\w+=|,?$)),?""", re.DOTALL)


def _read_arguments(text: str, path: str) -> dict[str, object]:
    """Reads `name=value,name=value`; values are Python literals where possible, else text."""
    found: dict[str, object] = {}
    while text:
        match = _ARGUMENT.match(text)
        if match is None:
            word = text.split(",")[0]
            raise ConfigError(f"--config={path}: arguments are written name=value, not {word!r}")
        name, value = match.groups()
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
        text = text[match.end() :]
    return found


def _check_arguments(keywords: dict[str, object], get_config: Callable, path: str) -> None:
    """Raises an error at an unknown argument, a missing one, or text in place of a number."""
    parameters = inspect.signature(get_config).parameters
    for name, value in keywords.items():
        if name not in parameters:
            raise ConfigError(
                f"--config={path}: unknown argument {name!r}{did_you_mean(name, parameters)}"
            )
        expected = parameters[name].annotation
        if expected in (int, float) and isinstance(value, str):
            raise ConfigError(
                f"--config={path}: {name}={value!r}: must be of type {expected.__name__}"
            )
    for name, parameter in parameters.items():
        if name not in keywords and parameter.default is parameter.empty:
            about = re.search(rf"^\s*{name}: (.*?)\.?$", get_config.__doc__ or "", re.MULTILINE)
            file = path.partition(":")[0]
            raise ConfigError(
                f"--config={path}: needs the argument {name}{f' ({about[1]})' if about else ''}; "
                f"write --config={file}:{name}=VALUE"
            )


def recipes() -> dict[str, pathlib.Path]:
    """Config files of the recipes that come with the package, by name."""
    package = pathlib.Path(__file__).parents[1]
    # Inside the installed package, but next to it in a checkout.
    folders = (package / "recipes", package.parent / "configs")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {file.stem: file for file in sorted(folder.glob("*.py"))}


def find_recipe(name: str) -> pathlib.Path | None:
    """The config file at the path `name`, else the recipe of that name, else None."""
    file = pathlib.Path(name)
    return file if file.is_file() else recipes().get(name)


def _nearest_recipe(name: str) -> str:
    folder = pathlib.Path(name).parent
    if folder != pathlib.Path() and folder.is_dir():
        return did_you_mean(name, map(str, folder.glob("*.py")))
    files = [str(file) for file in pathlib.Path().glob("*.py")]
    return did_you_mean(name, [*recipes(), *files])
