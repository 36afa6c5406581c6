"""Settings that are chosen from the data: `config.auto`, and the recipe that uses it."""

import json
import re
import time

import numpy as np
import pytest
from PIL import Image

from imgcls.core.config import leaves, load, override
from imgcls.core.errors import ConfigError
from imgcls.data.sources.digits import DigitsSource
from imgcls.evaluate.__main__ import main as evaluate
from imgcls.main import main
from imgcls.models.weights import files
from imgcls.train.auto import CHOSEN, choose, save_choice
from tests.conftest import REPO
from tests.models.weights.cases import CASES
from tests.models.weights.test_recorded import write_state_dict

OWN = str(REPO / "configs" / "own.py")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Class folders of PNG files of 8x8 pixels: 120 digits to train on, 60 to test."""
    root = tmp_path_factory.mktemp("digits")
    for split in ("train[:120]", "test[:60]"):
        source = DigitsSource(split, 0)
        for i in range(len(source)):
            example = source[i]
            folder = root / split.split("[")[0] / str(example["label"])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(example["image"][..., 0]).save(folder / f"{i}.png")
    return root


def read(digits, arguments: str = "", *overrides: str):
    return override(load(f"{OWN}:data=folder:{digits}{arguments}"), overrides)


def chosen(config) -> dict:
    values = leaves(config)
    keys = (*CHOSEN, "model.width", "model.stem", "model.widths", "optim.multipliers")
    return {key: values.get(key) for key in keys}


def test_given_speed(digits, tmp_path, capfd):
    config = read(digits, ",minutes=1", "--config.auto.tflops=0.0006")
    choose(config, str(tmp_path), time.monotonic())
    # 60 s without 30 of start, 5 of end and 6 % of reserve; convolutions of 15, 7, 3 and 1 pixels
    # a side, forward and backward.
    layers = [(15, 4, 3, 24), (15, 9, 24, 16), (7, 9, 16, 16), (7, 9, 16, 64), (3, 9, 64, 64)]
    layers += [(3, 9, 64, 64), (1, 9, 64, 64)]
    flops = 6 * sum(side**2 * taps * c_in * c_out for side, taps, c_in, c_out in layers)
    steps = 23 * 0.0006e12 / flops / 64
    assert config.total.endswith(" steps")
    assert int(config.total.split()[0]) == pytest.approx(steps, rel=0.03)
    assert chosen(config) == {
        "total": config.total,
        "init_from": None,
        # A mirrored digit is another figure.
        "data.train_transform": "resize((16, 16))|pad_crop(16, padding=2)",
        "data.eval_transform": "resize((16, 16))",
        "data.batch_transform": "",
        "data.sampling": "uniform",
        "model.name": "airbench94",
        "model.width": None,
        "model.stem": None,
        "model.widths": (16, 64, 64),
        "optim.multipliers": (),
    }
    lines = capfd.readouterr().out.splitlines()
    reasons = [line.split("chosen: ")[1] for line in lines if "chosen: " in line]
    assert reasons[0].startswith("size 16: ") and "median of 8 pixels" in reasons[0]
    assert reasons.pop(1) == "from scratch: small images need no pretrained weights"
    assert re.match(
        r"airbench94, widths \(16, 64, 64\), [\d.]+ epochs of 108 images: a step of 64", reasons[1]
    )
    assert re.match(r"light augmentation: .* not mirrored, as gradients", reasons[2])
    assert reasons[3].startswith("uniform sampling: the classes have ")


@pytest.fixture
def large(tmp_path):
    """Ten images of 64 pixels, of two classes."""
    for i in range(10):
        folder = tmp_path / "large" / f"class {i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (20 * i, 0, 0)).save(folder / f"{i}.png")
    return tmp_path / "large"


def test_pretrained_weights(large, tmp_path, monkeypatch, capfd):
    """Larger images start from them if they can be had, and a choice is read as it was."""
    workdir = str(tmp_path / "run")
    asked = (large, ",minutes=1", "--config.auto.tflops=0.01")
    monkeypatch.setattr(files, "download", lambda name: {"resnet18.a1_in1k": "file"}[name])
    config = read(*asked)
    save_choice(workdir, choose(config, workdir, time.monotonic()))
    again = read(*asked)
    assert choose(again, workdir, time.monotonic()) is None
    for values in map(chosen, (config, again)):
        assert values["init_from"] == "timm:resnet18.a1_in1k"
        assert (values["model.name"], values["model.width"]) == ("resnet18", None)
        assert values["optim.multipliers"] == ((r"^(?!head)", 0.1),)
    assert "chosen: pretrained weights: timm:resnet18.a1_in1k" in capfd.readouterr().out


def test_weights_that_cannot_be_had(large, tmp_path, capfd):
    config = read(large, ",minutes=1", "--config.auto.tflops=0.01")
    choose(config, str(tmp_path / "run"), time.monotonic())
    assert chosen(config)["init_from"] is None and config.model.width == 32
    assert "chosen: from scratch: can't download timm:resnet18.a1_in1k" in capfd.readouterr().out


def test_given_weights(digits):
    config = read(digits, ",weights=/a/x.safetensors,model=resnet34")
    assert (config.init_from, config.model.name) == ("/a/x.safetensors", "resnet34")
    assert "width" not in config.model and config.optim.multipliers[0][1] == 0.1
    assert read(digits, ",weights=").init_from is None


@pytest.mark.slow
def test_training_starts_from_given_weights(large, tmp_path, capfd):
    file = tmp_path / "x.safetensors"
    write_state_dict(CASES["resnet18"], file)
    line = f"--config={OWN}:data=folder:{large},minutes=1,weights=timm:{file}"
    options = ["--config.model.stage_sizes=(1, 1, 1, 1)", "--config.auto.tflops=0.000001"]
    assert main([line, *options, "--config.compile_cache=", f"--workdir={tmp_path / 'run'}"]) == 0
    output = capfd.readouterr().out
    assert "left out: head (5 classes); new: head (2 classes)" in output
    assert re.search(r"chosen: [\d.]+ epochs of 8 images", output)


def test_a_choice_is_kept_in_the_workdir(digits, tmp_path):
    def choose_again(*overrides: str) -> str:
        config = read(digits, ",minutes=1", "--config.auto.tflops=0.003", *overrides)
        if choice := choose(config, str(tmp_path), time.monotonic()):
            save_choice(str(tmp_path), choice)
        return config.total

    first = choose_again()
    file = tmp_path / "chosen.json"
    saved = json.loads(file.read_text())
    assert saved["values"]["total"] == first
    file.write_text(json.dumps(saved | {"values": saved["values"] | {"total": "7 steps"}}))
    assert choose_again("--config.data.threads=1") == "7 steps"
    # What was asked has changed, and no step is done: it is chosen again.
    assert choose_again("--config.auto.minutes=2.0") not in (first, "7 steps")
    file.write_text("{")
    assert choose_again() == first


def test_what_the_config_sets_stays(digits, tmp_path):
    arguments = ",width=24,epochs=3,size=32"
    config = read(digits, arguments[: arguments.index(",size")], "--config.auto.tflops=1.0")
    override(config, ["--config.auto.size=32", "--config.data.batch_transform=cutout(4)"])
    override(config, ["--config.data.sampling=balanced", "--config.model.stem=imagenet"])
    choose(config, str(tmp_path), time.monotonic())
    assert chosen(config) == {
        "total": "3 epochs",
        "init_from": None,
        "data.train_transform": "resize((32, 32))|pad_crop(32, padding=4)",
        "data.eval_transform": "resize((32, 32))",
        "data.batch_transform": "cutout(4)",
        "data.sampling": "balanced",
        "model.name": "resnet18",
        "model.width": 24,
        "model.stem": "imagenet",
        "model.widths": None,
        "optim.multipliers": (),
    }
    given = read(digits, arguments)
    assert given.auto.minutes is None
    before = given.to_json()
    choose(given, str(tmp_path / "given"), time.monotonic())
    assert given.to_json() == before and not (tmp_path / "given").exists()


def test_size_and_epochs_alone_are_the_recipe_of_before(digits):
    config = read(digits, ",size=48,epochs=7")
    assert config.model.to_dict() == {"name": "resnet18", "dtype": "float32", "width": 32}
    assert config.total == "7 epochs" and config.batch_size == 64
    assert config.data.train_transform == "random_resized_crop(48, scale=(0.5, 1.0))|flip"
    assert config.data.eval_transform == "resize((48, 48))"
    assert config.data.batch_transform == "" and config.data.sampling == "uniform"


def test_measured_speed(digits, tmp_path):
    config = read(digits, ",minutes=1,width=4", "--config.model.stage_sizes=(1,)")
    # As if it had begun in an hour, so that some time is left on a slow machine.
    choose(config, str(tmp_path), time.monotonic() + 3600)
    # From one epoch of 108 images to the most that help.
    assert 2 <= int(config.total.split()[0]) <= 60_000 // 64
    assert not [key for key, value in chosen(config).items() if value == "auto"]
    assert not list(tmp_path.iterdir())  # Nothing is written before the run is set up.


@pytest.mark.parametrize("key", ["minutes", "tflops", "size"])
def test_wrong_settings(digits, tmp_path, key):
    config = read(digits, "", f"--config.auto.{key}=0")
    with pytest.raises(ConfigError, match=f"config.auto.{key}=0.*above 0"):
        choose(config, str(tmp_path), time.monotonic())


def test_run_continues_with_its_choice(digits, tmp_path, capsys):
    """Without the file of the choice too; evaluation uses the same."""
    arguments = [
        f"--config={OWN}:data=folder:{digits},minutes=1,width=4",
        "--config.model.stage_sizes=(1,)",
        "--config.compile_cache=",
        f"--workdir={tmp_path}",
    ]
    speed = "--config.auto.tflops=0.000002"
    assert main([*arguments, speed, "--config.checkpoint.every=1 steps"]) == 0
    assert capsys.readouterr().out.count("chosen: ") == 4
    config = json.loads((tmp_path / "config.json").read_text())
    chosen_file = json.loads((tmp_path / "chosen.json").read_text())
    assert config["total"] == chosen_file["values"]["total"] == "2 steps"
    assert config["data"]["eval_transform"] == "resize((16, 16))"

    (tmp_path / "chosen.json").unlink()
    assert main([*arguments, speed]) == 0
    output = capsys.readouterr().out
    assert "chosen: " not in output and "continue at step 2 of 2" in output
    with pytest.raises(ConfigError, match="auto.tflops was 2e-06, is 0.4") as error:
        main([*arguments, "--config.auto.tflops=0.4"])
    assert "total" not in str(error.value)
    capsys.readouterr()
    assert evaluate([f"--workdir={tmp_path}", "--bootstrap=0"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["test/examples"] == 60 and np.isfinite(metrics["test/loss"])
