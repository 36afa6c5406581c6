"""The experiment's configuration: every key there is, its default, and what it means.

A config file is plain ml_collections: a function `get_config()` that returns the keys which the
experiment sets. `load` lays them over `default_config()`, `override` applies `--config.key=value`
arguments, and both name the key and its nearest valid neighbour where one is unknown.
"""

import ast
import difflib
import inspect
import json
import math
import pathlib
import re
import runpy
from collections.abc import Iterable

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from imgcls.errors import ConfigError

# Sections whose keys belong to what they configure (a model's options, an evaluator's): what is
# configured checks them itself.
OPEN_SECTIONS = ("model", "objective", "evaluators")

# Keys that may change between a run and its continuation without changing its numbers.
HARMLESS_KEYS = (
    *("mesh", "log", "checkpoint", "evaluators", "guard", "processes", "compile_cache"),
    *("data.dir", "data.threads", "data.workers", "data.prefetch", "data.cache_gb"),
    *("data.device_resident", "data.max_skipped"),
)


def default_config() -> ConfigDict:
    """Every key with its default. Durations are strings: '90 epochs', '500 steps', '5 percent'."""
    c = ConfigDict()
    c.seed = 0
    c.total = "10 epochs"  # length of training
    c.batch_size = 128  # examples per step, over all devices and accumulated parts
    c.accumulate = 1  # parts that a batch is split into, one after the other
    c.ema = 0.0  # decay of an average of the parameters, evaluated beside them; 0 is none

    c.init_from = placeholder(str)  # weights to start from: imgcls/weights
    c.init_head = "auto"  # of them: auto (take a head that fits) | fresh | zero

    c.model = ConfigDict({"name": "resnet18", "dtype": "float32"})  # plus the model's own options
    c.objective = ConfigDict({"name": "supervised"})  # plus the objective's own options

    c.data = ConfigDict()
    c.data.source = "digits"  # KIND:PATH, such as folder:/my/pictures: imgcls/data/sources.py
    c.data.dir = placeholder(str)  # where TFDS data sets live, or the pictures that a file names
    c.data.train_split = "train"
    c.data.split_seed = 0  # of the stratified split of a source that has none of its own
    c.data.multi_label = placeholder(bool)  # any number of classes each; none: as the data says
    c.data.separator = "|"  # between the labels of one picture in a manifest
    c.data.sampling = "uniform"  # of training examples: uniform | balanced (every class as often)
    c.data.channels = 3
    c.data.train_transform = ""  # per example, on the host: imgcls/data/augment.py
    c.data.views = "one"  # pictures per example: one | two | pairs | triplets: imgcls/data/views.py
    c.data.train_transform2 = placeholder(str)  # of the other views; none: as of the first
    c.data.partners = "auto"  # who makes a pair or triplet: auto | label | instance
    c.data.eval_transform = ""
    c.data.batch_transform = ""  # per batch, on the device: imgcls/data/batch_transforms.py
    c.data.mean = (0.5, 0.5, 0.5)  # of the pixels, in 0..1
    c.data.std = (0.5, 0.5, 0.5)
    c.data.on_error = "fail"  # an unreadable record: fail | skip
    c.data.max_skipped = 0.05  # share of records passed over, above which the run ends
    c.data.threads = placeholder(int)  # that read and augment; none: one per CPU core
    c.data.workers = 0  # processes that read and augment, in place of threads
    c.data.cache_gb = 0.0  # of a split's files kept in memory, still encoded
    c.data.prefetch = 2  # batches kept ready on the device
    c.data.device_resident = False  # all training pictures live there: imgcls/data/resident.py

    c.optim = ConfigDict()
    c.optim.name = "sgd"  # sgd | adam | adamw | lamb | lars | rmsprop | muon
    c.optim.learning_rate = 0.1  # the peak
    c.optim.base_batch = placeholder(int)  # 256: learning_rate is per 256 examples of a batch
    c.optim.momentum = 0.9
    c.optim.nesterov = True
    c.optim.decay = 0.9  # rmsprop: of the mean square
    c.optim.b1 = 0.9
    c.optim.b2 = 0.999
    c.optim.eps = 1e-8
    c.optim.trust_coefficient = 0.001  # lars
    c.optim.weight_decay = 0.0
    c.optim.decay_exclude = r"bias|scale|pos_embed|cls_token|gamma"  # paths without weight decay
    c.optim.clip_norm = placeholder(float)  # of the whole gradient
    # ((regex, factor), ...) on the learning rate; 0 freezes, (regex, factor, duration) after it
    c.optim.multipliers = ()
    c.optim.muon = ConfigDict()
    c.optim.muon.momentum = 0.95
    c.optim.muon.steps = 5  # of the Newton-Schulz iteration
    c.optim.muon.exclude = r"head|pos_embed|cls_token"  # paths that are no hidden matrices
    c.optim.muon.rest = "adam"  # of these and of vectors, by its own keys: adam | sgd
    c.optim.muon.fixed_norm = False  # scale matrices to sqrt(outputs) before a step; no decay then
    c.optim.lookahead = ConfigDict()
    c.optim.lookahead.every = 0  # steps between two meetings with the slow parameters; 0 is none
    c.optim.lookahead.decay = 0.5  # what the slow ones keep of themselves then ...
    c.optim.lookahead.power = 0.0  # ... times (step / total) to this power

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"  # cosine | linear | step | rsqrt | constant
    c.schedule.warmup = "0 steps"
    c.schedule.final = 0.0  # last learning rate over the peak: cosine and linear
    c.schedule.boundaries = ()  # durations: step
    c.schedule.factor = 0.1  # step
    c.schedule.timescale = "10000 steps"  # rsqrt
    c.schedule.cooldown = "0 steps"  # rsqrt and constant: linearly to zero at the end

    c.mesh = ConfigDict()
    c.mesh.data = -1  # devices along each axis; -1 is all that are left
    c.mesh.fsdp = 1
    c.mesh.model = 1
    c.mesh.rules = ()  # ((regex, spec), ...) before those of imgcls/sharding.py

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_last = 2
    c.checkpoint.keep_best = placeholder(str)  # a metric, for example 'test/accuracy'
    c.checkpoint.on_error = "continue"  # one, or a log, that cannot be written: continue | stop

    c.guard = ConfigDict()  # a loss or gradient that is not finite: imgcls/guard.py
    c.guard.skip = 0  # updates in a row that are left out for it; with one more the run ends ...
    c.guard.rollback = False  # ... or goes back, once, to the last good checkpoint, on other data

    c.evaluators = ConfigDict()  # name -> {type, split, every, ...}: imgcls/evaluators

    c.log = ConfigDict()
    c.log.every = "50 steps"
    c.log.tensorboard = True
    c.log.wandb = False
    c.log.profile = ()  # (first, last) step of a profile, written to WORKDIR/profile

    c.processes = ConfigDict()  # of a run of many: imgcls/processes.py
    c.processes.timeout = 300.0  # seconds; one that is silent, or does not come, is lost after it
    c.processes.stall = 1800.0  # seconds; one hangs that makes no step so long while others wait

    c.compile_cache = "~/.cache/imgcls/xla"  # compiled programs; '' for none
    return c


