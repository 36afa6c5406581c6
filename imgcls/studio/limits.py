"""How much one client may send, and how fast."""

import dataclasses
import math
import time
from collections.abc import Callable, Hashable


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds on one client's requests: bytes, seconds, and `(burst, per second)` of a bucket.

    A body must bring its bytes at `slowest` bytes per second on average once `grace` seconds have
    passed, and never pause for longer than `pause` seconds.
    """

    body: int = 16 << 20
    upload: int = 256 << 20
    pause: float = 20.0
    grace: float = 20.0
    slowest: float = 1024.0
    header: float = 20.0
    failures: tuple[float, float] = (10, 1 / 6)
    writes: tuple[float, float] = (400, 200)


class Buckets:
    """Token buckets, one per key: `burst` at once, then `rate` a second.

    At most `size` keys are kept: those that are full again are forgotten first, and then the ones
    that were used least recently.
    """

    def __init__(
        self,
        burst: float,
        rate: float,
        size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._burst, self._rate, self._size, self._clock = burst, rate, size, clock
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def left(self, key: Hashable) -> float:
        """How much is in the bucket of a key now."""
        level, then = self._buckets.get(key, (self._burst, 0.0))
        return min(self._burst, level + (self._clock() - then) * self._rate)

    def wait(self, key: Hashable) -> float:
        """Seconds until one may be taken; 0 if it may be taken now."""
        return max(0.0, (1 - self.left(key)) / self._rate)

    def take(self, key: Hashable) -> float:
        """Takes one and returns 0, or takes nothing and returns the seconds to wait."""
        left = self.left(key)
        if left < 1:
            return (1 - left) / self._rate
        self._buckets.pop(key, None)  # The dict stays in order of use.
        self._buckets[key] = (left - 1, self._clock())
        if len(self._buckets) > self._size:
            self._forget()
        return 0.0

    def _forget(self) -> None:
        for key in [key for key in self._buckets if self.left(key) >= self._burst]:
            del self._buckets[key]
        for key in list(self._buckets)[: max(0, len(self._buckets) - self._size)]:
            del self._buckets[key]


def retry_after(seconds: float) -> str:
    """The header's value: whole seconds, at least 1."""
    return str(max(1, math.ceil(seconds)))
