"""Finds the file of an entry: at its path, or by its name."""

import collections
import os
import re
from collections.abc import Iterable

from imgcls.data.files import Files
from imgcls.data.table import problems as kinds
from imgcls.data.table.names import normalize
from imgcls.data.table.problems import Problems

# Prefix that Label Studio adds to the name of an uploaded file.
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


def locate(items: list, files: Files, problems: Problems, by_name: bool) -> Iterable:
    """Yields items with the path of an existing file; others are counted as problems.

    Args:
      items: items with paths as in the label file, absolute or relative to the root.
      files: files of the images.
      problems: collects the items without a file, or with several candidates.
      by_name: whether to search for a missing file by name. Of several files of that name, the one
        with the most folders in common is taken: `cat/1.jpg` for `s3://bucket/x/cat/1.jpg`.
    """
    paths = [files.relative(item.path) for item in items]
    existing = files.existing(paths)
    if files.videos:
        # A video that was downloaded as a folder of its frames.
        stems = {path: os.path.splitext(path)[0] for path in paths if path not in existing}
        folders = files.existing(stems.values())
        existing |= {path: folders[stem] for path, stem in stems.items() if stem in folders}
    paths_by_name: dict[str, list[str]] | None = None
    for item, path in zip(items, paths, strict=True):
        if path in existing:
            stored = existing[path]
            yield item if item.path == stored else item._replace(path=stored)
            continue
        candidates = []
        if by_name:
            if paths_by_name is None:
                paths_by_name = _group_by_name(files.listing().images)
            candidates = _closest(path, paths_by_name)
        if len(candidates) == 1:
            yield item._replace(path=candidates[0])
        else:
            problems.add(kinds.AMBIGUOUS if candidates else kinds.MISSING, item.path)


def _group_by_name(paths: Iterable[str]) -> dict[str, list[str]]:
    """`{file name: paths}`."""
    grouped = collections.defaultdict(list)
    for path in paths:
        grouped[normalize(path.rsplit("/", 1)[-1])].append(path)
    return grouped


def _closest(path: str, paths_by_name: dict[str, list[str]]) -> list[str]:
    """The files with the path's name that share the most of its last folders."""
    path = normalize(path)
    name = path.rsplit("/", 1)[-1]
    candidates = paths_by_name.get(name) or paths_by_name.get(_UPLOAD_PREFIX.sub("", name), [])

    def count_shared(candidate: str) -> int:
        pairs = zip(path.split("/")[-2::-1], normalize(candidate).split("/")[-2::-1], strict=False)
        folders = 0
        for a, b in pairs:
            if a != b:
                break
            folders += 1
        return folders

    best = max(map(count_shared, candidates), default=0)
    return [c for c in candidates if count_shared(c) == best]
