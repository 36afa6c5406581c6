"""Durations such as '90 epochs', '500 steps', '1e6 examples' or '5 percent', converted to steps."""

import re

from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError


class Durations:
    """Converts the durations of a config to steps.

    Args:
      config: the config; `batch_size` and `total` are read.
      num_examples: size of the training split; an epoch need not be a whole number of steps.

    Attributes:
      total: number of training steps, at least 1.

    Raises:
      ConfigError: `config.total` is not a duration or is less than one step.
    """

    def __init__(self, config: ConfigDict, num_examples: int):
        self._config, self._num_examples = config, num_examples
        self.total = self.to_steps(config.total, "total")
        if self.total < 1:
            raise ConfigError(f"config.total={config.total!r}: training takes at least one step")

    def to_steps(self, duration: str, where: str) -> int:
        """Converts one duration; see the function `to_steps`."""
        return to_steps(duration, self._config, self._num_examples, where)


def to_steps(duration: str, config: ConfigDict, num_examples: int, where: str) -> int:
    """Converts a duration of the config to steps.

    Args:
      duration: `'90 epochs'`, `'10_000 steps'`, `'1.28e6 examples'` or `'5 percent'` (of `total`).
      config: the config; `batch_size` and, for percent, `total` are read.
      num_examples: size of the training split; an epoch need not be a whole number of steps.
      where: key of the duration in the config, for the error.

    Raises:
      ConfigError: `duration` is not a duration.
    """
    match = re.fullmatch(
        r"\s*([\d_.]+(?:e\d+)?)\s*(epoch|step|example|percent)s?\s*", str(duration)
    )
    try:
        if match is None:
            raise ValueError
        number, unit = float(match[1]), match[2]
        int(number)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"config.{where}={duration!r}: not a duration; write '90 epochs', '500 steps', "
            "'1e6 examples' or '5 percent'"
        ) from None
    if unit == "percent":
        if where == "total":
            raise ConfigError(
                f"config.total={duration!r}: percent is of total; use epochs or steps"
            )
        number *= to_steps(config.total, config, num_examples, "total") / 100
    elif unit == "epoch":
        number *= num_examples / config.batch_size
    elif unit == "example":
        number /= config.batch_size
    # A duration above zero is at least one step.
    return max(round(number), int(number > 0))
