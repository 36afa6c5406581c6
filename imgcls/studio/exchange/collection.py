"""Tagged images outside of the database: a version, what is exported and what is imported."""

import collections
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable
from typing import Any

from imgcls.core.errors import ConfigError
from imgcls.data.table.table import SPLIT_NAMES, is_line

SPLITS = tuple(SPLIT_NAMES)
# Characters that a file system, or a reader of label files, may not take in the name of a file.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\#%\ud800-\udfff]')
_MAX_NAME = 200


@dataclasses.dataclass(frozen=True)
class Attribute:
    """An attribute of a class.

    Attributes:
      name: its name, unique in the class.
      kind: 'choice', 'choices', 'yes_no', 'number' or 'text'.
      options: the choices.
    """

    name: str
    kind: str
    options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ClassInfo:
    """A class: its name, and how it is shown and described."""

    name: str
    colour: str = ""
    hotkey: str | None = None
    description: str = ""
    attributes: tuple[Attribute, ...] = ()


@dataclasses.dataclass(frozen=True)
class Tag:
    """A tag of an image.

    Attributes:
      name: of its class.
      attributes: `{name of the attribute: value}`: text of a choice, a list of texts, True or
        False, a number, or text.
      text: free text.
    """

    name: str
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Example:
    """A tagged image.

    Attributes:
      name: of its file, as uploaded.
      folder: of its file as uploaded, with `/` between folders; '' for none.
      tags: empty for "none of these".
      split: 'train', 'val' or 'test'.
      sha256: of its bytes.
      file: path of its bytes on this machine; '' if there are none.
      width, height: in pixels; 0 if unknown.
      comment: free text about the image.
    """

    name: str
    folder: str = ""
    tags: tuple[Tag, ...] = ()
    split: str | None = None
    sha256: str = ""
    file: str = ""
    width: int = 0
    height: int = 0
    comment: str = ""


@dataclasses.dataclass(frozen=True)
class Collection:
    """Tagged images with their classes.

    Attributes:
      name: of the data set.
      multi_label: whether an image may have any number of tags.
      classes: in order.
      examples: in the order of `ordered`.
    """

    name: str
    multi_label: bool
    classes: tuple[ClassInfo, ...]
    examples: tuple[Example, ...]

    def used_classes(self) -> tuple[str, ...]:
        """Names of the classes that have an image, in order: the classes of a model."""
        used = {tag.name for example in self.examples for tag in example.tags}
        return tuple(c.name for c in self.classes if c.name in used)


def ordered(examples: Iterable[Example]) -> tuple[Example, ...]:
    """The examples in the order of their paths, which does not depend on the order of uploads."""
    return tuple(sorted(examples, key=lambda e: (e.folder, e.name, e.sha256)))


def file_paths(examples: Iterable[Example]) -> list[str]:
    """A path for each example, `FOLDER/NAME`, that any file system takes, each once.

    Of two images with one path, both get the start of their hash in the name, so that the path of
    an image does not depend on which others were uploaded first.
    """
    examples = list(examples)
    paths = [_safe_path(example) for example in examples]
    # Some file systems do not tell `A.jpg` from `a.jpg`.
    folded = [path.casefold() for path in paths]
    counts = collections.Counter(folded)
    for i, example in enumerate(examples):
        if counts[folded[i]] > 1:
            stem, extension = os.path.splitext(paths[i])
            paths[i] = f"{stem}-{example.sha256[:12] or i}{extension}"
    return paths


def check_classes(names: Iterable[str]) -> None:
    """Raises a ConfigError if a name can't be a line of `classes.txt`."""
    for name in names:
        if not is_line(name) or not name.strip():
            raise ConfigError(f"class {name!r}: is not one line of text; rename it")


def digest(collection: Collection) -> str:
    """SHA-256 of the tags: of classes with attributes, and images; not of colours and the like."""
    plain = [ClassInfo(c.name, attributes=c.attributes) for c in collection.classes]
    text = to_json(dataclasses.replace(collection, classes=tuple(plain)))
    return hashlib.sha256(text.encode()).hexdigest()


def to_json(collection: Collection) -> str:
    """A collection as JSON lines: the classes first, then an image a line.

    `file` and the name of the data set are left out. The text is the same for the same tags,
    whatever the order in which they were made.
    """
    head = {
        "format": 1,
        "multi_label": collection.multi_label,
        "classes": [dataclasses.asdict(c) for c in collection.classes],
    }
    rows = []
    for example in ordered(collection.examples):
        row = dataclasses.asdict(example)
        row["tags"] = sorted(row["tags"], key=lambda tag: tag["name"])
        rows.append({key: value for key, value in row.items() if key != "file"})
    return "".join(dump(row) + "\n" for row in (head, *rows))


def from_json(text: str, name: str = "") -> Collection:
    """The collection of the data set `name` that `to_json` wrote."""
    head, *rows = (json.loads(line) for line in text.split("\n") if line)
    examples = tuple(
        Example(**{**row, "tags": tuple(Tag(**tag) for tag in row["tags"])}) for row in rows
    )
    classes = tuple(read_class(row) for row in head["classes"])
    return Collection(name, head["multi_label"], classes, examples)


def read_class(row: dict) -> ClassInfo:
    """A class from the values of its fields, as `dataclasses.asdict` gives them."""
    attributes = tuple(
        Attribute(a["name"], a["kind"], tuple(a.get("options") or ()))
        for a in row.get("attributes") or ()
    )
    return ClassInfo(**{**row, "attributes": attributes})


def dump(value: Any) -> str:
    """A value as one line of JSON, the same text for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def parse(line: str) -> dict[str, Any]:
    """An object that `dump` wrote."""
    return json.loads(line)


def _safe_path(example: Example) -> str:
    """`FOLDER/NAME` without the parts `.` and `..`, and without characters that are not allowed."""
    extension = os.path.splitext(example.file)[1]
    name = _safe_part(example.name) or example.sha256[:12]
    own = os.path.splitext(name)[1].lower()
    if extension and own not in _SPELLINGS.get(extension, (extension,)):
        name += extension
    folders = [_safe_part(part) for part in example.folder.replace("\\", "/").split("/")]
    return "/".join([*filter(None, folders), name])


# Extensions that a name may have, by that of the stored file.
_SPELLINGS = {
    ".jpg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    ".tiff": (".tif", ".tiff"),
    ".tif": (".tif", ".tiff"),
    ".dcm": (".dcm", ".dicom", ".ima"),
    ".nii.gz": (".gz",),
    ".gz": (".gz",),
    ".mp4": (".mp4", ".m4v"),
    ".mpg": (".mpg", ".mpeg"),
}


def _safe_part(part: str) -> str:
    part = _UNSAFE.sub("_", part).strip(" .") if part.strip(".") else ""
    stem, extension = os.path.splitext(part)
    # Names are limited in bytes.
    while len((stem + extension).encode()) > _MAX_NAME:
        stem = stem[:-1] if stem else stem
        if not stem:
            return extension.encode()[:_MAX_NAME].decode(errors="ignore")
    return stem + extension
