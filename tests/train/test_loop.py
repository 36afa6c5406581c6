"""Runs of the training command: their output and the files of the workdir."""

import json

import pytest

from imgcls.runs.load import find_checkpoint
from tests.conftest import REPO

RUN = (
    "--config=configs/digits.py",
    "--config.total=40 steps",
    "--config.model.width=8",
    "--config.model.stage_sizes=(1, 1)",
    "--config.log.every=10 steps",
    "--config.evaluators.test.every=10 steps",
    "--config.checkpoint.every=20 steps",
    "--config.ema=0.9",
)


@pytest.mark.slow
def test_first_run_of_the_readme(command, tmp_path):
    """The digits recipe reaches at least 97 % on the test images."""
    done = command("main", "--config=configs/digits.py", f"--workdir={tmp_path}", timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["test/accuracy"] >= 0.97 and lines[-1]["test/examples"] == 359
    again = command("main", "--config=configs/digits.py", f"--workdir={tmp_path}")
    assert again.returncode == 0 and "continue at step 674 of 674" in again.stdout


def test_workdir_and_log_lines(command, tmp_path):
    profile = ("--config.log.profile=(3, 4)",)
    # Another environment starts Python itself: the profiler does not like forks.
    options = dict(PYTHONFAULTHANDLER="1")
    done = command("main", *RUN, *profile, f"--workdir={tmp_path}", **options)
    assert done.returncode == 0, done.stderr
    assert "tensorflow" not in done.stderr.lower()
    for words in ("step 10/40 ", "learning_rate", "img/s", "left", "test/ema_accuracy", "done: 40"):
        assert words in done.stdout
    names = {p.name for p in tmp_path.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "profile"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert json.loads((tmp_path / "config.json").read_text())["total"] == "40 steps"
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in trained] == [10, 20, 30, 40]
    assert {"train/learning_rate", "train/grad_norm", "train/images_per_second"} <= trained[
        0
    ].keys()
    evaluated = [line for line in lines if "test/accuracy" in line]
    assert [line["step"] for line in evaluated] == [10, 20, 30, 40]
    best = max(evaluated, key=lambda line: line["test/ema_accuracy"])
    kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir()}
    assert best["step"] in kept and find_checkpoint(tmp_path).step == 40


def test_one_trainer_reads_in_a_sitting():
    """The loop is short and does not depend on particular objectives."""
    text = (REPO / "imgcls" / "train" / "loop.py").read_text()
    assert text.count("\n") <= 320
    for name in ("supervised", "simclr", "byol", "cross_entropy"):
        assert name not in text


def test_best_of_one_evaluator_among_several(here, tmp_path):
    """Evaluations at different steps: only those with the metric of `keep_best` count."""
    done = here(
        "main",
        *RUN,
        "--config.evaluators.part.split=train[:100]",
        "--config.evaluators.part.every=5 steps",
        "--config.checkpoint.every=5 steps",
        "--config.checkpoint.keep_last=1",
        f"--workdir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if "part/f1" in x] == list(range(5, 41, 5))
    judged = {x["step"]: x["test/ema_accuracy"] for x in lines if "test/ema_accuracy" in x}
    kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir()}
    assert sorted(judged) == [10, 20, 30, 40] and 40 in kept and len(kept) <= 2
    assert max(judged[step] for step in kept) == max(judged.values())
