"""Which file an entry means: at its path, or found by its name."""

import collections
import re
from collections.abc import Iterable

from imgcls.data.files import Files
from imgcls.data.table import problems as kinds
from imgcls.data.table.problems import Problems

# Label Studio puts this before the name of an uploaded file.
UPLOADED = re.compile(r"^[0-9a-f]{8}-")


def locate(items: list, files: Files, problems: Problems, by_name: bool) -> Iterable:
    """Items with the path of a file that is there; others are counted as problems.

    Args:
      items: their `path` is as a file writes it, absolute or from the root.
      files: what there is.
      problems: gets those that are missing, or that several files could be.
      by_name: also take a file elsewhere under the root that has the same name, and of several the
        one with which most folders agree: `s3://bucket/x/cat/1.jpg` is `cat/1.jpg`.
    """
    paths = [files.relative(item.path) for item in items]
    there = files.existing(paths)
    by_file: dict[str, list[str]] | None = None
    for item, path in zip(items, paths, strict=True):
        if path in there:
            yield item if item.path == path else item._replace(path=path)
            continue
        found = []
        if by_name:
            if by_file is None:
                by_file = _group_by_name(files.images())
            found = _closest(path, by_file)
        if len(found) == 1:
            yield item._replace(path=found[0])
        else:
            problems.add(kinds.AMBIGUOUS if found else kinds.MISSING, item.path)


def _group_by_name(paths: Iterable[str]) -> dict[str, list[str]]:
    """`{file name: paths}`."""
    grouped = collections.defaultdict(list)
    for path in paths:
        grouped[path.rsplit("/", 1)[-1]].append(path)
    return grouped


def _closest(path: str, by_file: dict[str, list[str]]) -> list[str]:
    """The files of the path's name that share most of its last folders."""
    name = path.rsplit("/", 1)[-1]
    candidates = by_file.get(name) or by_file.get(UPLOADED.sub("", name), [])

    def shared(candidate: str) -> int:
        pairs = zip(path.split("/")[-2::-1], candidate.split("/")[-2::-1], strict=False)
        folders = 0
        for a, b in pairs:
            if a != b:
                break
            folders += 1
        return folders

    best = max(map(shared, candidates), default=0)
    return [c for c in candidates if shared(c) == best]
