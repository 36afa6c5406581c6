"""The command `predict`: scores, formats, paths, and files that can't be read."""

import csv
import functools
import io
import json
import os
import pathlib
import subprocess
import sys
import types
from urllib.parse import unquote

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image
from scipy.special import expit
from sklearn.datasets import load_digits

from imgcls.data.sources.open import open_dataset
from imgcls.evaluate.calibration import Calibration, save_calibration
from imgcls.models.create import create_model
from imgcls.predict import __main__ as predict
from imgcls.predict import formats
from imgcls.predict.explain import heat_maps, overlay
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import load_trained
from tests.conftest import REPO, command_env, command_line, exit_code
from tests.make import draw_pictures, save_run

CLASSES = tuple("0123456789")


@pytest.fixture(scope="session")
def reference(workdir):
    """Scores `[N, 10]` of gray images uint8 `[N, 8, 8]` by the averaged parameters."""
    (step,) = (workdir / "checkpoints").iterdir()
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        target = reader.restore(step / "state")["target"]
    model = create_model("resnet18", 10, in_channels=1, stem="cifar", width=8, stage_sizes=(1, 1))
    assert set(target) == {"params", "batch_stats"}
    target = jax.tree.map(np.asarray, target)

    def scores(images) -> np.ndarray:
        x = ((np.asarray(images, np.float32) / 255 - 0.3) / 0.37)[..., None]
        logits = np.float64(model.apply(target, x, train=False))
        return np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))

    return scores


