"""Preempts a run again and again until it is done, and compares its goodput with a watch's:

    python -m tests.faults.preemptions --minutes=30 --every=150 --out=/tmp/imgcls/preemptions.json

`launch/local.sh` trains, for nine tenths of so many minutes if it were left alone; its trainer gets
SIGTERM every so many seconds. The exit code is 1 if the run does not end well, if a step that
was made is lost, or if its own goodput and the watch's differ by more than 0.05.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

from tests.conftest import REPO, command_env

LOG, SAVE = 20, 200  # every so many steps
RECIPE = (
    "--config=configs/digits.py",
    "--config.schedule.name=constant",
    "--config.schedule.warmup=0 steps",
    "--config.optim.learning_rate=0.02",
    "--config.ema=0.9",
    "--config.batch_size=256",
    "--config.model.width=32",
    "--config.model.virtual_batch_size=32",
    "--config.model.stage_sizes=(1, 1)",
    f"--config.checkpoint.every={SAVE} steps",
    f"--config.evaluators.test.every={SAVE} steps",
    f"--config.log.every={LOG} steps",
)


LOGGED = r"step (\d+)/\d+ accuracy"


class Watch:
    """Starts the launcher and notes when it printed what."""

    def __init__(self, folder: pathlib.Path, workdir: pathlib.Path, steps: int):
        self.lines: list[tuple[float, str]] = []
        self.began = time.monotonic()
        self.launcher = subprocess.Popen(
            ["launch/local.sh", *RECIPE, f"--config.total={steps} steps", f"--workdir={workdir}"],
            env=command_env(str(folder / "cache")) | {"PYTHON": sys.executable},
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.launcher.stdout:
            self.lines.append((time.monotonic(), line.rstrip()))

    def trainer(self) -> int | None:
        """The process that trains now."""
        line = ["pgrep", "-f", "-P", str(self.launcher.pid), "imgcls.main"]
        found = subprocess.run(line, capture_output=True, text=True).stdout.split()
        return int(found[0]) if found else None

    def finish(self) -> int:
        code = self.launcher.wait()
        self._reader.join()
        return code

    def last_step(self) -> int:
        return max(self.numbers(LOGGED), default=0)

    def seconds_per_step(self) -> float:
        """The mean between two lines of one process with nothing but steps between them."""
        alone, last = [], None
        for at, line in self.lines:
            if match := re.search(LOGGED, line):
                if last and last[1] % SAVE:
                    alone.append((at - last[0]) / (int(match[1]) - last[1]))
                last = at, int(match[1])
            elif "first step after" in line:
                last = None
        return statistics.mean(alone)

    def numbers(self, pattern: str) -> list[int]:
        return [int(m[1]) for _, line in list(self.lines) if (m := re.search(pattern, line))]


def preempt(folder: pathlib.Path, minutes: float, every: float) -> dict:
    """Runs it; what happened, as JSON can write it.

    Args:
      folder: gets all files; `short` and `workdir` there must not exist.
      minutes: of which nine tenths are needed without interruptions.
      every: seconds between two SIGTERMs.
    """
    short = Watch(folder, folder / "short", 10 * LOG)
    assert short.finish() == 0, short.lines
    steps = max(round(0.9 * 60 * minutes / short.seconds_per_step()), 10 * LOG)
    watch, sent, took, still = Watch(folder, folder / "workdir", steps), 0, [], 0.0
    while watch.launcher.poll() is None:
        due = watch.began + every * (sent + 1)
        while watch.launcher.poll() is None and (now := time.monotonic()) < due:
            time.sleep(0.1)
            still += max(time.monotonic() - now - 1, 0)
        if (pid := watch.trainer()) is None:
            continue
        with contextlib.suppress(ProcessLookupError):  # It has just ended.
            os.kill(pid, signal.SIGTERM)
        sent, at = sent + 1, time.monotonic()
        while watch.trainer() == pid:
            time.sleep(0.1)
        took.append(round(time.monotonic() - at, 1))
        told = f"{at - watch.began:.0f} s: step {watch.last_step()}, ended in {took[-1]} s"
        print(told, flush=True)
    code, wall = watch.finish(), time.monotonic() - watch.began
    lines = (folder / "workdir" / "metrics.jsonl").read_text().splitlines()
    own = [line for line in map(json.loads, lines) if "goodput" in line][-1]
    stopped, continued = (watch.numbers(f"{w} at step (\\d+)") for w in ("stopped", "continue"))
    return {
        "code": code,
        "steps": steps,
        "wall_seconds": round(wall, 1),
        "stood_still_seconds": round(still, 1),  # of them; the whole machine, most likely
        "sigterms": sent,
        "seconds_to_exit": took,
        "stopped_at": stopped,
        "continued_at": continued,
        "own": {key: round(own[key], 4) for key in own if key.startswith("goodput")},
        "watch": {
            "seconds_per_step": round(watch.seconds_per_step(), 4),
            "goodput": round(watch.seconds_per_step() * steps / wall, 4),
        },
        "last_line": watch.lines[-1][1],
    }


def held(result: dict) -> bool:
    """Whether everything was as it has to be."""
    difference = abs(result["own"]["goodput"] - result["watch"]["goodput"])
    lossless = set(result["stopped_at"]) == set(result["continued_at"])
    return result["code"] == 0 and lossless and difference <= 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, default=150, help="seconds")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON; files go beside it")
    args = parser.parse_args()
    folder = args.out.absolute().with_suffix("")
    for name in ("short", "workdir"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    result = preempt(folder, args.minutes, args.every)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0 if held(result) else 1


if __name__ == "__main__":
    sys.exit(main())
