"""Predictions from a trained checkpoint: scores, formats, paths, and files that can't be read."""

import csv
import functools
import json
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from imgcls import predict
from imgcls.errors import ConfigError
from imgcls.models import create_model
from tests.conftest import exit_code

CLASSES = tuple("0123456789")


@pytest.fixture(scope="session")
def reference(workdir):
    """Scores `[N, 10]` of grey images uint8 `[N, 8, 8]` by the averaged parameters."""
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
    """24 digits as PNGs: half of them in a folder deeper, two that are no pictures."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "deeper").mkdir()
    for i, image in enumerate(digit_images()):
        Image.fromarray(image).save(root / ("deeper" if i >= 12 else "") / f"{i:02d}.png")
    (root / "05-broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (root / "deeper" / "99-empty.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("not searched for")
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
        found = [p["score"] for p in line["predictions"]]
        np.testing.assert_allclose(found, row[best], rtol=1e-4, atol=1e-7)


def parse(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# ---- Scores and formats.


def test_a_folder(command, workdir, folder, reference):
    """As typed: one line per picture in order, the broken ones reported and left out."""
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
def test_files_in_the_order_given(run, folder, reference, batch_size):
    order = [7, 2, 9, 11, 0, 3, 10]
    files = [folder / f"{i:02d}.png" for i in order]
    code, out, _ = run(f"--batch_size={batch_size}", "--top_k=10", *files)
    assert code == 0
    check_lines(parse(out), files, reference(digit_images()[order]), top_k=10)


def test_other_sizes_and_modes_are_preprocessed_as_in_evaluation(run, tmp_path, reference):
    image = Image.fromarray(digit_images()[3])
    large = image.resize((40, 24), Image.Resampling.NEAREST)
    large.convert("RGB").save(tmp_path / "colour.png")
    large.save(tmp_path / "grey.bmp")
    expected = np.asarray(large.resize((8, 8), Image.Resampling.BICUBIC))
    code, out, _ = run(tmp_path)
    assert code == 0
    files = [tmp_path / "colour.png", tmp_path / "grey.bmp"]
    check_lines(parse(out), files, reference(np.stack([expected] * 2)))


def test_csv_in_a_file(run, folder, tmp_path, reference):
    target = tmp_path / "out.csv"
    target.write_text("an older file")
    # The first file is one that can't be read: the header comes all the same.
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


def test_one_checkpoint_s_directory(run, workdir, folder, reference):
    (checkpoint,) = (workdir / "checkpoints").iterdir()
    code, out, _ = run(folder / "00.png", checkpoint=checkpoint)
    assert code == 0
    check_lines(parse(out), [folder / "00.png"], reference(digit_images()[:1]))


# ---- Paths.


def test_find_files(tmp_path):
    names = ["b/2.png", "b/1.JPG", "b/c/3.webp", "b/notes.txt", "a.png", "a[1].png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    def find(*paths):
        found = predict.find_files([str(tmp_path / path) for path in paths])
        return [str(pathlib.Path(file).relative_to(tmp_path)) for file in found]

    assert find("b") == ["b/1.JPG", "b/2.png", "b/c/3.webp"]
    assert find("b/*.png", "a.png") == ["b/2.png", "a.png"]
    assert find("**/*.png") == ["a.png", "a[1].png", "b/2.png"]
    assert find("a[1].png") == ["a[1].png"]
    assert find("?") == ["b/1.JPG", "b/2.png", "b/c/3.webp"]
    # A file is itself whatever its name, and each is listed once.
    assert find("b/notes.txt") == ["b/notes.txt"]
    assert find("b/2.png", "b", "b/*") == ["b/2.png", "b/1.JPG", "b/c/3.webp", "b/notes.txt"]
    for nothing in ("c", "*.gif", "b/nothing.png"):
        with pytest.raises(ConfigError, match="no image there; give files, folders or globs"):
            find("a.png", nothing)


def test_a_folder_named_like_a_picture_is_a_folder(tmp_path):
    (tmp_path / "album.png").mkdir()
    (tmp_path / "album.png" / "1.png").write_bytes(b"x")
    expected = [str(tmp_path / "album.png" / "1.png")]
    assert predict.find_files([str(tmp_path)]) == expected
    assert predict.find_files([str(tmp_path / "album.png")]) == expected


def test_a_dangling_link_is_reported_and_the_others_are_predicted(run, folder, tmp_path, reference):
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


# ---- Mistakes: one line, exit code 2, nothing harmed.


def check_mistake(result: tuple, message: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


def test_unknown_path(run, folder):
    check_mistake(run(folder / "00.png", folder / "nothing.png"), "nothing.png: no image there")


def test_unknown_path_as_typed(command, workdir):
    result = command("predict", f"--checkpoint={workdir}", "/no/such/picture.png")
    check_mistake((result.returncode, result.stdout, result.stderr), "/no/such/picture.png")


def test_unknown_checkpoint_harms_no_file(run, folder, tmp_path):
    (tmp_path / "out.jsonl").write_text("precious")
    arguments = [f"--out={tmp_path / 'out.jsonl'}", folder / "00.png"]
    check_mistake(run(*arguments, checkpoint=tmp_path), "no checkpoint there")
    assert (tmp_path / "out.jsonl").read_text() == "precious"


def test_out_in_a_folder_that_is_not_there(run, folder, tmp_path):
    check_mistake(run(f"--out={tmp_path / 'no' / 'x.csv'}", folder / "00.png"), "x.csv")


@pytest.mark.parametrize("argument", ["--top_k=0", "--batch_size=0", "--batch_size=-3"])
def test_counts_below_one(run, folder, argument):
    check_mistake(run(argument, folder / "00.png"), "--top_k and --batch_size must be 1 or more")
