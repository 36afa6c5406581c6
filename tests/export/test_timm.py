"""Exports loaded by timm: `pytest -m parity`, requirements-parity.txt."""

import json

import numpy as np
import pytest
from PIL import Image

from imgcls.data import create as data_lib
from imgcls.export import __main__ as export
from imgcls.export import safetensors
from imgcls.runs import trained as runs_trained
from imgcls.runs.load import find_checkpoint
from tests.export.test_main import GAP, make_trained, model_logits, random_images, train
from tests.models.weights import cases

pytestmark = pytest.mark.parity


def import_timm():
    pytest.importorskip("torch", reason="needs requirements-parity.txt")
    cases.import_torchvision()
    import timm

    return timm


def timm_logits(folder, model_input) -> np.ndarray:
    """Logits `[B, K]` of float32 `[B, C, H, W]`, computed by timm from an export."""
    import torch

    timm = import_timm()
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        return model(torch.as_tensor(model_input)).numpy()


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 color images of two classes; they are not square."""
    root = tmp_path_factory.mktemp("png")
    for i, image in enumerate(random_images(40, (5, 6, 3))):
        target = root / "train" / ("cat", "dog")[i % 2] / f"{i:02d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((52, 43), Image.Resampling.BICUBIC).save(target)
    return root


@pytest.mark.parametrize(
    ("model", "channels"),
    [
        (dict(name="resnet18"), 3),
        (dict(name="resnet50", stage_sizes=(1, 1, 2, 1)), 1),
        (dict(name="regnety_200mf"), 3),
        (dict(name="vit_ti16", depth=2), 3),
        (dict(name="vit_s8", depth=2, mlp_dim=700, **GAP), 1),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else f"{value} channels",
)
def test_timm_from_file_to_logits(here, folder, tmp_path, model, channels):
    """Compares timm, with its evaluation transform, with the checkpoint of a run."""
    timm = import_timm()
    import torch

    data_config = dict(
        source=f"folder:{folder}",
        channels=channels,
        train_transform="random_resized_crop(32)",
        eval_transform="eval_crop(32)",
        mean=(0.45, 0.5, 0.4)[:channels],
        std=(0.2, 0.25, 0.3)[:channels],
    )
    workdir = train(here, tmp_path / "run", model, data_config)
    arguments = [f"--checkpoint={workdir}", f"--to={tmp_path / 'out'}", "--format=safetensors"]
    done = here("export", *arguments)
    assert done.returncode == 0, done.stderr

    files = sorted(folder.rglob("*.png"))[:6]
    images = [Image.open(file).convert("L" if channels == 1 else "RGB") for file in files]
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert theirs.pretrained_cfg["label_names"] == ["cat", "dog"]
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
    expected = timm_logits(tmp_path / "out", torch.stack([transform(image) for image in images]))

    trained = runs_trained.load_trained(find_checkpoint(workdir))
    record = [{"image": np.asarray(i).reshape(43, 52, channels), "label": 0} for i in images]
    reader = data_lib.create_reader(trained.config, record, train=False)
    actual = model_logits(trained, np.stack([reader.example(i)["image"] for i in range(6)]))
    error = relative_error(actual, expected)
    print(model["name"], f"{error:.1e}")
    assert error < 1e-4
    assert np.ptp(expected, axis=0).max() > 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("seresnet50", (64, 64), dict(stage_sizes=(1, 1, 1, 1))),
        ("resnext50_32x4d", (64, 96), dict(stage_sizes=(1, 1, 1, 1))),
        ("resnest50d", (75, 64), dict(stage_sizes=(1, 1, 1, 1))),
        ("regnetx_200mf", (64, 64), {}),
        ("regnety_800mf_tv", (64, 64), {}),
        ("inception_v3", (299, 299), {}),
        ("vgg11_bn", (224, 96), {}),
        ("vit_s32", (64, 96), dict(depth=2, pos_embed="sincos2d")),
        ("deit_ti16_distilled", (64, 64), dict(depth=2)),
        ("vit_ti8", (32, 32), dict(depth=1, distilled=True, pos_embed="sincos2d")),
        ("resnet50d", (64, 64), dict(stage_sizes=(1, 1, 1, 1))),
        ("deit3_s16", (64, 64), dict(depth=2, layer_scale=None)),
        ("vit_s14_dinov2", (56, 56), dict(depth=2)),
        ("vit_b16_clip", (64, 64), dict(depth=1)),
        ("vit_b16_siglip", (64, 64), dict(depth=1)),
        ("vit_b16_clip_quickgelu", (64, 64), dict(depth=1, pool="gap", class_token=True)),
        ("vit_s14_reg4_dinov2", (56, 56), dict(depth=2)),
        ("vit_ti8", (32, 32), dict(depth=2, pool="gap", class_token=True, registers=2)),
        ("vit_ti8", (32, 32), dict(depth=2, pool="gap", fc_norm=True, embed_prefix=False)),
        ("vit_ti8", (32, 32), dict(depth=2, fc_norm=True, pos_embed="sincos2d")),
    ],
)
def test_timm_of_every_family(tmp_path, name, size, options):
    import_timm()
    trained = make_trained(name, size, **options)
    file, extra = safetensors.to_safetensors(trained, (*size, 3))
    (tmp_path / "model.safetensors").write_bytes(file)
    (tmp_path / "config.json").write_text(json.dumps(extra))
    images = random_images(3, (*size, 3))
    mean, std = (np.float32(extra["pretrained_cfg"][key]) for key in ("mean", "std"))
    normalized = (images / np.float32(255) - mean) / std
    expected = timm_logits(tmp_path, normalized.transpose(0, 3, 1, 2).copy())
    error = relative_error(model_logits(trained, images), expected)
    print(name, f"{error:.1e}")
    assert error < 1e-4


def test_timm_positions_of_evaluation(tmp_path):
    import_timm()
    trained = make_trained("vit_ti8", (32, 32), "eval_crop(48)", depth=1)
    file, extra = safetensors.to_safetensors(trained, export.image_shape(trained))
    (tmp_path / "model.safetensors").write_bytes(file)
    (tmp_path / "config.json").write_text(json.dumps(extra))
    images = random_images(3, (48, 48, 3))
    mean, std = (np.float32(extra["pretrained_cfg"][key]) for key in ("mean", "std"))
    normalized = (images / np.float32(255) - mean) / std
    expected = timm_logits(tmp_path, normalized.transpose(0, 3, 1, 2).copy())
    assert relative_error(model_logits(trained, images), expected) < 1e-4
