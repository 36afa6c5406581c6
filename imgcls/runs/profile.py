"""Profiles of the steps of a run, for TensorBoard and Perfetto."""

import jax
from ml_collections import ConfigDict

from imgcls.core import log
from imgcls.core.errors import ConfigError
from imgcls.core.storage import as_path, reason


def check_profile(config: ConfigDict) -> None:
    """Raises a ConfigError if `config.log.profile` is not a range of steps."""
    match config.log.profile:
        case () | (int(), int()) if list(config.log.profile) == sorted(config.log.profile):
            return
    raise ConfigError(
        f"config.log.profile={config.log.profile!r}: write the first and the last step, '(10, 20)'"
    )


def warn_if_too_late(config: ConfigDict, first: int, total: int) -> None:
    """Logs that the steps of `config.log.profile` are not in the run, or not all of them.

    Args:
      config: config of the run.
      first, total: step from which the run starts or continues, and its last step.
    """
    begin, end = config.log.profile or (0, 0)
    if end <= total or first == total:
        return
    rest = f"only steps {begin} to {total} are" if begin <= total else "nothing is"
    log.info(
        f"config.log.profile={config.log.profile!r}: the run ends at step {total}, {rest} profiled"
    )


class Profile:
    """Writes a profile of the steps `config.log.profile` on process 0 to `WORKDIR/profile`.

    Args:
      config: config of the run; `log.profile` is read.
      workdir: directory of the run.
    """

    def __init__(self, config: ConfigDict, workdir: str):
        ends = config.log.profile if jax.process_index() == 0 else ()
        self._steps = range(ends[0], ends[1] + 1) if ends else range(0)
        self._folder, self._on = str(as_path(workdir) / "profile"), False

    def before(self, step: int) -> None:
        """Starts or ends the profile before a step; a run may resume in the middle of the range."""
        if step not in self._steps:
            self.close()
        elif not self._on:
            self._on = True
            jax.profiler.start_trace(self._folder)

    def close(self) -> None:
        """Ends the profile, if it is running, and writes it."""
        if not self._on:
            return
        self._on = False
        try:
            jax.profiler.stop_trace()
        except Exception as e:  # If the disk is full, the profiler raises many types.
            log.info(f"the profile can't be written: {self._folder}: {reason(e)}")
