"""Time from the start of the process to the first step."""

import time

from imgcls.core import log


class StartClock:
    """Measures the phases up to the first step.

    Args:
      began: start of the first phase, in seconds of `time.monotonic()`; by default now.
    """

    def __init__(self, began: float | None = None):
        self.began = self._since = time.monotonic() if began is None else began
        self._laps: list[str] = []

    def lap(self, name: str) -> None:
        """Ends the current phase and gives it a name."""
        now = time.monotonic()
        self._laps.append(f"{name} {now - self._since:.1f}")
        self._since = now

    def finish(self, name: str) -> None:
        """Ends the last phase and logs the seconds of all phases."""
        self.lap(name)
        log.info(f"first step after {self._since - self.began:.1f} s ({', '.join(self._laps)})")