def load(path: str) -> ConfigDict:
    """The config of a file, `'configs/vit.py'` or with arguments `'configs/vit.py:variant=S/16'`.

    Arguments are passed to `get_config` by name, as numbers where they read as numbers.

    Raises:
      ConfigError: no such file, a file that fails, an unknown key or a wrong type.
    """
    file, _, arguments = path.partition(":")
    if not pathlib.Path(file).is_file():
        raise ConfigError(f"--config={path}: no such file{_nearest_file(file)}")
    try:
        module = runpy.run_path(file)
    except Exception as e:
        raise ConfigError(f"--config={path}: {file} fails: {type(e).__name__}: {e}") from e
    if "get_config" not in module:
        raise ConfigError(f"--config={path}: {file} defines no get_config()")
    get_config = module["get_config"]
    given = dict(_split_argument(a, path) for a in arguments.split(",") if a)
    for name in given:
        valid = list(inspect.signature(get_config).parameters)
        if name not in valid:
            raise ConfigError(f"--config={path}: unknown argument {name!r}{_nearest(name, valid)}")
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
                raise ConfigError(f"{here} has no section {name!r}{_nearest(name, section.keys())}")
            section = section[name]
        value = _read_value(section, key, text)
        if isinstance(value, dict) and isinstance(section.get(key), ConfigDict):
            merge(section[key], ConfigDict(value), f"config.{path}")
        else:
            _set(section, key, value, f"config.{path}")
    return config


