"""Objectives on clips: two clips of a video, masks that are tubes, training and resuming."""

import shutil
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.config import override
from imgcls.core.errors import ConfigError
from imgcls.data.info import DataInfo
from imgcls.objectives.create import create_objective
from imgcls.train.loop import train
from tests.data.videos import write_video
from tests.end_to_end.test_devices import losses
from tests.end_to_end.test_resume import final_state
from tests.objectives.test_every_objective import make_config

SHAPE = (6, 8, 12, 3)
INFO = DataInfo(tuple("0123456789"), False, SHAPE, 100)
GRID = (3, 2, 3)  # of patches of 2 x 4 x 4
VIT = dict(name="vit3d_ti4x2", dtype="float32", width=32, depth=1, num_heads=2, mlp_dim=64)
# Which options, so that 20 steps are enough.
MODELS = {
    "simclr": dict(name="r3d_18", stem="cifar", width=16, stage_sizes=(1,), virtual_batch_size=8),
    "byol": dict(name="slow_r50", stem="cifar", width=8, stage_sizes=(1,), virtual_batch_size=8),
    "mae": VIT,
}


@pytest.fixture
def clips():
    return np.random.default_rng(0).normal(size=(16, *SHAPE)).astype(np.float32)


def make_mae(*overrides: str):
    config = make_config("mae", "--config.objective.mask=tube", *overrides)
    config.model = dict(VIT)
    return create_objective(config, INFO)


def cells(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """The patches of clips in their order, as slices of a clip."""
    times, rows, columns = (range(0, n, side) for n, side in zip(shape, (2, 4, 4), strict=False))
    return [np.s_[t : t + 2, r : r + 4, c : c + 4] for t in times for r in rows for c in columns]


# ---- MAE with tubes.


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8])
def test_tubes_hide_the_same_places_in_all_frames(ratio):
    objective = make_mae(f"--config.objective.mask_ratio={ratio}")
    keep, restore = map(np.asarray, objective.draw_mask(jax.random.key(1), 64))
    kept = round(6 * (1 - ratio))
    assert keep.shape == (64, 3 * kept) and restore.shape == (64, 18)
    places = Counter()
    for row, back in zip(keep, restore, strict=True):
        frames = row.reshape(3, kept) - 6 * np.arange(3)[:, None]
        assert (frames == frames[0]).all() and len(set(frames[0])) == kept
        # Patches in the order of the decoder's input: those that are kept, then the others.
        order = np.argsort(back)
        assert sorted(order) == list(range(18))
        np.testing.assert_array_equal(order[: 3 * kept], row)
        places.update(frames[0].tolist())
    assert len(places) == 6 and min(places.values()) > 64 * kept / 6 / 3


def test_random_masks_differ_between_frames():
    objective = make_mae("--config.objective.mask=random", "--config.objective.mask_ratio=0.5")
    keep, _ = map(np.asarray, objective.draw_mask(jax.random.key(1), 64))
    hidden = [{k % 6 for k in row if k < 6} != {k % 6 for k in row if 6 <= k < 12} for row in keep]
    assert np.mean(hidden) > 0.8


@pytest.fixture(scope="module")
def masked():
    """A VideoMAE, its variables and a mask of 16 clips."""
    objective = make_mae("--config.objective.mask_ratio=0.6")
    spec = {"image": jnp.zeros((16, *SHAPE))}
    variables = jax.jit(lambda: objective.init(jax.random.key(0), spec))()
    return objective, variables, objective.draw_mask(jax.random.key(3), 16)


def test_hidden_tubes_change_nothing(masked, clips):
    objective, (params, state), (keep, restore) = masked
    hidden = np.ones((16, *SHAPE), bool)
    for clip, row in zip(hidden, np.asarray(keep), strict=True):
        for number in row:
            clip[cells(SHAPE)[number]] = False
    # Of a place, all frames are hidden, or none.
    assert (hidden.all(axis=1) | ~hidden.any(axis=1)).all() and 0.6 < hidden.mean() < 0.7

    @jax.jit
    def decode(x):
        variables = {"params": params, **state}
        return objective.network.apply(variables, x, keep, restore, train=False)[1]

    decoded = decode(clips)
    assert decoded.shape == (16, 18, 2 * 4 * 4 * 3)
    np.testing.assert_array_equal(decode(np.where(hidden, -clips, clips)), decoded)
    assert np.abs(decode(np.where(hidden, clips, -clips)) - decoded).max() > 1e-3


def test_loss_of_tubes_by_hand(masked, clips):
    """Patches of two frames, each normalized by its own mean and unbiased variance."""
    objective, (params, state), _ = masked
    batch = {"image": jnp.asarray(clips), "label": jnp.zeros(16, jnp.int32)}
    rng = jax.random.key(5)
    _, (_, metrics) = objective.loss(params, state, None, batch, rng, 0)
    keep, restore = objective.draw_mask(jax.random.split(rng)[0], 16)
    variables = {"params": params, **state}
    decoded = objective.network.apply(variables, clips, keep, restore, train=False)[1]
    errors = []
    for clip, patches, row in zip(clips, np.asarray(decoded), np.asarray(keep), strict=True):
        for number, cell in enumerate(cells(SHAPE)):
            if number in row:
                continue
            target = clip[cell].ravel().astype(np.float64)
            target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
            errors.append(np.mean((patches[number] - target) ** 2))
    assert len(errors) == 16 * 3 * 4
    assert float(metrics["loss"]) == pytest.approx(np.mean(errors), rel=1e-5)


