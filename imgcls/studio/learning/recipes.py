"""What may be trained from the page: the recipes of the package, their arguments and their keys."""

import ast
import functools
import pathlib
import re
from typing import Any

from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError, did_you_mean

# The studio sets these itself.
OWN_ARGUMENTS = ("data",)
OWN_KEYS = ("data.source", "data.dir", "data.multi_label")
# Keys that run code, send data elsewhere, or write to other directories.
_CLOSED_KEYS = ("plugins", "compile_cache", "log.wandb")
# `init_from` as `PROJECT:NAME`: weights that are downloaded or known by name, no path.
_NAMED_WEIGHTS = re.compile(r"(auto|timm:[\w.\-]+|)")
_KEY = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*")
_RUN = re.compile(r"run:(\d+)")


def list_recipes() -> list[dict[str, Any]]:
    """The recipes as `{"name", "about", "arguments"}`; an argument is a field of the form.

    A field is `{"key", "label", "kind": int | float | bool | choice | text, "default", "options",
    "required", "help"}`.
    """
    return [_describe(name) for name in config_lib.recipes()]


def list_keys() -> dict[str, Any]:
    """All keys of the config that may be set, with their defaults."""
    leaves = config_lib.leaves(default_config()).items()
    open_keys = {f"config.{key}": value for key, value in leaves if not _closed(key)}
    # An empty section is a ConfigDict, which JSON does not have.
    return {k: {} if isinstance(v, ConfigDict) else v for k, v in open_keys.items()}


def arguments_of(
    recipe: str,
    arguments: dict[str, Any],
    keys: dict[str, Any],
    source: dict[str, Any],
    allow_configs: bool = False,
    runs: pathlib.Path = pathlib.Path("runs"),
) -> list[str]:
    """The arguments of `python -m imgcls.main` for a recipe, checked.

    Args:
      recipe: name of a recipe; with `allow_configs` also the path of a config file.
      arguments: of the recipe's `get_config`.
      keys: of the config: `{"optim.learning_rate": 0.1}`, with or without `config.`; a text is read
        as on the command line.
      source: the data: `{"source": ..., "multi_label": ...}`, keys of `config.data`.
      allow_configs: whether a config file may be named by its path, and any key be set.
      runs: directory of the runs, for weights of a run: `run:12`.

    Raises:
      ConfigError: an unknown recipe, argument or key, or one that is not allowed.
    """
    path = None if recipe in config_lib.recipes() else _own_file(recipe, allow_configs)
    known = {field["key"]: field for field in _fields(path or config_lib.recipes()[recipe])}
    takes_data = "data" in known
    written = []
    for name, value in arguments.items():
        if name in OWN_ARGUMENTS:
            raise ConfigError(f"arguments.{name}: is the version that is trained on; leave it out")
        if name not in known:
            raise ConfigError(
                f"arguments.{name}: unknown{did_you_mean(name, known)}; {recipe} has "
                f"{', '.join(k for k in known if k not in OWN_ARGUMENTS) or 'none'}"
            )
        if value is not None and value != "":
            field, where = known[name], f"arguments.{name}"
            checked = _check_value(where, field, value, allow_configs, runs)
            written.append(f"{name}={_quote(checked)}")
    for name, field in known.items():
        if field["required"] and name not in OWN_ARGUMENTS and arguments.get(name) in (None, ""):
            raise ConfigError(f"arguments.{name}: is needed by {recipe}: {field['help']}")
    if takes_data:
        written.append(f"data={_quote(source['source'])}")
    name = str(path or recipe)
    overrides = _overrides(keys, allow_configs, runs)
    # Last, so that nothing else is trained on.
    overrides += [f"--config.data.{key}={value}" for key, value in source.items()]
    return [f"--config={name}{':' if written else ''}{','.join(written)}", *overrides]


def read_keys(text: str) -> dict[str, str]:
    """Keys from text, `config.KEY=VALUE` a line; lines that begin with `#` are comments.

    Raises:
      ConfigError: a line of another form.
    """
    keys = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip().removeprefix("--")
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise ConfigError(f"config, line {number}: {line!r}: write config.KEY=VALUE")
        keys[name.strip()] = value.strip()
    return keys


def _overrides(keys: dict[str, Any], allow_configs: bool, runs: pathlib.Path) -> list[str]:
    overrides = []
    for key, value in keys.items():
        key = key.removeprefix("config.")
        if key.rsplit(".", 1)[-1] == "init_from":
            value = _check_weights(f"config.{key}", value, allow_configs, runs)
        overrides.append(f"--config.{key}={value}")
    # Unknown keys and values of a wrong type are found before anything is started, and closed keys
    # in whatever form they are set: `log={'wandb': True}`.
    changed = config_lib.override(default_config(), overrides)
    for key in config_lib.changed_keys(default_config(), changed):
        if not _KEY.fullmatch(key):
            raise ConfigError(f"config.{key}: is no key; GET /api/recipes lists them")
        if key in OWN_KEYS:
            raise ConfigError(
                f"config.{key}: is set by the version that is trained on; leave it out"
            )
        if not allow_configs and _closed(key):
            raise ConfigError(
                f"config.{key}: can't be set from here; the owner may, with --allow_configs"
            )
    return overrides


