"""Folders as people have them, by the commands that they type, from folder to report."""

import re

import pytest

from imgcls.audit.__main__ import main as audit
from imgcls.convert import main as convert
from imgcls.predict.__main__ import main as predict
from imgcls.report.__main__ import main as report
from tests.end_to_end.own import COLORS, Four, other_form, run, run_four, run_main, write

SUFFIXES = ("jpg", "jfif", "ppm", "avif")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Capital names of splits, no validation, images of four kinds, and files that are none."""
    root = tmp_path_factory.mktemp("layouts") / "tree"
    for name in COLORS:
        write(root, *(f"Training/{name}/{i}.{SUFFIXES[i % 4]}" for i in range(16)))
        write(root, *(f"Testing/{name}/{i}.{SUFFIXES[i % 4]}" for i in range(4)))
        (root / "Training" / name / "draft.xcf").write_bytes(b"gimp xcf")
    write(root, "__MACOSX/Training/cat/1.jpg", "Training/.cache/1.jpg")
    write(root, f"Training/{other_form('café')}/1.png", "Training/café/2.png", "Testing/café/1.png")
    return root


@pytest.fixture(scope="module")
def done(tree, cache) -> Four:
    return run_four(f"folder:{tree}", tree / "Testing", tree.parent, cache)


def test_capital_names_of_splits(done):
    assert done.findings["splits"] == ["train", "test"]
    assert done.findings["class_names"] == ["__background__", "café", "cat", "dog"]
    assert "] 4 classes: __background__, café, cat, dog\n" in done.main.out
    assert "] splits: train 50, test 13; training on train[:80%] 40\n" in done.main.out


def test_a_missing_validation_split_is_cut_from_training(done):
    assert "has no val split: train[80%:] is held out, train[:80%] is trained on" in done.main.out
    assert done.config["data"]["train_split"] == "train[:80%]"
    splits = {name: section["split"] for name, section in done.config["evaluators"].items()}
    assert splits == {"val": "train[80%:]", "test": "test"}
    assert "calibrated on train[80%:]" in done.report.out


def test_images_of_every_suffix_and_files_passed_over(done, tree, tmp_path):
    passed_over = f"warning: folder:{tree}: passed over: 3 .xcf\n"
    assert passed_over in done.audit.err + done.main.err
    assert done.findings["pictures"] == 63 and done.findings["problems"]["other_files"] == {
        ".xcf": 3
    }
    (finding,) = (f for f in done.findings["findings"] if f["text"].startswith("files passed over"))
    assert finding["level"] == "finding" and finding["text"] == "files passed over: 3 .xcf"
    suffixes = [row["path"].rpartition(".")[2] for row in done.answers]
    assert sorted(suffixes) == sorted([*SUFFIXES * 3, "png"])
    converted = run(convert, f"--from=folder:{tree}", f"--to={tmp_path / 'records'}")
    assert converted.code == 0 and "passed over: 3 .xcf\n" in converted.out
    again = run(predict, f"--checkpoint={tree.parent / 'mine'}", str(tree))
    # Training wrote classes.txt there.
    assert again.code == 0 and f"warning: {tree}: passed over: 3 .xcf, 1 .txt\n" in again.err


def test_a_class_named_background(done):
    assert done.findings["counts"]["train"]["__background__"] == 16
    assert done.findings["counts"]["test"]["__background__"] == 4


def test_two_unicode_forms_are_one_class(done):
    assert done.findings["counts"]["train"]["café"] == 2
    assert done.findings["counts"]["test"]["café"] == 1


def test_a_missing_test_split_is_replaced_by_validation(tmp_path, cache):
    for split, count in (("train", 8), ("val", 4)):
        write(
            tmp_path / "tree",
            *(f"{split}/{c}/{i}.png" for c in ("cat", "dog") for i in range(count)),
        )
    done = run_four(str(tmp_path / "tree"), tmp_path / "tree" / "val", tmp_path, cache)
    assert "has no test split: val is reported" in done.main.out
    assert list(done.config["evaluators"]) == ["val"]
    assert "the data has no test split: val is reported\n" in done.report.out
    assert "not calibrated: no split besides val was held out from training\n" in done.report.out
    assert len(done.answers) == 8


def test_four_images_without_splits(tmp_path, cache):
    write(tmp_path / "tree", *(f"{c}/{i}.png" for c in ("cat", "dog") for i in range(2)))
    done = run_four(f"folder:{tmp_path / 'tree'}", tmp_path / "tree", tmp_path, cache)
    assert "] splits: train 3, val 1, test 0; training on train 3\n" in done.main.out
    assert "the data has no test split: val is reported\n" in done.report.out
    assert len(done.answers) == 4


REFUSED = {
    "a copy beside splits": (
        ["train/cat/1.png", "test/cat/1.png", "xray/train/cat/1.png"],
        r"has folders of splits \(test, train\) beside others \(xray\)",
    ),
    "flat validation": (
        ["train/cat/1.png", "train/dog/1.png", *(f"val/{i}.png" for i in range(8))],
        "8 x image in no class folder .*name their labels in a manifest",
    ),
    "flat training": ([f"train/cat.{i}.jpg" for i in range(8)], "8 x image in no class folder"),
    "a class without an image": (
        ["cat/1.png", "dog/1.xcf"],
        r"folder without an image \(dog: 1 .xcf\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(case, done, tree, tmp_path, cache):
    """By main, convert and report in one line, and as a finding by an audit that can go on."""
    paths, message = REFUSED[case]
    write(tmp_path / "bad", *(path for path in paths if not path.endswith("xcf")))
    for path in (path for path in paths if path.endswith("xcf")):
        (tmp_path / "bad" / path).parent.mkdir()
        (tmp_path / "bad" / path).write_bytes(b"gimp xcf")
    source = f"folder:{tmp_path / 'bad'}"
    assert re.search(message, run_main(source, tmp_path / "run", cache).line)
    assert not (tmp_path / "run").exists() and not (tmp_path / "bad" / "classes.txt").exists()
    assert re.search(message, run(convert, f"--from={source}", f"--to={tmp_path / 'r'}").line)
    workdir = f"--workdir={tree.parent / 'mine'}"
    assert re.search(message, run(report, workdir, f"--config.data.source={source}").line)
    found = run(audit, f"--data={source}", f"--out={tmp_path / 'audit'}")
    assert found.code in (1, 2) and re.search(message, found.out + found.err)


def test_classes_to_look_at(tmp_path, cache):
    files = [f"train/{c}/{i}.png" for c in ("Cat", "cat", "1", "01", "nan") for i in range(4)]
    write(tmp_path / "tree", *files, "test/emu/1.png", "test/cat/1.png")
    source = f"folder:{tmp_path / 'tree'}"
    done = run_main(source, tmp_path / "run", cache)
    alike = "class names alike: '01' and '1'; 'Cat' and 'cat'; 'nan' (a missing value?)"
    assert done.code == 0 and f"warning: {alike}\n" in done.err
    assert "warning: class 'emu' has no example in train[:80%], only in test 1\n" in done.err
    found = run(audit, f"--data={source}", f"--out={tmp_path / 'audit'}")
    assert found.code == 1 and f"finding: balance: {alike}" in found.out
