"""Helpers for tests of evaluators: digits, a simple objective, and outcomes."""

import jax
import jax.numpy as jnp
import numpy as np

from imgcls.core.defaults import default_config
from imgcls.data.info import DataInfo
from imgcls.data.sources.open import create_source
from imgcls.evaluate.outcomes import Outcomes

DIGITS = tuple("0123456789")
INFO = DataInfo(DIGITS, False, (8, 8, 1))
MEAN, STD = 0.3, 0.37


class Linear:
    """A tanh layer and a linear projector on pixels, and a reconstruction of masked pixels."""

    feature_layers = ("backbone", "projector")

    def features(self, params, model_state, batch, layer="backbone"):
        pixels = batch["image"].reshape(len(batch["image"]), -1) - model_state["stats"]["mean"]
        hidden = jnp.tanh(pixels @ params["kernel"])
        return hidden if layer == "backbone" else hidden @ params["projector"]

    def reconstruct(self, params, model_state, batch, rng):
        image = batch["image"]
        kept = jax.random.bernoulli(rng, 0.5, image.shape[:-1])[..., None]
        masked = jnp.where(kept, image, 0.0)
        return {"input": image, "masked": masked, "output": masked + params["kernel"][0, 0]}


def draw_variables(seed: int = 0, dim: int = 12) -> tuple[dict, dict]:
    rng = np.random.default_rng(seed)
    params = {"kernel": rng.normal(0, 0.2, (64, dim)), "projector": rng.normal(0, 1, (dim, 4))}
    state = {"stats": {"mean": rng.normal(0, 0.1, 64)}}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (params, state))


def make_config(**evaluators):
    config = default_config()
    config.batch_size = 100
    config.data.update({"channels": 1, "mean": (MEAN,), "std": (STD,)})
    config.data.eval_transform = "resize((8, 8))"
    config.evaluators.update(evaluators)
    return config


def read_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns images uint8 `[N, 8, 8, 1]` and labels int `[N]`, in the source's order."""
    source = create_source("digits", split)
    examples = [source[i] for i in range(len(source))]
    return np.stack([e["image"] for e in examples]), np.array([e["label"] for e in examples])


def features_of(variables: tuple, images: np.ndarray, layer: str = "backbone") -> np.ndarray:
    """Computes `Linear.features` in NumPy with float64: `[N, D]`."""
    params, state = jax.tree.map(np.float64, variables)
    pixels = (images.reshape(len(images), -1) / 255 - MEAN) / STD - state["stats"]["mean"]
    hidden = np.tanh(pixels @ params["kernel"])
    return hidden if layer == "backbone" else hidden @ params["projector"]


def sigmoid(x) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def softmax(x) -> np.ndarray:
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def make_outcomes(logits, labels, task: str = "softmax", **fields) -> Outcomes:
    """Makes outcomes from logits `[N, K]`."""
    logits = np.asarray(logits, np.float32)
    scores = softmax(logits) if task == "softmax" else sigmoid(logits)
    if task == "binary":
        scores = np.concatenate([1 - scores, scores], axis=1)
    count, classes = scores.shape
    defaults = {
        "class_names": tuple(f"class {i}" for i in range(classes)),
        "names": [f"{i}.png" for i in range(count)],
        "index": np.arange(count),
        "scores": scores.astype(np.float32),
    }
    return Outcomes(task=task, labels=np.array(labels), logits=logits, **defaults | fields)


def make_light(labels, scores, task: str, num_classes: int, **fields) -> Outcomes:
    """Makes outcomes in the light form; losses and Brier scores default to 0."""
    count = len(labels)
    defaults = {"losses": np.zeros(count), "brier": np.zeros(count)}
    return Outcomes(
        class_names=tuple(f"class {i}" for i in range(num_classes)),
        task=task,
        names=[],
        index=np.zeros(0, int),
        labels=np.asarray(labels),
        logits=np.zeros((count, 0)),
        scores=np.asarray(scores),
        **defaults | fields,
    )


def ece_by_hand(confidence, correct, bins: int = 15) -> float:
    """Computes the expected calibration error (Guo et al. 2017, equation 3) bin by bin."""
    total = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


def draw_outcomes(task: str, count: int = 150, classes: int = 7, seed: int = 0) -> Outcomes:
    """Draws outcomes above chance; the last two classes lack examples or predictions."""
    rng = np.random.default_rng(seed)
    if task == "binary":
        labels = rng.integers(0, 2, count)
        logits = rng.normal(size=(count, 1)) + 1.5 * labels[:, None] - 0.5
        return make_outcomes(logits, labels, task)
    if task == "multi_label":
        logits = rng.normal(size=(count, classes)) * 1.5
        labels = (rng.uniform(size=logits.shape) < sigmoid(logits - 0.5)).astype(np.uint8)
        labels[:, -2] = 0
        logits[:, -1] = -2 + 0.1 * logits[:, -1]
        return make_outcomes(logits, labels, task)
    labels = rng.integers(0, classes - 1, count)
    labels[labels == classes - 2] = classes - 1
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += 1.5
    logits[:, -1] = -5
    return make_outcomes(logits, labels, task)
