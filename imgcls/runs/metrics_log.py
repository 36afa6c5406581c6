"""Logs of a run: log lines or a progress bar, metrics, images, TensorBoard events, wandb.

Only process 0 writes; on other processes the writer does nothing.
"""

import dataclasses
import importlib.util
import io
import json
import math
import time
from collections.abc import Callable

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from PIL import Image

from imgcls.core import config as config_lib
from imgcls.core import log
from imgcls.core.errors import ConfigError, TrainingError
from imgcls.core.storage import (
    GrowingFile,
    as_path,
    free_bytes,
    is_local,
    megabytes,
    reason,
    replace_bytes,
)


@dataclasses.dataclass(frozen=True)
class Callbacks:
    """Functions of the caller, called on process 0 with the step and `{name: value}`.

    Attributes:
      on_log: called with the training metrics that are logged, `train/NAME`.
      on_eval: called with the metrics of an evaluation, `EVALUATOR/NAME`.
    """

    on_log: Callable[[int, dict[str, float]], object] | None = None
    on_eval: Callable[[int, dict[str, float]], object] | None = None


NO_CALLBACKS = Callbacks()


class Writer:
    """Writes the metrics of a run to disk and to the terminal.

    Args:
      workdir: directory of `config.json`, `metrics.jsonl`, `report/` and the event files.
      config: config of the run.
      first: step from which the run starts or continues. Lines of later steps, from before a crash,
        are removed from `metrics.jsonl`, as these steps are repeated.
      total: last step.
      callbacks: called with what is written.
    """

    def __init__(
        self,
        workdir: str,
        config: ConfigDict,
        first: int,
        total: int,
        callbacks: Callbacks = NO_CALLBACKS,
    ):
        self._callbacks = callbacks
        self._active, self._workdir = jax.process_index() == 0, workdir
        self._batch_size, self._total = config.batch_size, total
        self._step, self._since = first, time.monotonic()
        self._bar = self._board = self._wandb = None
        if not self._active:
            return
        check_wandb(config)
        folder = as_path(workdir)
        # Files to write and data to append wait here until they can be written.
        self._files = {folder / "config.json": (config_lib.to_json(config) + "\n").encode()}
        self._jsonl = GrowingFile(folder / "metrics.jsonl")
        lines = self._jsonl.path.read_bytes() if self._jsonl.path.exists() else b""
        if (kept := without_later_lines(lines, first)) != lines:
            self._files[self._jsonl.path] = kept
        self._on_error, self._failing = config.checkpoint.on_error, False
        if config.log.tensorboard:
            from imgcls.runs.tensorboard import Events

            self._board = Events(folder, first)
        self._store()
        if config.log.wandb:
            self._wandb = _start_wandb(workdir, config)
        if log.shows_progress():
            self._bar = log.progress(total, "step", first=first)

    def progress(self, step: int) -> None:
        """Advances the progress bar to a step, if there is a bar."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def train_metrics(
        self, step: int, metrics: dict[str, float], unshown: dict[str, float] | None = None
    ) -> None:
        """Writes the training metrics of a step, and the images/s since the last call.

        Args:
          step: step of the metrics.
          metrics: metrics that are shown, and written as `train/NAME`.
          unshown: metrics that are only written, under their own names.
        """
        seconds = time.monotonic() - self._since
        speed = (step - self._step) * self._batch_size / max(seconds, 1e-9)
        metrics = {**metrics, "images_per_second": speed}
        written = {f"train/{key}": value for key, value in metrics.items()}
        self.write(step, written | (unshown or {}))
        if self._active and self._callbacks.on_log is not None:
            self._callbacks.on_log(step, written | (unshown or {}))
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {metrics['loss']:.4g}, {speed:.0f} img/s")
        else:
            left = (self._total - step) * seconds / max(step - self._step, 1)
            shown = " ".join(f"{k} {v:.4g}" for k, v in metrics.items() if k != "images_per_second")
            log.info(f"step {step}/{self._total} {shown} {speed:.0f} img/s, {_duration(left)} left")
        self.restart_clock(step)

    def restart_clock(self, step: int) -> None:
        """Excludes the time since the last call from images/s: evaluation, compilation."""
        self._step, self._since = step, time.monotonic()

    def eval_metrics(self, step: int, metrics: dict[str, float | np.ndarray]) -> dict[str, float]:
        """Writes the numbers and images of an evaluation; returns the numbers."""
        numbers, pictures = split_pictures(metrics)
        if numbers:
            self.write(step, numbers)
        shown = [f"{key} {value:.4f}" for key, value in numbers.items()]
        if self._active and pictures:
            files = encode_pictures(self._workdir, step, pictures)
            self._files |= files
            shown += map(str, files)
            if self._board is not None:
                for key, picture in pictures.items():
                    self._board.picture(step, key, picture)
            self._store()
        log.info(f"step {step}/{self._total} " + " ".join(shown))
        if self._active and self._callbacks.on_eval is not None:
            self._callbacks.on_eval(step, numbers)
        return numbers

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes metrics as a line of `metrics.jsonl`, and to TensorBoard and wandb."""
        if not self._active:
            return
        # JSON has no NaN.
        values = {k: v if math.isfinite(v) else str(v) for k, v in metrics.items()}
        line = json.dumps({"step": step, "time": time.time(), **values}) + "\n"
        self._jsonl.waiting += line.encode()
        if self._board is not None:
            for key, value in metrics.items():
                self._board.scalar(step, key, value)
        self._store()
        if self._wandb is not None:
            self._wandb.log(metrics, step=step)

    def close(self) -> None:
        """Writes what is waiting, reports what can't be written, and closes the progress bar."""
        if self._active and self._try_to_store(at_once=True) is not None:
            lines = self._jsonl.waiting.count(b"\n")
            log.info(
                f"lost: {lines} lines of {self._jsonl.path} and other logs could not be written"
            )
        if self._bar is not None:
            self._bar.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _store(self) -> None:
        """Writes what is waiting, and reports once when that fails and once when it works again.

        Raises:
          TrainingError: writing failed, with `config.checkpoint.on_error='stop'`.
        """
        problem = self._try_to_store()
        if problem is not None and not self._failing:
            message = f"the logs can't be written: {problem}"
            if self._on_error == "stop":
                raise TrainingError(message)
            log.info(f"{message}; they are kept in memory and tried again at the next write")
        elif problem is None and self._failing:
            log.info("the logs are written again, including those kept in memory")
        self._failing = problem is not None

    def _try_to_store(self, at_once: bool = False) -> str | None:
        """Writes what is waiting; returns a description of the problem if that fails."""
        path = self._jsonl.path
        try:
            for path in list(self._files):
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_bytes(path, self._files[path])
                del self._files[path]
            for file in (self._jsonl, self._board and self._board.file):
                if file is not None:
                    path = file.path
                    file.flush(at_once)
        except Exception as e:
            # Libraries of object stores raise many types.
            if is_local(path) and not isinstance(e, OSError):
                raise
            return f"{path}: {reason(e)}, {megabytes(free_bytes(path))} are free"
        return None


