"""Every file of configs/: what it names parses and builds, without data or training."""

import ast
import functools
import inspect
import runpy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imgcls.core.config import from_json, load, to_json
from imgcls.core.durations import Durations, to_steps
from imgcls.core.errors import ConfigError
from imgcls.data import create as data_lib
from imgcls.data.decode.clips import ArrayVideo
from imgcls.data.info import DataInfo
from imgcls.data.loading.views import VIEWS
from imgcls.data.sources.source import Dataset
from imgcls.data.transforms import batch as batch_transforms
from imgcls.data.transforms import spec
from imgcls.data.transforms.apply import transform_video
from imgcls.data.transforms.transform import BATCH_TRANSFORMS, TRANSFORMS, SpacingTransform
from imgcls.distributed import sharding
from imgcls.evaluate.create import create_evaluators
from imgcls.objectives.create import create_objective
from imgcls.train import optim
from imgcls.train import schedule as train_schedule
from tests.conftest import REPO, make_mesh

FILES = sorted((REPO / "configs").glob("*.py"))

# Training examples and classes by source; all others are ImageNet.
SIZES = {"digits": (1_437, 10), "folder:cifar10": (50_000, 10)}
IMAGENET = (1_281_167, 1_000)
# The same of volumes, and the side and dtype of an example.
VOLUMES = {
    "modelnet10:modelnet10.npz": (3_991, 10, 32, np.uint8),
    "medmnist:adrenalmnist3d.npz": (1_188, 2, 64, np.uint8),
    "medmnist:organmnist3d.npz": (971, 11, 28, np.uint8),
    "densities:cryo_maps": (8_000, 8, 32, np.float32),
    "manifest:scans.csv": (400, 2, 96, np.int16),
    "folder:scans": (200, 3, 40, np.int16),
}

# Training videos and classes: split 1 of UCF101, and what can still be downloaded of Kinetics-400.
VIDEOS = {
    "folder:kinetics400": (240_000, 400),
    "manifest:ucf101.csv": (9_537, 101),
    "folder:videos": (200, 3),
}

# Arguments of recipes that can't do without, by name of the file.
REQUIRED = {
    "finetune.py": "init_from=weights,data=folder:pictures",
    "own.py": "data=folder:pictures,size=64,epochs=20",
    "own_volumes.py": "data=folder:scans",
    "own_videos.py": "data=folder:videos",
}

# Arguments that choose another model.
VARIANTS = (
    "regnety.py:flops=400mf",
    "cifar10_fast.py:variant=96",
    "medmnist3d.py:name=organ,variant=cpu",
)

# Files that reproduce no paper.
OWN = (
    *("digits.py", "cifar10_resnet18.py", "cifar10_denoise.py"),
    *("own.py", "own_volumes.py", "own_videos.py"),
)


class Built(NamedTuple):
    """What a recipe's config makes; variables are shapes."""

    config: Any
    objective: Any
    params: Any
    model_state: Any


class Examples:
    """A source of N examples that can't be read."""

    multi_label = False

    def __init__(self, classes: int, count: int):
        self.class_names = tuple(map(str, range(classes)))
        self._count = count

    def __len__(self) -> int:
        return self._count

    def labels(self) -> np.ndarray:
        return np.arange(self._count) % len(self.class_names)


def recipes() -> list[str]:
    found = []
    for path in FILES:
        parameters = inspect.signature(runpy.run_path(str(path))["get_config"]).parameters.values()
        if path.name in REQUIRED:
            found.append(f"{path.name}:{REQUIRED[path.name]}")
        elif all(p.default is not p.empty for p in parameters):
            found.append(path.name)
    return [*found, *VARIANTS]


def read(recipe: str):
    return load(str(REPO / "configs" / recipe))


RECIPES = recipes()
SUPERVISED = [recipe for recipe in RECIPES if read(recipe).objective.name == "supervised"]
PRETRAINING = [recipe for recipe in RECIPES if recipe not in SUPERVISED]


@pytest.fixture(params=RECIPES)
def config(request):
    """A recipe's config."""
    return read(request.param)


class Clip(ArrayVideo):
    """Five seconds of noise at 30 frames per second."""

    def __init__(self):
        noise = np.random.default_rng(0).integers(0, 256, (1, 24, 32, 3), np.uint8)
        super().__init__(np.repeat(noise, 150, axis=0), "noise")
        self.times = np.arange(150) / 30


