"""Reports shared by several tests, made once per process."""

import html.parser
import json
import pathlib
import shutil

import numpy as np
from PIL import Image

from imgcls.report.__main__ import main
from tests.conftest import exit_code
from tests.data.videos import write_video
from tests.make import draw_pictures, save_clip_run, save_run

# Class and file names that HTML, SVG and math text must not interpret.
STRANGE = ("$x^{$", "<img src=x onerror=alert(1)>", "_under", "nul\x07 & 猫")
NAMES = ('"><img src=x onerror=alert(2)>', "$y_{", "<b>&amp;", "plain")


def digits_page(workdir: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Writes a report of the run on digits, in a copy of its workdir; returns its path."""
    copy = folder / "digits run"
    page = copy / "report" / "report.html"
    if not page.exists():
        shutil.copytree(workdir, copy)
        options = ("--calibrate_on=train[:200]", "--examples=5", "--batch_size=64")
        assert exit_code(lambda: main([f"--workdir={copy}", *options])) == 0
    return page


def strange_data(folder: pathlib.Path) -> str:
    """Writes multi-label images with unusual names and labels; returns the source."""
    data = folder / "strange data"
    if not data.exists():
        data.mkdir()
        rng, rows = np.random.default_rng(0), []
        for number, pixels in enumerate(draw_pictures(48)):
            file = f"{NAMES[number % 4]}{number}.png"
            Image.fromarray(pixels).save(data / file)
            chosen = [STRANGE[k] for k in np.flatnonzero(rng.random(4) < 0.5)]
            split = "test" if number < 24 else "val"
            rows.append({"image": file, "labels": chosen, "split": split})
        lines = [json.dumps(row) + "\n" for row in rows]
        (data / "all.jsonl").write_text("".join(lines))
    return f"manifest:{data / 'all.jsonl'}"


def strange_run(folder: pathlib.Path) -> list[str]:
    """Returns arguments that name a multi-label checkpoint without logs, and `strange_data`."""
    run = folder / "strange"
    if not run.exists():
        save_run(run, STRANGE, multi_label=True, loss="sigmoid")
    (checkpoint,) = (run / "checkpoints").iterdir()
    source = f"--config.data.source={strange_data(folder)}"
    return [f"--workdir={checkpoint}", source, "--examples=6", "--config.data.workers=0"]


def strange_page(folder: pathlib.Path) -> pathlib.Path:
    """Writes a report of `strange_run`; returns its path."""
    page = folder / "strange.html"
    if not page.exists():
        arguments = strange_run(folder)
        assert exit_code(lambda: main([*arguments, f"--out={page}"])) == 0
    return page


def clips_page(folder: pathlib.Path) -> pathlib.Path:
    """Writes a report of a model of clips on videos of 4 to 27 frames; returns its path."""
    page = folder / "clips.html"
    if not page.exists():
        rng = np.random.default_rng(0)
        for number in range(24):
            place = folder / "clips data" / "test" / ("dark", "bright")[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 60, (4 + number, 24, 32, 3)).astype(np.uint8)
            frames = noise + np.uint8(190) * np.uint8(number % 2)
            (place / f"{number:02}.mp4").write_bytes(write_video(frames))
        # In this one nothing moves.
        still = np.full((9, 24, 32, 3), 128, np.uint8)
        (place / "still.mp4").write_bytes(write_video(still))
        run = save_clip_run(folder / "clips run", ("bright", "dark"))
        source = f"--config.data.source=folder:{folder / 'clips data'}"
        options = (source, "--examples=8", "--config.data.workers=0", f"--out={page}")
        assert exit_code(lambda: main([f"--workdir={run}", *options])) == 0
    return page


class Page(html.parser.HTMLParser):
    """A parsed page.

    Attributes:
      tags: `(tag, attributes)` in order.
      text: text of the page.
      tables: for each table a list of rows, which are lists of the texts of cells.
    """

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self.tags, self.text, self.tables, self._in_cell = [], "", [], False
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self._in_cell:
            self.tables[-1][-1][-1] += data

    def table(self, *header: str) -> list[list[str]]:
        """Returns the rows of the table whose header starts with `header`."""
        (table,) = [t for t in self.tables if tuple(t[0][: len(header)]) == header]
        return [[cell.strip() for cell in row] for row in table[1:]]
