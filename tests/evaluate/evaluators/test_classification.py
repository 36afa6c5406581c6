"""Classification metrics are exact for any batch size and number of devices."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk
from PIL import Image
from sklearn.datasets import load_digits

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError, DataError
from imgcls.core.state import TrainState
from imgcls.data.info import DataInfo
from imgcls.data.sources.open import create_source
from imgcls.evaluate.evaluators import classification
from imgcls.evaluate.evaluators.classification import Classification
from imgcls.objectives.create import create_objective
from tests.conftest import make_mesh
from tests.evaluate.cases import ece_by_hand, read_digits

DIGITS = tuple("0123456789")
SPLIT = "train[:1003]"


def make_config(**options):
    config = default_config()
    config.batch_size = 64
    config.data.update({"channels": 1, "mean": (0.3,), "std": (0.37,)})
    config.data.eval_transform = "resize((8, 8))"
    config.model.update({"stem": "cifar", "width": 4, "stage_sizes": (1,)})
    config.objective.update(options)
    return config


def make_objective(config, class_names=DIGITS, multi_label=False):
    return create_objective(config, DataInfo(tuple(class_names), multi_label, (8, 8, 1)))


def normalize(images) -> np.ndarray:
    return ((np.asarray(images, np.float64) / 255 - 0.3) / 0.37).astype(np.float32)


def fit(objective, images: np.ndarray, targets: np.ndarray, seed: int) -> tuple:
    """Draws variables, with a head fitted to targets `[N, K]`: above chance, but not perfect."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        low, high = (0.5, 1.5) if path[-1].key in ("var", "scale") else (-0.5, 0.5)
        return jnp.asarray(rng.uniform(low, high, leaf.shape), leaf.dtype)

    spec = {"image": jax.ShapeDtypeStruct(images.shape, jnp.uint8)}
    shapes = jax.eval_shape(objective.init, jax.random.key(0), spec)
    params, state = jax.tree.map_with_path(draw, shapes)
    features = np.asarray(objective.features(params, state, {"image": normalize(images)}))
    features = np.concatenate([features, np.ones((len(features), 1))], 1)
    head = np.linalg.lstsq(features, 4.0 * targets - 2.0, rcond=None)[0].astype(np.float32)
    params["head"] = {"kernel": jnp.asarray(head[:-1]), "bias": jnp.asarray(head[-1])}
    return params, state


def logits_of(objective, variables, images) -> np.ndarray:
    """Computes the logits of all images in one batch, by the model itself."""
    params, state = variables
    logits = objective.model.apply({"params": params, **state}, normalize(images), train=False)
    return np.float64(logits)


def single_label_reference(logits: np.ndarray, labels: np.ndarray, scores=None) -> dict:
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    predictions = logits.argmax(1)
    average = {"average": "macro", "zero_division": 0}
    scores = np.exp(log_p) if scores is None else scores
    return {
        "ece": ece_by_hand(scores.max(1), predictions == labels),
        "brier": np.mean(np.sum((scores - np.eye(10)[labels]) ** 2, axis=1)),
        "accuracy": sk.accuracy_score(labels, predictions),
        "top5_accuracy": sk.top_k_accuracy_score(labels, logits, k=5, labels=range(10)),
        "precision": sk.precision_score(labels, predictions, **average),
        "recall": sk.recall_score(labels, predictions, **average),
        "f1": sk.f1_score(labels, predictions, **average),
        "loss": -log_p[np.arange(len(labels)), labels].mean(),
        "examples": len(labels),
    }


@pytest.fixture(scope="module")
def digits():
    """`(images uint8 [1003, 8, 8, 1], labels [1003])` of the split, in the source's order."""
    return read_digits(SPLIT)


@pytest.fixture(scope="module")
def objective():
    return make_objective(make_config())


@pytest.fixture(scope="module")
def variables(objective, digits):
    images, labels = digits
    targets = np.eye(10)[labels]
    return {p: fit(objective, images, targets, seed) for p, seed in (("", 0), ("ema_", 1))}


@pytest.fixture(scope="module")
def reference(objective, variables, digits):
    images, labels = digits
    result = {
        prefix + key: value
        for prefix, v in variables.items()
        for key, value in single_label_reference(logits_of(objective, v, images), labels).items()
    }
    assert 0.3 < result["accuracy"] < 1 and result["accuracy"] != result["ema_accuracy"]
    return result


def make_evaluator(config, objective, mesh, class_names=DIGITS, multi_label=False, **options):
    info = DataInfo(tuple(class_names), multi_label, (8, 8, 1))
    return Classification(config, objective, mesh, info, **options)


# ---- Exactness.


