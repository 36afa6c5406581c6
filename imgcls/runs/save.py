"""Writing checkpoints, in the background and with Orbax, on disks that fill up and go away."""

import contextlib
import dataclasses
import errno
import functools
import json
import logging
import os
import sys
import warnings
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
from imgcls.runs.checksums import newest_whole, set_aside, write_sums
from imgcls.runs.lock import Lock
from imgcls.runs.record import Record, Stretch

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
# A checkpoint or log that can't be written: the run goes on, or ends.
ON_ERROR = ("continue", "stop")
# Beside the checkpoints: those that are to go.
DELETED = "deleted"
# What asyncio logs of the writes beside one that failed.
AFTERWARDS = ("exception was never retrieved", "Task was destroyed")


class Checkpointer:
    """The checkpoints of a workdir, which is this run's alone until `close`.

    One that can't be written is told in a line and harms none that is there; what comes then is
    up to `config.checkpoint.on_error`. With many processes, what one can't write none has written.

    Args:
      workdir: of the run.
      config: the run's; goes into every checkpoint. `config.checkpoint` says what is kept.
      data_info: the data's classes and shape; goes into every checkpoint.

    Raises:
      ConfigError: another run is in the workdir, or it can't be written.
    """

    def __init__(self, workdir: str, config: ConfigDict, data_info: DataInfo):
        config_lib.check_choice("checkpoint.on_error", config.checkpoint.on_error, ON_ERROR)
        folder = as_path(workdir)
        self._folder, self._keep = folder / "checkpoints", config.checkpoint
        self._meta = _describe(config, data_info)
        self._saving: int | None = None  # the step that is being written
        self._size = self._needed = 0  # bytes of the last checkpoint: on disk, and in memory
        self._failed: set[int] = set()  # steps that could not be written
        self._lost = ""  # what was said of the last checkpoint if it could not be written
        self._lock = Lock(folder)

    @functools.cached_property
    def _manager(self):
        # Here, since Orbax is slow to import and a fresh run first needs it to save.
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers

        _hush_orbax()
        keep: list[checkpoint_managers.PreservationPolicy] = [
            checkpoint_managers.LatestN(max(self._keep.keep_last, 1))
        ]
        best = self._keep.keep_best
        if best is not None:
            # Saves between evaluations have no metric, and must not displace the best.
            sign = -1.0 if best.endswith("loss") else 1.0
            keep.append(
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: sign * metrics[best],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                # Has the metrics written, so that a continued run knows the best.
                best_fn=None if best is None else lambda metrics: metrics[best],
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(keep),
                cleanup_tmp_directories=True,
                # Renamed, and then deleted by `_clean`: half of one must not look like a whole.
                todelete_subdir=DELETED if is_local(self._folder) else None,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_sums),
                # Processes that failed at different barriers meet at new ones.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    barrier_sync_key_prefix=f"{len(self._failed)}" if self._failed else None
                ),
            ),
            item_names=("state", "meta"),
        )

    @property
    def latest_step(self) -> int | None:
        """The newest whole checkpoint's step; damaged ones after it are set aside, with a line.

        Raises:
          ConfigError: all are damaged.
        """
        step, damaged = newest_whole(self._folder)
        for bad, found in damaged.items():
            moved = set_aside(self._folder / str(bad))
            log.info(f"the checkpoint of step {bad} is damaged: {found}; it is now {moved}")
        return step

    def save(
        self,
        step: int,
        state: TrainState,
        metrics: dict[str, float] | None = None,
        record: Record | None = None,
    ) -> None:
        """Starts to write the state; returns before it is on disk. No-op if the step is there.

        Raises:
          TrainingError: this or the last one can't be written, with `on_error='stop'`.
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
        """The state of the checkpoint of a step, laid out as the shardings of `abstract_state`."""
        import orbax.checkpoint as ocp

        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        )
        return restored["state"]

    def record(self, step: int) -> Record:
        """The record in the checkpoint of a step; a new one for step 0."""
        if not step:
            return Record()
        import orbax.checkpoint as ocp

        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        # Older checkpoints tell nothing.
        return Record(**self._manager.restore(step, args=args)["meta"].get("record", {}))

    def go_back(self, stretch: Stretch) -> None:
        """Deletes the checkpoints that may be the cause of a stretch of bad numbers.

        The newest that stays is one whose next step was finite, where there is such a one; if none
        is older than the stretch, none stays.
        """
        steps = self._manager.all_steps() if self._folder.is_dir() else []
        before = [step for step in steps if step < stretch.first]
        proven = [step for step in before if step + 1 < stretch.first]
        newest = max(proven or before, default=0)
        for step in steps:
            if step > newest:
                self._manager.delete(step)

    def finish(self) -> None:
        """Waits until everything is on disk.

        Raises:
          TrainingError: the last checkpoint is not: what was trained since the one before is lost.
        """
        self._wait()
        self._clean()
        if self._lost:
            raise TrainingError(f"the run's last {self._lost}")

    def close(self) -> None:
        """Waits for what is being written, and gives the workdir to others."""
        try:
            self._wait()
        except TrainingError as e:  # Another error may be on its way.
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
            metrics=metrics or None,
            force=True,
        )

    def _wait(self) -> None:
        """Waits for the checkpoint that is being written, and tells if it could not be."""
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
        elif self._lost:
            self._lost = ""
            log.info(f"the checkpoint of step {step} is on disk again")

    def _check_room(self) -> None:
        """Raises an OSError if what is about to be written has no place."""
        self._lock.check()
        free = free_bytes(self._folder)
        if free is not None and free < self._size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self._folder))

    def _write_sums(self) -> None:
        """Called by Orbax, on the first process, when all is there but the checkpoint's name."""
        if self._saving is not None and is_local(self._folder):
            (partial,) = self._partial(self._saving)
            self._size = write_sums(partial)

    def _fail(self, step: int, problem: Exception | None) -> None:
        """Takes away what there is of a checkpoint that can't be written, and tells."""
        self._saving = None
        # Orbax has forgotten those that were to make room for it. The next one looks anew.
        vars(self).pop("_manager", None)
        self._failed.add(step)
        self._clean()
        why = "another process failed" if problem is None else reason(problem)
        self._lost = (
            f"checkpoint, of step {step}, could not be written: {self._folder}: {why}; it takes "
            f"{megabytes(self._size or self._needed)}, "
            f"{megabytes(free_bytes(self._folder))} are free"
        )
        if self._keep.on_error == "stop":
            raise TrainingError(f"a {self._lost}")
        log.info(f"a {self._lost}; earlier ones are kept, and the next one is tried in its turn")

    def _clean(self) -> None:
        """Takes away what there is of checkpoints that could not be written, or are to go.

        At several times, since what fails first does not end the writes that are under way.
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


@functools.cache
def _hush_orbax() -> None:
    """Keeps what Orbax prints of a failed checkpoint from the screen: the first error is raised.

    It writes hundreds of arrays at once and waits for none after the first that fails. The others
    fail later or never start, with nobody to tell: asyncio logs them, or TensorStore finds their
    loop closed.
    """
    logging.getLogger("absl").addFilter(lambda x: f"{os.sep}orbax{os.sep}" not in x.pathname)
    logging.getLogger("asyncio").addFilter(lambda x: not any(map(x.getMessage().count, AFTERWARDS)))
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    show = sys.unraisablehook

    def show_others(told) -> None:
        if str(told.exc_value) != "Event loop is closed":
            show(told)

    sys.unraisablehook = show_others


def _describe(config: ConfigDict, info: DataInfo) -> dict:
    return {
        "config": json.loads(config_lib.to_json(config)),
        "class_names": list(info.class_names),
        "multi_label": info.multi_label,
        "image_shape": list(info.image_shape),
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
