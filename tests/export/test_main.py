"""Exports of trained models, read back and compared with the model."""

import functools
import importlib.util
import json
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from imgcls.core import defaults
from imgcls.core.errors import ConfigError, UserError
from imgcls.data import info as data_info
from imgcls.export import __main__ as export
from imgcls.export import stablehlo
from imgcls.export.safetensors import to_safetensors
from imgcls.export.timm_config import timm_config, timm_transform
from imgcls.models.create import create_model
from imgcls.models.weights import load as weights
from imgcls.objectives import create as objectives
from imgcls.runs import trained as runs_trained
from imgcls.runs.load import find_checkpoint
from tests.conftest import exit_code

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict(dict(
        total="{total}", batch_size=16, model={model}, data={data},
        optim=dict(learning_rate=0.01), schedule=dict(warmup="1 steps"),
    ))
"""
DIGITS = dict(source="digits", channels=1, eval_transform="resize((8, 8))", mean=(0.3,), std=(0.4,))
GAP = dict(pool="gap", pos_embed="sincos2d", layer_scale=0.1)


def train(here, folder: pathlib.Path, model: dict, data: dict) -> pathlib.Path:
    """Trains for two steps and returns the workdir."""
    folder.mkdir()
    (folder / "config.py").write_text(CONFIG.format(total="2 steps", model=model, data=data))
    arguments = [f"--config={folder / 'config.py'}", f"--workdir={folder / 'run'}"]
    done = here("main", *arguments)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def make_trained(
    name: str, size: tuple[int, int], transform: str = "", objective: dict | None = None, **options
) -> runs_trained.Trained:
    """A model as loaded from a checkpoint, with weights that depend only on depth and size."""
    c = defaults.default_config()
    c.model.update(name=name, **options)
    if objective:
        c.objective, c.data.views = objective, "two"
    c.data.eval_transform = transform
    c.data.mean, c.data.std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    info = data_info.DataInfo(tuple("abcde"), False, (*size, 3))
    objective = objectives.create_objective(c, info)
    spec = {"image": jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)}
    shapes = jax.eval_shape(lambda: objective.init(jax.random.key(0), spec))

    def draw(path: tuple, leaf) -> np.ndarray:
        rng = np.random.default_rng(len(path) + leaf.size)
        noise = rng.standard_normal(leaf.shape, dtype=np.float32)
        kind = path[-1].key
        if kind in ("scale", "var"):
            return 1 + 0.2 * np.abs(noise)
        if kind == "kernel":
            return noise * np.float32((2 * leaf.shape[-1] / leaf.size) ** 0.5)
        return 0.2 * noise

    params, model_state = jax.tree_util.tree_map_with_path(draw, shapes)
    return runs_trained.Trained(c, info, objective, None, params, model_state)


def model_logits(trained: runs_trained.Trained, images: np.ndarray) -> np.ndarray:
    """Logits of uint8 images `[b, H, W, C]`, computed by the module."""
    mean, std = (np.float32(trained.config.data[key]) for key in ("mean", "std"))
    variables = {"params": trained.params, **trained.model_state}
    apply = jax.jit(functools.partial(trained.objective.model.apply, train=False))
    return np.asarray(apply(variables, (images / np.float32(255) - mean) / std))


def random_images(batch: int, shape: tuple) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 256, (batch, *shape), np.uint8)


@pytest.fixture
def run(capsys):
    """Runs the command in this process: `run(checkpoint, to, file_format)`."""

    def run(checkpoint, to, file_format):
        arguments = [f"--checkpoint={checkpoint}", f"--to={to}", f"--format={file_format}"]
        return exit_code(lambda: export.main(arguments)), *capsys.readouterr()

    return run


# ---- StableHLO.


def test_stablehlo_command(command, workdir, tmp_path):
    """Written with averaged parameters on two devices, and read with any batch size."""
    arguments = [f"--checkpoint={workdir}", f"--to={tmp_path / 'a' / 'b'}", "--format=stablehlo"]
    done = command("export", *arguments, devices=2)
    assert done.returncode == 0, done.stderr
    assert "batches of 1 and 5: logits of up to" in done.stdout
    exported = jax.export.deserialize(bytearray((tmp_path / "a/b/model.stablehlo").read_bytes()))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    trained = runs_trained.load_trained(find_checkpoint(workdir))
    for batch in (1, 5):
        images = random_images(batch, (8, 8, 1))
        logits = exported.call(images)
        assert logits.dtype == jnp.float32
        np.testing.assert_allclose(logits, model_logits(trained, images), rtol=1e-4, atol=1e-5)
    description = json.loads((tmp_path / "a/b/config.json").read_text())
    assert description["class_names"] == list("0123456789")
    assert description["input"] == {"dtype": "uint8", "shape": ["b", 8, 8, 1]}
    assert description["preprocessing"]["transform"] == "resize((8, 8))"
    assert "softmax" in description["output"]


def test_images_have_the_size_of_evaluation(tmp_path):
    trained = make_trained("vit_ti8", (32, 32), "eval_crop(48)", depth=1)
    assert export.image_shape(trained) == (48, 48, 3)
    logits = export.make_logits(trained)
    exported = stablehlo.run_stablehlo(stablehlo.to_stablehlo(logits, (48, 48, 3)))
    images = random_images(3, (48, 48, 3))
    expected = model_logits(trained, images)
    np.testing.assert_allclose(exported(images), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_model_is_exported_in_bfloat16():
    trained = make_trained("vit_ti8", (16, 16), depth=1, dtype="bfloat16")
    rounded = export.make_logits(trained)
    exported = stablehlo.run_stablehlo(stablehlo.to_stablehlo(rounded, (16, 16, 3)))
    images = random_images(2, (16, 16, 3))
    exact = np.asarray(export.make_logits(trained, "float32")(images))
    difference = np.abs(np.asarray(exported(images)) - exact).max() / np.abs(exact).max()
    assert 1e-5 < difference < 0.1


def test_different_logits_are_an_error(capsys):
    def logits(images):
        return jnp.sum(images.astype(jnp.float32), axis=(2, 3))

    export.compare("f", logits, logits, (4, 4, 1), 1e-4)
    assert "f: batches of 1 and 5: logits of up to 703 differ" in capsys.readouterr().out
    for wrong in (lambda x: logits(x) * 1.001, lambda x: logits(x) * jnp.nan):
        with pytest.raises(UserError, match="not the same model"):
            export.compare("f", wrong, logits, (4, 4, 1), 1e-4)


# ---- safetensors, without timm.


def test_safetensors_command(here, tmp_path):
    model = dict(name="vit_ti4", width=16, depth=1, num_heads=2, mlp_dim=24, **GAP)
    folder = train(here, tmp_path / "vit", model, DIGITS)
    arguments = [f"--checkpoint={folder}", f"--to={tmp_path}", "--format=safetensors"]
    done = here("export", *arguments)
    assert done.returncode == 0, done.stderr
    arrays = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    block = {"norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"}
    modules = {f"blocks.0.{name}" for name in block} | {"patch_embed.proj", "norm", "head"}
    expected = {f"{name}.{kind}" for name in modules for kind in ("weight", "bias")}
    expected |= {"blocks.0.ls1.gamma", "blocks.0.ls2.gamma", "pos_embed"}
    assert set(arrays) == expected
    assert arrays["pos_embed"].shape == (1, 4, 16)
    assert arrays["patch_embed.proj.weight"].shape == (16, 1, 4, 4)
    description = json.loads((tmp_path / "config.json").read_text())
    assert description["architecture"] == "vit_base_patch16_224"
    assert description["model_args"] == {
        "in_chans": 1,
        "img_size": 8,
        "patch_size": 4,
        "embed_dim": 16,
        "depth": 1,
        "num_heads": 2,
        "mlp_ratio": 1.5,
        "class_token": False,
        "global_pool": "avg",
        "fc_norm": False,
        "init_values": 0.1,
    }
    assert description["pretrained_cfg"] == {
        "input_size": [1, 8, 8],
        "fixed_input_size": True,
        "num_classes": 10,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "mean": [0.3],
        "std": [0.4],
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "interpolation": "bicubic",
    }
    assert description["label_names"] == description["class_names"] == list("0123456789")


@pytest.mark.parametrize(
    ("name", "layout"), [("inception_v1", "torchvision"), ("inception_v2", "cadene")]
)
def test_families_missing_in_timm(name, layout, tmp_path, capsys):
    """They have the names of another project, and `init_from` reads them back."""
    trained = make_trained(name, (64, 64), **({"aux": False} if name == "inception_v1" else {}))
    file, extra = to_safetensors(trained, (64, 64, 3))
    assert extra == {"layout": layout}
    assert f"timm has no {name}: using the names of {layout}" in capsys.readouterr().out
    (tmp_path / "w.safetensors").write_bytes(file)
    variables = {"params": trained.params, **trained.model_state}
    loaded, _ = weights.load(
        f"{layout}:{tmp_path / 'w.safetensors'}", trained.objective.model, variables
    )
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


def test_probe_becomes_the_head(tmp_path, capsys):
    """A pre-trained backbone with a probe is exported as a complete model."""
    objective = dict(name="simclr", hidden=8, probe=True)
    trained = make_trained("vit_ti8", (16, 16), objective=objective, depth=1)
    (tmp_path / "w.safetensors").write_bytes(to_safetensors(trained, (16, 16, 3))[0])
    model = trained.objective.model
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    loaded, report = weights.load(f"timm:{tmp_path / 'w.safetensors'}", model, shapes)
    assert not report.new and not report.left_out
    image = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16, 16, 3)), jnp.float32)
    expected = trained.objective.logits(trained.params, trained.model_state, {"image": image})
    np.testing.assert_allclose(model.apply(loaded, image), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("resnet18", dict(stem="cifar"), "stem='cifar'"),
        ("resnet18", dict(width=32), "width=32"),
        ("resnet50", dict(stage_sizes=(1, 1)), "stage_sizes=(1, 1)"),
        ("resnext50_32x4d", dict(groups=2), "groups=2"),
        ("resnest50d", dict(stem_width=16), "stem_width=16"),
        ("regnety_200mf", dict(se=False), "se=False"),
        ("vgg11", dict(hidden=64), "hidden=64"),
    ],
)
def test_options_missing_in_timm(name, options, named):
    model = create_model(name, 5, **options)
    with pytest.raises(ConfigError) as e:
        timm_config(name, model, [], (64, 64, 3), "abcde", {})
    assert f"config.model.{named}: timm's" in str(e.value)
    assert "use --format=stablehlo" in str(e.value)


def test_a_model_that_no_other_project_has():
    with pytest.raises(ConfigError, match="no other project has airbench94: use --format=onnx"):
        to_safetensors(make_trained("airbench94", (32, 32), ""), (32, 32, 3))


def test_vgg_for_large_images_is_rejected():
    with pytest.raises(ConfigError, match="256 pixels or more: use --format=stablehlo"):
        timm_config("vgg11", create_model("vgg11", 5), [], (256, 224, 3), "abcde", {})


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("eval_crop(224)", (0.875, "center", "bicubic")),
        ("eval_crop(224, 1, interpolation='bilinear')", (1, "center", "bilinear")),
        ("resize(256)|center_crop(224)", (0.875, "center", "bicubic")),
        ("resize((8, 8), 'area')", (1.0, "squash", "box")),
        ("", (1.0, "squash", "bicubic")),
        ("resize(256)", None),
        ("resize(256)|center_crop((224, 192))", None),
        ("center_crop(224)", None),
        ("resize((8, 8))|grayscale(1.0)", None),
    ],
)
def test_timm_transform(transform, expected):
    names = ("crop_pct", "crop_mode", "interpolation")
    expected = None if expected is None else dict(zip(names, expected, strict=True))
    assert timm_transform(transform) == expected


def test_transform_missing_in_timm_is_reported(capsys):
    _, extra = to_safetensors(make_trained("vit_ti8", (16, 16), "center_crop(16)"), (16, 16, 3))
    assert "timm has no equivalent of eval_transform='center_crop(16)'" in capsys.readouterr().out
    assert extra["pretrained_cfg"]["mean"] == [0.5, 0.4, 0.3]


# ---- ONNX.


def test_onnx_command(run, workdir, tmp_path):
    for package in ("jax2onnx", "onnxruntime"):
        pytest.importorskip(package, reason="needs requirements-onnx.txt")
    import onnxruntime

    code, out, err = run(workdir, tmp_path, "onnx")
    assert code == 0, err
    assert "batches of 1 and 5: logits of up to" in out
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    trained = runs_trained.load_trained(find_checkpoint(workdir))
    for batch in (2, 3):
        images = random_images(batch, (8, 8, 1))
        (logits,) = session.run(["logits"], {"images": images})
        np.testing.assert_allclose(logits, model_logits(trained, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("vit_ti8", 16, dict(depth=1, dtype="bfloat16")),
        ("resnest50d", 32, dict(stage_sizes=(1, 1), width=8, stem_width=8)),
    ],
)
def test_onnx_of_other_layers(name, size, options):
    """Attention, and max and average pooling, which `_slice_windows` replaces."""
    for package in ("jax2onnx", "onnxruntime"):
        pytest.importorskip(package, reason="needs requirements-onnx.txt")
    trained, shape = make_trained(name, (size, size), **options), (size, size, 3)
    logits = export.make_logits(trained, "float32")
    exported = export.run_onnx(export.to_onnx(logits, shape))
    for batch in (2, 3):
        images = random_images(batch, shape)
        np.testing.assert_allclose(exported(images), logits(images), rtol=1e-4, atol=1e-5)


# ---- Mistakes: one line, exit code 2, no files written.


def check_mistake(result: tuple, message: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


def test_model_missing_in_timm(run, workdir, tmp_path):
    result = run(workdir, tmp_path / "new", "safetensors")
    check_mistake(result, "config.model.stage_sizes=(1, 1): timm's resnet18 can't have this value")
    assert not (tmp_path / "new").exists()


def test_unknown_checkpoint(run, tmp_path):
    check_mistake(run(tmp_path, tmp_path / "new", "stablehlo"), "no checkpoint there")
    assert not (tmp_path / "new").exists()


def test_other_files_are_not_overwritten(run, workdir, tmp_path):
    check_mistake(run(workdir, workdir, "stablehlo"), "config.json is not from an export")
    (tmp_path / "model.stablehlo").write_text("precious")
    check_mistake(run(workdir, tmp_path, "stablehlo"), "model.stablehlo is not from an export")
    assert (tmp_path / "model.stablehlo").read_text() == "precious"


def test_exports_of_the_same_format_are_overwritten(run, workdir, tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    for _ in range(2):
        assert run(workdir, tmp_path, "stablehlo")[0] == 0
    assert (tmp_path / "notes.txt").read_text() == "precious"
    message = "config.json is not from an export as safetensors: write another folder"
    check_mistake(run(workdir, tmp_path, "safetensors"), message)


def test_folder_that_is_a_file(run, workdir, tmp_path):
    (tmp_path / "file").write_text("precious")
    check_mistake(run(workdir, tmp_path / "file", "stablehlo"), "can't be written")


def test_objective_without_classes(run, monkeypatch, workdir, tmp_path):
    trained = types.SimpleNamespace(config=defaults.default_config(), objective=object())
    monkeypatch.setattr(export, "load_trained", lambda checkpoint: trained)
    check_mistake(
        run(workdir, tmp_path / "new", "stablehlo"), "as supervised without classes: fine-tune"
    )
    assert not (tmp_path / "new").exists()


def test_model_too_large_for_the_format(run, monkeypatch, workdir, tmp_path):
    monkeypatch.setattr(export, "LARGEST", 1000)
    check_mistake(run(workdir, tmp_path, "stablehlo"), "can hold at most 2 GB")


def test_missing_packages(run, monkeypatch, workdir, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run(workdir, tmp_path, "onnx")
    check_mistake(result, "run `pip install -r requirements-onnx.txt`")
