"""Copies of videos: re-encoded ones, and those that are a part of another."""

from collections.abc import Iterator

import numpy as np

from imgcls.audit.hashes import MAX_BITS, MIN_CORRELATION, hamming
from imgcls.audit.videos import STEP, Prints

# Frames of each video that are searched for in all others, and how many must be found.
QUERIES, MIN_FOUND = 4, 3
# Videos that are searched for at a time.
_BLOCK = 16


def find_copies(prints: list[Prints]) -> tuple[np.ndarray, np.ndarray]:
    """Finds pairs of videos of which one shows frames of the other, at the same distances.

    Four frames of each video, evenly spaced, are compared with those of all others. At least three
    must be found at one shift in time, which is not zero for a copy that is cut at its start.

    Args:
      prints: those of N videos.

    Returns:
      Pairs int `[M, 2]`, first < second, most similar first, and the mean correlation of their
      frames, float `[M]`.
    """
    owner = np.repeat(np.arange(len(prints)), [len(p.hashes) for p in prints])
    starts = np.concatenate([[0], np.cumsum([len(p.hashes) for p in prints])])
    hashes, times = (
        np.concatenate(x) for x in ([p.hashes for p in prints], [p.times for p in prints])
    )
    flat = np.concatenate([p.flat for p in prints])
    thumbs = np.concatenate([p.thumbs for p in prints]).reshape(len(hashes), -1)
    step = np.array([max(STEP, float(np.diff(p.times).max(initial=0))) for p in prints])
    best: dict[tuple[int, int], float] = {}
    for first in range(0, len(prints), _BLOCK):
        block = range(first, min(first + _BLOCK, len(prints)))
        queries = np.concatenate(
            [_choose(flat[starts[i] : starts[i + 1]]) + starts[i] for i in block]
        )
        if not len(queries):
            continue
        q, f = np.nonzero(hamming(hashes[queries, None], hashes[None]) <= MAX_BITS)
        kept = (owner[queries[q]] != owner[f]) & ~flat[f]
        q, f = queries[q[kept]], f[kept]
        correlation = _correlate(thumbs, q, f)
        kept = correlation >= MIN_CORRELATION
        q, f, correlation = q[kept], f[kept], correlation[kept]
        needed = {i: _needed(int((owner[queries] == i).sum())) for i in block}
        for a, b, rows in _by_pair(owner[q], owner[f]):
            shifts = times[f[rows]] - times[q[rows]]
            found, value = _most_at_one_shift(q[rows], shifts, correlation[rows], step[b])
            if found >= needed[a]:
                pair = (min(a, b), max(a, b))
                best[pair] = max(best.get(pair, 0.0), value)
    pairs = np.array(sorted(best, key=lambda pair: (-best[pair], pair)), int).reshape(-1, 2)
    return pairs, np.array([best[a, b] for a, b in pairs.tolist()], float)


def _choose(flat: np.ndarray) -> np.ndarray:
    """Evenly spaced frames that are not flat, bool `[F]`: int `[Q]`, Q at most `QUERIES`."""
    usable = np.flatnonzero(~flat)
    middles = (np.arange(QUERIES) + 0.5) * len(usable) / QUERIES
    return np.unique(usable[middles.astype(int)]) if len(usable) else usable


def _needed(queries: int) -> int:
    return queries if queries < MIN_FOUND else MIN_FOUND


def _correlate(thumbs: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of thumbnails uint8 `[F, D]` by their numbers, float32 `[M]`."""
    x, y = (thumbs[i].astype(np.float32) for i in (a, b))
    x, y = (v - v.mean(1, keepdims=True) for v in (x, y))
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return (x * y).sum(1) / np.maximum(lengths, 1e-6)


def _by_pair(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields each distinct pair of int `[M]` and `[M]`, with its rows."""
    order = np.lexsort((b, a))
    ends = np.flatnonzero(np.diff(a[order]) | np.diff(b[order])) + 1
    for rows in np.split(order, ends):
        if len(rows):
            yield int(a[rows[0]]), int(b[rows[0]]), rows


def _most_at_one_shift(
    queries: np.ndarray, shifts: np.ndarray, correlation: np.ndarray, room: float
) -> tuple[int, float]:
    """The largest number of distinct queries with shifts that differ by at most `room`.

    Returns:
      That number, and the mean over these queries of their highest correlation.
    """
    order = np.argsort(shifts, kind="stable")
    queries, shifts, correlation = queries[order], shifts[order], correlation[order]
    ends = np.searchsorted(shifts, shifts + room + 1e-6, side="right")
    most, value = 0, 0.0
    for start, end in enumerate(ends):
        if end - start < most:
            continue
        highest: dict[int, float] = {}
        for query, c in zip(
            queries[start:end].tolist(), correlation[start:end].tolist(), strict=True
        ):
            highest[query] = max(highest.get(query, 0.0), c)
        mean = sum(highest.values()) / len(highest)
        if (len(highest), mean) > (most, value):
            most, value = len(highest), mean
    return most, value
