"""Runs of the training command: what a user sees and finds in the workdir."""

import json

from imgcls.checkpoint import latest_checkpoint
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


def test_first_run_of_the_readme(command, tmp_path):
    """The digits recipe itself: at least 97 % on the test images."""
    done = command("main", "--config=configs/digits.py", f"--workdir={tmp_path}", timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["test/accuracy"] >= 0.97 and lines[-1]["test/examples"] == 359
    again = command("main", "--config=configs/digits.py", f"--workdir={tmp_path}")
    assert again.returncode == 0 and "continue at step 674 of 674" in again.stdout


def test_workdir_and_log_lines(command, tmp_path):
    profile = ("--config.log.profile=(3, 4)",)
    done = command("main", *RUN, *profile, f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "tensorflow" not in done.stderr.lower()
    for words in ("step 10/40 ", "learning_rate", "img/s", "left", "test/ema_accuracy", "done: 40"):
        assert words in done.stdout
    found = {p.name for p in tmp_path.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "profile"} <= found
    assert any(name.startswith("events.out.tfevents") for name in found)
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
    best = max(evaluated, key=lambda line: line["test/accuracy"])
    kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir()}
    assert best["step"] in kept and latest_checkpoint(str(tmp_path)).name == "40"


def test_one_trainer_reads_in_a_sitting():
    """The loop knows objectives by their contract alone, and stays short."""
    text = (REPO / "imgcls" / "train.py").read_text()
    assert text.count("\n") <= 320
    for name in ("supervised", "simclr", "byol", "cross_entropy"):
        assert name not in text
