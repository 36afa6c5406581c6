"""Fitting a temperature and thresholds, and storing them in the checkpoint."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics as sk

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError, TrainingError
from imgcls.core.state import TrainState
from imgcls.data.info import DataInfo
from imgcls.evaluate import calibration
from imgcls.evaluate.calibration import (
    PLAIN,
    Calibration,
    apply,
    best_threshold,
    decide,
    fit,
)
from imgcls.evaluate.metrics import measure
from imgcls.evaluate.outcomes import Outcomes
from imgcls.runs.checksums import NEEDED
from imgcls.runs.load import find_checkpoint
from imgcls.runs.save import Checkpointer
from tests.evaluate.cases import make_outcomes, sigmoid, softmax


def draw(task: str, factor: float, count: int = 20_000) -> Outcomes:
    """Draws labels with the probabilities of `logits / factor`."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (count, 1 if task == "binary" else 4))
    if task == "softmax":
        chances = softmax(true)
        labels = np.sum(rng.uniform(size=(count, 1)) > np.cumsum(chances, axis=1)[:, :-1], axis=1)
    else:
        labels = (rng.uniform(size=true.shape) < sigmoid(true)).astype(np.uint8)
        labels = labels[:, 0].astype(int) if task == "binary" else labels
    return make_outcomes(factor * true, labels, task)


# ---- The temperature.


@pytest.mark.parametrize(
    ("task", "factor"), [("softmax", 2.5), ("softmax", 0.4), ("binary", 3.0), ("multi_label", 0.5)]
)
def test_recovers_the_temperature_of_drawn_labels(task, factor):
    outcomes = draw(task, factor)
    found = fit(outcomes, "val")
    assert found.temperature == pytest.approx(factor, rel=0.05)
    assert (found.split, found.examples) == ("val", 20_000)
    before, after = (measure(outcomes, c, bootstrap=0).metrics for c in (PLAIN, found))
    assert after["nll"] < before["nll"] and after["ece"] < before["ece"] / 5


def test_temperature_is_the_best_of_a_grid():
    """By the log loss of scikit-learn, on few examples."""
    rng = np.random.default_rng(3)
    outcomes = make_outcomes(rng.normal(0, 3, (60, 3)), rng.integers(0, 3, 60))
    logits = outcomes.logits.astype(np.float64)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 301))
    losses = [sk.log_loss(outcomes.labels, softmax(logits / t)) for t in grid]
    assert fit(outcomes).temperature == pytest.approx(grid[np.argmin(losses)], rel=0.011)


def test_temperature_by_hand():
    """Three of four correct at a margin m: the best probability is 3/4, so m / T = log 3."""
    logits = [[0.0, 5.0]] * 4
    assert fit(make_outcomes(logits, [1, 1, 0, 1])).temperature == pytest.approx(
        5 / np.log(3), rel=1e-4
    )
    one = np.array(logits)[:, 1:]
    found = fit(make_outcomes(one, [1, 1, 0, 1], "binary"))
    assert found.temperature == pytest.approx(5 / np.log(3), rel=1e-4)
    assert found.thresholds is None


def test_sigmoid_of_single_labels():
    """K binary decisions: of 8 at a distance of 2 from 0, 6 are correct."""
    logits = [[2.0, -2.0], [2.0, -2.0], [2.0, -2.0], [-2.0, 2.0]]
    outcomes = make_outcomes(logits, [0, 0, 1, 1], "sigmoid")
    assert fit(outcomes).temperature == pytest.approx(2 / np.log(3), rel=1e-4)
    scores = apply(outcomes, fit(outcomes)).scores
    np.testing.assert_allclose(scores[0], [0.75, 0.25], rtol=1e-4)


def test_temperature_stays_within_bounds():
    assert fit(make_outcomes([[0.0, 1.0]], [1])).temperature == pytest.approx(0.05, rel=0.01)
    assert fit(make_outcomes([[0.0, 1.0]] * 3, [0, 0, 0])).temperature == pytest.approx(
        20, rel=0.01
    )
    # No temperature improves uninformative logits.
    assert fit(make_outcomes(np.zeros((3, 2)), [0, 1, 1])).temperature == 1.0