def split_pictures(metrics: dict) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Splits the metrics of an evaluation into numbers and images, uint8 `[H, W, 3]`."""
    pictures = {key: value for key, value in metrics.items() if isinstance(value, np.ndarray)}
    return {key: value for key, value in metrics.items() if key not in pictures}, pictures


def encode_pictures(
    workdir: str, step: int, pictures: dict[str, np.ndarray]
) -> dict[epath.Path, bytes]:
    """Encodes images as PNG: `{WORKDIR/report/NAME_STEP.png: bytes}`."""
    files = {}
    for key, picture in pictures.items():
        encoded = io.BytesIO()
        Image.fromarray(picture).save(encoded, "png")
        name = f"{key.replace('/', '_')}_{step:08d}.png"
        files[as_path(workdir) / "report" / name] = encoded.getvalue()
    return files


def save_pictures(workdir: str, step: int, pictures: dict[str, np.ndarray]) -> list[epath.Path]:
    """Writes each image to `WORKDIR/report/NAME_STEP.png` atomically; returns the paths."""
    files = encode_pictures(workdir, step, pictures)
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, data)
    return list(files)


def read_metrics(workdir: epath.Path) -> list[dict[str, float]]:
    """The lines of a run's `metrics.jsonl`: `step`, `time` and metrics by name; [] without one."""
    path, lines = workdir / "metrics.jsonl", []
    for text in path.read_text().splitlines() if path.is_file() else ():
        try:
            # Values that are not finite are written as text.
            lines.append({key: float(value) for key, value in json.loads(text).items()})
        except ValueError:
            continue  # A line cut off by a crash.
    return lines


def without_later_lines(lines: bytes, step: int) -> bytes:
    """The lines of a metrics file up to `step`, without lines truncated by a crash."""
    kept = []
    for line in lines.splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + b"\n")
        except (ValueError, KeyError, TypeError):
            continue
    return b"".join(kept)


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def check_wandb(config: ConfigDict) -> None:
    """Raises a ConfigError if the config asks for wandb and it is not installed."""
    if config.log.wandb and importlib.util.find_spec("wandb") is None:
        raise ConfigError("config.log.wandb=True: wandb is not installed; run `pip install wandb`")


def _start_wandb(workdir: str, config: ConfigDict):
    import wandb  # pyright: ignore[reportMissingImports]  # not a requirement

    # If the workdir is in an object store, wandb writes to its default directory.
    name, folder = as_path(workdir).name, workdir if is_local(workdir) else None
    return wandb.init(dir=folder, name=name, id=name, resume="allow", config=config.to_dict())
