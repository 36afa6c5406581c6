"""Flipped labels are found, and clean labels give no finding."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from imgcls.audit import findings
from imgcls.audit.features import handmade, of_checkpoint
from imgcls.audit.label_errors import find_label_errors, unexplained_share
from imgcls.audit.reading import read_images
from imgcls.data.sources.open import create_source
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import load_trained
from tests.audit.planted import CLASSES, Given, cifar10

DIGITS = tuple("0123456789")


def flip(labels: np.ndarray, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels of which a share is changed, and the rows that are changed."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
    flipped, classes = labels.copy(), labels.max() + 1
    flipped[rows] = (flipped[rows] + rng.integers(1, classes, len(rows))) % classes
    return flipped, rows


def hits(found, rows) -> float:
    """Returns the share of flipped labels among the same number of suspects."""
    return np.isin([s.index for s in found.suspects[: len(rows)]], rows).sum() / len(rows)


@pytest.fixture(scope="module")
def digits():
    """Hand-made features and labels of scikit-learn's digits."""
    data = load_digits()
    digits = data.images.astype(np.uint8) * 15
    images = [np.kron(x, np.ones((4, 4), np.uint8))[..., None] for x in digits]
    table = read_images({"train": Given(images, data.target, DIGITS)}, None, 0)
    return handmade(table.thumbs, 0), table.labels


def test_flipped_labels_are_found_and_counted(digits):
    features, labels = digits
    flipped, rows = flip(labels, 0.05)
    found = find_label_errors(features, flipped, DIGITS, seed=0)
    assert hits(found, rows) >= 0.8
    assert found.significant and 0.035 <= found.share <= 0.065
    first = found.suspects[0]
    assert (first.given, first.better) == (flipped[first.index], labels[first.index])
    scores = [s.score for s in found.suspects]
    assert scores == sorted(scores)
    (finding,) = findings.of_label_errors(found)
    assert finding.level == "finding"


def test_clean_labels_give_no_finding(digits):
    found = find_label_errors(*digits, DIGITS, seed=0)
    assert not found.significant and found.share < 0.002
    assert all(f.level == "note" for f in findings.of_label_errors(found))


def test_uninformative_features_give_no_finding(digits):
    noise = np.random.default_rng(0).normal(size=(600, 16))
    found = find_label_errors(noise, digits[1][:600], DIGITS, seed=0)
    assert found.accuracy < 0.3 and not found.significant
    (note,) = findings.of_label_errors(found)
    assert note.level == "note" and "--checkpoint" in note.text


def test_estimated_share_of_wrong_labels():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(20_000, 4))
    p = np.exp(2 * z) / np.exp(2 * z).sum(1, keepdims=True)
    y = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    # The probabilities are overconfident, which the temperature explains without wrong labels.
    bold = np.exp(5 * z) / np.exp(5 * z).sum(1, keepdims=True)
    share, ratio = unexplained_share(bold, y)
    assert share < 0.005 and ratio < 8
    flipped, _ = flip(y, 0.08)
    share, ratio = unexplained_share(bold, flipped)
    assert 0.06 < share < 0.10 and ratio > 50


def test_multi_label(digits):
    features, labels = digits[0][:1200], digits[1][:1200]
    targets = np.stack([labels % 2 == 0, labels < 5, labels == 11], 1).astype(np.uint8)
    wrong = targets.copy()
    rows = np.random.default_rng(0).choice(len(labels), 60, replace=False)
    wrong[rows, 0] ^= 1
    found = find_label_errors(features, wrong, ("even", "low", "none"), seed=0)
    top = found.suspects[:60]
    right = [s for s in top if s.given == 0 and s.index in rows]
    assert len(right) >= 36
    assert all(s.missing == (wrong[s.index, s.given] == 0) for s in found.suspects)


def test_tiny_classes_are_not_checked(digits):
    features, labels = digits
    few = np.where(np.arange(len(labels)) < 3, 10, labels)[:500]
    found = find_label_errors(features[:500], few, (*DIGITS, "tiny"), seed=0)
    assert found.skipped == ["tiny"] and found.judged == 497
    assert all(s.index >= 3 for s in found.suspects)
    assert any("tiny" in f.text for f in findings.of_label_errors(found))


def test_features_of_a_checkpoint(workdir):
    sources = {split: create_source("digits", split) for split in ("train", "test")}
    table = read_images(sources, 500, 0)
    features = of_checkpoint(str(workdir), table)
    trained = load_trained(find_checkpoint(workdir))
    rows = [3, 250, 499]
    images = np.stack([table.pixels(i)[..., :1] for i in rows])
    batch = {"image": jax.numpy.asarray(images)}
    # The normalization that the step does before the model.
    from imgcls.evaluate.gather import make_eval_fn

    def outputs(params, model_state, batch):
        return {"values": trained.objective.features(params, model_state, batch)}

    fn = make_eval_fn(outputs, trained.config, trained.mesh)
    expected = fn(trained.params, trained.model_state, batch)["values"]
    np.testing.assert_allclose(features[rows], expected, rtol=1e-4, atol=1e-4)
    flipped, wrong = flip(table.labels, 0.05)
    found = find_label_errors(features, flipped, DIGITS, seed=0)
    assert hits(found, wrong) >= 0.6


@pytest.mark.slow
def test_flipped_labels_of_cifar10_without_a_backbone(shared_data):
    pixels, labels = cifar10(shared_data)
    features = handmade(pixels, 0)
    flipped, rows = flip(labels, 0.05)
    assert hits(find_label_errors(features, flipped, tuple(CLASSES), 0), rows) >= 0.4
    assert not find_label_errors(features, labels, tuple(CLASSES), 0).significant
