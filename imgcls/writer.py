"""What a run says: a line or a progress bar, metrics, pictures, TensorBoard events, wandb.

Only process 0 writes; the others' writers do nothing.
"""

import importlib.util
import io
import json
import math
import os
import pathlib
import sys
import time

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from imgcls import config as config_lib
from imgcls.errors import ConfigError


def say(message: str) -> None:
    """A log line, from process 0, that does not tear a progress bar."""
    if jax.process_index() == 0:
        tqdm.write(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stdout)
        sys.stdout.flush()


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
        say(f"first step after {self._since - self.began:.1f} s ({', '.join(self._laps)})")


class Writer:
    """Metrics of a run, on disk and on the terminal.

    Args:
      workdir: gets `config.json`, `metrics.jsonl`, `report/` and the event files.
      config: the run's.
      first: the step that the run starts or continues from. Lines of later steps, written before
        a crash and about to come again, are taken out of `metrics.jsonl`.
      total: the last step.
    """

    def __init__(self, workdir: str, config: ConfigDict, first: int, total: int):
        self._active, self._workdir = jax.process_index() == 0, workdir
        self._batch_size, self._total = config.batch_size, total
        self._step, self._since = first, time.monotonic()
        self._bar = self._board = self._wandb = None
        if not self._active:
            return
        check_wandb(config)
        folder = pathlib.Path(workdir)
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / "config.json", config_lib.to_json(config) + "\n")
        drop_later_lines(folder / "metrics.jsonl", first)
        self._jsonl = open(folder / "metrics.jsonl", "a")
        if config.log.tensorboard:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(folder), purge_step=first + 1)
        if config.log.wandb:
            self._wandb = _start_wandb(workdir, config)
        if sys.stderr.isatty():
            self._bar = tqdm(initial=first, total=total, unit="step", dynamic_ncols=True)

    def progress(self, step: int) -> None:
        """Moves the bar, where there is one."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def train_metrics(
        self, step: int, metrics: dict[str, float], unshown: dict[str, float] | None = None
    ) -> None:
        """Writes the training metrics of a step, with the images/s since the last call.

        Args:
          step: of the metrics.
          metrics: are written as `train/NAME`, and shown.
          unshown: are written by their own names.
        """
        seconds = time.monotonic() - self._since
        speed = (step - self._step) * self._batch_size / max(seconds, 1e-9)
        metrics = {**metrics, "images_per_second": speed}
        written = {f"train/{key}": value for key, value in metrics.items()}
        self.write(step, written | (unshown or {}))
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {metrics['loss']:.4g}, {speed:.0f} img/s")
        else:
            left = (self._total - step) * seconds / max(step - self._step, 1)
            shown = " ".join(f"{k} {v:.4g}" for k, v in metrics.items() if k != "images_per_second")
            say(f"step {step}/{self._total} {shown} {speed:.0f} img/s, {_duration(left)} left")
        self.restart_clock(step)

    def restart_clock(self, step: int) -> None:
        """Leaves the time since the last call out of images/s: evaluation, compilation."""
        self._step, self._since = step, time.monotonic()

    def eval_metrics(self, step: int, metrics: dict[str, float | np.ndarray]) -> dict[str, float]:
        """Writes an evaluation's metrics and saves the pictures among them; returns the numbers."""
        numbers, pictures = split_pictures(metrics)
        if numbers:
            self.write(step, numbers)
        shown = [f"{key} {value:.4f}" for key, value in numbers.items()]
        if self._active:
            shown += map(str, save_pictures(self._workdir, step, pictures))
        if self._board is not None:
            for key, picture in pictures.items():
                self._board.add_image(key, picture, step, dataformats="HWC")
        say(f"step {step}/{self._total} " + " ".join(shown))
        return numbers

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """One line of `metrics.jsonl`, and the same for TensorBoard and wandb."""
        if not self._active:
            return
        # JSON has no NaN.
        values = {k: v if math.isfinite(v) else str(v) for k, v in metrics.items()}
        self._jsonl.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")
        self._jsonl.flush()
        if self._board is not None:
            for key, value in metrics.items():
                self._board.add_scalar(key, value, step)
        if self._wandb is not None:
            self._wandb.log(metrics, step=step)

    def close(self) -> None:
        """Closes the files and the bar."""
        if self._active:
            self._jsonl.close()
        for part in (self._bar, self._board):
            if part is not None:
                part.close()
        if self._wandb is not None:
            self._wandb.finish()


def split_pictures(metrics: dict) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """An evaluation's numbers, and its pictures (uint8 `[H, W, 3]`)."""
    pictures = {key: value for key, value in metrics.items() if isinstance(value, np.ndarray)}
    return {key: value for key, value in metrics.items() if key not in pictures}, pictures


def save_pictures(workdir: str, step: int, pictures: dict[str, np.ndarray]) -> list[pathlib.Path]:
    """Writes `WORKDIR/report/NAME_STEP.png` of each, whole or not at all; returns the paths."""
    folder, paths = pathlib.Path(workdir) / "report", []
    for key, picture in pictures.items():
        folder.mkdir(parents=True, exist_ok=True)
        encoded = io.BytesIO()
        Image.fromarray(picture).save(encoded, "png")
        paths.append(folder / f"{key.replace('/', '_')}_{step:08d}.png")
        replace_bytes(paths[-1], encoded.getvalue())
    return paths


def replace_bytes(path: pathlib.Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)


def replace_text(path: pathlib.Path, text: str) -> None:
    """Writes a text whole or not at all."""
    replace_bytes(path, text.encode())


def drop_later_lines(path: pathlib.Path, step: int) -> None:
    """Keeps the lines of a metrics file up to `step`; a line cut off by a crash goes too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    replace_text(path, "".join(kept))


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def check_wandb(config: ConfigDict) -> None:
    """Raises a ConfigError if the config asks for wandb and it is not installed."""
    if config.log.wandb and importlib.util.find_spec("wandb") is None:
        raise ConfigError("config.log.wandb=True: wandb is not installed; run `pip install wandb`")


def _start_wandb(workdir: str, config: ConfigDict):
    import wandb

    name = pathlib.Path(workdir).resolve().name
    return wandb.init(dir=workdir, name=name, id=name, resume="allow", config=config.to_dict())
