"""Bootstrap intervals against theory and against a loop."""

import dataclasses

import numpy as np
import pytest

from imgcls.evaluate import intervals
from imgcls.evaluate.metrics import measure
from tests.evaluate.cases import draw_outcomes, make_outcomes

COUNTS = {"examples", "map_classes", "roc_auc_classes"}


def test_draw(monkeypatch):
    """Each replicate has N examples, and the chunk size does not change the draws."""
    whole = np.concatenate(list(intervals.draw(50, 40, seed=1)), axis=1)
    assert whole.shape == (50, 40) and (whole.sum(axis=0) == 50).all()
    monkeypatch.setattr(intervals, "CHUNK", 350)
    parts = list(intervals.draw(50, 40, seed=1))
    assert [part.shape[1] for part in parts] == [7, 7, 7, 7, 7, 5]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert not np.array_equal(whole, np.concatenate(list(intervals.draw(50, 40, seed=2)), axis=1))
    # The counts are binomial: a mean of 1 and a variance of 1 - 1 / N.
    many = np.concatenate(list(intervals.draw(50, 2000, seed=0)), axis=1)
    np.testing.assert_allclose(many.mean(axis=1), 1, atol=0.1)
    assert many.var() == pytest.approx(0.98, rel=0.02)


def test_means_and_percentiles_ignore_nan():
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    np.testing.assert_array_equal(intervals.defined_mean(values), [2, 5, np.nan])
    found = intervals.percentiles(np.append(np.arange(201.0), np.nan))
    assert found == (5, 195)


@pytest.mark.parametrize("task", ["softmax", "sigmoid", "binary", "multi_label"])
def test_intervals_against_a_loop(task):
    """Against `measure` on the examples that were drawn for each replicate."""
    p = dataclasses.replace(draw_outcomes(task, count=60), losses=np.arange(60.0))
    found = measure(p, bootstrap=30, seed=3)
    assert found.intervals.keys() == found.metrics.keys() - COUNTS
    rng, values = np.random.default_rng(3), []
    for _ in range(30):
        drawn = rng.integers(0, 60, 60)
        rows = {name: getattr(p, name)[drawn] for name in ("labels", "logits", "scores", "losses")}
        part = dataclasses.replace(p, **rows)
        values.append(measure(part, bootstrap=0).metrics)
    for name, interval in found.intervals.items():
        expected = np.percentile([v[name] for v in values if name in v], (2.5, 97.5))
        assert interval == pytest.approx(expected, rel=1e-9), name


def test_interval_of_accuracy_is_binomial():
    p = make_outcomes(np.tile([[1.0, 0.0]], (400, 1)), (np.arange(400) % 4 == 0).astype(int))
    found = measure(p, bootstrap=2000)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert found.intervals["accuracy"] == pytest.approx((0.75 - half, 0.75 + half), abs=0.005)
    assert measure(p, bootstrap=2000).intervals == found.intervals
    assert measure(p, bootstrap=2000, seed=1).intervals != found.intervals


@pytest.mark.parametrize(("ranked", "count"), [(10_000, 9), (4_000, 0), (30_000, 20)])
def test_ranked_metrics_get_fewer_replicates(monkeypatch, ranked, count):
    """1,050 scores: as many replicates as the limit allows, or no interval below the minimum."""
    monkeypatch.setattr(intervals, "RANKED", ranked)
    monkeypatch.setattr(intervals, "FEWEST", 5)
    used = []
    areas = intervals.areas

    def spy(ranking, weights):
        used.append(weights.shape[1])
        return areas(ranking, weights)

    monkeypatch.setattr(intervals, "areas", spy)
    found = measure(draw_outcomes("softmax"), bootstrap=20)
    assert used == ([count] * 7 if count else [])
    assert ("map" in found.intervals) == ("roc_auc" in found.intervals) == (count > 0)
    assert "accuracy" in found.intervals and "map" in found.metrics
