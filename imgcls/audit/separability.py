"""How well one property alone separates the classes: held-out balanced accuracy and exact p-values.

The classifier is Bayes' rule on a histogram, with equal priors for all classes. It needs only
counts, so thousands of permutations take seconds.
"""

from typing import NamedTuple

import numpy as np

FOLDS = 5
BINS = 16
# Pseudo-count, in examples, that pulls the histogram of a class towards that of all examples.
_PRIOR = 2.0


class Binned(NamedTuple):
    """A property of N examples, divided into R bins.

    Attributes:
      bins: int `[N]`, bin of each example.
      smoother: `[R, R]`, weights by which the counts of neighboring bins are added to a bin's own.
    """

    bins: np.ndarray
    smoother: np.ndarray


class Scores(NamedTuple):
    """Scores of P properties on K classes.

    Attributes:
      overall: `[P]`, balanced accuracy of separating all classes; the baseline is 1 / K.
      by_class: `[P, K]`, balanced accuracy of each class against all others; the baseline is 1/2.
    """

    overall: np.ndarray
    by_class: np.ndarray


class Tested(NamedTuple):
    """Scores with permutation p-values (Phipson & Smyth 2010: (b + 1) / (m + 1)).

    Attributes:
      scores: scores on the true labels.
      p_overall: `[P]`, p-values of `scores.overall`.
      p_by_class: `[P, K]`, p-values of `scores.by_class`, corrected for the K classes (Westfall &
        Young's maxT).
    """

    scores: Scores
    p_overall: np.ndarray
    p_by_class: np.ndarray


def bin_ordered(values: np.ndarray, most: int = BINS) -> Binned:
    """Divides values into bins of about equal counts, with an extra bin for missing values.

    Args:
      values: float `[N]`; NaN is missing.
      most: largest number of bins, without the extra one.
    """
    present = np.isfinite(values)
    distinct = np.unique(values[present])
    if len(distinct) <= most:
        edges = distinct[1:]
    else:
        edges = np.unique(np.quantile(values[present], np.arange(1, most) / most))
    bins = np.where(present, np.searchsorted(edges, values, side="right"), len(edges) + 1)
    smoother = np.eye(len(edges) + 2)
    inner = smoother[:-1, :-1]
    inner += 0.5 * (np.eye(len(inner), k=1) + np.eye(len(inner), k=-1))
    return Binned(bins, smoother)


def bin_circular(degrees: np.ndarray, bins: int = BINS) -> Binned:
    """Divides angles into equal arcs of a circle, with an extra bin for missing values.

    Args:
      degrees: float `[N]` in [0, 360); NaN is missing.
      bins: number of arcs.
    """
    present = np.isfinite(degrees)
    arcs = (np.where(present, degrees, 0) * bins / 360).astype(int) % bins
    smoother = np.eye(bins + 1)
    smoother[:bins, :bins] += (np.roll(np.eye(bins), 1, 0) + np.roll(np.eye(bins), -1, 0)) / 2
    return Binned(np.where(present, arcs, bins), smoother)


