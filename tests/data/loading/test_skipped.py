"""Runs end when too many records are unreadable."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from imgcls.core.defaults import default_config
from imgcls.core.errors import DataError
from imgcls.data.loading.skipped import check_skipped

SHORT = (
    "--config=configs/own.py",
    "--config.data.on_error=skip",
    "--config.model.name=resnet18",
    "--config.model.width=8",
    "--config.model.stage_sizes=(1,)",
    "--config.data.train_transform=resize(16)",
    "--config.data.eval_transform=resize(16)",
    "--config.batch_size=16",
    "--config.total=6 steps",
    "--config.log.every=2 steps",
)


def config(share=0.05, on_error="skip"):
    c = default_config()
    c.data.max_skipped, c.data.on_error = share, on_error
    return c


@pytest.mark.parametrize(
    ("skipped", "positions", "share", "ends"),
    [
        (10, 10, 0.05, False),  # the first few
        (11, 10, 0.05, True),
        (16, 128, 0.05, False),
        (70, 1000, 0.05, False),  # 5% and three standard deviations
        (72, 1000, 0.05, True),
        (5_100, 100_000, 0.05, False),
        (5_300, 100_000, 0.05, True),
        (10, 1000, 0.0, False),
        (11, 1000, 0.0, True),
        (1000, 1000, 1.0, False),
    ],
)
def test_limit(skipped, positions, share, ends):
    loader = SimpleNamespace(skipped=skipped, positions=positions)
    if not ends:
        assert check_skipped(config(share), loader) == skipped
        return
    with pytest.raises(DataError, match=re.escape(f"{skipped:,} unreadable records")) as error:
        check_skipped(config(share), loader)
    assert f"config.data.max_skipped={share}" in str(error.value)


@pytest.fixture
def folder(tmp_path):
    """Two classes of 10 images per split; every fourth image is truncated."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for number in range(20):
            path = tmp_path / "set" / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(path)
            if number % 4 == 0:
                path.write_bytes(path.read_bytes()[:60])
    return tmp_path / "set"


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.9])
def test_a_run_ends_with_a_one_line_error(share, folder, command, tmp_path):
    done = command(
        "main",
        f"{SHORT[0]}:data=folder:{folder}",
        *SHORT[1:],
        f"--config.data.max_skipped={share}",
        f"--workdir={tmp_path / 'run'}",
    )
    last = [line for line in done.stderr.splitlines() if line][-1]
    if share == 0.05:
        assert done.returncode == 1, done.stderr
        assert last.startswith("error: ") and "more than config.data.max_skipped=0.05" in last
    else:
        assert done.returncode == 0, done.stderr
        assert "unreadable records were skipped" in done.stdout + done.stderr
