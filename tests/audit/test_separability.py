"""Scores of properties against loops and scikit-learn, and the distribution of p-values."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from imgcls.audit import separability
from imgcls.audit.separability import (
    Binned,
    bin_categories,
    bin_circular,
    bin_ordered,
)


def rule(bins, smoother, member, folds, fold):
    """Computes `_shares` by loops: the share of each bin in a class, without one fold."""
    rows = len(smoother)
    counts = np.zeros(rows)
    for b in bins[(folds != fold) & member]:
        counts[b] += 1
    smooth = [sum(smoother[i, j] * counts[j] for j in range(rows)) for i in range(rows)]
    everyone = [(bins == i).mean() for i in range(rows)]
    total = counts.sum()
    scaled = [s / max(sum(smooth), 1e-12) * total for s in smooth]
    return [(s + 2.0 * e) / (total + 2.0) for s, e in zip(scaled, everyone, strict=True)]


def reference(prop: Binned, targets, folds):
    """Computes balanced accuracies with scikit-learn: of all classes, and of each one."""
    classes = targets.shape[1]
    guess, yes = np.zeros(len(targets), int), np.zeros(targets.shape, bool)
    for fold in np.unique(folds):
        parts = (prop.bins, prop.smoother)
        shares = [rule(*parts, targets[:, c], folds, fold) for c in range(classes)]
        others = [rule(*parts, ~targets[:, c], folds, fold) for c in range(classes)]
        for i in np.flatnonzero(folds == fold):
            b = prop.bins[i]
            guess[i] = np.argmax([s[b] for s in shares])
            yes[i] = [s[b] > o[b] for s, o in zip(shares, others, strict=True)]
    by_class = [balanced_accuracy_score(targets[:, c], yes[:, c]) for c in range(classes)]
    return balanced_accuracy_score(targets.argmax(1), guess), by_class


def draw(count=150, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    values = rng.normal(size=count) + 0.4 * labels
    props = [bin_ordered(values), bin_circular(rng.random(count) * 360), bin_categories(labels % 2)]
    return props, labels[:, None] == np.arange(classes)


def test_scores_equal_scikit_learn():
    props, targets = draw()
    found = separability.test(props, targets, 0, seed=3).scores
    folds = separability._folds(targets, np.random.default_rng(3))
    for i, prop in enumerate(props):
        overall, by_class = reference(prop, targets, folds)
        np.testing.assert_allclose(found.overall[i], overall, atol=1e-12)
        np.testing.assert_allclose(found.by_class[i], by_class, atol=1e-12)


def test_multi_label_is_scored_by_class():
    props, _ = draw()
    targets = np.random.default_rng(1).random((150, 3)) < 0.3
    found = separability.test(props, targets, 0, seed=3).scores
    folds = separability._folds(targets, np.random.default_rng(3))
    for c in range(3):
        yes = np.zeros(len(targets), bool)
        for fold in range(separability.FOLDS):
            held = folds == fold
            parts = (props[0].bins, props[0].smoother)
            mine = np.array(rule(*parts, targets[:, c], folds, fold))
            rest = np.array(rule(*parts, ~targets[:, c], folds, fold))
            yes[held] = (mine > rest)[props[0].bins[held]]
        expected = balanced_accuracy_score(targets[:, c], yes)
        np.testing.assert_allclose(found.by_class[0, c], expected, atol=1e-12)


def test_folds_are_stratified():
    _, targets = draw()
    folds = separability._folds(targets, np.random.default_rng(0))
    for column in targets.T:
        assert np.ptp(np.bincount(folds[column], minlength=separability.FOLDS)) <= 1
    assert np.ptp(np.bincount(folds)) <= 1


def test_p_values_equal_those_of_a_plain_permutation_test():
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], [60, 20])
    prop = bin_ordered(rng.normal(size=80) + 0.3 * labels, most=4)
    targets = labels[:, None] == np.arange(2)
    m = 999
    tested = separability.test([prop], targets, m, seed=0)
    folds = separability._folds(targets, np.random.default_rng(0))
    above = 0
    for _ in range(m):
        order = np.arange(80)
        for fold in range(separability.FOLDS):
            inside = np.flatnonzero(folds == fold)
            order[inside] = rng.permutation(inside)
        drawn, _ = reference_fast(prop, targets, folds, order)
        above += drawn >= tested.scores.overall[0] - 1e-12
    p = (above + 1) / (m + 1)
    assert 0.01 < p < 0.5
    # Two estimates of a p-value, each from m permutations, agree within four standard errors.
    assert abs(tested.p_overall[0] - p) < 4 * np.sqrt(2 * p * (1 - p) / m)


def reference_fast(prop, targets, folds, order):
    """Computes `reference` for two classes and permuted examples, by matrix products."""
    bins, rows = prop.bins[order], len(prop.smoother)
    onehot = np.eye(rows)[bins]
    right = np.zeros(len(bins), bool)
    for fold in range(separability.FOLDS):
        train = folds != fold
        shares = []
        for c in range(2):
            counts = onehot[train & targets[:, c]].sum(0)
            smooth = prop.smoother @ counts
            shares.append(
                (smooth / smooth.sum() * counts.sum() + 2 * onehot.mean(0)) / (counts.sum() + 2)
            )
        guess = np.argmax(shares, 0)[bins]
        right |= (folds == fold) & targets[np.arange(len(bins)), guess]
    return np.mean([right[column].mean() for column in targets.T]), None


@pytest.mark.parametrize("shares", [(0.9, 0.1), (0.5, 0.3, 0.2)])
def test_p_values_are_uniform_under_independence(shares):
    runs, m = 200, 99
    p, p_class = [], []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(len(shares)), np.round(np.array(shares) * 80).astype(int))
        prop = bin_ordered(rng.normal(size=len(labels)))
        tested = separability.test([prop], labels[:, None] == np.arange(len(shares)), m, seed)
        p.append(tested.p_overall[0])
        p_class.append(tested.p_by_class[0].min())
    for values in (np.array(p), np.array(p_class)):
        for level in (0.05, 0.2, 0.5):
            # Of 200 tests, not more than expected by chance, nor far fewer (ties make p larger).
            error = np.sqrt(level * (1 - level) / runs)
            assert (values <= level).mean() <= level + 3 * error
            assert (values <= level).mean() >= 0.6 * level - 3 * error


def test_holm():
    # By hand: 4 * 0.01, 3 * 0.02, then the maximum so far, 1 * 0.05.
    p = np.array([0.05, 0.01, 0.025, 0.02])
    np.testing.assert_allclose(separability.holm(p), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(separability.holm(np.array([0.6, 0.7])), [1, 1])


def test_ordered_bins():
    values = np.random.default_rng(0).permutation(np.arange(1600.0))
    found = bin_ordered(values, 16)
    assert (np.bincount(found.bins) == 100).all()
    assert (np.diff(found.bins[np.argsort(values)]) >= 0).all()
    # Few values have one bin each; missing values have a separate bin without neighbors.
    found = bin_ordered(np.array([75.0, 90, np.nan, 75, 90, 100]), 16)
    assert found.bins.tolist() == [0, 1, 3, 0, 1, 2]
    assert found.smoother[1].tolist() == [0.5, 1, 0.5, 0]
    assert found.smoother[3].tolist() == [0, 0, 0, 1]


def test_circular_bins_wrap_around():
    found = bin_circular(np.array([0.0, 359.9, 180.0, np.nan]), 4)
    assert found.bins.tolist() == [0, 3, 2, 4]
    assert found.smoother[0].tolist() == [1, 0.5, 0, 0.5, 0]


def test_rare_categories_share_a_bin():
    found = bin_categories(np.array(["a", "b", "b", "c", "b", "a", "d"]), most=3)
    assert found.bins.tolist() == [1, 0, 0, 2, 0, 1, 2]