def bin_categories(values: np.ndarray, most: int = 2 * BINS) -> Binned:
    """Makes a bin for each of the most frequent values, and one for all others.

    Args:
      values: `[N]` of any sortable type.
      most: largest number of bins.
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), int)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    bins = np.minimum(rank[inverse], most - 1)
    return Binned(bins, np.eye(bins.max() + 1))


def test(properties: list[Binned], targets: np.ndarray, permutations: int, seed: int) -> Tested:
    """Tests P properties against the labels of N examples.

    The folds are stratified. A permutation exchanges examples within folds, in the same way for all
    properties, so the p-values are exact under the hypothesis that a property is independent of the
    labels, whatever the class balance.

    Args:
      properties: P properties of the same N examples.
      targets: bool `[N, K]`, the labels; every class has members and non-members.
      permutations: number of permutations m; no p-value is below 1 / (m + 1).
      seed: seed of folds and permutations.
    """
    rng = np.random.default_rng(seed)
    table = _Tables(properties, targets, _folds(targets, rng))
    order = np.arange(len(targets))
    scores = table.scores(order)
    spread = table.null_spread()
    worst = (scores.by_class - 0.5) / spread
    above, above_class = np.zeros(scores.overall.shape), np.zeros(scores.by_class.shape)
    for _ in range(permutations):
        drawn = table.scores(table.permute(rng))
        above += drawn.overall >= scores.overall - 1e-12
        highest = ((drawn.by_class - 0.5) / spread).max(1, keepdims=True)
        above_class += highest >= worst - 1e-12
    return Tested(scores, (above + 1) / (permutations + 1), (above_class + 1) / (permutations + 1))


def holm(p: np.ndarray) -> np.ndarray:
    """Corrects p-values `[M]` for the family-wise error rate (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    scaled = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(scaled, 1)
    return corrected


def _folds(targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Assigns each example to a fold, int `[N]`: examples with equal labels go to folds in turn."""
    shuffled = rng.permutation(len(targets))
    _, labels = np.unique(targets[shuffled], axis=0, return_inverse=True)
    order = np.argsort(labels.reshape(-1), kind="stable")
    folds = np.empty(len(targets), int)
    folds[shuffled[order]] = np.arange(len(targets)) % FOLDS
    return folds


class _Tables:
    """Counts by (property, fold, bin, class), and the scores computed from them."""

    def __init__(self, properties: list[Binned], targets: np.ndarray, folds: np.ndarray):
        self._count, self._classes = len(properties), targets.shape[1]
        self._rows = max(len(p.smoother) for p in properties)
        # `[P, 1, R, R]`; bins that a property lacks are empty.
        self._smoother = np.zeros((self._count, 1, self._rows, self._rows))
        for i, p in enumerate(properties):
            self._smoother[i, 0, : len(p.smoother), : len(p.smoother)] = p.smoother
        bins = np.stack([p.bins for p in properties])
        first = np.arange(self._count)[:, None] * FOLDS
        # `[P, N]`: the (property, fold, bin) of each example.
        self._cells = ((first + folds) * self._rows + bins).astype(np.int64)
        self._example, self._class = np.nonzero(targets)
        self._members = targets.sum(0)
        self._total = len(targets)
        self._fold_members = [np.flatnonzero(folds == f) for f in range(FOLDS)]
        # The number of examples by fold and bin does not change in a permutation.
        self._examples = self._table(np.bincount(self._cells.ravel(), minlength=self._size()), 1)

    def permute(self, rng: np.random.Generator) -> np.ndarray:
        """Returns a random order `[N]` that keeps every example in its fold."""
        order = np.empty(self._total, int)
        for members in self._fold_members:
            order[members] = rng.permutation(members)
        return order

    def null_spread(self) -> np.ndarray:
        """Returns `[K]`, proportional to the standard deviation of `by_class` by chance."""
        return np.sqrt(1 / self._members + 1 / (self._total - self._members)) / 2

    def scores(self, order: np.ndarray) -> Scores:
        """Returns the scores if example i had the properties of example `order[i]`."""
        cells = self._cells[:, order[self._example]] * self._classes + self._class
        counts = np.bincount(cells.ravel(), minlength=self._size() * self._classes)
        inside = self._table(counts, self._classes)
        within, others = self._shares(inside), self._shares(self._examples - inside)
        # Each class against all others.
        predicted = within > others
        recall = (inside * predicted).sum((1, 2)) / self._members
        outside = self._total - self._members
        false_positives = ((self._examples - inside) * predicted).sum((1, 2)) / outside
        # All classes against each other.
        chosen = within.argmax(-1)[..., None] == np.arange(self._classes)
        overall = ((inside * chosen).sum((1, 2)) / self._members).mean(-1)
        return Scores(overall, (recall + 1 - false_positives) / 2)

    def _shares(self, inside: np.ndarray) -> np.ndarray:
        """Returns the share of each bin in its class, estimated for a fold on the other folds.

        Args:
          inside: counts by property, fold, bin and class, `[P, F, R, K]`.
        """
        train = inside.sum(1, keepdims=True) - inside
        prior = self._examples.sum(1, keepdims=True) / self._total
        smooth = self._smoother @ train
        smooth /= np.maximum(smooth.sum(2, keepdims=True), 1e-12)
        total = train.sum(2, keepdims=True)
        return (smooth * total + _PRIOR * prior) / (total + _PRIOR)

    def _table(self, counts: np.ndarray, last: int) -> np.ndarray:
        return counts.reshape(self._count, FOLDS, self._rows, last).astype(np.float64)

    def _size(self) -> int:
        return self._count * FOLDS * self._rows
