"""What is measured during and after training. An evaluator is one file here.

A config names its evaluators: `config.evaluators.test = {'type': 'classification', 'split':
'test', 'every': '5 epochs'}`; their metrics are logged as `test/accuracy` and so on. A class is
registered by type and takes `(config, objective, mesh, data_info, **options)`; its
`run(variables) -> {metric: float}` gets `{prefix: (params, model_state)}` and prefixes its metrics.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable

from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.config import check_choice, steps
from imgcls.errors import ConfigError

_evaluators: dict[str, type] = {}


def register_evaluator(name: str) -> Callable[[type], type]:
    """Class decorator: makes an evaluator known to configs by its type's name."""

    def register(evaluator: type) -> type:
        _evaluators[name] = evaluator
        return evaluator

    return register


def create_evaluators(
    config: ConfigDict, objective, mesh: Mesh, data_info, num_examples: int
) -> dict[str, tuple[int, object]]:
    """`{name: (every so many steps, evaluator)}` for the sections of `config.evaluators`.

    Raises:
      ConfigError: unknown type or option, missing data, or classes other than the model's.
    """
    _import_evaluators()
    created = {}
    for name, section in config.evaluators.items():
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
        check_choice(f"evaluators.{name}.type", kind, _evaluators)
        every = options.pop("every", "1 epochs")
        every = max(steps(every, config, num_examples, f"evaluators.{name}.every"), 1)
        valid = list(inspect.signature(_evaluators[kind]).parameters)[4:]
        for option in options:
            check_choice(f"evaluators.{name}.{option}", option, [*valid, "type", "every"])
        created[name] = (every, _evaluators[kind](config, objective, mesh, data_info, **options))
    best = config.checkpoint.keep_best
    if best is not None and best.split("/")[0] not in created:
        raise ConfigError(
            f"config.checkpoint.keep_best={best!r}: no evaluator of that name; write "
            f"EVALUATOR/METRIC with one of {', '.join(created) or 'none'}"
        )
    return created


@functools.cache
def _import_evaluators() -> None:
    # Not at import time: the evaluators import this module.
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
