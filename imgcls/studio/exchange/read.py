"""Reads tagged images for an import, by the trainer's own readers of labels."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from imgcls.core.errors import ConfigError
from imgcls.data.files import Files
from imgcls.data.formats.json_file import load_json
from imgcls.data.formats.read import read_table
from imgcls.data.sources.folder import read_folder
from imgcls.data.sources.source import SourceOptions
from imgcls.data.table import problems as kinds
from imgcls.data.table.locate import locate
from imgcls.data.table.names import normalize
from imgcls.data.table.table import Item, Table
from imgcls.studio.exchange import darwin
from imgcls.studio.exchange.collection import Attribute, ClassInfo, Example, Tag, read_class
from imgcls.studio.exchange.detect import find_format, find_labels

# More different texts than this are no choices.
_MOST_OPTIONS = 30
# Folder that has all images of an export.
_IMAGES = "images/"


@dataclasses.dataclass(frozen=True)
class Incoming:
    """What an import brings.

    Attributes:
      format: name of the format, or 'folder'.
      multi_label: whether an image has other than one tag, or the labels are lists.
      classes: with their attributes, declared or as the tags have them.
      examples: `file` is '' where the images did not come along.
      problems: a line for each kind of entry that is left out.
    """

    format: str
    multi_label: bool
    classes: tuple[ClassInfo, ...]
    examples: tuple[Example, ...]
    problems: list[str]


def read(path: str, multi_label: bool | None = None) -> Incoming:
    """Reads a file of labels, or a directory of labels and images.

    Args:
      path: a manifest, a JSON file of a labeling tool, or a directory with one of these and the
        images, or with a folder per class.
      multi_label: whether images may have several tags; None: as in the data.

    Raises:
      ConfigError: the format is not known, or its content is invalid.
    """
    if os.path.isdir(path):
        name, labels = find_labels(path)
    else:
        name, labels = find_format(path), path
    options = SourceOptions(multi_label=multi_label, data_dir=path if os.path.isdir(path) else None)
    if name == "folder":
        table, files = read_folder(path, options)
    else:
        table, files = read_table(name, labels, options)
        # Paths are relative to the labels, to the directory itself, or to its folder of images.
        table.by_name = True
    declared = _declared(path, labels)
    items = _locate(table, files, os.path.isdir(path), os.path.dirname(labels))
    known = {info.name: {a.name: a for a in info.attributes} for info in declared}
    in_images = name != "darwin" and all(item.path.startswith(_IMAGES) for item, _ in items)
    examples = [_example(item, file, name, known, in_images) for item, file in items]
    names = _class_names(path, table)
    multi = table.listed or any(len(example.tags) != 1 for example in examples)
    if table.problems.passed_over:
        found = ", ".join(f"{n:,} x {kind}" for kind, n in table.problems.passed_over.items())
        table.problems.add("annotation that is not a tag", found)
    return Incoming(
        name, multi, _classes(names, declared, examples), tuple(examples), table.problems.lines()
    )


def _locate(table: Table, files: Files, has_images: bool, base: str) -> list[tuple[Item, str]]:
    """Each item with the file of its image, '' if it did not come along."""
    if not has_images:
        return [(item, "") for item in table.items]
    inside = os.path.relpath(base, files.root)
    placed = []
    for item in table.items:
        own = item.path if inside in (".", "") else os.path.join(inside, item.path)
        stored = files.existing([files.relative(own)])
        found = list(stored.values()) if stored else []
        if not found:
            missing = type(table.problems)()
            found = [i.path for i in locate([item], files, missing, True)]
            if kinds.AMBIGUOUS in missing.counts:
                table.problems.add(kinds.AMBIGUOUS, item.path)
        if found and _is_inside(files.name(found[0]), files.root):
            placed.append((item, files.name(found[0])))
        else:
            placed.append((item, ""))
    return placed


def _is_inside(file: str, root: str) -> bool:
    """Whether a file is below a directory, after its links are followed."""
    resolved = pathlib.Path(file).resolve()
    return resolved.is_relative_to(pathlib.Path(root).resolve()) and resolved.is_file()


def _example(
    item: Item, file: str, name: str, known: dict[str, dict[str, Attribute]], in_images: bool
) -> Example:
    details = item.metadata
    uploaded = details.get("uploaded_as")
    path = uploaded if isinstance(uploaded, str) and uploaded else item.path.replace("\\", "/")
    if in_images and not uploaded:
        path = path.removeprefix(_IMAGES)
    if name == "folder":
        path = _below_class(path, item)
    folder, _, base = path.strip("/").rpartition("/")
    attributes, texts = _by_tag(details.get("attributes")), _by_tag(details.get("text"))
    properties = _by_tag(details.get("properties"))
    tags = []
    for label in item.labels:
        attrs = known.get(label, {})
        values = attributes.get(label)
        found = dict(values) if isinstance(values, dict) else {}
        if name == "darwin":
            found = darwin.read_properties(properties.get(label), attrs)
            if values:
                found[darwin.ATTRIBUTES] = _listed(values)
        tags.append(Tag(label, found, _text(texts.get(label))))
    return Example(
        name=base,
        folder=folder,
        tags=tuple(tags),
        split=item.split,
        sha256=str(details.get("sha256") or ""),
        file=file,
        comment=str(details.get("comment") or ""),
    )


def _below_class(path: str, item: Item) -> str:
    """`FOLDER/NAME` of `SPLIT/CLASS/FOLDER/NAME`."""
    parts = path.split("/")
    for depth, part in enumerate(parts[:-1]):
        if normalize(part.strip()) in item.labels:
            return "/".join(parts[depth + 1 :])
    return parts[-1]


def _by_tag(value: Any) -> dict[str, Any]:
    """`{tag: details}`, from a dictionary or its JSON."""
    if isinstance(value, str) and value:
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    if not isinstance(value, dict):
        return {}
    return {normalize(str(key).strip()): inner for key, inner in value.items()}


def _listed(value: Any) -> list[str]:
    """Darwin's attributes: a list, or `{"attributes": [...]}`."""
    if isinstance(value, dict):
        value = [v for inner in value.values() for v in _listed(inner)]
    return [str(v) for v in value] if isinstance(value, (list, tuple)) else [str(value)]


