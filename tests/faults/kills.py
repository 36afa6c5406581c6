"""Kills a real run at random moments, starts it again each time, and compares what it becomes:

    python -m tests.faults.kills --kills=50 --variant=fixed --out=/tmp/imgcls/kills.json

`fixed` has two processes in every life, and has to end in the bits of a run that was left alone.
`mixed` has 2, 1 and 4 in turn, and has to have that run's losses within 1e-4. Before each start,
every checkpoint that is listed has to be whole. The exit code is 1 if anything was otherwise.
"""

import argparse
import collections
import dataclasses
import functools
import json
import logging
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from imgcls.core.errors import EXIT_AGAIN
from imgcls.runs import checksums
from imgcls.runs.load import find_checkpoint
from tests.conftest import REPO, command_env, command_line
from tests.distributed.pairs import free_port
from tests.end_to_end.test_devices import losses
from tests.end_to_end.test_resume import training_curve

VARIANTS = {"fixed": (2,), "mixed": (2, 1, 4)}  # numbers of processes, in turn
MOMENTS = ("start-up", "step", "save", "evaluation")
TIMEOUT = 10  # seconds, after which a process that is lost has to be missed
EVALUATE, SAVE = 10, 5  # every so many steps
STEPS = 8  # the most that a life is given
# Steps of the run for each kill, with one number of processes and with several: in hundreds of them
# the rounding of another number of devices grows, also in a run that is left alone.
LENGTH, MIXED_LENGTH = 8, 2
TOLERANCE = 1e-4  # of a loss, on another number of devices

# Branches that start at zero and a low learning rate: rounding stays rounding (tests/test_devices).
RECIPE = (
    "--config=configs/digits.py",
    "--config.schedule.warmup=0 steps",
    "--config.schedule.name=constant",
    "--config.optim.learning_rate=0.02",
    "--config.ema=0.9",
    "--config.batch_size=512",
    "--config.model.width=32",
    "--config.model.virtual_batch_size=32",
    "--config.model.stage_sizes=(1, 1)",
    "--config.log.every=1 steps",
    "--config.log.tensorboard=False",
    f"--config.evaluators.test.every={EVALUATE} steps",
    f"--config.checkpoint.every={SAVE} steps",
    f"--config.processes.timeout={TIMEOUT}",
)


@dataclasses.dataclass
class Kill:
    """One kill, and what came of it.

    Attributes:
      moment: one of MOMENTS, as seen right after the kill.
      processes: of this life.
      victims: which of them were killed.
      step: the last that the life had logged; 0 if none.
      checkpoint: the newest after all had ended.
      lost: steps that have to be made again.
      seconds: until the others had ended by themselves; None if there were none.
      codes: exit codes of all.
      wrong: what should not be.
    """

    moment: str
    processes: int
    victims: list[int]
    step: int
    checkpoint: int
    lost: int
    seconds: float | None
    codes: list[int]
    wrong: list[str]


class Clock:
    """Seconds in which this process ran: a machine that stood still meanwhile did not take long."""

    def __init__(self):
        self.seconds, self._last = 0.0, time.monotonic()

    def wait(self, until: Callable[[], bool], limit: float) -> bool:
        """Whether it becomes true within so many seconds."""
        end = self.seconds + limit
        while not until():
            if self.seconds > end:
                return False
            time.sleep(0.01)
            now = time.monotonic()
            self.seconds += min(now - self._last, 1.0)
            self._last = now
        return True


class Life:
    """The processes of one start of the run, and what is seen of them from outside."""

    def __init__(self, folder: pathlib.Path, workdir: pathlib.Path, count: int, args: list[str]):
        self.clock, self._workdir, self._began = Clock(), workdir, time.time()
        line = command_line("main", *RECIPE, *args, f"--workdir={workdir}")
        address = f"--coordinator=localhost:{free_port()}"
        self._files = [folder / f"output{i}" for i in range(count)]
        self.running = []
        for index, file in enumerate(self._files):
            place = [address, f"--num_processes={count}", f"--process_id={index}"]
            with open(file, "w") as out:
                self.running.append(
                    subprocess.Popen(
                        line + place if count > 1 else line,
                        env=command_env(str(folder / "cache")),
                        cwd=REPO,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                    )
                )

    def output(self, index: int = 0) -> str:
        return self._files[index].read_text()

    def steps(self) -> list[int]:
        """Those that were logged."""
        return [int(step) for step in re.findall(r"step (\d+)/\d+ accuracy", self.output())]

    def ended(self) -> bool:
        return all(process.poll() is not None for process in self.running)

    def moment(self) -> str:
        """What the run is doing."""
        output = self.output()
        if "first step after" not in output:
            return "start-up"
        for path in (self._workdir / "checkpoints").glob("*.orbax-*"):
            # What an earlier life left there may not have been cleaned away yet.
            if path.exists() and path.stat().st_mtime > self._began:
                return "save"
        last = output.splitlines()[-1]
        logged = re.search(r"step (\d+)/\d+ accuracy", last)
        return "evaluation" if logged and int(logged[1]) % EVALUATE == 0 else "step"

    def finish(self) -> list[int]:
        """Waits for the end; exit codes."""
        self.clock.wait(self.ended, 3600)
        return self.stop()

    def stop(self) -> list[int]:
        for process in self.running:
            process.kill()
        return [process.wait() for process in self.running]


