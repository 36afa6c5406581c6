"""Every file of configs/: what it names parses and builds, without data or training."""

import ast
import inspect
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imgcls import optim, sharding
from imgcls.config import from_json, load, steps, to_json
from imgcls.data import DataInfo, augment, batch_transforms, spec
from imgcls.objectives import create_objective
from tests.conftest import REPO, make_mesh

FILES = sorted((REPO / "configs").glob("*.py"))

# Training examples and classes by source; all others are ImageNet.
SIZES = {"digits": (1_437, 10), "folder:cifar10": (50_000, 10)}
IMAGENET = (1_281_167, 1_000)

# Arguments of recipes that can't do without, by name of the file.
REQUIRED = {"finetune.py": "init_from=weights,data=folder:pictures"}

# Arguments that choose another model.
VARIANTS = ("regnety.py:flops=400mf",)

# Files that reproduce no paper.
OWN = ("digits.py", "cifar10_resnet18.py")


def recipes() -> list[str]:
    found = []
    for path in FILES:
        parameters = inspect.signature(runpy.run_path(str(path))["get_config"]).parameters.values()
        if path.name in REQUIRED:
            found.append(f"{path.name}:{REQUIRED[path.name]}")
        elif all(p.default is not p.empty for p in parameters):
            found.append(path.name)
    return [*found, *VARIANTS]


@pytest.fixture(params=recipes())
def config(request):
    """A recipe's config."""
    return load(str(REPO / "configs" / request.param))


def sizes(config) -> tuple[int, int]:
    return SIZES.get(config.data.source, IMAGENET)


def transform(config, key: str, image: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    for fn in spec.parse(config.data[key], augment.TRANSFORMS, f"data.{key}"):
        image = fn(image, rng)
    return image


def test_there_are_recipes():
    assert {"resnet50.py", "inception_v3.py", "deit_s16.py"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_docstring_names_source_and_target(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text and text.splitlines()[0].endswith((".", ";"))
    if path.name not in OWN:
        assert "arXiv:" in text and "target" in text.lower()


def test_model_transforms_and_optimizer_build(config):
    """The picture that the transforms make is what the model takes, and the optimizer its tree."""
    examples, classes = sizes(config)
    side = {"digits": 8, "folder:cifar10": 32}.get(config.data.source, 320)
    image = np.random.default_rng(0).integers(0, 256, (side, side + 8, config.data.channels))
    image = image.astype(np.uint8)
    shape = transform(config, "eval_transform", image).shape
    trained = transform(config, "train_transform", image)
    assert trained.shape == shape and trained.dtype == np.uint8
    sharding.check_batch(config, make_mesh())
    assert len(config.data.mean) == len(config.data.std) == config.data.channels

    objective = create_objective(config, DataInfo(tuple(map(str, range(classes))), False, shape))
    batch = {"image": jax.ShapeDtypeStruct((1, *shape), jnp.uint8)}
    params, _ = jax.eval_shape(lambda: objective.init(jax.random.key(0), batch))
    assert params["head"]["bias"].shape == (classes,)

    optimizer, _ = optim.create_optimizer(config, examples, params)
    state = jax.eval_shape(optimizer.init, params)
    updates, _ = jax.eval_shape(optimizer.update, params, state, params)
    shapes = jax.eval_shape(optax.apply_updates, params, updates)
    assert jax.tree.map(lambda p: p.shape, shapes) == jax.tree.map(lambda p: p.shape, params)


def test_batch_transform_suits_the_loss(config):
    _, classes = sizes(config)
    transforms = spec.parse(
        config.data.batch_transform, batch_transforms.BATCH_TRANSFORMS, "data.batch_transform"
    )
    shape = (2, 8, 8, config.data.channels)
    batch = {"image": jnp.zeros(shape), "label": jnp.arange(2)}
    mixed = batch_transforms.apply(batch, jax.random.key(0), transforms, classes)
    assert mixed["image"].shape == shape
    objective = create_objective(config, DataInfo(tuple(map(str, range(classes))), False, shape))
    losses = objective.example_loss(jnp.zeros((2, classes)), mixed["label"])
    assert losses.shape == (2,) and np.isfinite(losses).all()


def test_schedule_and_durations(config):
    """The rate is at its peak after the warm-up and far lower at the end."""
    examples, _ = sizes(config)
    schedule = optim.create_schedule(config, examples)
    total = steps(config.total, config, examples, "total")
    warmup = steps(config.schedule.warmup, config, examples, "schedule.warmup")
    assert 0 <= warmup < total
    batches = config.batch_size / (config.optim.base_batch or config.batch_size)
    peak = config.optim.learning_rate * batches
    assert float(schedule(warmup)) == pytest.approx(peak)
    assert 0 < float(schedule(0)) <= peak * (1 + 1e-6)
    # The exponential schedules of the Inceptions end where their length lets them.
    end = {"inception_v2": 0.013, "inception_v3": 0.05}.get(config.model.name, 0.0101)
    assert 0 <= float(schedule(total)) < end * peak
    for boundary in config.schedule.boundaries:
        assert warmup < steps(boundary, config, examples, "schedule.boundaries") < total
    if config.model.get("virtual_batch_size"):
        assert config.batch_size % config.model.virtual_batch_size == 0
    for section in (*config.evaluators.values(), config.checkpoint, config.log):
        assert steps(section.every, config, examples, "every") > 0
    evaluator, _, metric = config.checkpoint.keep_best.partition("/")
    assert evaluator in config.evaluators
    assert metric == ("ema_accuracy" if config.ema else "accuracy")


def test_json_round_trip(config):
    assert from_json(to_json(config)).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("recipe", "total"),
    [
        ("resnet50.py", 112_603),
        ("vit_s16.py", 112_603),
        ("vit_s16.py:epochs=300", 375_342),
        ("vit_b16.py", 500_456),
    ],
)
def test_lengths(recipe, total):
    config = load(str(REPO / "configs" / recipe))
    assert steps(config.total, config, IMAGENET[0], "total") == total


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
    ],
)
def test_rates(recipe, rates):
    config = load(str(REPO / "configs" / recipe))
    schedule = optim.create_schedule(config, IMAGENET[0])
    for step, rate in rates.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5, abs=1e-12)
