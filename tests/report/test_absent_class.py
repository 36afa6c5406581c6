"""Metrics of multi-label data in which a class has no positives, by the commands."""

import json

import numpy as np
import pytest
import sklearn.metrics as sk
from PIL import Image

from imgcls.evaluate.__main__ import main as evaluate
from imgcls.report.__main__ import main as report
from tests.conftest import exit_code
from tests.evaluate.cases import sigmoid
from tests.make import draw_pictures, save_run
from tests.reports import Page


def test_number_of_classes_of_the_mean(tmp_path, capsys):
    run = save_run(tmp_path / "run", ("a", "b", "c", "d"), multi_label=True, loss="sigmoid")
    pictures, rows = draw_pictures(40), []
    logits = run.logits(pictures)
    hot = logits + np.random.default_rng(0).normal(size=logits.shape) > 0
    hot[:, 2] = False
    for i, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        labels = ["abcd"[c] for c in np.flatnonzero(hot[i])]
        rows.append(json.dumps({"image": f"{i}.png", "labels": labels, "split": "test"}) + "\n")
    (tmp_path / "all.jsonl").write_text("".join(rows))
    source = f"--config.data.source=manifest:{tmp_path / 'all.jsonl'}"
    arguments = [f"--workdir={run.workdir}", source, "--config.data.workers=0"]

    assert exit_code(lambda: evaluate([*arguments, "--config.evaluators.test.split=test"])) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert (metrics["test/map_classes"], metrics["test/roc_auc_classes"]) == (3, 3)
    present = [0, 1, 3]
    expected = sk.average_precision_score(hot[:, present], sigmoid(logits[:, present]))
    assert metrics["test/map"] == pytest.approx(expected, rel=1e-5)

    assert exit_code(lambda: report([*arguments, "--examples=2"])) == 0
    page = Page(run.workdir / "report" / "report.html")
    rows = {row[0]: row for row in page.table("metric", "value")}
    for name in ("map", "roc_auc"):
        assert rows[name][3].endswith("over the classes (3 of 4; not defined for the others)")
    assert "map_classes" not in rows
    assert "over 3 of 4 classes" in " ".join(page.text.split())
