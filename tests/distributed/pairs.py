"""Starts two processes of a run."""

import re
import subprocess
import time

from tests.conftest import REPO, command_env
from tests.end_to_end.test_devices import free_port

RECIPE = (
    "--config=configs/digits.py",
    "--config.batch_size=64",
    "--config.model.width=8",
    "--config.model.stage_sizes=(1,)",
    "--config.model.virtual_batch_size=32",
    "--config.evaluators.test.every=100000 steps",
    "--config.checkpoint.keep_best=None",
    "--config.checkpoint.every=20 steps",
    "--config.log.every=10 steps",
    "--config.log.tensorboard=False",
    "--config.processes.timeout=30",
)


class Pair:
    """Two processes of a command, each of which writes its output to a file.

    Args:
      folder: directory of the output files.
      cache: directory of compiled programs.
      make_line: `(coordinator address, process index) -> command`.
      homes: working directories of the processes.
    """

    def __init__(self, folder, cache, make_line, homes=(REPO, REPO)):
        self.files = [folder / f"output{i}" for i in range(2)]
        address = f"localhost:{free_port()}"
        self.running = []
        for index, file in enumerate(self.files):
            with open(file, "w") as out:
                self.running.append(
                    subprocess.Popen(
                        make_line(address, index),
                        env=command_env(cache) | {"PYTHONPATH": str(REPO)},
                        cwd=homes[index],
                        stdout=out,
                        stderr=subprocess.STDOUT,
                    )
                )

    def output(self, index: int) -> str:
        return self.files[index].read_text()

    def wait_for(self, pattern: str, index: int = 0) -> None:
        end = time.monotonic() + 300
        while not re.search(pattern, self.output(index)):
            alive = self.running[index].poll() is None and time.monotonic() < end
            assert alive, f"no {pattern!r} in:\n{self.output(index)}"
            time.sleep(0.05)

    def codes(self) -> list[int]:
        return [p.wait(timeout=300) for p in self.running]

    def kill(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


def place_flags(address: str, index: int) -> tuple[str, ...]:
    """Flags of a process of a pair."""
    return (f"--coordinator={address}", "--num_processes=2", f"--process_id={index}")
