"""What a classifier without a network reaches on the same images.

Histograms of oriented gradients and of colors with a support vector machine, and the most frequent
class. A network that is not clearly better is not worth its training: it needs more images, a
longer training or pretrained weights.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os

import cv2
import numpy as np
from etils import epath
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from imgcls.core.errors import DataError
from imgcls.core.storage import replace_text
from imgcls.data.decode.image import decode_image
from imgcls.data.sources.source import Source
from imgcls.data.sources.splits import stratified_slice
from imgcls.evaluate.hog import color_histogram, hog

# Largest number of images to train on, and to evaluate on: about a minute on two cores.
MAX_IMAGES = 4000
MAX_MIRRORED = 1000
# With more classes there is no support vector machine, as it trains one for each pair of classes.
MAX_CLASSES = 100
# Sides to which images are resized; smaller images get the first.
SIDES = (32, 64)
# Settings of the support vector machine, of which the best on a quarter of the images is used.
KERNELS = (
    *({"kernel": "linear", "C": c} for c in (0.001, 0.01)),
    *({"kernel": "rbf", "C": c} for c in (1.0, 3.0, 10.0)),
)
# Part of the cache's key: increase it when the numbers change.
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Accuracies of classifiers without a network.

    Attributes:
      majority: accuracy of the most frequent training class.
      majority_class: index of that class.
      svm: accuracy of the support vector machine; None if there is none.
      kernel: its settings, for people; '' if there is none.
      trained: number of images trained on.
      examples: number of images evaluated.
    """

    majority: float
    majority_class: int
    svm: float | None
    kernel: str
    trained: int
    examples: int


def measure_baseline(train: Source, test: Source, seed: int = 0) -> Baseline | None:
    """Trains the baseline on one split and evaluates it on another.

    At most `MAX_IMAGES` of each split are used, a stratified sample. Unreadable images are left
    out.

    Args:
      train, test: the splits, with the same classes.
      seed: seed of the samples.

    Returns:
      None for images with any number of labels, and for examples that are not images.
    """
    if train.multi_label or test.multi_label:
        return None
    train_images, train_labels = _read(train, seed, MAX_IMAGES)
    test_images, test_labels = _read(test, seed, MAX_IMAGES)
    if not train_images or not test_images or any(x.ndim != 3 for x in train_images + test_images):
        return None
    most = int(np.bincount(train_labels).argmax())
    classifier, score = None, None
    if 2 <= len(np.unique(train_labels)) and len(train.class_names) <= MAX_CLASSES:
        side = SIDES[int(np.median([min(x.shape[:2]) for x in train_images]) >= SIDES[-1])]
        features = extract(train_images, side)
        classifier = fit(features, train_labels, seed)
        score = float(classifier.score(extract(test_images, side), test_labels))
    return Baseline(
        majority=float((test_labels == most).mean()),
        majority_class=most,
        svm=score,
        kernel="" if classifier is None else _describe(classifier),
        trained=len(train_labels),
        examples=len(test_labels),
    )


def recognize_mirrored(train: Source, seed: int = 0) -> tuple[float, float] | None:
    """Accuracies on held-out images of a split, and on the same images mirrored left to right.

    If these are far apart, as for digits, mirroring changes what an image shows.

    Args:
      train: split, of which at most `MAX_MIRRORED` images are used.
      seed: seed of the samples.

    Returns:
      None if `measure_baseline` has no support vector machine for such data.
    """
    if train.multi_label or len(train.class_names) > MAX_CLASSES:
        return None
    images, labels = _read(train, seed, MAX_MIRRORED)
    if not images or any(x.ndim != 3 for x in images):
        return None
    kept, rest = _divide(labels, seed)
    if not len(rest) or len(np.unique(labels[kept])) < 2:
        return None
    classifier = fit(extract([images[i] for i in kept], SIDES[0]), labels[kept], seed)
    plain, mirrored = (
        float(
            classifier.score(extract([images[i][:, ::step] for i in rest], SIDES[0]), labels[rest])
        )
        for step in (1, -1)
    )
    return plain, mirrored