def kill_one(life: Life, rng: random.Random, start_up: float) -> Kill | None:
    """Kills one or all processes at a random moment, and waits for the others.

    Args:
      life: has just begun.
      rng: draws the moment and the victims.
      start_up: seconds that the first step takes to come, or so.

    Returns:
      What happened; None if the run ended before.
    """
    wanted, steps, delay = rng.choice(MOMENTS), rng.randint(1, STEPS), rng.uniform(0, 0.3)
    count = len(life.running)
    victims = list(range(count)) if rng.random() < 0.3 else [rng.randrange(count)]
    if wanted == "start-up":
        life.clock.wait(life.ended, rng.uniform(0.1, start_up))
    else:
        life.clock.wait(lambda: life.ended() or len(life.steps()) >= steps, 300)
        life.clock.wait(lambda: life.ended() or life.moment() == wanted, 60)
        life.clock.wait(life.ended, delay)
    if any(process.poll() is not None for process in life.running):
        return None
    for index in victims:
        life.running[index].send_signal(signal.SIGKILL)
    moment, step, began = life.moment(), max(life.steps(), default=0), life.clock.seconds
    limit = TIMEOUT + (start_up if moment == "start-up" else 0)
    wrong = [] if life.clock.wait(life.ended, 6 * limit) else ["some did not end"]
    seconds = life.clock.seconds - began if len(victims) < count else None
    if seconds is not None and seconds > limit:
        wrong.append(f"the others ended after {seconds:.1f} s")
    codes = life.stop()
    for index, code in enumerate(codes):
        if code != (-signal.SIGKILL if index in victims else EXIT_AGAIN):
            wrong.append(f"process {index} exited with {code}: {life.output(index)[-300:]}")
    return Kill(moment, count, victims, step, 0, 0, seconds, codes, wrong)


def arrays(checkpoint: epath.Path) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by its path, from any number of processes."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        tree = reader.metadata(checkpoint / "state").item_metadata.tree
        whole = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        args = ocp.args.PyTreeRestore(restore_args=whole)
        restored = reader.restore(checkpoint / "state", args=args)
    leaves = jax.tree_util.tree_flatten_with_path(restored)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def check_checkpoints(workdir: pathlib.Path) -> tuple[int, list[str]]:
    """The newest that is listed, and what is wrong with any."""
    root, wrong = epath.Path(workdir) / "checkpoints", []
    steps = checksums.checkpoint_steps(root)
    for step in steps:
        if not (root / str(step) / checksums.CHECKSUMS).exists():
            wrong.append(f"{step} has no sums")
        if found := checksums.find_damage(root / str(step)):
            wrong.append(found)
        try:
            assert arrays(root / str(step))["['step']"] == step
        except Exception as e:
            wrong.append(f"{step} can't be restored: {type(e).__name__}: {e}")
    return max(steps, default=0), wrong


