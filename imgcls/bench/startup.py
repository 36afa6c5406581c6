"""How long a user waits for the first step."""

import pathlib
import re
import subprocess
import sys
import tempfile
import time

from imgcls.core import errors
from imgcls.core.errors import ConfigError, TrainingError

# Seconds between two looks for the first line of the metrics.
POLL = 0.005


def measure_startup(arguments: list[str], timeout: float = 1800) -> dict[str, float]:
    """Seconds from the start of the process to its first step, and to the end of that.

    The process is the training command itself, in a temporary workdir. It is ended once it has
    logged the first step. The first start finds an empty compile cache, the second its programs.
    No cache makes the step itself shorter, and it depends on the batch: it is left out of half of
    the numbers.

    Args:
      arguments: `--config=...` and overrides.
      timeout: seconds that a start may take.

    Raises:
      ConfigError: the command ends with a mistake; its line is repeated.
      TrainingError: it ends otherwise, or takes longer.
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
    """To the step's end, and how long of that the step itself took."""
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
            # Not asked to stop, or it would evaluate and save.
            process.kill()
            process.wait()


def _has_logged(workdir: pathlib.Path) -> bool:
    path = workdir / "metrics.jsonl"
    return path.exists() and b"\n" in path.read_bytes()


def _step_itself(log: pathlib.Path) -> float:
    """The last lap of the line that tells where the seconds went."""
    return float(re.search(r"first step after .*, step ([\d.]+)\)", log.read_text())[1])


def _failure(log: pathlib.Path, code: int) -> Exception:
    lines = log.read_text(errors="replace").splitlines() or ["nothing was printed"]
    kind = ConfigError if code == ConfigError.exit_code else TrainingError
    return kind(errors.one_line(lines[-1].removeprefix("error: ")))
