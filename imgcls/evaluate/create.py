"""What is measured during and after training. An evaluator is one file here.

A config names its evaluators: `config.evaluators.test = {'type': 'classification', 'split':
'test', 'every': '5 epochs'}`; their metrics are logged as `test/accuracy` and so on. A class is
registered by type; `evaluator.Evaluator` says what it has. Images among its results go to
`WORKDIR/report`.

`evaluate` and `report` need more than numbers of a classifier: its answers, example by example, are
`outcomes.Outcomes`.

Of the objective an evaluator takes `logits` (classification), `reconstruct` (reconstructions) or
`features(params, model_state, batch, layer) -> float32 [B, D]` with `layer` one of
`feature_layers`. It never changes the variables, reads a split once, and counts every example
once, on any number of devices and processes.
"""

import inspect
import typing
from collections.abc import Callable

from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core import log
from imgcls.core.config import check_choice
from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.evaluate.evaluator import EVALUATORS, Evaluator


def create_evaluators(
    config: ConfigDict,
    objective,
    mesh: Mesh,
    data_info,
    durations: Durations,
    tell: Callable[[str], None] = log.info,
) -> dict[str, tuple[int, Evaluator]]:
    """`{name: (every so many steps, evaluator)}` for the sections of `config.evaluators`.

    Args:
      config, objective, mesh, data_info: of the run.
      durations: durations of the config, for `every`.
      tell: called with the protocol of each.

    Raises:
      ConfigError: unknown type or option, missing data, or classes other than the model's.
    """
    created = {}
    for name, section in config.evaluators.items():
        kind, options = _read_section(name, section)
        every = options.pop("every", "1 epochs")
        every = max(durations.to_steps(every, f"evaluators.{name}.every"), 1)
        try:
            evaluator = EVALUATORS[kind](config, objective, mesh, data_info, **options)
        except ConfigError as e:
            raise ConfigError(f"config.evaluators.{name}: {e}") from e
        created[name] = (every, evaluator)
    best = config.checkpoint.keep_best
    if best is not None and best.split("/")[0] not in created:
        raise ConfigError(
            f"config.checkpoint.keep_best={best!r}: no evaluator of that name; write "
            f"EVALUATOR/METRIC with one of {', '.join(created) or 'none'}"
        )
    for name, (_, evaluator) in created.items():
        tell(f"evaluators.{name}: {evaluator.protocol}")
    return created


def _read_section(name: str, section) -> tuple[str, dict]:
    """Type and options of an evaluator's section of the config, `every` among them.

    Raises:
      ConfigError: no section, or an unknown type or option, or a value of another type.
    """
    if name == "train":
        raise ConfigError(
            "config.evaluators.train: train/ is where training's own metrics go; choose "
            "another name, such as train_part"
        )
    if not isinstance(section, ConfigDict):
        raise ConfigError(
            f"config.evaluators.{name}={section!r}: must be a section, such as "
            f"--config.evaluators.{name}.split=test"
        )
    options = section.to_dict()
    kind = options.pop("type", "classification")
    EVALUATORS.find(kind, f"evaluators.{name}.type")
    valid = dict(list(inspect.signature(EVALUATORS[kind]).parameters.items())[4:])
    for option, value in options.items():
        check_choice(f"evaluators.{name}.{option}", option, [*valid, "type", "every"])
        if option != "every":
            _check_option(f"config.evaluators.{name}.{option}", value, valid[option].annotation)
    return kind, options


def _check_option(where: str, value, annotation) -> None:
    """Checks an option against its annotation: a type, a union, or `tuple[type, ...]`.

    Raises:
      ConfigError: another type, or a number that is not above 0.
    """
    expected, values = annotation, [value]
    if typing.get_origin(annotation) is tuple:
        expected = typing.get_args(annotation)[0]
        values = value if isinstance(value, (tuple, list)) and value else [None]
    expected = expected | int if expected is float else expected
    if not all(isinstance(v, expected) and not isinstance(v, bool) for v in values):
        text = annotation.__name__ if isinstance(annotation, type) else annotation
        raise ConfigError(f"{where}={value!r}: must be of type {text}")
    if any(isinstance(v, (int, float)) and v <= 0 for v in values):
        raise ConfigError(f"{where}={value!r}: must be above 0")
