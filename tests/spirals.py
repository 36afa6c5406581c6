"""Spirals of two hands: volumes that differ in three dimensions only.

A spiral runs along axis 0, with a random phase. Its mirror image along any axis is a spiral of the
other hand with another phase, and as likely. Mirroring along an axis keeps the slices along this
axis but for their order, and keeps the projection. So the two classes have the same slices, without
their order, and the same projections.
"""

import pathlib

import numpy as np

SIDE = 16


def spiral(phase: float, hand: int, turns: float = 1.5, radius: float = 5.0) -> np.ndarray:
    """A tube around axis 0, float64 `[16, 16, 16]` from 0 to 1; `hand` is 1 (right) or -1."""
    center = np.arange(SIDE) - (SIDE - 1) / 2
    angle = phase + hand * 2 * np.pi * turns * center / SIDE
    h = center[None, :, None] - radius * np.sin(angle)[:, None, None]
    w = center[None, None, :] - radius * np.cos(angle)[:, None, None]
    return np.exp(-(h**2 + w**2) / 4)


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy spirals of random phase, length and radius: uint8 `[N, 16, 16, 16]`, labels `[N]`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    volumes = np.empty((count, SIDE, SIDE, SIDE), np.uint8)
    for volume, label in zip(volumes, labels, strict=True):
        phase, turns, radius = rng.uniform((0, 1, 3.5), (2 * np.pi, 2, 5.5))
        clean = spiral(phase, 2 * label - 1, turns, radius)
        volume[:] = np.clip(180 * clean + 30 + rng.normal(0, 15, volume.shape), 0, 255)
    return volumes, labels


def save(path: pathlib.Path, train: int, test: int) -> str:
    """Writes spirals of three splits to a file `.npz`; returns the source."""
    arrays = {}
    for seed, (split, count) in enumerate((("train", train), ("val", 32), ("test", test))):
        volumes, labels = draw(count, seed)
        arrays |= {f"{split}_images": volumes, f"{split}_labels": labels[:, None]}
    np.savez(path, **arrays)
    return f"medmnist:{path}"
