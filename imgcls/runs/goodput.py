"""Goodput: the share of a run's time that went into the steps of its final state.

    goodput = useful seconds / wall seconds

Useful time is that of training steps, including the wait for their data. It excludes compilation,
evaluations, waits for checkpoints, skipped updates, and steps that were lost by a crash or a
rollback. Checkpoints record it, so that repeated steps count once. Wall time is the time since the
run was first started in its workdir, including the time between its processes; it is recorded in
`WORKDIR/goodput.json`.
"""

import contextlib
import json
import time

import jax

from imgcls.core.storage import as_path, replace_text
from imgcls.runs.record import Record


class Goodput:
    """Measures the goodput of a run across restarts; process 0 writes the record.

    Time is measured by a monotonic clock. Only the time between a process and its successor is read
    from the wall clock, and counts as zero if that was set back.

    Args:
      workdir: directory in which `goodput.json` is written.
      began: start of this process, in seconds of `time.monotonic()`.

    Attributes:
      useful: useful seconds, up to the last counted step.
    """

    def __init__(self, workdir: str, began: float):
        self._path, self._began = as_path(workdir) / "goodput.json", began
        self._begun, self._before, self._restarts = False, 0.0, 0
        self.useful = 0.0

    def begin(self, step: int, record: Record) -> None:
        """Starts to count at a step; steps that this process counted before are discarded.

        Args:
          step: step of the checkpoint from which the run continues, or 0.
          record: record of that step.
        """
        if not self._begun:
            self._begun = True
            self._before, self._restarts = self._read()
        self.useful = record.useful_seconds
        self._step, self._skipped = step, record.skipped
        self.restart()
        self.keep()

    def restart(self) -> None:
        """Excludes the time since the last call from the useful time."""
        self._since = time.monotonic()

    def count(self, step: int, record: Record) -> None:
        """Counts the time since the last call as that of the steps up to `step`, which are done."""
        now, steps, skipped = time.monotonic(), step - self._step, record.skipped - self._skipped
        self.useful += (now - self._since) * (steps - skipped) / max(steps, 1)
        self._since, self._step, self._skipped = now, step, record.skipped

    def metrics(self) -> dict[str, float]:
        """`goodput`, from 0 to 1, and the quantities from which it is computed."""
        wall = self._wall()
        return {
            "goodput": self.useful / wall,
            "goodput/useful_seconds": self.useful,
            "goodput/wall_seconds": wall,
            "goodput/restarts": self._restarts,
        }

    def keep(self) -> None:
        """Writes the record from which the next process of the run continues."""
        if jax.process_index() == 0:
            record = {"time": time.time(), **self.metrics()}
            # If the disk is full, which the metrics writer reports, a later record is written.
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                replace_text(self._path, json.dumps(record, indent=2) + "\n")

    def summary(self) -> str:
        """Text for the end of a run's last log line; also writes the record."""
        if not self._begun:
            return ""
        self.keep()
        return f", goodput {100 * self.useful / self._wall():.0f} % of {self._wall():.0f} s"

    def _wall(self) -> float:
        # At least the useful time, even if the clock was set back between two processes.
        return max(self._before + time.monotonic() - self._began, self.useful, 1e-9)

    def _read(self) -> tuple[float, int]:
        """Seconds of the run before this process began, and the number of restarts."""
        try:
            record = json.loads(self._path.read_text())
            since = time.time() - record["time"] - (time.monotonic() - self._began)
            wall, restarts = (record[f"goodput/{key}"] for key in ("wall_seconds", "restarts"))
            return wall + max(since, 0.0), restarts + 1
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0, 0