def test_apply():
    outcomes = draw("softmax", 2.0, count=5)
    cooler = apply(outcomes, Calibration(temperature=2.0))
    expected = softmax(outcomes.logits.astype(np.float64) / 2)
    np.testing.assert_allclose(cooler.scores, expected, rtol=1e-6)
    assert cooler.scores.dtype == np.float32
    np.testing.assert_array_equal(cooler.logits, outcomes.logits)
    # Applying it twice is the same as once, and `PLAIN` changes nothing.
    np.testing.assert_array_equal(apply(cooler, Calibration(2.0)).scores, cooler.scores)
    assert apply(outcomes, PLAIN) is outcomes
    yes = make_outcomes([[3.0], [-1.0]], [1, 0], "binary")
    np.testing.assert_allclose(
        apply(yes, Calibration(2.0)).scores,
        [[1 - sigmoid(1.5), sigmoid(1.5)], [1 - sigmoid(-0.5), sigmoid(-0.5)]],
        rtol=1e-6,
    )


# ---- Thresholds.


def best_f1(scores, labels) -> float:
    """Returns the highest F1 over all cuts."""
    cuts = [*np.unique(scores), 2.0]
    return max(sk.f1_score(labels, scores >= cut, zero_division=0) for cut in cuts)


@pytest.mark.parametrize("seed", range(8))
def test_thresholds_against_every_cut(seed):
    rng = np.random.default_rng(seed)
    # Rounded, so that there are many ties.
    logits = np.round(rng.normal(0, 2, (50, 4)), seed % 2)
    labels = (rng.uniform(size=(50, 4)) < sigmoid(logits - 1)).astype(np.uint8)
    labels[:5] = 1
    outcomes = make_outcomes(logits, labels, "multi_label")
    found = fit(outcomes)
    scores = apply(outcomes, found).scores
    predictions = decide(scores, found, "multi_label")
    for c in range(4):
        best = best_f1(scores[:, c], labels[:, c])
        assert sk.f1_score(labels[:, c], predictions[:, c]) == pytest.approx(best, abs=1e-12)
        # Never equal to a score: rounding on another machine does not change a prediction.
        assert np.min(np.abs(scores[:, c] - found.thresholds[c])) > 1e-4


def test_threshold_by_hand():
    labels = np.array([True] * 5 + [False] * 3)
    # Separable: the midpoint of the lowest positive and the highest negative.
    scores = np.array([0.9, 0.8, 0.9, 0.7, 0.9, 0.3, 0.1, 0.2])
    assert best_threshold(scores, labels) == pytest.approx(0.5)
    # One negative above all: F1 is 10 / 11 at 0.35, and lower elsewhere.
    scores = np.array([0.5, 0.6, 0.5, 0.4, 0.6, 0.9, 0.3, 0.2])
    assert best_threshold(scores, labels) == pytest.approx(0.35)
    # One positive far below: F1 is 10 / 12 with it and the two negatives above it, 8 / 9 without.
    scores = np.array([0.9, 0.9, 0.9, 0.9, 0.1, 0.3, 0.2, 0.1])
    assert best_threshold(scores, labels) == pytest.approx(0.6)
    # All scores are equal, so all are predicted: halfway to 0.
    assert best_threshold(np.full(8, 0.6), labels) == pytest.approx(0.3)


def test_highest_of_equally_good_thresholds():
    """F1 is 2 / 3 for 5 of 10 positives without false ones, and for all 20 examples."""
    labels = np.array([True] * 10 + [False] * 10)
    scores = np.array([0.9] * 5 + [0.2] * 5 + [0.8] * 10)
    cuts = {cut: sk.f1_score(labels, scores >= cut) for cut in (0.85, 0.5, 0.1)}
    assert cuts[0.85] == pytest.approx(2 / 3) and cuts[0.1] == pytest.approx(2 / 3)
    assert cuts[0.5] < 2 / 3
    assert best_threshold(scores, labels) == pytest.approx(0.85)


@pytest.mark.parametrize("positives", [0, 4, 5])
def test_few_positives_keep_the_default(positives):
    labels = np.arange(20) < positives
    scores = np.where(labels, 0.9, 0.8)
    assert best_threshold(scores, labels) == pytest.approx(0.85 if positives == 5 else 0.5)


