"""Which checkpoint is the best, and that no save fails for a metric."""

import json
import math

import numpy as np
import pytest

from imgcls.main import main
from imgcls.runs.best import BestMetric
from imgcls.runs.save import Checkpointer
from tests.conftest import make_mesh
from tests.runs.test_load import INFO, make_config, make_state, steps_kept

ACCURACY, LOSS = BestMetric("test/accuracy", "higher"), BestMetric("test/loss", "lower")


@pytest.mark.parametrize(
    ("values", "highest", "lowest"),
    [
        ({1: 0.5, 2: 0.9, 3: 0.1}, 2, 3),
        ({1: 0.5, 2: 0.5, 3: None}, 2, 2),
        ({1: math.nan, 2: 0.2, 3: math.nan}, 2, 2),
        ({1: -math.inf, 2: 0.0, 3: math.inf}, 3, 1),
        ({1: None, 2: math.nan}, None, None),
        ({}, None, None),
    ],
)
def test_choose(values, highest, lowest):
    for best, expected in ((ACCURACY, highest), (LOSS, lowest)):
        metrics = {s: None if v is None else {best.name: v, "x": 9} for s, v in values.items()}
        assert best.choose(metrics) == expected
        assert best.choose({**metrics, 9: {"other/accuracy": 1.0}}) == expected


def test_a_checkpoint_with_other_metrics_has_no_metric(tmp_path):
    """The metric that ranks checkpoints changes: older ones do not count, and every save works."""
    assert steps_kept(tmp_path, [0.9, 0.5, 0.6], ACCURACY, keep_last=1) == [1, 3]
    state, _ = make_state(config := make_config(), make_mesh())
    config.checkpoint.keep_last, other = 1, BestMetric("knn/accuracy", "higher")
    checkpointer = Checkpointer(str(tmp_path), config, INFO, other)
    kept = []
    for step, value in ((4, None), (5, np.float32(0.25)), (6, math.nan), (7, 0.125)):
        checkpointer.save(step, state, None if value is None else {other.name: value})
        checkpointer.finish()
        kept.append(sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()))
    checkpointer.close()
    assert kept == [[4], [5], [5, 6], [5, 7]]


SMALL = (
    "--config=configs/digits.py",
    "--config.model.width=4",
    "--config.model.stage_sizes=(1,)",
    "--config.checkpoint.every=2 steps",
    "--config.total=8 steps",
    "--config.evaluators.test.every=2 steps",
    "--config.evaluators.part={'split': 'train[:100]', 'every': '4 steps'}",
    "--config.compile_cache=",
)


@pytest.mark.parametrize("metric", ["part/f1", "test/ece"])
def test_keep_best_moved_on_resume(metric, tmp_path, capsys):
    """A run that continues with another metric saves every checkpoint and ends."""
    run = [*SMALL, f"--workdir={tmp_path}"]
    assert main([*run, "--config.checkpoint.keep_last=4"]) == 0
    for step in (6, 8):
        (tmp_path / "checkpoints" / str(step)).rename(tmp_path / f"away_{step}")
    changes = ("--config.checkpoint.keep_last=1", f"--config.checkpoint.keep_best={metric}")
    assert main([*run, *changes]) == 0
    out = capsys.readouterr().out
    assert "continue at step 4 of 8" in out and "could not be written" not in out
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    measured = {x["step"]: x[metric] for x in lines if metric in x}
    assert sorted(measured) == ([4, 8] if metric == "part/f1" else [2, 4, 6, 8])
    better = max if metric == "part/f1" else min
    best = better(reversed(measured), key=lambda step: measured[step])
    assert {int(p.name) for p in (tmp_path / "checkpoints").iterdir()} == {best, 8}
