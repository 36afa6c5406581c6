"""The command `convert`: written records, errors and skipped images."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource

from imgcls.convert import convert, main
from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode.image import decode_image
from imgcls.data.sources.open import create_source, open_dataset
from tests.conftest import REPO, command_env, command_line, exit_code
from tests.data.own import write_csv


@pytest.fixture
def manifest(tmp_path):
    """Ten images of two classes, eight of them for training."""
    root = tmp_path / "mine"
    root.mkdir()
    rows = []
    for i in range(10):
        (root / f"{i}.jpg").write_bytes(f"picture {i}".encode())
        rows.append((f"{i}.jpg", "xy"[i % 2], "test" if i > 7 else "train"))
    write_csv(root / "m.csv", ["path", "label", "split"], rows)
    return root / "m.csv"


def test_written_files(manifest, tmp_path, capsys):
    to = tmp_path / "deep" / "records"
    assert main([f"--from=manifest:{manifest}", f"--to={to}", "--shards=3"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "train: 8 examples in 3 shards",
        "test: 2 examples in 2 shards",
        f"read it with --config.data.source=records:{to}",
    ]
    shards = {
        s: [f"{s}-{k:05d}-of-{n:05d}.array_record" for k in range(n)]
        for s, n in (("train", 3), ("test", 2))
    }
    assert sorted(os.listdir(to)) == sorted(
        [
            "classes.txt",
            "manifest.json",
            "train.jsonl",
            "test.jsonl",
            *shards["train"],
            *shards["test"],
        ]
    )
    assert (to / "classes.txt").read_text() == "x\ny\n"
    found = json.loads((to / "manifest.json").read_text())
    assert found["version"] == 1 and found["source"] == f"manifest:{manifest}"
    assert found["class_names"] == ["x", "y"] and found["multi_label"] is False
    assert found["splits"] == {
        "train": {"examples": 8, "shards": shards["train"]},
        "test": {"examples": 2, "shards": shards["test"]},
    }
    # One record per image, in order, with the bytes of its file.
    records = ArrayRecordDataSource([str(to / shard) for shard in shards["train"]])
    assert [records[i] for i in range(8)] == [f"picture {i}".encode() for i in range(8)]
    lines = [json.loads(line) for line in (to / "train.jsonl").read_text().splitlines()]
    assert lines[1] == {"name": str(manifest.parent / "1.jpg"), "labels": ["y"]}
    assert os.listdir(to.parent) == ["records"]


def test_arrays_become_image_files(tmp_path):
    convert("digits", str(tmp_path / "records"))
    for split in ("train", "test"):
        digits = create_source("digits", split)
        records = create_source(f"records:{tmp_path / 'records'}", split)
        np.testing.assert_array_equal(records.labels(), digits.labels())
        for i in (0, 100, len(digits) - 1):
            pixels = decode_image(records[i]["image"], "", channels=1)
            np.testing.assert_array_equal(pixels, digits[i]["image"])
            assert records.name(i) == digits.name(i)


def test_seed_of_the_split(manifest, tmp_path):
    """A dataset without splits is divided as in training with that seed."""
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(line.rpartition(",")[0] for line in lines))
    main([f"--from=manifest:{manifest}", f"--to={tmp_path / 'r'}", "--split_seed=5"])
    for split in ("train", "val", "test"):
        source = create_source(f"manifest:{manifest}", split, seed=5)
        records = create_source(f"records:{tmp_path / 'r'}", split)
        assert [records.name(i) for i in range(len(records))] == [
            source.name(i) for i in range(len(source))
        ]


def test_empty_split(manifest, tmp_path, capsys):
    """Two images leave none for validation."""
    manifest.write_text("path,label\n1.jpg,x\n2.jpg,x\n")
    main([f"--from=manifest:{manifest}", f"--to={tmp_path / 'r'}"])
    assert "val: 0 examples in 0 shards" in capsys.readouterr().out
    data = open_dataset(f"records:{tmp_path / 'r'}")
    assert data.splits == ("train", "val", "test") and len(data.open("train")) == 2
    with pytest.raises(ConfigError, match="holds no examples"):
        create_source(f"records:{tmp_path / 'r'}", "val")


@pytest.mark.parametrize("kind", ["full", "file", "ours"])
def test_existing_files_are_kept(manifest, tmp_path, kind, capsys):
    to = tmp_path / "to"
    if kind == "file":
        to.write_text("mine")
    elif kind == "full":
        to.mkdir()
        (to / "mine").write_text("mine")
    else:
        convert("digits", str(to))
    before = sorted(os.listdir(to)) if to.is_dir() else to.read_text()
    assert exit_code(lambda: main([f"--from=manifest:{manifest}", f"--to={to}"])) == 2
    assert capsys.readouterr().err == (
        f"error: --to={to}: exists and is not empty; choose a new directory\n"
    )
    assert before == (sorted(os.listdir(to)) if to.is_dir() else to.read_text())
    assert sorted(os.listdir(tmp_path)) == ["mine", "to"]


def test_empty_directory_is_used(manifest, tmp_path):
    (tmp_path / "to").mkdir()
    convert(f"manifest:{manifest}", str(tmp_path / "to"))
    assert (tmp_path / "to" / "manifest.json").exists()


def test_problems_are_printed(manifest, tmp_path, capsys):
    with open(manifest, "a") as file:
        file.write("gone.jpg,x,train\n1.jpg,x,test\n")
    args = [f"--from=manifest:{manifest}", f"--to={tmp_path / 'to'}"]
    assert exit_code(lambda: main(args)) == 2
    assert "gone.jpg" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["mine"]
    assert main([*args, "--on_error=skip"]) == 0
    out = capsys.readouterr().out
    assert "left out: 1 x missing image (gone.jpg)" in out
    assert "left out: 1 x image listed twice with different labels (1.jpg)" in out
    assert "train: 7 examples" in out


def test_unreadable_images(manifest, tmp_path, capsys):
    os.remove(manifest.parent / "3.jpg")
    os.symlink("nowhere", manifest.parent / "3.jpg")
    spec, to = f"manifest:{manifest}", tmp_path / "to"
    with pytest.raises(DataError, match="3.jpg: can't be read"):
        convert(spec, str(to))
    assert sorted(os.listdir(tmp_path)) == ["mine"]
    assert main([f"--from={spec}", f"--to={to}", "--on_error=skip", "--shards=8"]) == 0
    assert "left out: 1 x unreadable image" in capsys.readouterr().out
    source = create_source(f"records:{to}", "train")
    assert [source[i]["image"][-1:] for i in range(len(source))] == [
        b"%d" % i for i in (0, 1, 2, 4, 5, 6, 7)
    ]


def test_labels_of_the_command(manifest, tmp_path):
    manifest.write_text("path,label\n1.jpg,x+y\n2.jpg,x\n")
    common = [f"--from=manifest:{manifest}", "--separator=+"]
    main([*common, f"--to={tmp_path / 'a'}"])
    found = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert found["class_names"] == ["x", "y"] and found["multi_label"] is True
    args = [*common, f"--to={tmp_path / 'b'}", "--multi_label=False"]
    assert exit_code(lambda: main(args)) == 2
    assert exit_code(lambda: main([*common, f"--to={tmp_path / 'b'}", "--shards=0"])) == 2
    assert exit_code(lambda: main([*common, "--to=/proc/x/y"])) == 2


def test_killed_midway(tmp_path, cache, shared_data):
    """No directory looks complete."""
    spec = f"folder:{shared_data / 'cifar10_jpg.zip'}"
    args = command_line("convert", f"--from={spec}", f"--to={tmp_path / 'to'}")
    process = subprocess.Popen(args, env=command_env(cache), cwd=REPO)
    deadline = time.time() + 60
    while not list(tmp_path.glob("incomplete.*/train-00001*")):
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "to").exists()
