"""A profile of some of a run's steps, as TensorBoard and Perfetto show it."""

import jax
from ml_collections import ConfigDict

from imgcls.core import log
from imgcls.core.errors import ConfigError
from imgcls.core.storage import as_path, reason


def check_profile(config: ConfigDict) -> None:
    """Raises a ConfigError if `config.log.profile` is no range of steps."""
    match config.log.profile:
        case () | (int(), int()) if list(config.log.profile) == sorted(config.log.profile):
            return
    raise ConfigError(
        f"config.log.profile={config.log.profile!r}: write the first and the last step, '(10, 20)'"
    )


class Profile:
    """The profile of the steps `config.log.profile`, in `WORKDIR/profile`, of the first process.

    Args:
      config: `log.profile` is read.
      workdir: of the run.
    """

    def __init__(self, config: ConfigDict, workdir: str):
        asked = config.log.profile if jax.process_index() == 0 else ()
        self._steps = range(asked[0], asked[1] + 1) if asked else range(0)
        self._folder, self._on = str(as_path(workdir) / "profile"), False

    def before(self, step: int) -> None:
        """Begins or ends it before a step; a run that continues among the steps begins there."""
        if step not in self._steps:
            self.close()
        elif not self._on:
            self._on = True
            jax.profiler.start_trace(self._folder)

    def close(self) -> None:
        """Writes what there is."""
        if not self._on:
            return
        self._on = False
        try:
            jax.profiler.stop_trace()
        except Exception as e:  # Whatever the profiler makes of a full disk.
            log.info(f"the profile can't be written: {self._folder}: {reason(e)}")
