"""Scenes and subjects in several splits: examples that go together by their group or name."""

import dataclasses
import re

import numpy as np

from imgcls.audit.reading import ImageTable
from imgcls.core.errors import ConfigError

# How a group is found, and what one and several are called.
SOURCES = {
    "group": ("group", "groups"),
    "name": ("group by name", "groups by name"),
    "video": ("video with parts", "videos with parts"),
}
# Names of UCF101: the clips of one group of a class show the same scene or person.
_UCF101 = r"v_([A-Za-z]+_g\d+)_c\d+"
# End of the name of a part of a video.
_PART = re.compile(r"#t=[\d.,]*$")


@dataclasses.dataclass(frozen=True)
class Shared:
    """A group of examples that lie in several splits.

    Attributes:
      name: name of the group.
      source: 'group' (the source states it), 'name' (the names of the files do) or 'video' (the
        examples are parts of one file).
      splits: numbers of the splits.
      rows: int `[n]`, rows of `ImageTable`.
    """

    name: str
    source: str
    splits: tuple[int, ...]
    rows: np.ndarray


def find_shared(images: ImageTable, pattern: str | None = None) -> list[Shared]:
    """Finds groups in several splits: of the column `group`, of names, and of parts of videos.

    Args:
      images: measured images.
      pattern: regular expression whose first group in the path of a file is the group; None finds
        the groups of UCF101, `v_CLASS_gNN_cNN`, among videos.

    Raises:
      ConfigError: the pattern is invalid, or no name matches it.
    """
    names = [_PART.sub("", name) for name in images.names]
    found = {"group": images.groups}
    if pattern is not None or images.prints is not None:
        found["name"] = _match(names, pattern)
    if images.prints is not None:
        pairs = zip(images.names, names, strict=True)
        found["video"] = [None if name == whole else whole for name, whole in pairs]
    return [
        group for source, values in found.items() for group in _in_several(values, source, images)
    ]


def _match(names: list[str], pattern: str | None) -> list[str | None]:
    """The group of each name; None of those that do not match."""
    try:
        expression = re.compile(_UCF101 if pattern is None else pattern)
    except re.error as e:
        raise ConfigError(f"--group_pattern={pattern}: no regular expression: {e}") from e
    if not expression.groups:
        raise ConfigError(
            f"--group_pattern={pattern}: has no group in parentheses; write one around the part of "
            "a name that says the scene or subject, such as '_(g[0-9]+)_'"
        )
    matches = [expression.search(name) for name in names]
    if pattern is not None and not any(matches):
        raise ConfigError(
            f"--group_pattern={pattern}: matches none of the {len(names)} paths, such as {names[0]}"
        )
    return [match and match[1] for match in matches]


def _in_several(values: list[str | None], source: str, images: ImageTable) -> list[Shared]:
    rows: dict[str, list[int]] = {}
    for i, value in enumerate(values):
        if value is not None:
            rows.setdefault(value, []).append(i)
    groups = []
    for name, members in rows.items():
        splits = tuple(np.unique(images.split[members]).tolist())
        if len(splits) > 1:
            groups.append(Shared(name, source, splits, np.array(members)))
    return groups