def torture(
    folder: pathlib.Path,
    counts: tuple[int, ...],
    kills: int,
    seed: int,
    tell: Callable[[str], None] = print,
) -> dict:
    """Runs it undisturbed, then with so many kills; what happened, as JSON can write it.

    Args:
      folder: gets all files. `workdir` there must not exist; a run that is in `undisturbed` is
        continued, or taken as it is.
      counts: numbers of processes, in turn; the undisturbed run has the first.
      kills: that have to hit a living run.
      seed: of the moments and victims.
      tell: is called with a line about each kill.
    """
    total = kills * (LENGTH if len(counts) == 1 else MIXED_LENGTH)
    args = [f"--config.total={total} steps"]
    left_alone, workdir = folder / "undisturbed", folder / "workdir"
    life = Life(folder, left_alone, counts[0], [*args, "--config.processes.timeout=300"])
    assert life.finish() == [0] * counts[0], life.output()
    rng, done, by_themselves, lives, began = random.Random(seed), [], [], 0, time.time()
    start_up = dict.fromkeys(counts, 8.0)
    while len(by_themselves) <= kills:
        count = counts[lives % len(counts)]
        life, lives = Life(folder, workdir, count, args), lives + 1
        kill = kill_one(life, rng, start_up[count]) if len(done) < kills else None
        if kill is None:
            codes = life.finish()
            if codes == [0] * count:
                break
            tell(f"life {lives} ended by itself: {codes}")
            by_themselves.append({"codes": codes, "output": life.output()[-500:]})
            continue
        if found := re.search(r"first step after ([\d.]+) s", life.output()):
            start_up[count] = min(float(found[1]), 30.0)
        kill.checkpoint, wrong = check_checkpoints(workdir)
        kill.wrong += wrong
        kill.lost = max(kill.step - kill.checkpoint, 0) if kill.step else 0
        done.append(kill)
        tell(f"{len(done)}: {kill}")
    return {
        "processes": counts,
        "seed": seed,
        "steps": total,
        "timeout": TIMEOUT,
        "seconds": round(time.time() - began),
        "landed": len(done),
        "same": compare(workdir, left_alone, bits=len(counts) == 1),
        "wrong": [wrong for kill in done for wrong in kill.wrong],
        "ended_by_themselves": by_themselves,
        "table": [row for moment in (*MOMENTS, "all") if (row := summary(moment, done))],
        "kills": [dataclasses.asdict(kill) for kill in done],
    }


def compare(workdir: pathlib.Path, left_alone: pathlib.Path, bits: bool) -> dict:
    """Whether the run that was killed became the one that was left alone: `{'holds': bool, ...}`"""
    ours, theirs = losses(workdir), losses(left_alone)
    if len(ours) != len(theirs):
        return {"holds": False, "losses": len(ours), "expected": len(theirs)}
    differs = float(np.abs(ours - theirs).max())
    if not bits:
        return {"holds": differs <= TOLERANCE, "largest difference of a loss": differs}
    # The parameters, their average, the optimizer's and BatchNorm's state.
    ours, theirs = (arrays(find_checkpoint(folder).path) for folder in (workdir, left_alone))
    unlike = [k for k in theirs if k not in ours or not np.array_equal(ours[k], theirs[k])]
    curves = training_curve(workdir) == training_curve(left_alone)
    return {"holds": not unlike and curves, "arrays": len(theirs), "unlike": unlike}


def summary(moment: str, kills: list[Kill]) -> dict:
    """A row of the table; empty if there were no kills then."""
    kills = [kill for kill in kills if moment in (kill.moment, "all")]
    if not kills:
        return {}
    lost = [kill.lost for kill in kills]
    seconds = [kill.seconds for kill in kills if kill.seconds is not None]
    return {
        "moment": moment,
        "kills": len(kills),
        "victims": dict(collections.Counter(_victims(kill) for kill in kills)),
        "lost_median": statistics.median(lost),
        "lost_max": max(lost),
        "seconds_median": round(statistics.median(seconds), 1) if seconds else None,
        "seconds_max": round(max(seconds), 1) if seconds else None,
        "wrong": sum(bool(kill.wrong) for kill in kills),
    }


def _victims(kill: Kill) -> str:
    return "all" if len(kill.victims) == kill.processes else f"process {kill.victims[0]}"


def held(result: dict, kills: int) -> bool:
    """Whether everything was as it has to be."""
    return result["landed"] == kills and not result["wrong"] and result["same"]["holds"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON; files go beside it")
    args = parser.parse_args()
    folder = args.out.absolute().with_suffix("")
    shutil.rmtree(folder / "workdir", ignore_errors=True)
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)  # Orbax's, of each checkpoint that is read.
    tell = functools.partial(print, flush=True)
    result = torture(folder, VARIANTS[args.variant], args.kills, args.seed, tell)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    for row in result["table"]:
        print(row)
    print({key: result[key] for key in ("landed", "seconds", "same", "wrong")})
    return 0 if held(result, args.kills) else 1


if __name__ == "__main__":
    sys.exit(main())
