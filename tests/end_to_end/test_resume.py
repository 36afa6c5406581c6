"""A run that is killed or stopped, and started again, is the run that was never interrupted."""

import json
import random
import signal
import subprocess
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from imgcls.core.errors import EXIT_AGAIN
from imgcls.runs.load import find_checkpoint
from tests import forking
from tests.conftest import REPO, command_env, command_line

# Everything that draws random numbers or keeps state: RandAugment and a random crop on the host,
# mixup and dropout and drop path on the device, AdamW's moments, batch statistics, the average.
RECIPE = (
    "--config=configs/digits.py",
    "--config.total=60 steps",
    "--config.batch_size=32",
    "--config.model.virtual_batch_size=16",
    "--config.model.width=8",
    "--config.model.stage_sizes=(1, 1)",
    "--config.model.drop_rate=0.2",
    "--config.model.drop_path=0.2",
    "--config.data.train_transform=pad_crop(8, padding=1)|flip|rand_augment(2, 10)",
    "--config.data.batch_transform=mixup(0.2)|random_erasing(0.25)",
    "--config.optim.name=adamw",
    "--config.optim.learning_rate=0.003",
    "--config.optim.weight_decay=0.05",
    "--config.ema=0.9",
    "--config.accumulate=2",
    "--config.checkpoint.every=7 steps",
    "--config.log.every=5 steps",
)


def final_state(workdir) -> dict:
    """Every array of the newest checkpoint, by path; whatever devices it was saved from."""
    path = find_checkpoint(workdir).path / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        saved = reader.metadata(path).item_metadata.tree
        wanted = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        tree = reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=wanted))
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def training_curve(workdir) -> list[dict]:
    """The lines of metrics.jsonl without what a clock puts there."""
    clock = ("time", "train/images_per_second", "goodput")
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if not k.startswith(clock)} for line in lines]


PARTS = ("params", "opt_state", "target", "model_state", "step")


def assert_same_run(workdir, expected, parts=PARTS) -> None:
    """Compares the final states, which have these parts at least, and the curves."""
    ours, theirs = final_state(workdir), final_state(expected)
    assert ours.keys() == theirs.keys()
    for part in parts:
        assert any(key.startswith(f"['{part}']") for key in theirs), part
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value, err_msg=key)
    assert training_curve(workdir) == training_curve(expected)


@pytest.fixture(scope="module")
def uninterrupted(command, tmp_path_factory):
    """The workdir of the recipe's run from start to end."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    done = command("main", *RECIPE, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert int(final_state(workdir)["['step']"]) == 60
    return workdir


class Ended(NamedTuple):
    """The exit code of a run and the lines that it printed."""

    returncode: int
    lines: list[str]


def run_until(marks, send: int, workdir, cache, recipe=RECIPE, **env: str) -> Ended:
    """A run that is sent a signal as soon as its log is past the first of `marks`."""
    line = command_line("main", *recipe, f"--workdir={workdir}")
    process = forking.start(line, command_env(cache) | env, REPO, subprocess.PIPE)
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if marks and f"step {marks[0]}/60" in line:
            process.send_signal(send)
            marks = []
    return Ended(process.wait(), lines)


@pytest.mark.slow
def test_killed_at_random_moments(uninterrupted, cache, tmp_path):
    # A log line may come at any moment of a background save. The seed varies the moments, and the
    # result must not depend on them.
    marks = sorted(random.sample(range(5, 60, 5), 2))
    for mark in marks:
        process = run_until([mark], signal.SIGKILL, tmp_path, cache)
        # A run killed before its first checkpoint begins again; the log then shows the mark anew.
        assert process.returncode == -signal.SIGKILL, "".join(process.lines)
    process = run_until([], signal.SIGKILL, tmp_path, cache)
    assert process.returncode == 0, "".join(process.lines)
    assert_same_run(tmp_path, uninterrupted)


def test_sigterm_saves_and_says_how_to_resume(uninterrupted, cache, tmp_path):
    process = run_until([20], signal.SIGTERM, tmp_path, cache)
    told = "".join(process.lines)
    assert process.returncode == EXIT_AGAIN, told
    assert "type the same command again to continue" in process.lines[-1]
    stopped = find_checkpoint(tmp_path).step
    assert 20 <= stopped < 60 and f"stopped at step {stopped} of 60" in told
    process = run_until([], signal.SIGTERM, tmp_path, cache)
    assert process.returncode == 0
    assert f"continue at step {stopped} of 60" in "".join(process.lines)
    assert_same_run(tmp_path, uninterrupted)
