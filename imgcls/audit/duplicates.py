"""Pictures that are there twice: the same file, the same pixels, or nearly the same picture."""

import dataclasses

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imgcls.audit.hashes import near_pairs, phash
from imgcls.audit.reading import Pictures

# Near duplicates differ in at most so many of the 64 bits of the perceptual hash ...
MAX_BITS = 8
# ... and their small colour pictures, 16 x 16, correlate at least so much. All 12 pairs of
# CIFAR-10's test images that do both are copies of each other, to the eye.
MIN_CORRELATION = 0.95
# An empty picture (standard deviation of its small grey one) looks like any other empty picture.
_MIN_CONTRAST = 4.0


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Pictures that are the same or nearly, by their numbers in `Pictures`.

    Attributes:
      exact: groups of at least two with equal pixels.
      same_file: of each group, whether the files are equal too.
      near: int `[M, 2]`, pairs of nearly the same pictures, most similar first. A group of equal
        ones is represented by its first.
      correlation: float `[M]`, of the pairs.
      sets: what belongs together by either; of at least two.
    """

    exact: list[np.ndarray]
    same_file: list[bool]
    near: np.ndarray
    correlation: np.ndarray
    sets: list[np.ndarray]


def find_duplicates(pictures: Pictures) -> Duplicates:
    """Compares every picture with every other."""
    count = len(pictures)
    _, first, inverse = np.unique(
        pictures.pixel_hash.astype("V16"), return_index=True, return_inverse=True
    )
    exact = _groups(inverse, count)
    files = pictures.file_hash
    same_file = [bool(files[g[0]]) and len(set(files[g])) == 1 for g in exact]
    single = np.sort(first)
    near, correlation = _near(pictures.greys[single], pictures.thumbs[single])
    near = single[near]
    links = np.concatenate([near, *([[g[0], i] for i in g[1:]] for g in exact)]).astype(int)
    graph = coo_array((np.ones(len(links)), links.T), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    return Duplicates(exact, same_file, near, correlation, _groups(component, count))


def _near(greys: np.ndarray, thumbs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs `[M, 2]` of nearly the same pictures, of unequal pixels, and their correlations."""
    busy = np.flatnonzero(greys.reshape(len(greys), -1).std(1) >= _MIN_CONTRAST)
    pairs, found = [np.empty((0, 2), int)], [np.empty(0)]
    vectors = _unit_vectors(thumbs[busy])
    for block in near_pairs(phash(greys[busy]), MAX_BITS):
        correlation = (vectors[block[:, 0]] * vectors[block[:, 1]]).sum(1)
        kept = correlation >= MIN_CORRELATION
        pairs.append(busy[block[kept]])
        found.append(correlation[kept])
    pairs, correlation = np.concatenate(pairs), np.concatenate(found)
    order = np.argsort(-correlation, kind="stable")
    return pairs[order], correlation[order]


def _unit_vectors(thumbs: np.ndarray) -> np.ndarray:
    """uint8 `[N, 32, 32, 3]` -> float32 `[N, 768]`, whose dot products are correlations."""
    x = thumbs.reshape(len(thumbs), 16, 2, 16, 2, 3).mean((2, 4), dtype=np.float32)
    x = x.reshape(len(x), 768)
    x -= x.mean(1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)


def _groups(of: np.ndarray, count: int) -> list[np.ndarray]:
    """Numbers 0 to count - 1 by the group `of` `[count]`; groups of at least two."""
    order = np.argsort(of.reshape(-1), kind="stable")
    ends = np.flatnonzero(np.diff(of.reshape(-1)[order])) + 1
    return sorted((g for g in np.split(order, ends) if len(g) > 1), key=lambda g: g[0])
