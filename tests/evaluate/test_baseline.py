"""Accuracies of classifiers without a network, and their cache."""

import dataclasses
import json

import numpy as np
import pytest
from etils import epath
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from imgcls.core.errors import DataError
from imgcls.data.sources.arrays import ArraySource
from imgcls.data.sources.digits import DigitsSource
from imgcls.evaluate import baseline as baseline_lib
from imgcls.evaluate.baseline import Baseline, extract, measure_baseline, read_baseline


def stripes(counts: tuple[int, ...], seed: int) -> ArraySource:
    """Horizontal and vertical stripes in noise; `counts` images of each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    phase = rng.integers(0, 8, (len(labels), 1))
    wave = 100 + 60 * np.sin((np.arange(32) + phase) * np.pi / 4)
    images = np.where((labels == 0)[:, None, None], wave[:, :, None], wave[:, None, :])
    images = images[..., None] + rng.normal(0, 20, (len(labels), 32, 32, 3))
    images = np.clip(images, 0, 255).astype(np.uint8)
    return ArraySource(images, labels, ("rows", "columns")[: len(counts)])


@pytest.fixture(scope="module")
def splits():
    return stripes((40, 20), seed=0), stripes((10, 20), seed=1)


def test_directions_are_told_apart(splits):
    found = measure_baseline(*splits)
    assert (found.svm, found.trained, found.examples) == (1.0, 60, 30)
    # The most frequent class of training, not of the test split.
    assert (found.majority_class, found.majority) == (0, pytest.approx(1 / 3))


def test_digits():
    """The accuracy is that of the settings that are reported, computed without a pipeline."""
    train, test = DigitsSource("train[:400]", 0), DigitsSource("test", 0)
    found = measure_baseline(train, test)
    assert found.svm > 0.95 and found.examples == 359
    kernel, _, _, c = found.kernel.split()
    features = [extract([s[i]["image"] for i in range(len(s))], 32) for s in (train, test)]
    scaler = StandardScaler().fit(features[0])
    machine = SVC(kernel=kernel.lower(), C=float(c))
    machine.fit(scaler.transform(features[0]), train.labels())
    predicted = machine.predict(scaler.transform(features[1]))
    assert found.svm == pytest.approx(accuracy_score(test.labels(), predicted))


def test_at_most_so_many_images(splits, monkeypatch):
    monkeypatch.setattr(baseline_lib, "MAX_IMAGES", 24)
    found = measure_baseline(*splits)
    assert (found.trained, found.examples) == (24, 24)
    # The sample keeps the shares of the classes.
    assert found.majority == pytest.approx(1 / 3)


def test_sizes_of_images():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in ((8, 9, 1), (200, 100, 3))]
    for side, dimensions in ((32, 324 + 64), (64, 1764 + 64)):
        features = extract(images, side)
        assert features.shape == (2, dimensions) and np.isfinite(features).all()


@dataclasses.dataclass(frozen=True)
class Damaged(ArraySource):
    def __getitem__(self, index):
        if index % 2:
            raise DataError(f"{index}: truncated")
        return super().__getitem__(index)


def test_unreadable_images_are_left_out(splits):
    train, test = splits
    found = measure_baseline(Damaged(**vars(train)), Damaged(**vars(test)))
    assert (found.trained, found.examples, found.svm) == (30, 15, 1.0)


def test_what_has_no_baseline(splits):
    train, test = splits
    many = dataclasses.replace(train, targets=np.eye(2, dtype=np.uint8)[train.targets])
    assert measure_baseline(many, test) is None
    volumes = dataclasses.replace(train, images=train.images[:, None])
    assert measure_baseline(volumes, test) is None
    one = stripes((30,), seed=2)
    assert measure_baseline(one, one) == Baseline(1.0, 0, None, "", 30, 30)


def test_cache(splits, tmp_path):
    file = epath.Path(tmp_path / "report" / "baseline.json")
    train, test = splits
    found = read_baseline(file, train, test)
    assert found == measure_baseline(train, test)
    # It is read, and not computed again ...
    saved = json.loads(file.read_text())
    file.write_text(json.dumps(saved | {"svm": 0.125}))
    assert read_baseline(file, train, test).svm == 0.125
    # ... except for other labels or names, or if it is damaged.
    other = dataclasses.replace(test, targets=1 - test.targets)
    assert read_baseline(file, train, other).svm == 0
    file.write_text(json.dumps(saved | {"svm": 0.125}))
    assert read_baseline(file, train, dataclasses.replace(test, splits=("test",))) == found
    for text in ("", "[]", json.dumps(saved | {"unknown": 1})):
        file.write_text(text)
        assert read_baseline(file, train, test) == found
