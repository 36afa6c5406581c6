"""Builds the evaluators that a config names, for use during and after training.

Each evaluator has a section in the config: `config.evaluators.test = {'type': 'classification',
'split': 'test', 'every': '5 epochs'}`. Its metrics are logged as `test/accuracy` and so on, and
images among its results are written to `WORKDIR/report`. `evaluator.Evaluator` defines the
interface; each type is one file in `evaluators/`.

`evaluate` and `report` also need the outputs of a classifier for each example: see
`outcomes.Outcomes`.

An evaluator uses the objective's `logits` (classification), `reconstruct` (reconstructions) or
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
    log_fn: Callable[[str], None] = log.info,
) -> dict[str, tuple[int, Evaluator]]:
    """Returns `{name: (steps between evaluations, evaluator)}` for `config.evaluators`.

    Args:
      config, objective, mesh, data_info: see `Evaluator`.
      durations: converts the `every` of a section to steps.
      log_fn: function that logs the protocol of each evaluator.

    Raises:
      ConfigError: a type or option is unknown, data is missing, or the classes of a split are not
        those of the model.
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
    for name, (_, evaluator) in created.items():
        log_fn(f"evaluators.{name}: {evaluator.protocol}")
    return created


def _read_section(name: str, section) -> tuple[str, dict]:
    """Returns the type and the options (including `every`) of an evaluator's config section.

    Raises:
      ConfigError: the value is not a section, or a type, an option or the type of a value is wrong.
    """
    if name == "train":
        raise ConfigError(
            "config.evaluators.train: train/ is the prefix of the training metrics; use another "
            "name, such as train_part"
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
      ConfigError: the value has another type, or is a number that is not above 0.
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
