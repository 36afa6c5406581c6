"""The registry of losses.

A loss of logits and labels is registered with a task. `config.objective.loss` selects it by name,
and its other arguments are options of `config.objective`:

    @register_loss("poly1", task="softmax", ranges={"epsilon": (-1, 10)})
    def poly1_loss(logits, labels, epsilon=1.0):
        ...
        return loss  # float [B]
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from imgcls.core.registry import Registry, Signature

# Arguments that the objective passes to a loss; they are not options of the config.
_ARRAYS = ("class_weights", "pos_weight")


@dataclasses.dataclass(frozen=True)
class Loss:
    """A registered loss.

    Attributes:
      function: returns one value per example, `[B]`.
      task: meaning of the logits in a loss of `(logits, labels)`: 'softmax' (one of K classes),
        'sigmoid' (K binary decisions) or 'binary' (two classes, one logit); None for losses with
        other arguments.
      ranges: `{option: (lowest, highest)}`, the values allowed in the config.
    """

    function: Callable[..., Any]
    task: str | None = None
    ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @property
    def options(self) -> list[str]:
        """Names of the config options of a loss of logits and labels."""
        parameters = list(inspect.signature(self.function).parameters)[2:]
        return [name for name in parameters if name not in _ARRAYS]

    @property
    def takes_pos_weight(self) -> bool:
        """Whether the positives of each class can be weighted."""
        return "pos_weight" in inspect.signature(self.function).parameters


LOSSES: Registry[Loss] = Registry(
    "loss", "imgcls.losses", describe=lambda loss: Signature(loss.function)
)


def register_loss(
    name: str,
    *,
    task: str | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Callable[[Callable], Callable]:
    """Decorator that registers a loss.

    Args:
      name: name in `config.objective.loss` and `python -m imgcls.list losses`.
      task, ranges: see `Loss`.
    """

    def register(function: Callable) -> Callable:
        LOSSES.add(name, Loss(function, task, ranges or {}))
        return function

    return register


def classification_losses() -> dict[str, Loss]:
    """Losses of logits and labels, by name."""
    return {name: loss for name, loss in LOSSES.items() if loss.task is not None}
