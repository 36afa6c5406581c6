"""The batch size beyond which a machine trains no faster."""

import dataclasses

from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError, one_line
from imgcls.train.probe import measure_speed

# Smallest gain of a doubled batch that counts, and how many smaller ones in a row end the search.
GAIN, PATIENCE = 1.05, 2


@dataclasses.dataclass(frozen=True)
class Size:
    """A batch size that was tried: images/s, or why there are none."""

    batch_size: int
    images_per_second: float | None
    problem: str = ""


def find_batch_size(config: ConfigDict, low: int, high: int) -> list[Size]:
    """Measures training steps with their input for `low`, twice that, ... up to `high`.

    It ends where memory runs out, or where larger batches are no faster.

    Raises:
      ConfigError: no size can be trained; the reason is that of the first.
    """
    if not 0 < low <= high:
        raise ConfigError(f"--smallest={low} and --largest={high}: write 0 < smallest <= largest")
    tried: list[Size] = []
    size = low
    while size <= high and not _is_over(tried):
        trial = config.copy_and_resolve_references()
        trial.batch_size = size
        try:
            tried.append(Size(size, size / measure_speed(trial).step))
        except ConfigError as e:  # Such as a batch that does not divide by the devices.
            tried.append(Size(size, None, one_line(e)))
        except Exception as e:
            if not is_out_of_memory(e):
                raise
            tried.append(Size(size, None, "out of memory"))
            break
        size *= 2
    if not any(s.images_per_second for s in tried):
        raise ConfigError(f"no batch size from {low} to {high} can be trained: {tried[0].problem}")
    return tried


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: on the device as XLA reports it, or on the host."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def suggest(tried: list[Size]) -> int:
    """The smallest size that is within 5 % of the fastest."""
    fastest = max(s.images_per_second or 0 for s in tried)
    return min(s.batch_size for s in tried if (s.images_per_second or 0) * GAIN >= fastest)


def _is_over(tried: list[Size]) -> bool:
    speeds = [s.images_per_second for s in tried if s.images_per_second is not None]
    if len(speeds) <= PATIENCE:
        return False
    return max(speeds[-PATIENCE:]) < GAIN * max(speeds[:-PATIENCE])
