"""Any number of labels for each picture, and few pictures of some: trained end to end."""

import json

import numpy as np
import pytest
from PIL import Image

from imgcls.runs.checksums import CHECKSUMS
from imgcls.runs.load import find_checkpoint
from tests.mosaics import write_mosaics

# Which stripes are painted; the rarest is the one whose name has a space.
CLASSES = {"red": 0.7, "green": 0.4, "light blue": 0.15}


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """A manifest of 16x16 pictures with up to three stripes; some have none, and no label."""
    folder = tmp_path_factory.mktemp("stripes")
    rng = np.random.default_rng(0)
    rows = ["path,labels,split"]
    for number in range(96):
        split = ("train", "train", "train", "val", "test", "train")[number % 6]
        shown = rng.uniform(size=3) < list(CLASSES.values())
        pixels = rng.integers(0, 60, (16, 16, 3)).astype(np.uint8)
        for channel in np.flatnonzero(shown):
            pixels[5 * channel : 5 * channel + 5, :, channel] = 250
        Image.fromarray(pixels).save(folder / f"{number}.png")
        labels = [name for name, on in zip(CLASSES, shown, strict=True) if on]
        rows.append(f"{number}.png,{'|'.join(labels)},{split}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def metrics_of(workdir):
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {key: value for line in lines for key, value in line.items()}


def test_imbalanced_multi_label_run(stripes, here, tmp_path):
    """Weights, balanced draws, the asymmetric loss and mixed labels in one run; then evaluated."""
    done = here(
        "main",
        f"--config=configs/own.py:data=manifest:{stripes}/labels.csv,size=16,width=8,epochs=6",
        f"--workdir={tmp_path}",
        "--config.batch_size=16",
        "--config.model.stage_sizes=(1,)",
        "--config.model.stem=cifar",
        "--config.data.sampling=balanced",
        "--config.data.batch_transform=mixup_or_cutmix(0.2, 1.0)",
        "--config.objective.loss=asymmetric",
        "--config.objective.clip=0.02",
        "--config.objective.class_weights=auto",
        "--config.log.tensorboard=False",
    )
    assert done.returncode == 0, done.stderr
    measured = metrics_of(tmp_path)
    assert 0 <= measured["train/exact_match"] <= 1 and "train/accuracy" not in measured
    assert 0 < measured["val/map"] <= 1

    _, info = find_checkpoint(tmp_path).read_meta()
    rows = [line.split(",") for line in (stripes / "labels.csv").read_text().splitlines()[1:]]
    train = [labels.split("|") for _, labels, split in rows if split == "train"]
    counts = [sum(name in labels for labels in train) for name in info.class_names]
    assert info.multi_label and info.num_examples == len(train)
    assert info.class_names == tuple(sorted(CLASSES)) and info.class_counts == tuple(counts)

    # What evaluation rebuilds from the checkpoint alone gives the same numbers.
    again = here("evaluate", f"--workdir={tmp_path}:newest")
    assert again.returncode == 0, again.stderr
    evaluated = json.loads(again.stdout)
    for key in ("test/map", "test/loss", "val/exact_match"):
        assert evaluated[key] == pytest.approx(measured[key], rel=1e-5)

    # A checkpoint from before classes were counted, and files summed, is read too.
    (find_checkpoint(tmp_path).path / CHECKSUMS).unlink()
    file = find_checkpoint(tmp_path).path / "meta" / "metadata"
    meta = json.loads(file.read_text())
    del meta["class_counts"]
    file.write_text(json.dumps(meta))
    assert find_checkpoint(tmp_path).read_meta()[1].class_counts == ()


def test_unknown_class_is_named_with_its_neighbour(stripes, here, tmp_path):
    done = here(
        "main",
        f"--config=configs/own.py:data=manifest:{stripes}/labels.csv,size=16,width=8,epochs=1",
        f"--workdir={tmp_path / 'run'}",
        "--config.objective.class_weights={'light blu': 3.0}",
    )
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    (line,) = done.stderr.splitlines()
    assert "'light blu'" in line and "did you mean 'light blue'?" in line


@pytest.mark.slow
def test_mosaics_of_real_pictures(shared_data, command, tmp_path):
    """Classes on mosaics of CIFAR-10 images that no training picture shows."""
    labels = write_mosaics(shared_data / "cifar10_jpg.zip", tmp_path / "data")
    done = command(
        "main",
        f"--config=configs/own.py:data=manifest:{labels},size=64,epochs=20",
        f"--workdir={tmp_path / 'run'}",
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr
    measured = metrics_of(tmp_path / "run")
    assert measured["test/examples"] == 1000
    # A guess by frequency has 0.34.
    assert measured["test/map"] >= 0.6