def _closed(key: str) -> bool:
    return any(key == k or key.startswith(f"{k}.") for k in _CLOSED_KEYS)


def _check_value(
    where: str, field: dict[str, Any], value: Any, allow_configs: bool, runs: pathlib.Path
) -> Any:
    """The value of an argument, of its kind; text is read as on the command line."""
    name, kind, default = field["key"], field["kind"], field["default"]
    if name in ("init_from", "weights") and value != default:
        return _check_weights(where, value, allow_configs, runs)
    if kind in ("int", "float", "bool") and isinstance(value, str):
        try:
            value = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
        except (ValueError, SyntaxError):
            raise ConfigError(f"{where}={value!r}: must be of type {kind}") from None
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    types = {"int": int, "float": float, "bool": bool, "text": str, "choice": str}
    if not isinstance(value, types[kind]) or (kind != "bool" and isinstance(value, bool)):
        raise ConfigError(f"{where}={value!r}: must be of type {kind}")
    return value


def _check_weights(where: str, value: Any, allow_configs: bool, runs: pathlib.Path) -> str:
    """Weights to start from: of a name, or of a run of this home."""
    text = str(value)
    if match := _RUN.fullmatch(text):
        workdir = runs / match[1]
        if not workdir.is_dir():
            raise ConfigError(f"{where}={text}: there is no such run")
        return str(workdir)
    if allow_configs or _NAMED_WEIGHTS.fullmatch(text):
        return text
    raise ConfigError(
        f"{where}={text!r}: write timm:NAME, or run:NUMBER for a run of this home; the owner may "
        "name files, with --allow_configs"
    )


def _own_file(recipe: str, allow_configs: bool) -> pathlib.Path:
    """A config file that is named by its path."""
    if not allow_configs:
        near = did_you_mean(recipe, config_lib.recipes())
        raise ConfigError(f"recipe={recipe!r}: unknown{near or '; see GET /api/recipes'}")
    file = pathlib.Path(recipe).expanduser()
    if not file.is_absolute() or file.suffix != ".py" or not file.is_file():
        raise ConfigError(f"recipe={recipe!r}: no recipe, and no absolute path of a .py file")
    if ":" in str(file):
        raise ConfigError(f"recipe={recipe!r}: a config file's path may have no colon; rename it")
    return file


def _quote(value: Any) -> str:
    """A value as an argument of a recipe: `name=VALUE,...`."""
    if not isinstance(value, str):
        return repr(value)
    if "'" not in value:
        return f"'{value}'"
    if '"' in value:
        raise ConfigError(f"{value!r}: may not have both kinds of quotes")
    return f'"{value}"'


@functools.cache
def _describe(name: str) -> dict[str, Any]:
    file = config_lib.recipes()[name]
    about = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or name).split("\n")[0]
    fields = [field for field in _fields(file) if field["key"] not in OWN_ARGUMENTS]
    return {"name": name, "about": about, "arguments": fields}


@functools.cache
def _fields(file: pathlib.Path) -> list[dict[str, Any]]:
    """The arguments of a config file's `get_config`, read without running it."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as e:
        raise ConfigError(f"{file}: is not Python: {e}") from e
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    function = next((node for node in functions if node.name == "get_config"), None)
    if function is None:
        raise ConfigError(f"{file}: defines no get_config()")
    about = ast.get_docstring(function) or ""
    given = function.args.args
    defaults = [None] * (len(given) - len(function.args.defaults)) + [*function.args.defaults]
    return [_field(arg, value, about) for arg, value in zip(given, defaults, strict=True)]


def _field(arg: ast.arg, default: ast.expr | None, about: str) -> dict[str, Any]:
    annotation = ast.unparse(arg.annotation) if arg.annotation else "str"
    kinds = (kind for kind in ("int", "float", "bool") if re.search(rf"\b{kind}\b", annotation))
    found = re.search(rf"^{arg.arg}: (.*?)(?=^\w+: |\Z)", _arguments_text(about), re.M | re.S)
    return {
        "key": arg.arg,
        "label": arg.arg.replace("_", " "),
        "kind": next(kinds, "text"),
        "default": _literal(default),
        "options": [],
        "required": default is None,
        "help": " ".join(found[1].split()) if found else "",
    }


def _literal(default: ast.expr | None) -> Any:
    """The value of a default; None for one that is computed."""
    try:
        return None if default is None else ast.literal_eval(default)
    except ValueError:
        return None


def _arguments_text(about: str) -> str:
    """The section of the arguments of a docstring, without its indentation."""
    lines = about.partition("Args:\n")[2].split("\n\n")[0].splitlines()
    return "\n".join(line.removeprefix("  ") for line in lines)
