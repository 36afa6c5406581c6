"""Fine-tuning on a folder of own pictures from another project's weights, by config alone."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from imgcls.models.create import create_model
from imgcls.models.weights.load import load
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import load_trained
from tests.models.weights.cases import CASES
from tests.models.weights.test_recorded import write_state_dict

NAME = "resnet18.small_test"
PRETRAINED = {
    "architecture": "resnet18",
    "pretrained_cfg": {
        "mean": [0.4, 0.45, 0.5],
        "std": [0.2, 0.25, 0.3],
        "crop_pct": 0.95,
        "crop_mode": "center",
        "interpolation": "bilinear",
    },
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Seven classes of 20 pictures, each of its own colour."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label in range(7):
        colour = np.array([64 + 127 * (label >> bit & 1) for bit in range(3)])
        (folder / f"class {label}").mkdir()
        for number in range(20):
            noise = rng.integers(-40, 40, (40, 48, 3))
            pixels = np.clip(colour + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class {label}" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The local cache of huggingface.co, with a timm model of five classes in it."""
    home = tmp_path_factory.mktemp("hf_home")
    repo = home / "hub" / f"models--timm--{NAME}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0123")
    (repo / "snapshots" / "0123").mkdir(parents=True)
    write_state_dict(CASES["resnet18"], repo / "snapshots" / "0123" / "model.safetensors")
    (repo / "snapshots" / "0123" / "config.json").write_text(json.dumps(PRETRAINED))
    return home


def finetune(command, pictures, hub, workdir, train):
    source = f"model=resnet18,init_from=timm:{NAME},data=folder:{pictures},size=48"
    return command(
        "main",
        f"--config=configs/finetune.py:{source},epochs=4,train={train}",
        "--config.model.stage_sizes=(1, 1, 1, 1)",
        "--config.batch_size=16",
        "--config.log.every=1 steps",
        "--config.evaluators.val.split=train",
        "--config.evaluators.val.every=4 epochs",
        "--config.checkpoint.every=4 epochs",
        f"--workdir={workdir}",
        HF_HOME=str(hub),
        HF_HUB_OFFLINE="1",
    )


@pytest.mark.slow
@pytest.mark.parametrize("train", ["all", "head"])
def test_seven_classes(train, command, pictures, hub, tmp_path):
    done = finetune(command, pictures, hub, tmp_path, train)
    assert done.returncode == 0, done.stderr
    assert f"init_from timm:{NAME}: " in done.stdout
    assert "left out: head (5 classes); new: head (7 classes)" in done.stdout
    # Mean, std, crop and interpolation are those of the weights.
    data = find_checkpoint(tmp_path).read_meta()[0].data
    assert (data.mean, data.std) == ((0.4, 0.45, 0.5), (0.2, 0.25, 0.3))
    assert data.eval_transform == "eval_crop(48, crop_fraction=0.95, interpolation='bilinear')"
    assert f"init_from timm:{NAME}: preprocessing as in {hub}" in done.stdout
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2

    model = create_model("resnet18", 7, stage_sizes=(1, 1, 1, 1))
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 48, 48, 3), np.float32))
    file = hub / "hub" / f"models--timm--{NAME}" / "snapshots" / "0123" / "model.safetensors"
    given, _ = load(f"timm:{file}", model, shapes)
    trained = load_trained(find_checkpoint(tmp_path))
    before, after = given["params"]["conv1"]["kernel"], trained.params["conv1"]["kernel"]
    if train == "head":
        np.testing.assert_array_equal(before, after)
        # Nor do the statistics of BatchNorm move.
        stats = trained.model_state["batch_stats"]
        jax.tree.map(np.testing.assert_array_equal, given["batch_stats"], stats)
    else:
        # Each of about 28 steps of Adam moves a weight by the rate, at most 1e-4, and less.
        assert 1e-6 < np.abs(before - after).max() < 28 * 1e-4


def test_weights_that_can_t_be_had(here, pictures, tmp_path):
    source = f"model=resnet18,init_from=timm:no_such.model,data=folder:{pictures},size=48"
    done = here("main", f"--config=configs/finetune.py:{source}", f"--workdir={tmp_path}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "can't download timm:no_such.model from huggingface.co" in done.stderr


def test_wrong_model_for_the_weights(here, pictures, hub, tmp_path):
    (file,) = hub.rglob("model.safetensors")
    source = f"model=vit_ti16,init_from=timm:{file},data=folder:{pictures},size=48"
    done = here("main", f"--config=configs/finetune.py:{source}", f"--workdir={tmp_path}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "has no weights of a ViT: its names are" in done.stderr
