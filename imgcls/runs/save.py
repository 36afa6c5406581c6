"""Writes checkpoints in the background with Orbax; survives full and unmounted disks."""

import contextlib
import dataclasses
import errno
import functools
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata

import jax
from etils import epath
from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core import log
from imgcls.core.errors import TrainingError
from imgcls.core.state import TrainState
from imgcls.core.storage import (
    as_path,
    free_bytes,
    is_local,
    megabytes,
    reason,
)
from imgcls.data.info import DataInfo
from imgcls.distributed.agreement import agree
from imgcls.runs.best import BestMetric, read_metrics
from imgcls.runs.checksums import (
    checkpoint_steps,
    newest_undamaged,
    set_aside,
    write_checksums,
)
from imgcls.runs.load import USES
from imgcls.runs.lock import Lock
from imgcls.runs.record import Record, Stretch

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
# Values of `config.checkpoint.on_error`.
ON_ERROR = ("continue", "stop")
# Directory next to the checkpoints, for those to delete.
DELETED = "deleted"
# Messages of asyncio about the writes that run next to one that failed.
FOLLOW_UPS = ("exception was never retrieved", "Task was destroyed")


class Checkpointer:
    """Writes and restores the checkpoints of a workdir, which is locked until `close`.

    A checkpoint that can't be written is reported in one line and leaves earlier ones intact; the
    run then continues or stops, see `config.checkpoint.on_error`. A checkpoint that one process
    can't write counts as failed on all.

    Args:
      workdir: directory of the run.
      config: config of the run, stored in every checkpoint. `config.checkpoint` is read.
      data_info: description of the data, stored in every checkpoint.
      best: metric whose best checkpoint is kept; None keeps only the newest ones.

    Raises:
      ConfigError: another run uses the workdir, or it is not writable.
    """

    def __init__(
        self,
        workdir: str,
        config: ConfigDict,
        data_info: DataInfo,
        best: BestMetric | None = None,
    ):
        config_lib.check_choice("checkpoint.on_error", config.checkpoint.on_error, ON_ERROR)
        config_lib.check_choice("checkpoint.use", config.checkpoint.use, USES)
        folder = as_path(workdir)
        self._folder, self._keep, self._best = folder / "checkpoints", config.checkpoint, best
        self._meta = _describe(config, data_info)
        self._meta["best"] = dataclasses.asdict(best) if best else None
        self._saving: int | None = None  # step of the checkpoint that is being written
        self._size = self._needed = 0  # bytes of the last checkpoint, on disk and in memory
        self._failed: set[int] = set()  # steps that could not be written
        self._failure = ""  # message about the last checkpoint if it could not be written
        self._lock = Lock(folder)

    @functools.cached_property
    def _manager(self):
        # Imported here because Orbax is slow to import and a new run needs it only to save.
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers

        _hush_orbax()
        keep: list[checkpoint_managers.PreservationPolicy] = [
            checkpoint_managers.LatestN(max(self._keep.keep_last, 1))
        ]
        best = self._best
        if best is not None:
            keep.append(_KeepBest(best))
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                # Makes Orbax store the metrics, so that a resumed run knows the best checkpoint.
                best_fn=None if best is None else lambda metrics: metrics[best.name],
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(keep),
                cleanup_tmp_directories=True,
                # Moved here before `_clean` deletes them, as half of one must not be listed.
                todelete_subdir=DELETED if is_local(self._folder) else None,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
                # After a failure, processes may have stopped at different barriers: use new ones.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    barrier_sync_key_prefix=f"{len(self._failed)}" if self._failed else None
                ),
            ),
            item_names=("state", "meta"),
        )

    @property
    def latest_step(self) -> int | None:
        """Step of the newest undamaged checkpoint; renames later, damaged ones and logs that.

        Raises:
          ConfigError: all checkpoints are damaged.
        """
        step, damaged = newest_undamaged(self._folder)
        for bad, damage in damaged.items():
            moved = set_aside(self._folder / str(bad))
            log.info(f"the checkpoint of step {bad} is damaged: {damage}; renamed to {moved}")
        return step

    def save(
        self,
        step: int,
        state: TrainState,
        metrics: dict[str, float] | None = None,
        record: Record | None = None,
    ) -> None:
        """Starts to write a checkpoint in the background, unless the step has one already.

        Args:
          step: number of updates done.
          state: training state.
          metrics: metrics of the evaluation at this step, which rank the checkpoint.
          record: history of the run.

        Raises:
          TrainingError: this or the previous checkpoint can't be written, with `on_error='stop'`.
        """
        self._wait()
        self._clean()
        self._needed = sum(x.nbytes for x in jax.tree.leaves(state))
        try:
            problem = self._check_room() if jax.process_index() == 0 else None
        except OSError as e:
            problem = e
        if agree(problem is None):
            try:
                self._start(step, state, metrics, record or Record())
            except Exception as e:
                problem = e
            if agree(problem is None):
                return
        self._fail(step, problem)

    def restore(self, abstract_state: TrainState, step: int) -> TrainState:
        """Restores the state of a step with the shardings of `abstract_state`."""
        import orbax.checkpoint as ocp

        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        )
        return restored["state"]

    def record(self, step: int) -> Record:
        """Reads the record of a step; that of step 0 is empty."""
        if not step:
            return Record()
        import orbax.checkpoint as ocp

        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        # Older checkpoints have no record.
        return Record(**self._manager.restore(step, args=args)["meta"].get("record", {}))

    def go_back(self, stretch: Stretch) -> None:
        """Deletes the checkpoints that may have caused a stretch of values that are not finite.

        The newest remaining checkpoint is one from before the stretch whose next step was finite,
        if there is one, or else any one from before the stretch.
        """
        steps = self._manager.all_steps() if self._folder.is_dir() else []
        before = [step for step in steps if step < stretch.first]
        proven = [step for step in before if step + 1 < stretch.first]
        newest = max(proven or before, default=0)
        for step in steps:
            if step > newest:
                self._manager.delete(step)

    def finish(self) -> None:
        """Waits until the last checkpoint is on disk.

        Raises:
          TrainingError: it could not be written.
        """
        self._wait()
        self._clean()
        if self._failure:
            raise TrainingError(f"the run's last {self._failure}")

    def describe(self) -> str:
        """Describes the checkpoints of the workdir: their names for other commands.

        Called on process 0, after `finish`.
        """
        workdir, steps = self._folder.parent, checkpoint_steps(self._folder)
        metrics = {step: read_metrics(self._folder / str(step)) for step in steps}
        step = None if self._best is None else self._best.choose(metrics)
        names = [f"{workdir}:newest is step {max(steps)}"] if steps else []
        if self._best is not None and step is not None:
            value = (metrics[step] or {})[self._best.name]
            names.insert(0, f"{workdir}:best is step {step} ({self._best.name} {value:.4f})")
            if self._keep.use == "best":
                names.append(f"{workdir} alone is the best")
        return f"checkpoints: {', '.join(names) or 'none'}"

    def close(self) -> None:
        """Waits for the checkpoint that is being written, and releases the workdir."""
        try:
            self._wait()
        except TrainingError as e:  # Must not replace an error that is being raised.
            log.info(str(e))
        self._clean()
        if "_manager" in vars(self):
            self._manager.close()
        self._lock.release()

    def _start(
        self, step: int, state: TrainState, metrics: dict[str, float] | None, record: Record
    ) -> None:
        import orbax.checkpoint as ocp

        if step in self._manager.all_steps():
            return
        self._saving = step
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                meta=ocp.args.JsonSave(self._meta | {"record": dataclasses.asdict(record)}),
            ),
            metrics={name: float(value) for name, value in (metrics or {}).items()} or None,
            force=True,
        )

    def _wait(self) -> None:
        """Waits for the checkpoint that is being written, and reports a failure."""
        if self._saving is None:
            return
        step, problem = self._saving, None
        try:
            self._manager.wait_until_finished()
        except Exception as e:
            problem = e
        self._saving = None
        if not agree(problem is None):
            self._fail(step, problem)
        elif self._failure:
            self._failure = ""
            log.info(f"checkpoints are written again: that of step {step} is on disk")

    def _check_room(self) -> None:
        """Raises an OSError if the disk is gone or has no room for the next checkpoint."""
        self._lock.check()
        free = free_bytes(self._folder)
        if free is not None and free < self._size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self._folder))

    def _write_checksums(self) -> None:
        """Called by Orbax on process 0 before a complete checkpoint gets its final name."""
        if self._saving is not None and is_local(self._folder):
            (partial,) = self._partial(self._saving)
            self._size = write_checksums(partial)

    def _fail(self, step: int, problem: Exception | None) -> None:
        """Removes the files of a checkpoint that can't be written, and reports the failure."""
        self._saving = None
        # This manager no longer lists the checkpoints that it was to delete; a new one does.
        vars(self).pop("_manager", None)
        self._failed.add(step)
        self._clean()
        why = "another process failed" if problem is None else reason(problem)
        self._failure = (
            f"checkpoint, of step {step}, could not be written: {self._folder}: {why}; it takes "
            f"{megabytes(self._size or self._needed)}, "
            f"{megabytes(free_bytes(self._folder))} are free"
        )
        if self._keep.on_error == "stop":
            raise TrainingError(f"a {self._failure}")
        log.info(f"a {self._failure}; earlier ones are kept, and the next one is tried as usual")

    def _clean(self) -> None:
        """Removes the files of checkpoints that could not be written or are to be deleted.

        Called several times, because other writes continue after the first one fails.
        """
        if jax.process_index() == 0:
            old = [self._folder / DELETED] if is_local(self._folder) else []
            failed = (partial for step in self._failed for partial in self._partial(step))
            for folder in (*old, *failed):
                with contextlib.suppress(OSError):
                    folder.rmtree()

    def _partial(self, step: int) -> list[epath.Path]:
        with contextlib.suppress(OSError):
            return [p for p in self._folder.iterdir() if p.name.startswith(f"{step}.orbax-")]
        return []


