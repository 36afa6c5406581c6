"""Settings that are given twice, or for later than the run lasts, are said at the start."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.defaults import default_config
from imgcls.data.create import create_batch_transforms
from imgcls.losses.classification import softmax_cross_entropy
from imgcls.main import main
from imgcls.train.preflight import warn_of_smoothing

KEY, LOSS = "config.data.batch_transform", "config.objective.label_smoothing"


def make_config(transform: str, smoothing: float | None):
    config = default_config()
    config.data.batch_transform = transform
    if smoothing is not None:
        config.objective.label_smoothing = smoothing
    return config


@pytest.mark.parametrize(
    ("transform", "smoothing", "line"),
    [
        (
            "label_smoothing(0.1)",
            0.2,
            f"2 times: by 0.1 in {KEY}, by 0.2 in {LOSS}; together by 0.28",
        ),
        (
            "mixup(0.2) | label_smoothing(eps=0.1) | label_smoothing(0.1)",
            None,
            f"2 times: by 0.1 in {KEY}, by 0.1 in {KEY}; together by 0.19",
        ),
        ("label_smoothing(0.1)", 0.0, ""),
        ("label_smoothing(0.1)", None, ""),
        ("mixup(0.2)", 0.1, ""),
        ("", 0.1, ""),
    ],
)
def test_label_smoothing(transform, smoothing, line, capsys):
    warn_of_smoothing(make_config(transform, smoothing))
    assert capsys.readouterr().out.partition("labels are smoothed ")[2].strip() == line


def test_smoothing_together():
    """0.1 and 0.2 give the loss of 0.28."""
    config = make_config("label_smoothing(0.1)", 0.2)
    (smooth,) = create_batch_transforms(config)
    logits = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    labels = jnp.arange(6) % 5
    twice = softmax_cross_entropy(logits, smooth({"label": labels}, None, 5)["label"], 0.2)
    once = softmax_cross_entropy(logits, labels, 0.28)
    np.testing.assert_allclose(twice, once, rtol=1e-6)


def test_the_command(tmp_path, capsys):
    run = (
        "--config=configs/digits.py",
        "--config.total=2 steps",
        "--config.model.width=4",
        "--config.model.stage_sizes=(1,)",
        "--config.compile_cache=",
        "--config.log.profile=(10, 20)",
        "--config.data.batch_transform=label_smoothing(0.1)",
        "--config.objective.label_smoothing=0.1",
        f"--workdir={tmp_path}",
    )
    assert main(list(run)) == 0
    out = capsys.readouterr().out
    assert re.search(r"labels are smoothed 2 times: .*; together by 0\.19\n", out)
    assert "config.log.profile=(10, 20): the run ends at step 2, nothing is profiled\n" in out
    assert not (tmp_path / "profile").exists()
