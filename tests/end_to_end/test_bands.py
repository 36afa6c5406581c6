"""Training, evaluation, prediction and a report on images of 4 and 6 channels, by the commands."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

import imgcls
from imgcls.audit.__main__ import main as audit
from imgcls.evaluate.__main__ import main as evaluate
from imgcls.main import main
from imgcls.predict.__main__ import main as predict
from imgcls.report.__main__ import main as report
from tests.conftest import exit_code


def write_classes(folder, channels: int, suffix: str):
    """Two classes that differ only in the last channel."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 32), ("test", 8)):
        for label in range(2):
            path = folder / split / f"class {label}"
            path.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (12, 12, channels), np.uint8)
                pixels[..., -1] = rng.integers(0, 60, (12, 12)) + 190 * label
                file = path / f"{number}{suffix}"
                if suffix == ".png":
                    Image.fromarray(pixels).save(file)
                elif suffix == ".npy":
                    np.save(file, pixels)
                else:
                    options = {"photometric": "minisblack", "planarconfig": "contig"}
                    tifffile.imwrite(file, pixels, **options)


@pytest.mark.parametrize(("channels", "suffix"), [(4, ".png"), (6, ".tif"), (6, ".npy")])
def test_commands(tmp_path, capsys, channels, suffix):
    data, workdir = tmp_path / "data", tmp_path / "run"
    write_classes(data, channels, suffix)
    mean = tuple(np.round(np.linspace(0.3, 0.6, channels), 2).tolist())
    command = [
        "--config=configs/digits.py",
        f"--config.data.source=folder:{data}",
        f"--config.data.channels={channels}",
        f"--config.data.mean={mean}",
        f"--config.data.std={(0.3,) * channels}",
        "--config.data.train_transform=random_resized_crop(8, scale=(0.5, 1.0))|flip",
        "--config.data.eval_transform=eval_crop(8)",
        "--config.model.width=8",
        "--config.model.stage_sizes=(1,)",
        "--config.total=12 steps",
        "--config.schedule.warmup=1 steps",
        "--config.compile_cache=",
        "--config.evaluators.test.every=100 percent",
        f"--workdir={workdir}",
    ]
    assert main(command) == 0
    capsys.readouterr()
    assert exit_code(lambda: evaluate([f"--workdir={workdir}", "--bootstrap=0"])) == 0
    # Only the last channel tells the classes apart.
    assert json.loads(capsys.readouterr().out)["test/accuracy"] == 1
    assert exit_code(lambda: report([f"--workdir={workdir}", "--examples=2"])) == 0
    assert "<html" in (workdir / "report" / "report.html").read_text()
    files = [str(data / "test" / f"class {label}" / f"0{suffix}") for label in range(2)]
    capsys.readouterr()
    assert exit_code(lambda: predict([f"--checkpoint={workdir}", *files])) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["labels"] for row in rows] == [["class 0"], ["class 1"]]
    # The same as arrays.
    arrays = [np.full((12, 12, channels), 100, np.uint8) for _ in range(2)]
    arrays[1][..., -1], arrays[0][..., -1] = 220, 30
    run = imgcls.load(str(workdir))
    assert [p.labels for p in run.predict(arrays)] == [["class 0"], ["class 1"]]
    assert run.explain(arrays[0], "class 0")[0].shape[-1] == 3


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_audit(tmp_path, capsys, suffix):
    """Images whose first bands are equal are not exact copies."""
    data, out = tmp_path / "data", tmp_path / "out"
    write_classes(data, 6, suffix)
    first, second = sorted((data / "train" / "class 0").iterdir())[:2]
    read, write = (np.load, np.save) if suffix == ".npy" else (tifffile.imread, tifffile.imwrite)
    changed = read(first)
    changed[..., -1] += 1
    write(second, changed)
    line = [f"--data=folder:{data}", f"--out={out}"]
    assert exit_code(lambda: audit([*line, "--channels=6"])) in (0, 1)
    found = json.loads((out / "audit.json").read_text())
    assert not found["duplicates"]["exact"]
    if suffix == ".tif":  # An array of other channels is a volume.
        assert exit_code(lambda: audit([*line, "--channels=5"])) == 2
        assert "none of the 80 images can be read" in capsys.readouterr().err


def test_mean_of_another_number_of_channels(tmp_path, capsys):
    write_classes(tmp_path / "data", 6, ".npy")
    command = ["--config=configs/digits.py", f"--config.data.source=folder:{tmp_path / 'data'}"]
    command += ["--config.data.train_transform=resize((8, 8))", f"--workdir={tmp_path / 'run'}"]
    wrong = [*command, "--config.data.channels=6", "--config.data.mean=(0.5, 0.5, 0.5)"]
    assert exit_code(lambda: main(wrong)) == 2
    assert "data.mean=(0.5, 0.5, 0.5): the images have 6 channel(s)" in capsys.readouterr().err
    assert exit_code(lambda: main([*command, "--config.data.channels=0"])) == 2
    assert "config.data.channels=0: must be 1 (gray), 3 (RGB), 4 (RGBA)" in capsys.readouterr().err
