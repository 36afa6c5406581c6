"""Where the seconds up to the first step go."""

import time

from imgcls.core import log


class StartClock:
    """Where the seconds up to the first step go.

    Args:
      began: of the first lap, as `time.monotonic()` gives it.
    """

    def __init__(self, began: float | None = None):
        self.began = self._since = time.monotonic() if began is None else began
        self._laps: list[str] = []

    def lap(self, name: str) -> None:
        """Ends a stretch that is called so."""
        now = time.monotonic()
        self._laps.append(f"{name} {now - self._since:.1f}")
        self._since = now

    def tell(self, name: str) -> None:
        """Ends the last stretch and says them all."""
        self.lap(name)
        log.info(f"first step after {self._since - self.began:.1f} s ({', '.join(self._laps)})")