def _text(value: Any) -> str:
    value = value.get("text") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""


def _declared(path: str, labels: str) -> list[ClassInfo]:
    """The classes that files beside the labels describe."""
    if not os.path.isdir(path):
        return []
    for folder in dict.fromkeys((path, labels, os.path.dirname(labels))):
        own, released = (os.path.join(folder, n) for n in ("classes.json", darwin.METADATA))
        if os.path.isfile(own):
            return [read_class(row) for row in _rows(load_json(own, "a list of classes"), own)]
        if os.path.isfile(released):
            content = load_json(released, "the classes of a Darwin release")
            rows = content.get("classes") if isinstance(content, dict) else None
            return [
                darwin.read_class(row)
                for row in _rows(rows, released)
                if row.get("type", "tag") == "tag"
            ]
    return []


def _rows(rows: Any, file: str) -> list[dict]:
    """The rows of a description of classes.

    Raises:
      ConfigError: they are not objects with a name.
    """
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows
    ):
        raise ConfigError(f"{os.path.basename(file)}: is not a list of classes with names")
    known = {field.name for field in dataclasses.fields(ClassInfo)}
    if os.path.basename(file) == "classes.json":
        rows = [{key: row[key] for key in row if key in known} for row in rows]
    return rows


def _class_names(path: str, table: Table) -> list[str]:
    """All classes of a table, in the order of `classes.txt` where there is one."""
    labels = {label for item in table.items for label in item.labels}
    labels |= table.classes - ((table.parents & table.classes) - labels)
    listed = []
    for file in (table.classes_file, table.shared_classes_file):
        if file and os.path.isdir(path) and os.path.isfile(file):
            listed += pathlib.Path(file).read_text(encoding="utf-8-sig").splitlines()
    order = [normalize(line.strip()) for line in listed if line.strip()]
    return list(dict.fromkeys([*(n for n in order if n in labels), *sorted(labels)]))


def _classes(
    names: list[str], declared: list[ClassInfo], examples: list[Example]
) -> tuple[ClassInfo, ...]:
    """The declared classes in their order, then the others; with all attributes that tags have."""
    described = {info.name: info for info in declared}
    values: dict[str, dict[str, list]] = {}
    for example in examples:
        for tag in example.tags:
            for key, value in tag.attributes.items():
                values.setdefault(tag.name, {}).setdefault(key, []).append(value)
    made = []
    for name in dict.fromkeys([*described, *names]):
        info = described.get(name, ClassInfo(name))
        own = {a.name: a for a in info.attributes}
        for key, found in values.get(name, {}).items():
            own[key] = _with_values(own.get(key), key, found)
        made.append(dataclasses.replace(info, attributes=tuple(own.values())))
    return tuple(made)


def _with_values(attribute: Attribute | None, name: str, values: list) -> Attribute:
    """An attribute that takes these values."""
    if attribute is None:
        attribute = Attribute(name, _kind_of(values))
    if attribute.kind not in ("choice", "choices"):
        return attribute
    texts = [v for value in values for v in (value if isinstance(value, list) else [value])]
    options = dict.fromkeys([*attribute.options, *sorted(set(map(str, texts)))])
    return dataclasses.replace(attribute, options=tuple(options))


def _kind_of(values: list) -> str:
    if any(isinstance(value, list) for value in values):
        return "choices"
    if all(isinstance(value, bool) for value in values):
        return "yes_no"
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return "number"
    return "choice" if len(set(map(str, values))) <= _MOST_OPTIONS else "text"
