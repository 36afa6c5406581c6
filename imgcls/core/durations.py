"""Durations: '90 epochs', '500 steps', '1e6 examples' or '5 percent', in steps."""

import re

from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError


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
