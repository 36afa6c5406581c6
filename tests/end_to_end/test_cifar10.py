"""CIFAR-10 recipes on the real images: unpacked class folders, and the zip as it is."""

import json
import zipfile

import pytest


@pytest.fixture(scope="module")
def folder(shared_data, tmp_path_factory):
    """A tenth of the data set, unpacked."""
    root = tmp_path_factory.mktemp("cifar10")
    with zipfile.ZipFile(shared_data / "cifar10_jpg.zip") as archive:
        # The files of a class are numbered with leading zeros.
        members = [n for n in archive.namelist() if n.endswith(("0.jpg",))]
        archive.extractall(root, members)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_short_run_lowers_the_loss(kind, command, shared_data, folder, tmp_path):
    data = folder if kind == "folder" else shared_data / "cifar10_jpg.zip"
    done = command(
        "main",
        f"--config=configs/cifar10_resnet18.py:data={data}",
        f"--workdir={tmp_path}",
        "--config.total=40 steps",
        "--config.batch_size=64",
        "--config.model.virtual_batch_size=32",
        "--config.model.width=16",
        "--config.optim.learning_rate=0.1",
        "--config.log.every=1 steps",
        "--config.evaluators.test.split=test[:500]",
    )
    assert done.returncode == 0, done.stderr
    size = "5,000" if kind == "folder" else "50,000"
    assert f"on {size} examples of folder:{data}" in done.stdout
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert len(losses) == 40
    assert sum(losses[-8:]) / 8 < sum(losses[:8]) / 8 - 0.2
    assert lines[-1]["test/examples"] == 500


@pytest.mark.slow
def test_byol_does_not_collapse(command, shared_data, tmp_path):
    """A collapsed network has features without spread, and a loss near 0."""
    done = command(
        "main",
        f"--config=configs/cifar10_byol.py:data={shared_data / 'cifar10_jpg.zip'}",
        f"--workdir={tmp_path}",
        "--config.total=300 steps",
        "--config.batch_size=128",
        "--config.data.train_split=train[:20%]",
        "--config.model.stem=imagenet",
        "--config.model.width=32",
        "--config.model.stage_sizes=(1, 1, 1, 1)",
        "--config.optim.learning_rate=0.4",
        "--config.optim.weight_decay=5e-4",
        "--config.objective.tau=0.97",
        "--config.evaluators.knn.train_split=train[:20%]",
        "--config.evaluators.knn.every=100 percent",
        "--config.evaluators.linear.train_split=train[:2%]",
        "--config.log.every=5 steps",
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    spread = [line["train/feature_std"] for line in lines if "train/feature_std" in line]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert len(spread) == 60 and min(spread) > 0.5
    # The paper's loss is of two views: 4 for opposite vectors, 0 for equal ones.
    assert 0.5 < sum(losses[-10:]) / 10 < 4
    # 21 % untrained.
    assert lines[-1]["knn/accuracy"] > 0.23