def steps(duration: str, config: ConfigDict, num_examples: int, where: str) -> int:
    """A duration in steps: the one rule for `total`, `warmup`, `every` and all the others.

    Args:
      duration: `'90 epochs'`, `'10_000 steps'`, `'1.28e6 examples'` or `'5 percent'` (of `total`).
      config: gives `batch_size` and, for percent, `total`.
      num_examples: of the training split; an epoch need not be a whole number of steps.
      where: the key, for the error.

    Raises:
      ConfigError: not a duration.
    """
    match = re.fullmatch(
        r"\s*([\d_.]+(?:e\d+)?)\s*(epoch|step|example|percent)s?\s*", str(duration)
    )
    try:
        number, unit = float(match[1]), match[2]
        int(number)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(
            f"config.{where}={duration!r}: not a duration; write '90 epochs', '500 steps', "
            "'1e6 examples' or '5 percent'"
        ) from None
    if unit == "percent":
        if where == "total":
            raise ConfigError(
                f"config.total={duration!r}: percent is of total; use epochs or steps"
            )
        number *= steps(config.total, config, num_examples, "total") / 100
    elif unit == "epoch":
        number *= num_examples / config.batch_size
    elif unit == "example":
        number /= config.batch_size
    # A duration that is not zero lasts at least a step.
    return max(round(number), int(number > 0))


def check_choice(where: str, value, valid: Iterable[str]) -> None:
    """Raises a ConfigError with the nearest neighbour unless `value` is one of `valid`."""
    valid = list(valid)
    if value not in valid:
        raise ConfigError(
            f"config.{where}={value!r}: unknown{_nearest(str(value), valid)}; "
            f"valid: {', '.join(valid)}"
        )


def changed_keys(old: ConfigDict, new: ConfigDict) -> dict[str, tuple]:
    """The keys whose values differ, as `{'optim.learning_rate': (old, new)}`; None where absent."""
    before, after = leaves(old), leaves(new)
    keys = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    return {k: (before.get(k), after.get(k)) for k in keys}


def is_harmless(key: str) -> bool:
    """Whether a run may continue with another value of `key` and still be the same run."""
    return any(key == k or key.startswith(k + ".") for k in HARMLESS_KEYS)


def to_json(config: ConfigDict) -> str:
    """The config as JSON text, sorted and indented."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True, default=str)


def from_json(text: str) -> ConfigDict:
    """The config that `to_json` wrote, laid over today's defaults."""
    return merge(default_config(), ConfigDict(json.loads(text)))


def _set(section: ConfigDict, key: str, value, path: str) -> None:
    if key not in section and path.split(".")[1] not in OPEN_SECTIONS:
        raise ConfigError(f"{path}: unknown key{_nearest(key, section.keys())}")
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


def _nearest(name: str, valid: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""


def _nearest_file(file: str) -> str:
    folder = pathlib.Path(file).parent
    return _nearest(file, map(str, folder.glob("*.py"))) if folder.is_dir() else ""
