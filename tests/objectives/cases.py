"""Helpers of the tests of the supervised objective: losses in NumPy, and small batches."""

import jax.numpy as jnp
import numpy as np

from imgcls.core.defaults import default_config
from imgcls.data.info import DataInfo
from imgcls.objectives.create import create_objective

SHAPE = (8, 8, 3)

SINGLE = np.array([0, 3, 1, 2, 2, 0, 1, 3], np.int32)
MULTI = np.random.default_rng(1).integers(0, 2, (8, 4)).astype(np.uint8)
YES_NO = np.array([0, 1, 1, 0, 1, 0, 0, 1], np.int32)


def make_objective(
    classes: int = 4, *, multi_label: bool = False, ema: float = 0.0, warmup=None, **options
):
    """The supervised objective with a ResNet of one block."""
    config = default_config()
    config.ema, config.ema_warmup = ema, warmup
    config.objective.update(options)
    config.model.update({"stem": "cifar", "width": 4, "stage_sizes": (1,)})
    info = DataInfo(tuple(f"class {i}" for i in range(classes)), multi_label, SHAPE)
    return create_objective(config, info)


def make_batch(labels) -> dict:
    images = np.random.default_rng(3).normal(size=(len(labels), *SHAPE)).astype(np.float32)
    return {"image": jnp.asarray(images), "label": jnp.asarray(labels)}


def log_softmax(z):
    return z - np.logaddexp.reduce(z, axis=-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def binary_cross_entropy(z, y):
    return y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)


def focal(z, y, alpha, gamma):
    p, y = sigmoid(z), np.float64(y)
    cost = -y * alpha * (1 - p) ** gamma * np.log(p)
    return cost - (1 - y) * (1 - alpha) * p**gamma * np.log(1 - p)


def asymmetric(z, y, gamma_neg, gamma_pos, clip):
    p, y = sigmoid(z), np.float64(y)
    q = np.maximum(p - clip, 0)
    return -y * (1 - p) ** gamma_pos * np.log(p) - (1 - y) * q**gamma_neg * np.log(1 - q)
