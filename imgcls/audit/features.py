"""Features for the check of labels: those of a trained model, or hand-made ones."""

import numpy as np
from sklearn.decomposition import PCA

from imgcls.audit.reading import ImageTable
from imgcls.data.sources.subset import Subset
from imgcls.evaluate.features import FeatureReader
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import load_trained

# Dimensions that PCA keeps of the hand-made features.
_DIMENSIONS = 128


def of_checkpoint(path: str, images: ImageTable) -> np.ndarray:
    """Returns the features of a trained model, which uses its own preprocessing.

    Args:
      path: a workdir or the directory of a checkpoint.
      images: the images to read again.

    Returns:
      float32 `[N, D]`.

    Raises:
      ConfigError: there is no checkpoint at `path`.
    """
    trained = load_trained(find_checkpoint(path))
    trained.config.data.workers = 0
    layer = trained.objective.feature_layers[0]
    parts = (trained.config, trained.objective, trained.mesh, trained.info, layer, None)
    reader = FeatureReader(*parts)
    variables = {"": (trained.params, trained.model_state)}
    features = [
        reader.read(variables, Subset(source, images.index[images.split == s]))[""].values
        for s, source in enumerate(images.sources)
        if (images.split == s).any()
    ]
    return np.concatenate(features)


def handmade(thumbs: np.ndarray, seed: int) -> np.ndarray:
    """Returns colors, layout and edges of thumbnails, standardized and reduced by PCA.

    They are a color histogram (4 x 4 x 4), the image at 8 x 8 pixels, and histograms of 9 unsigned
    edge directions in 4 x 4 cells, weighted by the strength of the edge (Dalal & Triggs 2005).

    Args:
      thumbs: uint8 `[N, 32, 32, 3]`.
      seed: seed of the randomized PCA.

    Returns:
      float32 `[N, D]`, D at most 128.
    """
    parts = np.array_split(thumbs, max(1, len(thumbs) // 4096))
    x = np.concatenate([np.concatenate([f(p) for f in _PARTS], 1) for p in parts])
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-3)
    dimensions = min(_DIMENSIONS, *x.shape)
    return PCA(dimensions, svd_solver="randomized", random_state=seed).fit_transform(x)


def _histogram(thumbs: np.ndarray) -> np.ndarray:
    codes = (thumbs >> 6).astype(int) @ np.array([16, 4, 1])
    codes = codes.reshape(len(thumbs), -1) + 64 * np.arange(len(thumbs))[:, None]
    counts = np.bincount(codes.ravel(), minlength=64 * len(thumbs)).reshape(-1, 64)
    return np.sqrt(counts / counts.sum(1, keepdims=True)).astype(np.float32)


def _layout(thumbs: np.ndarray) -> np.ndarray:
    cells = thumbs.reshape(len(thumbs), 8, 4, 8, 4, 3).mean((2, 4), dtype=np.float32)
    return cells.reshape(len(thumbs), -1) / 255


def _edges(thumbs: np.ndarray) -> np.ndarray:
    gray = thumbs.mean(-1, dtype=np.float32)
    dy, dx = np.gradient(gray, axis=(1, 2))
    strength = np.hypot(dx, dy)
    direction = ((np.arctan2(dy, dx) % np.pi) * (9 / np.pi)).astype(int) % 9
    cell = np.arange(32) // 8
    cells = (cell[:, None] * 4 + cell) * 9
    codes = direction + cells + 144 * np.arange(len(thumbs))[:, None, None]
    sums = np.bincount(codes.ravel(), strength.ravel(), 144 * len(thumbs)).reshape(-1, 144)
    return np.sqrt(sums / np.maximum(sums.sum(1, keepdims=True), 1e-6)).astype(np.float32)


_PARTS = (_histogram, _layout, _edges)