def extract(images: list[np.ndarray], side: int) -> np.ndarray:
    """Features of images, resized to a square.

    Args:
      images: uint8 `[H, W, 1 or 3]` each.
      side: side of the square, a multiple of 8.

    Returns:
      float32 `[N, D]`.
    """
    resized = np.stack([_resize(image, side) for image in images])
    parts = np.array_split(resized, -(-len(resized) // 512))
    return np.concatenate([np.concatenate([hog(p), color_histogram(p)], 1) for p in parts])


def fit(features: np.ndarray, labels: np.ndarray, seed: int) -> Pipeline:
    """Trains a support vector machine with the settings that are best on a quarter of the examples.

    Args:
      features: float `[N, D]`.
      labels: int `[N]`, of two or more classes.
      seed: seed of the sample that chooses the settings.
    """
    kept, rest = _divide(labels, seed)
    scores = [0.0] * len(KERNELS)
    if len(rest) and len(np.unique(labels[kept])) > 1:
        scores = [
            _create(kernel).fit(features[kept], labels[kept]).score(features[rest], labels[rest])
            for kernel in KERNELS
        ]
    return _create(KERNELS[int(np.argmax(scores))]).fit(features, labels)


def read_baseline(file: epath.Path, train: Source, test: Source, seed: int = 0) -> Baseline | None:
    """Reads the result of `measure_baseline` from a file, which is written if it has another.

    Args:
      file: the cache.
      train, test, seed: see `measure_baseline`.
    """
    key = _digest(train, test, seed)
    try:
        saved = json.loads(file.read_text())
        if saved.pop("key") == key:
            return Baseline(**saved)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass  # Missing, or damaged.
    baseline = measure_baseline(train, test, seed)
    if baseline is not None:
        saved = {"key": key, **dataclasses.asdict(baseline)}
        with contextlib.suppress(OSError):  # The folder may be read-only.
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_text(file, json.dumps(saved, indent=2) + "\n")
    return baseline


def _divide(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of three quarters of the examples, stratified, and of the rest."""
    kept = stratified_slice(labels, "", "75%", seed)
    return kept, np.setdiff1d(np.arange(len(labels)), kept)


def _read(source: Source, seed: int, limit: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Images and labels of a stratified sample, without those that can't be read."""
    labels = source.labels()
    indices = stratified_slice(labels, "", str(limit), seed)

    def read(index: int) -> np.ndarray | None:
        try:
            image = source[index]["image"]
            return decode_image(image, source.name(index)) if isinstance(image, bytes) else image
        except DataError:
            return None

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        images = list(pool.map(read, map(int, indices)))
    readable = np.array([image is not None for image in images])
    return [image for image in images if image is not None], labels[indices[readable]]


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    smaller = min(image.shape[:2]) >= side
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=method).reshape(
        side, side, -1
    )
    return np.repeat(resized, 3, -1) if resized.shape[-1] == 1 else resized


def _create(kernel: dict) -> Pipeline:
    return make_pipeline(StandardScaler(), SVC(**kernel, cache_size=500))


def _describe(classifier: Pipeline) -> str:
    machine: SVC = classifier.named_steps["svc"]
    return f"{'RBF' if machine.kernel == 'rbf' else machine.kernel} kernel, C {machine.C:g}"


def _digest(*values) -> str:
    """Digest of the sources' names and labels, and of other values."""
    found = hashlib.sha256(repr((_VERSION, MAX_IMAGES)).encode())
    for value in values:
        if isinstance(value, int):
            found.update(repr(value).encode())
            continue
        names = [value.name(i) for i in range(len(value))]
        found.update(repr((names, tuple(value.class_names))).encode(errors="surrogateescape"))
        found.update(np.ascontiguousarray(value.labels()).tobytes())
    return found.hexdigest()
