"""Accuracy of videos by their length."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from imgcls.core.errors import DataError
from imgcls.data.create import create_reader
from imgcls.data.transforms.transform import takes_videos
from imgcls.report.results import Results

# Largest number of bins, smallest number of videos in one, and smallest ratio of its bounds.
BINS, FEWEST, RATIO = 6, 5, 1.1


@dataclasses.dataclass(frozen=True)
class Bin:
    """Videos of similar length.

    Attributes:
      low, high: length of the shortest and the longest one, in seconds.
      examples, correct: number of videos, and of those whose labels are predicted exactly.
      interval: 95 % interval of the accuracy (Wilson 1927, J. Am. Stat. Assoc. 22).
    """

    low: float
    high: float
    examples: int
    correct: int
    interval: tuple[float, float]

    @property
    def accuracy(self) -> float:
        return self.correct / self.examples


def by_length(results: Results) -> list[Bin]:
    """The bins of the evaluated videos; [] for images, and for videos of equal or unknown length.

    A video of a multi-label model is correct if all of its decisions are.
    """
    config, labels = results.trained.config, results.predictions.labels
    if not takes_videos(config.data.eval_transform, "config.data.eval_transform"):
        return []
    correct = results.decisions == labels
    seconds = read_seconds(results)
    return make_bins(seconds, correct.all(1) if results.multi_label else correct)


def read_seconds(results: Results) -> np.ndarray:
    """The length of each evaluated video in seconds, float `[N]`; NaN where it is unknown."""
    reader = create_reader(results.trained.config, results.source, train=False)

    def read(index: int) -> float:
        try:
            return reader.duration(index) or np.nan
        except DataError:
            return np.nan

    # Their packets have been indexed for the predictions; the files are read once more.
    with ThreadPoolExecutor(results.trained.config.data.threads) as pool:
        return np.array(list(pool.map(read, map(int, results.predictions.index))), float)


def make_bins(seconds: np.ndarray, correct: np.ndarray) -> list[Bin]:
    """Divides videos by their length into bins of about equally many.

    Args:
      seconds: float `[N]`; NaN is left out.
      correct: bool `[N]`.

    Returns:
      Bins from short to long; [] if there would be a single one, because most are equally long or
      there are few videos.
    """
    from scipy.stats import binomtest

    known = np.isfinite(seconds)
    seconds, correct = seconds[known], correct[known]
    count = min(BINS, len(seconds) // FEWEST)
    if count < 2:
        return []
    edges = [float(seconds.min())]
    for edge in np.quantile(seconds, np.arange(1, count) / count, method="higher").tolist():
        # The lengths of most videos of a data set may be equal, up to rounding.
        if edge >= RATIO * edges[-1]:
            edges.append(edge)
    number = np.searchsorted(edges, seconds, side="right") - 1
    bins = []
    for members in (np.flatnonzero(number == n) for n in range(len(edges))):
        hits, lengths = int(correct[members].sum()), seconds[members]
        interval = binomtest(hits, len(members)).proportion_ci(method="wilson")
        bounds = (float(interval.low), float(interval.high))
        bins.append(Bin(float(lengths.min()), float(lengths.max()), len(members), hits, bounds))
    return bins if len(bins) > 1 else []
