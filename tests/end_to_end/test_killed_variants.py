"""Runs of many kinds that are killed and continued, against the same runs left alone."""

import random
import signal

import pytest
from PIL import Image

from imgcls.data.sources.digits import DigitsSource
from tests.end_to_end.test_resume import assert_same_run, run_until

RECIPE = """
from ml_collections import ConfigDict


def get_config():
    c = ConfigDict()
    c.total, c.batch_size = "60 steps", 32
    c.model = ConfigDict(MODEL)
    c.data = ConfigDict(dict(source="digits", channels=1, eval_transform="resize((8, 8))"))
    c.data.train_transform = "pad_crop(8, padding=1)|rand_augment(2, 10)"
    c.data.mean, c.data.std = (0.3,), (0.37,)
    c.optim = ConfigDict(dict(name="adamw", learning_rate=0.003, weight_decay=0.05))
    c.checkpoint = ConfigDict(dict(every="7 steps"))
    c.log = ConfigDict(dict(every="5 steps"))
    return c
"""
RESNET = dict(
    name="resnet18", stem="cifar", width=8, stage_sizes=(1, 1), virtual_batch_size=16, drop_path=0.2
)
VIT = dict(name="vit_ti2", width=32, depth=2, num_heads=2, mlp_dim=64)
CONTRASTIVE = ("data.views=two", "objective.hidden=32", "objective.probe=True")
# Model, overrides and parts of the state besides parameters, optimizer and step.
VARIANTS = {
    "average": (RESNET, ("ema=0.9", "data.batch_transform=mixup(0.2)"), ("target", "model_state")),
    "byol": (
        RESNET,
        ("objective.name=byol", "objective.tau=0.9", "objective.features=16", *CONTRASTIVE),
        ("target", "model_state"),
    ),
    "simclr": (RESNET, ("objective.name=simclr", *CONTRASTIVE), ("model_state",)),
    "mae": (
        VIT,
        ("objective.name=mae", "objective.decoder_width=32", "objective.decoder_depth=1")
        + ("objective.decoder_heads=2", "objective.probe=True"),
        (),
    ),
    "multi_label": (RESNET, ("objective.loss=asymmetric",), ("model_state",)),
    "balanced": (RESNET, ("data.sampling=balanced",), ("model_state",)),
    "device_resident": (
        RESNET,
        ("data.device_resident=True", "data.train_transform=resize((8, 8))")
        + ("data.batch_transform=random_translate(1)|random_erasing(0.25)",),
        ("model_state",),
    ),
    "workers": (RESNET, ("data.workers=2",), ("model_state",)),
}


def write_multi_label(folder) -> str:
    """A manifest of digits, each with any of the labels even, large and prime."""
    labels = {"even": (0, 2, 4, 6, 8), "large": (5, 6, 7, 8, 9), "prime": (2, 3, 5, 7)}
    source, rows = DigitsSource("train[:200]", 0), ["path,labels,split"]
    for i in range(len(source)):
        example = source[i]
        Image.fromarray(example["image"][..., 0]).save(folder / f"{i}.png")
        found = [name for name, digits in labels.items() if example["label"] in digits]
        rows.append(f"{i}.png,{'|'.join(found)},train")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return f"manifest:{folder / 'labels.csv'}"


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_and_continued(variant, cache, tmp_path):
    """Killed at two random moments, which the result must not depend on."""
    model, overrides, parts = VARIANTS[variant]
    (tmp_path / "recipe.py").write_text(RECIPE.replace("MODEL", repr(model)))
    if variant == "multi_label":
        overrides = (*overrides, f"data.source={write_multi_label(tmp_path)}")
    line = (f"--config={tmp_path / 'recipe.py'}", *(f"--config.{key}" for key in overrides))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = run_until([], signal.SIGKILL, whole, cache, line)
    assert done.returncode == 0, "".join(done.lines)
    for mark in sorted(random.sample(range(10, 60, 5), 2)):
        process = run_until([mark], signal.SIGKILL, killed, cache, line)
        assert process.returncode == -signal.SIGKILL, "".join(process.lines)
    process = run_until([], signal.SIGKILL, killed, cache, line)
    assert process.returncode == 0 and "continue at step" in "".join(process.lines)
    assert_same_run(killed, whole, ("params", "opt_state", "step", *parts))