def test_the_length_of_a_clip_may_be_one_tubelet():
    """Tubes through a single frame of patches are a random mask."""
    info = DataInfo(INFO.class_names, False, (2, 8, 12, 3), 100)
    found = []
    for mask in ("tube", "random"):
        config = make_config("mae", f"--config.objective.mask={mask}")
        config.model = dict(VIT)
        found.append(create_objective(config, info).draw_mask(jax.random.key(0), 8))
    jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.mark.parametrize(
    ("model", "overrides", "message"),
    [
        (VIT, ["--config.objective.mask=tubes"], "did you mean 'tube'"),
        (VIT, ["--config.objective.mask_ratio=0.95"], "leaves 0 of 6 patches visible"),
        (dict(name="vivit_ti4x2"), [], "mae needs a ViT; write for example 'vit3d_b16'"),
    ],
)
def test_mistakes(model, overrides, message):
    config = make_config("mae", "--config.objective.mask=tube", *overrides)
    config.model = dict(model)
    with pytest.raises(ConfigError, match=message):
        create_objective(config, INFO)


def test_tubes_are_for_clips():
    config = make_config("mae", "--config.objective.mask=tube")
    with pytest.raises(ConfigError, match="mask='tube': is for clips; write 'random'"):
        create_objective(config, DataInfo(INFO.class_names, False, (8, 8, 1), 100))


# ---- In the training loop.


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    """Videos of 10 frames of 3 classes: a bar that moves down, or to the right, or that stays."""
    folder, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for split, count in (("train", 48), ("test", 24)):
        for number in range(count):
            label = number % 3
            frames = rng.integers(0, 60, (10, 16, 16, 3)).astype(np.uint8)
            first, color = rng.integers(6), rng.integers(150, 256, 3)
            for time, frame in enumerate(frames):
                at = first + (time if label < 2 else 0)
                (frame if label == 0 else frame.transpose(1, 0, 2))[at : at + 2] = color
            path = folder / split / f"class{label}" / f"{number:02d}.mkv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(write_video(frames, "matroska", "ffv1", pixels="bgr0"))
    return f"folder:{folder}"


def make_run(name: str, source: str, cache: str, *overrides: str):
    config = make_config(name, f"--config.compile_cache={cache}")
    config.data.update(source=source, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    config.data.train_transform = (
        "sample_frames(4, stride=2)|random_resized_crop(8, scale=(0.5, 1.0))|color_jitter(0.2)"
    )
    config.data.eval_transform = "sample_frames(4, stride=2)|resize((8, 8))"
    config.total, config.batch_size = "20 steps", 32
    config.schedule.warmup = "0 steps"
    config.checkpoint.every, config.log.every = "10 steps", "1 steps"
    config.model = dict(dtype="float32") | MODELS[name]
    if name == "mae":
        config.objective.update(mask="tube", mask_ratio=0.5)
    else:
        # Higher ones make training chaotic: rounding in the last bit grows.
        config.optim.learning_rate = 0.01
    if name == "simclr":
        config.objective.temperature = 0.5
    config.evaluators = dict(knn=dict(type="knn", k=5, split="test", every="20 steps"))
    config.evaluators.probe = dict(split="test", every="20 steps")
    return override(config, list(overrides))


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("simclr", "byol")]


def train_on(devices: int, config, workdir) -> dict:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jax, "device_count", lambda *_: devices)
        return train(config, str(workdir))


@pytest.fixture(scope="module", params=["mae", *SLOW])
def run(request, source, cache, tmp_path_factory):
    """Name, config, folder and results of a run of 20 steps."""
    config = make_run(request.param, source, cache)
    workdir = tmp_path_factory.mktemp(request.param)
    return request.param, config, workdir, train_on(1, config, workdir)


def test_twenty_steps_lower_the_loss(run):
    _, _, workdir, results = run
    curve = losses(workdir)
    assert len(curve) == 20 and np.mean(curve[-4:]) < 0.97 * np.mean(curve[:4])
    assert all(np.isfinite(value) for value in results.values())
    assert {"knn/accuracy", "probe/accuracy"} <= results.keys()


def test_resumes_bitwise(run, tmp_path):
    name, config, workdir, results = run
    loading = "threads=3" if name == "mae" else "workers=2"
    again = shutil.copytree(workdir, tmp_path / "again")
    shutil.rmtree(again / "checkpoints" / "20")
    other = override(config.copy_and_resolve_references(), [f"--config.data.{loading}"])
    assert train_on(1, other, again) == results
    expected, resumed = final_state(workdir), final_state(again)
    assert resumed.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(resumed[key], value, err_msg=key)


@pytest.mark.slow
def test_four_devices_have_the_same_losses(run, tmp_path):
    _, config, workdir, _ = run
    train_on(4, config, tmp_path)
    np.testing.assert_allclose(losses(tmp_path), losses(workdir), rtol=0, atol=1e-3)
