"""The evaluator protocol and the registry of evaluators."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import numpy as np

from imgcls.core.registry import Registry, Signature
from imgcls.runs.best import Direction


class Evaluator(Protocol):
    """Measures a model's variables during and after training.

    A new evaluator registers its class by name. The class takes
    `(config, objective, mesh, data_info, **options)`: config of the run, objective built by
    `create_objective`, device mesh, classes and image shape of the training data (`DataInfo`), and
    the options in its section of the config.

    Attributes:
      protocol: one line that describes what is measured and on which examples; logged before
        training.
      directions: `{metric: 'higher' or 'lower'}`, which of two values is better, without prefix.
        Only these metrics can be `checkpoint.keep_best`; leave out those that say nothing about
        quality, such as a number of examples.
    """

    protocol: str
    directions: Mapping[str, Direction]

    def run(self, variables: dict[str, tuple]) -> Mapping[str, float | np.ndarray]:
        """Returns the metrics of each set of variables, prefixed by its key.

        Args:
          variables: `{prefix: (params, model_state)}`.

        Returns:
          `{metric: number or image}`; an image is uint8 `[H, W, 3]`.
        """
        ...


EVALUATORS: Registry[Callable[..., Evaluator]] = Registry(
    "evaluator", "imgcls.evaluate.evaluators", describe=lambda part: Signature(part, 4)
)

Class = TypeVar("Class", bound=Evaluator)


def register_evaluator(name: str) -> Callable[[type[Class]], type[Class]]:
    """Class decorator that registers an evaluator and preserves the type of the class.

    Raises:
      ConfigError: another evaluator has that name.
    """

    def register(evaluator: type[Class]) -> type[Class]:
        EVALUATORS.add(name, evaluator)
        return evaluator

    return register
