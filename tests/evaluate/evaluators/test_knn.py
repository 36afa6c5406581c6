"""kNN accuracy against scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from imgcls.evaluate.evaluators import knn
from imgcls.evaluate.evaluators.knn import KNN, normalize
from imgcls.evaluate.features import Features
from tests.conftest import make_mesh
from tests.evaluate.cases import (
    INFO,
    Linear,
    draw_variables,
    features_of,
    make_config,
    read_digits,
)

VARIABLES = {"": draw_variables(0), "ema_": draw_variables(1)}


@pytest.fixture(scope="module")
def digits():
    return *read_digits("train"), *read_digits("test")


def reference(gallery, gallery_labels, queries, labels, k: int, temperature: float) -> dict:
    """Computes the accuracies with scikit-learn; a class without votes is not predicted."""
    model = KNeighborsClassifier(
        min(k, len(gallery)),
        metric="cosine",
        algorithm="brute",
        weights=lambda distance: np.exp((1 - distance) / temperature),
    )
    votes = model.fit(gallery, gallery_labels).predict_proba(queries)
    ranked = np.argsort(-votes, axis=1, kind="stable")
    hits = (ranked == labels[:, None]) & (np.take_along_axis(votes, ranked, 1) > 0)
    return {
        "accuracy": (model.predict(queries) == labels).mean(),
        "top5_accuracy": hits[:, :5].any(1).mean(),
    }


@pytest.mark.parametrize(
    ("k", "temperature", "chunk", "axes"),
    [
        (200, 0.07, 256, {"data": 1}),  # 359 queries: one full chunk and a partial one
        (1, 0.07, 7, {"data": 4}),  # rounded up to 8
        (20, 1.0, 1000, {"data": 2, "fsdp": 2}),
        (10_000, 0.5, 100, {"data": 1}),  # more than the gallery's 1,438
    ],
)
def test_equals_scikit_learn(monkeypatch, digits, k, temperature, chunk, axes):
    monkeypatch.setattr(knn, "CHUNK", chunk)
    evaluator = KNN(
        make_config(),
        Linear(),
        make_mesh(**axes),
        INFO,
        k=k,
        temperature=temperature,
        batch_size=70,
    )
    found = evaluator.run(VARIABLES)
    train, train_labels, test, labels = digits
    for prefix, variables in VARIABLES.items():
        queries = features_of(variables, test)
        expected = reference(
            features_of(variables, train), train_labels, queries, labels, k, temperature
        )
        # Neither 0.1 nor 1, so that a wrong neighbor changes it.
        assert 0.5 < expected["accuracy"] < 1
        unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        expected["feature_std"] = np.mean(unit.std(axis=0)) * unit.shape[1] ** 0.5
        for name, value in expected.items():
            assert found.pop(prefix + name) == pytest.approx(value, rel=1e-5), name
    assert not found


def test_features_of_the_projector(digits):
    train, train_labels, test, labels = digits
    found = KNN(make_config(), Linear(), make_mesh(), INFO, layer="projector").run(VARIABLES)
    gallery, queries = (features_of(VARIABLES[""], x, "projector") for x in (train, test))
    expected = reference(gallery, train_labels, queries, labels, 200, 0.07)
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-9)


def test_extreme_temperatures_stay_finite():
    """exp(0.9 / 0.005) overflows float32; the nearest example decides."""
    gallery = np.eye(6, dtype=np.float32) + 1
    train = Features(gallery, np.arange(6), np.arange(6))
    for temperature in (0.005, 1e4):
        evaluator = KNN(make_config(), Linear(), make_mesh(), INFO, temperature=temperature)
        found = evaluator.judge(train, gallery, np.arange(6))
        assert found["accuracy"] == 1


def test_normalize():
    values = normalize(np.array([[3.0, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(values, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert values.dtype == np.float32


def test_protocol():
    evaluator = KNN(make_config(), Linear(), make_mesh(), INFO)
    assert evaluator.protocol == (
        "knn: 200 neighbors, cosine, T=0.07; backbone features of train (1,438) as gallery; "
        "evaluated on test (359)"
    )
