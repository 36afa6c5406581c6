"""Measures the time from the start of the training command to its first step."""

import pathlib
import re
import subprocess
import sys
import tempfile
import time

from imgcls.core import errors
from imgcls.core.errors import ConfigError, TrainingError

# Seconds between checks for the first line of the metrics.
POLL = 0.005


def measure_startup(arguments: list[str], timeout: float = 1800) -> dict[str, float]:
    """Measures the seconds from the start of the process to the start and end of its first step.

    The process is the training command, in a temporary workdir; it is killed once it has logged the
    first step. It is started twice: with an empty compile cache, and with the programs of the first
    start in the cache. The first step itself depends on the batch, and no cache makes it faster, so
    the times without it are reported too.

    Args:
      arguments: `--config=...` and overrides.
      timeout: seconds that a start may take.

    Raises:
      ConfigError: the config has a mistake; the message is that of the command.
      TrainingError: the command failed otherwise, or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="imgcls_bench_") as folder:
        command = [sys.executable, "-m", "imgcls.main", *arguments]
        command += [f"--config.compile_cache={folder}/cache", "--config.log.every=1 steps"]
        command += ["--config.log.wandb=False"]
        seconds = {}
        for name in ("first start, empty compile cache", "second start"):
            workdir = pathlib.Path(folder, name.split()[0])
            end, step = _seconds_to_first_step(command, workdir, timeout)
            seconds[f"{name}, to the first step, s"] = end - step
            seconds[f"{name}, to its end, s"] = end
        return seconds


def _seconds_to_first_step(
    command: list[str], workdir: pathlib.Path, timeout: float
) -> tuple[float, float]:
    """Returns the seconds to the end of the first step, and the seconds of the step itself."""
    log = workdir.with_suffix(".log")
    with open(log, "w") as out:
        start = time.perf_counter()
        command = [*command, f"--workdir={workdir}"]
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            while not _has_logged(workdir):
                if process.poll() is not None:
                    raise _failure(log, process.returncode)
                if time.perf_counter() - start > timeout:
                    raise TrainingError(f"no step within {timeout:.0f} seconds of the start")
                time.sleep(POLL)
            return time.perf_counter() - start, _step_itself(log)
        finally:
            # SIGTERM would make it evaluate and save first.
            process.kill()
            process.wait()


def _has_logged(workdir: pathlib.Path) -> bool:
    path = workdir / "metrics.jsonl"
    return path.exists() and b"\n" in path.read_bytes()


def _step_itself(log: pathlib.Path) -> float:
    """Reads the duration of the step from the log line about the start-up time."""
    match = re.search(r"first step after .*, step ([\d.]+)\)", log.read_text())
    if match is None:
        raise TrainingError("the training command did not log the duration of its first step")
    return float(match[1])


def _failure(log: pathlib.Path, code: int) -> Exception:
    lines = log.read_text(errors="replace").splitlines() or ["the command printed nothing"]
    kind = ConfigError if code == ConfigError.exit_code else TrainingError
    return kind(errors.one_line(lines[-1].removeprefix("error: ")))
