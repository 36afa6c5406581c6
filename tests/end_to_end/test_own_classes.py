"""Classes of a user's own data, by the commands: other data, other order, several tables."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from imgcls.audit.__main__ import main as audit
from imgcls.convert import main as convert
from imgcls.main import main as train_here
from tests.conftest import exit_code
from tests.reports import Page

COLORS = {"blue": (20, 20, 220), "green": (20, 220, 20), "red": (220, 20, 20)}
SMALL = (
    "--config.batch_size=16",
    "--config.optim.learning_rate=0.01",
    "--config.model.stage_sizes=(1,)",
    "--config.model.stem=cifar",
    "--config.data.train_transform=flip",
    "--config.log.tensorboard=False",
)


def write_images(folder, split: str, colors, count: int) -> list[tuple[str, str, str]]:
    """Writes noisy images of one color per class; returns rows of path, label and split."""
    rows, rng = [], np.random.default_rng(len(split))
    for name in colors:
        (folder / split / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(COLORS[name] + rng.normal(0, 15, (16, 16, 3)), 0, 255)
            path = f"{split}/{name}/{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(folder / path)
            rows.append((path, name, split))
    return rows


def list_files(folder) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def train(here, source: str, workdir, *options: str):
    config = f"--config=configs/own.py:data={source},size=16,width=8,epochs=8"
    done = here("main", config, f"--workdir={workdir}", *SMALL, *options)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(here, tmp_path_factory):
    """A folder of three classes, and the workdir of a model trained on it."""
    root = tmp_path_factory.mktemp("own_classes")
    for split, count in (("train", 24), ("val", 6), ("test", 6)):
        write_images(root / "data", split, COLORS, count)
    train(here, f"folder:{root}/data", root / "run")
    assert (root / "data" / "classes.txt").read_text() == "blue\ngreen\nred\n"
    return root


def read_predictions(workdir) -> list[tuple[str, str]]:
    """The folder of each image, and its predicted class."""
    with open(workdir / "report" / "test_predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row["id"].split("/")[-2], row["prediction"]) for row in rows]


def test_data_with_fewer_classes_in_another_order(trained, here, tmp_path):
    """The model's classes are found by name; evaluation and report write nothing into the data."""
    for split in ("val", "test"):
        write_images(tmp_path / "new", split, ("blue", "red"), 5)
    (tmp_path / "new" / "classes.txt").write_text("red\nblue\n")
    files = list_files(tmp_path)
    source = f"--config.data.source=folder:{tmp_path}/new"
    done = here("evaluate", f"--workdir={trained}/run", source)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["test/accuracy"] == 1.0
    pairs = read_predictions(trained / "run")
    assert sorted(pairs) == [("blue", "blue")] * 5 + [("red", "red")] * 5
    done = here("report", f"--workdir={trained}/run", source, f"--out={tmp_path}/r.html")
    assert done.returncode == 0, done.stderr
    assert list_files(tmp_path) == sorted([*files, "r.html"])


def test_classes_unknown_to_the_model_are_named(trained, here, tmp_path):
    write_images(tmp_path / "new", "test", ("blue", "red"), 2)
    (tmp_path / "new" / "test" / "red").rename(tmp_path / "new" / "test" / "pink")
    files = list_files(tmp_path)
    source = f"--config.data.source=folder:{tmp_path}/new"
    done = here("report", f"--workdir={trained}/run", source, f"--out={tmp_path}/r.html")
    assert done.returncode == 2
    assert "2 of 4 examples have classes that are not in the model ('pink')" in done.stderr
    assert list_files(tmp_path) == files


def write_table(folder, name: str, labels: dict[str, str], data) -> str:
    """Writes a manifest of the images of `data`; returns the source."""
    rows = ["path,label,split"]
    for file in sorted(data.glob("*/*/*.png")):
        split, color, _ = file.relative_to(data).parts
        rows.append(f"{file},{labels[color]},{split}")
    (folder / name).write_text("\n".join(rows) + "\n")
    return f"manifest:{folder / name}"


def test_two_tables_in_one_folder(trained, here, tmp_path, capsys):
    """The wrong separator for one table harms neither another table nor, unnamed, its own."""
    warm, named = (
        write_table(tmp_path, name, labels, trained / "data")
        for name, labels in {
            "warm.csv": {"red": "warm", "green": "warm;cold", "blue": "cold"},
            "named.csv": {"red": "r", "green": "g", "blue": "cold"},
        }.items()
    )
    config = f"--config=configs/own.py:data={warm},size=16,width=8,epochs=1"
    wrong = [config, f"--workdir={tmp_path}/wrong", *SMALL, "--config.total=1 steps"]
    assert exit_code(lambda: train_here(wrong)) == 0
    assert (tmp_path / "warm.csv.classes.txt").read_text() == "cold\nwarm\nwarm;cold\n"

    train(here, named, tmp_path / "run", "--config.total=1 epochs")
    assert (tmp_path / "named.csv.classes.txt").read_text() == "cold\ng\nr\n"
    done = here("report", f"--workdir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    page = Page(tmp_path / "run" / "report" / "report.html")
    rows = [row[:2] for row in page.table("class", "examples")]
    assert rows == [["cold", "6"], ["g", "6"], ["r", "6"]]

    capsys.readouterr()
    files = list_files(tmp_path)
    arguments = [f"--data={warm}", "--separator=;", f"--out={tmp_path}/audit"]
    assert exit_code(lambda: audit(arguments)) == 1
    assert "only " + str(tmp_path / "warm.csv.classes.txt") in capsys.readouterr().err
    arguments = [f"--from={named}", f"--to={tmp_path}/records"]
    assert exit_code(lambda: convert(arguments)) == 0
    assert (tmp_path / "records" / "classes.txt").read_text() == "cold\ng\nr\n"
    new = [f for f in list_files(tmp_path) if f not in files]
    assert all(f.split("/")[0] in ("audit", "records") for f in new)