@functools.cache
def digit_images() -> np.ndarray:
    return np.round(load_digits().images[:24] * (255 / 16)).astype(np.uint8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """24 digits as PNGs, half of them in a subfolder, and two broken files."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "deeper").mkdir()
    for i, image in enumerate(digit_images()):
        Image.fromarray(image).save(root / ("deeper" if i >= 12 else "") / f"{i:02d}.png")
    (root / "05-broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (root / "deeper" / "99-empty.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("not an image")
    return root


@pytest.fixture
def run(capsys, workdir):
    """Runs the command in this process: `run(*args) -> (exit code, stdout, stderr)`."""

    def run(*args, checkpoint=workdir):
        arguments = [f"--checkpoint={checkpoint}", *map(str, args)]
        return exit_code(lambda: predict.main(arguments)), *capsys.readouterr()

    return run


def check_lines(lines: list[dict], files: list, scores: np.ndarray, top_k: int = 5) -> None:
    assert [line["path"] for line in lines] == [str(file) for file in files]
    for line, row in zip(lines, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:top_k]
        assert [p["class"] for p in line["predictions"]] == [CLASSES[c] for c in best]
        assert line["labels"] == [CLASSES[best[0]]]
        values = [p["score"] for p in line["predictions"]]
        np.testing.assert_allclose(values, row[best], rtol=1e-4, atol=1e-7)


def parse(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# ---- Scores and formats.


def test_folder(command, workdir, folder, reference):
    """In its own process: one line per image in order; broken files are reported and left out."""
    result = command("predict", f"--checkpoint={workdir}", str(folder))
    assert result.returncode == 1
    files = [folder / f"{i:02d}.png" for i in range(12)]
    files += [folder / "deeper" / f"{i:02d}.png" for i in range(12, 24)]
    check_lines(parse(result.stdout), files, reference(digit_images()))
    assert "2 of 26 files could not be read" in result.stderr
    for name in ("05-broken.png", "99-empty.jpg"):
        assert str(name) in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_files_in_the_given_order(run, folder, reference, batch_size):
    order = [7, 2, 9, 11, 0, 3, 10]
    files = [folder / f"{i:02d}.png" for i in order]
    code, out, _ = run(f"--batch_size={batch_size}", "--top_k=10", *files)
    assert code == 0
    check_lines(parse(out), files, reference(digit_images()[order]), top_k=10)


def test_images_are_preprocessed_as_in_evaluation(run, tmp_path, reference):
    image = Image.fromarray(digit_images()[3])
    large = image.resize((40, 24), Image.Resampling.NEAREST)
    large.convert("RGB").save(tmp_path / "color.png")
    large.save(tmp_path / "gray.bmp")
    expected = np.asarray(large.resize((8, 8), Image.Resampling.BICUBIC))
    code, out, _ = run(tmp_path)
    assert code == 0
    files = [tmp_path / "color.png", tmp_path / "gray.bmp"]
    check_lines(parse(out), files, reference(np.stack([expected] * 2)))


def test_csv_in_a_file(run, folder, tmp_path, reference):
    target = tmp_path / "out.csv"
    target.write_text("an older file")
    # The first file can't be read; the header is written anyway.
    files = [folder / "05-broken.png", *(folder / f"{i:02d}.png" for i in (4, 1))]
    code, out, err = run("--format=csv", f"--out={target}", "--top_k=2", *files)
    assert (code, out) == (1, "") and "1 of 3 files could not be read" in err
    with open(target, newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "labels", "class_1", "score_1", "class_2", "score_2"]
    scores = reference(digit_images()[[4, 1]])
    assert [row[0] for row in rows] == [str(file) for file in files[1:]]
    for row, expected in zip(rows, scores, strict=True):
        best = np.argsort(-expected)[:2]
        assert [row[1], row[2], row[4]] == [CLASSES[c] for c in (best[0], *best)]
        np.testing.assert_allclose(np.float64([row[3], row[5]]), expected[best], rtol=1e-4)


def test_jsonl_in_a_file(run, folder, tmp_path, reference):
    code, out, err = run(f"--out={tmp_path / 'out.jsonl'}", folder / "00.png")
    assert (code, out) == (0, "") and "could not be read" not in err
    lines = parse((tmp_path / "out.jsonl").read_text())
    check_lines(lines, [folder / "00.png"], reference(digit_images()[:1]))


def test_directory_of_one_checkpoint(run, workdir, folder, reference):
    (checkpoint,) = (workdir / "checkpoints").iterdir()
    code, out, _ = run(folder / "00.png", checkpoint=checkpoint)
    assert code == 0
    check_lines(parse(out), [folder / "00.png"], reference(digit_images()[:1]))


def test_flip_and_threshold(run, folder, reference):
    images = digit_images()[:12]
    expected = (reference(images) + reference(images[:, :, ::-1])) / 2
    least = float(np.sort(expected.max(1))[5:7].mean())
    files = [folder / f"{i:02d}.png" for i in range(12)]
    code, out, _ = run("--flip", f"--threshold={least}", *files)
    assert code == 0
    for line, row in zip(parse(out), expected, strict=True):
        values = [p["score"] for p in line["predictions"]]
        np.testing.assert_allclose(values, -np.sort(-row)[:5], rtol=1e-4, atol=1e-7)
        assert line["labels"] == ([CLASSES[row.argmax()]] if row.max() >= least else [])


@pytest.fixture(scope="module")
def multi(tmp_path_factory):
    """A calibrated multi-label run with its scores `[N, 3]`, and images in folders."""
    root = tmp_path_factory.mktemp("multi")
    classes = ("=cat", "dog", "ünïcode")
    saved = save_run(root / "animals", classes, multi_label=True, loss="sigmoid")
    calibration = Calibration(1.5, np.array([0.3, 0.6, 0.8]))
    save_calibration(find_checkpoint(saved.workdir), calibration, classes)
    files = [root / "zoo" / name for name in ("a/1.png", "a/2.png", "b/1.png", "=b/it's\n.png")]
    images = draw_pictures(4, seed=3)
    for file, image in zip(files, images, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    order = sorted(range(4), key=lambda i: str(files[i]))
    scores = expit(saved.logits(images) / 1.5)[order]
    names = [files[i].relative_to(root / "zoo").as_posix() for i in order]
    labels = [
        [classes[c] for c in np.argsort(-row) if row[c] >= calibration.thresholds[c]]
        for row in scores
    ]
    assert len({len(row) for row in labels}) > 1
    return types.SimpleNamespace(
        workdir=saved.workdir,
        zoo=root / "zoo",
        images=images[order],
        names=names,
        labels=labels,
        scores=scores,
    )


def test_csv_of_many_labels(run, multi):
    code, out, _ = run("--format=csv", "--top_k=1", multi.zoo, checkpoint=multi.workdir)
    assert code == 0
    _, *rows = csv.reader(io.StringIO(out, newline=""))
    assert [row[0] for row in rows] == [str(multi.zoo / name) for name in multi.names]
    assert [row[1] for row in rows] == ["|".join(labels) for labels in multi.labels]
    np.testing.assert_allclose([float(row[3]) for row in rows], multi.scores.max(1), rtol=1e-4)


def test_label_studio_in_a_file(run, multi, tmp_path):
    arguments = ["--format=labelstudio", f"--out={tmp_path / 'tasks.json'}", "--to_name=picture"]
    arguments += ["--from_name=animal", "--image_prefix=https://zoo.org/"]
    code, out, _ = run(*arguments, multi.zoo / "*", checkpoint=multi.workdir)
    assert (code, out) == (0, "")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    urls = [task["data"]["image"] for task in tasks]
    assert [unquote(url) for url in urls] == [f"https://zoo.org/{name}" for name in multi.names]
    for task, labels in zip(tasks, multi.labels, strict=True):
        (found,) = task["predictions"]
        assert found["model_version"] == "animals-7"
        assert [result["value"]["choices"] for result in found["result"]] == [labels] * bool(labels)
        assert {(r["from_name"], r["to_name"]) for r in found["result"]} <= {("animal", "picture")}


def test_darwin_and_heat_maps_in_folders(run, multi, tmp_path):
    out, heat = tmp_path / "darwin", tmp_path / "heat"
    arguments = ["--format=darwin", f"--out={out}", f"--explain={heat}"]
    code, printed, _ = run(*arguments, multi.zoo, checkpoint=multi.workdir)
    assert (code, printed) == (0, "")
    trained = load_trained(find_checkpoint(multi.workdir))
    maps = heat_maps(trained, multi.images, multi.scores.argmax(1))
    for i, name in enumerate(multi.names):
        found = json.loads((out / f"{name}.json").read_text())
        assert [annotation["name"] for annotation in found["annotations"]] == multi.labels[i]
        shown = np.asarray(Image.open(heat / f"{name}.png"))
        np.testing.assert_array_equal(shown, overlay(multi.images[i], maps[i]))
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 8


@pytest.mark.parametrize("form", ["darwin:tags", "manifest:all.csv", "manifest:all.jsonl"])
def test_predictions_can_be_read_as_a_dataset(run, multi, tmp_path, form):
    """With the same images and the same labels."""
    kind, _, name = form.partition(":")
    suffix = name.partition(".")[2]
    arguments = [f"--format={suffix or kind}", f"--out={tmp_path / name}", multi.zoo]
    assert run(*arguments, checkpoint=multi.workdir)[0] == 0
    data = open_dataset(f"{kind}:{tmp_path / name}", data_dir=str(multi.zoo), multi_label=True)
    found = {}
    for source in map(data.open, data.splits):
        for i, row in enumerate(source.labels()):
            assert source[i]["image"] == pathlib.Path(source.name(i)).read_bytes()
            found[source.name(i)] = {source.class_names[c] for c in np.flatnonzero(row)}
    labels = zip(multi.names, multi.labels, strict=True)
    assert found == {str(multi.zoo / name): set(names) for name, names in labels}


def test_crash_keeps_the_older_file(run, folder, tmp_path, monkeypatch):
    target = tmp_path / "out.jsonl"
    target.write_text("precious")

    def crash(out, predictions):
        out.write("half of a line")
        raise RuntimeError("crash")

    monkeypatch.setattr(formats, "write_jsonl", crash)
    with pytest.raises(pytest.fail.Exception, match="crash"):
        run(f"--out={target}", folder / "00.png")
    assert target.read_text() == "precious" and [*tmp_path.iterdir()] == [target]


def test_out_is_a_link_or_a_pipe(run, folder, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name in ("link", "pipe"):
        assert run(f"--out={tmp_path / name}", folder / "00.png")[0] == 0
    assert os.read(reader, 10_000) == (tmp_path / "file").read_bytes() != b""
    os.close(reader)
    assert (tmp_path / "link").is_symlink() and len([*tmp_path.iterdir()]) == 3


def test_progress_bar_on_a_terminal(run, folder, tmp_path, monkeypatch):
    for stream in (sys.stderr, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert "1/1" in run(f"--out={tmp_path / 'x'}", folder / "00.png")[2]
    # No bar if the predictions are printed on the terminal too.
    assert "1/1" not in run(folder / "00.png")[2]


def test_closed_pipe(workdir, folder, cache):
    """The other end of the pipe is closed, as by `| head`."""
    reader, writer = os.pipe()
    os.close(reader)
    arguments = command_line("predict", f"--checkpoint={workdir}", "--format=csv")
    done = subprocess.run(
        [*arguments, str(folder / "00.png")],
        env=command_env(cache),
        cwd=REPO,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


# ---- Files that can't be read.


def test_dangling_link(run, folder, tmp_path, reference):
    (tmp_path / "a.png").write_bytes((folder / "02.png").read_bytes())
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    code, out, err = run(tmp_path)
    assert code == 1
    check_lines(parse(out), [tmp_path / "a.png"], reference(digit_images()[2:3]))
    assert "1 of 2 files could not be read" in err


def test_no_file_can_be_read(run, folder):
    code, out, err = run("--format=csv", folder / "05-broken.png")
    assert code == 1 and "1 of 1 files could not be read" in err
    assert out == ""


# ---- Mistakes: one line, exit code 2, no file changed.


def check_mistake(result: tuple, message: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


def test_unknown_path(run, folder):
    check_mistake(run(folder / "00.png", folder / "nothing.png"), "nothing.png: no images found")


def test_unknown_path_in_its_own_process(command, workdir):
    result = command("predict", f"--checkpoint={workdir}", "/no/such/picture.png")
    check_mistake((result.returncode, result.stdout, result.stderr), "/no/such/picture.png")


def test_unknown_checkpoint_changes_no_file(run, folder, tmp_path):
    (tmp_path / "out.jsonl").write_text("precious")
    arguments = [f"--out={tmp_path / 'out.jsonl'}", folder / "00.png"]
    check_mistake(run(*arguments, checkpoint=tmp_path), "no checkpoint there")
    assert (tmp_path / "out.jsonl").read_text() == "precious"


def test_out_in_a_missing_folder(run, folder, tmp_path):
    check_mistake(run(f"--out={tmp_path / 'no' / 'x.csv'}", folder / "00.png"), "x.csv")


def test_darwin_needs_a_folder(run, folder):
    check_mistake(run("--format=darwin", folder), "add a folder, --out=DIR")


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        ("high", "--threshold=high: write a number such as 0.5"),
        ("2", "threshold=2: must be a number from 0 to 1"),
        ('{"11": 0.5}', "'11' is not a class of"),
    ],
)
def test_wrong_thresholds(run, folder, threshold, message):
    check_mistake(run(f"--threshold={threshold}", folder / "00.png"), message)


@pytest.mark.parametrize("argument", ["--top_k=0", "--batch_size=0", "--batch_size=-3"])
def test_counts_below_one(run, folder, argument):
    check_mistake(run(argument, folder / "00.png"), "--top_k and --batch_size must be 1 or more")
