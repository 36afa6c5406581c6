"""Calibration by the commands `report` and `evaluate`."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from imgcls.evaluate.__main__ import main as evaluate
from imgcls.evaluate.per_example import example_nll
from imgcls.report.__main__ import main as report
from tests.conftest import exit_code
from tests.make import draw_pictures, save_run
from tests.reports import Page


def write_data(folder, logits_of, wrong: int) -> tuple[list[str], float]:
    """Writes 40 images to calibrate on, `wrong` of them misclassified, and 40 others, 4 of them.

    Returns the arguments of a command, and the negative log-likelihood of the others.
    """
    folder.mkdir()
    pictures = draw_pictures(80)
    logits = logits_of(pictures)
    labels = logits.argmax(1)
    labels[:wrong] = (labels[:wrong] + 1) % 3
    labels[40:44] = (labels[40:44] + 1) % 3
    rows = []
    for i, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append({"image": f"{i}.png", "label": "abc"[labels[i]], "split": "val"})
        rows[-1]["split"] = "val" if i < 40 else "test"
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"--config.data.source=manifest:{folder / 'all.jsonl'}"
    nll = float(np.mean(example_nll(logits[40:], labels[40:], "softmax")))
    return [source, "--config.data.workers=0"], nll


@pytest.mark.parametrize(
    ("wrong", "note"), [(0, "0 errors, fewer than 5"), (4, "4 errors, fewer than 5"), (20, "")]
)
def test_temperature_needs_errors(tmp_path, capsys, wrong, note):
    """A model without errors in validation had temperature 0.05, the lowest allowed."""
    run = save_run(tmp_path / "run", ("a", "b", "c"))
    arguments, plain_nll = write_data(tmp_path / "data", run.logits, wrong)
    arguments = [f"--workdir={run.workdir}", *arguments]
    assert exit_code(lambda: report([*arguments, "--examples=2"])) == 0
    printed = capsys.readouterr().out
    page = Page(run.workdir / "report" / "report.html")
    values = {row[0]: float(row[1]) for row in page.table("metric", "value")}
    assert exit_code(lambda: evaluate([*arguments, "--config.evaluators.test.split=test"])) == 0
    output = capsys.readouterr()
    nll = json.loads(output.out)["test/nll"]
    assert values["nll"] == pytest.approx(nll, abs=6e-5)
    if note:
        assert nll == pytest.approx(plain_nll, rel=1e-5)
        assert f"calibrated on val: temperature 1 ({note})\n" in printed
        assert f"temperature 1 ({note}), fitted on val: applied to" in output.err
        assert f"The temperature stays 1: {note}." in page.text
    else:
        # Half of the validation is wrong.
        temperature = float(re.search(r"calibrated on val: temperature (\S+)\n", printed)[1])
        assert temperature > 1.5 and nll != pytest.approx(plain_nll, rel=0.01)
        assert "The temperature stays" not in page.text
