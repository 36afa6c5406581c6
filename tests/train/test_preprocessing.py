"""Preprocessing recorded beside pretrained weights."""

import json

import pytest
from safetensors.numpy import save_file

from imgcls.core.config import load
from imgcls.core.errors import ConfigError
from imgcls.export.__main__ import main as export
from imgcls.main import main
from imgcls.train.preprocessing import HALF, IMAGENET, recorded_preprocessing
from tests.conftest import exit_code

TIMM = {
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
    "crop_pct": 0.875,
    "crop_mode": "center",
    "interpolation": "bilinear",
}
TRAIN = [
    "--config=configs/digits.py",
    "--config.total=1 steps",
    "--config.batch_size=64",
    "--config.model.stem=imagenet",
    "--config.model.width=64",
    "--config.model.stage_sizes=(1, 1, 1, 1)",
    "--config.compile_cache=",
    "--config.data.channels=3",
    "--config.data.std=(0.3,)",
    "--config.evaluators.test.split=test[:8]",
]
CROP = "eval_crop(224, crop_fraction=0.875, interpolation='bilinear')"


def write_weights(folder, config=None, name: str = "model.safetensors"):
    folder.mkdir(exist_ok=True)
    save_file({}, folder / name)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / name


def finetune(init_from, *arguments: str):
    text = ",".join([f"configs/finetune.py:init_from={init_from},data=folder:x", *arguments])
    return load(text).data


@pytest.mark.parametrize(
    ("config", "transform"),
    [
        ({"architecture": "vit_small_patch16_224", "pretrained_cfg": TIMM}, CROP),
        # As in older files of the hub.
        ({"num_classes": 3, **TIMM}, CROP),
        (
            TIMM | {"crop_mode": "squash", "interpolation": "box"},
            "resize((224, 224), interpolation='area')",
        ),
        (
            {key: TIMM[key] for key in ("mean", "std")},
            "eval_crop(224, crop_fraction=0.9, interpolation='bicubic')",
        ),
        # Of an export for a model that timm does not have.
        ({"preprocessing": {"mean": TIMM["mean"], "std": TIMM["std"], "transform": CROP}}, CROP),
    ],
)
@pytest.mark.parametrize("prefix", ["timm:", ""])
def test_recipe_takes_that_of_the_weights(tmp_path, prefix, config, transform):
    """A DeiT as vit_s16, whose name stands for a mean of 0.5, and any other model."""
    file = write_weights(tmp_path, config)
    for model in ("vit_s16", "resnet50"):
        data = finetune(f"{prefix}{file}", f"model={model}")
        assert (data.mean, data.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        assert data.eval_transform == transform
    # An argument overrides mean and std.
    data = finetune(f"{prefix}{file}", "normalize=half")
    assert (data.mean, data.std) == HALF


@pytest.mark.parametrize(
    ("name", "prefix", "model", "expected"),
    [
        ("vit_small.safetensors", "timm:", "vit_s16", HALF),
        ("deit_small.safetensors", "timm:", "vit_s16", IMAGENET),
        ("vit_b_16.safetensors", "torchvision:", "vit_b16", IMAGENET),
        ("inception.safetensors", "torchvision:", "inception_v3", HALF),
        ("resnet50.safetensors", "", "resnet50", IMAGENET),
    ],
)
@pytest.mark.parametrize("config", [None, {"architecture": "x"}, ["mean"]])
def test_without_a_record_the_name_decides(tmp_path, config, name, prefix, model, expected):
    file = write_weights(tmp_path / "weights", config, name)
    data = finetune(f"{prefix}{file}", f"model={model}")
    assert (data.mean, data.std) == expected
    assert data.eval_transform == "eval_crop(224, crop_fraction=0.9)"


@pytest.mark.parametrize("mean", ["0.5", [0.5, "x", 0.5], [0.5], []])
def test_invalid_record(tmp_path, mean):
    file = write_weights(tmp_path, TIMM | {"mean": mean})
    with pytest.raises(ConfigError, match="config.json: no valid mean and std .* or remove it"):
        recorded_preprocessing(f"timm:{file}")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="config.json can't be read"):
        recorded_preprocessing(f"timm:{file}")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A workdir of a model with mean 0.4 and std 0.3, and its export to safetensors."""
    folder = tmp_path_factory.mktemp("exported")
    workdir = folder / "run"
    assert main([*TRAIN, "--config.data.mean=(0.4,)", f"--workdir={workdir}"]) == 0
    command = [f"--checkpoint={workdir}", f"--to={folder / 'to'}", "--format=safetensors"]
    assert exit_code(lambda: export(command)) == 0
    return workdir, folder / "to" / "model.safetensors"


def test_runs_and_exports(exported):
    """Both record what the run was trained with."""
    for init_from in map(str, exported):
        found = recorded_preprocessing(init_from)
        assert found is not None and set(found.mean) == {0.4} and set(found.std) == {0.3}
        assert found.crop == {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bicubic"}
        assert finetune(init_from).mean[0] == 0.4


@pytest.mark.parametrize("kind", ["run", "export"])
@pytest.mark.parametrize("same", [True, False])
def test_difference_is_logged(tmp_path, capsys, exported, kind, same):
    workdir, file = exported
    init_from = str(workdir) if kind == "run" else f"timm:{file}"
    mean, transform = ("0.4", "resize((8, 8))") if same else ("0.5", "eval_crop(8, 0.875)")
    command = [
        *TRAIN,
        f"--config.init_from={init_from}",
        f"--config.data.mean=({mean},)",
        f"--config.data.eval_transform={transform}",
        f"--workdir={tmp_path}",
    ]
    assert main(command) == 0
    out, err = capsys.readouterr()
    if same:
        assert f"init_from {init_from}: preprocessing as in " in out and "differs" not in err
        return
    (line,) = [line for line in err.splitlines() if "preprocessing" in line]
    assert line.startswith(
        f"warning: init_from {init_from}: preprocessing differs: data.mean=(0.5,)"
    )
    assert "crop_pct 0.875 in data.eval_transform where the weights have 1.0" in line
    assert "crop_mode center in data.eval_transform where the weights have squash" in line
    assert "data.std" not in line and "interpolation" not in line
