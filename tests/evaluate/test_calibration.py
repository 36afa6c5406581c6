"""Fitting a temperature and thresholds, and storing them in the checkpoint."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
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
from imgcls.runs.checksums import REQUIRED_FILES
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
    """By the log loss of scikit-learn and the normal density of SciPy, on few examples."""
    rng = np.random.default_rng(3)
    outcomes = make_outcomes(rng.normal(0, 3, (60, 3)), rng.integers(0, 3, 60))
    logits = outcomes.logits.astype(np.float64)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 301))
    losses = [sk.log_loss(outcomes.labels, softmax(logits / t), normalize=False) for t in grid]
    losses -= scipy.stats.norm.logpdf(np.log(grid), 0, np.log(2))
    assert fit(outcomes).temperature == pytest.approx(grid[np.argmin(losses)], rel=0.011)


def slope(temperature: float, margin: float, count: int) -> float:
    """Derivative by log T if `count` decisions at a margin are correct with probability 3/4."""
    z = margin / temperature
    return count * (3 / 4 - sigmoid(z)) * z + np.log(temperature) / np.log(2) ** 2


@pytest.mark.parametrize("repeats", [8, 1000])
def test_temperature_by_hand(repeats):
    """Three of four correct at a margin m: the best probability is about 3/4, m / T = log 3."""
    logits = np.array([[0.0, 5.0]] * 4 * repeats)
    for z, task in ((logits, "softmax"), (logits[:, 1:], "binary")):
        found = fit(make_outcomes(z, [1, 1, 0, 1] * repeats, task))
        assert slope(found.temperature, 5, 4 * repeats) == pytest.approx(0, abs=1e-3 * repeats)
        assert found.temperature == pytest.approx(5 / np.log(3), rel=4 / repeats)
        assert found.thresholds is None and found.note == ""


def test_sigmoid_of_single_labels():
    """K binary decisions: of 8 at a distance of 2 from 0, 6 are correct."""
    logits = [[2.0, -2.0], [2.0, -2.0], [2.0, -2.0], [-2.0, 2.0]] * 5000
    outcomes = make_outcomes(logits, [0, 0, 1, 1] * 5000, "sigmoid")
    assert slope(fit(outcomes).temperature, 2, 40_000) == pytest.approx(0, abs=1)
    scores = apply(outcomes, fit(outcomes)).scores
    np.testing.assert_allclose(scores[0], [0.75, 0.25], rtol=1e-3)


@pytest.mark.parametrize("task", ["softmax", "sigmoid", "binary", "multi_label"])
@pytest.mark.parametrize("errors", [0, 1, 4, 5])
def test_too_few_errors_for_a_temperature(task, errors):
    """Without errors, the likelihood alone would choose the lowest temperature allowed."""
    labels = np.arange(100) % 2
    logits = np.where(labels, 1.0, -1.0)[:, None] * (1 if task == "binary" else [-1, 1])
    logits[:errors] *= -1
    hot = np.eye(2, dtype=np.uint8)[labels]
    if task == "multi_label":
        # An error is a decision, so that each of these examples has two.
        logits[:errors, 0] *= -1
    found = fit(make_outcomes(logits, hot if task == "multi_label" else labels, task))
    notes = {0: "0 errors, fewer than 5", 1: "1 error, fewer than 5", 4: "4 errors, fewer than 5"}
    assert found.note == notes.get(errors, "")
    assert (found.temperature == 1) == (errors < 5)
    assert str(found).startswith(f"temperature {found.temperature:.4g}")


def test_temperature_is_kept_only_if_held_out_examples_gain():
    """Small splits of a calibrated model: the best temperature of each differs from 1 by chance."""
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(50):
        true = rng.normal(0, 2, (30, 2))
        labels = (rng.uniform(size=30) < softmax(true)[:, 1]).astype(int)
        found = fit(make_outcomes(true, labels))
        kept += found.temperature != 1
        assert bool(found.note) == (found.temperature == 1)
    assert kept < 25
    # No temperature improves uninformative logits.
    found = fit(make_outcomes(np.zeros((30, 2)), [0, 1, 1] * 10))
    assert (found.temperature, found.note) == (
        1.0,
        "no other temperature is better on held-out examples",
    )


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
    """Of the examples, one positive just above 0.5 and one negative just below."""
    rng = np.random.default_rng(seed)
    # Rounded, so that there are many ties.
    scores = sigmoid(np.round(rng.normal(0, 2, (50, 4)), seed % 2) + 0.01)
    labels = rng.uniform(size=(50, 4)) < scores / 2
    for c in range(4):
        threshold = best_threshold(scores[:, c], labels[:, c])
        with_prior = np.append(scores[:, c], (0.5 + 1e-9, 0.5 - 1e-9))
        known = np.append(labels[:, c], (True, False))
        best = best_f1(with_prior, known)
        assert sk.f1_score(known, with_prior >= threshold) == pytest.approx(best, abs=1e-12)
        # Never equal to a score: rounding on another machine does not change a prediction.
        assert np.min(np.abs(scores[:, c] - threshold)) > 1e-4


def test_threshold_by_hand():
    labels = np.array([True] * 5 + [False] * 3)
    # Separable at 0.5.
    scores = np.array([0.9, 0.8, 0.9, 0.7, 0.9, 0.3, 0.1, 0.2])
    assert best_threshold(scores, labels) == pytest.approx(0.5)
    # All scores are below 0.5 or equal to it.
    assert best_threshold(scores / 3, labels) == pytest.approx((0.7 + 0.3) / 6)
    assert best_threshold(np.where(labels, 0.5, 0.2), labels) == pytest.approx(0.35)
    assert best_threshold(np.where(labels, 0.8, 0.5), labels) == pytest.approx(0.65)
    # Separable elsewhere: without the prior 0.7; with it 10 / 11 at 0.7 and 12 / 13 at 0.5.
    scores = np.array([0.9, 0.8, 0.9, 0.8, 0.9, 0.6, 0.1, 0.2])
    assert best_threshold(scores, labels) == pytest.approx(0.5)
    # Two of the negatives above 0.5: 10 / 11 at 0.7, 12 / 14 at 0.5.
    scores = np.array([0.9, 0.8, 0.9, 0.8, 0.9, 0.6, 0.6, 0.2])
    assert best_threshold(scores, labels) == pytest.approx(0.7)
    # One negative above all: F1 is 12 / 14 at 0.35, and lower elsewhere.
    scores = np.array([0.5, 0.6, 0.5, 0.4, 0.6, 0.9, 0.3, 0.2])
    assert best_threshold(scores, labels) == pytest.approx(0.35)


def test_highest_of_equally_good_thresholds():
    """F1 is 2 / 3 for 6 of 12 positives without false ones, and for all examples."""
    labels = np.array([True] * 11 + [False] * 11)
    scores = np.array([0.9] * 6 + [0.2] * 5 + [0.8] * 11)
    both = np.append(scores, (0.5 + 1e-9, 0.5 - 1e-9)), np.append(labels, (True, False))
    cuts = {cut: sk.f1_score(both[1], both[0] >= cut) for cut in (0.85, 0.5, 0.1)}
    assert cuts[0.85] == pytest.approx(2 / 3) and cuts[0.1] == pytest.approx(2 / 3)
    assert cuts[0.5] < 2 / 3
    assert best_threshold(scores, labels) == pytest.approx(0.85)


@pytest.mark.parametrize("positives", [0, 4, 5])
def test_few_positives_keep_the_default(positives):
    labels = np.arange(20) < positives
    logits = np.where(labels, 3.0, 2.0)[:, None]
    found = fit(make_outcomes(logits, labels[:, None].astype(np.uint8), "multi_label"))
    scores = sigmoid(logits / found.temperature)
    between = (scores[0] + scores[-1]) / 2
    np.testing.assert_allclose(found.thresholds, between if positives == 5 else 0.5, rtol=1e-6)
    fitted = "1 of 1 classes" if positives == 5 else "0 of 1 classes (0.5 for the others)"
    assert str(found).endswith(f" and thresholds for {fitted}")


def test_threshold_is_kept_only_if_held_out_examples_gain():
    """Labels drawn with the scores as probabilities, where 0.5 is good; and shifted ones."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (60, 40))
    draws = rng.uniform(size=logits.shape)
    thresholds = [
        fit(make_outcomes(logits, (draws < sigmoid(logits - d)).astype(np.uint8), "multi_label"))
        for d in (0, 4)
    ]
    kept = [int(np.sum(found.thresholds != 0.5)) for found in thresholds]
    assert kept[0] < 20 < kept[1]
    # A class without errors has nothing to gain.
    perfect = make_outcomes(logits, (logits > 0).astype(np.uint8), "multi_label")
    found = fit(perfect)
    assert found.temperature == 1 and found.note == "0 errors, fewer than 5"
    assert (found.thresholds == 0.5).all()


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
    for name in REQUIRED_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    (folder / "calibration.json").write_text(text)
    with pytest.raises(ConfigError, match="calibration.json: not a calibration .*calibrate again"):
        calibration.load_calibration(find_checkpoint(folder), ("a", "b"))
