"""The probability from which a class is predicted."""

from collections.abc import Mapping, Sequence

import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.table.names import normalize
from imgcls.evaluate.calibration import Calibration

# One number for all classes, or a number for some; None: those of the calibration.
Threshold = float | Mapping[str, float] | None


def minimum_probabilities(
    threshold: Threshold, calibration: Calibration, task: str, names: Sequence[str], model: str
) -> np.ndarray:
    """Returns the minimum probability at which each class is predicted, float `[K]`.

    Args:
      threshold: as the user wrote it.
      calibration: calibration of the model.
      task: 'softmax', 'sigmoid', 'binary' or 'multi_label'.
      names: names of the K classes.
      model: path of the model, for messages.

    Raises:
      ConfigError: a threshold is not a probability, or a name is not a class.
    """
    minimum = calibration.thresholds
    if minimum is None:
        # Above 0.5, as in evaluation.
        default = np.nextafter(np.float32(0.5), 1) if task == "multi_label" else 0.0
        minimum = np.full(len(names), default)
    if threshold is None:
        return minimum
    by_class = threshold if isinstance(threshold, Mapping) else dict.fromkeys(names, threshold)
    minimum = minimum.copy()
    for name, value in by_class.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= 1:
            raise ConfigError(
                f"threshold={threshold!r}: must be a number from 0 to 1, or a number for some "
                'classes: {"cat": 0.3}'
            )
        minimum[class_number(name, names, model)] = value
    return minimum


def class_number(name: str, names: Sequence[str], model: str) -> int:
    """The number of a class; raises a ConfigError if it is not one of the model's."""
    if name not in names:
        # One that is spelled in another Unicode form.
        same = [n for n in names if normalize(n) == normalize(name)]
        name = same[0] if len(same) == 1 else name
    if name not in names:
        listed = ", ".join(names[:10]) + (", ..." * (len(names) > 10))
        raise ConfigError(f"{name!r} is not a class of {model}; choose one of {listed}")
    return names.index(name)
