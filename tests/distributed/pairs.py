"""Starts two processes of a run."""

import re
import socket
import time

from tests import forking
from tests.conftest import REPO, command_env

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


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


class Pair:
    """Two processes of a command, each of which writes its output to a file.

    Args:
      folder: directory of the output files.
      cache: directory of compiled programs.
      make_line: `(coordinator address, process index) -> command`.
      homes: working directories of the processes.
      devices: number of devices of each.
    """

    def __init__(self, folder, cache, make_line, homes=(REPO, REPO), devices=1):
        self.files = [folder / f"output{i}" for i in range(2)]
        address = f"localhost:{free_port()}"
        self.running = []
        for index, file in enumerate(self.files):
            with open(file, "w") as out:
                line, env = make_line(address, index), command_env(cache, devices)
                env["PYTHONPATH"] = str(REPO)
                self.running.append(forking.start(line, env, homes[index], out))

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
