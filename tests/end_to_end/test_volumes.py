"""Volumes through the commands: the loop, checkpoints, evaluation and prediction of images."""

import json
import shutil

import nibabel
import numpy as np
import pytest
from ml_collections import ConfigDict

import imgcls
from imgcls.audit.__main__ import main as audit_main
from imgcls.convert import main as convert_main
from imgcls.core.config import load, override
from imgcls.core.errors import ConfigError
from imgcls.data.create import create_reader, open_split
from imgcls.data.sources.open import create_source
from imgcls.export.__main__ import main as export_main
from imgcls.predict.__main__ import main as predict_main
from imgcls.report.__main__ import main as report_main
from imgcls.train.setup import set_up
from tests.conftest import REPO
from tests.end_to_end.test_devices import losses
from tests.end_to_end.test_resume import final_state

SIDE = 8
ARGUMENTS = (
    "--config=configs/digits.py",
    "--config.total=12 steps",
    "--config.batch_size=32",
    "--config.accumulate=2",
    "--config.model={'name': 'resnet3d_10', 'stem': 'cifar', 'width': 4, 'stage_sizes': (1, 1)}",
    "--config.model.virtual_batch_size=4",
    "--config.data.train_transform=",
    "--config.data.eval_transform=",
    "--config.data.batch_transform=mixup(0.2)|random_erasing(0.25)",
    "--config.optim.learning_rate=0.02",
    "--config.schedule.warmup=2 steps",
    "--config.evaluators.test.every=6 steps",
    "--config.checkpoint.every=4 steps",
    "--config.checkpoint.keep_last=3",
    "--config.log.every=1 steps",
)


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright slab across one of the three axes, which is the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    volumes = rng.integers(0, 60, (count, SIDE, SIDE, SIDE), np.uint8)
    for volume, label in zip(volumes, labels, strict=True):
        np.moveaxis(volume, label, 0)[rng.integers(SIDE)] = 250
    return volumes, labels[:, None].astype(np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    path, made = tmp_path_factory.mktemp("data") / "slabs.npz", {}
    for seed, (split, count) in enumerate([("train", 48), ("val", 12), ("test", 21)]):
        made[f"{split}_images"], made[f"{split}_labels"] = draw(count, seed)
    np.savez_compressed(path, **made)
    return f"medmnist:{path}"


@pytest.fixture(scope="module")
def trained(here, source, tmp_path_factory):
    """The workdir of a run on one device."""
    workdir = tmp_path_factory.mktemp("run")
    done = here("main", *ARGUMENTS, f"--config.data.source={source}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


def test_resumes_bitwise(here, source, trained, tmp_path):
    """From an earlier checkpoint, with virtual batches and accumulation."""
    workdir = tmp_path / "again"
    shutil.copytree(trained, workdir)
    first, *later = sorted((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for path in later:
        shutil.rmtree(path)
    done = here("main", *ARGUMENTS, f"--config.data.source={source}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert f"continue at step {first.name} of 12" in done.stderr + done.stdout
    expected, found = final_state(trained), final_state(workdir)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_devices_and_sharding_rules(here, source, trained, tmp_path):
    """Four devices, and kernels divided among two of them, compute the same losses."""
    done = here(
        "main",
        *ARGUMENTS,
        f"--config.data.source={source}",
        "--config.mesh.fsdp=2",
        "--config.mesh.rules=((r'kernel', 'largest'),)",
        f"--workdir={tmp_path}",
        devices=4,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(losses(tmp_path), losses(trained), rtol=1e-4)


def test_evaluate_and_predict(here, source, trained, tmp_path):
    done = here("evaluate", f"--workdir={trained}")
    assert done.returncode == 0, done.stderr
    volumes, labels = draw(21, seed=2)
    run = imgcls.load(trained)
    assert run.info.image_shape == (SIDE, SIDE, SIDE, 1)
    np.save(tmp_path / "one.npy", volumes[0])
    predictions = run.predict([str(tmp_path / "one.npy"), volumes[0], volumes[0][..., None]])
    assert len({tuple(p.probabilities) for p in predictions}) == 1
    predictions = run.predict(volumes[..., None])
    accuracy = np.mean(
        [p.labels == [str(label)] for p, (label,) in zip(predictions, labels, strict=True)]
    )
    assert run.evaluate("test", bootstrap=0).metrics["accuracy"] == pytest.approx(accuracy)
    done = here("predict", f"--checkpoint={trained}", str(tmp_path / "one.npy"))
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["labels"] == predictions[0].labels
    with pytest.raises(ConfigError, match="image 0 has values of type float32"):
        run.predict(np.zeros((8, 8, 8)))


def test_export_is_the_same_function(trained, tmp_path):
    export_main([f"--checkpoint={trained}", f"--to={tmp_path}", "--format=stablehlo"])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["input"]["shape"] == ["b", SIDE, SIDE, SIDE, 1]
    with pytest.raises(ConfigError, match="--format=safetensors: is for models of images"):
        export_main([f"--checkpoint={trained}", f"--to={tmp_path / 's'}", "--format=safetensors"])


def test_records_hold_the_same_volumes(source, tmp_path):
    convert_main([f"--from={source}", f"--to={tmp_path}"])
    config = load(str(REPO / "configs" / "digits.py"))
    config.data.eval_transform = ""
    config.data.source = f"records:{tmp_path}"
    reader = create_reader(config, open_split(config, "test"), train=False)
    original = create_source(source, "test")
    for i in range(len(original)):
        np.testing.assert_array_equal(reader.example(i)["image"], original[i]["image"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(data__train_transform="flip"), "one of the transforms is for images"),
        (dict(data__train_transform="rand_augment(2, 10)"), "the transform rand_augment is for"),
        (
            dict(data__train_transform="random_resized_crop(8)"),
            "the transform random_resized_crop is for",
        ),
        (dict(model__name="vit_ti16"), r"model 'vit_ti16' has no option"),
        (dict(model=dict(name="resnet18")), r"ResNet: takes images \[B, H, W, C\]"),
        (dict(objective=dict(name="mae")), "mae needs a ViT; write for example 'vit3d_b16'"),
        (dict(data__mean=(0.1, 0.2)), r"the images have 1 channel\(s\)"),
    ],
)
def test_what_volumes_can_not_do_yet(source, tmp_path, changes, message):
    config = override(load(str(REPO / "configs" / "digits.py")), ARGUMENTS[1:])
    config.data.source, config.batch_size = source, 64
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            config[section][name] = value
        else:
            config[section] = ConfigDict(value)
    with pytest.raises(ConfigError, match=message):
        set_up(config, str(tmp_path), False)


def test_report_audit_and_heat_maps(source, trained, tmp_path):
    command = [f"--workdir={trained}", f"--out={tmp_path / 'report.html'}"]
    assert report_main([*command, f"--heat_maps={tmp_path / 'heat'}"]) == 0
    heat_maps = sorted((tmp_path / "heat").iterdir())
    assert len(heat_maps) >= 3
    image = nibabel.load(heat_maps[0])
    assert image.shape == (SIDE,) * 3 and image.get_fdata().max() == pytest.approx(1)
    page = (tmp_path / "report.html").read_text()
    assert "The slices go through the voxel with the most heat." in page
    assert page.count('alt="heat map for') >= 3
    assert audit_main([f"--data={source}", f"--out={tmp_path / 'audit'}"]) in (0, 1)
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert found["pictures"] == 81 and found["properties"]["depth"]["max"] == SIDE
    volume = draw(1, 0)[0][0]
    np.save(tmp_path / "one.npy", volume)
    (drawn,) = imgcls.load(trained).explain(volume)
    assert drawn.shape == (2 * SIDE + 1, 2 * SIDE + 1, 3)
    command = [f"--checkpoint={trained}", f"--explain={tmp_path}", str(tmp_path / "one.npy")]
    assert predict_main(command) == 0
    assert (tmp_path / "one.npy.png").exists() and (tmp_path / "one.npy.heat.nii.gz").exists()