@pytest.mark.parametrize(
    ("batch_size", "axes"),
    [
        (64, {"data": 4}),  # 15 batches and 43 examples
        (None, {"data": 4}),  # the training batch size
        (1003, {"data": 4}),  # rounded up to 1,004
        (10, {"data": 2, "fsdp": 2}),  # rounded up to 12
        (500, {"data": 1}),
    ],
)
def test_every_example_counts_once(objective, variables, reference, batch_size, axes):
    evaluator = make_evaluator(
        make_config(), objective, make_mesh(**axes), split=SPLIT, batch_size=batch_size
    )
    result = evaluator.run(variables)
    assert result["examples"] == result["ema_examples"] == 1003
    assert result.keys() == reference.keys()
    for key, value in reference.items():
        assert result[key] == pytest.approx(value, rel=1e-6, abs=0), key
    assert all(type(value) in (int, float) for value in result.values())


def test_repeated_runs_are_equal(objective, variables, reference):
    evaluator = make_evaluator(make_config(), objective, make_mesh(data=4), split=SPLIT)
    first = evaluator.run({"": variables[""]})
    assert evaluator.run({"": variables[""]}) == first
    assert first.keys() == {key for key in reference if not key.startswith("ema_")}
    # The same program with other variables.
    other = evaluator.run({"": variables["ema_"]})
    assert other["accuracy"] == pytest.approx(reference["ema_accuracy"], rel=1e-6)


def test_averaged_parameters(variables, reference):
    config = make_config()
    config.ema = 0.9
    objective = make_objective(config)
    params, model_state = variables["ema_"]
    state = TrainState(jnp.int32(1), *variables[""], None, {"params": params, **model_state})
    evaluator = make_evaluator(config, objective, make_mesh(data=4), split=SPLIT)
    result = evaluator.run(objective.eval_variables(state))
    assert result == pytest.approx(reference, rel=1e-6)


def test_sigmoid_loss_of_single_labels(variables, digits):
    config = make_config(loss="sigmoid")
    objective = make_objective(config)
    images, labels = digits
    result = make_evaluator(config, objective, make_mesh(data=4), split=SPLIT).run(
        {"": variables[""]}
    )
    logits, hot = logits_of(objective, variables[""], images), np.eye(10)[labels]
    losses = hot * np.logaddexp(0, -logits) + (1 - hot) * np.logaddexp(0, logits)
    scores = 1 / (1 + np.exp(-logits))
    expected = single_label_reference(logits, labels, scores) | {"loss": losses.mean()}
    assert result == pytest.approx(expected, rel=1e-6)