@dataclasses.dataclass(frozen=True)
class _KeepBest:
    """A `PreservationPolicy` of Orbax: keeps the best checkpoint.

    Unlike its `BestN`, it accepts checkpoints without the metric.
    """

    best: BestMetric

    def should_preserve(self, checkpoints: Sequence, *, context) -> list[bool]:
        """Returns whether to keep each checkpoint."""
        del context
        kept = self.best.choose({c.step: c.metrics for c in checkpoints})
        return [c.step == kept for c in checkpoints]


@functools.cache
def _hush_orbax() -> None:
    """Hides the messages of Orbax that follow the error of a failed checkpoint, which is raised.

    Orbax writes hundreds of arrays at once, and waits for none after the first one fails. The
    others fail later or never start: asyncio logs them, or TensorStore finds their loop closed.
    """
    logging.getLogger("absl").addFilter(lambda x: f"{os.sep}orbax{os.sep}" not in x.pathname)
    logging.getLogger("asyncio").addFilter(lambda x: not any(map(x.getMessage().count, FOLLOW_UPS)))
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    show = sys.unraisablehook

    def show_others(unraisable) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            show(unraisable)

    sys.unraisablehook = show_others


def _describe(config: ConfigDict, info: DataInfo) -> dict:
    return {
        "config": json.loads(config_lib.to_json(config)),
        "class_names": list(info.class_names),
        "multi_label": info.multi_label,
        "image_shape": list(info.image_shape),
        "image_dtype": info.image_dtype,
        "num_examples": info.num_examples,
        "class_counts": list(info.class_counts),
        "model": config.model.name,
        "preprocessing": {
            "transform": config.data.eval_transform,
            "mean": list(config.data.mean),
            "std": list(config.data.std),
            "channels": config.data.channels,
        },
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "devices": jax.device_count(),
    }
