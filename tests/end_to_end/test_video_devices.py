"""Runs on clips are the same on other devices and in several processes."""

import numpy as np
import pytest

from tests.conftest import command_line
from tests.data.videos import numbered, write_video
from tests.distributed.pairs import Pair, place_flags
from tests.end_to_end.test_devices import dump_batches, losses

TRAIN = "sample_frames(4, stride=2)|random_resized_crop(16)|flip|color_jitter(0.4)"
# As in `test_devices`: branches start at zero, so that training is not chaotic.
MODEL = {"name": "r2plus1d_18", "stem": "cifar", "width": 16, "stage_sizes": (1,)}
RECIPE = (
    "--config=configs/digits.py",
    "--config.total=8 steps",
    "--config.schedule.warmup=0 steps",
    "--config.batch_size=32",
    "--config.model={}",
    f"--config.model={MODEL}",
    "--config.model.virtual_batch_size=4",
    "--config.optim.learning_rate=0.03",
    "--config.data.channels=3",
    "--config.data.mean=(0.5, 0.5, 0.5)",
    "--config.data.std=(0.25, 0.25, 0.25)",
    f"--config.data.train_transform={TRAIN}",
    "--config.data.eval_transform=sample_frames(4, stride=2)|resize((16, 16))",
    "--config.evaluators.test.every=8 steps",
    "--config.log.every=1 steps",
    "--config.checkpoint.keep_best=None",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    """48 videos of numbered frames: bright or dark, MP4 with B-frames or GIF."""
    folder, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for split, count in (("train", 48), ("test", 16)):
        for number in range(count):
            light = number % 2
            noise = rng.integers(0, 60, (10, 20, 28, 3))
            frames = [numbered(n + number, 20, 28) // 4 + x for n, x in enumerate(noise)]
            frames = [(x + 100 * light).astype(np.uint8) for x in frames]
            kind = ("gif", "gif", dict(pixels="rgb8")) if number % 3 else ("mp4", "libx264", {})
            path = folder / split / ("dark", "light")[light] / f"{number:02d}.{kind[0]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(write_video(frames, *kind[:2], **kind[2]))
    return f"folder:{folder}"


def flags(source: str, workdir) -> tuple[str, ...]:
    return (*RECIPE, f"--config.data.source={source}", f"--workdir={workdir}")


@pytest.fixture(scope="module")
def one_device(here, source, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one_device")
    done = here("main", *flags(source, workdir))
    assert done.returncode == 0, done.stderr
    curve = losses(workdir)
    assert len(curve) == 8 and curve[-1] < 0.95 * curve[0]
    return workdir


@pytest.mark.parametrize("devices", [pytest.param(2, marks=pytest.mark.slow), 8])
def test_loss_curve_is_the_same_on_more_devices(devices, here, source, one_device, tmp_path):
    done = here("main", *flags(source, tmp_path), devices=devices)
    assert done.returncode == 0, done.stderr
    assert f"{devices} cpu devices" in done.stdout
    np.testing.assert_allclose(losses(tmp_path), losses(one_device), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_two_processes_have_the_same_losses(cache, source, one_device, tmp_path):
    line = command_line("main", *flags(source, tmp_path / "run"))
    pair = Pair(tmp_path, cache, lambda *place: [*line, *place_flags(*place)], devices=2)
    assert pair.codes() == [0, 0], pair.output(0) + pair.output(1)
    assert "4 cpu devices" in pair.output(0) and "done: 8 steps" in pair.output(0)
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(one_device), rtol=0, atol=1e-4)


def test_batches_of_two_processes_are_equal_bit_for_bit(cache, source, tmp_path):
    """Steps 25 to 34 of 48, each of which is an epoch."""
    options = [f for f in flags(source, "") if f.startswith("--config.data.")]
    options.append("--config.data.views=two")
    expected = dump_batches(tmp_path / "one", cache, options)
    assert len(expected) == 10 * 48 * 5  # image, image2, label, index, mask
    assert expected["25/0/image"].shape == (4, 16, 16, 3)
    found = dump_batches(tmp_path / "two", cache, options, processes=2, devices=2)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
