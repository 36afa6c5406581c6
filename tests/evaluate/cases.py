"""What tests of features need: digits, and an objective small enough to work out by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from imgcls.core.defaults import default_config
from imgcls.data.info import DataInfo
from imgcls.data.sources.open import create_source

DIGITS = tuple("0123456789")
INFO = DataInfo(DIGITS, False, (8, 8, 1))
MEAN, STD = 0.3, 0.37


class Linear:
    """A layer on centred pixels, another on top, and pictures with half of their pixels gone."""

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
    """Images uint8 `[N, 8, 8, 1]` and labels int `[N]`, in the source's order."""
    source = create_source("digits", split)
    examples = [source[i] for i in range(len(source))]
    return np.stack([e["image"] for e in examples]), np.array([e["label"] for e in examples])


def features_of(variables: tuple, images: np.ndarray, layer: str = "backbone") -> np.ndarray:
    """`Linear.features` in NumPy's float64: `[N, D]`."""
    params, state = jax.tree.map(np.float64, variables)
    pixels = (images.reshape(len(images), -1) / 255 - MEAN) / STD - state["stats"]["mean"]
    hidden = np.tanh(pixels @ params["kernel"])
    return hidden if layer == "backbone" else hidden @ params["projector"]