def test_decide():
    scores = np.array([[0.5, 0.6, 0.4], [0.9, 0.5, 0.5]], np.float32)
    assert decide(scores, PLAIN, "multi_label").tolist() == [[0, 1, 0], [1, 0, 0]]
    chosen = Calibration(thresholds=np.array([0.9, 0.5, 0.45]))
    assert decide(scores, chosen, "multi_label").tolist() == [[0, 1, 0], [0, 1, 1]]
    assert decide(scores, PLAIN, "softmax").tolist() == [1, 0]
    equal = np.array([[0.2, 0.4, 0.4], [0.5, 0.5, 0.0]])
    assert decide(equal, PLAIN, "sigmoid").tolist() == [1, 0]


# ---- Mistakes.


def test_no_usable_examples():
    with pytest.raises(ConfigError, match="no example of split 'val' can be read"):
        fit(make_outcomes(np.zeros((0, 2)), np.zeros(0, int)), "val")
    bad = dataclasses.replace(draw("softmax", 1.0, 5), logits=np.full((5, 4), np.nan))
    with pytest.raises(TrainingError, match="not finite"):
        fit(bad)


# ---- In the checkpoint.


def save_steps(workdir, *steps: int, keep: int = 2):
    config = default_config()
    config.checkpoint.keep_last = keep
    info = DataInfo(("a", "b = c"), True, (8, 8, 1))
    checkpointer = Checkpointer(str(workdir), config, info)
    state = TrainState(jnp.int32(7), {"w": jnp.arange(3.0)}, {}, optax.EmptyState(), None)
    for step in steps:
        checkpointer.save(step, state)
    checkpointer.close()
    return config, info, state


def test_saved_in_the_checkpoint(tmp_path):
    names = save_steps(tmp_path, 1)[1].class_names
    assert calibration.load_calibration(find_checkpoint(tmp_path), names) is PLAIN
    chosen = Calibration(1.7, np.array([0.1 + 0.2, 0.9]), "val[:50%]", 12)
    path = calibration.save_calibration(find_checkpoint(tmp_path), chosen, names)
    assert path == tmp_path / "checkpoints" / "1" / "calibration.json"
    for folder in (tmp_path, path.parent):
        found = calibration.load_calibration(find_checkpoint(folder), names)
        assert found.thresholds.tolist() == [0.1 + 0.2, 0.9]
        assert dataclasses.replace(found, thresholds=None) == Calibration(
            1.7, None, "val[:50%]", 12
        )


def test_restored_and_removed_with_the_checkpoint(tmp_path):
    """Orbax restores a checkpoint that contains it, and later removes both."""
    _, info, state = save_steps(tmp_path, 1)
    first = calibration.save_calibration(
        find_checkpoint(tmp_path), Calibration(2.0), info.class_names
    )
    config = default_config()
    config.checkpoint.keep_last = 1
    checkpointer = Checkpointer(str(tmp_path), config, info)
    assert checkpointer.latest_step == 1
    restored = checkpointer.restore(state, 1)
    np.testing.assert_array_equal(restored.params["w"], [0, 1, 2])
    assert find_checkpoint(tmp_path).read_meta()[1].class_names == info.class_names
    checkpointer.save(2, state)
    checkpointer.close()
    assert find_checkpoint(tmp_path).step == 2 and not first.parent.exists()
    # A calibration of other parameters is not used for these.
    assert calibration.load_calibration(find_checkpoint(tmp_path), info.class_names) is PLAIN


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"temperature": 1.0}',
        json.dumps({"temperature": 0, "thresholds": None}),
        json.dumps({"temperature": 1, "thresholds": {"a": 0.5}}),
        json.dumps({"temperature": 1, "thresholds": None, "temprature": 2}),
    ],
)
def test_invalid_file(tmp_path, text):
    folder = tmp_path / "checkpoint"
    for name in NEEDED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    (folder / "calibration.json").write_text(text)
    with pytest.raises(ConfigError, match="calibration.json: not a calibration .*calibrate again"):
        calibration.load_calibration(find_checkpoint(folder), ("a", "b"))
