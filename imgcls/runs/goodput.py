"""Goodput: the share of a run's time that went into the steps of its final state.

    goodput = useful seconds / wall seconds

Useful is the time of training steps, the wait for their data included; compilation, evaluations,
waits for checkpoints, updates that were left out and steps that a crash or a rollback made in vain
are not. It is kept in the checkpoints, so that steps which come again count once. Wall is the time
since the run was first started in its workdir, with the time between its processes, and is kept in
`WORKDIR/goodput.json`.
"""

import contextlib
import json
import time

import jax

from imgcls.core.storage import as_path, replace_text
from imgcls.runs.record import Record


class Goodput:
    """The clock of a run over all its processes; process 0 keeps the record.

    Time is measured by a clock that can't jump, except between two processes: a clock that was set
    back there counts as no time.

    Args:
      workdir: gets `goodput.json`.
      began: of this process, as `time.monotonic()` gives it.

    Attributes:
      useful: seconds, up to the last step that was counted.
    """

    def __init__(self, workdir: str, began: float):
        self._path, self._began = as_path(workdir) / "goodput.json", began
        self._begun, self._before, self._restarts = False, 0.0, 0
        self.useful = 0.0

    def begin(self, step: int, record: Record) -> None:
        """The run is about to train on from a step, and of this process what it did before is void.

        Args:
          step: of the checkpoint, or 0.
          record: of that step.
        """
        if not self._begun:
            self._begun = True
            self._before, self._restarts = self._read()
        self.useful = record.useful_seconds
        self._step, self._skipped = step, record.skipped
        self.restart()
        self.keep()

    def restart(self) -> None:
        """Leaves the time since the last call out of what is useful."""
        self._since = time.monotonic()

    def count(self, step: int, record: Record) -> None:
        """The time since the last call went into the steps up to this one, which are over."""
        now, steps, skipped = time.monotonic(), step - self._step, record.skipped - self._skipped
        self.useful += (now - self._since) * (steps - skipped) / max(steps, 1)
        self._since, self._step, self._skipped = now, step, record.skipped

    def metrics(self) -> dict[str, float]:
        """`goodput` from 0 to 1, and what it is made of."""
        wall = self._wall()
        return {
            "goodput": self.useful / wall,
            "goodput/useful_seconds": self.useful,
            "goodput/wall_seconds": wall,
            "goodput/restarts": self._restarts,
        }

    def keep(self) -> None:
        """Writes what the next process of the run has to know."""
        if jax.process_index() == 0:
            record = {"time": time.time(), **self.metrics()}
            # Where the disk is full, which the writer tells, the next one is kept.
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                replace_text(self._path, json.dumps(record, indent=2) + "\n")

    def told(self) -> str:
        """The end of a run's last line; keeps the record."""
        if not self._begun:
            return ""
        self.keep()
        return f", goodput {100 * self.useful / self._wall():.0f} % of {self._wall():.0f} s"

    def _wall(self) -> float:
        # Not below what is useful, though a clock was set back between two processes.
        return max(self._before + time.monotonic() - self._began, self.useful, 1e-9)

    def _read(self) -> tuple[float, int]:
        """Seconds of the run before this process began, and how often it was started again."""
        try:
            record = json.loads(self._path.read_text())
            since = time.time() - record["time"] - (time.monotonic() - self._began)
            wall, restarts = (record[f"goodput/{key}"] for key in ("wall_seconds", "restarts"))
            return wall + max(since, 0.0), restarts + 1
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0, 0
