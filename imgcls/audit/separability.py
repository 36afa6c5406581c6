"""How well one property alone tells the classes apart: held-out balanced accuracy, tested exactly.

The classifier is the simplest there is, Bayes' rule on a histogram with all classes taken as
equally frequent. It needs nothing but counts, so that thousands of permutations cost seconds.
"""

from typing import NamedTuple

import numpy as np

FOLDS = 5
BINS = 16
# Weight of a bin's share among all examples in the share that it has within a class, in examples.
_PRIOR = 2.0


class Binned(NamedTuple):
    """A property of N examples, cut into R bins.

    Attributes:
      bins: int `[N]`.
      smoother: `[R, R]`, what a bin's count takes from its neighbours' before the rule is made.
    """

    bins: np.ndarray
    smoother: np.ndarray


class Scores(NamedTuple):
    """Of P properties and K classes.

    Attributes:
      overall: `[P]`, balanced accuracy of telling all classes apart; the baseline is 1 / K.
      by_class: `[P, K]`, balanced accuracy of telling a class from all others; the baseline is 1/2.
    """

    overall: np.ndarray
    by_class: np.ndarray


class Tested(NamedTuple):
    """Scores with permutation p-values (Phipson & Smyth 2010: (b + 1) / (m + 1)).

    Attributes:
      scores: of the true labels.
      p_overall: `[P]`.
      p_by_class: `[P, K]`, each already corrected for the K classes (Westfall & Young's maxT).
    """

    scores: Scores
    p_overall: np.ndarray
    p_by_class: np.ndarray


def bin_ordered(values: np.ndarray, most: int = BINS) -> Binned:
    """Bins of about equal counts; missing values (NaN) have one of their own.

    Args:
      values: float `[N]`.
      most: number of bins of the values that are there.
    """
    there = np.isfinite(values)
    distinct = np.unique(values[there])
    if len(distinct) <= most:
        edges = distinct[1:]
    else:
        edges = np.unique(np.quantile(values[there], np.arange(1, most) / most))
    bins = np.where(there, np.searchsorted(edges, values, side="right"), len(edges) + 1)
    smoother = np.eye(len(edges) + 2)
    inner = smoother[:-1, :-1]
    inner += 0.5 * (np.eye(len(inner), k=1) + np.eye(len(inner), k=-1))
    return Binned(bins, smoother)


def bin_circular(degrees: np.ndarray, bins: int = BINS) -> Binned:
    """Equal arcs of a circle, of which the last is the neighbour of the first, and one bin of NaN.

    Args:
      degrees: float `[N]`, from 0 to below 360.
      bins: number of arcs.
    """
    there = np.isfinite(degrees)
    arcs = (np.where(there, degrees, 0) * bins / 360).astype(int) % bins
    smoother = np.eye(bins + 1)
    smoother[:bins, :bins] += (np.roll(np.eye(bins), 1, 0) + np.roll(np.eye(bins), -1, 0)) / 2
    return Binned(np.where(there, arcs, bins), smoother)


def bin_categories(values: np.ndarray, most: int = 2 * BINS) -> Binned:
    """A bin for each of the most frequent values, and one for all others.

    Args:
      values: `[N]` of any sortable type.
      most: number of bins.
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), int)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    bins = np.minimum(rank[inverse], most - 1)
    return Binned(bins, np.eye(bins.max() + 1))


def test(properties: list[Binned], targets: np.ndarray, permutations: int, seed: int) -> Tested:
    """Tests P properties against the labels of N examples.

    The folds spread every class evenly. A permutation exchanges examples within folds, for all
    properties alike, so every statistic is exact under the hypothesis that a property has nothing
    to do with the labels, however unbalanced the classes.

    Args:
      properties: of the same N examples.
      targets: bool `[N, K]`; every class has members and is not everything.
      permutations: their number m; no p-value is below 1 / (m + 1).
      seed: of folds and permutations.
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
    """p-values `[M]` corrected for their number (Holm 1979), so that alpha is family-wise."""
    order = np.argsort(p, kind="stable")
    scaled = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(scaled, 1)
    return corrected


def _folds(targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A fold `[N]` for each example: those of equal labels are dealt out in turn."""
    shuffled = rng.permutation(len(targets))
    _, alike = np.unique(targets[shuffled], axis=0, return_inverse=True)
    folds = np.empty(len(targets), int)
    folds[shuffled[np.argsort(alike.reshape(-1), kind="stable")]] = np.arange(len(targets)) % FOLDS
    return folds


class _Tables:
    """Counts of (property, fold, bin, class), and the scores that follow from them."""

    def __init__(self, properties: list[Binned], targets: np.ndarray, folds: np.ndarray):
        self._count, self._classes = len(properties), targets.shape[1]
        self._rows = max(len(p.smoother) for p in properties)
        # `[P, R, R]`: bins that a property does not have stay empty.
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
        # Examples and class members by fold and bin: the first do not change by permutation.
        self._examples = self._table(np.bincount(self._cells.ravel(), minlength=self._size()), 1)

    def permute(self, rng: np.random.Generator) -> np.ndarray:
        """An order `[N]` that keeps every example in its fold."""
        order = np.empty(self._total, int)
        for members in self._fold_members:
            order[members] = rng.permutation(members)
        return order

    def null_spread(self) -> np.ndarray:
        """`[K]`, to which the spread of `by_class` is proportional when there is no relation."""
        return np.sqrt(1 / self._members + 1 / (self._total - self._members)) / 2

    def scores(self, order: np.ndarray) -> Scores:
        """Scores when example i has the properties of example `order[i]`."""
        cells = self._cells[:, order[self._example]] * self._classes + self._class
        counts = np.bincount(cells.ravel(), minlength=self._size() * self._classes)
        inside = self._table(counts, self._classes)
        within, others = self._shares(inside), self._shares(self._examples - inside)
        # Each class against all others.
        yes = within > others
        hit = (inside * yes).sum((1, 2)) / self._members
        false = ((self._examples - inside) * yes).sum((1, 2)) / (self._total - self._members)
        # All classes against each other.
        chosen = within.argmax(-1)[..., None] == np.arange(self._classes)
        overall = ((inside * chosen).sum((1, 2)) / self._members).mean(-1)
        return Scores(overall, (hit + 1 - false) / 2)

    def _shares(self, inside: np.ndarray) -> np.ndarray:
        """Of held-out counts `[P, F, R, K]`: each bin's share in its class in the other folds."""
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
