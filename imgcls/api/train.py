"""`imgcls.train`: trains in this process what `python -m imgcls.main` trains in its own."""

import os
from collections.abc import Callable

from imgcls.api.run import Run
from imgcls.core import config as config_lib
from imgcls.core import log
from imgcls.distributed import processes
from imgcls.runs.metrics_log import Callbacks
from imgcls.train import loop

OnMetrics = Callable[[int, dict[str, float]], object]


def train(
    config: config_lib.Config,
    workdir: str | os.PathLike,
    *,
    accept_changes: bool = False,
    on_log: OnMetrics | None = None,
    on_eval: OnMetrics | None = None,
    **overrides,
) -> Run:
    """Trains what the config describes, or continues from the workdir's newest checkpoint.

    It ends in the same bits as `python -m imgcls.main` with the same config. An interrupt (Ctrl-C,
    or the stop button of a notebook) saves a checkpoint after the current step and returns the run
    so far; the same call continues it. Before the first step, and if it is repeated, it is a
    KeyboardInterrupt.

    >>> run = imgcls.train("digits", "/tmp/digits", **{"optim.learning_rate": 1e-3})
    >>> run.metrics["test/accuracy"]
    0.9972

    Args:
      config: path of a config file or name of a recipe, with arguments after a colon as in
        `--config`; or the keys to change in `imgcls.core.defaults`, as a ConfigDict or a dict.
      workdir: gets the checkpoints and logs.
      accept_changes: continue even if the config differs from the checkpoint's.
      on_log: called with the step and the training metrics when these are logged.
      on_eval: called with the step and the metrics of each evaluation.
      **overrides: keys of the config and their values, `**{'section.key': value}`.

    Returns:
      The run with its newest checkpoint, as `imgcls.load(workdir)` returns it.

    Raises:
      ConfigError: a setting that can't work; nothing has been written then.
      DataError: an unreadable record, with `data.on_error='fail'`.
      TrainingError: a loss or gradient is not finite, and `config.guard` allows no further attempt.
    """
    settings = config_lib.assign(config_lib.read_config(config), overrides)
    folder = os.fspath(workdir)
    # A warning of an earlier run in this process is one of this run as well.
    log.warn_once.cache_clear()
    timeout, stall = settings.processes.timeout, settings.processes.stall
    with processes.session(None, timeout, stall, interruptible=True):
        loop.train(settings, folder, accept_changes, callbacks=Callbacks(on_log, on_eval))
    return Run(folder)
