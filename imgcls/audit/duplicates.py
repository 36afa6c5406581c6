"""Duplicate images: the same file, the same pixels, or nearly the same image."""

import dataclasses

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imgcls.audit.copies import find_copies
from imgcls.audit.hashes import MAX_BITS, MIN_CONTRAST, MIN_CORRELATION, near_pairs, phash
from imgcls.audit.reading import ImageTable

# Near duplicates among volumes have at least this correlation of details. Among the 1,584 glands of
# AdrenalMNIST3D the highest is 0.92.
MIN_DETAILS = 0.97
# Volumes that are compared with all others at a time.
_BLOCK = 256


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Equal and nearly equal images, by their rows in `ImageTable`.

    Attributes:
      exact: groups of two or more images with equal pixels.
      same_file: for each group, whether the files are equal too.
      near: int `[M, 2]`, pairs of nearly equal images, most similar first. The first image of a
        group of `exact` stands for the group.
      correlation: float `[M]`, correlation of each pair.
      sets: groups of two or more images that are linked by `exact` or `near`.
    """

    exact: list[np.ndarray]
    same_file: list[bool]
    near: np.ndarray
    correlation: np.ndarray
    sets: list[np.ndarray]


def find_duplicates(images: ImageTable) -> Duplicates:
    """Compares every image with every other image."""
    count = len(images)
    _, first, inverse = np.unique(
        images.pixel_hash.astype("V16"), return_index=True, return_inverse=True
    )
    exact = _groups(inverse, count)
    files = images.file_hash
    same_file = [bool(files[g[0]]) and len(set(files[g])) == 1 for g in exact]
    single = np.sort(first)
    if images.prints is not None:
        near, correlation = find_copies([images.prints[i] for i in single])
    elif images.cubes is None:
        near, correlation = _near(images.grays[single], images.thumbs[single])
    else:
        near, correlation = _near_volumes(images.cubes[single])
    near = single[near]
    links = np.concatenate([near, *([[g[0], i] for i in g[1:]] for g in exact)]).astype(int)
    graph = coo_array((np.ones(len(links)), links.T), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    return Duplicates(exact, same_file, near, correlation, _groups(component, count))


def _near(grays: np.ndarray, thumbs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs `[M, 2]` of nearly equal images, and their correlations `[M]`."""
    busy = np.flatnonzero(grays.reshape(len(grays), -1).std(1) >= MIN_CONTRAST)
    pairs, found = [np.empty((0, 2), int)], [np.empty(0)]
    vectors = _unit_vectors(thumbs[busy])
    for block in near_pairs(phash(grays[busy]), MAX_BITS):
        correlation = (vectors[block[:, 0]] * vectors[block[:, 1]]).sum(1)
        kept = correlation >= MIN_CORRELATION
        pairs.append(busy[block[kept]])
        found.append(correlation[kept])
    pairs, correlation = np.concatenate(pairs), np.concatenate(found)
    order = np.argsort(-correlation, kind="stable")
    return pairs[order], correlation[order]


def _near_volumes(cubes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs of volumes whose details `[N, side, side, side]` correlate, see `_near`."""
    vectors = cubes.reshape(len(cubes), -1).astype(np.float32)
    pairs: list[np.ndarray] = [np.empty((0, 2), int)]
    found: list[np.ndarray] = [np.empty(0)]
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK] @ vectors[start:].T
        first, second = np.nonzero(block >= MIN_DETAILS)
        kept = second > first
        pairs.append(np.stack([first, second], 1)[kept] + start)
        found.append(block[first, second][kept])
    correlation = np.concatenate(found)
    order = np.argsort(-correlation, kind="stable")
    return np.concatenate(pairs)[order], correlation[order]


def _unit_vectors(thumbs: np.ndarray) -> np.ndarray:
    """Converts uint8 `[N, 32, 32, 3]` to float32 `[N, 768]`; dot products are correlations."""
    x = thumbs.reshape(len(thumbs), 16, 2, 16, 2, 3).mean((2, 4), dtype=np.float32)
    x = x.reshape(len(x), 768)
    x -= x.mean(1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)


def _groups(of: np.ndarray, count: int) -> list[np.ndarray]:
    """Groups the numbers 0 to count - 1 by their group id `of` `[count]`; drops single members."""
    order = np.argsort(of.reshape(-1), kind="stable")
    ends = np.flatnonzero(np.diff(of.reshape(-1)[order])) + 1
    return sorted((g for g in np.split(order, ends) if len(g) > 1), key=lambda g: g[0])