def volumes(config) -> tuple | None:
    return VOLUMES.get(config.data.source.partition("/")[0])


def sizes(config) -> tuple[int, int]:
    found = volumes(config)
    return found[:2] if found else (SIZES | VIDEOS).get(config.data.source, IMAGENET)


def picture(config) -> np.ndarray:
    """One as the data has it."""
    side = {"digits": 8, "folder:cifar10": 32}.get(config.data.source, 320)
    shape, dtype = (side, side + 8, config.data.channels), np.uint8
    if found := volumes(config):
        *_, side, dtype = found
        shape = (side, side, side, 1)
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def transform(config, key: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    transforms = spec.parse(config.data[key], TRANSFORMS, f"data.{key}")
    if config.data.source in VIDEOS:
        return transform_video(Clip(), transforms, rng, train="train" in key)
    image = picture(config)
    for fn in transforms:
        if isinstance(fn, SpacingTransform):
            image, _ = fn.fn(image, (3, 3, 3))
        else:
            image = fn(image, rng)
    return image


def describe(config) -> DataInfo:
    examples, classes = sizes(config)
    # Of several clips of a video the model gets one at a time.
    shape = transform(config, "eval_transform").shape[-4:]
    return DataInfo(tuple(map(str, range(classes))), False, shape, examples)


@functools.cache
def build(recipe: str) -> Built:
    config = read(recipe)
    info = describe(config)
    objective = create_objective(config, info)
    batch = {"image": jax.ShapeDtypeStruct((1, *info.image_shape), jnp.uint8)}
    variables = jax.eval_shape(lambda: objective.init(jax.random.key(0), batch))
    return Built(config, objective, *variables)


def shapes(tree):
    return jax.tree.map(lambda leaf: leaf.shape, tree)


def test_there_are_recipes():
    assert {"resnet50.py", "inception_v3.py", "deit_s16.py"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_docstring_names_source_and_target(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text and text.splitlines()[0].endswith((".", ";"))
    if path.name not in OWN:
        assert "arXiv:" in text and "target" in text.lower()


@pytest.mark.parametrize("recipe", RECIPES)
def test_model_transforms_and_optimizer_build(recipe):
    """The picture that the transforms make is what the model takes, and the optimizer its tree."""
    config, objective, params, _ = build(recipe)
    examples, classes = sizes(config)
    shape = describe(config).image_shape
    for key in ("train_transform", "train_transform2"):
        if config.data[key] is not None:
            trained = transform(config, key)
            if recipe == "kinetics_slow_r50.py":
                # Published with larger crops in evaluation; a convolutional network takes both.
                assert (trained.shape, shape) == ((8, 224, 224, 3), (8, 256, 256, 3))
                continue
            assert trained.shape == shape and trained.dtype == np.uint8
    sharding.check_batch(config, make_mesh())
    assert len(config.data.mean) == len(config.data.std) == config.data.channels
    classifier = "probe" if recipe in PRETRAINING else "head"
    if hasattr(objective, "logits"):
        assert params[classifier]["kernel"].shape[-1] == classes

    optimizer, _ = optim.create_optimizer(config, Durations(config, examples), params)
    state = jax.eval_shape(optimizer.init, params)
    updates, _ = jax.eval_shape(optimizer.update, params, state, params)
    assert shapes(jax.eval_shape(optax.apply_updates, params, updates)) == shapes(params)


@pytest.mark.parametrize("recipe", SUPERVISED)
def test_batch_transform_suits_the_loss(recipe):
    config, objective, *_ = build(recipe)
    _, classes = sizes(config)
    transforms = spec.parse(config.data.batch_transform, BATCH_TRANSFORMS, "data.batch_transform")
    shape = (2, 16, 16, config.data.channels)
    batch = {"image": jnp.zeros(shape), "label": jnp.arange(2)}
    if config.data.device_resident:
        batch |= {"index": jnp.arange(2), "epoch": jnp.zeros(2, jnp.int32)}
    mixed = batch_transforms.apply(batch, jax.random.key(0), transforms, classes)
    assert mixed["image"].shape == shape
    losses = objective.example_loss(jnp.zeros((2, classes)), mixed["label"])
    assert losses.shape == (2,) and np.isfinite(losses).all()


@pytest.mark.parametrize("recipe", PRETRAINING)
def test_pretraining_has_a_loss_on_its_views(recipe):
    """Of a whole batch: its views suit the objective, and the batch the BatchNorms."""
    config, objective, params, model_state = build(recipe)
    assert not config.data.batch_transform
    size = config.batch_size
    image = jax.ShapeDtypeStruct((size, *describe(config).image_shape), jnp.float32)
    keys = ("image", "image2", "image3")[: VIEWS[config.data.views]]
    batch = dict.fromkeys(keys, image) | {"label": jax.ShapeDtypeStruct((size,), jnp.int32)}
    target = jax.eval_shape(objective.init_target, params, model_state)

    def loss(*arguments):
        return objective.loss(*arguments, rng=jax.random.key(0), step=0)

    value, (new_state, metrics) = jax.eval_shape(loss, params, model_state, target, batch)
    assert value.shape == () and value.dtype == jnp.float32
    assert shapes(new_state) == shapes(model_state)
    assert set(shapes(metrics).values()) == {()}
    assert ("probe_accuracy" in metrics) == hasattr(objective, "logits")


@pytest.mark.parametrize("recipe", RECIPES)
def test_evaluators_suit_the_objective(recipe, monkeypatch):
    """Their options are valid, and the objective has what each of them evaluates."""
    config, objective, *_ = build(recipe)
    examples, classes = sizes(config)
    data = Dataset(("train", "val", "test"), lambda split: Examples(classes, 5 * classes))
    monkeypatch.setattr(data_lib, "open_data", lambda config: data)
    lines = []
    arguments = (config, objective, make_mesh(), describe(config), Durations(config, examples))
    found = create_evaluators(*arguments, log_fn=lines.append)
    assert list(found) == list(config.evaluators) and len(lines) == len(found)
    total = to_steps(config.total, config, examples, "total")
    for name, (every, _) in found.items():
        # For the end: what takes long, and the test split where validation is on another.
        section = config.evaluators[name]
        slow = section.get("type") == "linear_probe" or section.get("tta") == "rotations24"
        late = slow or (name == "test" and "val" in config.evaluators)
        assert every == total if late else every < total


def test_schedule_and_durations(config):
    """The rate is at its peak after the warm-up and far lower at the end."""
    examples, _ = sizes(config)
    schedule = train_schedule.create_schedule(config, Durations(config, examples))
    total = to_steps(config.total, config, examples, "total")
    warmup = to_steps(config.schedule.warmup, config, examples, "schedule.warmup")
    assert 0 <= warmup < total
    batches = config.batch_size / (config.optim.base_batch or config.batch_size)
    peak = config.optim.learning_rate * batches
    assert float(schedule(warmup)) == pytest.approx(peak)
    assert 0 < float(schedule(0)) <= peak * (1 + 1e-6)
    # The exponential schedules of the Inceptions end where their length lets them.
    end = {"inception_v2": 0.013, "inception_v3": 0.05}.get(config.model.name, 0.0101)
    assert 0 <= float(schedule(total)) < end * peak
    for boundary in config.schedule.boundaries:
        assert warmup < to_steps(boundary, config, examples, "schedule.boundaries") < total
    if config.model.get("virtual_batch_size"):
        assert config.batch_size % config.model.virtual_batch_size == 0
    for section in (*config.evaluators.values(), config.checkpoint, config.log):
        assert to_steps(section.every, config, examples, "every") > 0
    evaluator, _, metric = config.checkpoint.keep_best.partition("/")
    assert evaluator in config.evaluators
    # Examples of one's own may have several labels each, and then no accuracy.
    is_loss = config.objective.get("loss") == "auto" or config.data.source.startswith("medmnist")
    usual = "loss" if is_loss else "accuracy"
    assert metric == ("ema_" if config.ema else "") + usual


def test_json_round_trip(config):
    assert from_json(to_json(config)).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("recipe", "total"),
    [
        ("resnet50.py", 112_603),
        ("vit_s16.py", 112_603),
        ("vit_s16.py:epochs=300", 375_342),
        ("vit_b16.py", 500_456),
        ("imagenet_simclr_resnet50.py", 312_785),
        ("imagenet_simclr_resnet50.py:epochs=100", 31_278),
        ("imagenet_mae_vit_b16.py", 250_228),
        ("cifar10_simclr.py", 19_531),
        ("cifar10_fast.py", 200),
        ("cifar10_fast.py:variant=96", 1_514),
    ],
)
def test_lengths(recipe, total):
    config = read(recipe)
    assert to_steps(config.total, config, sizes(config)[0], "total") == total


@pytest.mark.parametrize(
    ("recipe", "rates"),
    [
        # Goyal et al. 2017: 0.1 per 256 images, times 0.1 after 30, 60 and 80 of 90 epochs.
        ("resnet50.py", {37_533: 0.4, 37_534: 0.04, 75_069: 0.004, 100_092: 4e-4}),
        ("vit_s16.py", {9_999: 1e-3 * 10_000 / 10_001, 10_000: 1e-3, 112_603: 0.0}),
        ("vit_s16.py:epochs=300", {375_342: 0.0}),
        ("vit_b16.py", {3_128: 3e-3, 500_456: 0.0}),
        ("alexnet.py", {0: 0.01, 150_136: 0.01, 150_137: 1e-3, 450_410: 1e-4}),
        (
            "inception_v3.py",
            {0: 0.045, 2_501: 0.045, 2_502: 0.045 * 0.94, 125_113: 0.045 * 0.94**49},
        ),
        ("inception_v2.py", {25_023: 0.36, 31_693: 0.36, 31_694: 0.36 * 0.96}),
        ("seresnet50.py", {37_533: 0.6, 37_534: 0.06, 125_114: 6e-4}),
        ("resnest50.py", {782: 3.2, 42_226: 0.0}),
        ("regnety.py", {12_512: 0.4}),
        ("deit_s16.py", {6_256: 1e-3}),
        # Chen et al. 2020: 0.3 per 256 images, after 10 epochs.
        (
            "imagenet_simclr_resnet50.py",
            {0: 4.8 / 3_129, 3_128: 4.8, (3_128 + 312_785) // 2: 2.4, 312_785: 0.0},
        ),
        ("imagenet_byol_resnet50.py", {3_128: 3.2, 312_785: 0.0}),
        ("imagenet_byol_resnet50.py:epochs=300", {3_128: 4.8, 93_835: 0.0}),
        ("imagenet_byol_resnet50.py:epochs=100", {3_128: 7.2, 31_278: 0.0}),
        ("cifar10_fast.py", {0: 0.24, 100: 0.12, 200: 0.0}),
        # Of the mean loss: 9 per 1024 examples of the sum, over 1 + 1 / (1 - 0.85).
        ("cifar10_fast.py:variant=96", {151: 1.1739130, 1_514: 0.0}),
        # He et al. 2021: 1.5e-4 per 256 images, after 40 epochs.
        ("imagenet_mae_vit_b16.py", {12_511: 2.4e-3, 250_228: 0.0}),
        ("cifar10_simclr.py", {0: 0.24, 19_531: 0.0}),
        ("cifar10_byol.py", {0: 0.06, 19_531: 0.0}),
        ("cifar10_supcon.py", {977: 0.25, 19_531: 2.5e-4}),
    ],
)
def test_rates(recipe, rates):
    config = read(recipe)
    schedule = train_schedule.create_schedule(config, Durations(config, sizes(config)[0]))
    for step, rate in rates.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(
    ("recipe", "start"),
    [
        ("imagenet_byol_resnet50.py", 0.996),
        ("imagenet_byol_resnet50.py:epochs=300", 0.99),
        ("cifar10_byol.py", 0.99),
    ],
)
def test_byol_slows_its_teacher(recipe, start):
    """Grill et al. 2020: from its base to 1 along half a cosine."""
    config = read(recipe)
    objective = create_objective(config, describe(config))
    total = to_steps(config.total, config, sizes(config)[0], "total")
    taus = {0: start, total / 2: (start + 1) / 2, total: 1.0, total + 9: 1.0}
    for step, tau in taus.items():
        assert float(objective.decay(jnp.asarray(step))) == pytest.approx(tau, abs=1e-6)


def test_byol_names_its_lengths():
    with pytest.raises(ConfigError, match="epochs=200: write 1000, 300 or 100"):
        read("imagenet_byol_resnet50.py:epochs=200")