# ---- Unreadable images.


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """`(folder, images, labels)`: 60 digits as PNGs in class folders, and 4 broken files."""
    root = tmp_path_factory.mktemp("images")
    data = load_digits()
    members = np.concatenate([np.flatnonzero(data.target == c)[:6] for c in range(10)])
    images = np.round(data.images[members] * (255 / 16)).astype(np.uint8)
    labels = data.target[members]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / "test" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    encoded = (root / "test" / "3" / "18.png").read_bytes()
    (root / "train" / "0").mkdir(parents=True)
    (root / "train" / "0" / "0.png").write_bytes(encoded)
    # The first example is one of the broken files.
    (root / "test" / "0" / "-empty.png").write_bytes(b"")
    (root / "test" / "3" / "18-text.png").write_text("not an image")
    (root / "test" / "3" / "18-cut.png").write_bytes(encoded[: len(encoded) // 2])
    (root / "test" / "9" / "zero.jpg").write_bytes(bytes(100))
    return root, images[..., None], labels


@pytest.mark.parametrize("batch_size", [8, 64])
def test_unreadable_images_are_masked_and_counted(objective, variables, pictures, batch_size):
    root, images, labels = pictures
    config = make_config()
    config.data.source, config.data.on_error = f"folder:{root}", "skip"
    evaluator = make_evaluator(config, objective, make_mesh(data=4), batch_size=batch_size)
    result = evaluator.run(variables)
    for prefix, values in variables.items():
        expected = single_label_reference(logits_of(objective, values, images), labels)
        for key, value in (expected | {"skipped": 4}).items():
            assert result[prefix + key] == pytest.approx(value, rel=1e-6), key


def test_unreadable_image_is_an_error_by_default(objective, variables, pictures):
    config = make_config()
    config.data.source = f"folder:{pictures[0]}"
    with pytest.raises(DataError, match="-empty.png"):
        make_evaluator(config, objective, make_mesh(data=4)).run(variables)


# ---- Other tasks.


def test_binary(tmp_path):
    data = load_digits()
    members = np.flatnonzero(np.isin(data.target, (3, 8)))[:101]
    images = np.round(data.images[members] * (255 / 16)).astype(np.uint8)
    yes = data.target[members] == 8
    for number, (image, label) in enumerate(zip(images, yes, strict=True)):
        folder = tmp_path / "test" / ("eight" if label else "a_three")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    (tmp_path / "train" / "eight").mkdir(parents=True)
    Image.fromarray(images[0]).save(tmp_path / "train" / "eight" / "0.png")
    config = make_config(loss="binary")
    config.data.source = f"folder:{tmp_path}"
    objective = make_objective(config, ("a_three", "eight"))
    images = images[..., None]
    values = fit(objective, images, yes[:, None], seed=0)
    evaluator = make_evaluator(config, objective, make_mesh(data=4), ("a_three", "eight"))
    result = evaluator.run({"": values})

    logits = logits_of(objective, values, images)[:, 0]
    predictions = logits > 0
    assert 0.5 < (predictions == yes).mean() < 1
    losses = yes * np.logaddexp(0, -logits) + (1 - yes) * np.logaddexp(0, logits)
    scores = 1 / (1 + np.exp(-logits))
    # A difference of two sums of float32 probabilities.
    gap = ece_by_hand(np.maximum(scores, 1 - scores), predictions == yes)
    assert result.pop("ece") == pytest.approx(gap, abs=1e-6)
    assert result == pytest.approx(
        {
            "accuracy": sk.accuracy_score(yes, predictions),
            "precision": sk.precision_score(yes, predictions),
            "recall": sk.recall_score(yes, predictions),
            "f1": sk.f1_score(yes, predictions),
            "auroc": sk.roc_auc_score(yes, logits),
            "average_precision": sk.average_precision_score(yes, logits),
            "loss": losses.mean(),
            "brier": 2 * np.mean((scores - yes) ** 2),
            "examples": 101,
        },
        rel=1e-5,  # float32 probabilities
    )


class MultiLabelDigits:
    """Digits with three binary labels."""

    class_names = ("even", "above 4", "a third")
    multi_label = True

    def __init__(self, count: int):
        self._digits = create_source("digits", f"test[:{count}]")

    def __len__(self) -> int:
        return len(self._digits)

    def __getitem__(self, index: int) -> dict:
        example = self._digits[index]
        digit = example["label"]
        hot = np.array([digit % 2 == 0, digit > 4, digit % 3 == 0], np.uint8)
        return {"image": example["image"], "label": hot}

    def name(self, index: int) -> str:
        return self._digits.name(index)


def test_multi_label(monkeypatch):
    source = MultiLabelDigits(301)
    monkeypatch.setattr(classification, "open_split", lambda config, split: source)
    images = np.stack([source[i]["image"] for i in range(301)])
    labels = np.stack([source[i]["label"] for i in range(301)])
    config = make_config(loss="sigmoid")
    objective = make_objective(config, source.class_names, multi_label=True)
    values = fit(objective, images, labels, seed=0)
    evaluator = make_evaluator(config, objective, make_mesh(data=4), source.class_names, True)
    result = evaluator.run({"": values})

    logits = logits_of(objective, values, images)
    predictions, scores = (logits > 0).astype(int), 1 / (1 + np.exp(-logits))
    losses = labels * np.logaddexp(0, -logits) + (1 - labels) * np.logaddexp(0, logits)
    expected = {
        f"{average}_{name}": fn(labels, predictions, average=average, zero_division=0)
        for average in ("micro", "macro")
        for name, fn in (
            ("precision", sk.precision_score),
            ("recall", sk.recall_score),
            ("f1", sk.f1_score),
        )
    }
    expected |= {
        "map": sk.average_precision_score(labels, logits, average="macro"),
        "exact_match": sk.accuracy_score(labels, predictions),
        "loss": losses.mean(),
        "ece": ece_by_hand(scores.ravel(), labels.ravel()),
        "brier": np.mean(np.sum((scores - labels) ** 2, axis=1)),
        "examples": 301,
    }
    assert 0.1 < expected["exact_match"] < 1
    assert result == pytest.approx(expected, rel=1e-6)


# ---- Mistakes.


def test_other_classes(objective):
    config, mesh = make_config(), make_mesh()
    message = r"split 'test': \d+ of 359 examples have classes that are not in the model"
    with pytest.raises(ConfigError, match=rf"{message} \('9'\)"):
        make_evaluator(config, objective, mesh, DIGITS[:9])
    names = (*DIGITS[:3], "drei", *DIGITS[4:])
    with pytest.raises(ConfigError, match=rf"{message} \('3'\)"):
        make_evaluator(config, objective, mesh, names)


def test_objective_without_logits():
    info = DataInfo(DIGITS, False, (8, 8, 1))
    with pytest.raises(ConfigError, match="has no logits to classify by"):
        Classification(make_config(), types.SimpleNamespace(), make_mesh(), info)
