"""Runs with worker processes: however they end, no process and no shared memory is left behind."""

import os
import pathlib
import random
import re
import signal
import subprocess
import time
import uuid

import pytest

from imgcls.core.errors import EXIT_AGAIN
from tests.conftest import REPO, command_env, command_line

PROC, SHARED_MEMORY = pathlib.Path("/proc"), pathlib.Path("/dev/shm")
needs_proc = pytest.mark.skipif(
    not (PROC / "self" / "environ").exists() or not SHARED_MEMORY.is_dir(),
    reason="needs /proc and /dev/shm",
)
LIMIT = 60  # seconds in which everything has to be gone: it is a few, unless the machine is busy

RECIPE = (
    "--config=configs/digits.py",
    "--config.model.width=4",
    "--config.model.stage_sizes=(1,)",
    "--config.data.workers=2",
    "--config.log.every=5 steps",
    "--config.log.tensorboard=False",
    "--config.checkpoint.every=100 steps",
    "--config.evaluators.test.every=100 steps",
)


class Run:
    """A run whose processes are known by a variable of their environment."""

    def __init__(self, folder: pathlib.Path, cache: str, steps: int = 20000):
        self.mark = f"IMGCLS_TEST_MARK={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        self._segments, self._output = segments(), folder / "output"
        with open(self._output, "w") as out:
            self.trainer = subprocess.Popen(
                command_line(
                    *("main", *RECIPE, f"--workdir={folder / 'run'}"),
                    f"--config.total={steps} steps",
                ),
                env=command_env(cache) | {name: value},
                cwd=REPO,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        return self._output.read_text()

    def processes(self) -> dict[int, str]:
        """`{pid: command line}` of all that are alive."""
        found = {}
        for folder in PROC.glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(folder.name)] = line
            except OSError:
                continue
        return found

    def workers(self) -> int:
        return sum("spawn_main" in line for line in self.processes().values())

    def left_segments(self) -> set[str]:
        """Shared memory that was made since the start and that no process has open."""
        if not (new := segments() - self._segments):
            return set()
        mapped = "\n".join(map(maps, PROC.glob("[0-9]*")))
        return {name for name in new if name not in mapped}


def segments() -> set[str]:
    return set(os.listdir(SHARED_MEMORY))


def maps(process: pathlib.Path) -> str:
    try:
        return (process / "maps").read_text()
    except OSError:
        return ""


def wait(until, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def check_nothing_is_left(run: Run) -> None:
    gone = wait(lambda: not run.processes() and not run.left_segments(), LIMIT)
    assert gone, f"left: {run.processes()}, {run.left_segments()}"


def kill(run: Run) -> None:
    """Kills the trainer alone; the others have to follow."""
    run.trainer.kill()
    assert run.trainer.wait() == -signal.SIGKILL, run.output()
    check_nothing_is_left(run)


@needs_proc
def test_workers_and_shared_memory_end_with_a_killed_trainer(cache, tmp_path):
    run = Run(tmp_path, cache)
    assert wait(lambda: re.search(r"step \d+/", run.output()), 600), run.output()
    assert run.workers() >= 2
    kill(run)


@needs_proc
@pytest.mark.parametrize("end", ["ordinary", "terminated"])
def test_nothing_is_left_or_printed_at_the_end(end, cache, tmp_path):
    """Also if a scheduler sends SIGTERM to the workers too: the trainer saves and stops."""
    run = Run(tmp_path, cache, steps=30 if end == "ordinary" else 20000)
    if end == "terminated":
        assert wait(lambda: re.search(r"step \d+/", run.output()), 600), run.output()
        os.killpg(run.trainer.pid, signal.SIGTERM)
    code = run.trainer.wait(600)
    lines = run.output().splitlines()
    assert code == (0 if end == "ordinary" else EXIT_AGAIN), run.output()
    assert lines and all(re.match(r"\[\d\d:\d\d:\d\d\] ", line) for line in lines), run.output()
    assert re.search("done: 30 steps" if end == "ordinary" else r"stopped at step", run.output())
    check_nothing_is_left(run)


@needs_proc
@pytest.mark.slow
def test_twenty_kills_at_any_moment(cache, tmp_path):
    """Kills in start-up, of workers too, in steps, evaluations and saves; the run continues."""
    rng, workers = random.Random(0), []
    for _ in range(20):
        run = Run(tmp_path, cache)
        wait(lambda: run.trainer.poll() is not None, rng.uniform(0.5, 15))  # noqa: B023
        workers.append(run.workers())
        kill(run)
    assert sum(count > 0 for count in workers) >= 10, workers
