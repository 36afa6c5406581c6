"""The commands of the README on small class folders, in this process: from folder to report."""

import contextlib
import csv
import io
import json
import pathlib
import unicodedata
from typing import NamedTuple

import numpy as np
from PIL import Image

from imgcls.audit.__main__ import main as audit
from imgcls.core import cli
from imgcls.main import main as train
from imgcls.predict.__main__ import main as predict
from imgcls.report.__main__ import main as report

COLORS = {"cat": (220, 60, 60), "dog": (60, 220, 60), "__background__": (60, 60, 220)}
FORMATS = {"jfif": "JPEG", "jpg": "JPEG"}


class Done(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of an error."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.code == 2 and len(lines) == 1 and "Traceback" not in self.err, self
        return lines[0]


def write(root: pathlib.Path, *paths: str) -> None:
    """Writes noise of 32 px, in the color of the class that the path names."""
    for number, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        name = next((name for name in COLORS if name in path), "cat")
        noise = rng.integers(-40, 36, (32, 32, 3)) + COLORS[name]
        image = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
        image.save(file, FORMATS.get(file.suffix[1:], file.suffix[1:].upper()))


def run(command, *arguments: str) -> Done:
    """Runs the `main` of a command as the command line does."""
    out, err = io.StringIO(), io.StringIO()
    code = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.run(lambda: command(list(arguments)))
        except SystemExit as e:
            code = e.code
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


def run_main(data: str, workdir: pathlib.Path, cache: str, *more: str) -> Done:
    """Trains `configs/own.py` for two steps at 24 px, a small network of one stage."""
    return run(
        train,
        f"--config=configs/own.py:data={data},size=24,width=8,epochs=1",
        f"--workdir={workdir}",
        f"--config.compile_cache={cache}",
        "--config.model.stage_sizes=(1,)",
        "--config.total=2 steps",
        "--config.batch_size=16",
        *more,
    )


class Four(NamedTuple):
    """The four commands, and the files that they wrote."""

    audit: Done
    main: Done
    report: Done
    predict: Done
    findings: dict
    config: dict
    answers: list[dict[str, str]]


def run_four(data: str, new: pathlib.Path, out: pathlib.Path, cache: str) -> Four:
    """Audit, main, report and predict, which classifies the folder `new`."""
    workdir, answers = out / "mine", out / "answers.csv"
    done = (
        run(audit, f"--data={data}", f"--out={out / 'audit'}"),
        run_main(data, workdir, cache),
        run(report, f"--workdir={workdir}"),
        run(predict, f"--checkpoint={workdir}", "--format=csv", f"--out={answers}", str(new)),
    )
    assert done[0].code in (0, 1), done[0]
    assert [step.code for step in done[1:]] == [0, 0, 0], done
    assert (workdir / "report" / "report.html").stat().st_size > 10_000
    with open(answers, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    findings = json.loads((out / "audit" / "audit.json").read_text())
    return Four(*done, findings, json.loads((workdir / "config.json").read_text()), rows)


def other_form(text: str) -> str:
    """The text in the Unicode form of macOS."""
    return unicodedata.normalize("NFD", text)
